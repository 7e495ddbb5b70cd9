"""Gives turns, one for each token of the quota, to the calls that wait; for `admission`.

Whose turn it is decides `core.fairness`, when the next token comes a `TokenSource` (over `core.pacing`), whether
Connect is to be left alone `core.outage`. Everything happens in `_pump`, which runs whenever something has changed or
the time of the next token has come.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Protocol

from .core import chance
from .core.deadline import too_short
from .core.failures import Failure
from .core.fairness import FairQueue, Ticket
from .core.latency import MedianSeconds
from .core.outage import Outage
from .core.work import Work

# What a ticket in the queue is for: told True for the turn of a probe, False for any other turn.
Turn = asyncio.Future[bool]


class TokenSource(Protocol):
    """Where tokens come from, one for each attempt. Implementations: `quota`, `shared_quota`.

    `on_change` is called when `wait_seconds` may have become shorter.
    """

    on_change: Callable[[], None]

    def wait_seconds(self) -> float:
        """Return the time until a token may be taken: 0 for now, infinity until `on_change` tells more."""

    def start_seconds(self, ahead: int) -> float:
        """Return an estimate of the time until the token after `ahead` others may be taken."""

    def take(self) -> None:
        """Take the token; `wait_seconds` has just returned 0."""

    def give_back(self) -> None:
        """Give a token back that was taken just now and not used."""

    def throttled(self, hint_seconds: float | None) -> None:
        """Note a 429, and what it said about when to come again."""


class Turns:
    """The queue of one replica.

    Args:
        tokens: the quota.
        queue: the order of those who wait.
        outage: what is known of Connect's health.
        call_seconds: what a call usually takes.
        clock: monotonic seconds.
        draw: uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        tokens: TokenSource,
        queue: FairQueue[Turn],
        outage: Outage,
        call_seconds: MedianSeconds,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._tokens = tokens
        self._queue = queue
        self._outage = outage
        self._call_seconds = call_seconds
        self._clock = clock
        self._draw = draw
        self._timer: asyncio.TimerHandle | None = None
        tokens.on_change = self._pump

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def waiting_of(self, caller: str) -> int:
        """Return how many of this caller wait."""
        return self._queue.waiting(caller)

    def start_seconds(self, caller: str, deadline: float, *, again: bool) -> float:
        """Return an estimate of the time until a call that came now would have its turn."""
        ahead = self._queue.ahead_at_head if again else self._queue.ahead
        return self._tokens.start_seconds(ahead(caller, deadline))

    def try_take(self) -> bool | None:
        """Take a turn if nobody waits and a token is there, and return whether it is that of a probe; else None."""
        return self._give() if not self._queue and self._wait_seconds() == 0 else None

    async def take(self, caller: str, work: Work, *, again: bool) -> bool:
        """Wait for a turn and return whether it is that of a probe; `again` puts the call at its caller's head.

        Raises:
            Failure: the time has run out, the outage lasts too long, or the server is about to stop.
        """
        push = self._queue.push_front if again else self._queue.push
        turn: Turn = asyncio.get_running_loop().create_future()
        ticket = push(caller, work.deadline, turn)
        work.on_moved = lambda: self._queue.move(ticket, work.deadline)
        self._pump()
        try:
            return await self._turn_or_end(ticket, work)
        except asyncio.CancelledError:
            self._cancelled(turn)
            raise
        finally:
            work.on_moved = lambda: None
            self._queue.remove(ticket)

    def refuse_all(self, failure: Callable[[], Failure]) -> None:
        """Refuse all that wait."""
        for ticket in tuple(self._queue):
            self._refuse(ticket, failure())

    def answered(self) -> None:
        """Note that Connect answered as a living service does."""
        if self._outage.succeeded():
            self._pump()

    def throttled(self, hint_seconds: float | None) -> None:
        """Note a 429, and what it said about when to come again."""
        self._tokens.throttled(hint_seconds)
        self._pump()

    def refuse_late(self) -> None:
        """Refuse whoever waits and could not be in time even with the next token: its deadline is not going to move."""
        wait_seconds = self._tokens.wait_seconds()
        for ticket in tuple(self._queue):
            left = ticket.deadline - self._clock()
            try:
                chance.require_quota(left, self._call_seconds.seconds, wait_seconds, self._draw())
            except Failure as late:
                self._refuse(ticket, late)

    def failed(self, failure: Failure, *, probe: bool) -> None:
        """Note an attempt that Connect failed; in an outage, refuse whoever cannot outlast the next probe."""
        self._outage.failed(failure.reason, self._clock(), self._draw(), probe=probe)
        for ticket in tuple(self._queue) if self._outage.reason else ():
            try:
                self._require_outlast(ticket.deadline)
            except Failure as hopeless:
                self._refuse(ticket, hopeless)
        self._pump()

    def undecided(self) -> None:
        """Note that a probe ended without an answer to its question."""
        self._outage.undecided(self._clock(), self._draw())
        self._pump()

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """Follow new weights of callers; what waits gets its new place."""
        self._queue.reweigh(weights)

    async def _turn_or_end(self, ticket: Ticket[Turn], work: Work) -> bool:
        turn = ticket.item
        while not turn.done():
            left, needed = work.deadline - self._clock(), chance.waiting_seconds(self._call_seconds.seconds)
            if left < needed:
                raise too_short(left, needed)
            await asyncio.wait((turn,), timeout=left - needed)
        return turn.result()

    def _require_outlast(self, deadline: float) -> None:
        now = self._clock()
        chance.require_outlast(deadline - now, self._call_seconds.seconds, self._outage, now, self._draw())

    def _wait_seconds(self) -> float:
        """Return the time until anybody's next attempt. A token is not asked for while nothing may be sent."""
        return self._outage.wait_seconds(self._clock()) or self._tokens.wait_seconds()

    def _pump(self) -> None:
        """Give turns as long as tokens are there; then arm the timer for the next token."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            wait = self._wait_seconds()
            if wait > 0:
                if wait < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(wait, self._pump)
                return
            now, needed = self._clock(), chance.waiting_seconds(self._call_seconds.seconds)
            ticket = self._queue.pop(now + needed + chance.URGENT_SECONDS)
            left = ticket.deadline - now
            if left < needed:
                self._refuse(ticket, too_short(left, needed))
            else:
                ticket.item.set_result(self._give())

    def _give(self) -> bool:
        self._tokens.take()
        return self._outage.sent()

    def _cancelled(self, turn: Turn) -> None:
        """A turn that was given in the same moment goes to the next; was it a probe's, the next is the probe."""
        if not turn.done() or turn.exception() is not None:
            return
        self._tokens.give_back()
        if turn.result():
            self._outage.not_sent()
        self._pump()

    def _refuse(self, ticket: Ticket[Turn], failure: Failure) -> None:
        self._queue.remove(ticket)
        ticket.item.set_exception(failure)
