"""`http1.connection` in its pool, against real sockets: what ends an exchange, and what ends a connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from monitor_contact_service.core.wire import ANSWER_MAX_BYTES, Answer
from monitor_contact_service.http1 import LostError, NotConnectedError, NotHttpError, Pool
from monitor_contact_service.http1.connection import Connection
from raw_http import RawHttp, Reply, Then, reply

pytestmark = pytest.mark.asyncio(loop_scope="function")

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
OK = reply(200, "{}")
ANSWER = Answer(200, {"content-length": "2"}, b"{}")
HANG = Reply(b"", Then.HANG)


class Watched(Connection):
    """Tells when the loop has told of its end."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = asyncio.Event()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell."""
        super().connection_lost(error)
        self.lost.set()


class Rig:
    """A server, and a pool of connections to it."""

    def __init__(self, server: RawHttp) -> None:
        self.server = server
        self.opened: list[Watched] = []
        self.pool = Pool(self._connect, max_connections=10)

    async def _connect(self) -> Connection:
        address = urlsplit(self.server.url)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Watched, address.hostname or "", address.port or 0)
        self.opened.append(connection)
        return connection

    async def ask(self, timeout_seconds: float = 5.0) -> Answer:
        """Exchange a request for an answer."""
        return await self.pool.exchange(REQUEST, timeout_seconds)

    @property
    def connections_used(self) -> list[int]:
        """By which connection each request came, counted from 1."""
        return [request.connection for request in self.server.requests]


@asynccontextmanager
async def _to(*script: Reply) -> AsyncIterator[Rig]:
    async with RawHttp(script) as server:
        rig = Rig(server)
        async with rig.pool:
            yield rig


async def test_requests_in_turn_share_a_connection() -> None:
    """As long as the answers allow it; at the end nothing stays open."""
    async with RawHttp([OK]) as server:
        rig = Rig(server)
        async with rig.pool:
            for _ in range(10):
                assert await rig.ask() == ANSWER
        assert rig.connections_used == [1] * 10
        await server.until(lambda: server.open_connections == 0)


async def test_requests_at_the_same_time_have_a_connection_each() -> None:
    """None waits for the answer to another one."""
    async with _to(HANG) as rig:
        asked = [asyncio.ensure_future(rig.ask()) for _ in range(3)]
        await rig.server.until(lambda: len(rig.server.requests) == 3)
        assert sorted(rig.connections_used) == [1, 2, 3]
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)


class _Recorder(asyncio.Transport):
    """Keeps what is written, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes | bytearray | memoryview] = []
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written.append(data)

    def abort(self) -> None:
        """Remember it."""
        self.aborted = True


async def test_a_request_leaves_in_one_piece() -> None:
    """One write, so one packet: no front end waits for the rest of it."""
    connection, transport = Connection(), _Recorder()
    connection.connection_made(transport)
    exchange = asyncio.ensure_future(connection.exchange(REQUEST, 5))
    await asyncio.sleep(0)
    assert transport.written == [REQUEST]
    for byte in OK.raw:
        connection.data_received(bytes([byte]))
    assert await exchange == ANSWER


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET], ids=lambda then: then.name)
async def test_a_connection_that_the_server_closes_while_idle_is_not_used(then: Then) -> None:
    """Its end is known as soon as the loop has seen it: the next request goes by another one."""
    async with _to(Reply(OK.raw, then)) as rig:
        assert await rig.ask() == ANSWER
        await rig.opened[0].lost.wait()
        assert await rig.ask() == ANSWER
        assert rig.connections_used == [1, 2]


@pytest.mark.parametrize("extra", [OK.raw, b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"\0", b"\r\n"])
async def test_bytes_that_nobody_has_asked_for_end_the_connection(extra: bytes) -> None:
    """The answer before them counts; the next request cannot take them for its own answer."""
    connection, transport = Connection(), _Recorder()
    connection.connection_made(transport)
    exchange = asyncio.ensure_future(connection.exchange(REQUEST, 5))
    await asyncio.sleep(0)
    connection.data_received(OK.raw)
    connection.data_received(extra)
    assert await exchange == ANSWER
    assert connection.closed
    assert transport.aborted
    with pytest.raises(NotConnectedError):
        await connection.exchange(REQUEST, 5)
    assert transport.written == [REQUEST]


async def test_a_connection_that_was_given_up_early_does_not_stay_open() -> None:
    """Bytes may come through a new tunnel before its transport is known: the transport is closed all the same."""
    connection, transport = Connection(), _Recorder()
    connection.data_received(b"early")
    connection.connection_made(transport)
    assert transport.aborted


async def test_a_second_answer_is_nobodys() -> None:
    """Whether it comes together with the first one or after it: the next request has a connection of its own."""
    twice = Reply(OK.raw, tail=reply(500).raw, tail_times=1)
    async with _to(twice, OK) as rig:
        assert await rig.ask() == ANSWER
        await rig.opened[0].lost.wait()
        assert await rig.ask() == ANSWER
        assert rig.connections_used == [1, 2]


@pytest.mark.parametrize("headers", [b"Connection: close\r\n", b""], ids=["close", "HTTP/1.0"])
async def test_a_server_that_does_not_keep_connections_is_believed(headers: bytes) -> None:
    """They are closed after the answer, without waiting for the server to do it."""
    version = b"HTTP/1.1" if headers else b"HTTP/1.0"
    async with _to(Reply(version + b" 200 OK\r\n" + headers + b"Content-Length: 2\r\n\r\n{}")) as rig:
        for _ in range(2):
            assert (await rig.ask()).body == b"{}"
        assert rig.connections_used == [1, 2]


async def test_an_answer_may_come_in_pieces() -> None:
    """Head, then body bit by bit, then another request on the same connection."""
    slow = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n", tail=b"x", tail_times=64)
    async with _to(slow, OK) as rig:
        assert (await rig.ask()).body == b"x" * 64
        assert await rig.ask() == ANSWER
        assert rig.connections_used == [1, 1]


async def test_a_body_may_end_with_the_connection() -> None:
    """Without a length, the end of the connection is the end of the answer."""
    async with _to(Reply(b"HTTP/1.1 200 OK\r\n\r\n", Then.CLOSE, tail=b"x", tail_times=64)) as rig:
        assert (await rig.ask()).body == b"x" * 64


async def test_a_body_over_the_limit_is_not_read_on() -> None:
    """What is beyond one byte more than 64 KiB stays with the server."""
    endless = Reply(b"HTTP/1.1 200 OK\r\n\r\n", tail=b"x" * 64 * 1024, tail_times=4096)
    async with _to(endless) as rig:
        assert len((await rig.ask()).body) == ANSWER_MAX_BYTES + 1
        await rig.server.until(lambda: rig.server.open_connections == 0)
        assert rig.server.written < 32 * 1024 * 1024


@pytest.mark.parametrize(
    "answer",
    [
        Reply(b"", Then.CLOSE),
        Reply(b"", Then.RESET),
        Reply(OK.raw[:-1], Then.CLOSE),
        Reply(OK.raw[:-1], Then.RESET),
        Reply(OK.raw[:20], Then.CLOSE),
        Reply(b"HTTP/1.1 200 OK\r\n\r\n{", Then.RESET),
        Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", Then.CLOSE),
    ],
)
@pytest.mark.parametrize("on", ["a new connection", "a used one"])
async def test_a_connection_that_ends_too_early_is_lost(answer: Reply, on: str) -> None:
    """The request was sent, once; whether it was carried out, nobody knows."""
    async with _to(*([OK, answer] if on == "a used one" else [answer])) as rig:
        if on == "a used one":
            await rig.ask()
        with pytest.raises(LostError, match="no whole answer: "):
            await rig.ask()
        assert set(rig.connections_used) == {1}


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"])
async def test_what_is_no_http_costs_its_connection(nonsense: bytes) -> None:
    """Where it ends cannot be known; the next request has another connection."""
    async with _to(Reply(nonsense, Then.HANG), OK) as rig:
        with pytest.raises(NotHttpError, match="HttpParserError: "):
            await rig.ask()
        assert await rig.ask() == ANSWER
        assert rig.connections_used == [1, 2]


# ---- Who does not wait -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [HANG, Reply(OK.raw[:20], Then.HANG), Reply(OK.raw[:-1], Then.HANG)])
async def test_an_answer_that_does_not_come_in_time_is_lost(answer: Reply) -> None:
    """Its connection is closed: it may still come, and nobody would know whose it is."""
    async with _to(OK, answer, OK) as rig:
        await rig.ask()
        with pytest.raises(LostError, match=r"TimeoutError: no whole answer within 0\.050 s"):
            await rig.ask(0.05)
        await rig.server.until(lambda: rig.server.open_connections == 0)
        assert await rig.ask() == ANSWER
        assert rig.connections_used == [1, 1, 2]


async def test_the_time_is_for_the_whole_answer() -> None:
    """A server that sends a byte now and then is not waited for any longer."""
    drip = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", Then.HANG, tail=b"x", tail_times=59_999)
    async with _to(drip) as rig:
        with pytest.raises(LostError, match="TimeoutError"):
            await rig.ask(0.1)


@pytest.mark.parametrize("answer", [HANG, Reply(OK.raw[:-1], Then.HANG)])
async def test_a_caller_who_leaves_closes_the_connection(answer: Reply) -> None:
    """The server sees it at once; the next request has another connection."""
    async with _to(answer, OK) as rig:
        asked = asyncio.ensure_future(rig.ask())
        await rig.server.until(lambda: len(rig.server.requests) == 1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await rig.server.until(lambda: rig.server.open_connections == 0)
        assert await rig.ask() == ANSWER
        assert rig.connections_used == [1, 2]


@pytest.mark.parametrize("outcome", [OK.raw, b"nonsense\r\n\r\n"])
async def test_a_caller_may_leave_in_the_turn_in_which_the_answer_comes(outcome: bytes) -> None:
    """It is cancelled, and no error is left that nobody has seen; a whole answer leaves the connection usable."""
    connection = Connection()
    connection.connection_made(_Recorder())
    exchange = asyncio.ensure_future(connection.exchange(REQUEST, 5))
    await asyncio.sleep(0)
    connection.data_received(outcome)
    exchange.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange
    assert connection.closed is (outcome != OK.raw)


async def test_an_answer_may_come_in_the_turn_in_which_its_caller_has_left() -> None:
    """It is nobody's then, but it was whole: nothing goes wrong."""
    connection = Connection()
    connection.connection_made(_Recorder())
    exchange = asyncio.ensure_future(connection.exchange(REQUEST, 5))
    await asyncio.sleep(0)
    exchange.cancel()
    connection.data_received(OK.raw)
    with pytest.raises(asyncio.CancelledError):
        await exchange
    assert not connection.closed
