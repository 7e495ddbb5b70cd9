"""`monitor-contact simulate`: runs the simulator until it is stopped and says how to reach it.

Which world, which address and what to do about errors is the command line's matter.
"""

import asyncio
import sys
from typing import TextIO

from .server import Simulator
from .world import World

DEFAULT_PORT = 4570


def describe(simulator: Simulator) -> str:
    """Return what a person needs to use a running simulator: where it is, and the lines to paste into a shell."""
    world = simulator.world
    exports = "\n".join(f"export {name}={value}" for name, value in simulator.environment.items())
    return (
        f"Simulating Amazon Connect for account {world.account} in {world.region} at {simulator.url}\n"
        f"Point a client at it with:\n{exports}\n"
    )


async def simulate(
    world: World | None = None,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    quiet: bool = False,
    output: TextIO | None = None,
    log: TextIO | None = None,
) -> None:
    """Serve until cancelled. The environment lines go to `output` (stdout), a line for each call to `log` (stderr).

    quiet: no lines for calls. NotLoopbackError: host is not on loopback. OSError: the port is taken, or not ours.
    """
    calls = None if quiet else _LineWriter(log or sys.stderr)
    async with Simulator(world, host=host, port=port, log=calls) as simulator:
        _LineWriter(output or sys.stdout)(describe(simulator))
        await asyncio.get_running_loop().create_future()


class _LineWriter:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, line: str) -> None:
        self._stream.write(line.rstrip("\n") + "\n")
        self._stream.flush()
