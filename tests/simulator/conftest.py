"""Fixtures: a simulator whose clock stands still and whose sleeps end on command, and a caller for it."""

from collections.abc import AsyncIterator

import pytest
from monitor_contact_service.simulator import Simulator

from .support import Caller, FakeClock, FakeSleep


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
async def sleep() -> FakeSleep:
    """Sleeps that end when the test says so."""
    return FakeSleep()


@pytest.fixture
async def sim(clock: FakeClock, sleep: FakeSleep) -> AsyncIterator[Simulator]:
    """A simulator of the default world with all defaults."""
    async with Simulator(clock=clock, sleep=sleep) as running:
        yield running


@pytest.fixture
def caller(sim: Simulator, clock: FakeClock) -> Caller:
    """A caller of `sim`."""
    return Caller(sim, clock)
