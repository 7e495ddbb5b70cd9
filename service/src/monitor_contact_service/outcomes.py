"""Names for what became of calls and of requests to Connect, as metrics and traces count them. Decides nothing else.

A contract test fails on a reason without a class.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from .core.failures import Failure, Reason

# What stands for a reason where there is none: the answer was the session; the caller left or its deadline passed.
SUCCEEDED: Final = "OK"
CALLER_LEFT: Final = "CALLER_LEFT"


class OutcomeClass(StrEnum):
    """Whose matter the end of a call is. The objective of 99.9 % is good ÷ (good + bad)."""

    GOOD = "good"
    BAD = "bad"  # this service or Connect failed: burns the error budget
    SHED = "shed"  # refused for want of quota or time: an indicator of its own
    CALLER = "caller"  # the caller's own matter
    SETUP = "setup"  # nobody can monitor until an operator has mended roles
    LEFT = "left"  # the caller went away


_BAD: Final = (
    Reason.INTERNAL,
    Reason.INTERNAL_SERVICE,
    Reason.CONNECT_UNREACHABLE,
    Reason.CONNECT_BAD_RESPONSE,
    Reason.SERVICE_CREDENTIALS,
    Reason.AUDIT_UNAVAILABLE,
    Reason.SHUTTING_DOWN,
)
_SHED: Final = (Reason.THROTTLED, Reason.OVERLOADED, Reason.DEADLINE_TOO_SHORT)
_SETUP: Final = (Reason.ACCESS_DENIED, Reason.SERVICE_LINKED_ROLE_MISSING)
_CALLER: Final = (
    Reason.IDEMPOTENCY_CONFLICT,
    Reason.INVALID_REQUEST,
    Reason.CONTACT_NOT_MONITORABLE,
    Reason.NO_AGENT_PARTICIPANT,
    Reason.UNSUPPORTED_CHANNEL,
    Reason.RECORDING_DISABLED,
    Reason.MULTI_PARTY_DISABLED,
    Reason.CAPABILITIES_REQUIRED,
    Reason.USER_PHONE_NUMBER_INVALID,
    Reason.RESOURCE_NOT_FOUND,
    Reason.SERVICE_QUOTA_EXCEEDED,
    Reason.UNAUTHENTICATED,
    Reason.CALLER_NOT_PERMITTED,
    Reason.SUPERVISOR_NOT_PERMITTED,
    Reason.VALIDATION_FAILED,
    Reason.IDEMPOTENCY_MISMATCH,
)

CLASSES: Mapping[str, OutcomeClass] = MappingProxyType(
    {
        SUCCEEDED: OutcomeClass.GOOD,
        CALLER_LEFT: OutcomeClass.LEFT,
        **dict.fromkeys(_BAD, OutcomeClass.BAD),
        **dict.fromkeys(_SHED, OutcomeClass.SHED),
        **dict.fromkeys(_SETUP, OutcomeClass.SETUP),
        **dict.fromkeys(_CALLER, OutcomeClass.CALLER),
    }
)

# Outcomes of one request to Connect.
OK: Final = "ok"
TIMEOUT: Final = "timeout"
CONNECT_ERROR: Final = "connect_error"
BAD_RESPONSE: Final = "bad_response"
CANCELLED: Final = "cancelled"
CREDENTIALS: Final = "credentials"  # stands for the many names that AWS has for them

# Connect's errors, and the reasons that `core.wire` reads out of each.
_ERRORS: Mapping[str, tuple[Reason, ...]] = MappingProxyType(
    {
        "AccessDeniedException": _SETUP,
        "IdempotencyException": (Reason.IDEMPOTENCY_CONFLICT,),
        "InternalServiceException": (Reason.INTERNAL_SERVICE,),
        "InvalidRequestException": (
            Reason.INVALID_REQUEST,
            Reason.CONTACT_NOT_MONITORABLE,
            Reason.NO_AGENT_PARTICIPANT,
            Reason.UNSUPPORTED_CHANNEL,
            Reason.RECORDING_DISABLED,
            Reason.MULTI_PARTY_DISABLED,
            Reason.CAPABILITIES_REQUIRED,
            Reason.USER_PHONE_NUMBER_INVALID,
        ),
        "ResourceNotFoundException": (Reason.RESOURCE_NOT_FOUND,),
        "ServiceQuotaExceededException": (Reason.SERVICE_QUOTA_EXCEEDED,),
        "ThrottlingException": (Reason.THROTTLED,),
        CREDENTIALS: (Reason.SERVICE_CREDENTIALS,),
    }
)
_ERROR_OF: Mapping[Reason, str] = MappingProxyType(
    {reason: name for name, reasons in _ERRORS.items() for reason in reasons}
)

UPSTREAM_OUTCOMES: Final = (OK, *_ERRORS, TIMEOUT, CONNECT_ERROR, BAD_RESPONSE, CANCELLED)


def upstream_outcome(failure: Failure) -> str:
    """Return the outcome of a request to Connect that ended with this failure."""
    if failure.reason is Reason.CONNECT_UNREACHABLE:
        # `http1` names the class of the first cause first; AWS's own RequestTimeoutException is the rare rest.
        return TIMEOUT if "Timeout" in failure.log_text else CONNECT_ERROR
    return _ERROR_OF.get(failure.reason, BAD_RESPONSE)
