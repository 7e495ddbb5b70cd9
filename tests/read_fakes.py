"""What the tests of the reads share: a transport that answers as it is told, and pacers that no test exhausts."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from fakes import FakeClock
from monitor_contact_service.core.failures import Failure
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.core.reads import ReadRequest
from monitor_contact_service.core.wire import Answer
from monitor_contact_service.read_quota import PacedReads, ReadTransport

# For tests of everything but the pace: so much that no wait for a token is more than what a pacer takes for rounding.
PLENTY = Quota(rate=1e9, burst=1_000)


def found(document: Mapping[str, object]) -> Answer:
    """Return a success."""
    return Answer(200, {}, json.dumps(document).encode())


def refused(name: str, status: int, **headers: str) -> Answer:
    """Return an error of Connect."""
    return Answer(status, {"x-amzn-errortype": name, **headers}, b'{"Message": "said"}')


THROTTLED = refused("ThrottlingException", 429)
BROKEN = refused("InternalServiceException", 500)
EXPIRED = refused("ExpiredTokenException", 403)
DENIED = refused("AccessDeniedException", 403)


@dataclass
class FakeReads:
    """Answers what `answer` says, a Failure by raising it; `takes_seconds` pass on the clock with each attempt.

    `hold` is awaited before each answer, so that a test can look at what is under way.
    """

    clock: FakeClock
    answer: Callable[[ReadRequest], Answer | Failure]
    takes_seconds: float = 0.0
    hold: Callable[[], Awaitable[object]] | None = None
    sent: list[tuple[float, ReadRequest]] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    renewals: int = 0

    @property
    def counts(self) -> Counter[str]:
        """How often each read was sent."""
        return Counter(str(request.api) for _, request in self.sent)

    @property
    def times(self) -> list[float]:
        """When something was sent."""
        return [at for at, _ in self.sent]

    async def read(self, request: ReadRequest, *, timeout_seconds: float) -> Answer:
        """Answer."""
        self.sent.append((self.clock(), request))
        self.timeouts.append(timeout_seconds)
        if self.hold is not None:
            await self.hold()
        await self.clock.elapse(min(self.takes_seconds, timeout_seconds))
        answer = self.answer(request)
        if isinstance(answer, Failure):
            raise answer
        return answer

    async def renew_credentials(self) -> None:
        """Count it."""
        self.renewals += 1


def script(*answers: Answer | Failure) -> Callable[[ReadRequest], Answer | Failure]:
    """Return what gives one answer after the other, the last one for ever."""
    left = list(answers)

    def next_one(_: ReadRequest) -> Answer | Failure:
        return left.pop(0) if len(left) > 1 else left[0]

    return next_one


def paced(transport: ReadTransport, clock: FakeClock, quota: Quota = PLENTY, replicas: int = 1) -> PacedReads:
    """Return the reads by a clock that moves when somebody sleeps by it; chance is always in the middle."""
    return PacedReads(
        transport,
        quota=quota,
        replicas=replicas,
        attempt_timeout_seconds=3.0,
        clock=clock,
        sleep=clock.sleep,
        draw=lambda: 0.5,
    )
