"""Sends reads within Connect's quota of each, in the order in which they are asked for, and repeats what is worth it.

What a failure is worth decides `core.retry`, when a token comes `quota`, whether there is time for it `core.chance`.
Quotas belong to the account and Region: other tools that read there use them up too.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeVar

from .core import chance, retry, wire
from .core.failures import Failure
from .core.latency import MedianSeconds
from .core.pacing import Quota
from .core.reads import Api, ReadRequest
from .core.wire import Answer
from .quota import LocalQuota
from .telemetry import fields

_log = logging.getLogger(__name__)

# A check that takes longer leaves no time for the call that it is for (choice).
MAX_ATTEMPTS: Final = 3
# DescribeContact has five times the rate of the others, and three times the burst (AWS service quotas: 10/s, 15).
_CONTACT_RATE: Final = 5
_CONTACT_BURST: Final = 3

Value = TypeVar("Value")


class ReadTransport(Protocol):
    """What this module needs of `connect.Connect`; see there."""

    async def read(self, request: ReadRequest, *, timeout_seconds: float) -> Answer:
        """Send a read once."""

    async def renew_credentials(self) -> None:
        """Fetch the credentials anew."""


class PacedReads:
    """The reads of one account and Region.

    Args:
        transport: sends one attempt.
        quota: what Connect allows of each read (of DescribeContact more, in AWS's proportion) to all replicas together.
        replicas: the most of them that ever run; each takes its part.
        attempt_timeout_seconds: the longest that one attempt may take.
        clock: monotonic seconds.
        sleep: waits for seconds.
        draw: uniform in [0, 1).
    """

    def __init__(
        self,
        transport: ReadTransport,
        *,
        quota: Quota,
        replicas: int = 1,
        attempt_timeout_seconds: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._call_seconds = MedianSeconds()
        self._lines = {
            api: _Line(LocalQuota(_quota_of(api, quota), replicas=replicas, clock=clock), sleep) for api in Api
        }

    async def ask(
        self,
        request: ReadRequest,
        understand: Callable[[Answer], Value],
        latest: Callable[[], float],
        *,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> Value:
        """Return what Connect answers, understood.

        Args:
            request: what to ask.
            understand: of `core.reads`; raises Failure for an answer that is an error.
            latest: the deadline, monotonic seconds; asked for anew each time.
            max_attempts: how often to ask.

        Raises:
            Failure: the last one, when another attempt is not worth it or comes too late; if there is no turn in time
                for the first, OVERLOADED, or DEADLINE_TOO_SHORT where nobody waits.
        """
        line = self._lines[request.api]
        attempt = 0
        refreshed = False
        last: Failure | None = None
        while True:
            try:
                await line.turn(partial(self._require, latest))
            except Failure as refusal:
                raise (last or refusal) from None  # what Connect said says more than that there is no turn in time
            attempt += 1
            try:
                return await self._attempt(request, understand, latest)
            except Failure as failure:
                last = failure
                wait = self._wait_seconds(failure, line, latest, attempt=attempt, refreshed=refreshed)
                _log_failed(request.api, failure, attempt, wait)
                self._label(failure, line, attempt)
                if wait is None or attempt == max_attempts:
                    raise
            if retry.classify(last) is retry.RetryClass.CREDENTIALS:
                refreshed = True
                await self._renew(latest)
            await self._sleep(wait)

    def _require(self, latest: Callable[[], float], start_seconds: float) -> None:
        """Raise Failure if an attempt that starts in so many seconds comes too late."""
        left, call_seconds = latest() - self._clock(), self._call_seconds.seconds
        chance.require_time(left, call_seconds)
        chance.require_quota(left, call_seconds, start_seconds, self._draw())

    async def _attempt(
        self, request: ReadRequest, understand: Callable[[Answer], Value], latest: Callable[[], float]
    ) -> Value:
        started = self._clock()
        timeout_seconds = max(0.001, min(self._attempt_timeout_seconds, latest() - started))
        value = understand(await self._transport.read(request, timeout_seconds=timeout_seconds))
        self._call_seconds.observe(self._clock() - started)
        return value

    def _wait_seconds(
        self, failure: Failure, line: "_Line", latest: Callable[[], float], *, attempt: int, refreshed: bool
    ) -> float | None:
        if retry.classify(failure) is retry.RetryClass.THROTTLED:
            line.tokens.throttled(failure.retry_after_seconds)
        return retry.wait_seconds(
            failure,
            attempt=attempt,
            time_left=latest() - self._clock(),
            call_seconds=self._call_seconds.seconds,
            draw=self._draw(),
            refreshed=refreshed,
            in_outage=False,
            may_be_at_work=False,
        )

    async def _renew(self, latest: Callable[[], float]) -> None:
        """Fetch the credentials anew, or as much of it as there is time for: then there is no turn left either."""
        with suppress(TimeoutError):
            async with asyncio.timeout(latest() - self._clock()):
                await self._transport.renew_credentials()

    def _label(self, failure: Failure, line: "_Line", attempt: int) -> None:
        """Say how often it was tried, and when a repetition of the call can succeed: nothing has been acted on."""
        failure.metadata["attempts"] = str(attempt)
        hint = max(failure.retry_after_seconds or 0.0, line.start_seconds())
        again = retry.classify(failure) in {retry.RetryClass.TRANSIENT, retry.RetryClass.THROTTLED}
        failure.retry_after_seconds = chance.come_again(hint, self._draw()) if again else None


class _Line:
    """The quota of one read, and those who wait for it, first come, first served."""

    def __init__(self, tokens: LocalQuota, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.tokens = tokens
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._waiting = 0

    def start_seconds(self) -> float:
        """Return when the next one to come would have a turn."""
        return self.tokens.start_seconds(self._waiting)

    async def turn(self, require: Callable[[float], None]) -> None:
        """Wait for a turn; `require` raises if so many seconds are too long."""
        require(self.start_seconds())
        self._waiting += 1
        try:
            async with self._turn:
                while (wait := self.tokens.wait_seconds()) > 0:
                    require(wait)  # a 429 in the meantime moves everybody's turn
                    await self._sleep(wait)
                require(0.0)
                self.tokens.take()
        finally:
            self._waiting -= 1


def _quota_of(api: Api, quota: Quota) -> Quota:
    if api is Api.DESCRIBE_CONTACT:
        return Quota(quota.rate * _CONTACT_RATE, quota.burst * _CONTACT_BURST)
    return quota


def _log_failed(api: Api, failure: Failure, attempt: int, wait_seconds: float | None) -> None:
    level = logging.INFO if retry.classify(failure) is retry.RetryClass.FINAL else logging.WARNING
    _log.log(
        level,
        "read failed",
        extra=fields(
            api=api,
            attempt=attempt,
            reason=failure.reason,
            said=wire.loggable(failure.log_text),
            aws_request_id=failure.metadata.get("aws_request_id", ""),
            retry_in_seconds=wait_seconds,
        ),
    )
