"""Step 5: gives a call its place, or refuses it at once; a refused call has cost nothing.

For now a place is one of a fixed number of calls at the same time, and a call whose deadline Connect cannot meet gets
none. Pacing to Connect's quota and fairness between callers will stand here.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from .core.deadline import too_short
from .core.failures import Failure, Reason
from .core.latency import MedianSeconds

# A refused caller is told to come again after what a call usually takes, +0-20 % so that they do not return together.
COME_AGAIN_JITTER = 0.2
# A call that has less than half of the usual time left will not make it.
LEAST_PART_OF_CALL = 0.5
# Time for a client to find another replica.
SHUTTING_DOWN_RETRY_SECONDS = 0.1


class Admission:
    """The places of one replica.

    Args:
        max_in_flight: how many calls are worked on at the same time.
        call_seconds: what a call usually takes.
        clock: monotonic seconds.
        draw: uniform in [0, 1).
    """

    def __init__(
        self,
        *,
        max_in_flight: int,
        call_seconds: MedianSeconds,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._max_in_flight = max_in_flight
        self._call_seconds = call_seconds
        self._clock = clock
        self._draw = draw
        self._in_flight = 0
        self._closed = False

    def place(self, deadline: float) -> "Place":
        """Return a place to hold while a body runs; entering it raises what `Place` says."""
        return Place(self, deadline)

    def take(self, deadline: float) -> None:
        """Take a place, or raise the Failure that says why there is none."""
        self._require_place(deadline)
        self._in_flight += 1

    def give_back(self) -> None:
        """Free a place."""
        self._in_flight -= 1

    def close(self) -> None:
        """Refuse every further call: the server is about to stop."""
        self._closed = True

    def _require_place(self, deadline: float) -> None:
        if self._closed:
            raise Failure(Reason.SHUTTING_DOWN, retry_after_seconds=SHUTTING_DOWN_RETRY_SECONDS)
        needed = self._call_seconds.seconds * LEAST_PART_OF_CALL
        left = deadline - self._clock()
        if left < needed:
            raise too_short(left, needed)
        if self._in_flight >= self._max_in_flight:
            raise self._overloaded()

    def _overloaded(self) -> Failure:
        metadata = {"limit_name": "in_flight", "limit": str(self._max_in_flight), "current": str(self._in_flight)}
        retry_after = self._call_seconds.seconds * (1 + COME_AGAIN_JITTER * self._draw())
        return Failure(Reason.OVERLOADED, metadata=metadata, retry_after_seconds=retry_after)


class Place(AbstractAsyncContextManager[None]):
    """One place, held while the body runs. A class: a generator in its place costs 3 µs more per call (measured).

    Entering it raises Failure (OVERLOADED, DEADLINE_TOO_SHORT or SHUTTING_DOWN) before the body starts.
    """

    __slots__ = ("_admission", "_deadline")

    def __init__(self, admission: Admission, deadline: float) -> None:
        self._admission = admission
        self._deadline = deadline

    async def __aenter__(self) -> None:
        self._admission.take(self._deadline)

    async def __aexit__(self, *_: object) -> None:
        self._admission.give_back()
