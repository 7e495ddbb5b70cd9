"""The client's vocabulary: plain values in, plain values out. Knows the contract's numbers, no channel, no call."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from monitor_contact.v1 import monitor_contact_pb2 as pb

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
"""Pairs of key and value, sent beside the request. Keys are lower case; bytes only under keys that end in `-bin`."""


class Capability(enum.IntEnum):
    """What the supervisor may do in the session. Equal to the contract's MonitorCapability."""

    SILENT_MONITOR = pb.MONITOR_CAPABILITY_SILENT_MONITOR
    """Listen. Neither the customer nor the agent hears the supervisor."""

    BARGE = pb.MONITOR_CAPABILITY_BARGE
    """Join the conversation as well. Only together with SILENT_MONITOR."""


class ErrorReason(enum.IntEnum):
    """Why a call failed. Equal to the contract's ErrorReason, whose comments say what each one means."""

    ACCESS_DENIED = pb.ERROR_REASON_ACCESS_DENIED
    SERVICE_LINKED_ROLE_MISSING = pb.ERROR_REASON_SERVICE_LINKED_ROLE_MISSING
    IDEMPOTENCY_CONFLICT = pb.ERROR_REASON_IDEMPOTENCY_CONFLICT
    INTERNAL_SERVICE = pb.ERROR_REASON_INTERNAL_SERVICE
    INVALID_REQUEST = pb.ERROR_REASON_INVALID_REQUEST
    CONTACT_NOT_MONITORABLE = pb.ERROR_REASON_CONTACT_NOT_MONITORABLE
    NO_AGENT_PARTICIPANT = pb.ERROR_REASON_NO_AGENT_PARTICIPANT
    UNSUPPORTED_CHANNEL = pb.ERROR_REASON_UNSUPPORTED_CHANNEL
    RECORDING_DISABLED = pb.ERROR_REASON_RECORDING_DISABLED
    MULTI_PARTY_DISABLED = pb.ERROR_REASON_MULTI_PARTY_DISABLED
    CAPABILITIES_REQUIRED = pb.ERROR_REASON_CAPABILITIES_REQUIRED
    USER_PHONE_NUMBER_INVALID = pb.ERROR_REASON_USER_PHONE_NUMBER_INVALID
    RESOURCE_NOT_FOUND = pb.ERROR_REASON_RESOURCE_NOT_FOUND
    SERVICE_QUOTA_EXCEEDED = pb.ERROR_REASON_SERVICE_QUOTA_EXCEEDED
    THROTTLED = pb.ERROR_REASON_THROTTLED
    SERVICE_CREDENTIALS = pb.ERROR_REASON_SERVICE_CREDENTIALS
    CONNECT_UNREACHABLE = pb.ERROR_REASON_CONNECT_UNREACHABLE
    CONNECT_BAD_RESPONSE = pb.ERROR_REASON_CONNECT_BAD_RESPONSE
    UNAUTHENTICATED = pb.ERROR_REASON_UNAUTHENTICATED
    CALLER_NOT_PERMITTED = pb.ERROR_REASON_CALLER_NOT_PERMITTED
    SUPERVISOR_NOT_PERMITTED = pb.ERROR_REASON_SUPERVISOR_NOT_PERMITTED
    VALIDATION_FAILED = pb.ERROR_REASON_VALIDATION_FAILED
    IDEMPOTENCY_MISMATCH = pb.ERROR_REASON_IDEMPOTENCY_MISMATCH
    DEADLINE_TOO_SHORT = pb.ERROR_REASON_DEADLINE_TOO_SHORT
    OVERLOADED = pb.ERROR_REASON_OVERLOADED
    AUDIT_UNAVAILABLE = pb.ERROR_REASON_AUDIT_UNAVAILABLE
    SHUTTING_DOWN = pb.ERROR_REASON_SHUTTING_DOWN
    INTERNAL = pb.ERROR_REASON_INTERNAL


@dataclass(frozen=True, slots=True)
class MonitoringSession:
    """The monitoring session that Connect has started.

    Attributes:
        contact_id: Id of the new contact that is the session; not the id of the monitored contact.
        contact_arn: Its Amazon Resource Name, or None if Connect returned none.
        client_token: The token that was sent: the caller's own, or the UUID that the client made for this call.
        request_id: The service's id of this call, for its operators; None if the server sent none.
    """

    contact_id: str
    contact_arn: str | None
    client_token: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken limit of the request.

    Attributes:
        field: The request's field as in the contract, for example `allowed_monitor_capabilities[1]`.
        reason: The rule in capitals, for example `TOO_LONG`.
        description: The limit in words; never repeats the value.
    """

    field: str
    reason: str
    description: str


class MonitorContactCalls(Protocol):
    """What blocking code needs of a client: MonitorContactClient and testing.FakeMonitorContactClient both fit."""

    def monitor_contact(
        self,
        *,
        instance_id: str,
        contact_id: str,
        user_id: str,
        capabilities: Iterable[Capability] = (),
        client_token: str | None = None,
        reason: str | None = None,
        ticket: str | None = None,
        end_user_token: str | None = None,
        timeout_seconds: float | None = None,
        metadata: Metadata = (),
    ) -> MonitoringSession:
        """See MonitorContactClient.monitor_contact."""
        ...


class AsyncMonitorContactCalls(Protocol):
    """What asyncio code needs of a client: the client AsyncMonitorContactClient and its fake both fit."""

    async def monitor_contact(
        self,
        *,
        instance_id: str,
        contact_id: str,
        user_id: str,
        capabilities: Iterable[Capability] = (),
        client_token: str | None = None,
        reason: str | None = None,
        ticket: str | None = None,
        end_user_token: str | None = None,
        timeout_seconds: float | None = None,
        metadata: Metadata = (),
    ) -> MonitoringSession:
        """See AsyncMonitorContactClient.monitor_contact."""
        ...
