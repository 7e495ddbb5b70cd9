"""Keeps connections for further requests, last in first out, so that those not needed grow old and are dropped."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from monitor_contact_service.core.wire import Answer

from .connection import Connection
from .errors import NotConnectedError

# Connections are thrown away after 15 s without use: before any front end that is known to close idle ones (20 s and
# more).
KEEP_ALIVE_SECONDS: Final = 15.0
# For a place and for a new connection: name look-up, proxy and TLS included.
CONNECT_TIMEOUT_SECONDS: Final = 1.0


class Pool:
    """At most `max_connections` connections, each with one exchange at a time. To be used in one event loop.

    Args:
        connect: opens one.
        max_connections: further exchanges wait for one that ends.
        keep_alive_seconds: how long one may be idle.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        max_connections: int,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._keep_alive_seconds = keep_alive_seconds
        self._clock = clock
        # One for each exchange, so that never more are open: a new one is opened only while none is idle.
        self._places = asyncio.Semaphore(max_connections)
        self._idle: deque[Connection] = deque()  # the longest idle one first
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        await asyncio.sleep(0)  # the loop's turn in which the transports release their sockets

    async def exchange(self, request: bytes, timeout_seconds: float) -> Answer:
        """Send a request on a connection of the pool and return its answer.

        Raises:
            NotConnectedError: no connection within `CONNECT_TIMEOUT_SECONDS`, or `timeout_seconds` if that is less.
            LostError, NotHttpError: no whole answer, after `timeout_seconds` in all at the latest.
        """
        started = self._clock()
        # While others wait for a place, an idle connection is the next one's in turn.
        connection = None if self._places.locked() else self._take_idle(started)
        if connection is not None:
            await self._places.acquire()  # there is one
        else:
            connection = await self._place_and_connection(min(CONNECT_TIMEOUT_SECONDS, timeout_seconds))
            timeout_seconds -= self._clock() - started
        try:
            return await connection.exchange(request, timeout_seconds)
        finally:
            self._keep(connection)
            self._places.release()

    async def _place_and_connection(self, timeout_seconds: float) -> Connection:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._places.acquire()
                try:
                    return self._take_idle(self._clock()) or await self._connect()
                except BaseException:
                    self._places.release()
                    raise
        except TimeoutError as error:
            raise NotConnectedError(f"TimeoutError: no connection within {timeout_seconds:.3f} s") from error

    def _take_idle(self, now: float) -> Connection | None:
        while self._idle and now - self._idle[0].idle_since >= self._keep_alive_seconds:
            self._idle.popleft().close()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
        elif not connection.closed:
            connection.idle_since = self._clock()
            self._idle.append(connection)
