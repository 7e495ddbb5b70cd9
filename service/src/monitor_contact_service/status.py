"""Step 7: a `Failure` becomes the answer of a call, by its row in `reasons`. Only here google.rpc details are known."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RequestInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

from .core.deadline import REPLY_MARGIN_SECONDS
from .core.failures import Failure
from .core.latency import USUAL_CALL_SECONDS
from .reasons import TABLE, Row

DOMAIN = "monitor-contact"
# gRPC loses answers with more than 8 KiB of metadata at random (measured); this keeps a margin.
DETAILS_MAX_BYTES = 7 * 1024

Trailers = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The arguments of `context.abort`: details and pushback travel in one tuple, or gRPC drops one (measured)."""

    code: grpc.StatusCode
    message: str
    trailers: Trailers


def refusal(failure: Failure, *, request_id: str, time_left: float | None) -> Refusal:
    """Return the answer to a call that failed.

    Args:
        failure: why.
        request_id: this service's id of the call.
        time_left: seconds until the caller gives up, None if it set no deadline; a wait that does not fit into it is
            sent as pushback -1, because gRPC would sleep through the deadline and lose these details (measured).
    """
    row = TABLE[failure.reason]
    details = tuple(_details(failure, row, request_id))
    status = Status(code=row.code.value[0], message=row.message, details=map(_packed, details))
    serialized = status.SerializeToString()
    if len(serialized) > DETAILS_MAX_BYTES:
        del status.details[1:]  # the ErrorInfo alone: what a caller decides by
        serialized = status.SerializeToString()
    trailers: Trailers = (
        ("grpc-status-details-bin", serialized),
        ("grpc-retry-pushback-ms", str(_pushback_ms(failure.retry_after_seconds, time_left))),
        ("x-request-id", request_id),
    )
    return Refusal(row.code, row.message, trailers)


def _details(failure: Failure, row: Row, request_id: str) -> Iterator[Message]:
    metadata = {key: failure.metadata.get(key, "") for key in row.metadata_keys}
    yield ErrorInfo(reason=failure.reason, domain=DOMAIN, metadata=metadata)
    if failure.violations:
        violations = [
            BadRequest.FieldViolation(field=violation.field, reason=violation.reason, description=violation.description)
            for violation in failure.violations
        ]
        yield BadRequest(field_violations=violations)
    if failure.retry_after_seconds is not None:
        delay = Duration()
        delay.FromMilliseconds(_milliseconds(failure.retry_after_seconds))
        yield RetryInfo(retry_delay=delay)
    if row.quota:
        violation = QuotaFailure.Violation(subject=DOMAIN, description=row.quota)
        yield QuotaFailure(violations=[violation])
    if failure.metadata.get("resource"):
        yield ResourceInfo(resource_type=failure.metadata["resource"])
    yield RequestInfo(request_id=request_id)


def _pushback_ms(retry_after_seconds: float | None, time_left: float | None) -> int:
    """Return -1 also where the repetition would arrive with too little time for a call: this answer says more."""
    if retry_after_seconds is None:
        return -1
    if time_left is not None and retry_after_seconds + REPLY_MARGIN_SECONDS + USUAL_CALL_SECONDS > time_left:
        return -1
    return _milliseconds(retry_after_seconds)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
