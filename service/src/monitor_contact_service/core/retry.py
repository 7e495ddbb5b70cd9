"""Decides whether a failed attempt is worth another, and after how long; decides nothing about sending it.

Connect's model marks no error as retryable (botocore 1.44.5), so the class follows from the reason alone. Constants
are starting values from the project's simulations: full jitter, six attempts, and a budget that bounds what retries add
to the load of an outage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from .failures import Failure, Reason

MAX_ATTEMPTS = 6
# The longest that a hint of Connect's (Retry-After) is waited for before one more try.
HINT_MAX_SECONDS = 5.5


class RetryClass(Enum):
    """What kind of repetition a failed attempt calls for."""

    FINAL = auto()
    TRANSIENT = auto()
    THROTTLED = auto()
    CREDENTIALS = auto()
    AT_WORK = auto()  # final, unless an earlier attempt with the same ClientToken may still be at work


_CLASS_BY_REASON: Mapping[Reason, RetryClass] = MappingProxyType(
    {
        Reason.INTERNAL_SERVICE: RetryClass.TRANSIENT,
        Reason.CONNECT_UNREACHABLE: RetryClass.TRANSIENT,
        Reason.THROTTLED: RetryClass.THROTTLED,
        Reason.SERVICE_CREDENTIALS: RetryClass.CREDENTIALS,
        Reason.IDEMPOTENCY_CONFLICT: RetryClass.AT_WORK,
    }
)
# What another attempt may follow.
REPEATED = tuple(_CLASS_BY_REASON)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: uniform between 0 and `base * 2 ** (attempt - 1)`, at most `cap`. Both in seconds."""

    base_seconds: float
    cap_seconds: float

    def wait_seconds(self, attempt: int, draw: float) -> float:
        """Return the wait after failed attempt number `attempt` (from 1); `draw` is uniform in [0, 1)."""
        return draw * float(min(self.cap_seconds, self.base_seconds * 2 ** (attempt - 1)))


_BACKOFF_BY_CLASS: Mapping[RetryClass, Backoff] = MappingProxyType(
    {
        RetryClass.TRANSIENT: Backoff(base_seconds=0.1, cap_seconds=5.0),
        # The pacer holds back everybody after a 429, and by Connect's hint: no wait of the call's own.
        RetryClass.THROTTLED: Backoff(base_seconds=0.0, cap_seconds=0.0),
        # Fresh credentials are as good at once as later.
        RetryClass.CREDENTIALS: Backoff(base_seconds=0.0, cap_seconds=0.0),
        # A call takes 150 ms, one that has lost its caller perhaps seconds: five waits of 5.5 s on average (choice).
        RetryClass.AT_WORK: Backoff(base_seconds=0.4, cap_seconds=5.0),
    }
)


class RetryBudget:
    """Bounds retries to what successes have earned: starts full at 20, +0.5 per success, -1 per retry.

    Retries of throttled calls are not counted: their load is bounded by Connect's own quota.
    """

    CAP = 20.0
    PER_SUCCESS = 0.5

    def __init__(self) -> None:
        self.left = self.CAP

    def earn(self) -> None:
        """Count one success."""
        self.left = min(self.CAP, self.left + self.PER_SUCCESS)

    def spend(self) -> bool:
        """Take one retry out of the budget; False, and nothing taken, if none is left."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


def classify(failure: Failure) -> RetryClass:
    """Return what kind of repetition this failure calls for; raises nothing."""
    return _CLASS_BY_REASON.get(failure.reason, RetryClass.FINAL)


def wait_seconds(
    failure: Failure,
    *,
    attempt: int,
    time_left: float,
    call_seconds: float,
    draw: float,
    refreshed: bool,
    in_outage: bool,
    may_be_at_work: bool,
) -> float | None:
    """Return how long to wait before the next attempt, or None to give up. Raises nothing.

    Args:
        failure: how attempt number `attempt` (from 1) ended.
        attempt: attempts made so far, probes of an outage not counted.
        time_left: seconds until the answer must leave.
        call_seconds: what a call usually takes; an attempt that cannot finish in time is not made.
        draw: uniform in [0, 1).
        refreshed: True if the credentials were already fetched anew for this call.
        in_outage: True while only probes are sent: their rhythm replaces the backoff.
        may_be_at_work: True if Connect may still be at work on an earlier attempt with this ClientToken: of this call,
            or of one that the caller's gRPC has sent before.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    retry_class = classify(failure)
    if (
        retry_class is RetryClass.FINAL
        or (retry_class is RetryClass.CREDENTIALS and refreshed)
        or (retry_class is RetryClass.AT_WORK and not may_be_at_work)
    ):
        return None
    wait = _BACKOFF_BY_CLASS[retry_class].wait_seconds(attempt, draw)
    if retry_class is RetryClass.TRANSIENT:
        hint = min(failure.retry_after_seconds or 0.0, HINT_MAX_SECONDS)
        wait = 0.0 if in_outage else max(wait, hint)
    return wait if wait + call_seconds <= time_left else None
