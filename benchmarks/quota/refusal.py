"""Measures, in real time, how long the service takes to refuse what cannot succeed while its queue is full."""

import asyncio
import random
import time
from collections.abc import Sequence

import service_model
from arrivals import Call
from upstream import Behaviour, Upstream

REFUSALS = 1000
CALLERS = 20
# More than can be served within a minute, so that the queue is as long as admission lets it become.
WAITING = 300
PATIENCE_SECONDS = 60.0


def refusal_seconds() -> Sequence[float]:
    """Return how long each of many refusals took, in order of length."""
    return sorted(asyncio.run(_refuse()))


async def _refuse() -> Sequence[float]:
    clock, draws = time.monotonic, random.Random(1)  # noqa: S311 - no secret
    upstream = Upstream(Behaviour(), clock, draws)
    service = service_model.service(upstream, clock, draws)
    now = clock()
    waiting = [
        asyncio.create_task(service.monitor(Call(now, f"caller-{number % CALLERS}", PATIENCE_SECONDS)))
        for number in range(WAITING)
    ]
    await asyncio.sleep(0.1)  # they queue up
    seconds = []
    for number in range(REFUSALS):
        call = Call(now, f"caller-{number % CALLERS}", PATIENCE_SECONDS)  # less time left than those who wait had
        started = time.perf_counter()
        succeeded = await service.monitor(call)
        seconds.append(time.perf_counter() - started)
        if succeeded:
            raise RuntimeError("a call succeeded that could not be in time")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return seconds
