"""Plain values to the wire request and back: what is checked before anything is sent, and what an answer becomes.

The limits of the contract are the service's to judge; here only what would never reach it or would not be typed.
"""

import math
import re
import uuid
from collections.abc import Iterable
from typing import cast

from monitor_contact.v1 import monitor_contact_pb2 as pb

from ._channel import Answer, Pairs
from ._errors import RequestTooLarge, request_id_of
from ._types import Capability, Metadata, MonitoringSession

MAX_ORIGIN_CHARACTERS = 256  # of reason and ticket each: the service's limit
MAX_REQUEST_BYTES = 16_384  # the service's grpc.max_receive_message_length; the largest valid request has 4.5 KB

_KEY = re.compile(r"[a-z0-9_.-]+")  # gRPC over HTTP/2, Custom-Metadata
_VALUE = re.compile(r"[\x20-\x7e]*")  # same, ASCII-Value
_REASON, _TICKET, _END_USER_TOKEN = "x-monitor-reason", "x-monitor-ticket", "x-end-user-token"


def new_request(
    *,
    instance_id: str,
    contact_id: str,
    user_id: str,
    capabilities: Iterable[Capability],
    client_token: str | None,
) -> pb.MonitorContactRequest:
    """Build the request, with a new UUID as its token unless the caller gave one.

    Raises TypeError for a capability that is not one, RequestTooLarge above 16 KiB.
    """
    request = pb.MonitorContactRequest(
        instance_id=instance_id,
        contact_id=contact_id,
        user_id=user_id,
        allowed_monitor_capabilities=[_wire_capability(each) for each in capabilities],
        client_token=client_token or str(uuid.uuid4()),
    )
    size = request.ByteSize()
    if size > MAX_REQUEST_BYTES:
        raise RequestTooLarge(
            f"the request has {size} bytes, the service accepts {MAX_REQUEST_BYTES}", client_token=request.client_token
        )
    return request


def session_of(answer: Answer, client_token: str) -> MonitoringSession:
    """Turn the answer and its trailers into the result of the call."""
    response, trailers = answer
    return MonitoringSession(
        contact_id=response.contact_id,
        contact_arn=response.contact_arn or None,
        client_token=client_token,
        request_id=request_id_of(trailers),
    )


def call_metadata(
    metadata: Metadata,
    *,
    reason: str | None,
    ticket: str | None,
    end_user_token: str | None,
    may_send_tokens: bool,
) -> Pairs:
    """Return all that is sent beside one request, except the bearer token.

    Args:
        metadata: The caller's own.
        reason: Sent as x-monitor-reason unless it is None or empty.
        ticket: Sent as x-monitor-ticket unless it is None or empty.
        end_user_token: Sent as x-end-user-token unless it is None.
        may_send_tokens: False where the connection is plaintext and leaves this machine.

    Raises ValueError as `checked_metadata`, for a value that the service would refuse, and for a token that must not be
    sent; its text never holds a value.
    """
    pairs = (
        *_origin(_REASON, "reason", reason),
        *_origin(_TICKET, "ticket", ticket),
        *_end_user(end_user_token, may_send_tokens=may_send_tokens),
        *checked_metadata(metadata),
    )
    keys = [key for key, _ in pairs]
    for key in (_REASON, _TICKET):
        if keys.count(key) > 1:
            raise ValueError(f"metadata key {key!r} is given twice: the service takes one")
    return pairs


def checked_metadata(metadata: Metadata) -> Pairs:
    """Return the caller's metadata as a tuple of pairs.

    Raises ValueError for what gRPC would refuse, and for tokens. gRPC's own error would show all values, the bearer
    token too; this one shows none.
    """
    pairs = tuple((key, value) for key, value in metadata)
    for key, value in pairs:
        if key == "authorization":
            raise ValueError("metadata cannot carry authorization: give bearer_token to the client")
        if key == _END_USER_TOKEN:
            raise ValueError(f"metadata cannot carry {_END_USER_TOKEN}: give end_user_token to the call")
        binary = key.endswith("-bin")
        if not _KEY.fullmatch(key) or isinstance(value, bytes) != binary:
            raise ValueError(
                f"metadata key {key!r}: lower case letters, digits, _.- only; bytes only under a …-bin key"
            )
        if isinstance(value, str) and not _VALUE.fullmatch(value):
            raise ValueError(f"the value of metadata key {key!r} has control or non-ASCII characters")
    return pairs


def _origin(key: str, argument: str, value: str | None) -> Pairs:
    if not value:
        return ()
    if len(value) > MAX_ORIGIN_CHARACTERS or not _VALUE.fullmatch(value):
        raise ValueError(f"{argument} must have at most {MAX_ORIGIN_CHARACTERS} characters, all printable ASCII")
    return ((key, value),)


def _end_user(token: str | None, *, may_send_tokens: bool) -> Pairs:
    if token is None:
        return ()
    if not may_send_tokens:
        raise ValueError("end_user_token is never sent unencrypted to another machine: give tls=TlsOptions(…)")
    if not token or not _VALUE.fullmatch(token) or " " in token:
        raise ValueError("end_user_token is empty or has spaces, control or non-ASCII characters")
    return ((_END_USER_TOKEN, token),)


def checked_timeout(timeout_seconds: float) -> float:
    """Return the timeout in seconds. Raises ValueError unless it is positive and finite."""
    if not (math.isfinite(timeout_seconds) and timeout_seconds > 0):
        raise ValueError(f"timeout_seconds must be a positive number of seconds, not {timeout_seconds}")
    return timeout_seconds


def _wire_capability(value: Capability) -> pb.MonitorCapability:
    try:
        return cast(
            "pb.MonitorCapability", Capability(value)
        )  # equal numbers; the contract's type is only a name for int
    except ValueError:  # protobuf by itself would take the names of the contract's values as well
        raise TypeError(f"capabilities takes members of Capability, not {value!r}") from None
