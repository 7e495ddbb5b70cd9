"""boto3's retry modes in virtual time: what a caller gets that uses boto3 by itself.

Cubic rate, measured rate and retry quota are botocore's own objects. Its token bucket blocks a thread and its sleeps do
too, so these are written again here, after botocore 1.44.5's `retries.bucket` and `retries.standard` (1.43.117 where
the lines differ). `real_boto3.py` shows that the result is that of the real thing.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from arrivals import Call
from botocore.retries.adaptive import RateClocker
from botocore.retries.bucket import Clock
from botocore.retries.quota import RetryQuota
from botocore.retries.throttling import CubicCalculator
from simulation import PolicyFactory
from upstream import Answer, Upstream

BACKOFF_CAP_SECONDS = 20.0
QUOTA_PER_SUCCESS = 1
# A waiter could otherwise sleep for less than the clock can tell, for ever.
CLOCK_SECONDS = 1e-9


@dataclass(frozen=True, slots=True)
class Mode:
    """A retry mode: how often, how long to wait, and what a retry takes from the client's quota.

    Args:
        attempts: at most, the first included.
        backoff_seconds: by answer: the upper end of the wait before the first retry; doubled for each further one.
        backoff_cap_seconds: where the doubling ends.
        costs: by answer, out of 500; None: the mode has no quota.
        adaptive: True if the client slows itself down after a 429.
    """

    attempts: int
    backoff_seconds: dict[Answer, float]
    backoff_cap_seconds: float
    costs: dict[Answer, int] | None
    adaptive: bool = False


_SLOW = {Answer.THROTTLED: 1.0, Answer.ERROR: 1.0, Answer.TIMED_OUT: 1.0}
_COSTS_1_43 = {Answer.THROTTLED: 5, Answer.ERROR: 5, Answer.TIMED_OUT: 10}
_FAST = {Answer.THROTTLED: 1.0, Answer.ERROR: 0.05, Answer.TIMED_OUT: 0.05}
_COSTS_1_44 = {Answer.THROTTLED: 5, Answer.ERROR: 14, Answer.TIMED_OUT: 14}

LEGACY = Mode(5, _SLOW, float("inf"), None)
STANDARD_1_43 = Mode(3, _SLOW, BACKOFF_CAP_SECONDS, _COSTS_1_43)
STANDARD_1_44 = Mode(3, _FAST, BACKOFF_CAP_SECONDS, _COSTS_1_44)
ADAPTIVE_1_43 = Mode(3, _SLOW, BACKOFF_CAP_SECONDS, _COSTS_1_43, adaptive=True)
ADAPTIVE_1_44 = Mode(3, _FAST, BACKOFF_CAP_SECONDS, _COSTS_1_44, adaptive=True)


class Callers:
    """The policy of callers that use boto3 by themselves: a client each, or one that all share."""

    def __init__(self, new_client: Callable[[], "Client"], *, shared: bool) -> None:
        self._new_client = new_client
        self._shared = shared
        self._clients: dict[str, Client] = {}

    async def monitor(self, call: Call) -> bool:
        """Make a call with the caller's client; True if it succeeded."""
        name = "" if self._shared else call.caller
        if name not in self._clients:
            self._clients[name] = self._new_client()
        return await self._clients[name].monitor()


def boto3(mode: Mode, *, shared: bool) -> PolicyFactory:
    """Return the policy of callers that use boto3 in a retry mode."""

    def new_policy(upstream: Upstream, clock: Callable[[], float], draws: Random) -> Callers:
        return Callers(lambda: Client(mode, upstream, clock, draws), shared=shared)

    return new_policy


class Client:
    """One boto3 client, as several callers may share it."""

    def __init__(self, mode: Mode, upstream: Upstream, clock: Callable[[], float], draws: Random) -> None:
        self._mode = mode
        self._upstream = upstream
        self._draws = draws
        self._quota = RetryQuota()
        self._limiter = RateLimiter(clock) if mode.adaptive else None

    async def monitor(self) -> bool:
        """Make one call, with retries; True if it succeeded."""
        cost = 0
        for attempt in range(1, self._mode.attempts + 1):
            answer = await self._attempt()
            if answer is Answer.SUCCESS:
                self._quota.release(cost or QUOTA_PER_SUCCESS)
                return True
            if attempt == self._mode.attempts:
                break
            if self._mode.costs is not None:
                cost = self._mode.costs[answer]
                if not self._quota.acquire(cost):
                    break
            await asyncio.sleep(self._backoff_seconds(answer, attempt))
        return False

    async def _attempt(self) -> Answer:
        if self._limiter is None:
            return await self._upstream.send()
        await self._limiter.acquire()
        answer = await self._upstream.send()
        self._limiter.received(throttled=answer is Answer.THROTTLED)
        return answer

    def _backoff_seconds(self, answer: Answer, attempt: int) -> float:
        longest = self._mode.backoff_seconds[answer] * float(2 ** (attempt - 1))
        return self._draws.random() * min(longest, self._mode.backoff_cap_seconds)


class _Clock(Clock):
    """Tells botocore the virtual time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._now = clock

    def current_time(self) -> float:
        return self._now()


class RateLimiter:
    """What adaptive mode adds to standard mode; does nothing before the first 429."""

    MAX_RATE_ADJUST_SCALE = 2.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._cubic = CubicCalculator(starting_max_rate=0, start_time=clock())
        self._rate_clocker = RateClocker(_Clock(clock))
        self._bucket = BlockingBucket(1.0, clock)
        self._enabled = False

    async def acquire(self) -> None:
        """Wait for a token, as long as it takes."""
        if self._enabled:
            await self._bucket.acquire()

    def received(self, *, throttled: bool) -> None:
        """Adjust the rate to an answer."""
        measured = self._rate_clocker.record()
        if throttled:
            rate = min(measured, self._bucket.rate) if self._enabled else measured
            new_rate = self._cubic.error_received(rate, self._clock())
            self._enabled = True
        else:
            new_rate = self._cubic.success_received(self._clock())
        self._bucket.change_rate(min(new_rate, self.MAX_RATE_ADJUST_SCALE * measured))


class BlockingBucket:
    """botocore's token bucket. Each waiter sleeps for what it computed; a change of the rate wakes only one of them.

    Waiters that computed the same sleep, because they were woken together and in vain, are kept as one group.
    """

    MIN_RATE = 0.5

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._level = 0.0
        self._filled_at = clock()
        self.rate = self._capacity = 0.0
        self._numbers = itertools.count()
        self._sleeping: dict[int, deque[asyncio.Future[None]]] = {}  # in the order in which they began to sleep
        self._wakings: list[tuple[float, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.change_rate(rate)

    def change_rate(self, rate: float) -> None:
        """Fill at another rate from now on."""
        self._fill()
        self.rate, self._capacity = max(rate, self.MIN_RATE), max(rate, 1.0)
        self._level = min(self._level, self._capacity)
        if self._sleeping:
            number, group = next(iter(self._sleeping.items()))
            first = group.popleft()
            if not group:
                del self._sleeping[number]
            self._wake(deque([first]))

    async def acquire(self) -> None:
        """Take one token, sooner or later."""
        self._fill()
        if self._level >= 1:
            self._level -= 1
            return
        turn = self._loop.create_future()
        self._sleep(deque([turn]))
        await turn

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._filled_at) * self.rate)
        self._filled_at = now

    def _sleep(self, turns: deque[asyncio.Future[None]]) -> None:
        number = next(self._numbers)
        self._sleeping[number] = turns
        heapq.heappush(self._wakings, (self._clock() + (1 - self._level) / self.rate, number))
        self._set_timer()

    def _wake(self, turns: deque[asyncio.Future[None]]) -> None:
        self._fill()
        while turns and self._level >= 1 - CLOCK_SECONDS:
            turn = turns.popleft()
            if not turn.done():  # else cancelled, at the end of the run
                self._level -= 1
                turn.set_result(None)
        if turns:
            self._sleep(turns)

    def _on_timer(self) -> None:
        due: deque[asyncio.Future[None]] = deque()
        while self._wakings and self._wakings[0][0] <= self._clock() + CLOCK_SECONDS:
            group = self._sleeping.pop(heapq.heappop(self._wakings)[1], None)
            if group:  # else a change of the rate has woken it
                due = due + group if due else group
        self._wake(due)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._wakings[0][0], self._on_timer) if self._wakings else None
