"""Connect's wire format: a `MonitorCommand` becomes a body, an HTTP answer becomes a session or a `Failure`.

Sends nothing and signs nothing; `connect` does. The rules are those of Connect's API page and of botocore's parser,
with the wanted differences that docs/decisions/0002-differences-from-boto3.md lists.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType

from .command import MonitorCommand, MonitoringSession
from .failures import Failure, Reason

MONITOR_CONTACT_PATH = "/contact/monitor"

# The largest valid answer is below 1 KiB; more is not Connect's and is not read (choice).
ANSWER_MAX_BYTES = 64 * 1024
# The API page's limit of the answer's ContactId, in characters.
CONTACT_ID_MAX_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as it arrived. Header names are in lower case; the body ends after `ANSWER_MAX_BYTES` + 1."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# By error name, whatever the status: a proxy's bare 403 or 404 page must not read as Connect's.
_REASON_BY_NAME: Mapping[str, Reason] = MappingProxyType(
    {
        **dict.fromkeys(("AccessDeniedException", "NotAuthorized"), Reason.ACCESS_DENIED),
        **dict.fromkeys(
            ("InvalidRequestException", "InvalidParameterException", "ValidationError", "ValidationException"),
            Reason.INVALID_REQUEST,
        ),
        **dict.fromkeys(
            ("ResourceNotFoundException", "UserNotFoundException", "ContactNotFoundException"),
            Reason.RESOURCE_NOT_FOUND,
        ),
        "ServiceQuotaExceededException": Reason.SERVICE_QUOTA_EXCEEDED,
        "IdempotencyException": Reason.IDEMPOTENCY_CONFLICT,
        # Connect's own name and botocore's other throttling names.
        **dict.fromkeys(
            (
                "ThrottlingException",
                "TooManyRequestsException",
                "Throttling",
                "ThrottledException",
                "RequestThrottled",
                "RequestThrottledException",
                "RequestLimitExceeded",
                "LimitExceededException",
                "BandwidthLimitExceeded",
                "ProvisionedThroughputExceededException",
                "PriorRequestNotComplete",
                "TransactionInProgressException",
                "SlowDown",
                "EC2ThrottledException",
            ),
            Reason.THROTTLED,
        ),
        **dict.fromkeys(("InternalServiceException", "InternalFailure", "ServiceUnavailable"), Reason.INTERNAL_SERVICE),
        # AWS's common errors, the clock's names, and the names that other AWS services use for the same.
        **dict.fromkeys(
            (
                "ExpiredTokenException",
                "UnrecognizedClientException",
                "IncompleteSignature",
                "OptInRequired",
                "InvalidSignatureException",
                "SignatureDoesNotMatch",
                "AuthFailure",
                "RequestExpired",
                "RequestInTheFuture",
                "RequestTimeTooSkewed",
                "ExpiredToken",
                "InvalidClientTokenId",
                "MissingAuthenticationToken",
                "MissingAuthenticationTokenException",
            ),
            Reason.SERVICE_CREDENTIALS,
        ),
        # The request did not arrive whole.
        **dict.fromkeys(("RequestTimeoutException", "RequestAbortedException"), Reason.CONNECT_UNREACHABLE),
        # A wrong endpoint or a fault of ours.
        **dict.fromkeys(
            ("UnknownOperationException", "MalformedHttpRequestException", "RequestEntityTooLargeException"),
            Reason.CONNECT_BAD_RESPONSE,
        ),
    }
)

_REASON_BY_STATUS: Mapping[int, Reason] = MappingProxyType(
    {
        HTTPStatus.TOO_MANY_REQUESTS: Reason.THROTTLED,
        HTTPStatus.INTERNAL_SERVER_ERROR: Reason.INTERNAL_SERVICE,
        HTTPStatus.BAD_GATEWAY: Reason.INTERNAL_SERVICE,
        HTTPStatus.SERVICE_UNAVAILABLE: Reason.INTERNAL_SERVICE,
        HTTPStatus.GATEWAY_TIMEOUT: Reason.INTERNAL_SERVICE,
    }
)

# The text narrows the reason of these two names and never widens it (admin guide, "Troubleshoot agent conversation
# monitoring ability"). Needles are matched against normalised text; a name without a match keeps its row.
_REASON_BY_TEXT: Mapping[str, tuple[tuple[str, Reason], ...]] = MappingProxyType(
    {
        "AccessDeniedException": (("do not have access to the agent", Reason.SERVICE_LINKED_ROLE_MISSING),),
        "InvalidRequestException": (
            ("enable call recording", Reason.RECORDING_DISABLED),
            ("enable multi party conferencing", Reason.MULTI_PARTY_DISABLED),
            ("phone number is invalid", Reason.USER_PHONE_NUMBER_INVALID),
            ("not in the state that can be monitored", Reason.CONTACT_NOT_MONITORABLE),
            ("no agent participant", Reason.NO_AGENT_PARTICIPANT),
            ("monitorcontact is not supported for", Reason.UNSUPPORTED_CHANNEL),
            ("allowedmonitorcapabilities must be provided", Reason.CAPABILITIES_REQUIRED),
        ),
    }
)

_QUOTES = re.compile("[`'\"\u2018\u2019\u201c\u201d]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# What `log_text` below says of an error: status, name, text; the reads leave the text out.
_SAID = re.compile(r"(HTTP [3-5]\d\d) ([^:]*)(?:: (.*))?", re.DOTALL)
# A name has no dash: an identifier in its place must not pass.
_LOGGABLE_NAME = re.compile(r"[A-Za-z0-9._]{1,64}")
# IAM's words, of which the operator needs the action; who and what stand beside it.
_NOT_AUTHORIZED = re.compile(r"is not authorized to perform: [a-z-]{1,40}:[A-Za-z]{1,64}")
_SAFE_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


def encode(command: MonitorCommand, client_token: str) -> bytes:
    """Return the JSON body, byte for byte what boto3 sends for the same members in the same order."""
    members = {
        "InstanceId": command.instance_id,
        "ContactId": command.contact_id,
        "UserId": command.user_id,
        "AllowedMonitorCapabilities": command.capabilities,
        "ClientToken": client_token,
    }
    return json.dumps(members).encode()


def read_answer(answer: Answer) -> MonitoringSession:
    """Return the session that Connect has started.

    Raises:
        Failure: what Connect said instead, or CONNECT_BAD_RESPONSE for an answer that makes no sense.
    """
    members = read_success(answer)
    contact_id = _text(members.get("ContactId"))
    if not 1 <= len(contact_id) <= CONTACT_ID_MAX_CHARACTERS:
        raise bad_response(answer, "a successful answer without a valid ContactId")
    return MonitoringSession(
        contact_id=contact_id,
        contact_arn=_text(members.get("ContactArn")),
        aws_request_id=_request_id(answer),
    )


def read_success(answer: Answer) -> Mapping[str, object]:
    """Return the members of a successful answer's JSON object; none if its body is no object.

    Raises:
        Failure: what Connect said instead, or CONNECT_BAD_RESPONSE.
    """
    if len(answer.body) > ANSWER_MAX_BYTES:
        raise bad_response(answer, "the answer is larger than 64 KiB")
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        raise _error(answer)
    return _members(answer.body)


def _error(answer: Answer) -> Failure:
    members = _members(answer.body)
    name = _error_name(answer, members)
    text = _text(members.get("message", members.get("Message")))
    reason = _REASON_BY_NAME.get(name) or _REASON_BY_STATUS.get(answer.status, Reason.CONNECT_BAD_RESPONSE)
    reason = _narrowed(reason, name, text)
    if reason is Reason.CONNECT_BAD_RESPONSE:
        return bad_response(answer, text, name)
    metadata = {"aws_request_id": _request_id(answer)}
    if reason is Reason.RESOURCE_NOT_FOUND:
        metadata["resource"] = ""  # Connect does not say which
    if reason is Reason.SERVICE_QUOTA_EXCEEDED:
        metadata["cause"] = ""  # likewise; `diagnosis` may find out
    return Failure(
        reason,
        metadata=metadata,
        retry_after_seconds=_retry_after_seconds(answer.headers),
        outcome_unknown=reason is Reason.INTERNAL_SERVICE,
        log_text=f"HTTP {answer.status} {name}: {text}",
    )


def bad_response(answer: Answer, text: str, name: str = "") -> Failure:
    """Return the failure of an answer that makes no sense; `text` says why not, `name` is the error's if it has one."""
    metadata = {
        "aws_error": name if _SAFE_NAME.fullmatch(name) else "",
        "aws_request_id": _request_id(answer),
        "http_status": str(answer.status),
    }
    return Failure(
        Reason.CONNECT_BAD_RESPONSE,
        metadata=metadata,
        # Only a redirect and a 4xx say that nothing was done.
        outcome_unknown=not HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR,
        log_text=f"HTTP {answer.status} {name}: {text}",
    )


def loggable(log_text: str) -> str:
    """Return what of a failure's text may be logged: texts of AWS repeat whatever was asked, identifiers too."""
    said = _SAID.fullmatch(log_text)
    if said is None:
        return log_text  # the network's, or our own
    status, name, text = said.groups()
    denied = _NOT_AUTHORIZED.search(text or "")
    return " ".join(filter(None, (status, name if _LOGGABLE_NAME.fullmatch(name) else "", denied and denied[0])))


def _members(body: bytes) -> Mapping[str, object]:
    """Return the members of a JSON object; none for anything else (HTML, a list, nothing at all)."""
    try:
        value = json.loads(body.decode())  # UTF-8 alone: json would guess other encodings from bytes
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _error_name(answer: Answer, members: Mapping[str, object]) -> str:
    """Take botocore's order: header, `code`, `Code`, `__type`; cut at the first `:`, what follows the last `#`."""
    candidates = (answer.headers.get("x-amzn-errortype"), *(members.get(key) for key in ("code", "Code", "__type")))
    for candidate in candidates:
        if isinstance(candidate, str) and candidate:
            return candidate.split(":", 1)[0].rsplit("#", 1)[-1].strip()
    return ""


def _text(value: object) -> str:
    """Return a JSON string; "" for anything else and for lone surrogates, which no answer of ours could carry on."""
    return value if isinstance(value, str) and not _SURROGATE.search(value) else ""


def _narrowed(reason: Reason, name: str, text: str) -> Reason:
    normalised = " ".join(_QUOTES.sub("", text).replace("-", " ").split()).removesuffix(".").casefold()
    for needle, narrower in _REASON_BY_TEXT.get(name, ()):
        if needle in normalised:
            return narrower
    return reason


def _request_id(answer: Answer) -> str:
    request_id = answer.headers.get("x-amzn-requestid", "")
    return request_id if _SAFE_REQUEST_ID.fullmatch(request_id) else ""


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """The longer of `x-amz-retry-after` (milliseconds) and `Retry-After` (seconds); dates and nonsense are ignored."""
    hints = (
        _whole_number(headers.get("x-amz-retry-after", "")) / 1000,
        _whole_number(headers.get("retry-after", "")),
    )
    return max((hint for hint in hints if not math.isnan(hint)), default=None)


def _whole_number(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 9 else math.nan  # noqa: PLR2004 - 9 digits: 31 years
