"""Several replicas of the service in virtual time, with one quota in a real Redis or with a fixed part of it each.

The script runs in a real redis-server; only the time comes from us, as its last argument; the way there is modelled.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from uuid import uuid4

import redis
import service_model
from arrivals import Call
from monitor_contact_service.quota import LocalQuota
from monitor_contact_service.reservations import BODY, NOW_FROM_ARGUMENT, Answer, Command, decode
from monitor_contact_service.shared_quota import SharedQuota
from monitor_contact_service.turns import TokenSource
from service_model import SETTINGS, ModelledConnect, Service
from upstream import Upstream

HOST = "127.0.0.1"
# Where the players find the server: they are processes of their own.
PORT_VARIABLE = "BENCHMARK_REDIS_PORT"
START_SECONDS = 10.0
REPLICAS = 3
# A channel stays with its replica, so callers are spread unevenly: of ten, six, two and two.
REPLICA_BY_LAST_DIGIT: Mapping[str, int] = {str(digit): max(0, (digit - 4) // 2) for digit in range(10)}
ROUND_TRIP_SECONDS = 0.001


class NoRedisError(Exception):
    """There is no redis-server, or it does not start."""


class VirtualRedis:
    """Runs the service's script in the real server, at the virtual time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._redis = redis.Redis(host=HOST, port=int(os.environ[PORT_VARIABLE]), decode_responses=True)

    async def run(self, command: Command) -> Answer:
        """Run the script once."""
        await asyncio.sleep(ROUND_TRIP_SECONDS / 2)
        now_microseconds = round(self._clock() * 1e6)
        answer = self._redis.eval(
            NOW_FROM_ARGUMENT + BODY, len(command.keys), *command.keys, *map(str, command.arguments), now_microseconds
        )
        await asyncio.sleep(ROUND_TRIP_SECONDS / 2)
        return decode(answer)

    async def close(self) -> None:
        """Close the connection."""
        self._redis.close()


class Replicas:
    """The policy: each caller calls its replica."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services

    async def monitor(self, call: Call) -> bool:
        """Make one call; True if it succeeded."""
        return await self._services[REPLICA_BY_LAST_DIGIT[call.caller[-1]]].monitor(call)


def over_redis(upstream: Upstream, clock: Callable[[], float], draws: Random) -> Replicas:
    """Return replicas that share the quota."""
    scope = str(uuid4())  # another quota than that of any other run

    def tokens() -> SharedQuota:
        quota = SharedQuota(
            VirtualRedis(clock), scope=scope, quota=SETTINGS.quota, replicas=REPLICAS, clock=clock, sleep=asyncio.sleep
        )
        starting.append(asyncio.ensure_future(quota.__aenter__()))
        return quota

    starting: list[asyncio.Future[SharedQuota]] = []
    return Replicas([_service(tokens(), upstream, clock, draws) for _ in range(REPLICAS)])


def split(upstream: Upstream, clock: Callable[[], float], draws: Random) -> Replicas:
    """Return replicas that have a fixed part of the quota each."""
    part = SETTINGS.quota.share(REPLICAS)
    return Replicas([_service(LocalQuota(part, clock=clock), upstream, clock, draws) for _ in range(REPLICAS)])


def _service(tokens: TokenSource, upstream: Upstream, clock: Callable[[], float], draws: Random) -> Service:
    return Service(*service_model.compose(tokens, ModelledConnect(upstream), clock, draws), clock)


@contextmanager
def redis_server() -> Iterator[None]:
    """Run a redis-server, without persistence, and tell the players its port in the environment.

    Raises:
        NoRedisError: it is not installed or does not start.
    """
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise NoRedisError("redis-server is not installed: apt-get install redis-server (it need not run as a service)")
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="quota-redis-") as folder:
        log = Path(folder) / "log"
        options = {"port": port, "bind": HOST, "save": "", "appendonly": "no", "dir": folder, "logfile": log}
        process = subprocess.Popen(
            [program, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        )
        try:
            _wait_for(process, port, log)
            os.environ[PORT_VARIABLE] = str(port)
            yield
        finally:
            process.terminate()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)
    raise NoRedisError(f"redis-server does not start: {log.read_text() if log.exists() else process.args!r}")
