"""The one composer: settings -> collaborators -> server -> run until signalled -> drain; and the simulator's start."""

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
import uvloop

from . import server as grpc_server
from . import simulator
from .admission import Admission
from .attempts import Attempts
from .aws import Credentials, Endpoint, new_session, resolve_endpoint
from .cli import main
from .connect import Connect, open_http
from .core.latency import MedianSeconds
from .exits import EXIT_INTERRUPTED, CannotStartError
from .handler import Deadlines, MonitorContactHandler
from .health import Health
from .reflection import Reflection
from .settings import Address, ConfigurationError, Settings, parse_address, read_settings, variable
from .telemetry import configure_logging, fields

Value = TypeVar("Value")

_log = logging.getLogger("monitor_contact_service")


def serve(_: argparse.Namespace) -> int:
    """Run the service until it is signalled."""
    settings, endpoint, credentials = _configuration()
    configure_logging(settings.log_level, settings.log_format)
    _run(_serve(settings, endpoint, credentials))
    return 0


def check_config(_: argparse.Namespace) -> int:
    """Report every problem of the configuration, or what `serve` would use."""
    settings, endpoint, _credentials = _configuration()
    lines = [f"{variable(name)}={getattr(settings, name)}" for name in Settings.model_fields]
    lines.append(f"Connect is {endpoint.url}, Region {endpoint.region}; AWS credentials are configured")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def simulate(arguments: argparse.Namespace) -> int:
    """Run the stand-in for Connect until it is signalled."""
    if arguments.print_world:
        sys.stdout.write(simulator.default_world_text())
        return 0
    try:
        world = simulator.load_world(Path(arguments.world)) if arguments.world else simulator.default_world()
        _run(_simulate(world, parse_address(arguments.listen)))
    except simulator.WorldError as error:
        raise ConfigurationError(str(error).splitlines()) from error
    except ValueError as error:
        raise ConfigurationError([f"--listen {arguments.listen}: {error}"]) from error
    except OSError as error:
        raise CannotStartError([f"cannot listen on {arguments.listen}: {error.strerror} (--listen)"]) from error
    return 0


def _run(main_task: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main_task)


def _configuration() -> tuple[Settings, Endpoint, Credentials]:
    """Return what the environment asks for.

    Raises:
        ConfigurationError: with every problem of our settings and of AWS's configuration.
    """
    problems: list[str] = []
    credentials = Credentials(new_session, clock=time.monotonic)
    settings = _checked(read_settings, problems)
    endpoint = _checked(lambda: resolve_endpoint(new_session()), problems)
    _checked(credentials.require_configured, problems)
    if settings is None or endpoint is None or problems:
        raise ConfigurationError(problems)
    return settings, endpoint, credentials


def _checked(read: Callable[[], Value], problems: list[str]) -> Value | None:
    try:
        return read()
    except ConfigurationError as error:
        problems.extend(error.problems)
        return None


async def _simulate(world: simulator.World, address: Address) -> None:
    stopped = asyncio.ensure_future(_stop_signal().wait())
    serving = asyncio.ensure_future(simulator.simulate(world, address.host, address.port))
    await asyncio.wait((stopped, serving), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    serving.cancel()


async def _serve(settings: Settings, endpoint: Endpoint, credentials: Credentials) -> None:
    stopped = _stop_signal()
    async with open_http(endpoint, max_connections=settings.max_in_flight) as http:
        connect = Connect(endpoint=endpoint, credentials=credentials, http=http)
        call_seconds = MedianSeconds()
        admission = Admission(
            max_in_flight=settings.max_in_flight, call_seconds=call_seconds, clock=time.monotonic, draw=random.random
        )
        attempts = Attempts(
            transport=connect,
            attempt_timeout_seconds=settings.attempt_timeout_seconds,
            call_seconds=call_seconds,
            clock=time.monotonic,
            sleep=asyncio.sleep,
            draw=random.random,
        )
        handler = MonitorContactHandler(
            deadlines=Deadlines(settings.default_deadline_seconds, settings.max_deadline_seconds),
            admission=admission,
            attempts=attempts,
            clock=time.monotonic,
        )
        health = Health([grpc_server.SERVICE])
        reflection = Reflection(grpc_server.services()) if settings.serves_reflection else None
        server = grpc_server.build(settings, handler=handler, health=health, reflection=reflection)
        address = grpc_server.listen(server, settings.address)
        await server.start()
        health.set_alive()
        _log.info("listening", extra=fields(address=str(address), connect=endpoint.url, region=endpoint.region))
        async with asyncio.TaskGroup() as background:
            tasks = [
                background.create_task(credentials.keep_fresh(health.set_ready)),
                background.create_task(connect.keep_warm()),
            ]
            await stopped.wait()
            await _drain(settings, server, health, admission, reflection)
            for task in tasks:
                task.cancel()


async def _drain(
    settings: Settings, server: grpc.aio.Server, health: Health, admission: Admission, reflection: Reflection | None
) -> None:
    """Let clients leave, then let the calls in flight finish. The order was measured: no call is lost."""
    _log.info("draining", extra=fields(seconds=settings.drain_seconds))
    health.drain()
    await asyncio.sleep(settings.drain_seconds)
    admission.close()
    # No await between ending the streams and stop(): an open stream makes stop() last its whole grace.
    health.end_watches()
    if reflection is not None:
        reflection.end_streams()
    await server.stop(settings.stop_grace_seconds)
    _log.info("stopped")


def _stop_signal() -> asyncio.Event:
    """Return the event that the first SIGTERM or SIGINT sets; the second ends the process at once."""
    stopped = asyncio.Event()

    def on_signal() -> None:
        if stopped.is_set():
            os._exit(EXIT_INTERRUPTED)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stopped


if __name__ == "__main__":
    sys.exit(main())
