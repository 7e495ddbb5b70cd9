"""Fakes of this project's own seams: a clock that is told the time, a transport that replays a script."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from botocore.credentials import ReadOnlyCredentials
from monitor_contact_service.core.command import MonitoringSession
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.work import Work

SESSION = MonitoringSession(contact_id="session", contact_arn="arn:session", aws_request_id="aws-1")


class FakeClock:
    """A monotonic clock that moves only when told, or when somebody sleeps by it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Return the present."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        self.now += seconds

    async def elapse(self, seconds: float) -> None:
        """Move the time forward."""
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        """Pass the time at once, and remember it."""
        self.slept.append(seconds)
        self.now += seconds


class FreeTokens:
    """A quota without end that 429s do not slow down; counts what is taken."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.taken = 0

    def wait_seconds(self) -> float:
        """Return 0: there is always one."""
        return 0.0

    def start_seconds(self, ahead: int) -> float:
        """Return 0, whoever is ahead."""
        return 0.0 * ahead

    def take(self) -> None:
        """Count it."""
        self.taken += 1

    def give_back(self) -> None:
        """Count it back."""
        self.taken -= 1

    def throttled(self, hint_seconds: float | None) -> None:
        """Take no notice."""


class ReadableTokens(FreeTokens):
    """A quota without end that shows what it is told to: a configured rate of 2/s, shared or not."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = 2.0
        self.shared = True

    def rate(self) -> float:
        """Return a third of the quota when it is not shared."""
        return self.limit if self.shared else self.limit / 3

    def tokens(self) -> float:
        """Return 4."""
        return 4.0


@dataclass
class FakeObserver:
    """Remembers what admission tells: the waits of admitted calls, the reasons of refusals, the rest by number."""

    waits: list[float] = field(default_factory=list)
    refusals: list[Reason] = field(default_factory=list)
    left: int = 0
    throttles: int = 0
    retries: list[Reason] = field(default_factory=list)
    records: list[str] = field(default_factory=list)

    def admitted(self, wait_seconds: float) -> None:
        """Remember the wait, in seconds."""
        self.waits.append(wait_seconds)

    def refused(self, reason: Reason) -> None:
        """Remember the reason."""
        self.refusals.append(reason)

    def abandoned(self) -> None:
        """Count it."""
        self.left += 1

    def throttled(self) -> None:
        """Count it."""
        self.throttles += 1

    def retried(self, cause: Reason) -> None:
        """Remember the cause."""
        self.retries.append(cause)

    def appended(self, stage: str, seconds: float) -> None:
        """Remember the stage of a durable record."""
        assert seconds >= 0
        self.records.append(stage)


@dataclass
class FakePlace:
    """A place with a turn for whoever asks; remembers what is reported, None for a success.

    `refusal` is raised in place of every further turn. After `outage_after` failures in a row, turns are those of
    probes. `come_again` is what it answers, in seconds.
    """

    work: Work
    refusal: Failure | None = None
    outage_after: float = math.inf
    come_again: float = 0.0
    turns: int = 1
    probing: bool = False
    reports: list[Failure | None] = field(default_factory=list)
    _failures: int = 0

    @property
    def in_outage(self) -> bool:
        """Return whether enough attempts have failed."""
        return self._failures >= self.outage_after

    async def again(self) -> None:
        """Give a turn at once."""
        if self.refusal:
            raise self.refusal
        self.turns += 1
        self.probing = self.in_outage

    def succeeded(self) -> None:
        """Remember it."""
        self.reports.append(None)
        self._failures = 0

    def failed(self, failure: Failure) -> None:
        """Remember it."""
        self.reports.append(failure)
        self._failures += 1

    def come_again_seconds(self) -> float:
        """Return what it was told."""
        return self.come_again


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt as the transport saw it."""

    body: bytes
    timeout_seconds: float
    attempt: int
    invocation_id: str
    at: float
    barge: bool


@dataclass
class FakeTransport:
    """Replays `script`: a session is returned, a Failure raised; after its end, SESSION for ever.

    `takes_seconds` pass on the clock with each attempt.
    """

    clock: FakeClock
    script: Sequence[MonitoringSession | Failure] = ()
    takes_seconds: float = 0.15
    sent: list[Sent] = field(default_factory=list)
    renewals: int = 0
    barge_renewals: int = 0

    async def monitor_contact(
        self, body: bytes, *, timeout_seconds: float, attempt: int, max_attempts: int, invocation_id: str, barge: bool
    ) -> MonitoringSession:
        """Play the next line of the script."""
        assert attempt <= max_attempts
        self.sent.append(Sent(body, timeout_seconds, attempt, invocation_id, self.clock(), barge))
        self.clock.advance(min(self.takes_seconds, timeout_seconds))
        line = self.script[len(self.sent) - 1] if len(self.sent) <= len(self.script) else SESSION
        if isinstance(line, Failure):
            raise line
        return line

    async def renew_credentials(self, *, barge: bool = False) -> None:
        """Count it."""
        self.renewals += 1
        self.barge_renewals += barge


class FakeCredentials:
    """Credentials that are always there, or never."""

    def __init__(
        self, access_key: str = "AKIDSIMULATOR", secret_key: str = "simulator-secret", token: str | None = None
    ) -> None:
        self.current: ReadOnlyCredentials | None = ReadOnlyCredentials(access_key, secret_key, token)
        self.renewals = 0

    async def renew(self) -> None:
        """Count it."""
        self.renewals += 1
