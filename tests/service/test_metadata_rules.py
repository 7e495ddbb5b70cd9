"""The rules of `core.metadata` as each unary method of a real server keeps them, for callers with gRPC's library."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceServicer, MonitorContactServiceStub
from monitor_contact_service import server as grpc_server
from monitor_contact_service.health import Health
from monitor_contact_service.settings import Settings

from service._refused import refused

if TYPE_CHECKING:
    from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceAsyncStub

_GENEROUS_SECONDS: Final = 20.0  # a test that would hang for ever ends
_TOKEN: Final = "Bearer geheim"

Entries = Sequence[tuple[str, str | bytes]]


@dataclass
class _Handler(MonitorContactServiceServicer):
    """Remembers the metadata of each call that reaches it, without what gRPC adds."""

    seen: list[Entries] = field(default_factory=list)

    async def MonitorContact(  # noqa: N802 - the contract's name
        self,
        request: MonitorContactRequest,
        context: "grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]",
    ) -> MonitorContactResponse:
        """Answer with the contact's id."""
        entries = context.invocation_metadata() or ()
        self.seen.append([(str(key), value) for key, value in entries if key != "user-agent"])
        return MonitorContactResponse(contact_id=request.contact_id)


@dataclass(frozen=True)
class _Running:
    """A server and how to call it."""

    handler: _Handler
    health: "HealthStub"
    stub: "MonitorContactServiceAsyncStub"

    async def call(self, metadata: Entries) -> MonitorContactResponse:
        """Call our own method."""
        return await self.stub.MonitorContact(MonitorContactRequest(), metadata=metadata, timeout=_GENEROUS_SECONDS)


@asynccontextmanager
async def _serving() -> AsyncIterator[_Running]:
    handler, settings = _Handler(), Settings(listen="127.0.0.1:0")
    server = grpc_server.build(settings, handler=handler, health=Health([grpc_server.SERVICE]), reflection=None)
    target = str(grpc_server.listen(server, settings.address))
    await server.start()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    try:
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            health = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
            yield _Running(handler, health, MonitorContactServiceStub(channel))
    finally:
        await server.stop(1)


@pytest.fixture
async def running() -> AsyncIterator[_Running]:
    """A server of the test's own."""
    async with _serving() as service:
        yield service


async def test_honest_metadata_arrives_as_it_was_sent(running: _Running) -> None:
    """All five keys of the service, others repeated, binary values, and as many entries as there may be."""
    metadata: Entries = [
        ("authorization", _TOKEN),
        ("x-end-user-token", "a.b.c"),
        ("x-forwarded-client-cert", 'By=spiffe://corp.example/us;URI="spiffe://corp.example/qa"'),
        ("x-monitor-reason", "coaching: first call"),
        ("x-monitor-ticket", "QA-1"),
        ("x-raw-bin", b"\x00\n\xff"),
        *[("x-other", "")] * 57,  # and gRPC's own user-agent is the 64th
    ]
    await running.call(metadata)
    assert running.handler.seen == [metadata]


@pytest.mark.parametrize(
    ("metadata", "violations"),
    [
        ([("authorization", _TOKEN), ("authorization", _TOKEN)], [("authorization", "METADATA_REPEATED")]),
        ([("x-end-user-token", "a"), ("x-end-user-token", "b")], [("x-end-user-token", "METADATA_REPEATED")]),
        (
            [("x-forwarded-client-cert", "a"), ("x-other", ""), ("x-forwarded-client-cert", "b")],
            [("x-forwarded-client-cert", "METADATA_REPEATED")],
        ),
        (
            [("x-monitor-reason", "a"), ("x-monitor-reason", ""), ("x-monitor-ticket", "a"), ("x-monitor-ticket", "a")],
            [("x-monitor-reason", "METADATA_REPEATED"), ("x-monitor-ticket", "METADATA_REPEATED")],
        ),
        ([("authorization", _TOKEN), *[("x-geheim", "")] * 63], [("metadata", "METADATA_TOO_MANY")]),
    ],
)
async def test_a_refusal_names_what_is_wrong_and_repeats_nothing(
    running: _Running, metadata: Entries, violations: list[tuple[str, str]]
) -> None:
    """INVALID_ARGUMENT with every violation; no value, no foreign name; the handler has not been asked."""
    answer = await refused(running.call(metadata))
    assert (answer.code, answer.error_info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    assert answer.metadata == {"violations": str(len(violations))}
    assert answer.violations == violations
    assert answer.pushback_ms == -1
    assert len(answer.request_id) == 32
    assert "geheim" not in answer.wire
    assert running.handler.seen == []


async def test_health_keeps_the_rules_too_and_asks_nobody_who_calls(running: _Running) -> None:
    """A probe without credentials is answered; one with two of them is refused like every call."""
    status = await running.health.Check(HealthCheckRequest(service="liveness"), timeout=_GENEROUS_SECONDS)
    assert status == HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
    twice = running.health.Check(
        HealthCheckRequest(), timeout=_GENEROUS_SECONDS, metadata=[("authorization", "a"), ("authorization", "b")]
    )
    assert (await refused(twice)).violations == [("authorization", "METADATA_REPEATED")]
