"""Step 7: the only place that knows gRPC codes and google.rpc details. A `Failure` becomes the answer of a call.

One row per reason. The contract's comments, the golden file and docs/errors.md say the same and are checked against it.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RequestInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

from .core.deadline import REPLY_MARGIN_SECONDS
from .core.failures import Failure, Reason
from .core.latency import USUAL_CALL_SECONDS

DOMAIN = "monitor-contact"
# gRPC loses answers with more than 8 KiB of metadata at random (measured); this keeps a margin.
DETAILS_MAX_BYTES = 7 * 1024

Trailers = tuple[tuple[str, str | bytes], ...]


class Advice(Enum):
    """What a caller should do about a refusal. Values are the exit codes of `monitor-contact call`."""

    FIX_REQUEST = 3
    ASK_PERMISSION = 4
    CHANGE_STATE = 5
    RETRY_LATER = 6
    TELL_OPERATOR = 7


@dataclass(frozen=True, slots=True)
class Row:
    """How one reason is answered. `message` is a fixed sentence: no value of the request, no text of AWS."""

    code: grpc.StatusCode
    advice: Advice
    metadata_keys: tuple[str, ...]
    message: str
    quota: str = ""


_AWS = ("aws_request_id",)
_AWS_ATTEMPTS = ("attempts", "aws_request_id")
_CODE = grpc.StatusCode

TABLE: Mapping[Reason, Row] = MappingProxyType(
    {
        Reason.ACCESS_DENIED: Row(
            _CODE.PERMISSION_DENIED,
            Advice.ASK_PERMISSION,
            _AWS,
            "Connect denies access: the supervisor's security profile or this service's role lacks the permission.",
        ),
        Reason.SERVICE_LINKED_ROLE_MISSING: Row(
            _CODE.PERMISSION_DENIED,
            Advice.TELL_OPERATOR,
            _AWS,
            "The Connect instance has no service-linked role, so nobody can be monitored on it.",
        ),
        Reason.IDEMPOTENCY_CONFLICT: Row(
            _CODE.ABORTED,
            Advice.CHANGE_STATE,
            _AWS,
            "Connect is working on a request with this client_token, or knows it with other fields.",
        ),
        Reason.INTERNAL_SERVICE: Row(
            _CODE.UNAVAILABLE,
            Advice.RETRY_LATER,
            _AWS_ATTEMPTS,
            "Connect failed by itself. Repeat with the same client_token.",
        ),
        Reason.INVALID_REQUEST: Row(
            _CODE.INVALID_ARGUMENT,
            Advice.FIX_REQUEST,
            _AWS,
            "Connect refuses the request as invalid without naming the cause.",
        ),
        Reason.CONTACT_NOT_MONITORABLE: Row(
            _CODE.FAILED_PRECONDITION,
            Advice.CHANGE_STATE,
            _AWS,
            "The contact or its agent is not in a state that can be monitored.",
        ),
        Reason.NO_AGENT_PARTICIPANT: Row(
            _CODE.FAILED_PRECONDITION, Advice.CHANGE_STATE, _AWS, "No agent takes part in the contact."
        ),
        Reason.UNSUPPORTED_CHANNEL: Row(
            _CODE.FAILED_PRECONDITION,
            Advice.FIX_REQUEST,
            _AWS,
            "Contacts of this channel cannot be monitored.",
        ),
        Reason.RECORDING_DISABLED: Row(
            _CODE.FAILED_PRECONDITION,
            Advice.CHANGE_STATE,
            _AWS,
            "The contact is not recorded and the instance has no enhanced monitoring.",
        ),
        Reason.MULTI_PARTY_DISABLED: Row(
            _CODE.FAILED_PRECONDITION,
            Advice.CHANGE_STATE,
            _AWS,
            "Barge needs multi-party calls and enhanced monitoring turned on for the instance.",
        ),
        Reason.CAPABILITIES_REQUIRED: Row(
            _CODE.FAILED_PRECONDITION,
            Advice.FIX_REQUEST,
            _AWS,
            "Connect wants monitor capabilities with at least SILENT_MONITOR.",
        ),
        Reason.USER_PHONE_NUMBER_INVALID: Row(
            _CODE.FAILED_PRECONDITION,
            Advice.CHANGE_STATE,
            _AWS,
            "The supervisor's desk phone number cannot be called.",
        ),
        Reason.RESOURCE_NOT_FOUND: Row(
            _CODE.NOT_FOUND,
            Advice.FIX_REQUEST,
            ("aws_request_id", "resource"),
            "The instance, the contact or the user does not exist; Connect does not say which.",
        ),
        Reason.SERVICE_QUOTA_EXCEEDED: Row(
            _CODE.RESOURCE_EXHAUSTED,
            Advice.CHANGE_STATE,
            _AWS,
            "The supervisor is offline or already monitoring, or the contact has as many supervisors as it may have.",
            quota="Connect's limits on sessions: supervisor offline, already monitoring, or contact full",
        ),
        Reason.THROTTLED: Row(
            _CODE.RESOURCE_EXHAUSTED,
            Advice.RETRY_LATER,
            _AWS_ATTEMPTS,
            "Connect's request rate is used up. Repeat after RetryInfo with the same client_token.",
            quota="Connect's MonitorContact request rate per account and Region",
        ),
        Reason.SERVICE_CREDENTIALS: Row(
            _CODE.UNAVAILABLE,
            Advice.TELL_OPERATOR,
            _AWS,
            "This service cannot sign in to AWS; its operators have to act. The request is not at fault.",
        ),
        Reason.CONNECT_UNREACHABLE: Row(
            _CODE.UNAVAILABLE,
            Advice.RETRY_LATER,
            _AWS_ATTEMPTS,
            "Connect could not be reached or did not answer in time. Repeat with the same client_token.",
        ),
        Reason.CONNECT_BAD_RESPONSE: Row(
            _CODE.INTERNAL,
            Advice.TELL_OPERATOR,
            ("aws_error", "aws_request_id", "http_status"),
            "Connect, or something in its place, gave an answer that makes no sense.",
        ),
        Reason.UNAUTHENTICATED: Row(
            _CODE.UNAUTHENTICATED, Advice.ASK_PERMISSION, (), "The caller could not be identified."
        ),
        Reason.CALLER_NOT_PERMITTED: Row(
            _CODE.PERMISSION_DENIED, Advice.ASK_PERMISSION, (), "The policy does not permit this call to this caller."
        ),
        Reason.SUPERVISOR_NOT_PERMITTED: Row(
            _CODE.PERMISSION_DENIED,
            Advice.ASK_PERMISSION,
            (),
            "The supervisor has no permission in Connect for what was asked.",
        ),
        Reason.VALIDATION_FAILED: Row(
            _CODE.INVALID_ARGUMENT,
            Advice.FIX_REQUEST,
            ("violations",),
            "The request breaks limits of the contract: see the field violations in the details.",
        ),
        Reason.IDEMPOTENCY_MISMATCH: Row(
            _CODE.INVALID_ARGUMENT,
            Advice.FIX_REQUEST,
            (),
            "The client_token was used before with other fields; use a new token for a new action.",
        ),
        Reason.DEADLINE_TOO_SHORT: Row(
            _CODE.DEADLINE_EXCEEDED,
            Advice.FIX_REQUEST,
            ("time_left_ms", "time_needed_ms"),
            "The deadline leaves too little time for a call to Connect; nothing was sent.",
        ),
        Reason.OVERLOADED: Row(
            _CODE.RESOURCE_EXHAUSTED,
            Advice.RETRY_LATER,
            ("current", "limit", "limit_name"),
            "The service has no place for this call now; nothing was sent.",
            quota="Connect's MonitorContact request rate, or the number of calls that may wait for it",
        ),
        Reason.AUDIT_UNAVAILABLE: Row(
            _CODE.UNAVAILABLE,
            Advice.RETRY_LATER,
            (),
            "The action cannot be recorded, so it is not taken; nothing was sent.",
        ),
        Reason.SHUTTING_DOWN: Row(
            _CODE.UNAVAILABLE,
            Advice.RETRY_LATER,
            (),
            "This replica is about to stop; nothing was sent, another one takes the repetition.",
        ),
        Reason.INTERNAL: Row(
            _CODE.INTERNAL,
            Advice.TELL_OPERATOR,
            ("correlation_id",),
            "A fault of this service; its log has the cause beside the correlation id.",
        ),
    }
)


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
