"""What is read off the runs of one policy in one scenario: successes, 429s, waits, fairness. All seeds together."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from arrivals import Call
from simulation import Outcome, Run
from upstream import Answer, Attempt


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a group of calls. Shares are of 1; seconds are None where no call says any.

    Args:
        calls: how many calls.
        success: share that succeeded within their deadline.
        late: share that was answered after its deadline.
        p50_seconds: from arrival to success, median, late ones included.
        p90_seconds: the same, 90th percentile.
        p99_seconds: the same, 99th percentile.
        fail_seconds: from arrival to failure, median.
        jain: Jain's index of the callers' success shares: 1 if all are served alike, 1/n if only one is.
        worst: the success share of the caller that is served worst.
    """

    calls: int
    success: float
    late: float
    p50_seconds: float | None
    p90_seconds: float | None
    p99_seconds: float | None
    fail_seconds: float | None
    jain: float
    worst: float


@dataclass(frozen=True, slots=True)
class Load:
    """What reached Connect. `throttled` is the share of attempts that was answered by a 429."""

    attempts: int
    throttled_attempts: int
    throttled: float
    attempts_per_success: float


Group = Callable[[Call], bool]


def figures(runs: Sequence[Run], group: Group) -> Figures:
    """Return the figures of the calls in a group; there must be one."""
    return _figures([outcome for run in runs for outcome in run.outcomes if group(outcome.call)])


def figures_by_caller(runs: Sequence[Run]) -> Mapping[str, Figures]:
    """Return the figures of each caller."""
    by_caller = defaultdict[str, list[Outcome]](list)
    for run in runs:
        for outcome in run.outcomes:
            by_caller[outcome.call.caller].append(outcome)
    return {caller: _figures(by_caller[caller]) for caller in sorted(by_caller)}


def _figures(outcomes: Sequence[Outcome]) -> Figures:
    waits = sorted(_seconds(outcome) for outcome in outcomes if outcome.succeeded)
    fails = [_seconds(outcome) for outcome in outcomes if not outcome.succeeded and outcome.ended_at is not None]
    shares = _shares_by_caller(outcomes)
    late = sum(outcome.ended_at is not None and outcome.ended_at > outcome.call.deadline for outcome in outcomes)
    return Figures(
        calls=len(outcomes),
        success=sum(outcome.in_time for outcome in outcomes) / len(outcomes),
        late=late / len(outcomes),
        p50_seconds=_percentile(waits, 0.5),
        p90_seconds=_percentile(waits, 0.9),
        p99_seconds=_percentile(waits, 0.99),
        fail_seconds=statistics.median(fails) if fails else None,
        jain=_jain(list(shares.values())),
        worst=min(shares.values()),
    )


def load(runs: Sequence[Run], during: Callable[[Attempt], bool] = lambda _: True) -> Load:
    """Return what reached Connect in these runs."""
    attempts = [attempt for run in runs for attempt in run.attempts if during(attempt)]
    counts = Counter(attempt.answer for attempt in attempts)
    throttled, successes = counts[Answer.THROTTLED], counts[Answer.SUCCESS]
    total = len(attempts)
    return Load(total, throttled, throttled / total if total else 0.0, total / successes if successes else 0.0)


def _seconds(outcome: Outcome) -> float:
    assert outcome.ended_at is not None  # noqa: S101 - for the type checker: only those that ended are asked
    return outcome.ended_at - outcome.call.at


def _shares_by_caller(outcomes: Iterable[Outcome]) -> Mapping[str, float]:
    made, served = Counter[str](), Counter[str]()
    for outcome in outcomes:
        made[outcome.call.caller] += 1
        served[outcome.call.caller] += outcome.in_time
    return {caller: served[caller] / count for caller, count in made.items()}


def _jain(shares: Sequence[float]) -> float:
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def _percentile(ordered: Sequence[float], part: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None
