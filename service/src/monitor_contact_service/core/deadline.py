"""Turns a caller's time left into one instant of the monotonic clock, and refuses what is too short to be useful."""

import math

from .failures import Failure, Reason

# Less than the caller has: otherwise its own timer fires first and it gets a bare status without details (measured).
REPLY_MARGIN_SECONDS = 0.02
# A call to Connect takes about 150 ms; under 100 ms of useful time nothing is worth starting (boulder's rule).
LEAST_USEFUL_SECONDS = 0.1


def deadline_at(now: float, time_left: float | None, *, default_seconds: float, max_seconds: float) -> float:
    """Return the instant by which the answer must leave, on the clock of `now`, in seconds.

    Args:
        now: the monotonic clock, seconds.
        time_left: what the caller still waits, seconds; None if it set no deadline.
        default_seconds: for callers that set none.
        max_seconds: the longest that any call is worked on.

    Raises:
        Failure: DEADLINE_TOO_SHORT if less than `LEAST_USEFUL_SECONDS` are left after the reply margin.
    """
    seconds = default_seconds if time_left is None else min(time_left, max_seconds)
    useful = seconds - REPLY_MARGIN_SECONDS
    if useful < LEAST_USEFUL_SECONDS:
        raise too_short(useful, LEAST_USEFUL_SECONDS)
    return now + useful


def too_short(left_seconds: float, needed_seconds: float) -> Failure:
    """Return the refusal; both times in seconds, reported in whole milliseconds."""
    metadata = {
        "time_left_ms": str(max(0, math.floor(left_seconds * 1000))),
        "time_needed_ms": str(math.ceil(needed_seconds * 1000)),
    }
    return Failure(Reason.DEADLINE_TOO_SHORT, metadata=metadata)
