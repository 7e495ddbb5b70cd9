"""`monitor-contact simulate`: runs the stand-in for Connect until it is signalled. `serve` loads none of it."""

import argparse
import asyncio
import sys
from pathlib import Path

from . import simulator
from .address import Address, parse_address
from .exits import CannotStartError
from .running import run, stop_signal
from .settings import ConfigurationError


def simulate(arguments: argparse.Namespace) -> int:
    """Run the stand-in for Connect until it is signalled."""
    if arguments.print_world:
        sys.stdout.write(simulator.default_world_text())
        return 0
    try:
        world = simulator.load_world(Path(arguments.world)) if arguments.world else simulator.default_world()
        run(_simulate(world, parse_address(arguments.listen)))
    except simulator.WorldError as error:
        raise ConfigurationError(str(error).splitlines()) from error
    except ValueError as error:
        raise ConfigurationError([f"--listen {arguments.listen}: {error}"]) from error
    except OSError as error:
        raise CannotStartError([f"cannot listen on {arguments.listen}: {error.strerror} (--listen)"]) from error
    return 0


async def _simulate(world: simulator.World, address: Address) -> None:
    stopped = asyncio.ensure_future(stop_signal().wait())
    serving = asyncio.ensure_future(simulator.simulate(world, address.host, address.port))
    await asyncio.wait((stopped, serving), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    serving.cancel()
