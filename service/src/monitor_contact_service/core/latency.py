"""What a call to Connect usually takes: a running estimate of the median that needs no history."""

from typing import Final

# What a call is taken to need before any was seen: 150 ms at Connect, twice the way there, and some patience.
USUAL_CALL_SECONDS: Final = 0.35


class MedianSeconds:
    """Follows the median of observed durations: each observation moves it one small step to its own side.

    `step` is the part of the estimate by which it moves; at 5 %, twenty calls halve or double it at most. A plain mean
    would follow one hang of three seconds; the median does not.
    """

    def __init__(self, initial_seconds: float = USUAL_CALL_SECONDS, step: float = 0.05) -> None:
        self.seconds = initial_seconds
        self._step = step

    def observe(self, seconds: float) -> None:
        """Take one duration, in seconds, into account."""
        if seconds > self.seconds:
            self.seconds = min(self.seconds * (1 + self._step), seconds)
        else:
            self.seconds = max(self.seconds * (1 - self._step), seconds)
