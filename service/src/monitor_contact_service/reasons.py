"""What each reason means to a caller: gRPC code, metadata, advice and the sentence that it gets. One row per reason.

The contract's comments, the golden file and docs/errors.md say the same and are checked against it. `status` makes the
answer of a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

import grpc

from .core.failures import Reason


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
            ("aws_request_id", "cause"),
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
