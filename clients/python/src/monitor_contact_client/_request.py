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

MAX_REQUEST_BYTES = 16_384  # the service's grpc.max_receive_message_length; the largest valid request has 4.5 KB

_KEY = re.compile(r"[a-z0-9_.-]+")  # gRPC over HTTP/2, Custom-Metadata
_VALUE = re.compile(r"[\x20-\x7e]*")  # same, ASCII-Value


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


def checked_metadata(metadata: Metadata) -> Pairs:
    """Return the caller's metadata as a tuple of pairs.

    Raises ValueError for what gRPC would refuse, and for `authorization`. gRPC's own error would show all values, the
    bearer token too; this one shows none.
    """
    pairs = tuple((key, value) for key, value in metadata)
    for key, value in pairs:
        if key == "authorization":
            raise ValueError("metadata cannot carry authorization: give bearer_token to the client")
        binary = key.endswith("-bin")
        if not _KEY.fullmatch(key) or isinstance(value, bytes) != binary:
            raise ValueError(
                f"metadata key {key!r}: lower case letters, digits, _.- only; bytes only under a …-bin key"
            )
        if isinstance(value, str) and not _VALUE.fullmatch(value):
            raise ValueError(f"the value of metadata key {key!r} has control or non-ASCII characters")
    return pairs


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
