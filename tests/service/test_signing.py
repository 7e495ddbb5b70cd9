"""`signing`: the same signature as botocore's own, with the day's key made once a day."""

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monitor_contact_service.signing import Signer, sign

_URL = "https://connect.eu-central-1.amazonaws.com/contact/monitor"
_LASTING = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
_TEMPORARY = ReadOnlyCredentials("ASIAEXAMPLE", "secret/é", "token//with+odd=characters")


class _Now:
    """The moment that botocore reads when it signs."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment
        self.readings = 0

    def __call__(self) -> datetime:
        """Return the moment."""
        self.readings += 1
        return self.moment


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> _Now:
    """Control the moment of signing."""
    clock = _Now(datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC))
    monkeypatch.setattr(botocore.auth, "get_current_datetime", clock)
    return clock


class _Counting(Signer):
    """Remembers the days for which it derived a key."""

    def __init__(self, now: _Now) -> None:
        super().__init__(_LASTING, "connect", "us-east-1", _URL, now=now)
        self.derived: list[str] = []

    def _derive(self, day: str) -> bytes:
        self.derived.append(day)
        return super()._derive(day)


def _ours(now: _Now, credentials: ReadOnlyCredentials, region: str = "us-east-1", url: str = _URL) -> Signer:
    return Signer(credentials, "connect", region, url, now=now)


def _theirs(
    credentials: ReadOnlyCredentials, body: bytes, region: str = "us-east-1", url: str = _URL
) -> dict[str, str]:
    request = AWSRequest("POST", url, headers={"Content-Type": "application/json"}, data=body)
    SigV4Auth(credentials, "connect", region).add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize("credentials", [_LASTING, _TEMPORARY], ids=["without token", "with token"])
@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1"])
def test_the_signature_is_botocores_own(now: _Now, credentials: ReadOnlyCredentials, region: str) -> None:
    """Every header of the signed request is equal, at the first call and with the cached key."""
    ours = _ours(now, credentials, region)
    for body in (b"{}", b"", '{"ContactId": "é"}'.encode()):
        assert ours.headers(body) == _theirs(credentials, body, region)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:4570/contact/monitor",
        "http://[::1]/contact/monitor",
        "https://gateway.example/a%2Fb/../c/contact/monitor",
    ],
)
def test_hosts_and_paths_are_botocores(now: _Now, url: str) -> None:
    """Ports, IPv6 addresses and the path of an endpoint behind a gateway are signed in its form."""
    assert _ours(now, _TEMPORARY, url=url).headers(b"{}") == _theirs(_TEMPORARY, b"{}", url=url)


@pytest.mark.parametrize("credentials", [_LASTING, _TEMPORARY], ids=["without token", "with token"])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=200),
    moment=st.datetimes(min_value=datetime(2001, 1, 1), max_value=datetime(2099, 1, 1)),  # noqa: DTZ001 - hypothesis wants naive bounds
)
def test_any_request_at_any_moment_is_signed_as_botocore_would(
    now: _Now, credentials: ReadOnlyCredentials, body: bytes, moment: datetime
) -> None:
    """Also right before and after the day changes."""
    ours = _ours(now, credentials)
    for now.moment in (moment.replace(hour=23, minute=59, second=59), moment + timedelta(days=1)):
        assert ours.headers(body) == _theirs(credentials, body)


def test_the_signature_is_what_the_specification_says(now: _Now) -> None:
    """Computed from AWS's description of Signature Version 4, without any code of botocore."""
    headers = _ours(now, _TEMPORARY, "eu-central-1").headers(b'{"a": 1}')
    date = headers["X-Amz-Date"]
    assert date == "20260301T123015Z"
    canonical = "\n".join(
        [
            "POST",
            "/contact/monitor",
            "",
            "content-type:application/json",
            "host:connect.eu-central-1.amazonaws.com",
            f"x-amz-date:{date}",
            f"x-amz-security-token:{_TEMPORARY.token}",
            "",
            "content-type;host;x-amz-date;x-amz-security-token",
            hashlib.sha256(b'{"a": 1}').hexdigest(),
        ]
    )
    scope = "20260301/eu-central-1/connect/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{_TEMPORARY.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    assert headers["Authorization"] == (
        f"AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/{scope}, "
        f"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature={signature}"
    )


def test_the_key_is_derived_once_a_day(now: _Now) -> None:
    """A thousand calls derive one key; the first call of the next day derives the next."""
    signer = _Counting(now)
    for _ in range(1000):
        signer.headers(b"{}")
    assert signer.derived == ["20260301"]
    now.moment = datetime(2026, 3, 2, tzinfo=UTC)
    signer.headers(b"{}")
    assert signer.derived == ["20260301", "20260302"]


@pytest.mark.parametrize("moment", [(2026, 2, 28, 23, 59, 59, 999_999), (2026, 3, 1), (2027, 1, 1)])
def test_scope_and_date_are_one_reading_of_the_clock(now: _Now, moment: tuple[int, int, int]) -> None:
    """At midnight, two readings would give a scope of another day than x-amz-date, which AWS refuses."""
    now.moment = datetime(*moment, tzinfo=UTC)
    signer = _ours(now, _LASTING)
    now.readings = 0
    headers = signer.headers(b"{}")
    scope = re.search(r"Credential=[^/]+/(\d{8})/", headers["Authorization"])
    assert scope is not None
    assert scope[1] == headers["X-Amz-Date"][:8]
    assert now.readings == 1


def test_nothing_secret_is_in_the_headers(now: _Now) -> None:
    """Only the token travels, in its own header."""
    headers = _ours(now, _TEMPORARY).headers(b"{}")
    assert "secret/é" not in str(headers)
    assert headers["X-Amz-Security-Token"] == "token//with+odd=characters"


def test_a_signer_knows_what_it_signs_with(now: _Now) -> None:
    """The transport compares it with the present credentials to see whether they were renewed."""
    assert _ours(now, _LASTING).signed_with is _LASTING


@pytest.mark.parametrize("credentials", [_LASTING, _TEMPORARY], ids=["without token", "with token"])
@pytest.mark.parametrize(
    ("target", "canonical"),
    [
        ("/users/i/u", "/users/i/u\n"),
        ("/users/i/a%2Fb", "/users/i/a%252Fb\n"),
        ("/users/i/%252e%252e", "/users/i/%25252e%25252e\n"),
        ("/p/i/p?nextToken=a%2Bb&maxResults=1000", "/p/i/p\nmaxResults=1000&nextToken=a%2Bb"),
    ],
)
def test_a_read_is_signed_as_the_specification_says(
    now: _Now, credentials: ReadOnlyCredentials, target: str, canonical: str
) -> None:
    """The path is encoded a second time, the query sorted; computed without any code of botocore."""
    headers = sign(credentials, "connect", "eu-central-1", f"https://connect.example{target}", b"")
    date = now.moment.strftime("%Y%m%dT%H%M%SZ")
    signed = {"host": "connect.example", "x-amz-date": date}
    if credentials.token:
        signed["x-amz-security-token"] = credentials.token
    names = ";".join(signed)
    request = "\n".join(
        [
            f"GET\n{canonical}",
            *(f"{name}:{value}" for name, value in signed.items()),
            "",
            names,
            hashlib.sha256().hexdigest(),
        ]
    )
    scope = f"{date[:8]}/eu-central-1/connect/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    assert {name.lower(): value for name, value in headers.items()} == {
        **{name: value for name, value in signed.items() if name != "host"},
        "authorization": f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}",
    }


def test_a_body_makes_it_a_post_of_json(now: _Now) -> None:
    """Signed like every other one, its type included."""
    url = "https://connect.example/metrics/userdata/i"
    assert sign(_TEMPORARY, "connect", "us-east-1", url, b"{}") == _theirs(_TEMPORARY, b"{}", url=url)
    assert now.readings
