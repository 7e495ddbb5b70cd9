"""Runs tests in virtual time: what waits for timers takes none, and the clock says that it has."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import virtual_time
from fakes import FakeClock


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in virtual time; parameters and fixtures are given as usual."""

    def run(*arguments: Any, **named: Any) -> None:
        virtual_time.run(test(*arguments, **named))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__wrapped__ = test  # type: ignore[attr-defined]  # pytest reads the arguments' names there
    return run


class VirtualClock(FakeClock):
    """The time of the virtual loop: it moves when everybody waits."""

    def __call__(self) -> float:
        """Return the present."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait for the time to pass, and remember it."""
        self.slept.append(seconds)
        await asyncio.sleep(seconds)

    async def elapse(self, seconds: float) -> None:
        """Let the time pass."""
        await asyncio.sleep(seconds)
