"""What Connect says: every refusal the stand-in knows, its text, and the ways an error is spelled on the wire.

Decides names, statuses, texts and bytes. Which of them a call gets is decided in `signature`, `rules`, `reads` and
`faults`. Texts are those of the admin guide's troubleshooting page.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

JSON = "application/json"

ErrorForm = Literal["header", "header-suffix", "type", "type-namespace", "code", "bare"]
"""Where an error's name stands: `x-amzn-ErrorType` (with Coral's `:http://…` suffix or without), the body's `__type`
(with `com.amazonaws.connect#` or without), its `code`, or nowhere: the bare status with an empty body."""
ERROR_FORMS: tuple[ErrorForm, ...] = get_args(ErrorForm)

MessageKey = Literal["Message", "message"]
MESSAGE_KEYS: tuple[MessageKey, ...] = get_args(MessageKey)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: status, headers in the spelling they are sent in, body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as Connect means it. How it is spelled on the wire is `encode`'s matter."""

    error: str
    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)


UNKNOWN_OPERATION = Refusal("UnknownOperationException", 404, "The requested operation is not known to this service.")
TOO_LARGE = Refusal("RequestEntityTooLargeException", 413, "The request is too large.")
THROTTLED = Refusal("ThrottlingException", 429, "Too Many Requests")

INVALID_INPUT = Refusal("InvalidRequestException", 400, "One or more of the input parameters are invalid")
INVALID_READ = Refusal("InvalidParameterException", 400, "One or more of the input parameters are invalid")
NOT_FOUND = Refusal("ResourceNotFoundException", 404, "One or more of the request resources were not found")

TOKEN_IN_FLIGHT = Refusal("IdempotencyException", 409, "Another request with same clientToken is in progress")
TOKEN_REUSED = Refusal("IdempotencyException", 409, "An entity with the same name already exists")

NO_SERVICE_LINKED_ROLE = Refusal(
    "AccessDeniedException", 403, "You do not have access to the agent. Contact your admin to learn more."
)
NO_PERMISSION = Refusal("AccessDeniedException", 403, "Access denied")

BAD_STATE = Refusal("InvalidRequestException", 400, "The contact or agent is not in the state that can be monitored")
NO_AGENT = Refusal("InvalidRequestException", 400, "No AGENT participant found in the contact")
NO_CAPABILITIES = Refusal(
    "InvalidRequestException",
    400,
    "AllowedMonitorCapabilities must be provided and have `SILENT_MONITOR` value at the least",
)
NO_MULTI_PARTY = Refusal(
    "InvalidRequestException", 400, "Monitoring failed, please enable multi party conferencing feature"
)
NO_RECORDING = Refusal("InvalidRequestException", 400, "Monitoring failed, please enable call recording")
BAD_PHONE_NUMBER = Refusal("InvalidRequestException", 400, "User's phone number is invalid")
LIMIT_REACHED = Refusal("ServiceQuotaExceededException", 402, "Service quota has been exceeded")

INTERNAL = Refusal("InternalServiceException", 500, "Internal service exception")


def unsupported_channel(channel: str) -> Refusal:
    """Return the refusal of a contact whose channel cannot be monitored: TASK, EMAIL."""
    return Refusal("InvalidRequestException", 400, f"MonitorContact is not supported for `{channel}` contacts")


# Every error name that `core.wire` knows with the status it usually has, so that a fault needs the name only.
STATUS_BY_ERROR: dict[str, int] = {
    "AccessDeniedException": 403,
    "NotAuthorized": 401,
    "InvalidRequestException": 400,
    "InvalidParameterException": 400,
    "ValidationError": 400,
    "ValidationException": 400,
    "ResourceNotFoundException": 404,
    "UserNotFoundException": 404,
    "ContactNotFoundException": 410,
    "ServiceQuotaExceededException": 402,
    "IdempotencyException": 409,
    "ThrottlingException": 429,
    "TooManyRequestsException": 429,
    "Throttling": 400,
    "ThrottledException": 400,
    "RequestThrottled": 400,
    "RequestThrottledException": 400,
    "RequestLimitExceeded": 503,
    "LimitExceededException": 400,
    "BandwidthLimitExceeded": 503,
    "ProvisionedThroughputExceededException": 400,
    "PriorRequestNotComplete": 400,
    "TransactionInProgressException": 400,
    "SlowDown": 503,
    "EC2ThrottledException": 400,
    "InternalServiceException": 500,
    "InternalFailure": 500,
    "ServiceUnavailable": 503,
    "ExpiredTokenException": 403,
    "UnrecognizedClientException": 403,
    "IncompleteSignature": 403,
    "OptInRequired": 403,
    "InvalidSignatureException": 403,
    "SignatureDoesNotMatch": 403,
    "AuthFailure": 401,
    "RequestExpired": 400,
    "RequestInTheFuture": 400,
    "RequestTimeTooSkewed": 403,
    "ExpiredToken": 403,
    "InvalidClientTokenId": 403,
    "MissingAuthenticationToken": 403,
    "RequestTimeoutException": 408,
    "RequestAbortedException": 400,
    "UnknownOperationException": 404,
    "MalformedHttpRequestException": 400,
    "RequestEntityTooLargeException": 413,
    "InvalidActiveRegionException": 400,
}

# The texts of errors whose words mean something, for a fault that names no text of its own.
_TEXT_BY_ERROR = {
    refusal.error: refusal.message
    for refusal in (INVALID_INPUT, INVALID_READ, NOT_FOUND, LIMIT_REACHED, TOKEN_IN_FLIGHT, THROTTLED, INTERNAL)
} | {"AccessDeniedException": NO_PERMISSION.message}


def text_of(error: str) -> str:
    """Return the text Connect gives with this error name, or the name itself where none is documented."""
    return _TEXT_BY_ERROR.get(error, error)


def succeed(document: dict[str, Any]) -> Answer:
    """Return a 200 with this document as its JSON body."""
    return Answer(200, {"Content-Type": JSON}, json.dumps(document).encode())


def encode(refusal: Refusal, form: ErrorForm = "header", message_key: MessageKey = "Message") -> Answer:
    """Spell an error on the wire. The default form is the stand-in's choice: AWS documents none (connect.md 8)."""
    headers = {"Content-Type": JSON}
    body: dict[str, str] = {message_key: refusal.message}
    match form:
        case "bare":
            return Answer(refusal.status, headers | refusal.headers, b"")
        case "header":
            headers["x-amzn-ErrorType"] = refusal.error
        case "header-suffix":
            headers["x-amzn-ErrorType"] = f"{refusal.error}:http://internal.amazon.com/coral/com.amazonaws.connect/"
        case "type":
            body = {"__type": refusal.error, **body}
        case "type-namespace":
            body = {"__type": f"com.amazonaws.connect#{refusal.error}", **body}
        case "code":
            body = {"code": refusal.error, **body}
    return Answer(refusal.status, headers | refusal.headers, json.dumps(body).encode())
