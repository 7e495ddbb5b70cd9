"""Fakes of this project's own seams: a clock that is told the time, a transport that replays a script."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from botocore.credentials import ReadOnlyCredentials
from monitor_contact_service.core.command import MonitoringSession
from monitor_contact_service.core.failures import Failure

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

    async def sleep(self, seconds: float) -> None:
        """Pass the time at once, and remember it."""
        self.slept.append(seconds)
        self.now += seconds


@dataclass(frozen=True, slots=True)
class Sent:
    """One attempt as the transport saw it."""

    body: bytes
    timeout_seconds: float
    attempt: int
    invocation_id: str
    at: float


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

    async def monitor_contact(
        self, body: bytes, *, timeout_seconds: float, attempt: int, max_attempts: int, invocation_id: str
    ) -> MonitoringSession:
        """Play the next line of the script."""
        assert attempt <= max_attempts
        self.sent.append(Sent(body, timeout_seconds, attempt, invocation_id, self.clock()))
        self.clock.advance(min(self.takes_seconds, timeout_seconds))
        line = self.script[len(self.sent) - 1] if len(self.sent) <= len(self.script) else SESSION
        if isinstance(line, Failure):
            raise line
        return line

    async def renew_credentials(self) -> None:
        """Count it."""
        self.renewals += 1


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
