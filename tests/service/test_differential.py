"""boto3's own client and ours side by side: the same bytes go out, and the same is understood of what comes back.

boto3 is unmodified: its retries are off, and both talk to the same server. Where ours differs on purpose, the
difference stands in `WANTED_DIFFERENCES`, and a test asserts that it still exists.
"""

import asyncio
import json
import re
from calendar import timegm
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import strptime
from typing import Any, NamedTuple, NoReturn, cast

import boto3
import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, HTTPClientError
from fakes import FakeCredentials
from harness import CONTACT_ID, INSTANCE_ID, USER_ID, endpoint
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact_service.connect import Connect, open_http
from monitor_contact_service.core import reads, validation, wire
from monitor_contact_service.core.command import Capability, MonitorCommand
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.endpoint import resolve_endpoint
from monitor_contact_service.http1 import HttpClient, Route
from monitor_contact_service.simulator import AccessKey, Refusal
from monitor_contact_service.simulator.answers import ERROR_FORMS, STATUS_BY_ERROR, ErrorForm, encode
from monitor_contact_service.simulator.signature import SignedRequest, verify
from raw_http import RawHttp, Reply, Request, Then, read_request, reply

from ._aws import no_aws_configuration
from .test_error_table import INVALID_REQUEST_TEXTS, NAMES

_DECISION = Path(__file__).parents[2] / "docs" / "decisions" / "0002-differences-from-boto3.md"
_LISTEN = (Capability.SILENT_MONITOR,)
_LISTEN_AND_BARGE = (Capability.SILENT_MONITOR, Capability.BARGE)
_OFF = Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=10)
_SESSION = '{"ContactId": "c-1", "ContactArn": "arn-1"}'
_HEADER = "x-amzn-ErrorType"
_SUFFIX = ":http://internal.amazon.com/coral/com.amazonaws.connect/"


@pytest.fixture(scope="module", autouse=True)
def no_configuration() -> Iterator[None]:
    """Hide the developer's own AWS configuration."""
    with no_aws_configuration():
        yield


class Keys(NamedTuple):
    """What to sign with."""

    access_key: str
    secret_key: str
    token: str | None


CREDENTIALS = {
    "long-lived": Keys("AKIDSIMULATOR", "simulator-secret", None),
    "temporary": Keys("ASIASIMULATOR", "simulator-temporary-secret", "simulator-session-token"),
    "awkward": Keys("ASIAAWKWARD", "s/e+c=r é t", "IQoJ//+/==" * 100),
}


def _boto3_client(
    credentials: Keys, region: str = "us-east-1", url: str | None = None, session: Any = None
) -> BaseClient:
    client: BaseClient = boto3.Session(botocore_session=session).client(
        "connect",
        region_name=region,
        endpoint_url=url,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token,
        config=_OFF,
    )
    return client


def _arguments(command: MonitorCommand) -> dict[str, object]:
    """Return the keyword arguments of boto3's method, in the order in which our body has them."""
    return {
        "InstanceId": command.instance_id,
        "ContactId": command.contact_id,
        "UserId": command.user_id,
        "AllowedMonitorCapabilities": list(command.capabilities),
        "ClientToken": command.client_token,
    }


async def _call_ours(connect: Connect, command: MonitorCommand) -> Any:
    body = wire.encode(command, command.client_token)
    return await connect.monitor_contact(body, timeout_seconds=10, attempt=1, max_attempts=6, invocation_id="i-1")


@dataclass
class Pair:
    """Both clients, with the same credentials, in front of the same server."""

    server: RawHttp
    boto3: BaseClient
    ours: Connect
    credentials: Keys


@asynccontextmanager
async def _paired(credentials: Keys) -> AsyncIterator[Pair]:
    async with RawHttp([reply(200, _SESSION)]) as server:
        client = await asyncio.to_thread(_boto3_client, credentials, url=server.url)
        where = endpoint(server.url)
        async with open_http(where, max_connections=10) as http:
            connect = Connect(endpoint=where, credentials=FakeCredentials(*credentials), http=http)
            yield Pair(server, client, connect, credentials)
        client.close()


@pytest.fixture(scope="module", params=list(CREDENTIALS.values()), ids=list(CREDENTIALS))
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """Both clients, once for each kind of credentials."""
    async with _paired(request.param) as both:
        yield both


@pytest.fixture(scope="module")
async def readers() -> AsyncIterator[Pair]:
    """Both clients, for what they read."""
    async with _paired(CREDENTIALS["long-lived"]) as both:
        yield both


# ---- What is sent ----------------------------------------------------------------------------------------------------


def _command(
    instance_id: str = INSTANCE_ID,
    contact_id: str = CONTACT_ID,
    user_id: str = USER_ID,
    capabilities: tuple[Capability, ...] = _LISTEN,
    client_token: str = "a-token",
) -> MonitorCommand:
    return MonitorCommand(instance_id, contact_id, user_id, capabilities, client_token)


COMMANDS = {
    "plain": _command(),
    "barge": _command(capabilities=_LISTEN_AND_BARGE),
    "barge first": _command(capabilities=_LISTEN_AND_BARGE[::-1]),
    "shortest": _command("i", "c", "u", client_token="t"),
    "longest": _command("i" * 100, "c" * 256, "u" * 256, _LISTEN_AND_BARGE, "t" * 500),
    "longest, two bytes each": _command("é" * 100, "ß" * 256, "ñ" * 256, client_token="ø" * 500),
    "longest, emoji": _command("😀" * 100, "👩" * 256, "🎧" * 256, client_token="🏳" * 500),
    "joined emoji": _command(contact_id="👩‍👩‍👧‍👦", user_id="🏳️‍🌈"),
    "combining": _command(contact_id="e\u0301", user_id="\u1112\u1161\u11ab"),
    "right to left": _command(contact_id="שלום", user_id="مرحبا\u202eabc"),
    "quotes": _command('"', "\\", '\\"', client_token="'`“”"),
    "JSON inside": _command('{"a": [1]}', "null", "5", client_token='","UserId":"another'),
    "control characters": _command(client_token="".join(map(chr, range(32))) + "\x7f\x80\x9f"),
    "line separators": _command(contact_id="a\u2028b\u2029c\u0085d"),
    "path characters": _command("a/b", "a?b#c", "%2e%2e", client_token="a/../b"),
    "blanks": _command(" i ", "c  c", "\u00a0u\u3000", client_token=" "),
    "markup": _command("<b>&amp;</b>", "</script>", "a=b&c=d;e", client_token="+/="),
    "ARN": _command("arn:aws:connect:us-east-1:123456789012:instance/10000000-0000-4000-8000-000000000001"),
    "last characters": _command("\ud7ff\ue000", "\uffff", "\U0010ffff", client_token="\ufeff"),
}


def _authorization_at(moment: str, request: Request, credentials: Keys, region: str) -> tuple[str, str]:
    """Return what botocore's own signer makes of `request` at `moment`: canonical request and Authorization header.

    Only its steps after the reading of the clock are run, each a public method of SigV4Auth.
    """
    headers = request.lower_headers
    signed = re.search(r"SignedHeaders=([^,]+)", headers["authorization"])
    assert signed is not None
    names = [name for name in signed[1].split(";") if name != "host"]
    again = AWSRequest(
        request.method,
        f"http://{headers['host']}{request.target}",
        headers={name: headers[name] for name in names} | {"x-amz-date": moment},
        data=request.body,
    )
    again.context["timestamp"] = moment
    signer = SigV4Auth(ReadOnlyCredentials(*credentials), "connect", region)
    canonical = signer.canonical_request(again)
    signature = signer.signature(signer.string_to_sign(again, canonical), again)
    return canonical, (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(again)}, "
        f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(again))}, Signature={signature}"
    )


def _assert_same_request(theirs: Request, ours: Request, credentials: Keys, region: str) -> None:
    """Assert that both are one request, and that boto3 would have signed it like ours at the moment of ours."""
    assert (ours.method, ours.target, ours.body) == (theirs.method, theirs.target, theirs.body)
    moment = ours.lower_headers["x-amz-date"]
    own_moment = theirs.lower_headers["x-amz-date"]
    # The seam is true: at its own moment it gives boto3's own signature.
    assert _authorization_at(own_moment, theirs, credentials, region)[1] == theirs.lower_headers["authorization"]
    canonical, authorization = _authorization_at(moment, theirs, credentials, region)
    assert ours.lower_headers["authorization"] == authorization
    assert _authorization_at(moment, ours, credentials, region) == (canonical, authorization)
    # Beside botocore, an implementation that shares nothing with it: the simulator's.
    key = AccessKey(*credentials)
    for request in (theirs, ours):
        signed = SignedRequest(request.method, request.target, request.lower_headers, request.body)
        assert verify(signed, {key.id: key}, region, _epoch(request.lower_headers["x-amz-date"]), 1) is None


def _epoch(moment: str) -> float:
    return timegm(strptime(moment, "%Y%m%dT%H%M%SZ"))


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
async def test_the_same_request_is_sent(command: MonitorCommand, pair: Pair) -> None:
    """Method, path, body bytes, signed headers, canonical request and signature are those of boto3's client."""
    pair.server.answers(reply(200, _SESSION))
    await asyncio.to_thread(pair.boto3.monitor_contact, **_arguments(command))  # type: ignore[attr-defined]
    await _call_ours(pair.ours, command)
    theirs, ours = pair.server.requests
    _assert_same_request(theirs, ours, pair.credentials, "us-east-1")
    _assert_same_unsigned_headers(theirs.lower_headers, ours.lower_headers)


def _assert_same_unsigned_headers(theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    # The one more says what is true of boto3 as well, and is not signed.
    assert ours.keys() - theirs.keys() == {"accept"}
    assert theirs.keys() <= ours.keys()
    for name in ("accept-encoding", "content-type", "content-length", "host"):
        assert ours[name] == theirs[name]
    assert ours.get("x-amz-security-token") == theirs.get("x-amz-security-token")


_ODD_IDS = [
    "10000000-0000-4000-8000-000000000001",
    "a/b",
    "a?b#c",
    "%2e%2e",
    "é",
    " +&=;:@!$'()*,[]",
    "👩‍👩‍👧",
    "...",
    "~_-",
]
_ODD_TOKENS = ["a+b/==&x y", "é", "%2B", "AQ==", "a=b&maxResults=1", "?#/"]


def _read_requests() -> Iterator[tuple[str, dict[str, Any], reads.ReadRequest]]:
    """Yield the method of boto3, its arguments in the order of our query, and what we send for them."""
    for one in _ODD_IDS:
        yield "describe_user", {"InstanceId": one, "UserId": one}, reads.describe_user(one, one)
        arguments = {"InstanceId": one, "SecurityProfileId": one}
        yield "describe_security_profile", arguments, reads.describe_profile(one, one)
        yield "describe_contact", {"InstanceId": one, "ContactId": one}, reads.describe_contact(one, one)
        listed = reads.list_permissions(one, one)
        yield "list_security_profile_permissions", {**arguments, "MaxResults": 1000}, listed
        filters = {"InstanceId": one, "Filters": {"Agents": [one]}}
        yield "get_current_user_data", filters, reads.current_user_data(one, one)
    for token in _ODD_TOKENS:
        arguments = {"InstanceId": "i", "SecurityProfileId": "p", "NextToken": token}
        listed = reads.list_permissions("i", "p", token)
        yield "list_security_profile_permissions", {**arguments, "MaxResults": 1000}, listed


@pytest.mark.parametrize(("method", "arguments", "request_"), list(_read_requests()))
async def test_the_same_reads_are_sent(
    method: str, arguments: dict[str, Any], request_: reads.ReadRequest, pair: Pair
) -> None:
    """Method, path and query to the byte, body, signed headers and signature are those of boto3's client."""
    pair.server.answers(reply(200, "{}"))
    await asyncio.to_thread(getattr(pair.boto3, method), **arguments)
    await pair.ours.read(request_, timeout_seconds=10)
    theirs, ours = pair.server.requests
    _assert_same_request(theirs, ours, pair.credentials, "us-east-1")
    assert ours.lower_headers.keys() - theirs.lower_headers.keys() == {"accept"}
    # AWS's statistics of retries: reads have none to tell.
    assert theirs.lower_headers.keys() - ours.lower_headers.keys() == {"amz-sdk-invocation-id", "amz-sdk-request"}
    for name in ("accept-encoding", "content-type", "content-length", "host", "x-amz-security-token"):
        assert ours.lower_headers.get(name) == theirs.lower_headers.get(name)


@pytest.mark.parametrize("identifier", [".", ".."])
async def test_a_dot_segment_is_not_asked_for(identifier: str, readers: Pair) -> None:
    """boto3 sends it as it is, and so asks another API; ours never gets as far."""
    readers.server.answers(reply(200, "{}"))
    await asyncio.to_thread(readers.boto3.describe_user, InstanceId="i", UserId=identifier)  # type: ignore[attr-defined]
    assert readers.server.requests[0].target == f"/users/i/{identifier}"
    with pytest.raises(ValueError, match="dot segment"):
        reads.describe_user("i", identifier)


_PERMISSIONS = {"Permissions": ["a", "ManagerListenIn"], "NextToken": "a+b/==&x y"}
_USER = {"SecurityProfileIds": ["p", "q"], "Tags": {"Team": "blue"}, "HierarchyGroupId": "g"}
_PROFILE = {
    "TagRestrictedResources": ["User"],
    "AllowedAccessControlTags": {"Team": "blue"},
    "HierarchyRestrictedResources": ["User"],
    "AllowedAccessControlHierarchyGroupId": "g",
}
_AGENT = {"Id": "a", "HierarchyGroups": {"Level1": {"Arn": "arn/g1"}, "Level2": {"Arn": "arn/g2"}}}


async def test_the_same_is_understood_of_reads(readers: Pair) -> None:
    """Member for member what boto3 finds in the answers."""
    theirs: Any = readers.boto3

    async def both(method: str, arguments: dict[str, Any], request: reads.ReadRequest, said: object) -> tuple[Any, Any]:
        readers.server.answers(reply(200, json.dumps(said)))
        return (
            await asyncio.to_thread(getattr(theirs, method), **arguments),
            await readers.ours.read(request, timeout_seconds=10),
        )

    answer, ours = await both(
        "describe_user", {"InstanceId": "i", "UserId": "u"}, reads.describe_user("i", "u"), {"User": _USER}
    )
    user = reads.read_user(ours)
    assert answer["User"] == {
        "SecurityProfileIds": list(user.profile_ids),
        "Tags": user.tags,
        "HierarchyGroupId": user.group_id,
    }
    profile = {"InstanceId": "i", "SecurityProfileId": "p"}
    answer, ours = await both(
        "list_security_profile_permissions", profile, reads.list_permissions("i", "p"), _PERMISSIONS
    )
    page = reads.read_page(ours)
    assert (frozenset(answer["Permissions"]), answer["NextToken"]) == (page.permissions, page.next_token)
    answer, ours = await both(
        "describe_security_profile", profile, reads.describe_profile("i", "p"), {"SecurityProfile": _PROFILE}
    )
    restriction = reads.read_restriction(ours)
    assert restriction is not None
    assert answer["SecurityProfile"] == {
        **_PROFILE,
        "AllowedAccessControlTags": restriction.tags,
        "AllowedAccessControlHierarchyGroupId": restriction.group_id,
    }
    answer, ours = await both(
        "describe_contact",
        {"InstanceId": "i", "ContactId": "c"},
        reads.describe_contact("i", "c"),
        {"Contact": {"AgentInfo": _AGENT}},
    )
    agent = reads.read_agent(ours)
    assert agent is not None
    assert (answer["Contact"]["AgentInfo"]["Id"], frozenset({"g1", "g2"})) == (agent.user_id, agent.group_ids)
    answer, ours = await both(
        "get_current_user_data",
        {"InstanceId": "i", "Filters": {"Agents": ["u"]}},
        reads.current_user_data("i", "u"),
        {"UserDataList": [{"MaxSlotsByChannel": {"VOICE": 1}}]},
    )
    assert answer["UserDataList"][0]["MaxSlotsByChannel"]["VOICE"] == 1
    assert reads.read_presence(ours).takes_calls


class _CapturedError(Exception):
    """Ends a call with the request that it would have sent."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request


def _capture_theirs(request: AWSPreparedRequest, **_event: object) -> NoReturn:
    """Take boto3's request at its last event before the socket, `before-send`."""
    url = str(request.url)
    host, _, target = url.removeprefix("https://").partition("/")
    headers = {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in cast("Mapping[str, str | bytes]", request.headers).items()
    }
    body = request.body
    assert isinstance(body, bytes)
    raise _CapturedError(Request(0, request.method, f"/{target}", (*headers.items(), ("host", host)), body))


async def _capture_ours(request: bytes, _timeout_seconds: float) -> NoReturn:
    """Take the bytes of our request at the last place before a connection."""
    reader = asyncio.StreamReader()
    reader.feed_data(request)
    raise _CapturedError(await read_request(reader, connection=0))


@contextmanager
def _capturing() -> Iterator[list[Request]]:
    captured: list[Request] = []
    with pytest.raises(_CapturedError) as caught:
        yield captured
    captured.append(caught.value.request)


REGIONS: dict[str, tuple[dict[str, str], str]] = {
    "eu-central-1": ({}, "connect.eu-central-1.amazonaws.com"),
    "us-gov-west-1": ({}, "connect.us-gov-west-1.amazonaws.com"),
    "cn-north-1": ({}, "connect.cn-north-1.amazonaws.com.cn"),
    "us-west-2": ({"AWS_USE_FIPS_ENDPOINT": "true"}, "connect-fips.us-west-2.amazonaws.com"),
    "eu-west-2": ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "connect.eu-west-2.api.aws"),
    "ap-southeast-2": (
        {"AWS_ENDPOINT_URL_CONNECT": "https://vpce-1.connect.example:8443"},
        "vpce-1.connect.example:8443",
    ),
}


@pytest.mark.parametrize("region", REGIONS)
async def test_every_region_is_called_like_boto3_calls_it(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, Region and signature agree in every partition, and with FIPS, dual-stack and private endpoints."""
    environment, host = REGIONS[region]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    session = botocore.session.Session()
    session.set_config_variable("region", region)
    credentials, command = CREDENTIALS["temporary"], COMMANDS["longest, emoji"]

    client = await asyncio.to_thread(_boto3_client, credentials, region, session=session)
    client.meta.events.register("before-send.connect.MonitorContact", _capture_theirs)
    with _capturing() as theirs:
        await asyncio.to_thread(client.monitor_contact, **_arguments(command))  # type: ignore[attr-defined]
    client.close()

    where = await asyncio.to_thread(resolve_endpoint, session, "vpce-1.connect.example")
    assert where.url.startswith("https://")
    route = Route(where.url, proxy=None, tls=where.tls_context)
    http = HttpClient(where.url, route=route, user_agent=where.user_agent, exchange=_capture_ours)
    with _capturing() as ours:
        await _call_ours(Connect(endpoint=where, credentials=FakeCredentials(*credentials), http=http), command)

    assert theirs[0].lower_headers["host"] == ours[0].lower_headers["host"] == host
    _assert_same_request(theirs[0], ours[0], credentials, region)


async def test_the_user_agent_is_boto3s(readers: Pair) -> None:
    """AWS's statistics and its support see the SDK, by the same name; `m/`, the features used, has no order."""
    readers.server.answers(reply(200, _SESSION))
    await asyncio.to_thread(readers.boto3.monitor_contact, **_arguments(_command()))  # type: ignore[attr-defined]
    theirs = readers.server.requests[0].lower_headers["user-agent"]
    session = botocore.session.Session()
    session.set_config_variable("region", "us-east-1")
    ours = (await asyncio.to_thread(resolve_endpoint, session)).user_agent
    without_features = [re.sub(r" m/\S+", "", user_agent) for user_agent in (theirs, ours)]
    assert without_features[0] == without_features[1]


_TEXT = st.characters(exclude_categories=["Cs"])
_ID = st.characters(exclude_categories=["Cs", "Cc"])


def _ids(longest: int) -> st.SearchStrategy[str]:
    return st.text(_ID, min_size=1, max_size=longest).filter(lambda text: text not in {".", ".."})


@pytest.fixture(scope="module")
def capturing_boto3() -> Iterator[BaseClient]:
    """boto3's client, stopped before it sends."""
    client = _boto3_client(CREDENTIALS["long-lived"])
    client.meta.events.register("before-send.connect.MonitorContact", _capture_theirs)
    yield client
    client.close()


@hypothesis_settings(deadline=None, max_examples=300)
@given(
    instance_id=_ids(100),
    contact_id=_ids(256),
    user_id=_ids(256),
    capabilities=st.sampled_from([[], [1], [1, 2], [2, 1]]),
    client_token=st.text(_TEXT, min_size=1, max_size=500),
)
def test_every_valid_request_has_boto3s_body(
    capturing_boto3: BaseClient,
    instance_id: str,
    contact_id: str,
    user_id: str,
    capabilities: list[Any],
    client_token: str,
) -> None:
    """Whatever passes validation is encoded byte for byte as boto3 encodes it."""
    request = MonitorContactRequest(
        instance_id=instance_id,
        contact_id=contact_id,
        user_id=user_id,
        allowed_monitor_capabilities=capabilities,
        client_token=client_token,
    )
    command = validation.parse(request)
    with _capturing() as theirs:
        capturing_boto3.monitor_contact(**_arguments(command))  # type: ignore[attr-defined]
    assert wire.encode(command, command.client_token) == theirs[0].body


# ---- What is understood ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Session:
    """A success. boto3 hands on whatever stands in the members, or None."""

    contact_id: Any
    contact_arn: Any = ""


@dataclass(frozen=True, slots=True)
class Error:
    """An error by name; both are "" where there is none. A text without a name says nothing, so it is left out."""

    name: Any = ""
    text: Any = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """No whole answer came."""


@dataclass(frozen=True, slots=True)
class Crash:
    """An exception that no caller expects."""

    kind: str


Understood = Session | Error | Lost | Crash


def _error_of(client: BaseClient, error: ClientError) -> Error:
    said = error.response.get("Error", {})
    name = said.get("Code", "")
    if name in {"", str(error.response["ResponseMetadata"]["HTTPStatusCode"])}:  # boto3's way to say: none
        return Error()
    # What `except client.exceptions.X` catches; a class, whatever the stubs say.
    caught = cast("type[ClientError]", client.exceptions.from_code(name))
    assert type(error) is caught
    return Error(name, said["Message"])


async def _read_by_boto3(client: BaseClient) -> Understood:
    try:
        answer = await asyncio.to_thread(client.monitor_contact, **_arguments(_command()))  # type: ignore[attr-defined]
    except ClientError as error:
        return _error_of(client, error)
    except HTTPClientError:
        return Lost()
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return Crash(type(error).__name__)
    return Session(answer.get("ContactId"), answer.get("ContactArn", ""))


async def _read_by_ours(connect: Connect) -> tuple[Understood, Reason | None]:
    try:
        session = await _call_ours(connect, _command())
    except Failure as failure:
        said = re.fullmatch(r"HTTP \d+ (?P<name>[^:]*): (?P<text>.*)", failure.log_text, re.DOTALL)
        if said is None or (failure.reason is Reason.CONNECT_UNREACHABLE and not said["name"]):
            return Lost(), failure.reason
        return Error(said["name"], said["text"] if said["name"] else ""), failure.reason
    return Session(session.contact_id, session.contact_arn), None


async def _read(pair: Pair, answer: Reply) -> tuple[Understood, Understood, Reason | None]:
    pair.server.answers(answer)
    theirs = await _read_by_boto3(pair.boto3)
    ours, reason = await _read_by_ours(pair.ours)
    assert len(pair.server.requests) == 2, "one of them sent twice"
    return theirs, ours, reason


REASON_BY_NAME = {name: reason for reason, names in NAMES.items() for name in names}


@pytest.mark.parametrize("form", ERROR_FORMS)
@pytest.mark.parametrize("name", STATUS_BY_ERROR)
async def test_every_name_in_every_form_is_read_alike(name: str, form: ErrorForm, readers: Pair) -> None:
    """Both clients read the same name and the same text; ours makes the name's reason of it."""
    status = STATUS_BY_ERROR[name]
    spelled = encode(Refusal(name, status, f"A “text”: of {name}\n"), form, "message" if len(name) % 2 else "Message")
    theirs, ours, reason = await _read(readers, reply(spelled.status, spelled.body, spelled.headers))
    assert ours == theirs
    if form == "bare":
        by_status = {429: Reason.THROTTLED, 500: Reason.INTERNAL_SERVICE, 503: Reason.INTERNAL_SERVICE}
        assert (ours, reason) == (Error(), by_status.get(status, Reason.CONNECT_BAD_RESPONSE))
    else:
        assert (ours, reason) == (Error(name, f"A “text”: of {name}\n"), REASON_BY_NAME[name])


@pytest.mark.parametrize(("text", "reason"), INVALID_REQUEST_TEXTS)
async def test_every_text_is_read_alike(text: str, reason: Reason, readers: Pair) -> None:
    """What narrows a reason is the text that boto3's caller would see."""
    spelled = encode(Refusal("InvalidRequestException", 400, text))
    theirs, ours, found = await _read(readers, reply(spelled.status, spelled.body, spelled.headers))
    assert theirs == ours == Error("InvalidRequestException", text)
    assert found is reason


def _chunked(body: str) -> Reply:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Reply(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body.encode()))


_INVALID = "InvalidRequestException"
_BAD = Reason.CONNECT_BAD_RESPONSE
_INTERNAL = Reason.INTERNAL_SERVICE

# What both make of an answer, and our reason for it.
SAME: dict[str, tuple[Reply, Understood, Reason | None]] = {
    "success": (reply(200, _SESSION), Session("c-1", "arn-1"), None),
    "success, any content type": (reply(200, _SESSION, {"Content-Type": "text/html"}), Session("c-1", "arn-1"), None),
    "201": (reply(201, _SESSION), Session("c-1", "arn-1"), None),
    "no ARN": (reply(200, '{"ContactId": "c-1"}'), Session("c-1"), None),
    "ARN null": (reply(200, '{"ContactId": "c-1", "ContactArn": null}'), Session("c-1"), None),
    "unknown members": (reply(200, '{"ContactId": "c-1", "New": {"a": []}}'), Session("c-1"), None),
    "a member twice": (reply(200, '{"ContactId": "c-0", "ContactId": "c-1"}'), Session("c-1"), None),
    "unicode": (reply(200, '{"ContactId": "é\\u00e9😀\\ud83d\\ude00"}'), Session("éé😀😀"), None),
    "256 characters": (reply(200, f'{{"ContactId": "{"é" * 256}"}}'), Session("é" * 256), None),
    "chunked": (_chunked(_SESSION), Session("c-1", "arn-1"), None),
    "until closed": (Reply(f"HTTP/1.1 200 OK\r\n\r\n{_SESSION}".encode(), Then.CLOSE), Session("c-1", "arn-1"), None),
    "HTTP/1.0": (Reply(f"HTTP/1.0 200 OK\r\n\r\n{_SESSION}".encode(), Then.CLOSE), Session("c-1", "arn-1"), None),
    "error header on a 200": (reply(200, _SESSION, {_HEADER: _INVALID}), Session("c-1", "arn-1"), None),
    "header before all": (
        reply(400, '{"code": "B", "__type": "C", "message": "t"}', {_HEADER: _INVALID}),
        Error(_INVALID, "t"),
        Reason.INVALID_REQUEST,
    ),
    "code before Code": (reply(400, f'{{"Code": "B", "code": "{_INVALID}"}}'), Error(_INVALID), Reason.INVALID_REQUEST),
    "Code before __type": (
        reply(400, f'{{"__type": "C", "Code": "{_INVALID}"}}'),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "code null, __type": (
        reply(400, f'{{"code": null, "__type": "{_INVALID}"}}'),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "message before Message": (
        reply(400, f'{{"__type": "{_INVALID}", "Message": "please enable call recording", "message": ""}}'),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "no text": (reply(400, f'{{"__type": "{_INVALID}"}}'), Error(_INVALID), Reason.INVALID_REQUEST),
    "header in capitals": (reply(400, "{}", {_HEADER.upper(): _INVALID}), Error(_INVALID), Reason.INVALID_REQUEST),
    "header alone": (reply(400, "", {_HEADER: _INVALID}), Error(_INVALID), Reason.INVALID_REQUEST),
    "header, namespace and suffix": (
        reply(400, "", {_HEADER: f"a.b#{_INVALID}{_SUFFIX}"}),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "two namespaces": (reply(400, f'{{"__type": "a#b#{_INVALID}"}}'), Error(_INVALID), Reason.INVALID_REQUEST),
    "# after the colon": (reply(400, f'{{"__type": "{_INVALID}:a#b"}}'), Error(_INVALID), Reason.INVALID_REQUEST),
    "unknown name": (reply(400, '{"__type": "New", "message": "t"}'), Error("New", "t"), _BAD),
    "unknown name, 503": (reply(503, '{"__type": "New"}'), Error("New"), _INTERNAL),
    "other case": (reply(400, f'{{"__type": "{_INVALID.lower()}"}}'), Error(_INVALID.lower()), _BAD),
    "empty __type": (reply(400, '{"__type": ""}'), Error(), _BAD),
    "__type null": (reply(400, '{"__type": null}'), Error(), _BAD),
    "empty object": (reply(400, "{}"), Error(), _BAD),
    "empty body": (reply(400), Error(), _BAD),
    "text alone": (reply(400, '{"message": "please enable call recording"}'), Error(), _BAD),
    "JSON cut short": (reply(400, f'{{"__type": "{_INVALID}"'), Error(), _BAD),
    "not JSON": (reply(400, "__type=x"), Error(), _BAD),
    "a proxy's 403": (reply(403, "<html>Forbidden</html>"), Error(), _BAD),
    "a proxy's 404": (reply(404, "<html>Not Found</html>"), Error(), _BAD),
    "a proxy's 407": (reply(407), Error(), _BAD),
    "429 in HTML": (reply(429, "<html>slow down</html>"), Error(), Reason.THROTTLED),
    "500 in HTML": (reply(500, "<html>x</html>"), Error(), _INTERNAL),
    "502 in HTML": (reply(502, "<!DOCTYPE html>"), Error(), _INTERNAL),
    "503 empty": (reply(503), Error(), _INTERNAL),
    "504 blank": (reply(504, " \n"), Error(), _INTERNAL),
    "501": (reply(501), Error(), _BAD),
    "300": (reply(300, "{}"), Error(), _BAD),
    "301": (reply(301, "", {"Location": "/"}), Error(), _BAD),
    "302": (reply(302, "", {"Location": "/"}), Error(), _BAD),
    "304": (reply(304), Error(), _BAD),
    "307": (reply(307, "", {"Location": "/contact/monitor"}), Error(), _BAD),
    "308": (reply(308, "", {"Location": "http://127.0.0.1:1/"}), Error(), _BAD),
    "418": (reply(418), Error(), _BAD),
    "999": (reply(999), Error(), _BAD),
    "closed before the answer": (Reply(b"", Then.CLOSE), Lost(), Reason.CONNECT_UNREACHABLE),
    "reset before the answer": (Reply(b"", Then.RESET), Lost(), Reason.CONNECT_UNREACHABLE),
    "reset in the body": (Reply(reply(200, _SESSION).raw[:-9], Then.RESET), Lost(), Reason.CONNECT_UNREACHABLE),
    "another protocol": (Reply(b"SSH-2.0-OpenSSH\r\n\r\n", Then.CLOSE), Lost(), _BAD),
    "two lengths": (
        Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", Then.CLOSE),
        Lost(),
        _BAD,
    ),
    "huge header": (Reply(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1024 * 1024 + b"\r\n\r\n", Then.CLOSE), Lost(), _BAD),
}


@pytest.mark.parametrize("row", SAME.values(), ids=SAME.keys())
async def test_an_answer_is_read_alike(row: tuple[Reply, Understood, Reason | None], readers: Pair) -> None:
    """Both understand the same of it, and ours gives it this reason."""
    answer, understood, reason = row
    assert await _read(readers, answer) == (understood, understood, reason)


# ---- What is understood otherwise, on purpose ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """An answer of which boto3 makes something else. `rule` is the line of the decision that wants it so."""

    rule: str
    answer: Reply
    theirs: Understood
    ours: Understood
    reason: Reason | None = _BAD


_NO_ID = "a success without a valid ContactId"
_NO_OBJECT = "a body that is JSON but no object"
_NO_UTF8 = "a body that is not UTF-8"
_DEEP = "a body nested too deeply"
_TEXT_KIND = "an error text that is no text"
_PAGE = "a page beside the error's name"
_EMPTY = "an empty or unusable error name"
_IGNORED = "an error's name on an empty or HTML 5xx"
_BLANKS = "blanks around an error's name"
_TWICE = "the error header twice"
_QUERY = "the header x-amzn-query-error"
_CUT = "a body cut short"
_HINTS = "an answer after a 103"
_LARGE = "a body over 64 KiB"
_FRAMING = "a negative length, or a length beside chunks"

WANTED_DIFFERENCES = {
    "200 {}": Difference(_NO_ID, reply(200, "{}"), Session(None), Error()),
    "200 empty": Difference(_NO_ID, reply(200), Session(None), Error()),
    "200 HTML": Difference(_NO_ID, reply(200, "<html>x</html>"), Session(None), Error()),
    "200 cut JSON": Difference(_NO_ID, reply(200, _SESSION[:-3]), Session(None), Error()),
    "204": Difference(_NO_ID, reply(204), Session(None), Error()),
    "contactId": Difference(_NO_ID, reply(200, '{"contactId": "c-1"}'), Session(None), Error()),
    "null": Difference(_NO_ID, reply(200, '{"ContactId": null}'), Session(None), Error()),
    "number": Difference(_NO_ID, reply(200, '{"ContactId": 5}'), Session(5), Error()),
    "list": Difference(_NO_ID, reply(200, '{"ContactId": ["c-1"]}'), Session(["c-1"]), Error()),
    "empty id": Difference(_NO_ID, reply(200, '{"ContactId": ""}'), Session(""), Error()),
    "257 characters": Difference(_NO_ID, reply(200, f'{{"ContactId": "{"c" * 257}"}}'), Session("c" * 257), Error()),
    "lone surrogate": Difference(_NO_ID, reply(200, '{"ContactId": "\\ud800"}'), Session("\ud800"), Error()),
    "byte order mark": Difference(_NO_ID, reply(200, _SESSION.encode("utf-8-sig")), Session(None), Error()),
    "ARN number": Difference(
        "a ContactArn that is no text",
        reply(200, '{"ContactId": "c-1", "ContactArn": 5}'),
        Session("c-1", 5),
        Session("c-1"),
        None,
    ),
    "200 list": Difference(_NO_OBJECT, reply(200, "[1]"), Crash("AttributeError"), Error()),
    "200 string": Difference(_NO_OBJECT, reply(200, '"ContactId"'), Crash("AttributeError"), Error()),
    "200 number": Difference(_NO_OBJECT, reply(200, "5"), Crash("AttributeError"), Error()),
    "200 null": Difference(_NO_OBJECT, reply(200, "null"), Crash("TypeError"), Error()),
    "400 list": Difference(_NO_OBJECT, reply(400, "[1]"), Crash("AttributeError"), Error()),
    "400 string": Difference(_NO_OBJECT, reply(400, '"x"'), Crash("AttributeError"), Error()),
    "503 list": Difference(_NO_OBJECT, reply(503, "[1]"), Crash("AttributeError"), Error(), _INTERNAL),
    "400 list with header": Difference(
        _NO_OBJECT,
        reply(400, "[1]", {_HEADER: _INVALID}),
        Crash("AttributeError"),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "200 bad UTF-8": Difference(_NO_UTF8, reply(200, b'{"ContactId": "\xff"}'), Crash("UnicodeDecodeError"), Error()),
    "200 UTF-16": Difference(_NO_UTF8, reply(200, _SESSION.encode("utf-16")), Crash("UnicodeDecodeError"), Error()),
    "200 gzip": Difference(_NO_UTF8, reply(200, b"\x1f\x8b\x08\x00"), Crash("UnicodeDecodeError"), Error()),
    "429 bad UTF-8": Difference(_NO_UTF8, reply(429, b"\xff"), Crash("UnicodeDecodeError"), Error(), Reason.THROTTLED),
    "200 deep": Difference(_DEEP, reply(200, "[" * 60_000), Crash("RecursionError"), Error()),
    "500 deep": Difference(_DEEP, reply(500, "[" * 60_000), Crash("RecursionError"), Error(), _INTERNAL),
    "text null": Difference(
        _TEXT_KIND,
        reply(400, f'{{"__type": "{_INVALID}", "Message": null}}'),
        Error(_INVALID, None),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "text object": Difference(
        _TEXT_KIND,
        reply(400, f'{{"__type": "{_INVALID}", "message": {{"a": 1}}}}'),
        Error(_INVALID, {"a": 1}),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "page as text": Difference(
        _PAGE,
        reply(400, "<p>please enable call recording", {_HEADER: _INVALID}),
        Error(_INVALID, "<p>please enable call recording"),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "empty header": Difference(
        _EMPTY,
        reply(400, f'{{"__type": "{_INVALID}"}}', {_HEADER: ""}),
        Error(),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "empty code": Difference(
        _EMPTY, reply(400, f'{{"code": "", "__type": "{_INVALID}"}}'), Error(), Error(_INVALID), Reason.INVALID_REQUEST
    ),
    "code number": Difference(
        _EMPTY,
        reply(400, f'{{"code": 5, "__type": "{_INVALID}"}}'),
        Error(5, ""),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "__type number": Difference(_EMPTY, reply(400, '{"__type": 5}'), Crash("TypeError"), Error()),
    "empty 503": Difference(
        _IGNORED,
        reply(503, "", {_HEADER: "ThrottlingException"}),
        Error(),
        Error("ThrottlingException"),
        Reason.THROTTLED,
    ),
    "HTML 500": Difference(
        _IGNORED,
        reply(500, "<html>", {_HEADER: "ThrottlingException"}),
        Error(),
        Error("ThrottlingException"),
        Reason.THROTTLED,
    ),
    "blanks": Difference(
        _BLANKS,
        reply(400, f'{{"__type": "a# {_INVALID} "}}'),
        Error(f" {_INVALID} "),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "two headers": Difference(
        _TWICE,
        Reply(f"HTTP/1.1 400 Bad\r\n{_HEADER}: New\r\n{_HEADER}: {_INVALID}\r\nContent-Length: 0\r\n\r\n".encode()),
        Error(f"New, {_INVALID}"),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "query error": Difference(
        _QUERY,
        reply(400, f'{{"__type": "{_INVALID}"}}', {"x-amzn-query-error": "Other;Sender"}),
        Error("Other"),
        Error(_INVALID),
        Reason.INVALID_REQUEST,
    ),
    "cut success": Difference(
        _CUT, Reply(reply(200, _SESSION).raw[:-9], Then.CLOSE), Session(None), Lost(), Reason.CONNECT_UNREACHABLE
    ),
    "cut before its body": Difference(
        _CUT,
        Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Then.CLOSE),
        Session(None),
        Lost(),
        Reason.CONNECT_UNREACHABLE,
    ),
    "cut error": Difference(
        _CUT, Reply(reply(400, '{"__type": "X"}').raw[:-3], Then.CLOSE), Error(), Lost(), Reason.CONNECT_UNREACHABLE
    ),
    "103": Difference(
        _HINTS,
        Reply(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + reply(200, _SESSION).raw, Then.CLOSE),
        Session(None),
        Session("c-1", "arn-1"),
        None,
    ),
    "large success": Difference(
        _LARGE, reply(200, _SESSION.ljust(wire.ANSWER_MAX_BYTES + 1)), Session("c-1", "arn-1"), Error()
    ),
    "large error": Difference(
        _LARGE, reply(400, f'{{"__type": "{_INVALID}"}}'.ljust(100_000)), Error(_INVALID), Error()
    ),
    "negative length": Difference(
        _FRAMING,
        Reply(f"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{_SESSION}".encode(), Then.CLOSE),
        Session("c-1", "arn-1"),
        Lost(),
    ),
    "length and chunked": Difference(
        _FRAMING,
        Reply(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            + _chunked(_SESSION).raw.partition(b"\r\n\r\n")[2],
            Then.CLOSE,
        ),
        Session("c-1", "arn-1"),
        Lost(),
    ),
}


@pytest.mark.parametrize("wanted", WANTED_DIFFERENCES.values(), ids=WANTED_DIFFERENCES.keys())
async def test_a_wanted_difference_still_exists(wanted: Difference, readers: Pair) -> None:
    """boto3 still makes of it what the decision says, and ours still something else."""
    assert wanted.theirs != wanted.ours
    assert await _read(readers, wanted.answer) == (wanted.theirs, wanted.ours, wanted.reason)


# ---- What is sent otherwise, on purpose ------------------------------------------------------------------------------


def _sent_by_boto3(client: BaseClient, **arguments: object) -> dict[str, Any]:
    with _capturing() as theirs:
        client.monitor_contact(InstanceId="i", ContactId="c", UserId="u", **arguments)  # type: ignore[attr-defined]
    return dict(theirs[0].document)


REQUEST_DIFFERENCES = ("no capabilities", "an empty client token", "what breaks a limit")


def test_no_capabilities_are_sent_as_listening_only(capturing_boto3: BaseClient) -> None:
    """boto3 sends an empty list, or no member; we always send SILENT_MONITOR: IAM's condition key needs a value."""
    assert "AllowedMonitorCapabilities" not in _sent_by_boto3(capturing_boto3)
    assert _sent_by_boto3(capturing_boto3, AllowedMonitorCapabilities=[])["AllowedMonitorCapabilities"] == []
    command = validation.parse(MonitorContactRequest(instance_id="i", contact_id="c", user_id="u"))
    assert b'"AllowedMonitorCapabilities": ["SILENT_MONITOR"]' in wire.encode(command, "t")


def test_an_empty_token_is_not_sent(capturing_boto3: BaseClient) -> None:
    """boto3 sends "" as it is; without the argument it makes a UUID for each call, as we do in both cases."""
    assert _sent_by_boto3(capturing_boto3, ClientToken="")["ClientToken"] == ""
    tokens = {_sent_by_boto3(capturing_boto3)["ClientToken"] for _ in range(2)}
    assert {len(token) for token in tokens} == {36}
    assert len(tokens) == 2


@pytest.mark.parametrize(
    ("arguments", "request_fields"),
    [
        ({"InstanceId": "i" * 101}, {"instance_id": "i" * 101}),
        ({"ContactId": "c" * 257}, {"contact_id": "c" * 257}),
        ({"ContactId": "c\0"}, {"contact_id": "c\0"}),
        ({"UserId": ".."}, {"user_id": ".."}),
        ({"ClientToken": "t" * 501}, {"client_token": "t" * 501}),
        ({"AllowedMonitorCapabilities": ["BARGE"]}, {"allowed_monitor_capabilities": [2]}),
        ({"AllowedMonitorCapabilities": ["WHISPER"]}, {"allowed_monitor_capabilities": [3]}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_what_breaks_a_limit_is_not_sent(
    arguments: dict[str, object], request_fields: dict[str, Any], capturing_boto3: BaseClient
) -> None:
    """boto3 sends all of it; here it ends before it costs quota."""
    with _capturing() as theirs:
        capturing_boto3.monitor_contact(  # type: ignore[attr-defined]
            **{"InstanceId": "i", "ContactId": "c", "UserId": "u", **arguments}
        )
    assert arguments.items() <= theirs[0].document.items()
    with pytest.raises(Failure) as refused:
        validation.parse(
            MonitorContactRequest(**{"instance_id": "i", "contact_id": "c", "user_id": "u"} | request_fields)
        )
    assert refused.value.reason is Reason.VALIDATION_FAILED


def test_the_decision_lists_every_difference() -> None:
    """The tables in docs/decisions have one line for each rule here, and no other."""
    lines = [line for line in _DECISION.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    listed = [line.split("|")[1].strip() for line in lines]
    rules = {wanted.rule for wanted in WANTED_DIFFERENCES.values()} | set(REQUEST_DIFFERENCES)
    assert sorted(listed) == sorted({"Answer", "Request", *rules})
