"""The simulator's own SigV4 against requests that botocore signed."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_contact_service.simulator import Refusal, default_world
from monitor_contact_service.simulator.signature import SignedRequest, verify

from .support import NOW, Key, sign, untimed

_URL = "http://127.0.0.1:4570"
_KEYS = default_world().access_keys
_TEMPORARY = Key("ASIASIMULATOR", "simulator-temporary-secret", "simulator-session-token")
_MISMATCH = "The request signature we calculated does not match"


def _request(
    method: str = "POST", target: str = "/contact/monitor", body: bytes = b"{}", **signing: Any
) -> SignedRequest:
    headers = sign(method, _URL + target, body, **signing)
    return SignedRequest(method, target, {name.lower(): value for name, value in headers.items()}, body)


def _verify(request: SignedRequest, now: float = NOW) -> Refusal | None:
    return verify(request, _KEYS, "us-east-1", now, 300)


def _refused(request: SignedRequest, now: float = NOW) -> tuple[str, str]:
    refusal = _verify(request, now)
    assert refusal is not None
    assert refusal.status == 403
    return refusal.error, refusal.message


@pytest.mark.parametrize("key", [Key(), _TEMPORARY])
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/contact/monitor"),
        ("GET", "/users/i/u"),
        ("GET", "/users/i/a%2Fb"),
        ("GET", "/users/i/%C3%A9%20%F0%9F%99%82"),
        ("GET", "/users/i/%2e%2e"),
        ("GET", "/users/./x/../i/u"),
        ("GET", "/users//i/u/"),
        ("GET", "/users/i/.."),
        ("GET", "/users/i/u~-_.!*'()"),
        ("GET", "/list?nextToken=a%2Bb%2F%3D%3D%26x%20y&maxResults=10"),
        ("GET", "/list?b=2&a=2&a=1&B=&c"),
    ],
)
def test_what_botocore_signs_is_accepted(method: str, target: str, key: Key) -> None:
    """Paths with encoded slashes, unicode and dot segments, queries in any order, with and without session token."""
    body = '{"ContactId": "é🙂"}'.encode() if method == "POST" else b""
    assert _verify(_request(method, target, body, key=key)) is None


@untimed
@given(body=st.binary(max_size=200), identifier=st.text("abé🙂/.~%+ &=", min_size=1, max_size=20))
def test_any_body_and_identifier_is_verified(body: bytes, identifier: str) -> None:
    """Whatever stands in a body or, percent-encoded, in a path: both implementations agree."""
    encoded = quote(identifier, safe="")
    assert _verify(_request("POST", f"/users/i/{encoded}?q={encoded}", body)) is None


@pytest.mark.parametrize(
    "tamper",
    [
        lambda request: request._replace(body=b"{ }"),
        lambda request: request._replace(target="/contact/monitor?a=1"),
        lambda request: request._replace(target="/contact/monitor/"),
        lambda request: request._replace(method="PUT"),
    ],
)
def test_what_was_changed_after_signing_is_refused(tamper: Callable[[SignedRequest], SignedRequest]) -> None:
    """The signature covers body, path, query and method."""
    error, text = _refused(tamper(_request()))
    assert error == "InvalidSignatureException"
    assert text.startswith(_MISMATCH)


def test_a_changed_signed_header_is_refused() -> None:
    """The signature covers the headers that it names."""
    request = _request()
    assert _refused(request._replace(headers={**request.headers, "host": "other"}))[1].startswith(_MISMATCH)


def test_header_blanks_do_not_count() -> None:
    """Blanks around and inside a header are collapsed before signing."""
    request = _request()
    assert _verify(request._replace(headers={**request.headers, "content-type": "  application/json "})) is None


def test_a_wrong_secret_is_refused() -> None:
    """A known key with another secret gives another signature."""
    assert _refused(_request(key=Key(secret="other")))[0] == "InvalidSignatureException"


@pytest.mark.parametrize(
    "key",
    [
        Key("AKIDUNKNOWN"),
        Key(token="a token that a lasting key has not"),
        _TEMPORARY._replace(token="other"),
        _TEMPORARY._replace(token=None),
    ],
)
def test_an_unknown_key_or_token_is_refused(key: Key) -> None:
    """A session token belongs to its key: another one, or one too few or too many, is not recognised."""
    assert _refused(_request(key=key))[0] == "UnrecognizedClientException"


def test_an_expired_token_is_refused() -> None:
    """Expiry is told apart from everything else, because it is mended by a refresh."""
    key = Key("ASIAEXPIRED", "simulator-expired-secret", "simulator-expired-session-token")
    assert _refused(_request(key=key))[0] == "ExpiredTokenException"


def test_the_window_is_five_minutes_either_way() -> None:
    """Accepted at the window's edges; a second beyond, the text has AWS's own form."""
    request = _request()
    assert _verify(request, NOW + 300) is None
    assert _verify(request, NOW - 300) is None
    assert _refused(request, NOW + 301) == (
        "InvalidSignatureException",
        "Signature expired: 20270115T080000Z is now earlier than 20270115T080001Z (20270115T080501Z - 5 min.)",
    )
    assert _refused(request, NOW - 301) == (
        "InvalidSignatureException",
        "Signature not yet current: 20270115T080000Z is still later than 20270115T075959Z (20270115T075459Z + 5 min.)",
    )


@pytest.mark.parametrize(
    ("signing", "text"),
    [
        ({"region": "eu-west-1"}, "Credential should be scoped to a valid region, not 'eu-west-1'."),
        ({"service": "s3"}, "Credential should be scoped to correct service: 'connect'."),
    ],
)
def test_the_scope_must_be_ours(signing: dict[str, Any], text: str) -> None:
    """Region and service of the scope are checked, each with its text."""
    assert _refused(_request(**signing)) == ("InvalidSignatureException", text)


def test_the_scopes_date_must_be_the_requests() -> None:
    """A key of yesterday with a time of today, the mistake made at midnight, is refused."""
    request = _request()
    headers = {**request.headers, "x-amz-date": "20270116T000000Z"}
    assert _refused(request._replace(headers=headers))[1].startswith("Date in Credential scope does not match")


def test_no_signature_at_all_is_told_apart() -> None:
    """An unsigned request is missing its token."""
    assert _refused(SignedRequest("POST", "/contact/monitor", {"host": "h"}, b""))[0] == "MissingAuthenticationToken"


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"authorization": "Basic eA=="}, "The Authorization header is not a complete SigV4 signature."),
        ({"x-amz-date": ""}, "Authorization header requires existence of an 'X-Amz-Date' header."),
        ({"x-amz-date": "2027-01-15T08:00:00Z"}, "Authorization header requires existence of an 'X-Amz-Date' header."),
        ({"x-amz-extra": "1"}, "Headers that must be both sent and signed: x-amz-extra."),
    ],
)
def test_an_incomplete_signature_is_told_apart(headers: dict[str, str], text: str) -> None:
    """Malformed parts, and headers that AWS wants signed but are not."""
    request = _request()
    assert _refused(request._replace(headers={**request.headers, **headers})) == ("IncompleteSignature", text)


def test_a_signed_header_that_was_not_sent_is_refused() -> None:
    """What the signature names must be there."""
    request = _request()
    headers = {name: value for name, value in request.headers.items() if name != "content-type"}
    assert _refused(request._replace(headers=headers))[1].endswith("content-type.")
