"""Every failure of a call as one exception class: the inverse of the service's status mapping.

Five families say what the caller should do; below each stands one class per reason of the contract, and one per answer
that gRPC makes by itself. `translate` is the only place that reads a gRPC error.
"""

import contextlib
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from ._types import ErrorReason, Violation

DOMAIN = "monitor-contact"  # of ErrorInfo, the contract's service comment; any other domain names its reasons by itself
REQUEST_ID_KEY = "x-request-id"  # trailer of every answer of the service

_Detail = TypeVar("_Detail", bound=Message)


class MonitorContactError(Exception):
    """A call failed. Catch this for every failure, a family for what to do about it, a class for one cause.

    Attributes:
        code: The gRPC status code.
        reason: The cause, or None where the server named none (gRPC made the answer) or one that this client is too old
            to know.
        reason_text: The cause as the server wrote it, kept for unknown ones; None if it named none.
        message: One fixed sentence for people; the service never puts values of the request into it.
        metadata: What belongs to the reason by name; the keys stand in the contract's comment of the reason.
        violations: Each broken limit of the request, empty unless the request was refused for its content.
        retry_after: Seconds to wait before a repetition, or None if the server gave no time.
        request_id: The service's id of the call, for its operators; None if unknown.
        client_token: The token that was sent. Give it to the repetition, so that no second session starts.

    All but the message are keywords and optional, so that tests can make any of them: `Throttled(retry_after=0.5)`.
    """

    code: StatusCode = StatusCode.UNKNOWN
    reason: ErrorReason | None = None

    def __init__(
        self,
        message: str = "",
        *,
        code: StatusCode | None = None,
        reason_text: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        retry_after: float | None = None,
        request_id: str | None = None,
        client_token: str | None = None,
    ) -> None:
        # Only `message` in args: unpickling calls the class with args and then restores the attributes.
        super().__init__(message)
        self.message: str = message
        self.code = self.code if code is None else code
        self.reason_text: str | None = self.reason.name if reason_text is None and self.reason else reason_text
        self.metadata: dict[str, str] = dict(metadata or {})
        self.violations: tuple[Violation, ...] = tuple(violations)
        self.retry_after: float | None = retry_after
        self.request_id: str | None = request_id
        self.client_token: str | None = client_token

    def __init_subclass__(cls, *, code: StatusCode | None = None, reason: ErrorReason | None = None) -> None:
        """Give a class the code and the reason that it stands for; without them it keeps those of its base."""
        super().__init_subclass__()
        cls.code = code or cls.code
        cls.reason = reason or cls.reason

    @property
    def aws_request_id(self) -> str | None:
        """Connect's id of the last attempt, which AWS support asks for; None if the call never got an answer there."""
        return self.metadata.get("aws_request_id") or None

    def __str__(self) -> str:
        head = (
            self.code.name if self.reason_text in {None, self.code.name} else f"{self.reason_text} ({self.code.name})"
        )
        facts = [f"{violation.field}: {violation.reason}" for violation in self.violations]
        if self.retry_after is not None:
            facts.append(f"retry after {self.retry_after:g} s")
        facts += [
            f"{name} {value}"
            for name, value in (
                ("request id", self.request_id),
                ("AWS request id", self.aws_request_id),
                ("client token", self.client_token),
            )
            if value
        ]
        text = f"{head}: {self.message}" if self.message else head
        return f"{text} [{'; '.join(facts)}]" if facts else text


# --- The families: what the caller should do ---


class RetryLater(MonitorContactError):  # noqa: N818 - a family is named after what the caller should do
    """Nothing is wrong with the request. Repeat it after `retry_after` seconds, with the same client token."""


class FixRequest(MonitorContactError):  # noqa: N818 - same
    """The request cannot succeed as it is. Change it; `violations` say where."""


class AskPermission(MonitorContactError):  # noqa: N818 - same
    """Somebody has to grant a right first: to this caller or to the supervisor."""


class ChangeState(MonitorContactError):  # noqa: N818 - same
    """The contact, the supervisor, the instance or an earlier call is in the way. Try again when that has changed."""


class TellOperator(MonitorContactError):  # noqa: N818 - same
    """Something is broken that only the operators of the service or the instance can mend. Tell them `request_id`."""


# --- One class per reason of the contract ---


class Throttled(RetryLater, code=StatusCode.RESOURCE_EXHAUSTED, reason=ErrorReason.THROTTLED):
    """Connect refused for rate, and no later attempt fitted the deadline."""


class Overloaded(RetryLater, code=StatusCode.RESOURCE_EXHAUSTED, reason=ErrorReason.OVERLOADED):
    """The service had no place for the call within its deadline. Nothing was sent to Connect."""


class InternalService(RetryLater, code=StatusCode.UNAVAILABLE, reason=ErrorReason.INTERNAL_SERVICE):
    """Connect failed by itself. Whether a session started is not known: keep the client token."""


class ConnectUnreachable(RetryLater, code=StatusCode.UNAVAILABLE, reason=ErrorReason.CONNECT_UNREACHABLE):
    """Connect gave no answer in time. Whether a session started is not known: keep the client token."""


class AuditUnavailable(RetryLater, code=StatusCode.UNAVAILABLE, reason=ErrorReason.AUDIT_UNAVAILABLE):
    """The action could not be recorded, so it was not taken."""


class ShuttingDown(RetryLater, code=StatusCode.UNAVAILABLE, reason=ErrorReason.SHUTTING_DOWN):
    """The replica was about to stop. Nothing was sent to Connect; another replica takes the repetition."""


class ValidationFailed(FixRequest, code=StatusCode.INVALID_ARGUMENT, reason=ErrorReason.VALIDATION_FAILED):
    """The request breaks limits of the contract; `violations` holds every one. Nothing was sent to Connect."""


class IdempotencyMismatch(FixRequest, code=StatusCode.INVALID_ARGUMENT, reason=ErrorReason.IDEMPOTENCY_MISMATCH):
    """The client token was used before with other fields. A new action needs a new token."""


class InvalidRequest(FixRequest, code=StatusCode.INVALID_ARGUMENT, reason=ErrorReason.INVALID_REQUEST):
    """Connect refuses the request as invalid for a cause that it does not name."""


class ResourceNotFound(FixRequest, code=StatusCode.NOT_FOUND, reason=ErrorReason.RESOURCE_NOT_FOUND):
    """The instance, the contact or the user does not exist; `metadata["resource"]` says which, if Connect did."""


class CapabilitiesRequired(FixRequest, code=StatusCode.FAILED_PRECONDITION, reason=ErrorReason.CAPABILITIES_REQUIRED):
    """Connect wants capabilities with at least SILENT_MONITOR."""


class UnsupportedChannel(FixRequest, code=StatusCode.FAILED_PRECONDITION, reason=ErrorReason.UNSUPPORTED_CHANNEL):
    """Contacts of this channel, for example tasks, cannot be monitored."""


class DeadlineTooShort(FixRequest, code=StatusCode.DEADLINE_EXCEEDED, reason=ErrorReason.DEADLINE_TOO_SHORT):
    """`timeout_seconds` leaves too little time for a call to Connect. Nothing was sent to Connect."""


class Unauthenticated(AskPermission, code=StatusCode.UNAUTHENTICATED, reason=ErrorReason.UNAUTHENTICATED):
    """The service could not tell who is calling: the bearer token or client certificate is missing or not valid."""


class CallerNotPermitted(AskPermission, code=StatusCode.PERMISSION_DENIED, reason=ErrorReason.CALLER_NOT_PERMITTED):
    """The policy of the service does not permit this call to this caller."""


class SupervisorNotPermitted(
    AskPermission, code=StatusCode.PERMISSION_DENIED, reason=ErrorReason.SUPERVISOR_NOT_PERMITTED
):
    """The supervisor has no permission in Connect for what was asked, or not for this contact."""


class AccessDenied(AskPermission, code=StatusCode.PERMISSION_DENIED, reason=ErrorReason.ACCESS_DENIED):
    """Connect says that the supervisor's security profile, or the role of the service, lacks the permission."""


class ContactNotMonitorable(
    ChangeState, code=StatusCode.FAILED_PRECONDITION, reason=ErrorReason.CONTACT_NOT_MONITORABLE
):
    """The conversation has not begun or is over."""


class NoAgentParticipant(ChangeState, code=StatusCode.FAILED_PRECONDITION, reason=ErrorReason.NO_AGENT_PARTICIPANT):
    """No agent takes part in the contact."""


class ServiceQuotaExceeded(ChangeState, code=StatusCode.RESOURCE_EXHAUSTED, reason=ErrorReason.SERVICE_QUOTA_EXCEEDED):
    """The supervisor is offline or already monitoring, or the contact has as many supervisors as it may have.

    `metadata["cause"]` is `supervisor_offline`, `already_monitoring` or `contact_full`, "" where that is not known.
    """


class RecordingDisabled(ChangeState, code=StatusCode.FAILED_PRECONDITION, reason=ErrorReason.RECORDING_DISABLED):
    """The contact is not recorded, and the instance has no enhanced monitoring."""


class MultiPartyDisabled(ChangeState, code=StatusCode.FAILED_PRECONDITION, reason=ErrorReason.MULTI_PARTY_DISABLED):
    """BARGE needs multi-party calls and enhanced monitoring turned on for the instance."""


class UserPhoneNumberInvalid(
    ChangeState, code=StatusCode.FAILED_PRECONDITION, reason=ErrorReason.USER_PHONE_NUMBER_INVALID
):
    """The supervisor's desk phone number cannot be called."""


class IdempotencyConflict(ChangeState, code=StatusCode.ABORTED, reason=ErrorReason.IDEMPOTENCY_CONFLICT):
    """Connect is still working on the first call with this client token, or knows the token with other fields."""


class ServiceLinkedRoleMissing(
    TellOperator, code=StatusCode.PERMISSION_DENIED, reason=ErrorReason.SERVICE_LINKED_ROLE_MISSING
):
    """The instance's service-linked role is missing: its administrator has to act."""


class ServiceCredentials(TellOperator, code=StatusCode.UNAVAILABLE, reason=ErrorReason.SERVICE_CREDENTIALS):
    """The service's own AWS credentials or its clock are wrong."""


class ConnectBadResponse(TellOperator, code=StatusCode.INTERNAL, reason=ErrorReason.CONNECT_BAD_RESPONSE):
    """Connect, or something in its place, gave an answer that makes no sense. A session may have started."""


class Internal(TellOperator, code=StatusCode.INTERNAL, reason=ErrorReason.INTERNAL):
    """A fault of the service; `metadata["correlation_id"]` finds its log line."""


# --- Answers that gRPC makes by itself, so without a reason ---


class ServiceUnavailable(RetryLater, code=StatusCode.UNAVAILABLE):
    """No healthy server was found, or the connection broke. If it broke during the call, a session may have started."""


class DeadlineExceeded(RetryLater, code=StatusCode.DEADLINE_EXCEEDED):
    """`timeout_seconds` passed without an answer. A session may have started: repeat with the same client token."""


class CallCancelled(RetryLater, code=StatusCode.CANCELLED):
    """The call was cut off: by `close()` during the call, or by a server that stopped. A session may have started."""


class RequestTooLarge(FixRequest, code=StatusCode.RESOURCE_EXHAUSTED):
    """The request, or the metadata beside it, is larger than the service accepts. It was not sent."""


class MessageTooLarge(TellOperator, code=StatusCode.RESOURCE_EXHAUSTED):
    """A message or its metadata was larger than one of the two ends accepts. A session may have started."""


class NotImplementedByServer(TellOperator, code=StatusCode.UNIMPLEMENTED):
    """What answered does not know the method: a wrong target, or a server of another version."""


BY_REASON: Mapping[ErrorReason, type[MonitorContactError]] = {
    ErrorReason.THROTTLED: Throttled,
    ErrorReason.OVERLOADED: Overloaded,
    ErrorReason.INTERNAL_SERVICE: InternalService,
    ErrorReason.CONNECT_UNREACHABLE: ConnectUnreachable,
    ErrorReason.AUDIT_UNAVAILABLE: AuditUnavailable,
    ErrorReason.SHUTTING_DOWN: ShuttingDown,
    ErrorReason.VALIDATION_FAILED: ValidationFailed,
    ErrorReason.IDEMPOTENCY_MISMATCH: IdempotencyMismatch,
    ErrorReason.INVALID_REQUEST: InvalidRequest,
    ErrorReason.RESOURCE_NOT_FOUND: ResourceNotFound,
    ErrorReason.CAPABILITIES_REQUIRED: CapabilitiesRequired,
    ErrorReason.UNSUPPORTED_CHANNEL: UnsupportedChannel,
    ErrorReason.DEADLINE_TOO_SHORT: DeadlineTooShort,
    ErrorReason.UNAUTHENTICATED: Unauthenticated,
    ErrorReason.CALLER_NOT_PERMITTED: CallerNotPermitted,
    ErrorReason.SUPERVISOR_NOT_PERMITTED: SupervisorNotPermitted,
    ErrorReason.ACCESS_DENIED: AccessDenied,
    ErrorReason.CONTACT_NOT_MONITORABLE: ContactNotMonitorable,
    ErrorReason.NO_AGENT_PARTICIPANT: NoAgentParticipant,
    ErrorReason.SERVICE_QUOTA_EXCEEDED: ServiceQuotaExceeded,
    ErrorReason.RECORDING_DISABLED: RecordingDisabled,
    ErrorReason.MULTI_PARTY_DISABLED: MultiPartyDisabled,
    ErrorReason.USER_PHONE_NUMBER_INVALID: UserPhoneNumberInvalid,
    ErrorReason.IDEMPOTENCY_CONFLICT: IdempotencyConflict,
    ErrorReason.SERVICE_LINKED_ROLE_MISSING: ServiceLinkedRoleMissing,
    ErrorReason.SERVICE_CREDENTIALS: ServiceCredentials,
    ErrorReason.CONNECT_BAD_RESPONSE: ConnectBadResponse,
    ErrorReason.INTERNAL: Internal,
}

# An answer without a reason: gRPC's own, or that of a proxy on the way.
BY_CODE_ALONE: Mapping[StatusCode, type[MonitorContactError]] = {
    StatusCode.UNAVAILABLE: ServiceUnavailable,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.CANCELLED: CallCancelled,
    StatusCode.RESOURCE_EXHAUSTED: MessageTooLarge,
    StatusCode.UNIMPLEMENTED: NotImplementedByServer,
}

# A reason that this client is too old to know (the contract, ErrorReason: "treat an unknown reason by its gRPC code"),
# and every code that has no class of its own above.
FAMILY_BY_CODE: Mapping[StatusCode, type[MonitorContactError]] = {
    StatusCode.UNAVAILABLE: RetryLater,
    StatusCode.DEADLINE_EXCEEDED: RetryLater,
    StatusCode.CANCELLED: RetryLater,
    StatusCode.RESOURCE_EXHAUSTED: RetryLater,
    StatusCode.INVALID_ARGUMENT: FixRequest,
    StatusCode.NOT_FOUND: FixRequest,
    StatusCode.OUT_OF_RANGE: FixRequest,
    StatusCode.UNAUTHENTICATED: AskPermission,
    StatusCode.PERMISSION_DENIED: AskPermission,
    StatusCode.FAILED_PRECONDITION: ChangeState,
    StatusCode.ABORTED: ChangeState,
    StatusCode.ALREADY_EXISTS: ChangeState,
    StatusCode.UNIMPLEMENTED: TellOperator,
    StatusCode.INTERNAL: TellOperator,
    StatusCode.UNKNOWN: TellOperator,
    StatusCode.DATA_LOSS: TellOperator,
}


def translate(error: grpc.RpcError, client_token: str) -> MonitorContactError:
    """Turn what gRPC raised into this package's exception; the caller raises it `from error`.

    Never raises: details that are absent, malformed or contradict the status leave `reason` None.
    """
    code = error.code()
    status = _status(error)
    info = _detail(status, error_details_pb2.ErrorInfo)
    return _error_class(code, info)(
        error.details() or "",
        code=code,
        reason_text=info.reason if info else None,
        metadata=info.metadata if info else None,
        violations=_violations(status),
        retry_after=_retry_after(status),
        request_id=_request_id(error, status),
        client_token=client_token,
    )


def _error_class(code: StatusCode, info: error_details_pb2.ErrorInfo | None) -> type[MonitorContactError]:
    family = FAMILY_BY_CODE.get(code, MonitorContactError)
    if info is None:
        return BY_CODE_ALONE.get(code, family)
    if info.domain != DOMAIN or info.reason not in ErrorReason.__members__:
        return family
    return BY_REASON[ErrorReason[info.reason]]


def _status(error: grpc.RpcError) -> status_pb2.Status:
    """Return the details of the answer; empty where there are none or where the transport replaced code or message."""
    with contextlib.suppress(ValueError, DecodeError):  # ValueError: contradiction; DecodeError: not a Status at all
        status: status_pb2.Status | None = rpc_status.from_call(cast("grpc.Call", error))
        return status or status_pb2.Status()
    return status_pb2.Status()


def _detail(status: status_pb2.Status, kind: type[_Detail]) -> _Detail | None:
    """Return the first detail of the kind, or None if there is none or it cannot be decoded."""
    detail = kind()
    for packed in status.details:
        if packed.TypeName() == kind.DESCRIPTOR.full_name:
            with contextlib.suppress(DecodeError):
                packed.Unpack(detail)
                return detail
    return None


def _violations(status: status_pb2.Status) -> Iterable[Violation]:
    bad_request = _detail(status, error_details_pb2.BadRequest)
    if bad_request is None:
        return ()
    return (Violation(each.field, each.reason, each.description) for each in bad_request.field_violations)


def _retry_after(status: status_pb2.Status) -> float | None:
    retry = _detail(status, error_details_pb2.RetryInfo)
    return None if retry is None else max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)


def _request_id(error: grpc.RpcError, status: status_pb2.Status) -> str | None:
    info = _detail(status, error_details_pb2.RequestInfo)
    trailers = cast("Iterable[tuple[str, str | bytes]] | None", error.trailing_metadata())
    return (info.request_id if info else None) or request_id_of(trailers)


def request_id_of(trailers: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """Return the service's request id from the trailers of an answer, or None if they carry none."""
    return next((value for key, value in trailers or () if key == REQUEST_ID_KEY and isinstance(value, str)), None)
