"""grpc.health.v1: whether this replica is alive and whether clients should send it calls.

The stock servicer says SERVING from birth, never ends a Watch and cannot leave `liveness` alone in a drain (measured).
Who is ready is decided by what is needed for it, see `Readiness`, and by the end of serving.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from grpc_health.v1.health_pb2_grpc import HealthServicer

from .telemetry import fields

if TYPE_CHECKING:  # generic for type checkers only
    Context = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]

_log = logging.getLogger(__name__)

LIVENESS: Final = "liveness"
READINESS: Final = "readiness"
# For people and alarms, not for load balancers: a replica that is on its safe share still serves.
QUOTA: Final = "quota"

_SERVING = HealthCheckResponse.SERVING
_NOT_SERVING = HealthCheckResponse.NOT_SERVING


class Health(HealthServicer):
    """The status of "", each service, `readiness`, `liveness` and `quota`; all start NOT_SERVING.

    Connect's throttling never shows here: it would take all replicas out at once.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._ready_names = ("", READINESS, *services)
        self._status = dict.fromkeys((*self._ready_names, LIVENESS, QUOTA), _NOT_SERVING)
        self.draining = False  # for good, once it has begun
        self._ended = False
        self._changed = asyncio.Event()

    def set_alive(self) -> None:
        """Say that the event loop turns."""
        self._set((LIVENESS,), _SERVING)

    def set_quota(self, kept: bool) -> None:  # noqa: FBT001 - the one thing it is told
        """Say whether the quota is used as configured or, while the store that replicas share is lost, a part."""
        self._set((QUOTA,), _SERVING if kept else _NOT_SERVING)

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 - the one thing it is told
        """Say whether clients should send calls; ignored once the drain has begun."""
        if not self.draining:
            self._set(self._ready_names, _SERVING if ready else _NOT_SERVING)

    def drain(self) -> None:
        """Say that clients should go elsewhere, for good. Watches stay open: one that ends here is reopened at once."""
        self.set_ready(False)
        self.draining = True

    def end_watches(self) -> None:
        """End every Watch; call it right before the server's stop, which would wait for them."""
        self._ended = True
        self._wake()

    async def Check(self, request: HealthCheckRequest, context: "Context") -> HealthCheckResponse:  # noqa: N802
        """Return the status of one name; NOT_FOUND for an unknown one."""
        current = self._status.get(request.service)
        if current is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return HealthCheckResponse(status=current)

    async def List(self, request: HealthListRequest, context: "Context") -> HealthListResponse:  # noqa: N802
        """Return the status of every name (gRFC A90)."""
        del request, context
        return HealthListResponse(
            statuses={name: HealthCheckResponse(status=status) for name, status in self._status.items()}
        )

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: "Context"
    ) -> AsyncIterator[HealthCheckResponse]:
        """Send the status of one name now and whenever it changes; SERVICE_UNKNOWN for an unknown one."""
        del context
        sent: int | None = None
        while not self._ended:
            changed = self._changed
            current = self._status.get(request.service, HealthCheckResponse.SERVICE_UNKNOWN)
            if current != sent:
                sent = current
                yield HealthCheckResponse(status=current)
                continue
            await changed.wait()

    def _set(self, names: Iterable[str], status: HealthCheckResponse.ServingStatus) -> None:
        changed = [name for name in names if self._status[name] != status]
        if not changed:
            return
        for name in changed:
            self._status[name] = status
        _log.info("health", extra=fields(names=changed, status=HealthCheckResponse.ServingStatus.Name(status)))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Readiness:
    """Tells `Health` that the replica is ready while everything that it needs is there; at first nothing is.

    Args:
        health: is told.
        needs: names of what is needed, for `report`.
    """

    def __init__(self, health: Health, needs: Iterable[str]) -> None:
        self._health = health
        self._met = dict.fromkeys(needs, False)

    def report(self, need: str, met: bool) -> None:  # noqa: FBT001 - the one thing that is told of a need
        """Say whether one of the needs is met now."""
        if self._met[need] is not met:
            self._met[need] = met
            _log.info("readiness", extra=fields(need=need, met=met))
        self._health.set_ready(all(self._met.values()))
