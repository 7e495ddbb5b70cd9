"""A real gRPC server that answers from a script and writes down what it saw: the client tests' fake of the service.

Blocking, in threads: so it serves the blocking and the asyncio client alike, whatever the test's event loop is doing.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2_grpc
from monitor_contact.v1 import monitor_contact_pb2 as pb
from monitor_contact.v1.monitor_contact_pb2_grpc import (
    MonitorContactServiceServicer,
    add_MonitorContactServiceServicer_to_server,
)
from monitor_contact_client import ErrorReason

SERVICE = "monitor_contact.v1.MonitorContactService"
Trailers: TypeAlias = tuple[tuple[str, str | bytes], ...]
Step: TypeAlias = Callable[[pb.MonitorContactRequest, grpc.ServicerContext], pb.MonitorContactResponse]


@dataclass(frozen=True)
class Seen:
    """One attempt as the server saw it; `at` in seconds of the monotonic clock, `peer` differs for each connection."""

    request: pb.MonitorContactRequest
    metadata: Mapping[str, str | bytes]
    at: float
    time_left: float | None
    peer: str


def succeed(contact_id: str = "session-1", contact_arn: str = "arn:session-1", request_id: str = "request-1") -> Step:
    """Answer with a session and the request id as a trailer."""

    def step(_: pb.MonitorContactRequest, context: grpc.ServicerContext) -> pb.MonitorContactResponse:
        context.set_trailing_metadata((("x-request-id", request_id),) if request_id else ())
        return pb.MonitorContactResponse(contact_id=contact_id, contact_arn=contact_arn)

    return step


def hang(seconds: float) -> Step:
    """Answer after so many seconds, or not at all if the caller has left."""

    def step(request: pb.MonitorContactRequest, context: grpc.ServicerContext) -> pb.MonitorContactResponse:
        end = time.monotonic() + seconds
        while time.monotonic() < end and context.is_active():
            time.sleep(0.01)  # not a wait: the server's own slowness is the subject
        return succeed()(request, context)

    return step


def abort(code: grpc.StatusCode, message: str = "", trailers: Trailers = ()) -> Step:
    """Refuse with exactly these trailers."""

    def step(_: pb.MonitorContactRequest, context: grpc.ServicerContext) -> pb.MonitorContactResponse:
        context.set_trailing_metadata(trailers)
        context.abort(code, message)

    return step


def details_trailer(code: grpc.StatusCode, message: str, details: Iterable[Message]) -> tuple[str, bytes]:
    """Pack error details as the service sends them."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return ("grpc-status-details-bin", status.SerializeToString())


def refuse(
    code: grpc.StatusCode, message: str = "no", details: Iterable[Message] = (), pushback_ms: int | None = -1
) -> Step:
    """Refuse as the service does: details and pushback in one tuple of trailers."""
    pushback: Trailers = () if pushback_ms is None else (("grpc-retry-pushback-ms", str(pushback_ms)),)
    return abort(code, message, (details_trailer(code, message, details), *pushback))


def error_info(reason: str, domain: str = "monitor-contact", **metadata: str) -> error_details_pb2.ErrorInfo:
    """Make the detail that names the reason."""
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    """Make the detail that names the wait."""
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMicroseconds(round(seconds * 1e6))
    return info


def refuse_for(reason: ErrorReason, code: grpc.StatusCode, pushback_ms: int = -1) -> Step:
    """Refuse for a reason, with the details that every refusal of the service carries."""
    return refuse(
        code,
        "no",
        (
            error_info(reason.name, aws_request_id="aws-1"),
            error_details_pb2.RequestInfo(request_id="request-1"),
            *([retry_info(pushback_ms / 1000)] if pushback_ms >= 0 else []),
        ),
        pushback_ms,
    )


@dataclass
class ScriptedServer(MonitorContactServiceServicer):
    """Answers attempt n with step n; the last step repeats."""

    steps: Sequence[Step]
    seen: list[Seen] = field(default_factory=list)
    target: str = ""
    called: threading.Event = field(default_factory=threading.Event)

    def MonitorContact(  # noqa: N802 - the contract's name
        self, request: pb.MonitorContactRequest, context: grpc.ServicerContext
    ) -> pb.MonitorContactResponse:
        """Write down the attempt and take its step."""
        metadata = dict(context.invocation_metadata())
        self.seen.append(Seen(request, metadata, time.monotonic(), context.time_remaining(), context.peer()))
        self.called.set()
        return self.steps[min(len(self.seen), len(self.steps)) - 1](request, context)


@contextmanager
def serving(
    *steps: Step,
    credentials: grpc.ServerCredentials | None = None,
    healthy: health.HealthServicer | None = None,
    port: int = 0,
) -> Iterator[ScriptedServer]:
    """Run a scripted server on a free loopback port; `healthy` adds the health service."""
    scripted = ScriptedServer(steps or (succeed(),))
    server = grpc.server(
        ThreadPoolExecutor(max_workers=32),
        options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16_384)),
    )
    add_MonitorContactServiceServicer_to_server(scripted, server)
    if healthy is not None:
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)  # type: ignore[no-untyped-call] # generated
    address = f"127.0.0.1:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    scripted.target = f"127.0.0.1:{bound}"
    server.start()
    try:
        yield scripted
    finally:
        server.stop(None).wait()
