"""The vocabulary of failure: one type, `Failure`, whose reason is one of the contract's ErrorReason.

What a reason means on the wire (gRPC code, error details, pushback) is the matter of `status`, not of this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Reason(StrEnum):
    """ErrorReason of the contract without its prefix, as ErrorInfo carries it. A contract test keeps the two equal."""

    ACCESS_DENIED = "ACCESS_DENIED"
    SERVICE_LINKED_ROLE_MISSING = "SERVICE_LINKED_ROLE_MISSING"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    INTERNAL_SERVICE = "INTERNAL_SERVICE"
    INVALID_REQUEST = "INVALID_REQUEST"
    CONTACT_NOT_MONITORABLE = "CONTACT_NOT_MONITORABLE"
    NO_AGENT_PARTICIPANT = "NO_AGENT_PARTICIPANT"
    UNSUPPORTED_CHANNEL = "UNSUPPORTED_CHANNEL"
    RECORDING_DISABLED = "RECORDING_DISABLED"
    MULTI_PARTY_DISABLED = "MULTI_PARTY_DISABLED"
    CAPABILITIES_REQUIRED = "CAPABILITIES_REQUIRED"
    USER_PHONE_NUMBER_INVALID = "USER_PHONE_NUMBER_INVALID"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    SERVICE_QUOTA_EXCEEDED = "SERVICE_QUOTA_EXCEEDED"
    THROTTLED = "THROTTLED"
    SERVICE_CREDENTIALS = "SERVICE_CREDENTIALS"
    CONNECT_UNREACHABLE = "CONNECT_UNREACHABLE"
    CONNECT_BAD_RESPONSE = "CONNECT_BAD_RESPONSE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    CALLER_NOT_PERMITTED = "CALLER_NOT_PERMITTED"
    SUPERVISOR_NOT_PERMITTED = "SUPERVISOR_NOT_PERMITTED"
    VALIDATION_FAILED = "VALIDATION_FAILED"
    IDEMPOTENCY_MISMATCH = "IDEMPOTENCY_MISMATCH"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    OVERLOADED = "OVERLOADED"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken limit of the request. `field` is a path such as `allowed_monitor_capabilities[1]`, "" for the whole.

    `reason` is UPPER_SNAKE_CASE for programs; `description` states the limit for people and never the caller's value.
    """

    field: str
    reason: str
    description: str


class Failure(Exception):  # noqa: N818 - it is the vocabulary's noun; handlers read "except Failure as failure"
    """Why a call does not succeed. Not a dataclass: exceptions must stay mutable and hashable (measured, 3.11-3.13).

    Args:
        reason: the one cause, as the caller will see it.
        metadata: what ErrorInfo carries for this reason; strings only, no value of the request, no text of AWS.
        retry_after_seconds: when a repetition can succeed, or None where nothing is known. At least 0.
        violations: for VALIDATION_FAILED and IDEMPOTENCY_MISMATCH.
        outcome_unknown: True if the action was sent and may have taken effect all the same.
        log_text: for the log only: what AWS or the network said.
    """

    def __init__(
        self,
        reason: Reason,
        *,
        metadata: Mapping[str, str] = MappingProxyType({}),
        retry_after_seconds: float | None = None,
        violations: tuple[Violation, ...] = (),
        outcome_unknown: bool = False,
        log_text: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.metadata = dict(metadata)
        self.retry_after_seconds = retry_after_seconds
        self.violations = violations
        self.outcome_unknown = outcome_unknown
        self.log_text = log_text

    def copy(self) -> "Failure":
        """Return an equal failure for another caller; it shares no traceback and nothing that can change."""
        return Failure(
            self.reason,
            metadata=self.metadata,
            retry_after_seconds=self.retry_after_seconds,
            violations=self.violations,
            outcome_unknown=self.outcome_unknown,
            log_text=self.log_text,
        )

    def __str__(self) -> str:
        return f"{self.reason}: {self.log_text}" if self.log_text else str(self.reason)
