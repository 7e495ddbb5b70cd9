"""Records refused calls: one by one, and of a flood only how many there were. None is lost.

While the log takes none, because its last room is kept for outcomes, they are counted, and recorded as one when it
takes some again. What a record holds is decided in `core.record`; `audit` uses this.
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
    """The denials of the second at hand, by caller and reason, and those that the log has not taken.

    Args:
        offer: takes a record, waits for nothing; returns whether the log has taken it.
        code_of: the name of the gRPC code of a reason.
    """

    def __init__(self, offer: Callable[[Record], bool], code_of: Callable[[Reason], str]) -> None:
        self._offer = offer
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
        if window.count <= SINGLY and self._offer(record.denied(entry, failure, self._code_of(failure.reason))):
            return
        window.untold += 1
        window.first = window.first or entry
        window.last = entry

    def flush(self) -> int:
        """Record what is only counted so far, for the end; return how many denials the log does not take."""
        windows, self._windows = self._windows, {}
        for window in windows.values():
            window.timer.cancel()
        return sum(window.untold for key, window in windows.items() if not self._told(key, window))

    def _end(self, key: _Key) -> None:
        window = self._windows.pop(key)
        if not self._told(key, window):
            window.timer = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._end, key)
            self._windows[key] = window

    def _told(self, key: _Key, window: "_Window") -> bool:
        """Record those that were not recorded one by one; return False if the log does not take it."""
        if window.first is None or window.last is None:
            return True
        _, reason = key
        repeated = Repeated(window.untold, window.first.received_at, window.last.received_at)
        return self._offer(record.denied(window.first, Failure(reason), self._code_of(reason), repeated))


@dataclass(slots=True)
class _Window:
    """Equal denials of a while: their number, and how many were not recorded by themselves, with first and last."""

    timer: asyncio.TimerHandle
    count: int = 0
    untold: int = 0
    first: Entry | None = None
    last: Entry | None = None
