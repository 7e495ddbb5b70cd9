"""What stands for Connect in virtual time: a token bucket in front of a call of 150 ms, and faults on request.

The same model for every policy. Two requests a second and a burst of five are AWS's documented quota; how long a call
takes and that a refused call costs nothing are assumptions (AWS documents neither), so each is a field of `Behaviour`.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

LEG_SECONDS = 0.03
LEG_SPREAD = (0.3, 1.7)
SERVICE_SECONDS = 0.15
SERVICE_SIGMA = 0.4
ERROR_SECONDS = 0.05
HANG_SECONDS = 5.0


class Answer(Enum):
    """How an attempt ended."""

    SUCCESS = "success"
    THROTTLED = "throttled"
    ERROR = "error"  # a 500
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` on, before `end`. Seconds of virtual time."""

    start: float
    end: float

    def __contains__(self, now: float) -> bool:
        return self.start <= now < self.end


NEVER = Span(math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What Connect does in a scenario.

    Args:
        rate: requests per second that the quota allows.
        burst: what the bucket holds; it starts full.
        refused_cost: tokens that a refused call takes.
        floor: how far refused calls can empty the bucket.
        slow: when the bucket is filled at `slow_rate` instead of `rate`.
        slow_rate: see `slow`.
        error_share: part of the admitted calls that end as 500s.
        errors: when all calls end as 500s, before they meet the bucket.
        hangs: when all calls hang until they are timed out, before they meet the bucket.
    """

    rate: float = 2.0
    burst: int = 5
    refused_cost: float = 0.0
    floor: float = 0.0
    slow: Span = NEVER
    slow_rate: float = 1.0
    error_share: float = 0.0
    errors: Span = NEVER
    hangs: Span = NEVER


class Bucket:
    """Connect's own token bucket."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._level = float(behaviour.burst)
        self._filled_at = 0.0

    def admit(self, now: float) -> bool:
        """Take a token at `now`; False if there was none."""
        self._fill(now)
        if self._level >= 1:
            self._level -= 1
            return True
        self._level = max(self._behaviour.floor, self._level - self._behaviour.refused_cost)
        return False

    def _fill(self, now: float) -> None:
        behaviour, slow = self._behaviour, self._behaviour.slow
        slowly = max(0.0, min(now, slow.end) - max(self._filled_at, slow.start))
        tokens = behaviour.rate * (now - self._filled_at - slowly) + behaviour.slow_rate * slowly
        self._level = min(float(behaviour.burst), self._level + tokens)
        self._filled_at = now


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as Connect met it. `at` is when it was sent."""

    at: float
    answer: Answer


class Upstream:
    """Connect.

    Args:
        behaviour: what it does.
        clock: virtual seconds.
        draws: the source of all that is random here.
    """

    def __init__(self, behaviour: Behaviour, clock: Callable[[], float], draws: Random) -> None:
        self._behaviour = behaviour
        self._bucket = Bucket(behaviour)
        self._clock = clock
        self._draws = draws
        self._attempts: list[Attempt] = []

    @property
    def attempts(self) -> Sequence[Attempt]:
        """Every attempt that has ended, in the order of their ends."""
        return self._attempts

    async def send(self, timeout_seconds: float = math.inf) -> Answer:
        """Make one attempt and return how it ended; TIMED_OUT after `timeout_seconds` without an answer."""
        started = self._clock()
        leg = self._leg_seconds()
        await asyncio.sleep(min(leg, timeout_seconds))
        answer, seconds = self._decide() if leg < timeout_seconds else (Answer.TIMED_OUT, 0.0)
        left = started + timeout_seconds - self._clock()
        if seconds > left:
            answer, seconds = Answer.TIMED_OUT, left
        await asyncio.sleep(seconds)
        self._attempts.append(Attempt(started, answer))
        return answer

    def _decide(self) -> tuple[Answer, float]:
        """Return the answer to a request that has just arrived, and how long it takes from here to its sender."""
        now = self._clock()
        if now in self._behaviour.hangs:
            return Answer.TIMED_OUT, HANG_SECONDS
        if now in self._behaviour.errors:
            return Answer.ERROR, ERROR_SECONDS + self._leg_seconds()
        if not self._bucket.admit(now):
            return Answer.THROTTLED, self._leg_seconds()
        if self._draws.random() < self._behaviour.error_share:
            return Answer.ERROR, ERROR_SECONDS + self._leg_seconds()
        return Answer.SUCCESS, SERVICE_SECONDS * self._draws.lognormvariate(0.0, SERVICE_SIGMA) + self._leg_seconds()

    def _leg_seconds(self) -> float:
        return LEG_SECONDS * self._draws.uniform(*LEG_SPREAD)
