"""Plain values to the wire request and back: what is checked before anything is sent, and what an answer becomes.

The limits of the contract are the service's to judge; here only what would never reach it or would not be typed.
"""

import uuid
from collections.abc import Iterable
from typing import cast

from monitor_contact.v1 import monitor_contact_pb2 as pb

from ._channel import Answer
from ._checks import checked_text
from ._errors import RequestTooLarge, request_id_of
from ._types import Capability, MonitoringSession

MAX_REQUEST_BYTES = 16_384  # the service's grpc.max_receive_message_length; the largest valid request has 4.5 KB


def new_request(
    *,
    instance_id: str,
    contact_id: str,
    user_id: str,
    capabilities: Iterable[Capability],
    client_token: str | None,
) -> pb.MonitorContactRequest:
    """Build the request, with a new UUID as its token unless the caller gave one.

    Raises TypeError for a text that is none and a capability that is not one, ValueError for text that UTF-8 cannot
    carry, RequestTooLarge above 16 KiB.
    """
    request = pb.MonitorContactRequest(
        instance_id=checked_text("instance_id", instance_id),
        contact_id=checked_text("contact_id", contact_id),
        user_id=checked_text("user_id", user_id),
        allowed_monitor_capabilities=_wire_capabilities(capabilities),
        client_token=checked_text("client_token", "" if client_token is None else client_token) or str(uuid.uuid4()),
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


def _wire_capabilities(capabilities: Iterable[Capability]) -> list[pb.MonitorCapability]:
    if not isinstance(capabilities, Iterable):
        raise TypeError(f"capabilities takes members of Capability in a list, not {capabilities!r}")
    return [_wire_capability(each) for each in capabilities]


def _wire_capability(value: Capability) -> pb.MonitorCapability:
    try:
        return cast(
            "pb.MonitorCapability", Capability(value)
        )  # equal numbers; the contract's type is only a name for int
    except ValueError:  # protobuf by itself would take the names of the contract's values as well
        raise TypeError(f"capabilities takes members of Capability, not {value!r}") from None
