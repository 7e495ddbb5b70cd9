"""Records refused calls: one by one, and of a flood only how many there were. None is lost.

What a record holds is decided in `core.record`; `audit` uses this.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .core import record
from .core.failures import Failure, Reason
from .core.record import Entry, Record, Repeated

# Equal denials of one caller within one second that are recorded one by one; the rest become one record (choice: what
# people and faulty clients do stays below, and a flood fills the disk no faster than this).
SINGLY: Final = 20
WINDOW_SECONDS: Final = 1.0

_Key = tuple[str, Reason]


class Denials:
    """The denials of the second at hand, by caller and reason.

    Args:
        queue: takes a record, waits for nothing.
        code_of: the name of the gRPC code of a reason.
    """

    def __init__(self, queue: Callable[[Record], object], code_of: Callable[[Reason], str]) -> None:
        self._queue = queue
        self._code_of = code_of
        self._windows: dict[_Key, _Window] = {}

    def add(self, entry: Entry, failure: Failure) -> None:
        """Record the refusal of a call, or count it."""
        caller = entry.caller.principal.id if entry.caller else ""  # strangers count as one: they could be anybody
        key = (caller, failure.reason)
        window = self._windows.get(key)
        if window is None:
            timer = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._end, key)
            window = self._windows[key] = _Window(timer)
        window.count += 1
        if window.count <= SINGLY:
            self._queue(record.denied(entry, failure, self._code_of(failure.reason)))
            return
        window.first = window.first or entry
        window.last = entry

    def flush(self) -> None:
        """Record what is only counted so far."""
        for key in list(self._windows):
            self._end(key)

    def _end(self, key: _Key) -> None:
        window = self._windows.pop(key)
        window.timer.cancel()
        if window.first is None or window.last is None:
            return
        _, reason = key
        repeated = Repeated(window.count - SINGLY, window.first.received_at, window.last.received_at)
        self._queue(record.denied(window.first, Failure(reason), self._code_of(reason), repeated))


@dataclass(slots=True)
class _Window:
    """Equal denials of one second: their number, and the first and last of those not recorded by themselves."""

    timer: asyncio.TimerHandle
    count: int = 0
    first: Entry | None = None
    last: Entry | None = None
