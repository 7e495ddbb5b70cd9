"""`health`: what clients and probes are told, over a real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
import pytest
from fakes import FakeClock, FakeTransport
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from harness import Service, serving
from monitor_contact_service.health import LIVENESS, QUOTA, READINESS, Health
from monitor_contact_service.server import SERVICE

if TYPE_CHECKING:
    Call = grpc.aio.UnaryStreamCall[HealthCheckRequest, HealthCheckResponse]

Value = TypeVar("Value")

_SERVING = HealthCheckResponse.SERVING
_NOT_SERVING = HealthCheckResponse.NOT_SERVING
_READY_NAMES: Final = ("", READINESS, SERVICE)
_ALL_NAMES: Final = (*_READY_NAMES, LIVENESS, QUOTA)
_GENEROUS_SECONDS: Final = 20.0  # a test that would hang for ever ends


@pytest.fixture
async def running() -> AsyncIterator[Service]:
    """The service over a fake transport: alive and ready."""
    async with serving(FakeTransport(FakeClock())) as service:
        yield service


def _stub(service: Service) -> HealthStub:
    return HealthStub(service.channel)  # type: ignore[no-untyped-call]  # generated


async def _check(service: Service, name: str) -> HealthCheckResponse.ServingStatus:
    response: HealthCheckResponse = await _stub(service).Check(HealthCheckRequest(service=name), timeout=5)
    return response.status


async def _list(service: Service) -> dict[str, HealthCheckResponse.ServingStatus]:
    response = await _stub(service).List(HealthListRequest(), timeout=5)
    return {name: status.status for name, status in response.statuses.items()}


async def _soon(awaitable: Awaitable[Value]) -> Value:
    async with asyncio.timeout(_GENEROUS_SECONDS):
        return await awaitable


async def _next(watch: "Call") -> HealthCheckResponse.ServingStatus:
    response = await _soon(watch.read())
    assert isinstance(response, HealthCheckResponse)
    return response.status


def _watch(service: Service, name: str) -> "Call":
    watch: Call = _stub(service).Watch(HealthCheckRequest(service=name))
    return watch


async def test_nobody_is_serving_before_somebody_says_so() -> None:
    """All names are born NOT_SERVING: there are no credentials yet."""
    response = await Health([SERVICE]).List(HealthListRequest(), None)  # type: ignore[arg-type]  # unused
    assert {name: status.status for name, status in response.statuses.items()} == dict.fromkeys(
        _ALL_NAMES, _NOT_SERVING
    )


@pytest.mark.parametrize("name", _ALL_NAMES)
async def test_a_ready_service_is_serving_by_every_name(running: Service, name: str) -> None:
    """The whole server, the service, readiness, liveness and the quota can each be asked for."""
    assert await _check(running, name) == _SERVING


async def test_all_names_are_listed(running: Service) -> None:
    """List (gRFC A90) gives every name with its status."""
    running.health.set_ready(False)
    assert await _list(running) == {**dict.fromkeys(_READY_NAMES, _NOT_SERVING), LIVENESS: _SERVING, QUOTA: _SERVING}


async def test_an_unknown_name_is_not_found(running: Service) -> None:
    """Check answers NOT_FOUND, as the protocol wants it."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _check(running, "nobody")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_readiness_follows_the_credentials_and_liveness_does_not(running: Service) -> None:
    """Lost credentials take the replica out of service without having it restarted."""
    running.health.set_ready(False)
    assert [await _check(running, name) for name in _READY_NAMES] == [_NOT_SERVING] * 3
    assert await _check(running, LIVENESS) == _SERVING
    running.health.set_ready(True)
    assert [await _check(running, name) for name in _READY_NAMES] == [_SERVING] * 3


async def test_a_lost_quota_store_is_told_and_takes_nobody_out_of_service(running: Service) -> None:
    """On its safe share a replica still serves: only the name `quota` says so, and says when it is back."""
    watch = _watch(running, QUOTA)
    assert await _next(watch) == _SERVING
    running.health.set_quota(False)
    assert await _next(watch) == _NOT_SERVING
    assert [await _check(running, name) for name in (*_READY_NAMES, LIVENESS)] == [_SERVING] * 4
    running.health.set_quota(True)
    assert await _next(watch) == _SERVING
    watch.cancel()


async def test_a_watch_tells_the_present_and_every_change(running: Service) -> None:
    """The first message comes at once, the others when something changes; the same status twice is no change."""
    watch = _watch(running, SERVICE)
    seen = [await _next(watch)]
    for ready in (True, False, False, True):
        running.health.set_ready(ready)
        if ready is not (seen[-1] == _SERVING):
            seen.append(await _next(watch))
    assert seen == [_SERVING, _NOT_SERVING, _SERVING]
    watch.cancel()


async def test_a_watch_of_an_unknown_name_stays_open(running: Service) -> None:
    """SERVICE_UNKNOWN first, and no end: the name could become known."""
    watch = _watch(running, "nobody")
    assert await _next(watch) == HealthCheckResponse.SERVICE_UNKNOWN
    running.health.set_ready(False)
    running.health.end_watches()
    assert await _soon(watch.read()) is grpc.aio.EOF
    assert await _soon(watch.code()) is grpc.StatusCode.OK


async def test_many_watches_are_all_told(running: Service) -> None:
    """A change reaches every open watch, whatever its name."""
    watches = [_watch(running, name) for name in _READY_NAMES for _ in range(5)]
    assert [await _next(watch) for watch in watches] == [_SERVING] * 15
    running.health.set_ready(False)
    assert [await _next(watch) for watch in watches] == [_NOT_SERVING] * 15


async def test_draining_keeps_watches_open_and_liveness_serving(running: Service) -> None:
    """A watch that ended here would be reopened thousands of times; a dead liveness would get the pod killed."""
    watch, alive = _watch(running, SERVICE), _watch(running, LIVENESS)
    assert (await _next(watch), await _next(alive)) == (_SERVING, _SERVING)
    running.health.drain()
    assert await _next(watch) == _NOT_SERVING
    assert await _list(running) == {**dict.fromkeys(_READY_NAMES, _NOT_SERVING), LIVENESS: _SERVING, QUOTA: _SERVING}
    assert not watch.done()
    assert not alive.done()


async def test_nothing_makes_a_draining_replica_ready_again(running: Service) -> None:
    """Credentials that come late do not call clients back."""
    running.health.drain()
    running.health.set_ready(True)
    assert await _check(running, SERVICE) == _NOT_SERVING


async def test_ended_watches_end_well_and_let_the_server_stop(running: Service) -> None:
    """Every stream ends with OK and stop() does not wait for its grace, which would be an hour here."""
    watches = [_watch(running, name) for name in (*_ALL_NAMES, "nobody")]
    for watch in watches:
        await _next(watch)
    running.health.drain()
    running.health.end_watches()
    await _soon(running.server.stop(3600))
    assert [await _soon(watch.code()) for watch in watches] == [grpc.StatusCode.OK] * 6


async def test_a_watch_after_the_end_ends_at_once(running: Service) -> None:
    """Nobody can open a stream that would hold up the stop."""
    running.health.end_watches()
    assert await _soon(_watch(running, SERVICE).read()) is grpc.aio.EOF


async def test_only_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A poll that finds everything as before says nothing."""
    caplog.set_level("INFO", "monitor_contact_service")
    health = Health([SERVICE])
    for _ in range(3):
        health.set_ready(True)
        health.set_alive()
        health.set_quota(True)
    health.drain()
    health.drain()
    said = [(*record.fields["names"], record.fields["status"]) for record in caplog.records]  # type: ignore[attr-defined]
    assert said == [
        (*_READY_NAMES, "SERVING"),
        (LIVENESS, "SERVING"),
        (QUOTA, "SERVING"),
        (*_READY_NAMES, "NOT_SERVING"),
    ]
