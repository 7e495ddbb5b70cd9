"""Step 6: calls Connect, asks `core.retry` what a failure is worth, waits, repeats. The one layer that retries.

Every attempt of a call carries the same body with the same ClientToken; only the signature is new.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import uuid4

from .core import chance, retry, wire
from .core.command import Capability, MonitorCommand, MonitoringSession
from .core.failures import Failure, Reason
from .core.latency import MedianSeconds
from .core.work import Work
from .telemetry import fields

_log = logging.getLogger(__name__)

_NOBODYS_FAULT = {retry.RetryClass.FINAL, retry.RetryClass.AT_WORK}
_NOT_AUTHORIZED = "is not authorized to perform"


class Place(Protocol):
    """What this module needs of `admission.Place`; see there."""

    work: Work

    @property
    def probing(self) -> bool:
        """True if the attempt at hand is a probe."""

    @property
    def in_outage(self) -> bool:
        """True while only probes are sent."""

    async def again(self) -> None:
        """Wait for a further turn."""

    def succeeded(self) -> None:
        """Report that the attempt succeeded."""

    def failed(self, failure: Failure) -> None:
        """Report how the attempt failed."""

    def come_again_seconds(self) -> float:
        """Return when a repetition of this call could be sent."""


class Transport(Protocol):
    """What this module needs of `connect.Connect`; see there."""

    async def monitor_contact(
        self,
        body: bytes,
        *,
        timeout_seconds: float,
        attempt: int,
        max_attempts: int,
        invocation_id: str,
        barge: bool,
    ) -> MonitoringSession:
        """Send one attempt."""

    async def renew_credentials(self, *, barge: bool = False) -> None:
        """Fetch the credentials anew."""


class AttemptObserver(Protocol):
    """Is told of repetitions."""

    def retried(self, cause: Reason) -> None:
        """Note that a failed attempt is followed by another."""


class Attempts:
    """Calls Connect until it answers for good, the attempts are used up or the time is.

    Args:
        transport: sends one attempt.
        attempt_timeout_seconds: the longest that one attempt may take.
        call_seconds: learns from every success and tells what a call usually takes.
        clock: monotonic seconds.
        sleep: waits for seconds.
        draw: uniform in [0, 1).
        observer: is told of repetitions.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        attempt_timeout_seconds: float,
        call_seconds: MedianSeconds,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
        observer: AttemptObserver,
    ) -> None:
        self._observer = observer
        self._transport = transport
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._call_seconds = call_seconds
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._budget = retry.RetryBudget()

    @property
    def retry_budget(self) -> float:
        """How many further attempts successes have earned."""
        return self._budget.left

    async def monitor(
        self, command: MonitorCommand, client_token: str, place: Place, *, repeated: bool = False
    ) -> MonitoringSession:
        """Return the session that Connect has started for `command`, by the deadline of the place's work.

        Args:
            command: what to ask for; its own client_token is not sent.
            client_token: the one that all attempts carry; "" for one that is made for this call.
            place: has its first turn already; is asked for each further one.
            repeated: the caller has sent this call before: Connect may still be at work on it.

        Raises:
            Failure: Connect's final answer, or the last failure when another attempt is not worth it.
        """
        call = _Call(command, client_token, repeated=repeated)
        while True:
            try:
                return await self._attempt(call, place)
            except Failure as failure:
                wait = await self._wait_seconds(failure, call, place)
                _log_failed(failure, call, wait)
                if wait is None or not await self._another(wait, place):
                    raise self._given_up(failure, call, place) from failure
                self._observer.retried(failure.reason)

    async def _attempt(self, call: "_Call", place: Place) -> MonitoringSession:
        call.count(probe=place.probing)
        started = self._clock()
        place.work.sending = True
        try:
            session = await self._transport.monitor_contact(
                call.body,
                timeout_seconds=max(0.001, min(self._attempt_timeout_seconds, place.work.deadline - started)),
                attempt=call.attempt,
                max_attempts=max(retry.MAX_ATTEMPTS, call.attempt),  # probes of an outage come on top
                invocation_id=call.invocation_id,
                barge=call.barge,
            )
        except Failure as failure:
            # After an ambiguous attempt no later refusal proves that nothing started.
            call.outcome_unknown = failure.outcome_unknown = failure.outcome_unknown or call.outcome_unknown
            place.work.unknown = call.outcome_unknown
            place.failed(failure)
            raise
        finally:
            place.work.sending = False
        place.succeeded()
        self._call_seconds.observe(self._clock() - started)
        self._budget.earn()
        return session

    async def _wait_seconds(self, failure: Failure, call: "_Call", place: Place) -> float | None:
        """Return how long to wait before another turn is asked for, or None to give up."""
        if place.work.abandoned:
            return None
        wait = retry.wait_seconds(
            failure,
            attempt=call.counted,
            time_left=place.work.deadline - self._clock(),
            call_seconds=self._call_seconds.seconds,
            draw=self._draw(),
            refreshed=call.refreshed,
            in_outage=place.in_outage,
            may_be_at_work=call.repeated or call.outcome_unknown,
        )
        match retry.classify(failure):
            case retry.RetryClass.CREDENTIALS if wait is not None:
                call.refreshed = True
                return await self._renew(call, place.work)
            case retry.RetryClass.TRANSIENT if wait is not None and not place.in_outage:
                return wait if self._budget.spend() else None
        return wait

    async def _renew(self, call: "_Call", work: Work) -> float | None:
        """Fetch the credentials anew; no wait, or None if that left too little time for another attempt."""
        try:
            async with asyncio.timeout(work.deadline - self._clock()):
                await self._transport.renew_credentials(barge=call.barge)
        except TimeoutError:
            return None
        return 0.0 if self._clock() + self._call_seconds.seconds <= work.deadline else None

    async def _another(self, wait_seconds: float, place: Place) -> bool:
        """Wait, then for a turn; False if there is none in time: the failure at hand says more than that."""
        if wait_seconds:
            await self._sleep(wait_seconds)
        try:
            await place.again()
        except Failure:
            return False
        return True

    def _given_up(self, failure: Failure, call: "_Call", place: Place) -> Failure:
        """Say how often it was tried and when the caller may come again.

        Without a client_token of the caller's, its repetition has a new one: if the outcome is unknown, it could start
        a second session, so no time to come again is named.
        """
        failure.metadata["attempts"] = str(call.attempt)
        worth_repeating = retry.classify(failure) in {retry.RetryClass.TRANSIENT, retry.RetryClass.THROTTLED}
        if worth_repeating and (call.command.client_token or not failure.outcome_unknown):
            hint = max(failure.retry_after_seconds or 0.0, place.come_again_seconds())
            failure.retry_after_seconds = chance.come_again(hint, self._draw())
        else:
            failure.retry_after_seconds = None
        return failure


class _Call:
    """What the attempts of one call share."""

    __slots__ = (
        "attempt",
        "barge",
        "body",
        "command",
        "counted",
        "invocation_id",
        "outcome_unknown",
        "refreshed",
        "repeated",
    )

    def __init__(self, command: MonitorCommand, client_token: str, *, repeated: bool) -> None:
        self.command = command
        self.repeated = repeated
        self.barge = Capability.BARGE in command.capabilities
        self.invocation_id = str(uuid4())
        self.body = wire.encode(command, client_token or self.invocation_id)
        self.attempt = 0
        self.counted = 0  # without probes of an outage: those are few, and everybody's
        self.refreshed = False
        self.outcome_unknown = False

    def count(self, *, probe: bool) -> None:
        self.attempt += 1
        self.counted += not probe


def _log_failed(failure: Failure, call: _Call, wait_seconds: float | None) -> None:
    """Log what Connect said, without the identifiers that it repeats: those belong to the audit record."""
    if _NOT_AUTHORIZED in failure.log_text:
        level = logging.ERROR  # IAM's words: the role of this service is wrong, nobody can monitor
    else:
        level = logging.INFO if retry.classify(failure) in _NOBODYS_FAULT else logging.WARNING
    _log.log(
        level,
        "attempt failed",
        extra=fields(
            attempt=call.attempt,
            reason=failure.reason,
            said=wire.loggable(failure.log_text),
            aws_request_id=failure.metadata.get("aws_request_id", ""),
            retry_in_seconds=wait_seconds,
        ),
    )
