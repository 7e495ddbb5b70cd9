"""Turns results into markdown tables and holds the service against its bars."""

from collections.abc import Iterator, Mapping, Sequence

from contest import OLDER, POLICIES, REPLICAS, SERVICE, Result
from real_time import Outcome
from scenarios import Bar, Contenders, Scenario

Results = Mapping[tuple[str, str], Result]  # by scenario and policy

REFUSAL_LIMIT_SECONDS = 0.005
REPLICAS_MOST_DIFFERENCE = 0.01


def success_table(scenarios: Sequence[Scenario], results: Results) -> Iterator[str]:
    """Yield one line for each group of calls: what share succeeds in time; and one for the share of 429s."""
    yield f"| success within the deadline | {' | '.join(POLICIES)} |"
    yield "|---|" + "---:|" * len(POLICIES)
    for scenario in scenarios:
        if scenario.contenders is Contenders.REPLICAS:
            continue
        for group in scenario.groups:
            title = scenario.title if len(scenario.groups) == 1 else f"{scenario.title}: {group}"
            yield _line(title, [_success(results, scenario, policy, group) for policy in POLICIES])
        yield _line("429s per attempt", [_throttled(results, scenario, policy) for policy in POLICIES])


def replicas_table(scenarios: Sequence[Scenario], results: Results) -> Iterator[str]:
    """Yield one line for each load that several replicas share, 60 % of the callers on one of them."""
    yield _line("success within the deadline (429s per attempt)", list(REPLICAS))
    yield "|---|" + "---:|" * len(REPLICAS)
    for scenario in scenarios:
        if scenario.contenders is Contenders.REPLICAS:
            cells = [
                f"{_success(results, scenario, policy, 'all')} ({_throttled(results, scenario, policy)})"
                for policy in REPLICAS
            ]
            yield _line(scenario.title, cells)


def details_table(scenarios: Sequence[Scenario], results: Results) -> Iterator[str]:
    """Yield one line for each policy and group of calls, with everything that was counted."""
    yield _line(
        "scenario, policy",
        ["success", "late", "p50 s", "p99 s", "time to fail s", "Jain", "worst caller", "429", "attempts per success"],
    )
    yield "|---|" + "---:|" * 9
    for scenario in scenarios:
        for (name, policy), result in results.items():
            if name == scenario.name:
                yield from (_details(scenario, policy, group, result) for group in scenario.groups)


def _details(scenario: Scenario, policy: str, group: str, result: Result) -> str:
    figures = result.groups[group]
    return _line(
        f"{scenario.name}, {group}, {policy}",
        [
            _share(figures.success),
            _share(figures.late),
            _seconds(figures.p50_seconds),
            _seconds(figures.p99_seconds),
            _seconds(figures.fail_seconds),
            _share(figures.jain),
            _share(figures.worst),
            _share(result.load.throttled),
            f"{result.load.attempts_per_success:.2f}",
        ],
    )


def real_time_table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield one line for each contestant in real time."""
    titles = {"herd": "100 callers at once, 60 s deadline", "hog": "nine light callers beside one at 20/s, 60 s"}
    yield _line(
        "real time",
        ["succeeded in time", "429s / attempts", "median wait s", "longest wait s", "median time to fail s"],
    )
    yield "|---|" + "---:|" * 5
    for outcome in outcomes:
        yield _line(
            f"{titles[outcome.scenario]}: {outcome.contestant}",
            [
                f"{outcome.succeeded} of {outcome.calls}",
                f"{outcome.refused} / {outcome.attempts}",
                _seconds(outcome.median_seconds),
                _seconds(outcome.last_seconds),
                _seconds(outcome.refusal_seconds),
            ],
        )


def verdicts(scenarios: Sequence[Scenario], results: Results) -> Iterator[tuple[bool, str]]:
    """Yield for each bar whether the service reaches it, and a line that says so."""
    for scenario in scenarios:
        if scenario.contenders is Contenders.REPLICAS:
            yield _replicas_verdict(scenario, results)
        ours = results[scenario.name, SERVICE]
        for bar in scenario.bars:
            met = _met(bar, ours)
            wanted = f"at least {_share(bar.success)}" + (", no 429" if bar.no_throttling else "")
            found = f"{_share(ours.groups[bar.group].success)}, {ours.load.throttled_attempts} 429s"
            best = max(
                (result for (name, policy), result in results.items() if name == scenario.name and policy != SERVICE),
                key=lambda result: result.groups[bar.group].success,
            )
            others = f"{_share(best.groups[bar.group].success)}, {best.load.throttled:.0%} 429s ({best.policy})"
            yield met, f"{_word(met)}: {bar.title}: {found}; wanted {wanted}; best boto3 mode {others}"


def _replicas_verdict(scenario: Scenario, results: Results) -> tuple[bool, str]:
    one, shared, split = (results[scenario.name, policy] for policy in REPLICAS)
    alone, together, apart = (result.groups["all"].success for result in (one, shared, split))
    throttled = shared.load.throttled_attempts
    met = abs(alone - together) <= REPLICAS_MOST_DIFFERENCE and not throttled
    return met, (
        f"{_word(met)}: 3 replicas over Redis, {scenario.title}: {_share(together)}, {throttled} 429s; wanted within "
        f"{REPLICAS_MOST_DIFFERENCE} of one process, {_share(alone)}, no 429; split statically {_share(apart)}"
    )


def refusal_verdict(seconds: Sequence[float]) -> tuple[bool, str]:
    """Return the same for the time that a refusal takes; `seconds` in order of length."""
    p99 = seconds[int(len(seconds) * 0.99)]
    met = p99 < REFUSAL_LIMIT_SECONDS
    median = seconds[len(seconds) // 2]
    return met, (
        f"{_word(met)}: time to refuse, full queue, real time: median {median * 1000:.3f} ms, p99 {p99 * 1000:.3f} ms; "
        f"wanted below {REFUSAL_LIMIT_SECONDS * 1000:g} ms"
    )


def _met(bar: Bar, ours: Result) -> bool:
    return ours.groups[bar.group].success >= bar.success and not (bar.no_throttling and ours.load.throttled_attempts)


def _word(met: bool) -> str:  # noqa: FBT001 - private
    return "met" if met else "**missed**"


def _success(results: Results, scenario: Scenario, policy: str, group: str) -> str:
    figures = results[scenario.name, policy].groups[group]
    return _share(figures.success) + _older(results, scenario, policy, group)


def _older(results: Results, scenario: Scenario, policy: str, group: str) -> str:
    """Return the figure of botocore 1.43 in brackets where it was played too."""
    older = results.get((scenario.name, policy + OLDER))
    return f" [{_share(older.groups[group].success)}]" if older else ""


def _throttled(results: Results, scenario: Scenario, policy: str) -> str:
    load = results[scenario.name, policy].load
    return _share(load.throttled) if load.throttled_attempts else "0"


def _line(title: str, cells: Sequence[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _share(value: float) -> str:
    return f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value >= 0.01 else f"{value:.3f}"
