"""The service in virtual time: its own admission, attempts, pacing, fairness and retry code over the model of Connect.

Nothing of it is rebuilt here; only gRPC, HTTP and signing are left out.
"""

import asyncio
import itertools
from collections.abc import Callable
from random import Random

from arrivals import Call
from monitor_contact_service.admission import Admission
from monitor_contact_service.attempts import Attempts, Transport
from monitor_contact_service.core.command import Capability, MonitorCommand, MonitoringSession
from monitor_contact_service.core.deadline import deadline_at
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.fairness import FairQueue
from monitor_contact_service.core.latency import MedianSeconds
from monitor_contact_service.core.outage import Outage
from monitor_contact_service.core.work import Work
from monitor_contact_service.metrics import Metrics
from monitor_contact_service.quota import LocalQuota
from monitor_contact_service.settings import Settings
from monitor_contact_service.turns import TokenSource, Turns
from upstream import Answer, Upstream

# The defaults, or what the environment says: so that other settings can be tried.
SETTINGS = Settings()

_SESSION = MonitoringSession(contact_id="session", contact_arn="arn:session", aws_request_id="aws-1")
_FAILURES = {
    Answer.THROTTLED: (Reason.THROTTLED, False),
    Answer.ERROR: (Reason.INTERNAL_SERVICE, True),
    Answer.TIMED_OUT: (Reason.CONNECT_UNREACHABLE, True),
}


class ModelledConnect:
    """The transport of `attempts`, to the model of Connect."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def monitor_contact(
        self, body: bytes, *, timeout_seconds: float, attempt: int, max_attempts: int, invocation_id: str, barge: bool
    ) -> MonitoringSession:
        """Make one attempt; a Failure is raised as `connect` would."""
        del body, attempt, max_attempts, invocation_id, barge
        answer = await self._upstream.send(timeout_seconds)
        if answer is Answer.SUCCESS:
            return _SESSION
        reason, outcome_unknown = _FAILURES[answer]
        raise Failure(reason, outcome_unknown=outcome_unknown)

    async def renew_credentials(self, *, barge: bool = False) -> None:
        """Nothing to do: the model knows no credentials."""


class Service:
    """One process of the service, composed as `__main__` does."""

    def __init__(self, admission: Admission, attempts: Attempts, clock: Callable[[], float]) -> None:
        self._admission = admission
        self._attempts = attempts
        self._clock = clock
        self._numbers = itertools.count()

    async def monitor(self, call: Call) -> bool:
        """Make one call; True if it succeeded."""
        now = self._clock()
        deadline = deadline_at(
            now,
            call.deadline - now,
            default_seconds=SETTINGS.default_deadline_seconds,
            max_seconds=SETTINGS.max_deadline_seconds,
        )
        work = Work(deadline)
        command = MonitorCommand("instance", "contact", "user", (Capability.SILENT_MONITOR,), str(next(self._numbers)))
        try:
            async with self._admission.place(call.caller, work) as place:
                await self._attempts.monitor(command, command.client_token, place)
        except Failure:
            return False
        return True


def service(upstream: Upstream, clock: Callable[[], float], draws: Random) -> Service:
    """Return the policy: all callers call one process."""
    tokens = LocalQuota(SETTINGS.quota, clock=clock)
    return Service(*compose(tokens, ModelledConnect(upstream), clock, draws), clock)


def compose(
    tokens: TokenSource, transport: Transport, clock: Callable[[], float], draws: Random
) -> tuple[Admission, Attempts]:
    """Return steps 5 and 6 of a process that takes its tokens from `tokens`."""
    call_seconds, outage, metrics = MedianSeconds(), Outage(), Metrics()
    turns = Turns(
        tokens=tokens,
        queue=FairQueue(weights=SETTINGS.caller_weights),
        outage=outage,
        call_seconds=call_seconds,
        clock=clock,
        draw=draws.random,
    )
    admission = Admission(
        turns=turns,
        outage=outage,
        limits=SETTINGS.limits,
        call_seconds=call_seconds,
        observer=metrics,
        clock=clock,
        draw=draws.random,
    )
    attempts = Attempts(
        transport=transport,
        attempt_timeout_seconds=SETTINGS.attempt_timeout_seconds,
        call_seconds=call_seconds,
        clock=clock,
        sleep=asyncio.sleep,
        draw=draws.random,
        observer=metrics,
    )
    return admission, attempts
