"""Sends reads within Connect's quota of each, in turns that are fair between callers, and repeats what is worth it.

What a failure is worth decides `core.retry`, whose turn it is `turns`, whether there is time for it `core.chance`.
Quotas belong to the account and Region: other tools that read there use them up too.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

from .core import chance, retry, wire
from .core.asking import Asking
from .core.failures import Failure
from .core.fairness import FairQueue
from .core.latency import MedianSeconds
from .core.outage import Outage
from .core.pacing import Quota
from .core.reads import Api, ReadRequest
from .core.wire import Answer
from .core.work import Work
from .quota import LocalQuota
from .telemetry import fields
from .turns import Turns

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
            api: self._line(LocalQuota(_quota_of(api, quota), replicas=replicas, clock=clock)) for api in Api
        }

    def _line(self, tokens: LocalQuota) -> Turns:
        """Return those who wait for one kind of read; all callers weigh the same, and no outage is looked for."""
        return Turns(
            tokens=tokens,
            queue=FairQueue(weights={}),
            outage=Outage(),
            call_seconds=self._call_seconds,
            clock=self._clock,
            draw=self._draw,
        )

    async def ask(
        self,
        request: ReadRequest,
        understand: Callable[[Answer], Value],
        asking: Asking,
        *,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> Value:
        """Return what Connect answers, understood.

        Args:
            request: what to ask.
            understand: of `core.reads`; raises Failure for an answer that is an error.
            asking: for whom, and until when.
            max_attempts: how often to ask.

        Raises:
            Failure: the last one, when another attempt is not worth it or comes too late; if there is no turn in time
                for the first, OVERLOADED if that was known when it asked or after a 429, else DEADLINE_TOO_SHORT.
        """
        line = self._lines[request.api]
        attempt = 0
        refreshed = False
        last: Failure | None = None
        while True:
            try:
                await self._turn(line, asking)
                asking.begun = True
            except Failure as refusal:
                raise (last or refusal) from None  # what Connect said says more than that there is no turn in time
            attempt += 1
            try:
                return await self._attempt(request, understand, asking)
            except Failure as failure:
                last = failure
                wait = self._wait_seconds(failure, line, asking, attempt=attempt, refreshed=refreshed)
                _log_failed(request.api, failure, attempt, wait)
                self._label(failure, line, asking, attempt)
                if wait is None or attempt == max_attempts:
                    raise
            if retry.classify(last) is retry.RetryClass.CREDENTIALS:
                refreshed = True
                await self._renew(asking)
            await self._sleep(wait)

    async def _turn(self, line: Turns, asking: Asking) -> None:
        """Wait for a turn that comes in time, or raise the Failure that says why none does."""
        while True:
            deadline = asking.deadline
            left, call_seconds = deadline - self._clock(), self._call_seconds.seconds
            start_seconds = line.start_seconds(asking.caller, deadline, again=False)
            chance.require_time(left, call_seconds)
            chance.require_quota(left, call_seconds, start_seconds, self._draw())
            if start_seconds == 0 and line.try_take() is not None:
                return
            try:
                await line.take(asking.caller, Work(deadline), again=False)
            except Failure:
                if asking.deadline > deadline:  # others have joined, who wait longer
                    continue
                raise
            return

    async def _attempt(self, request: ReadRequest, understand: Callable[[Answer], Value], asking: Asking) -> Value:
        started = self._clock()
        timeout_seconds = max(0.001, min(self._attempt_timeout_seconds, asking.deadline - started))
        value = understand(await self._transport.read(request, timeout_seconds=timeout_seconds))
        self._call_seconds.observe(self._clock() - started)
        return value

    def _wait_seconds(
        self, failure: Failure, line: Turns, asking: Asking, *, attempt: int, refreshed: bool
    ) -> float | None:
        if retry.classify(failure) is retry.RetryClass.THROTTLED:
            line.throttled(failure.retry_after_seconds)
            line.refuse_late()
        return retry.wait_seconds(
            failure,
            attempt=attempt,
            time_left=asking.deadline - self._clock(),
            call_seconds=self._call_seconds.seconds,
            draw=self._draw(),
            refreshed=refreshed,
            in_outage=False,
            may_be_at_work=False,
        )

    async def _renew(self, asking: Asking) -> None:
        """Fetch the credentials anew, or as much of it as there is time for: then there is no turn left either."""
        with suppress(TimeoutError):
            async with asyncio.timeout(asking.deadline - self._clock()):
                await self._transport.renew_credentials()

    def _label(self, failure: Failure, line: Turns, asking: Asking, attempt: int) -> None:
        """Say how often it was tried, and when a repetition of the call can succeed: nothing has been acted on."""
        failure.metadata["attempts"] = str(attempt)
        hint = max(failure.retry_after_seconds or 0.0, line.start_seconds(asking.caller, asking.deadline, again=False))
        again = retry.classify(failure) in {retry.RetryClass.TRANSIENT, retry.RetryClass.THROTTLED}
        failure.retry_after_seconds = chance.come_again(hint, self._draw()) if again else None


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
