"""Who calls when: the load of each scenario, the same for every policy and the same in every run."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

CALLERS = 20
LOAD_SECONDS = 300.0
DEADLINE_SECONDS = 10.0
# Arrivals and what happens at Connect draw from sources of their own, so that no policy changes the arrivals.
FIRST_SEED = 1000
HOG = "hog"
SHORT_SECONDS, LONG_SECONDS = 2.0, 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call that somebody will make. `at` in virtual seconds; `deadline_seconds` from then on."""

    at: float
    caller: str
    deadline_seconds: float = DEADLINE_SECONDS

    @property
    def deadline(self) -> float:
        """When it is too late, in virtual seconds."""
        return self.at + self.deadline_seconds


Arrivals = Callable[[int], Sequence[Call]]


def source(seed: int) -> Random:
    """Return a source of repeatable draws."""
    return Random(seed)  # noqa: S311 - no secret


def steady(rate: float, callers: int = CALLERS) -> Arrivals:
    """Return Poisson arrivals of `rate` calls a second together; each caller has a stream of its own."""

    def arrivals(seed: int) -> Sequence[Call]:
        draws = source(FIRST_SEED + seed)
        return _in_order(
            Call(at, f"caller-{number}") for number in range(callers) for at in _poisson(draws, rate / callers)
        )

    return arrivals


def mixed(rate: float) -> Arrivals:
    """Return the arrivals of `steady`, half of them with a short deadline and half with a long one."""

    def arrivals(seed: int) -> Sequence[Call]:
        draws = source(seed)
        return [
            replace(call, deadline_seconds=SHORT_SECONDS if draws.random() < 0.5 else LONG_SECONDS)
            for call in steady(rate)(seed)
        ]

    return arrivals


def herd(callers: int, deadline_seconds: float, within_seconds: float, starts: Sequence[float] = (0.0,)) -> Arrivals:
    """Return arrivals of all callers together, once after each of `starts`."""

    def arrivals(seed: int) -> Sequence[Call]:
        draws = source(FIRST_SEED + seed)
        return _in_order(
            Call(start + draws.uniform(0, within_seconds), f"caller-{number}", deadline_seconds)
            for start in starts
            for number in range(callers)
        )

    return arrivals


def hog(rate: float, light_callers: int, light_rate: float) -> Arrivals:
    """Return arrivals of one caller with `rate` calls a second beside light ones with `light_rate` each."""

    def arrivals(seed: int) -> Sequence[Call]:
        draws = source(seed)
        calls = [Call(at, HOG) for at in _poisson(draws, rate)]
        for number in range(light_callers):
            calls += [Call(at, f"light-{number}") for at in _poisson(draws, light_rate)]
        return _in_order(calls)

    return arrivals


def _poisson(draws: Random, rate: float) -> Iterator[float]:
    now = draws.expovariate(rate)
    while now < LOAD_SECONDS:
        yield now
        now += draws.expovariate(rate)


def _in_order(calls: Iterable[Call]) -> Sequence[Call]:
    return sorted(calls, key=lambda call: call.at)
