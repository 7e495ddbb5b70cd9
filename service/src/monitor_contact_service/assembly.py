"""Puts the steps of a request together from the settings and what touches the outside. Starts nothing, owns nothing.

`__main__` gives it the real outside; tests and benchmarks give it fakes, and replace single steps of the result.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from .access import Access
from .admission import Admission, AdmissionObserver
from .attempts import AttemptObserver, Attempts, Transport
from .audit import Audit, AuditLog, AuditObserver
from .authentication import Authenticator, Tokens
from .authorization import AssumedSupervisors, Authorization, TolerantSupervisors
from .core.fairness import FairQueue
from .core.latency import MedianSeconds
from .core.outage import Outage
from .core.policy import Policies
from .core.rates import Rates
from .diagnosis import Diagnosis
from .handler import Deadlines, MonitorContactHandler, Steps
from .idempotency import Idempotency
from .read_quota import PacedReads, ReadTransport
from .reasons import TABLE
from .settings import Settings
from .supervisors import Supervisors
from .tracing import NOT_TRACED, Tracer
from .turns import TokenSource, Turns


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Timing:
    """The time that all steps share.

    Attributes:
        clock: monotonic seconds.
        utc_now: the time of day, aware.
        sleep: waits for seconds.
        draw: uniform in [0, 1), for jitter.
    """

    clock: Callable[[], float] = time.monotonic
    utc_now: Callable[[], datetime] = _utc_now
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random


class Observer(AdmissionObserver, AttemptObserver, AuditObserver, Protocol):
    """Is told what happens, for the metrics: `metrics.Metrics`."""


class ConnectTransport(Transport, ReadTransport, Protocol):
    """What is asked of Connect: `connect.Connect`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the steps meet the world by.

    Attributes:
        connect: sends calls and reads.
        tokens: of the quota of MonitorContact.
        audit_log: where calls are recorded.
        verifier: of bearer tokens; None if none are accepted.
        observer: is told what happens.
        tracer: makes spans of the waits.
        caller_name: what log and metrics call a principal id: one of few names.
        timing: the time.
        call_seconds: what a call usually takes, as it is learned.
        outage: what is known of Connect's health.
    """

    connect: ConnectTransport
    tokens: TokenSource
    audit_log: AuditLog
    verifier: Tokens | None = None
    observer: Observer
    tracer: Tracer = NOT_TRACED
    caller_name: Callable[[str], str] = str
    timing: Timing = field(default_factory=Timing)
    call_seconds: MedianSeconds = field(default_factory=MedianSeconds)
    outage: Outage = field(default_factory=Outage)


def assemble(settings: Settings, access: Access, policies: Policies, outside: Outside) -> Steps:
    """Return the steps of a replica."""
    timing = outside.timing
    reads = PacedReads(
        outside.connect,
        quota=settings.read_quota,
        replicas=settings.quota_replicas,
        attempt_timeout_seconds=settings.attempt_timeout_seconds,
        clock=timing.clock,
        sleep=timing.sleep,
        draw=timing.draw,
    )
    return Steps(
        authenticator=Authenticator(access, tokens=outside.verifier, tls=bool(settings.tls_cert_file)),
        authorization=Authorization(
            access,
            policies,
            timezone=ZoneInfo(settings.policy_timezone),
            supervisor_check=settings.supervisor_check,
            utc_now=timing.utc_now,
        ),
        supervisors=_supervisors(settings, reads, timing),
        audit=Audit(
            outside.audit_log,
            code_of=lambda reason: TABLE[reason].code.name,
            timeout_seconds=settings.audit_timeout_seconds,
            clock=timing.clock,
            observer=outside.observer,
        ),
        idempotency=Idempotency(clock=timing.clock),
        rates=Rates(
            caller_per_minute=settings.caller_rate_per_minute,
            supervisor_per_minute=settings.supervisor_rate_per_minute,
        ),
        admission=_admission(settings, outside),
        attempts=Attempts(
            transport=outside.connect,
            attempt_timeout_seconds=settings.attempt_timeout_seconds,
            call_seconds=outside.call_seconds,
            clock=timing.clock,
            sleep=timing.sleep,
            draw=timing.draw,
            observer=outside.observer,
        ),
        diagnosis=Diagnosis(reads, clock=timing.clock) if settings.diagnosis == "auto" else None,
    )


def handler_of(settings: Settings, steps: Steps, outside: Outside) -> MonitorContactHandler:
    """Return the handler that a request meets these steps in."""
    return MonitorContactHandler(
        steps,
        deadlines=Deadlines(settings.default_deadline_seconds, settings.max_deadline_seconds),
        clock=outside.timing.clock,
        utc_now=outside.timing.utc_now,
        tracer=outside.tracer,
        caller_name=outside.caller_name,
    )


def _supervisors(
    settings: Settings, reads: PacedReads, timing: Timing
) -> Supervisors | TolerantSupervisors | AssumedSupervisors:
    if settings.supervisor_check == "off":
        return AssumedSupervisors()
    supervisors = Supervisors(
        reads, rule=settings.restricted_supervisors, clock=timing.clock, wall_clock=lambda: timing.utc_now().timestamp()
    )
    return supervisors if settings.supervisor_check == "enforce" else TolerantSupervisors(supervisors)


def _admission(settings: Settings, outside: Outside) -> Admission:
    timing = outside.timing
    turns = Turns(
        tokens=outside.tokens,
        queue=FairQueue(weights=settings.caller_weights),
        outage=outside.outage,
        call_seconds=outside.call_seconds,
        clock=timing.clock,
        draw=timing.draw,
    )
    return Admission(
        turns=turns,
        outage=outside.outage,
        limits=settings.limits,
        call_seconds=outside.call_seconds,
        observer=outside.observer,
        clock=timing.clock,
        draw=timing.draw,
    )
