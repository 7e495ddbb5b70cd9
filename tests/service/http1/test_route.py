"""`http1.route`: connections to the endpoint, with TLS, through proxies, and what comes instead."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from monitor_contact_service.core.wire import Answer
from monitor_contact_service.http1 import HttpClient, NotConnectedError, Pool, Route, route
from raw_http import RawHttp, Reply, Request, Then, read_request, reply

from .._tls import tls_server  # noqa: TID252

pytestmark = pytest.mark.asyncio(loop_scope="function")

OK = reply(200, "{}")
HANG = Reply(b"", Then.HANG)
ESTABLISHED = b"HTTP/1.0 200 Connection established\r\n\r\n"
TIMEOUT_SECONDS = 5.0


@pytest.fixture
def trust(certificate: tuple[str, str]) -> Callable[[], ssl.SSLContext]:
    """Return what trusts the tests' own certificate."""
    return lambda: ssl.create_default_context(cafile=certificate[0])


def _no_tls() -> ssl.SSLContext:
    raise AssertionError("no TLS was asked for")


async def _ask(url: str, *, tls: Callable[[], ssl.SSLContext] = _no_tls, proxy: str | None = None) -> Answer:
    route = Route(url, proxy=proxy, tls=tls)
    async with Pool(route.open, max_connections=1) as pool:
        client = HttpClient(url, route=route, user_agent="tests", exchange=pool.exchange)
        answers = [await client.get("/", timeout_seconds=TIMEOUT_SECONDS) for _ in range(2)]
    assert answers[0] == answers[1]
    return answers[1]


async def _refusal(url: str, *, tls: Callable[[], ssl.SSLContext] = _no_tls, proxy: str | None = None) -> str:
    with pytest.raises(NotConnectedError) as caught:
        await _ask(url, tls=tls, proxy=proxy)
    return str(caught.value)


async def test_uvloops_word_for_a_socket_that_is_gone_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes in place of an OSError; unexpected, it would end the service."""

    async def gone(*_: object, **__: object) -> socket.socket:
        raise RuntimeError("File descriptor 7 is used by transport")

    monkeypatch.setattr(route, "start_connection", gone)
    assert "is used by transport" in await _refusal("http://127.0.0.1:1")


@dataclass
class TunnelProxy:
    """A proxy that opens tunnels: any name is this machine. `tls` makes it an https one."""

    tls: ssl.SSLContext | None = None
    established: bytes = ESTABLISHED
    asked: list[Request] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Yield its port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        async with server, asyncio.TaskGroup() as self._pumps:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await read_request(reader, len(self.asked) + 1))
        writer.write(self.established)
        port = self.asked[-1].target.rpartition(":")[2]
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", int(port))
        self._pumps.create_task(_pump(reader, upstream_writer))
        self._pumps.create_task(_pump(upstream_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the other side has gone
    finally:
        writer.close()


# ---- Directly --------------------------------------------------------------------------------------------------------


async def test_without_tls() -> None:
    """A plain connection, kept; nobody asks what to trust."""
    async with RawHttp([OK]) as server:
        assert (await _ask(server.url)).body == b"{}"
        assert server.connections == 1


async def test_with_tls(certificate: tuple[str, str], trust: Callable[[], ssl.SSLContext]) -> None:
    """An encrypted connection, kept, to the host of that name."""
    async with RawHttp([OK], tls=tls_server(certificate)) as server:
        assert (await _ask(server.url, tls=trust)).body == b"{}"
        assert server.connections == 1


async def test_tls_that_ends_without_a_word_ends_a_body(
    certificate: tuple[str, str], trust: Callable[[], ssl.SSLContext]
) -> None:
    """As without TLS: a body without length is whole then."""
    until_closed = Reply(b"HTTP/1.1 200 OK\r\n\r\n{}", Then.CLOSE)
    async with RawHttp([until_closed], tls=tls_server(certificate)) as server:
        assert (await _ask(server.url, tls=trust)).body == b"{}"


async def test_nobody_listens() -> None:
    """The text names the host and the first cause."""
    assert (await _refusal(f"http://127.0.0.1:{_free_port()}")).startswith("127.0.0.1: ConnectionRefusedError: ")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def test_a_host_that_no_name_can_be() -> None:
    """What the name look-up will not even try is no connection either."""
    assert "Error: " in await _refusal(f"http://{'a' * 64}.example")


@pytest.mark.asyncio(loop_scope="function", loop_factories=["asyncio"])  # uvloop's look-up cannot be replaced
async def test_the_next_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not work costs no more than its time."""
    async with RawHttp([OK]) as server:
        ports = _free_port(), int(server.url.rpartition(":")[2])

        async def both(_host: str, _port: int, **_kind: object) -> list[object]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
        assert (await _ask("http://connect.example")).body == b"{}"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_a_certificate_must_be_trusted_and_of_that_name(name: str, certificate: tuple[str, str]) -> None:
    """Nothing is sent to anybody else: the certificate is for localhost, and known to nobody but these tests."""
    trusted = certificate[0] if name == "127.0.0.1" else None
    async with RawHttp([OK], tls=tls_server(certificate)) as server:
        url = server.url.replace("localhost", name)
        refusal = await _refusal(url, tls=lambda: ssl.create_default_context(cafile=trusted))
        assert not server.requests
    assert refusal.startswith(f"{name}: SSLCertVerificationError: ")


async def test_who_leaves_while_tls_begins_leaves_nothing_open(trust: Callable[[], ssl.SSLContext]) -> None:
    """The server, which does not answer the handshake, sees the connection end."""
    async with RawHttp() as server:
        opening = asyncio.ensure_future(Route(server.url.replace("http:", "https:"), proxy=None, tls=trust).open())
        await server.until(lambda: server.connections == 1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await server.until(lambda: server.open_connections == 0)


# ---- Through a proxy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_tunnel(scheme: str, certificate: tuple[str, str], trust: Callable[[], ssl.SSLContext]) -> None:
    """The proxy sees host and password and nothing else; TLS goes through it, over its own TLS if it has some."""
    proxy = TunnelProxy(tls_server(certificate) if scheme == "https" else None)
    async with RawHttp([OK], tls=tls_server(certificate)) as server, proxy.listening() as port:
        assert (await _ask(server.url, tls=trust, proxy=f"{scheme}://user:pass@localhost:{port}")).body == b"{}"
        assert server.connections == 1
        authority = server.url.removeprefix("https://")
    (asked,) = proxy.asked
    assert (asked.method, asked.target, asked.body) == ("CONNECT", authority, b"")
    assert asked.lower_headers == {"host": authority, "proxy-authorization": "Basic dXNlcjpwYXNz"}


async def test_a_plain_request_by_a_proxy(certificate: tuple[str, str], trust: Callable[[], ssl.SSLContext]) -> None:
    """No tunnel: the proxy reads the whole address; an https proxy over TLS."""
    for tls, scheme in ((None, "http"), (tls_server(certificate), "https")):
        async with RawHttp([OK], tls=tls) as proxy:
            where = proxy.url.replace(f"{scheme}://", f"{scheme}://user:pass@")
            assert (await _ask("http://connect.example/base", tls=trust, proxy=where)).body == b"{}"
            request = proxy.requests[-1]
        assert request.target == "http://connect.example/base/"
        assert request.lower_headers["host"] == "connect.example"
        assert request.lower_headers["proxy-authorization"] == "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(407, "who?", {"Proxy-Authenticate": "Basic"}), "NotConnectedError: the proxy answers CONNECT with 407"),
        (reply(302, "", {"Location": "/"}), "NotConnectedError: the proxy answers CONNECT with 302"),
        (Reply(b"", Then.CLOSE), "LostError: no whole answer: closed by the other side"),
        (Reply(b"HTTP/1.1 200 OK\r\n", Then.CLOSE), "LostError: no whole answer: closed by the other side"),
        (Reply(b"SSH-2.0-OpenSSH\r\n\r\n", Then.HANG), "NotHttpError: HttpParserError: "),
        (Reply(b"HTTP/1.1 200 OK\r\n" + b"X-A: a\r\n" * 5000 + b"\r\n", Then.HANG), "NotHttpError: more than 32 KiB "),
        (Reply(ESTABLISHED + b"extra", Then.HANG), "NotConnectedError: closed before TLS"),
        (Reply(ESTABLISHED, Then.CLOSE), ""),
        (Reply(ESTABLISHED, Then.RESET), ""),
        (Reply(ESTABLISHED, tail=b"HTTP/1.1 502 Sorry\r\n\r\n", tail_times=1), ""),
    ],
)
async def test_a_proxy_that_opens_no_tunnel(answer: Reply, said: str, trust: Callable[[], ssl.SSLContext]) -> None:
    """Whatever it does instead, nothing was sent, and the connection to it does not stay open."""
    async with RawHttp([answer]) as proxy:
        refusal = await _refusal("https://connect.example", tls=trust, proxy=proxy.url)
        await proxy.until(lambda: proxy.open_connections == 0)
        assert [request.method for request in proxy.requests] == ["CONNECT"]
    assert refusal.startswith(f"127.0.0.1: {said}")


@pytest.mark.parametrize("answer", [HANG, Reply(ESTABLISHED, Then.HANG)], ids=["proxy", "TLS"])
async def test_who_leaves_a_tunnel_that_does_not_open_leaves_nothing_open(
    answer: Reply, trust: Callable[[], ssl.SSLContext]
) -> None:
    """The proxy sees the connection end, whether it has answered or not."""
    async with RawHttp([answer]) as proxy:
        opening = asyncio.ensure_future(Route("https://connect.example", proxy=proxy.url, tls=trust).open())
        await proxy.until(lambda: len(proxy.requests) == 1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await proxy.until(lambda: proxy.open_connections == 0)


async def test_the_host_behind_a_tunnel_must_prove_its_name(
    certificate: tuple[str, str], trust: Callable[[], ssl.SSLContext]
) -> None:
    """Not the proxy's name counts, but the endpoint's."""
    proxy = TunnelProxy()
    async with RawHttp([OK], tls=tls_server(certificate)) as server, proxy.listening() as port:
        url = server.url.replace("localhost", "connect.example")
        refusal = await _refusal(url, tls=trust, proxy=f"http://localhost:{port}")
        assert not server.requests
    assert "SSLCertVerificationError" in refusal


async def test_a_name_is_looked_up_by_the_proxy_alone() -> None:
    """The endpoint's own need not be known here."""
    async with RawHttp([OK]) as proxy:
        assert (await _ask("http://no-such-name.invalid", proxy=proxy.url)).status == 200


# ---- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["ftp://connect.example", "connect.example", "http://", "https:///path", ""])
async def test_what_is_no_url_of_http_is_refused(url: str) -> None:
    """At once, for the endpoint and for the proxy."""
    with pytest.raises(ValueError, match="neither http:// nor https://"):
        Route(url, proxy=None, tls=_no_tls)
    with pytest.raises(ValueError, match="neither http:// nor https://"):
        Route("http://connect.example", proxy=url, tls=_no_tls)
