"""Step 5: gives a call its turn to spend a token of Connect's quota, or refuses it at once: then it has cost nothing.

The first turn and each further one are asked for here and waited for in `turns`; what becomes of an attempt is reported
here, so that pace and probes follow it. Sending is the matter of `attempts`.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, Self, assert_never

from .core import chance, retry
from .core.failures import Failure, Reason
from .core.latency import MedianSeconds
from .core.outage import Outage
from .core.work import Work
from .turns import Turns


class AdmissionObserver(Protocol):
    """Is told what becomes of each call that asks for its first turn, and of 429s."""

    def admitted(self, wait_seconds: float) -> None:
        """Note that a call has got its first turn after this time."""

    def refused(self, reason: Reason) -> None:
        """Note that a call gets none."""

    def abandoned(self) -> None:
        """Note that a call has been left by its callers before it."""

    def throttled(self) -> None:
        """Note that Connect has refused an attempt for rate."""


class Admission:
    """The places of one replica.

    Args:
        turns: the queue.
        outage: what is known of Connect's health; shared with `turns`.
        limits: bounds of memory; the deadlines of the calls bind first.
        call_seconds: what a call usually takes.
        observer: is told what happens.
        clock: monotonic seconds.
        draw: uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        turns: Turns,
        outage: Outage,
        limits: chance.Limits,
        call_seconds: MedianSeconds,
        observer: AdmissionObserver,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self.turns = turns
        self.outage = outage
        self.observer = observer
        self._limits = limits
        self._call_seconds = call_seconds
        self._clock = clock
        self._draw = draw
        self._in_flight = 0
        self._closed = False

    @property
    def in_flight(self) -> int:
        """How many calls wait for a turn or are under way."""
        return self._in_flight

    def place(self, caller: str, work: Work) -> "Place":
        """Return the place of `work`, to be held while it is done; entering it waits for the first turn."""
        return Place(self, caller, work)

    def close(self) -> None:
        """Refuse every further call and all that wait: the server is about to stop."""
        self._closed = True
        self.turns.refuse_all(chance.shutting_down)

    def change(self, limits: chance.Limits, weights: Mapping[str, float]) -> None:
        """Follow new settings. Who has been let in stays."""
        self._limits = limits
        self.turns.reweigh(weights)

    async def enter(self, caller: str, work: Work) -> bool:
        """Wait for the first turn of a call; return whether it is a probe. Raises what `Place` says."""
        crowd = chance.Crowd(self.turns.waiting_of(caller), self.turns.waiting, self._in_flight)
        self._in_flight += 1
        try:
            return await self._first_turn(caller, work, crowd)
        except BaseException:
            self._in_flight -= 1
            raise

    async def again(self, caller: str, work: Work) -> bool:
        """Wait for a further turn; return whether it is a probe. Raises what `Place` says."""
        return await self._turn(caller, work, None)

    def leave(self) -> None:
        """Free a place."""
        self._in_flight -= 1

    def come_again_seconds(self, caller: str, deadline: float) -> float:
        """Return when a call that came now could be sent: after the hold, the queue and the next probe."""
        probe = self.outage.probe_seconds(self._clock())
        return max(probe, self.turns.start_seconds(caller, deadline, again=False))

    async def _first_turn(self, caller: str, work: Work, crowd: chance.Crowd) -> bool:
        asked = self._clock()
        try:
            probe = await self._turn(caller, work, crowd)
        except Failure as failure:
            self.observer.refused(failure.reason)
            raise
        except asyncio.CancelledError:
            self.observer.abandoned()
            raise
        self.observer.admitted(self._clock() - asked)
        return probe

    async def _turn(self, caller: str, work: Work, crowd: chance.Crowd | None) -> bool:
        """Wait for a turn that comes in time, or raise the Failure that says why none does.

        `crowd` is for a first turn: those who were let in have their room.
        """
        if self._closed:
            raise chance.shutting_down()
        now, call_seconds, draw = self._clock(), self._call_seconds.seconds, self._draw()
        left = work.deadline - now
        chance.require_time(left, call_seconds)
        chance.require_outlast(left, call_seconds, self.outage, now, draw)
        again = crowd is None
        start = self.turns.start_seconds(caller, work.deadline, again=again)
        if crowd is not None:
            chance.require_room(crowd, self._limits, start, draw)
        if start == 0 and (probe := self.turns.try_take()) is not None:
            return probe
        chance.require_quota(left, call_seconds, start, draw)
        return await self.turns.take(caller, work, again=again)


class Place(AbstractAsyncContextManager["Place"]):
    """A call's place, from its first turn to its answer.

    Entering it, and `again`, raise Failure: OVERLOADED, DEADLINE_TOO_SHORT, SHUTTING_DOWN, or in an outage the reason
    that opened it. Nothing has been sent for the turn that was refused.
    """

    __slots__ = ("_admission", "_caller", "probing", "work")

    def __init__(self, admission: Admission, caller: str, work: Work) -> None:
        self._admission = admission
        self._caller = caller
        self.work = work
        self.probing = False  # whether the turn at hand is that of a probe

    async def __aenter__(self) -> Self:
        self.probing = await self._admission.enter(self._caller, self.work)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._admission.leave()
        if self.probing:  # cancelled: it ended without telling anything
            self._admission.turns.undecided()

    async def again(self) -> None:
        """Wait for a further turn, at the head of the caller's queue."""
        self.probing = await self._admission.again(self._caller, self.work)

    @property
    def in_outage(self) -> bool:
        """True while only probes are sent."""
        return self._admission.outage.reason is not None

    def succeeded(self) -> None:
        """Report that the attempt succeeded."""
        self.probing = False
        self._admission.turns.answered()

    def failed(self, failure: Failure) -> None:
        """Report how the attempt failed."""
        turns, probe, self.probing = self._admission.turns, self.probing, False
        match retry.classify(failure):
            case retry.RetryClass.FINAL | retry.RetryClass.AT_WORK:
                turns.answered()
            case retry.RetryClass.TRANSIENT:
                turns.failed(failure, probe=probe)
            case retry.RetryClass.THROTTLED:
                self._admission.observer.throttled()
                turns.throttled(failure.retry_after_seconds)
                if probe:
                    turns.undecided()
            case retry.RetryClass.CREDENTIALS:
                if probe:
                    turns.undecided()
            case unknown:
                assert_never(unknown)

    def come_again_seconds(self) -> float:
        """Return when a repetition of this call could be sent."""
        return self._admission.come_again_seconds(self._caller, self.work.deadline)
