"""Brings an answer, or the lack of one, onto the socket.

Decides nothing: `faults` says in which way an answer is to go wrong, this module does it to the connection.
"""

import asyncio
import socket
import struct

from aiohttp import web

from .answers import Answer


def respond(answer: Answer) -> web.Response:
    """Return the answer for aiohttp to send."""
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


def drop(request: web.BaseRequest, *, reset: bool = False) -> web.Response:
    """End the connection without an answer, by FIN or by RST. What is returned finds no connection to go to."""
    transport = request.transport
    if transport is not None and reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    elif transport is not None:
        transport.close()
    return web.Response()


def truncate(request: web.BaseRequest, answer: Answer) -> web.Response:
    """Announce the whole answer, send half of its body, end the connection."""
    if request.transport is not None:
        names = {**answer.headers, "Content-Length": str(max(2, len(answer.body)))}
        head = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        status_line = f"HTTP/1.1 {answer.status} Truncated\r\n"
        request.transport.write(f"{status_line}{head}\r\n".encode() + answer.body[: len(answer.body) // 2])
    return drop(request)


async def hang(request: web.BaseRequest, released: asyncio.Event) -> web.Response:
    """Keep the caller waiting until it goes away by itself or the simulator closes."""
    await released.wait()
    return drop(request)


async def respond_and_close(request: web.BaseRequest, answer: Answer) -> web.Response:
    """Send the answer as if the connection were kept, then close it: the caller's next use finds it stale."""
    response = respond(answer)
    await response.prepare(request)
    await response.write_eof()
    drop(request)
    return response
