"""Remembers what was read for a while, and lets those who need the same at the same time wait for one reading of it.

What is read, and for how long it may be believed, is the user's to say; what is too old is never given out.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, NamedTuple, TypeVar

from .core.asking import Asking
from .core.deadline import LEAST_USEFUL_SECONDS, too_short
from .core.failures import Failure, Reason

# How long it is believed that something does not exist: whoever creates it does not want to wait (choice).
ABSENT_SECONDS: Final = 5.0
# The reading keeps the deadline itself, and its own answer says more: it comes first where both are due.
GRACE_SECONDS: Final = 0.01
# Some hundred bytes each; an account has fewer users and profiles than that with a right to monitor (choice).
MAX_ENTRIES: Final = 10_000

Key = TypeVar("Key")
Value = TypeVar("Value")


class Known(NamedTuple, Generic[Value]):
    """What was read, and when (monotonic seconds)."""

    value: Value
    at: float


def _nobody_listens() -> None:
    pass


class Cached(Generic[Key, Value]):
    """What is known, by key. When there is too much, what was used least recently goes.

    Args:
        read: reads one value for somebody; raises Failure.
        keep_seconds: how long a value is believed.
        clock: monotonic seconds.
        on_change: called whenever something else is known than before.
        max_entries: how many keys are remembered.
    """

    def __init__(
        self,
        read: Callable[[Key, Asking], Coroutine[Any, Any, Value]],
        *,
        keep_seconds: float,
        clock: Callable[[], float],
        on_change: Callable[[], None] = _nobody_listens,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self._read = read
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._on_change = on_change
        self._max_entries = max_entries
        self._known: OrderedDict[Key, Known[Value] | Known[Failure]] = OrderedDict()  # least recently used first
        self._flights: dict[Key, dict[str, _Flight[Value]]] = {}  # by who began them

    def __len__(self) -> int:
        return len(self._known)

    def peek(self, key: Key, now: float, max_age_seconds: float = math.inf) -> Known[Value] | None:
        """Return what is known and was read within `max_age_seconds`, None for nothing.

        Raises:
            Failure: what is known is that there is no such thing.
        """
        known = self._known.get(key)
        if known is None:
            return None
        value, at = known
        age = now - at
        if isinstance(value, Failure):
            if age >= ABSENT_SECONDS:
                return None
            raise value.copy()
        if age >= self._keep_seconds or age > max_age_seconds:
            return None
        self._known.move_to_end(key)
        return Known(value, at)

    async def get(self, key: Key, asking: Asking, max_age_seconds: float = math.inf) -> Known[Value]:
        """Return what is known, or what is read now; whoever leaves takes nothing from the others who wait.

        Raises:
            Failure: what the reading raised, a copy for each; DEADLINE_TOO_SHORT if it goes on for others.
        """
        while True:
            now = self._clock()
            known = self.peek(key, now, max_age_seconds)
            if known is not None:
                return known
            flight = self._join(key, asking)
            try:
                await asyncio.wait((flight.task,), timeout=max(0.0, asking.deadline - now) + GRACE_SECONDS)
            finally:
                self._leave(key, flight)
            if not flight.overtaken:
                return _landed(flight.task)

    def _join(self, key: Key, asking: Asking) -> "_Flight[Value]":
        """Wait for a reading that has begun, or for the caller's own.

        One that still waits for its turn in another caller's queue is not waited for: it may be the last of many.
        """
        flights = self._flights.setdefault(key, {})
        begun = [flight for flight in flights.values() if flight.asking.begun]
        flight = begun[0] if begun else flights.get(asking.caller)
        if flight is None:
            flight = flights[asking.caller] = _Flight(asking)
            flight.task = asyncio.get_running_loop().create_task(self._fly(key, flight))
            flight.task.add_done_callback(_fetch_error)
        flight.waiting += 1
        flight.asking.deadline = max(flight.asking.deadline, asking.deadline)
        return flight

    def _leave(self, key: Key, flight: "_Flight[Value]") -> None:
        flight.waiting -= 1
        if not flight.waiting and not flight.task.done():  # nobody is left: no quota for nobody
            self._forget(key, flight)  # a new call must not join what is being cancelled
            flight.task.cancel()

    async def _fly(self, key: Key, flight: "_Flight[Value]") -> Known[Value]:
        try:
            known = Known(await self._read(key, flight.asking), self._clock())
        except BaseException as error:
            self._forget(key, flight)
            if isinstance(error, Failure) and error.reason is Reason.RESOURCE_NOT_FOUND:
                self._keep(key, Known(error.copy(), self._clock()))
            raise
        self._forget(key, flight)
        self._keep(key, known)
        return known

    def _keep(self, key: Key, known: Known[Value] | Known[Failure]) -> None:
        """Remember what was read, and end the readings of the same: whoever waits for them looks again."""
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > self._max_entries:
            self._known.popitem(last=False)
        for flight in self._flights.pop(key, {}).values():
            flight.overtaken = True
            flight.task.cancel()
        self._on_change()

    def _forget(self, key: Key, flight: "_Flight[Value]") -> None:
        flights = self._flights.get(key, {})
        if flights.get(flight.asking.caller) is flight:
            del flights[flight.asking.caller]
        if not flights:
            self._flights.pop(key, None)


class _Flight(Generic[Value]):
    """One reading under way, how many wait for it, for whom it is and until when."""

    __slots__ = ("asking", "overtaken", "task", "waiting")

    task: asyncio.Task[Known[Value]]

    def __init__(self, asking: Asking) -> None:
        self.waiting = 0
        self.overtaken = False  # another one has read the same
        self.asking = Asking(asking.caller, asking.deadline)


def _landed(task: asyncio.Task[Known[Value]]) -> Known[Value]:
    if not task.done():
        raise too_short(0, LEAST_USEFUL_SECONDS)
    error = task.exception()
    if isinstance(error, Failure):
        raise error.copy()
    return task.result()


def _fetch_error(task: asyncio.Task[Any]) -> None:
    """Look at the error of a reading that everybody has left, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()
