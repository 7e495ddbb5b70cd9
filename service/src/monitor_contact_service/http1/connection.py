"""One connection: sends a request in one write and waits for its answer, until a given time."""

import asyncio
import ssl
from typing import cast

from monitor_contact_service.core.wire import Answer

from .errors import HttpError, LostError, NotConnectedError, NotHttpError, said
from .reader import AnswerReader


class Connection(asyncio.Protocol):
    """One exchange at a time. Whatever is not a whole answer to a request closes it, at once.

    Args:
        head_only: the answer ends after its head (CONNECT).
    """

    def __init__(self, *, head_only: bool = False) -> None:
        self.closed = False
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader(head_only=head_only)
        self._waiter: asyncio.Future[Answer | HttpError] | None = None
        self._timeout_seconds = 0.0

    async def exchange(self, request: bytes, timeout_seconds: float) -> Answer:
        """Send the bytes of a request and return the answer. A caller who leaves closes the connection.

        Raises:
            NotConnectedError: it was closed before.
            LostError, NotHttpError: no whole answer, after `timeout_seconds` at the latest.
        """
        if self.closed or self._transport is None:
            raise NotConnectedError("closed by the other side before anything was sent")
        self._reader.start()
        self._waiter = waiter = self._loop.create_future()
        self._timeout_seconds = timeout_seconds
        timer = self._loop.call_later(timeout_seconds, self._time_out)
        self._transport.write(request)
        try:
            outcome = await waiter
        finally:
            timer.cancel()
            if self._waiter is not None:  # cancelled: the answer may still come, and nobody would know whose it is
                self._waiter = None
                self.close()
        if isinstance(outcome, Answer):
            return outcome
        raise outcome

    async def start_tls(self, upper: "Connection", context: ssl.SSLContext, server_hostname: str) -> None:
        """Speak TLS from now on, and let `upper` speak over it.

        Raises:
            NotConnectedError, OSError: it does not come about.
        """
        if self.closed:
            raise NotConnectedError("closed before TLS")
        transport = await self._loop.start_tls(
            cast("asyncio.Transport", self._transport), upper, context, server_hostname=server_hostname
        )
        upper.connection_made(cast("asyncio.Transport", transport))  # asyncio leaves this to the caller

    def close(self) -> None:
        """Give the connection up, without waiting for anything."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # ---- Called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be open."""
        self._transport = cast("asyncio.Transport", transport)
        if self.closed:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on. Bytes that nobody has asked for end the connection: the next request must not take them for its."""
        if self._waiter is None:
            self.close()
            return
        try:
            answer = self._reader.feed(data)
        except NotHttpError as error:
            self._finish(error, reusable=False)
            return
        if answer is not None:
            self._finish(answer, reusable=self._reader.reusable)

    def eof_received(self) -> None:
        """Be closed when the other side is, not only after the transport has noticed."""
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Be closed."""
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        whole = self._reader.end() if error is None and self._waiter is not None and not self.closed else None
        what = said(error) if error is not None else "closed by the other side"
        self._finish(whole or LostError(f"no whole answer: {what}"), reusable=False)

    def _time_out(self) -> None:
        self._finish(LostError(f"TimeoutError: no whole answer within {self._timeout_seconds:.3f} s"), reusable=False)

    def _finish(self, outcome: Answer | HttpError, *, reusable: bool) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():  # done: cancelled in this very turn of the loop
            waiter.set_result(outcome)
        if not reusable:
            self.close()
