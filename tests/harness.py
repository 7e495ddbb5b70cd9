"""The service in this process, composed like `__main__` does, on a free port of loopback."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

import grpc.aio
from audit_fakes import MemoryLog
from fakes import FakeCredentials, FakeObserver
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub
from monitor_contact_service import server as grpc_server
from monitor_contact_service.access import OPEN_ACCESS, Access
from monitor_contact_service.admission import Admission
from monitor_contact_service.assembly import ConnectTransport, Observer, Outside, Timing, assemble, handler_of
from monitor_contact_service.attempts import Transport
from monitor_contact_service.audit import AuditLog
from monitor_contact_service.authorization import AssumedSupervisors
from monitor_contact_service.connect import Connect, CredentialSource, open_http
from monitor_contact_service.core.caller import Authentication, Caller, Principal
from monitor_contact_service.core.latency import MedianSeconds
from monitor_contact_service.core.outage import Outage
from monitor_contact_service.core.policy import Policies
from monitor_contact_service.endpoint import Endpoint
from monitor_contact_service.handler import Steps
from monitor_contact_service.health import Health
from monitor_contact_service.interceptors import CallGuard
from monitor_contact_service.metrics import Metrics
from monitor_contact_service.policy_files import demo_policies
from monitor_contact_service.quota import LocalQuota
from monitor_contact_service.reflection import Reflection
from monitor_contact_service.settings import Settings
from monitor_contact_service.tracing import NOT_TRACED, Tracer
from monitor_contact_service.turns import TokenSource
from monitor_contact_service.upstream import UNOBSERVED, Upstream

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
    steps: Steps
    call_seconds: MedianSeconds

    @property
    def admission(self) -> Admission:
        """Step 5."""
        return self.steps.admission


@dataclass
class NamedCallers:
    """Believes callers who they say they are; all of them may what `anonymous` may."""

    caller_of: Callable[[Any], str]

    def caller(self, context: Any) -> Caller:
        """Return who calls."""
        return Caller(Principal(self.caller_of(context), Authentication.SPIFFE))

    def change(self, access: Access) -> None:
        """Take no notice."""


class _Anybody(Access):
    """Everybody has the role that the built-in policies permit everything."""

    def caller(self, principal_id: str) -> Any:
        """Return what `anonymous` is."""
        del principal_id
        return OPEN_ACCESS.callers["anonymous"]


def endpoint(url: str) -> Endpoint:
    """Return an endpoint on loopback."""
    return Endpoint(url=url, region="us-east-1", signing_name="connect", user_agent="tests", ca_file="", proxy=None)


@asynccontextmanager
async def connect_to(
    url: str, credentials: CredentialSource | None = None, upstream: Upstream = UNOBSERVED
) -> AsyncIterator[Connect]:
    """Yield the real transport to a Connect at `url`."""
    where = endpoint(url)
    async with open_http(where, max_connections=100) as http:
        yield Connect(endpoint=where, credentials=credentials or FakeCredentials(), http=http, upstream=upstream)


@asynccontextmanager
async def serving(
    transport: Transport,
    settings: Settings | None = None,
    *,
    call_seconds: float = 0.05,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    caller_of: Callable[[Any], str] | None = None,
    tokens: TokenSource | None = None,
    outage: Outage | None = None,
    observer: Observer | None = None,
    metrics: Metrics | None = None,
    tracer: Tracer = NOT_TRACED,
    access: Access | None = None,
    policies: Policies | None = None,
    audit_log: AuditLog | None = None,
    reads: bool = False,
) -> AsyncIterator[Service]:
    """Yield the service over `transport`: the real one of `connect_to`, or a fake.

    `sleep` waits between attempts. `metrics` are told of everything but requests to Connect. With `caller_of` callers
    are believed who they are. Only with `reads` is Connect asked about supervisors, and for the cause of
    SERVICE_QUOTA_EXCEEDED.
    """
    settings = settings or Settings(**UNPACED)
    median = MedianSeconds(call_seconds)
    outside = Outside(
        connect=cast("ConnectTransport", transport),
        tokens=tokens or LocalQuota(settings.quota, clock=time.monotonic),
        audit_log=audit_log or MemoryLog(),
        observer=observer or metrics or FakeObserver(),
        tracer=tracer,
        caller_name=metrics.caller_name if metrics else str,
        timing=Timing(sleep=sleep),
        call_seconds=median,
        outage=outage or Outage(),
    )
    access = access or (OPEN_ACCESS if caller_of is None else _Anybody())
    steps = assemble(settings, access, policies or demo_policies(), outside)
    if caller_of is not None:
        steps = replace(steps, authenticator=NamedCallers(caller_of))
    if not reads:
        steps = replace(steps, supervisors=AssumedSupervisors(), diagnosis=None)
    handler = handler_of(settings, steps, outside)
    health = Health([grpc_server.SERVICE])
    reflection = Reflection(grpc_server.services())
    guard = CallGuard(metrics.calls if metrics else None, tracer, handler.refused)
    server = grpc_server.build(settings, handler=handler, health=health, reflection=reflection, guard=guard)
    target = str(grpc_server.listen(server, settings.address))
    await server.start()
    health.set_alive()
    health.set_quota(True)
    health.set_ready(True)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    try:
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            stub = MonitorContactServiceStub(channel)
            yield Service(target, channel, stub, server, health, reflection, steps, median)
    finally:
        health.end_watches()
        reflection.end_streams()
        await server.stop(1)
