"""What a long queue costs: `queue_cost.py`, or `queue_cost.py --check`. Its table stands in docs/quota.md.

Measures in real time, with 100 to 100,000 waiting, the operations of the fair queue, and one whole admission: a call
comes, waits and is cancelled. Judged is the decision whether a call is let in.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from statistics import median

import service_model
from arrivals import source
from monitor_contact_service.core.fairness import FairQueue
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.core.work import Work
from monitor_contact_service.quota import LocalQuota
from upstream import Behaviour, Upstream

LENGTHS = (100, 1_000, 10_000, 100_000)
WAITING_PER_CALLER = 10
ROUNDS = 1_000
# So long that nothing runs out while it is measured: the next token comes after a quarter of an hour.
PATIENCE_SECONDS = 1e9
QUOTA_RATE = 0.001
# O(log n) costs twice as much at 10,000 as at 100; the rest is room for caches and noise.
DECISION = "decide whether a call is let in (ahead)"
JUDGED_LENGTH, MOST_TIMES = 10_000, 3.0

Microseconds = Mapping[str, float]  # by operation, median


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a decision costs too much")
    arguments = parser.parse_args()
    costs = {length: {**_queue_costs(length), **asyncio.run(_admission_costs(length))} for length in LENGTHS}
    print(*_table(costs), "", sep="\n")
    times = costs[JUDGED_LENGTH][DECISION] / costs[LENGTHS[0]][DECISION]
    met = times <= MOST_TIMES
    print(
        f"{'met' if met else 'MISSED'}: {DECISION}, {JUDGED_LENGTH:,} waiting: {times:.1f} times the cost with "
        f"{LENGTHS[0]}; wanted at most {MOST_TIMES:g}"
    )
    return 1 if arguments.check and not met else 0


def _table(costs: Mapping[int, Microseconds]) -> Iterator[str]:
    yield f"| µs, median (times the cost with {LENGTHS[0]}) | {' | '.join(f'{length:,} wait' for length in costs)} |"
    yield "|---|" + "---:|" * len(costs)
    first = costs[LENGTHS[0]]
    for name in first:
        cells = (f"{cost[name]:.1f} ({cost[name] / first[name]:.1f})" for cost in costs.values())
        yield f"| {name} | {' | '.join(cells)} |"


def _queue_costs(length: int) -> Microseconds:
    """Return what the operations of a queue cost; it has the same length before each."""
    queue, draws = FairQueue[None](weights={}), source(1)
    callers = length // WAITING_PER_CALLER
    numbers = itertools.count()

    def push() -> None:
        # As calls come: in no order of deadline among callers, in order among a caller's own.
        number = next(numbers)
        queue.push(f"caller-{number % callers}", number + draws.uniform(0, length / 2), None)

    for _ in range(length):
        push()
    seconds: dict[str, list[float]] = {name: [] for name in (DECISION, "push", "take the next", "remove a cancelled")}
    for _ in range(ROUNDS):
        number = next(numbers)
        caller, deadline = f"caller-{number % callers}", number + draws.uniform(0, length / 2)
        seconds[DECISION].append(_seconds(lambda: queue.ahead(caller, deadline)))  # noqa: B023 - called at once
        seconds["push"].append(_seconds(push))
        seconds["take the next"].append(_seconds(queue.pop))
        ticket = queue.push(caller, deadline, None)
        seconds["remove a cancelled"].append(_seconds(lambda: queue.remove(ticket)))  # noqa: B023 - called at once
    return {name: median(each) * 1e6 for name, each in seconds.items()}


def _seconds(operation: Callable[[], object]) -> float:
    started = time.perf_counter()
    operation()
    return time.perf_counter() - started


async def _admission_costs(length: int) -> Microseconds:
    """Return what it costs that a call comes, is let in, waits and is cancelled, the event loop's turns included."""
    clock, draws = time.monotonic, source(1)
    service_model.SETTINGS = service_model.SETTINGS.model_copy(
        update={"queue_total": 10 * length, "max_in_flight": 10 * length}
    )
    tokens = LocalQuota(Quota(QUOTA_RATE, 1), clock=clock)
    tokens.take()  # at the start there is one
    admission, _ = service_model.compose(
        tokens, service_model.ModelledConnect(Upstream(Behaviour(), clock, draws)), clock, draws
    )

    async def wait(number: int) -> None:
        caller = f"caller-{number % (length // WAITING_PER_CALLER)}"
        async with admission.place(caller, Work(clock() + PATIENCE_SECONDS)):
            raise AssertionError("there was a token")

    waiting = [asyncio.create_task(wait(number)) for number in range(length)]
    await asyncio.sleep(0)
    seconds = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        call = asyncio.create_task(wait(number))
        await asyncio.sleep(0)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        seconds.append(time.perf_counter() - started)
    if admission.turns.waiting != length:
        raise RuntimeError("calls did not wait as they should")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return {"a call comes, waits and is cancelled": median(seconds) * 1e6}


if __name__ == "__main__":
    sys.exit(main())
