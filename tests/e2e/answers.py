"""Calls through a bare stub, without any retries, and their answers as plain values."""

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

import grpc
import grpc.aio
import harness
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2_grpc import HealthStub
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub
from monitor_contact_service.core.caller import ANONYMOUS
from monitor_contact_service.core.idempotency import derive_client_token

if TYPE_CHECKING:
    from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceAsyncStub

METHOD = "/monitor_contact.v1.MonitorContactService/MonitorContact"
_ERROR_INFO = error_details_pb2.ErrorInfo.DESCRIPTOR.full_name

Trailers = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended. `reasons` is empty for OK; otherwise one entry for each ErrorInfo. `details` by type name."""

    code: grpc.StatusCode
    message: str
    seconds: float
    request_id: str
    contact_id: str = ""
    reasons: tuple[str, ...] = ()
    details: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    pushback: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the session was started."""
        return self.code is grpc.StatusCode.OK

    @property
    def reason(self) -> str:
        """OK, the one reason, or what gRPC made of it: none or several."""
        if self.is_ok:
            return "OK"
        return self.reasons[0] if len(self.reasons) == 1 else f"{self.code.name} {self.message} {self.reasons}"


class Caller:
    """A channel of its own to a service, without gRPC's retries."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stub: MonitorContactServiceAsyncStub = MonitorContactServiceStub(channel)
        self.health = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
        self._raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

    async def ask(self, request: MonitorContactRequest | None = None, *, timeout: float | None = 10.0) -> Answer:  # noqa: ASYNC109 - gRPC's word
        """Make one call (the valid one, unless another is given) and return its answer, whatever it is."""
        request = valid() if request is None else request
        started = time.monotonic()
        call = self.stub.MonitorContact(request, timeout=timeout)
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            return _refusal(error, time.monotonic() - started)
        seconds = time.monotonic() - started
        trailers = dict(_trailers(await call.trailing_metadata()))
        request_id = str(trailers.get("x-request-id", ""))
        return Answer(grpc.StatusCode.OK, "", seconds, request_id, contact_id=response.contact_id)

    async def ask_raw(self, message: bytes, *, timeout: float = 10.0) -> Answer:  # noqa: ASYNC109 - gRPC's word
        """Send these bytes in place of a request."""
        started = time.monotonic()
        try:
            await self._raw(message, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return _refusal(error, time.monotonic() - started)
        return Answer(grpc.StatusCode.OK, "", time.monotonic() - started, "")


@asynccontextmanager
async def calling(target: str) -> AsyncIterator[Caller]:
    """Yield a caller of the service at `target`."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield Caller(channel)


def valid(**changed: str) -> MonitorContactRequest:
    """Return a request of the simulator's default world that succeeds, with a token of its own."""
    members = {
        "instance_id": harness.INSTANCE_ID,
        "contact_id": harness.CONTACT_ID,
        "user_id": harness.USER_ID,
        "client_token": str(uuid4()),
    }
    return MonitorContactRequest(**{**members, **changed})


def upstream_token(request: MonitorContactRequest) -> str:
    """Return the ClientToken that Connect sees for a request with a client_token."""
    return derive_client_token(ANONYMOUS.id, request.client_token)


def _refusal(error: grpc.aio.AioRpcError, seconds: float) -> Answer:
    trailers = dict(_trailers(error.trailing_metadata()))
    serialized = trailers.get("grpc-status-details-bin", b"")
    status = Status.FromString(serialized if isinstance(serialized, bytes) else b"")
    reasons = []
    for packed in status.details:
        if packed.TypeName() == _ERROR_INFO:
            info = error_details_pb2.ErrorInfo()
            assert packed.Unpack(info)
            reasons.append(info.reason)
    return Answer(
        code=error.code(),
        message=error.details() or "",
        seconds=seconds,
        request_id=str(trailers.get("x-request-id", "")),
        reasons=tuple(reasons),
        details={packed.TypeName().rpartition(".")[2]: MessageToDict(packed) for packed in status.details},
        pushback=str(trailers.get("grpc-retry-pushback-ms", "")),
    )


def _trailers(metadata: object) -> Iterable[tuple[str, str | bytes]]:
    return metadata if isinstance(metadata, Iterable) else ()
