"""Plays one load against one policy in virtual time and tells what became of every call. Judges nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import virtual_time
from arrivals import Call, source
from upstream import Attempt, Behaviour, Upstream

# After the load, time for those who still wait; a caller that is not answered by then never was.
DRAIN_SECONDS = 120.0


class Policy(Protocol):
    """One way to share the quota."""

    async def monitor(self, call: Call) -> bool:
        """Make a call; True if it succeeded."""


PolicyFactory = Callable[[Upstream, Callable[[], float], Random], Policy]


@dataclass(slots=True)
class Outcome:
    """What became of a call. `ended_at` is None if it still waited at the end."""

    call: Call
    succeeded: bool = False
    ended_at: float | None = None

    @property
    def in_time(self) -> bool:
        """True if it succeeded within its deadline."""
        return self.succeeded and self.ended_at is not None and self.ended_at <= self.call.deadline


@dataclass(frozen=True, slots=True)
class Run:
    """All that happened under one seed."""

    outcomes: Sequence[Outcome]
    attempts: Sequence[Attempt]


def play(calls: Sequence[Call], behaviour: Behaviour, new_policy: PolicyFactory, seed: int, until: float) -> Run:
    """Make the calls through a policy, each at its time, and stop `until` virtual seconds."""
    return virtual_time.run(_play(calls, behaviour, new_policy, seed, until))


async def _play(calls: Sequence[Call], behaviour: Behaviour, new_policy: PolicyFactory, seed: int, until: float) -> Run:
    loop = asyncio.get_running_loop()
    draws = source(seed)
    upstream = Upstream(behaviour, loop.time, draws)
    policy = new_policy(upstream, loop.time, draws)
    outcomes = [Outcome(call) for call in calls]
    tasks: list[asyncio.Task[None]] = []

    def start(outcome: Outcome) -> None:
        tasks.append(loop.create_task(_make(outcome, policy.monitor(outcome.call), loop.time)))

    for outcome in outcomes:
        loop.call_at(outcome.call.at, start, outcome)
    await asyncio.sleep(calls[-1].at + 1e-6 if calls else 0.0)
    _, late = await asyncio.wait(tasks, timeout=until - loop.time())
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()
    return Run(outcomes, upstream.attempts)


async def _make(outcome: Outcome, call: Awaitable[bool], clock: Callable[[], float]) -> None:
    outcome.succeeded = await call
    outcome.ended_at = clock()
