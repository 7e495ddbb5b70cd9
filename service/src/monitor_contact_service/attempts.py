"""Step 6: calls Connect, asks `core.retry` what a failure is worth, waits, repeats. The one layer that retries.

Every attempt of a call carries the same body with the same ClientToken; only the signature is new.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import uuid4

from .core import retry, wire
from .core.command import MonitorCommand, MonitoringSession
from .core.failures import Failure, Reason
from .core.latency import MedianSeconds
from .telemetry import fields

_log = logging.getLogger(__name__)

# A caller that is told to come again is told at least this (half a second refills one token of Connect's quota).
COME_AGAIN_MIN_SECONDS = 0.5
# And at most this, whatever Connect asks for: a broken Retry-After must not send callers away for years.
COME_AGAIN_MAX_SECONDS = 60.0
# +0-20 %, so that callers refused together do not return together.
COME_AGAIN_JITTER = 0.2
_NOT_AUTHORIZED = "is not authorized to perform"


class Transport(Protocol):
    """What this module needs of `connect.Connect`; see there."""

    async def monitor_contact(
        self, body: bytes, *, timeout_seconds: float, attempt: int, max_attempts: int, invocation_id: str
    ) -> MonitoringSession:
        """Send one attempt."""

    async def renew_credentials(self) -> None:
        """Fetch the credentials anew."""


class Attempts:
    """Calls Connect until it answers for good, the attempts are used up or the time is.

    Args:
        transport: sends one attempt.
        attempt_timeout_seconds: the longest that one attempt may take.
        call_seconds: learns from every success and tells what a call usually takes.
        clock: monotonic seconds.
        sleep: waits for seconds.
        draw: uniform in [0, 1).
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
    ) -> None:
        self._transport = transport
        self._attempt_timeout_seconds = attempt_timeout_seconds
        self._call_seconds = call_seconds
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._budget = retry.RetryBudget()

    async def monitor(self, command: MonitorCommand, deadline: float) -> MonitoringSession:
        """Return the session that Connect has started for `command`, by `deadline` on the monotonic clock.

        Raises:
            Failure: Connect's final answer, or the last failure when another attempt is not worth it.
        """
        invocation_id = str(uuid4())
        body = wire.encode(command, command.client_token or invocation_id)
        outcome_unknown = refreshed = False
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(body, deadline, attempt, invocation_id)
            except Failure as failure:
                # After an ambiguous attempt no later refusal proves that nothing started.
                outcome_unknown = failure.outcome_unknown = failure.outcome_unknown or outcome_unknown
                wait = self._wait_seconds(failure, attempt, deadline, refreshed=refreshed)
                _log_failed(failure, command, attempt, wait)
                if wait is not None and failure.reason is Reason.SERVICE_CREDENTIALS:
                    refreshed = True
                    wait = await self._renew(deadline)
                if wait is None:
                    raise self._given_up(failure, command, attempt) from failure
            await self._sleep(wait)

    async def _attempt(self, body: bytes, deadline: float, attempt: int, invocation_id: str) -> MonitoringSession:
        started = self._clock()
        session = await self._transport.monitor_contact(
            body,
            timeout_seconds=max(0.001, min(self._attempt_timeout_seconds, deadline - started)),
            attempt=attempt,
            max_attempts=retry.MAX_ATTEMPTS,
            invocation_id=invocation_id,
        )
        self._call_seconds.observe(self._clock() - started)
        self._budget.earn()
        return session

    async def _renew(self, deadline: float) -> float | None:
        """Fetch the credentials anew; no wait, or None if that left too little time for another attempt."""
        try:
            async with asyncio.timeout(deadline - self._clock()):
                await self._transport.renew_credentials()
        except TimeoutError:
            return None
        return 0.0 if self._clock() + self._call_seconds.seconds <= deadline else None

    def _wait_seconds(self, failure: Failure, attempt: int, deadline: float, *, refreshed: bool) -> float | None:
        wait = retry.wait_seconds(
            failure,
            attempt=attempt,
            time_left=deadline - self._clock(),
            call_seconds=self._call_seconds.seconds,
            draw=self._draw(),
            refreshed=refreshed,
        )
        if wait is None or retry.classify(failure) is not retry.RetryClass.TRANSIENT:
            return wait
        return wait if self._budget.spend() else None

    def _given_up(self, failure: Failure, command: MonitorCommand, attempts: int) -> Failure:
        """Say how often it was tried and when the caller may come again.

        Without a client_token of the caller's, its repetition has a new one: if the outcome is unknown, it could start
        a second session, so no time to come again is named.
        """
        failure.metadata["attempts"] = str(attempts)
        worth_repeating = retry.classify(failure) in {retry.RetryClass.TRANSIENT, retry.RetryClass.THROTTLED}
        if worth_repeating and (command.client_token or not failure.outcome_unknown):
            hint = min(max(COME_AGAIN_MIN_SECONDS, failure.retry_after_seconds or 0.0), COME_AGAIN_MAX_SECONDS)
            failure.retry_after_seconds = hint * (1 + COME_AGAIN_JITTER * self._draw())
        else:
            failure.retry_after_seconds = None
        return failure


def _log_failed(failure: Failure, command: MonitorCommand, attempt: int, wait_seconds: float | None) -> None:
    """Log what Connect said, without the identifiers that it repeats: those belong to the audit record."""
    said = failure.log_text
    for identifier in (command.instance_id, command.contact_id, command.user_id):
        said = said.replace(identifier, "[id]")
    if _NOT_AUTHORIZED in failure.log_text:
        level = logging.ERROR  # IAM's words: the role of this service is wrong, nobody can monitor
    else:
        level = logging.INFO if retry.classify(failure) is retry.RetryClass.FINAL else logging.WARNING
    _log.log(
        level,
        "attempt failed",
        extra=fields(
            attempt=attempt,
            reason=failure.reason,
            said=said,
            aws_request_id=failure.metadata.get("aws_request_id", ""),
            retry_in_seconds=wait_seconds,
        ),
    )
