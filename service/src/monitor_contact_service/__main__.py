"""The one composer: settings -> collaborators -> server -> run until signalled -> drain; and the simulator's start."""

from . import engine  # noqa: F401 - before anything of gRPC

# isort: split

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
import uvloop

from . import server as grpc_server
from . import simulator
from .address import Address, parse_address
from .admission import Admission, AdmissionObserver
from .attempts import Attempts
from .aws import Credentials, Endpoint, new_session, resolve_endpoint
from .cli import main
from .connect import Connect, open_http
from .core.fairness import FairQueue
from .core.latency import MedianSeconds
from .core.outage import Outage
from .environment import read_settings
from .exits import EXIT_INTERRUPTED, CannotStartError
from .handler import ANONYMOUS, Deadlines, MonitorContactHandler
from .health import Health
from .idempotency import Idempotency
from .metrics import Metrics, served
from .quota import LocalQuota
from .quota_url import quota_scope
from .reflection import Reflection
from .settings import RELOADABLE, ConfigurationError, Settings, printable, variable
from .shared_quota import SharedQuota
from .telemetry import configure_logging, fields
from .turns import TokenSource, Turns

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
    lines = list(printable(settings))
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
    if settings is not None and settings.redis is not None and find_spec("redis") is None:
        problems.append(
            f"{variable('quota_url')}: needs the Redis client: pip install 'monitor-contact-service[redis]'"
        )
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
    async with (
        open_http(endpoint, max_connections=settings.max_in_flight) as http,
        _tokens(settings, endpoint.region) as tokens,
        AsyncExitStack() as listeners,
    ):
        metrics = Metrics()
        connect = Connect(endpoint=endpoint, credentials=credentials, http=http)
        call_seconds = MedianSeconds()
        admission = _admission(settings, tokens, call_seconds, metrics)
        metrics.watch(tokens, admission)
        idempotency = Idempotency(clock=time.monotonic)
        handler = MonitorContactHandler(
            caller_of=lambda _: ANONYMOUS,
            deadlines=Deadlines(settings.default_deadline_seconds, settings.max_deadline_seconds),
            idempotency=idempotency,
            admission=admission,
            attempts=Attempts(
                transport=connect,
                attempt_timeout_seconds=settings.attempt_timeout_seconds,
                call_seconds=call_seconds,
                clock=time.monotonic,
                sleep=asyncio.sleep,
                draw=random.random,
            ),
            clock=time.monotonic,
        )
        _reload_on_hangup(settings, tokens, admission)
        health = Health([grpc_server.SERVICE])
        reflection = Reflection(grpc_server.services()) if settings.serves_reflection else None
        server = grpc_server.build(settings, handler=handler, health=health, reflection=reflection)
        if settings.metrics_address is not None:
            metrics_address = listeners.enter_context(served(metrics, settings.metrics_address))
            _log.info("metrics served", extra=fields(address=str(metrics_address)))
        address = grpc_server.listen(server, settings.address)
        await server.start()
        health.set_alive()
        if isinstance(tokens, SharedQuota):
            shared = tokens
            shared.on_shared_change = lambda: health.set_quota(shared.shared)
            shared.on_shared_change()
        else:
            health.set_quota(True)
        _log.info("listening", extra=fields(address=str(address), connect=endpoint.url, region=endpoint.region))
        async with asyncio.TaskGroup() as background:
            tasks = [
                background.create_task(credentials.keep_fresh(health.set_ready)),
                background.create_task(connect.keep_warm()),
            ]
            await stopped.wait()
            await _drain(settings, server, health, admission, reflection)
            # stop() does not wait for work that outlives its callers (measured).
            await idempotency.finish()
            for task in tasks:
                task.cancel()


@asynccontextmanager
async def _tokens(settings: Settings, region: str) -> AsyncIterator[LocalQuota | SharedQuota]:
    """Yield the quota: shared by all replicas if a Redis is configured, otherwise this replica's part of it."""
    if settings.redis is None:
        yield LocalQuota(settings.quota, replicas=settings.quota_replicas, clock=time.monotonic)
        return
    from .redis_script import RedisScript  # noqa: PLC0415 - the extra `redis` is installed where it is used

    async with SharedQuota(
        RedisScript(settings.redis),
        scope=quota_scope(settings.quota_name, region),
        quota=settings.quota,
        replicas=settings.quota_replicas,
        clock=time.monotonic,
    ) as shared:
        yield shared


def _admission(
    settings: Settings, tokens: TokenSource, call_seconds: MedianSeconds, observer: AdmissionObserver
) -> Admission:
    outage = Outage()
    turns = Turns(
        tokens=tokens,
        queue=FairQueue(weights=settings.caller_weights),
        outage=outage,
        call_seconds=call_seconds,
        clock=time.monotonic,
        draw=random.random,
    )
    return Admission(
        turns=turns,
        outage=outage,
        limits=settings.limits,
        call_seconds=call_seconds,
        observer=observer,
        clock=time.monotonic,
        draw=random.random,
    )


def _reload_on_hangup(settings: Settings, tokens: LocalQuota | SharedQuota, admission: Admission) -> None:
    """Let SIGHUP read the settings again; what it can change takes effect, with bad ones nothing changes."""

    def reload() -> None:
        try:
            new = read_settings()
        except ConfigurationError as error:
            _log.error("settings not reloaded: the old ones hold", extra=fields(problems=error.problems))
            return
        tokens.change(new.quota, new.quota_replicas)
        admission.change(new.limits, new.caller_weights)
        fixed = Settings.model_fields.keys() - RELOADABLE
        restart = sorted(variable(name) for name in fixed if getattr(new, name) != getattr(settings, name))
        _log.info("settings reloaded", extra=fields(rate=new.quota_rate, burst=new.quota_burst, needs_restart=restart))

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


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
