"""Decides whether one caller, or all for one supervisor, call more often in a minute than they may; is told the time.

Any minute counts, not the clock's, and no bucket is refilled meanwhile: that would let almost twice the number through
in its first minute. What Connect itself allows is the matter of `pacing`.
"""

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

from .failures import Failure, Reason

WINDOW_SECONDS: Final = 60.0

Key = TypeVar("Key")


class Rates:
    """The calls that were admitted in the last minute. A limit of 0 is none.

    Memory: one number for each of these calls, and nothing of whoever has not called in the last minute.
    """

    def __init__(self, *, caller_per_minute: int, supervisor_per_minute: int) -> None:
        self._of_callers: _Recent[str] = _Recent("caller_rate", caller_per_minute)
        self._for_supervisors: _Recent[tuple[str, str]] = _Recent("supervisor_rate", supervisor_per_minute)

    def admit(self, caller: str, supervisor: tuple[str, str], now: float) -> None:
        """Count one call; one that is refused is not counted.

        Args:
            caller: the id of the principal.
            supervisor: ids of the instance and of the user who shall listen.
            now: monotonic seconds.

        Raises:
            Failure: OVERLOADED with the limit's name, and when it has room again.
        """
        self._of_callers.require_room(caller, now)
        self._for_supervisors.require_room(supervisor, now)
        self._of_callers.count(caller, now)
        self._for_supervisors.count(supervisor, now)

    def give_back(self, caller: str, supervisor: tuple[str, str], admitted_at: float) -> None:
        """Take back a call that was admitted at that time and came to nothing: it was not even begun."""
        self._of_callers.take_back(caller, admitted_at)
        self._for_supervisors.take_back(supervisor, admitted_at)


class _Recent(Generic[Key]):
    """When each key was counted in the last minute; whoever was counted longest ago stands first."""

    def __init__(self, limit_name: str, limit: int) -> None:
        self._limit_name = limit_name
        self._limit = limit
        self._times: OrderedDict[Key, deque[float]] = OrderedDict()

    def require_room(self, key: Key, now: float) -> None:
        """Raise Failure (OVERLOADED) if the key has been counted as often as it may."""
        since = now - WINDOW_SECONDS
        self._forget(since)
        times = self._times.get(key)
        if times is None:
            return
        while times and times[0] <= since:
            times.popleft()
        if len(times) < self._limit:
            return
        metadata = {"limit_name": self._limit_name, "limit": str(self._limit), "current": str(len(times))}
        raise Failure(Reason.OVERLOADED, metadata=metadata, retry_after_seconds=times[0] + WINDOW_SECONDS - now)

    def count(self, key: Key, now: float) -> None:
        """Count the key once, unless nobody will ask."""
        if self._limit:
            self._times.setdefault(key, deque()).append(now)
            self._times.move_to_end(key)

    def take_back(self, key: Key, at: float) -> None:
        """Take back what was counted at that time, unless it has been forgotten since."""
        times = self._times.get(key)
        if times is not None and at in times:
            times.remove(at)

    def _forget(self, since: float) -> None:
        """Drop keys that were not counted since, from the front; one that gave its last back may stay for a while."""
        while self._times:
            key, times = next(iter(self._times.items()))
            if times and times[-1] > since:
                return
            del self._times[key]
