"""An asyncio event loop whose time is made up: who waits is woken at once, and the clock says that the time has passed.

Nothing else about asyncio changes, so the service's own coroutines run unaltered, minutes of their time in a second of
ours, and always in the same way. Only for coroutines that wait for nothing but timers and each other.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

# Passes with each turn of the loop: otherwise a wait that is shorter than the clock can tell would never end.
TICK_SECONDS = 1e-9


class DeadlockError(Exception):
    """Everybody waits for somebody else: no timer is set and nothing is ready."""


class _JumpingSelector(selectors.SelectSelector):
    """Waits for no file: passes the time that the loop would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError
        self.now += timeout + TICK_SECONDS
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()` starts at 0 and jumps to the next timer whenever nothing is ready."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the seconds that have passed, all of them made up."""
        return self._jumping.now


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` in a virtual time of its own and return its result.

    Raises:
        DeadlockError: `main` waits for something that no timer will bring about.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
