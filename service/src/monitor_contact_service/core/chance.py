"""Decides whether a call has a chance to be served in time; if not it is refused at once, and told when to come again.

Told everything: the time left, the estimate of the wait, how many wait, the health of Connect. Waits for nothing.
"""

import math
from dataclasses import dataclass
from typing import Final

from .deadline import too_short
from .failures import Failure, Reason
from .outage import Outage

# A call that is sent at once is given a try with half of the usual time: only so is it learnt that calls have become
# quicker.
LEAST_PART_OF_CALL: Final = 0.5
# One that waits is given up when less than this part of the usual time is left: half of all calls take longer than
# usual, and one that ends too late has wasted a token. Simulated, success at 20/s offered; at 1.2/s with 40 % of 500s;
# while the quota is halved: 1.0 x .097, .887, .702; 1.5 x .102, .902, .707; 2.0 x .102, .893, .708.
WAITING_PART_OF_CALL: Final = 1.5
# Who waits in an almost empty queue is served before all rounds when less than this and a call's usual time is left.
URGENT_SECONDS: Final = 3.0
# A caller that is told to come again is told at least this (half a second refills one token of Connect's quota).
COME_AGAIN_MIN_SECONDS: Final = 0.5
# And at most this, whatever Connect asks for: a broken Retry-After must not send callers away for years.
COME_AGAIN_MAX_SECONDS: Final = 60.0
# +0-20 %, so that callers refused together do not return together.
COME_AGAIN_JITTER: Final = 0.2
# Time for a client to find another replica.
SHUTTING_DOWN_RETRY_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """How many calls may wait, of one caller and of all together, and how many may wait or be under way."""

    per_caller: int
    total: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many calls there are now: as `Limits` counts them."""

    of_caller: int
    waiting: int
    in_flight: int


def waiting_seconds(call_seconds: float) -> float:
    """Return the time that must be left when a call that waited is sent; `call_seconds` is what one usually takes."""
    return call_seconds * WAITING_PART_OF_CALL


def require_time(left: float, call_seconds: float) -> None:
    """Raise Failure (DEADLINE_TOO_SHORT) if less than half of a usual call's time is left. Seconds."""
    needed = call_seconds * LEAST_PART_OF_CALL
    if left < needed:
        raise too_short(left, needed)


def require_outlast(left: float, call_seconds: float, outage: Outage, now: float, draw: float) -> None:
    """Raise the Failure that opened the outage, if the call cannot outlast the next probe. Seconds."""
    probe_seconds = outage.probe_seconds(now)
    if outage.reason is not None and probe_seconds + call_seconds > left:
        raise Failure(
            outage.reason,
            metadata={"attempts": "0"},
            retry_after_seconds=come_again(probe_seconds, draw),
            log_text="not sent: Connect is failing and the next probe comes too late",
        )


def require_room(crowd: Crowd, limits: Limits, start_seconds: float, draw: float) -> None:
    """Raise Failure (OVERLOADED) if one more call would pass a limit. `start_seconds`: when it would be sent."""
    for name, limit, current in (
        ("in_flight", limits.in_flight, crowd.in_flight),
        ("queue_total", limits.total, crowd.waiting),
        ("queue_per_caller", limits.per_caller, crowd.of_caller),
    ):
        if current >= limit:
            raise _overloaded(name, limit, current, start_seconds, draw)


def require_quota(left: float, call_seconds: float, start_seconds: float, draw: float) -> None:
    """Raise Failure (OVERLOADED) if the quota has no token in time: `start_seconds` from now is too late. Seconds."""
    longest = left - waiting_seconds(call_seconds)
    if start_seconds > 0 and start_seconds > longest:
        limit_ms, wait_ms = max(0, math.floor(longest * 1000)), math.ceil(start_seconds * 1000)
        raise _overloaded("quota_wait_ms", limit_ms, wait_ms, start_seconds, draw)


def shutting_down() -> Failure:
    """Return the refusal of a replica that is about to stop."""
    return Failure(Reason.SHUTTING_DOWN, retry_after_seconds=SHUTTING_DOWN_RETRY_SECONDS)


def come_again(seconds: float, draw: float) -> float:
    """Return what to tell a caller for whom `seconds` are known to be needed; `draw` is uniform in [0, 1)."""
    return min(max(COME_AGAIN_MIN_SECONDS, seconds), COME_AGAIN_MAX_SECONDS) * (1 + COME_AGAIN_JITTER * draw)


def _overloaded(limit_name: str, limit: int, current: int, start_seconds: float, draw: float) -> Failure:
    metadata = {"limit_name": limit_name, "limit": str(limit), "current": str(current)}
    return Failure(Reason.OVERLOADED, metadata=metadata, retry_after_seconds=come_again(start_seconds, draw))
