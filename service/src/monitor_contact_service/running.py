"""Runs a command on an event loop until it is signalled."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

import uvloop

from .exits import EXIT_INTERRUPTED


def run(main_task: Coroutine[Any, Any, None]) -> None:
    """Run a command's main task to its end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main_task)


def stop_signal() -> asyncio.Event:
    """Return the event that the first SIGTERM or SIGINT sets; the second ends the process at once."""
    stopped = asyncio.Event()

    def on_signal() -> None:
        if stopped.is_set():
            os._exit(EXIT_INTERRUPTED)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stopped
