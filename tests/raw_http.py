"""An HTTP server made of bytes: replays exactly what it is given over real sockets, and keeps what it was sent.

Knows just enough of HTTP to tell where a request ends; nothing that a client could rely on is added to an answer.
"""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self

_REQUEST_MAX_BYTES = 1024 * 1024


class Then(Enum):
    """What happens to the connection after the bytes of a reply."""

    KEEP = auto()
    CLOSE = auto()
    RESET = auto()
    HANG = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """The bytes that one request is answered with; `tail` is sent `tail_times` times after them."""

    raw: bytes
    then: Then = Then.KEEP
    tail: bytes = b""
    tail_times: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived. `headers` keep their spelling and order; `connection` counts from 1."""

    connection: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def lower_headers(self) -> dict[str, str]:
        """The headers with their names in lower case."""
        return {name.lower(): value for name, value in self.headers}

    @property
    def document(self) -> dict[str, str]:
        """The JSON body of a call to Connect."""
        parsed: dict[str, str] = json.loads(self.body)
        return parsed


def reply(
    status: int = 200, body: bytes | str = b"", headers: Mapping[str, str] | None = None, then: Then = Then.KEEP
) -> Reply:
    """Return a well-formed answer with the length of its body, and no header that is not asked for."""
    content = body.encode() if isinstance(body, str) else body
    named = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return Reply(f"HTTP/1.1 {status} Said\r\n{named}Content-Length: {len(content)}\r\n\r\n".encode() + content, then)


@dataclass
class RawHttp:
    """The n-th request gets the n-th reply of `script`, whatever connection it comes by; the last one repeats.

    `tls` makes it an https server. `written` counts the bytes of tails that have left.
    """

    script: Iterable[Reply] = ()
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    written: int = 0

    def __post_init__(self) -> None:
        self.script = list(self.script)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._tasks)

    @property
    def url(self) -> str:
        """The endpoint, e.g. `http://127.0.0.1:49152`."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"https://localhost:{port}" if self.tls else f"http://127.0.0.1:{port}"

    def answers(self, *script: Reply) -> None:
        """Start anew with another script and nothing remembered; connections stay open."""
        self.script = list(script)
        self.requests.clear()

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait for what the server can see: a connection, a request, the end of a reply."""
        async with self._changed:
            await self._changed.wait_for(happened)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", 0, ssl=self.tls, limit=_REQUEST_MAX_BYTES
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._notify()
            await self._serve(reader, writer, self.connections)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            with suppress(asyncio.CancelledError):
                await self._notify()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        while True:
            self.requests.append(await read_request(reader, connection))
            script = list(self.script)
            answer = script[min(len(self.requests), len(script)) - 1] if script else Reply(b"", Then.HANG)
            await self._notify()
            writer.write(answer.raw)
            await writer.drain()
            for _ in range(answer.tail_times):
                writer.write(answer.tail)
                await writer.drain()
                self.written += len(answer.tail)
                await asyncio.sleep(0)  # drain alone would never let the client of the same loop read
            if answer.then is Then.HANG:
                await reader.read()  # until the client leaves
                return
            if answer.then is Then.RESET:
                connected: socket.socket = writer.get_extra_info("socket")
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if answer.then is not Then.KEEP:
                return

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def read_request(reader: asyncio.StreamReader, connection: int) -> Request:
    """Return the next request of a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = request_line.split(" ")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Request(connection, method, target, headers, await reader.readexactly(length))
