"""The transport alone, over real sockets: what it sends, how it fails, and that it sends to nobody else."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from fakes import FakeCredentials
from harness import connect_to, endpoint
from monitor_contact_service.aws import new_session
from monitor_contact_service.connect import WARM_CONNECTIONS, Connect, open_http
from monitor_contact_service.core import reads
from monitor_contact_service.core.command import MonitoringSession
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.wire import Answer
from monitor_contact_service.endpoint import Endpoint, resolve_endpoint
from monitor_contact_service.http1 import HttpClient, Pool, Route
from monitor_contact_service.simulator import Simulator
from raw_http import RawHttp, Reply, Then, reply

from ._aws import no_aws_configuration
from ._tls import tls_server

BODY = b'{"InstanceId": "i"}'
SESSION = reply(200, '{"ContactId": "c", "ContactArn": "a"}', {"x-amzn-RequestId": "aws-1"})
_HANG = Reply(b"", Then.HANG)


@pytest.fixture(scope="module", autouse=True)
def no_configuration() -> Iterator[None]:
    """Hide the developer's own AWS configuration."""
    with no_aws_configuration():
        yield


async def _send(
    connect: Connect, *, timeout_seconds: float = 5.0, attempt: int = 1, barge: bool = False
) -> MonitoringSession:
    return await connect.monitor_contact(
        BODY,
        timeout_seconds=timeout_seconds,
        attempt=attempt,
        max_attempts=6,
        invocation_id="invocation-1",
        barge=barge,
    )


async def _failure(connect: Connect, *, timeout_seconds: float = 5.0) -> Failure:
    with pytest.raises(Failure) as caught:
        await _send(connect, timeout_seconds=timeout_seconds)
    return caught.value


@asynccontextmanager
async def _to(where: Endpoint) -> AsyncIterator[Connect]:
    async with open_http(where, max_connections=10) as http:
        yield Connect(endpoint=where, credentials=FakeCredentials(), http=http)


# ---- What is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "a-session-token"])
async def test_the_request_has_these_headers_and_no_other(token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name by name: boto3's own User-Agent, nothing compressed asked for, AWS's retry headers, no cookie."""
    async with RawHttp([SESSION]) as upstream:
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_CONNECT", upstream.url)
        where = await asyncio.to_thread(lambda: resolve_endpoint(new_session()))
        async with open_http(where, max_connections=1) as http:
            await _send(Connect(endpoint=where, credentials=FakeCredentials(token=token), http=http), attempt=3)
        (request,) = upstream.requests
    assert (request.method, request.target, request.body) == ("POST", "/contact/monitor", BODY)
    signed = "content-type;host;x-amz-date" + (";x-amz-security-token" if token else "")
    fixed = {
        "host": where.url.removeprefix("http://"),
        "content-type": "application/json",
        "content-length": str(len(BODY)),
        "accept": "*/*",
        "accept-encoding": "identity",
        "amz-sdk-invocation-id": "invocation-1",
        "amz-sdk-request": "attempt=3; max=6",
    } | ({"x-amz-security-token": token} if token else {})
    headers = request.lower_headers
    assert {name: headers.get(name) for name in fixed} == fixed
    assert headers.keys() - fixed.keys() == {"authorization", "user-agent", "x-amz-date"}
    assert len(headers) == len(request.headers), "a header sent twice"
    assert re.fullmatch(r"Boto3/\S+ .*", headers["user-agent"])
    assert re.fullmatch(
        rf"AWS4-HMAC-SHA256 Credential=AKIDSIMULATOR/{headers['x-amz-date'][:8]}/us-east-1/connect/aws4_request, "
        rf"SignedHeaders={signed}, Signature=[0-9a-f]{{64}}",
        headers["authorization"],
    )


async def test_each_attempt_is_signed_when_it_is_sent() -> None:
    """Neither credentials nor date are those of the transport's start: a call that waited is not signed too early."""
    credentials = FakeCredentials("AKIDFIRST", "first")
    async with RawHttp([SESSION]) as upstream, connect_to(upstream.url, credentials) as connect:
        await _send(connect)
        credentials.current = FakeCredentials("ASIASECOND", "second", "session-token").current
        before = datetime.now(UTC)
        await _send(connect)
        after = datetime.now(UTC)
        first, second = (request.lower_headers for request in upstream.requests)
    assert "Credential=AKIDFIRST/" in first["authorization"]
    assert "x-amz-security-token" not in first
    assert "Credential=ASIASECOND/" in second["authorization"]
    assert second["x-amz-security-token"] == "session-token"
    signed_at = datetime.strptime(second["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert before - timedelta(seconds=1) < signed_at <= after


async def test_without_credentials_nothing_is_sent() -> None:
    """SERVICE_CREDENTIALS, and no request that Connect would have to refuse."""
    credentials = FakeCredentials()
    credentials.current = None
    async with RawHttp([SESSION]) as upstream, connect_to(upstream.url, credentials) as connect:
        failure = await _failure(connect)
        assert not upstream.requests
    assert (failure.reason, failure.outcome_unknown) == (Reason.SERVICE_CREDENTIALS, False)


async def test_renewing_asks_the_source_of_the_credentials() -> None:
    """The transport itself fetches nothing."""
    credentials = FakeCredentials()
    async with connect_to("http://127.0.0.1:1", credentials) as connect:
        await connect.renew_credentials()
    assert credentials.renewals == 1


async def test_barge_has_credentials_of_its_own() -> None:
    """Calls with BARGE are signed with the second role's and with no other; reads and silent calls never are."""
    silent, barge = FakeCredentials("AKIDSILENT", "silent"), FakeCredentials("ASIABARGE", "barge", "token")
    async with RawHttp([SESSION]) as upstream, open_http(endpoint(upstream.url), max_connections=1) as http:
        connect = Connect(endpoint=endpoint(upstream.url), credentials=silent, barge_credentials=barge, http=http)
        await _send(connect)
        await _send(connect, barge=True)
        await connect.read(reads.describe_user("i", "u"), timeout_seconds=5)
        await _send(connect)
        headers = [request.lower_headers for request in upstream.requests]
    keys = [re.search(r"Credential=(\w+)/", header["authorization"]) for header in headers]
    assert [key and key[1] for key in keys] == ["AKIDSILENT", "ASIABARGE", "AKIDSILENT", "AKIDSILENT"]
    assert ["x-amz-security-token" in header for header in headers] == [False, True, False, False]


async def test_without_credentials_for_barge_nothing_is_sent() -> None:
    """It does not fall back to those of the other role."""
    barge = FakeCredentials()
    barge.current = None
    async with RawHttp([SESSION]) as upstream, open_http(endpoint(upstream.url), max_connections=1) as http:
        connect = Connect(
            endpoint=endpoint(upstream.url), credentials=FakeCredentials(), barge_credentials=barge, http=http
        )
        with pytest.raises(Failure) as caught:
            await _send(connect, barge=True)
        assert not upstream.requests
        await _send(connect)
    assert caught.value.reason is Reason.SERVICE_CREDENTIALS


async def test_without_a_second_role_barge_is_signed_like_the_rest() -> None:
    """One role for both is the default, and then it is the one that is renewed."""
    credentials = FakeCredentials("AKIDONE", "one")
    async with RawHttp([SESSION]) as upstream, connect_to(upstream.url, credentials) as connect:
        await _send(connect, barge=True)
        await connect.renew_credentials(barge=True)
        assert "Credential=AKIDONE/" in upstream.requests[0].lower_headers["authorization"]
    assert credentials.renewals == 1


async def test_the_credentials_that_were_used_are_renewed() -> None:
    """One role's failure does not cause the other's renewal."""
    silent, barge = FakeCredentials(), FakeCredentials()
    where = endpoint("http://127.0.0.1:1")
    async with open_http(where, max_connections=1) as http:
        connect = Connect(endpoint=where, credentials=silent, barge_credentials=barge, http=http)
        await connect.renew_credentials(barge=True)
        assert (silent.renewals, barge.renewals) == (0, 1)
        await connect.renew_credentials()
        assert (silent.renewals, barge.renewals) == (1, 1)


# ---- Reads -----------------------------------------------------------------------------------------------------------

_READ = reads.describe_user("i", "u")


async def test_a_read_has_these_headers_and_no_other() -> None:
    """A GET has no body and says nothing of one."""
    async with RawHttp([reply(200, "{}")]) as upstream, connect_to(upstream.url) as connect:
        assert (await connect.read(_READ, timeout_seconds=5)).status == 200
        (request,) = upstream.requests
    assert (request.method, request.target, request.body) == ("GET", "/users/i/u", b"")
    headers = request.lower_headers
    assert set(headers) == {"host", "user-agent", "accept", "accept-encoding", "x-amz-date", "authorization"}
    assert "SignedHeaders=host;x-amz-date," in headers["authorization"]


async def test_a_read_goes_below_the_endpoints_path() -> None:
    """As calls do, behind a gateway."""
    async with RawHttp([reply(200, "{}")]) as upstream, _to(endpoint(f"{upstream.url}/base")) as connect:
        await connect.read(_READ, timeout_seconds=5)
        assert [request.target for request in upstream.requests] == ["/base/users/i/u"]


async def test_the_answer_to_a_read_is_handed_on_whatever_it_is() -> None:
    """What it means is for others to say; a redirect is not followed."""
    async with (
        RawHttp([reply(429, "x"), reply(307, "", {"Location": "/"})]) as upstream,
        connect_to(upstream.url) as connect,
    ):
        assert [(await connect.read(_READ, timeout_seconds=5)).status for _ in range(2)] == [429, 307]
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("request_", [_READ, reads.current_user_data("i", "u")], ids=["GET", "POST"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Reply(b"", Then.CLOSE), Reason.CONNECT_UNREACHABLE),
        (Reply(b"", Then.RESET), Reason.CONNECT_UNREACHABLE),
        (Reply(b"nonsense\r\n\r\n"), Reason.CONNECT_BAD_RESPONSE),
    ],
)
async def test_a_read_without_an_answer_has_changed_nothing(
    request_: reads.ReadRequest, answer: Reply, reason: Reason
) -> None:
    """Sent once, and its outcome is known: there is none."""
    async with RawHttp([answer]) as upstream, connect_to(upstream.url) as connect:
        with pytest.raises(Failure) as caught:
            await connect.read(request_, timeout_seconds=5)
        assert len(upstream.requests) == 1
    assert (caught.value.reason, caught.value.outcome_unknown) == (reason, False)


async def test_a_read_without_credentials_is_not_sent() -> None:
    """SERVICE_CREDENTIALS, as for a call."""
    credentials = FakeCredentials()
    credentials.current = None
    async with RawHttp([reply(200)]) as upstream, connect_to(upstream.url, credentials) as connect:
        with pytest.raises(Failure) as caught:
            await connect.read(_READ, timeout_seconds=5)
        assert not upstream.requests
    assert caught.value.reason is Reason.SERVICE_CREDENTIALS


async def test_a_cookie_is_not_sent_back() -> None:
    """What one call's answer sets must not tie other callers' calls to it."""
    with_cookie = replace(SESSION, raw=SESSION.raw.replace(b"\r\n", b"\r\nSet-Cookie: session=1; Path=/\r\n", 1))
    # By name: a cookie jar that kept none of a bare address would pass, and the test prove nothing.
    async with (
        RawHttp([with_cookie]) as upstream,
        connect_to(upstream.url.replace("127.0.0.1", "localhost")) as connect,
    ):
        await _send(connect)
        await _send(connect)
        assert [request.lower_headers.get("cookie") for request in upstream.requests] == [None, None]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_the_environment_alone_sets_no_proxy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is the endpoint's, resolved once with boto3's rules; nobody looks for another."""
    async with RawHttp([SESSION]) as upstream, RawHttp([reply(502)]) as proxy:
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with connect_to(upstream.url) as connect:
            assert (await _send(connect)).contact_id == "c"
        assert proxy.connections == 0


async def test_the_proxy_of_the_endpoint_is_used() -> None:
    """With one, the request goes there, with the whole address in its first line."""
    async with RawHttp([SESSION]) as proxy:
        where = replace(endpoint("http://connect.example"), proxy=proxy.url)
        async with _to(where) as connect:
            assert (await _send(connect)).contact_id == "c"
        assert [request.target for request in proxy.requests] == ["http://connect.example/contact/monitor"]


async def test_a_netrc_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password for the host in ~/.netrc would replace the signature."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password hidden\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with RawHttp([SESSION]) as upstream, connect_to(upstream.url) as connect:
        await _send(connect)
        assert upstream.requests[0].lower_headers["authorization"].startswith("AWS4-HMAC-SHA256 ")


async def test_a_redirect_is_an_answer() -> None:
    """The place that a 307 names sees no connection at all."""
    async with RawHttp([SESSION]) as elsewhere:
        redirect = reply(307, "", {"Location": f"{elsewhere.url}/contact/monitor"})
        async with RawHttp([redirect]) as upstream, connect_to(upstream.url) as connect:
            failure = await _failure(connect)
            assert len(upstream.requests) == 1
        assert elsewhere.connections == 0
    assert failure.reason is Reason.CONNECT_BAD_RESPONSE
    assert failure.metadata["http_status"] == "307"


async def test_what_was_understood_is_returned() -> None:
    """Both members of the answer and the request id that AWS support asks for."""
    async with RawHttp([SESSION]) as upstream, connect_to(upstream.url) as connect:
        assert await _send(connect) == MonitoringSession("c", "a", "aws-1")


async def test_a_call_that_is_cancelled_gives_its_connection_up() -> None:
    """The caller's leaving ends the request; the connection that still waits for its answer is not used again."""
    async with RawHttp([_HANG, SESSION]) as upstream, connect_to(upstream.url) as connect:
        call = asyncio.create_task(_send(connect))
        await upstream.until(lambda: len(upstream.requests) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await _send(connect)).contact_id == "c"
        assert [request.connection for request in upstream.requests] == [1, 2]


# ---- How it fails ----------------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def test_a_refused_connection_has_certainly_started_nothing() -> None:
    """CONNECT_UNREACHABLE, and the outcome is known: nothing was sent."""
    async with connect_to(f"http://127.0.0.1:{_free_port()}") as connect:
        failure = await _failure(connect)
    assert (failure.reason, failure.outcome_unknown) == (Reason.CONNECT_UNREACHABLE, False)
    assert "127.0.0.1" in failure.log_text


async def _no_such_name(host: str, port: int, **_kind: object) -> NoReturn:
    """Be a DNS that knows no name."""
    raise socket.gaierror(socket.EAI_NONAME, f"{host}:{port} not known")


async def test_an_unknown_name_has_certainly_started_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS that fails is CONNECT_UNREACHABLE like a connection that is refused."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", _no_such_name)
    async with connect_to("http://connect.example") as connect:
        failure = await _failure(connect)
    assert (failure.reason, failure.outcome_unknown) == (Reason.CONNECT_UNREACHABLE, False)
    assert "connect.example:80 not known" in failure.log_text


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_opens_no_tunnel_has_certainly_started_nothing(
    status: int, certificate: tuple[str, str]
) -> None:
    """It saw the name of the host and nothing else: no signature, no body; CONNECT_UNREACHABLE."""
    async with RawHttp([reply(status)]) as proxy:
        where = replace(endpoint("https://connect.example"), proxy=proxy.url, ca_file=certificate[0])
        async with _to(where) as connect:
            failure = await _failure(connect)
        (request,) = proxy.requests
    assert (failure.reason, failure.outcome_unknown) == (Reason.CONNECT_UNREACHABLE, False)
    assert (request.method, request.target, request.body) == ("CONNECT", "connect.example:443", b"")
    assert "authorization" not in request.lower_headers


@asynccontextmanager
async def _plain_greeting() -> AsyncIterator[int]:
    """Yield the port of a server that speaks plain HTTP before it is asked."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Plain HTTP here\r\n\r\n")
        with suppress(OSError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def _https(port: int, ca_file: str) -> Endpoint:
    return replace(endpoint(f"https://localhost:{port}"), ca_file=ca_file)


async def test_tls_that_fails_has_certainly_started_nothing(certificate: tuple[str, str]) -> None:
    """An https endpoint that is no TLS server: CONNECT_UNREACHABLE, nothing sent."""
    async with _plain_greeting() as port, _to(_https(port, certificate[0])) as connect:
        failure = await _failure(connect)
    assert (failure.reason, failure.outcome_unknown) == (Reason.CONNECT_UNREACHABLE, False)


async def test_a_certificate_of_the_ca_file_is_trusted(certificate: tuple[str, str]) -> None:
    """The CA bundle is the endpoint's, as AWS_CA_BUNDLE says: a private CA works."""
    async with RawHttp([SESSION], tls=tls_server(certificate)) as upstream:
        where = replace(endpoint(upstream.url), ca_file=certificate[0])
        async with _to(where) as connect:
            assert (await _send(connect)).contact_id == "c"


async def test_another_certificate_is_not_trusted(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With boto3's own bundle the request never leaves: the signature goes to nobody who cannot prove to be AWS."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    public = await asyncio.to_thread(lambda: resolve_endpoint(new_session()))
    async with RawHttp([SESSION], tls=tls_server(certificate)) as upstream:
        async with _to(replace(public, url=upstream.url)) as connect:
            failure = await _failure(connect)
        assert not upstream.requests
    assert (failure.reason, failure.outcome_unknown) == (Reason.CONNECT_UNREACHABLE, False)


@pytest.mark.parametrize(
    "answer",
    [_HANG, Reply(b"HTTP/1.1 200 OK\r\nContent-", Then.HANG), replace(SESSION, raw=SESSION.raw[:-5], then=Then.HANG)],
    ids=["before the answer", "in the headers", "in the body"],
)
async def test_an_answer_that_does_not_come_is_given_up(answer: Reply) -> None:
    """The time-out covers the whole answer; whether a session started is then not known."""
    async with RawHttp([SESSION, answer]) as upstream, connect_to(upstream.url) as connect:
        await _send(connect)  # so that the connection is there, and only the answer is waited for
        failure = await _failure(connect, timeout_seconds=0.5)
        assert len(upstream.requests) == 2
    assert (failure.reason, failure.outcome_unknown) == (Reason.CONNECT_UNREACHABLE, True)


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET], ids=lambda then: then.name)
async def test_a_lost_connection_leaves_the_outcome_unknown(then: Then) -> None:
    """The request had been sent: CONNECT_UNREACHABLE, and sent once only."""
    async with RawHttp([Reply(b"", then)]) as upstream, connect_to(upstream.url) as connect:
        failure = await _failure(connect)
        assert len(upstream.requests) == 1
    assert (failure.reason, failure.outcome_unknown) == (Reason.CONNECT_UNREACHABLE, True)


async def test_an_endless_answer_is_not_read() -> None:
    """Of 256 MiB only what fits into the sockets' buffers leaves the server; then the connection is closed."""
    chunk = b"x" * 64 * 1024
    endless = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n", tail=chunk, tail_times=4096)
    async with RawHttp([endless]) as upstream, connect_to(upstream.url) as connect:
        failure = await _failure(connect)
        await upstream.until(lambda: upstream.open_connections == 0)
        assert upstream.written < 32 * 1024 * 1024
    assert failure.reason is Reason.CONNECT_BAD_RESPONSE
    assert failure.outcome_unknown
    assert "64 KiB" in failure.log_text


async def test_one_connection_for_all_calls_in_turn() -> None:
    """Calls that follow each other share a connection."""
    async with RawHttp([SESSION]) as upstream, connect_to(upstream.url) as connect:
        for _ in range(10):
            await _send(connect)
        assert upstream.connections == 1


# ---- Kept warm -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _warming(where: Endpoint, answered: int) -> AsyncIterator[tuple[Connect, "asyncio.Task[None]"]]:
    """Yield a transport that is kept warm, after `answered` of its pings have ended, well or badly."""
    ended = 0
    enough = asyncio.Event()
    route = Route(where.url, proxy=None, tls=where.tls_context)
    async with Pool(route.open, max_connections=10) as pool:

        async def counted(request: bytes, timeout_seconds: float) -> Answer:
            nonlocal ended
            try:
                return await pool.exchange(request, timeout_seconds)
            finally:
                ended += 1
                if ended == answered:
                    enough.set()

        http = HttpClient(where.url, route=route, user_agent="tests", exchange=counted)
        connect = Connect(endpoint=where, credentials=FakeCredentials(), http=http)
        task = asyncio.create_task(connect.keep_warm())
        try:
            await enough.wait()
            yield connect, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_connections_are_open_before_the_first_call() -> None:
    """Two, by requests that carry no signature and name no operation; the first calls use them."""
    async with RawHttp([reply(404), reply(404), SESSION]) as upstream:
        async with _warming(endpoint(upstream.url), WARM_CONNECTIONS) as (connect, _task):
            await asyncio.gather(_send(connect), _send(connect))
        pings, calls = upstream.requests[:WARM_CONNECTIONS], upstream.requests[WARM_CONNECTIONS:]
        assert upstream.connections == WARM_CONNECTIONS
    assert {(ping.method, ping.target) for ping in pings} == {("GET", "/")}
    assert not any("authorization" in ping.lower_headers for ping in pings)
    assert {call.connection for call in calls} == {1, 2}


async def test_a_ping_costs_no_quota() -> None:
    """The simulated Connect counts no call of any API for it."""
    async with Simulator() as simulator, _warming(endpoint(simulator.url), WARM_CONNECTIONS):
        assert not simulator.calls()


@pytest.mark.parametrize(
    "answer", [Reply(b"", Then.CLOSE), Reply(b"nonsense\r\n\r\n"), reply(307, "", {"Location": "/"})]
)
async def test_a_ping_that_fails_is_nobodys_error(answer: Reply) -> None:
    """Whatever the answer, warming goes on, and the next call is made as if nothing had been."""
    async with (
        RawHttp([answer, answer, SESSION]) as upstream,
        _warming(endpoint(upstream.url), WARM_CONNECTIONS) as (connect, task),
    ):
        assert (await _send(connect)).contact_id == "c"
        assert not task.done()


async def test_warming_waits_quietly_for_connect_to_come(caplog: pytest.LogCaptureFixture) -> None:
    """While nobody listens, pings fail without a warning; as soon as somebody does, calls work."""
    with caplog.at_level("INFO", logger="monitor_contact_service.connect"):
        port = _free_port()
        async with _warming(endpoint(f"http://127.0.0.1:{port}"), WARM_CONNECTIONS) as (connect, task):
            assert (await _failure(connect)).reason is Reason.CONNECT_UNREACHABLE
            assert not task.done()
            async with Simulator(port=port):
                # The simulator refuses this body, by name: it was reached.
                assert (await _failure(connect)).reason is Reason.INVALID_REQUEST
    said = [(record.levelname, record.message) for record in caplog.records]
    assert said == [("INFO", "Connect not reachable")]
