"""The service in this process, composed like `__main__` does, on a free port of loopback."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from fakes import FakeCredentials, FakeObserver
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub
from monitor_contact_service import server as grpc_server
from monitor_contact_service.admission import Admission, AdmissionObserver
from monitor_contact_service.attempts import Attempts, Transport
from monitor_contact_service.aws import Endpoint
from monitor_contact_service.connect import Connect, CredentialSource, open_http
from monitor_contact_service.core.fairness import FairQueue
from monitor_contact_service.core.latency import MedianSeconds
from monitor_contact_service.core.outage import Outage
from monitor_contact_service.handler import ANONYMOUS, Deadlines, MonitorContactHandler
from monitor_contact_service.health import Health
from monitor_contact_service.idempotency import Idempotency
from monitor_contact_service.quota import LocalQuota
from monitor_contact_service.reflection import Reflection
from monitor_contact_service.settings import Settings
from monitor_contact_service.turns import TokenSource, Turns

if TYPE_CHECKING:  # the stub file names it, the generated module does not
    from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceAsyncStub

# Valid in the simulator's default world: supervisor sue listens to agent ann's call on the main instance.
INSTANCE_ID = "10000000-0000-4000-8000-000000000001"
CONTACT_ID = "20000000-0000-4000-8000-000000000001"
USER_ID = "30000000-0000-4000-8000-000000000001"


# For tests of everything but the pace: a quota that no test uses up.
UNPACED: Final[dict[str, Any]] = {"listen": "127.0.0.1:0", "quota_rate": 50_000, "quota_burst": 50_000}


@dataclass
class Service:
    """A running service and what a test may want of its insides."""

    target: str
    channel: grpc.aio.Channel
    stub: "MonitorContactServiceAsyncStub"
    server: grpc.aio.Server
    health: Health
    reflection: Reflection
    admission: Admission
    call_seconds: MedianSeconds


def endpoint(url: str) -> Endpoint:
    """Return an endpoint on loopback."""
    return Endpoint(url=url, region="us-east-1", signing_name="connect", user_agent="tests", ca_file="", proxy=None)


@asynccontextmanager
async def connect_to(url: str, credentials: CredentialSource | None = None) -> AsyncIterator[Connect]:
    """Yield the real transport to a Connect at `url`."""
    where = endpoint(url)
    async with open_http(where, max_connections=100) as http:
        yield Connect(endpoint=where, credentials=credentials or FakeCredentials(), http=http)


@asynccontextmanager
async def serving(
    transport: Transport,
    settings: Settings | None = None,
    *,
    call_seconds: float = 0.05,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    caller_of: Callable[[Any], str] = lambda _: ANONYMOUS,
    tokens: TokenSource | None = None,
    outage: Outage | None = None,
    observer: AdmissionObserver | None = None,
) -> AsyncIterator[Service]:
    """Yield the service over `transport`: the real one of `connect_to`, or a fake. `sleep` waits between attempts."""
    settings = settings or Settings(**UNPACED)
    median = MedianSeconds(call_seconds)
    outage = outage or Outage()
    turns = Turns(
        tokens=tokens or LocalQuota(settings.quota, clock=time.monotonic),
        queue=FairQueue(weights=settings.caller_weights),
        outage=outage,
        call_seconds=median,
        clock=time.monotonic,
        draw=random.random,
    )
    admission = Admission(
        turns=turns,
        outage=outage,
        limits=settings.limits,
        call_seconds=median,
        observer=observer or FakeObserver(),
        clock=time.monotonic,
        draw=random.random,
    )
    attempts = Attempts(
        transport=transport,
        attempt_timeout_seconds=settings.attempt_timeout_seconds,
        call_seconds=median,
        clock=time.monotonic,
        sleep=sleep,
        draw=random.random,
    )
    handler = MonitorContactHandler(
        caller_of=caller_of,
        deadlines=Deadlines(settings.default_deadline_seconds, settings.max_deadline_seconds),
        idempotency=Idempotency(clock=time.monotonic),
        admission=admission,
        attempts=attempts,
        clock=time.monotonic,
    )
    health = Health([grpc_server.SERVICE])
    reflection = Reflection(grpc_server.services())
    server = grpc_server.build(settings, handler=handler, health=health, reflection=reflection)
    target = str(grpc_server.listen(server, settings.address))
    await server.start()
    health.set_alive()
    health.set_quota(True)
    health.set_ready(True)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    try:
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            stub = MonitorContactServiceStub(channel)
            yield Service(target, channel, stub, server, health, reflection, admission, median)
    finally:
        health.end_watches()
        reflection.end_streams()
        await server.stop(1)
