"""Who asks something of Connect, and until when. Plain state."""

from dataclasses import dataclass


@dataclass(slots=True)
class Asking:
    """For whom something is read.

    Attributes:
        caller: whose turn in the quota it takes; the one that began, where several wait for the same.
        deadline: the latest of those who wait, on the monotonic clock, seconds. It moves when others join.
        begun: its first turn has come.
    """

    caller: str
    deadline: float
    begun: bool = False
