from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MonitorCapability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MONITOR_CAPABILITY_UNSPECIFIED: _ClassVar[MonitorCapability]
    MONITOR_CAPABILITY_SILENT_MONITOR: _ClassVar[MonitorCapability]
    MONITOR_CAPABILITY_BARGE: _ClassVar[MonitorCapability]

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_ACCESS_DENIED: _ClassVar[ErrorReason]
    ERROR_REASON_SERVICE_LINKED_ROLE_MISSING: _ClassVar[ErrorReason]
    ERROR_REASON_IDEMPOTENCY_CONFLICT: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL_SERVICE: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_REQUEST: _ClassVar[ErrorReason]
    ERROR_REASON_CONTACT_NOT_MONITORABLE: _ClassVar[ErrorReason]
    ERROR_REASON_NO_AGENT_PARTICIPANT: _ClassVar[ErrorReason]
    ERROR_REASON_UNSUPPORTED_CHANNEL: _ClassVar[ErrorReason]
    ERROR_REASON_RECORDING_DISABLED: _ClassVar[ErrorReason]
    ERROR_REASON_MULTI_PARTY_DISABLED: _ClassVar[ErrorReason]
    ERROR_REASON_CAPABILITIES_REQUIRED: _ClassVar[ErrorReason]
    ERROR_REASON_USER_PHONE_NUMBER_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_RESOURCE_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_SERVICE_QUOTA_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_THROTTLED: _ClassVar[ErrorReason]
    ERROR_REASON_SERVICE_CREDENTIALS: _ClassVar[ErrorReason]
    ERROR_REASON_CONNECT_UNREACHABLE: _ClassVar[ErrorReason]
    ERROR_REASON_CONNECT_BAD_RESPONSE: _ClassVar[ErrorReason]
    ERROR_REASON_UNAUTHENTICATED: _ClassVar[ErrorReason]
    ERROR_REASON_CALLER_NOT_PERMITTED: _ClassVar[ErrorReason]
    ERROR_REASON_SUPERVISOR_NOT_PERMITTED: _ClassVar[ErrorReason]
    ERROR_REASON_VALIDATION_FAILED: _ClassVar[ErrorReason]
    ERROR_REASON_IDEMPOTENCY_MISMATCH: _ClassVar[ErrorReason]
    ERROR_REASON_DEADLINE_TOO_SHORT: _ClassVar[ErrorReason]
    ERROR_REASON_OVERLOADED: _ClassVar[ErrorReason]
    ERROR_REASON_AUDIT_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_SHUTTING_DOWN: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
MONITOR_CAPABILITY_UNSPECIFIED: MonitorCapability
MONITOR_CAPABILITY_SILENT_MONITOR: MonitorCapability
MONITOR_CAPABILITY_BARGE: MonitorCapability
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_ACCESS_DENIED: ErrorReason
ERROR_REASON_SERVICE_LINKED_ROLE_MISSING: ErrorReason
ERROR_REASON_IDEMPOTENCY_CONFLICT: ErrorReason
ERROR_REASON_INTERNAL_SERVICE: ErrorReason
ERROR_REASON_INVALID_REQUEST: ErrorReason
ERROR_REASON_CONTACT_NOT_MONITORABLE: ErrorReason
ERROR_REASON_NO_AGENT_PARTICIPANT: ErrorReason
ERROR_REASON_UNSUPPORTED_CHANNEL: ErrorReason
ERROR_REASON_RECORDING_DISABLED: ErrorReason
ERROR_REASON_MULTI_PARTY_DISABLED: ErrorReason
ERROR_REASON_CAPABILITIES_REQUIRED: ErrorReason
ERROR_REASON_USER_PHONE_NUMBER_INVALID: ErrorReason
ERROR_REASON_RESOURCE_NOT_FOUND: ErrorReason
ERROR_REASON_SERVICE_QUOTA_EXCEEDED: ErrorReason
ERROR_REASON_THROTTLED: ErrorReason
ERROR_REASON_SERVICE_CREDENTIALS: ErrorReason
ERROR_REASON_CONNECT_UNREACHABLE: ErrorReason
ERROR_REASON_CONNECT_BAD_RESPONSE: ErrorReason
ERROR_REASON_UNAUTHENTICATED: ErrorReason
ERROR_REASON_CALLER_NOT_PERMITTED: ErrorReason
ERROR_REASON_SUPERVISOR_NOT_PERMITTED: ErrorReason
ERROR_REASON_VALIDATION_FAILED: ErrorReason
ERROR_REASON_IDEMPOTENCY_MISMATCH: ErrorReason
ERROR_REASON_DEADLINE_TOO_SHORT: ErrorReason
ERROR_REASON_OVERLOADED: ErrorReason
ERROR_REASON_AUDIT_UNAVAILABLE: ErrorReason
ERROR_REASON_SHUTTING_DOWN: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason

class MonitorContactRequest(_message.Message):
    __slots__ = ("instance_id", "contact_id", "user_id", "allowed_monitor_capabilities", "client_token")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    CONTACT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_MONITOR_CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    CLIENT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    contact_id: str
    user_id: str
    allowed_monitor_capabilities: _containers.RepeatedScalarFieldContainer[MonitorCapability]
    client_token: str
    def __init__(self, instance_id: _Optional[str] = ..., contact_id: _Optional[str] = ..., user_id: _Optional[str] = ..., allowed_monitor_capabilities: _Optional[_Iterable[_Union[MonitorCapability, str]]] = ..., client_token: _Optional[str] = ...) -> None: ...

class MonitorContactResponse(_message.Message):
    __slots__ = ("contact_id", "contact_arn")
    CONTACT_ID_FIELD_NUMBER: _ClassVar[int]
    CONTACT_ARN_FIELD_NUMBER: _ClassVar[int]
    contact_id: str
    contact_arn: str
    def __init__(self, contact_id: _Optional[str] = ..., contact_arn: _Optional[str] = ...) -> None: ...
