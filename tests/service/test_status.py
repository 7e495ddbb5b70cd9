"""`status`: one row per reason, and details that arrive whole."""

import math

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RequestInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service import status
from monitor_contact_service.core.failures import Failure, Reason, Violation
from monitor_contact_service.reasons import TABLE, Advice
from monitor_contact_service.status import DETAILS_MAX_BYTES, Refusal

# The contract's table: reason -> code.
_CODES = {
    Reason.ACCESS_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.SERVICE_LINKED_ROLE_MISSING: grpc.StatusCode.PERMISSION_DENIED,
    Reason.IDEMPOTENCY_CONFLICT: grpc.StatusCode.ABORTED,
    Reason.INTERNAL_SERVICE: grpc.StatusCode.UNAVAILABLE,
    Reason.INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.CONTACT_NOT_MONITORABLE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.NO_AGENT_PARTICIPANT: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.UNSUPPORTED_CHANNEL: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.RECORDING_DISABLED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.MULTI_PARTY_DISABLED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.CAPABILITIES_REQUIRED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.USER_PHONE_NUMBER_INVALID: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.RESOURCE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.SERVICE_QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.THROTTLED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.SERVICE_CREDENTIALS: grpc.StatusCode.UNAVAILABLE,
    Reason.CONNECT_UNREACHABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.CONNECT_BAD_RESPONSE: grpc.StatusCode.INTERNAL,
    Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.CALLER_NOT_PERMITTED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.SUPERVISOR_NOT_PERMITTED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.VALIDATION_FAILED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.IDEMPOTENCY_MISMATCH: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.DEADLINE_TOO_SHORT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.AUDIT_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}
_WITH_QUOTA = {Reason.SERVICE_QUOTA_EXCEEDED, Reason.THROTTLED, Reason.OVERLOADED}
_DETAIL_TYPES = (ErrorInfo, BadRequest, RetryInfo, QuotaFailure, ResourceInfo, RequestInfo)


def _refuse(failure: Failure, time_left: float | None = 60.0) -> Refusal:
    return status.refusal(failure, request_id="request-1", time_left=time_left)


def _status(refusal: Refusal) -> Status:
    value = dict(refusal.trailers)["grpc-status-details-bin"]
    assert isinstance(value, bytes)
    return Status.FromString(value)


def _details(refusal: Refusal) -> dict[type[Message], Message]:
    """Return the details by type; every one is of a known type and none comes twice."""
    unpacked: dict[type[Message], Message] = {}
    for packed in _status(refusal).details:
        detail_type = next(
            candidate for candidate in _DETAIL_TYPES if packed.type_url.endswith(f"/{candidate.DESCRIPTOR.full_name}")
        )
        assert detail_type not in unpacked
        detail = detail_type()
        assert packed.Unpack(detail)
        unpacked[detail_type] = detail
    return unpacked


def _info(refusal: Refusal) -> ErrorInfo:
    detail = _details(refusal)[ErrorInfo]
    assert isinstance(detail, ErrorInfo)
    return detail


def test_every_reason_has_a_row() -> None:
    """No failure can be raised that could not be answered."""
    assert set(TABLE) == set(Reason) == set(_CODES)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_answered_with_its_row(reason: Reason) -> None:
    """Code and message are the row's; exactly one ErrorInfo with the reason, our domain and exactly the row's keys."""
    row = TABLE[reason]
    refusal = _refuse(Failure(reason, metadata={"unknown_key": "not sent"}))
    assert refusal.code is row.code is _CODES[reason]
    assert refusal.message == row.message
    assert (_status(refusal).code, _status(refusal).message) == (row.code.value[0], row.message)
    info = _info(refusal)
    assert (info.reason, info.domain) == (reason.name, "monitor-contact")
    assert dict(info.metadata) == dict.fromkeys(row.metadata_keys, "")
    request_info = _details(refusal)[RequestInfo]
    assert isinstance(request_info, RequestInfo)
    assert request_info.request_id == "request-1"
    assert (QuotaFailure in _details(refusal)) == (reason in _WITH_QUOTA)


@pytest.mark.parametrize("reason", Reason)
def test_metadata_that_is_known_is_sent(reason: Reason) -> None:
    """Each key of the row carries what the failure knows."""
    metadata = {key: f"value of {key}" for key in TABLE[reason].metadata_keys}
    assert dict(_info(_refuse(Failure(reason, metadata=metadata))).metadata) == metadata


def test_the_log_text_is_never_sent() -> None:
    """What AWS said stays in the log."""
    for reason in Reason:
        refusal = _refuse(Failure(reason, log_text="arn:aws:secret"))
        assert b"arn:aws:secret" not in _status(refusal).SerializeToString()
        assert "arn:aws:secret" not in refusal.message


def test_messages_are_fixed_sentences() -> None:
    """Each ends with a full stop and holds no placeholder."""
    for row in TABLE.values():
        assert row.message.endswith(".")
        assert "{" not in row.message
        assert "%" not in row.message


def test_keys_and_reasons_have_the_form_that_error_info_wants() -> None:
    """AIP-193: reasons of at most 63 capitals, keys in snake case, both without surprises for other languages."""
    for reason, row in TABLE.items():
        assert len(reason) <= 63
        assert reason.replace("_", "").isalnum()
        assert reason.isupper()
        assert list(row.metadata_keys) == sorted(row.metadata_keys)
        assert all(key.replace("_", "").isalpha() and key.islower() for key in row.metadata_keys)


def test_exit_codes_of_advice_are_distinct_from_success_failure_and_usage() -> None:
    """`monitor-contact call` exits with them: 0, 1 and 2 mean something else."""
    assert sorted(advice.value for advice in Advice) == [3, 4, 5, 6, 7]


def _pushback(refusal: Refusal) -> str:
    value = dict(refusal.trailers)["grpc-retry-pushback-ms"]
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize(
    ("retry_after", "time_left", "pushback"),
    [
        pytest.param(None, 60.0, "-1", id="nothing known"),
        pytest.param(None, None, "-1", id="nothing known, no deadline"),
        pytest.param(0.5, 60.0, "500", id="fits"),
        pytest.param(0.5, None, "500", id="no deadline: everything fits"),
        pytest.param(0.0, 60.0, "0", id="at once"),
        pytest.param(0.0001, 60.0, "1", id="rounded up"),
        pytest.param(1.2341, 60.0, "1235", id="rounded up to whole milliseconds"),
        pytest.param(1.0, 1.0, "-1", id="does not fit"),
        pytest.param(1.0, 1.369, "-1", id="would arrive with too little time for a call"),
        pytest.param(1.0, 1.371, "1000", id="just fits"),
        pytest.param(3.0, 1.0, "-1", id="would sleep through the deadline"),
        pytest.param(3.0, -1.0, "-1", id="the deadline has passed"),
    ],
)
def test_pushback_is_the_retry_info_or_a_veto(
    retry_after: float | None, time_left: float | None, pushback: str
) -> None:
    """RetryInfo is there whenever a time is known; pushback is the same time, or -1 where it does not fit."""
    refusal = _refuse(Failure(Reason.THROTTLED, retry_after_seconds=retry_after), time_left)
    assert _pushback(refusal) == pushback
    retry_info = _details(refusal).get(RetryInfo)
    assert (retry_info is None) == (retry_after is None)
    if retry_after is not None:
        assert isinstance(retry_info, RetryInfo)
        assert retry_info.retry_delay.ToMilliseconds() == math.ceil(retry_after * 1000)


def test_a_resource_that_is_known_is_named() -> None:
    """ResourceInfo appears only where somebody knows which resource is missing."""
    known = _details(_refuse(Failure(Reason.RESOURCE_NOT_FOUND, metadata={"resource": "contact"})))[ResourceInfo]
    assert isinstance(known, ResourceInfo)
    assert known.resource_type == "contact"
    unknown = _refuse(Failure(Reason.RESOURCE_NOT_FOUND, metadata={"resource": ""}))
    assert ResourceInfo not in _details(unknown)


def test_every_violation_is_a_field_violation() -> None:
    """Field, reason and description arrive in their order."""
    violations = (Violation("user_id", "REQUIRED", "must be set"), Violation("", "UNDECODABLE", "must be bytes"))
    detail = _details(_refuse(Failure(Reason.VALIDATION_FAILED, violations=violations)))[BadRequest]
    assert isinstance(detail, BadRequest)
    sent = [(item.field, item.reason, item.description) for item in detail.field_violations]
    assert sent == [("user_id", "REQUIRED", "must be set"), ("", "UNDECODABLE", "must be bytes")]


def test_details_that_would_be_lost_are_reduced_to_the_error_info() -> None:
    """100 violations with long descriptions: below 7 KiB, and what a caller decides by is still there."""
    violations = tuple(Violation(f"field[{index}]", "TOO_LONG", "d" * 500) for index in range(100))
    failure = Failure(Reason.VALIDATION_FAILED, metadata={"violations": "100"}, violations=violations)
    refusal = _refuse(failure)
    assert _status(refusal).ByteSize() <= DETAILS_MAX_BYTES
    assert list(_details(refusal)) == [ErrorInfo]
    assert dict(_info(refusal).metadata) == {"violations": "100"}
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT


def test_details_stay_whole_up_to_the_limit() -> None:
    """Nothing is dropped before it has to be."""
    violations = tuple(Violation(f"field[{index}]", "TOO_LONG", "d" * 250) for index in range(24))
    refusal = _refuse(Failure(Reason.VALIDATION_FAILED, violations=violations))
    assert 6 * 1024 < _status(refusal).ByteSize() <= DETAILS_MAX_BYTES
    assert {ErrorInfo, BadRequest, RequestInfo} == set(_details(refusal))


def test_trailers_travel_in_one_tuple() -> None:
    """Details, pushback and request id together: trailers that are set before an abort are dropped by gRPC."""
    refusal = _refuse(Failure(Reason.THROTTLED, retry_after_seconds=1))
    assert isinstance(refusal.trailers, tuple)
    keys = [key for key, _ in refusal.trailers]
    assert keys == ["grpc-status-details-bin", "grpc-retry-pushback-ms", "x-request-id"]
    assert dict(refusal.trailers)["x-request-id"] == "request-1"


@settings(deadline=None)
@given(
    failure=st.builds(
        Failure,
        st.sampled_from(Reason),
        metadata=st.dictionaries(
            st.sampled_from(sorted({key for row in TABLE.values() for key in row.metadata_keys})),
            st.text(max_size=128),
        ),
        retry_after_seconds=st.none() | st.floats(min_value=0, max_value=1e9),
        violations=st.lists(st.builds(Violation, st.text(), st.text(), st.text()), max_size=30).map(tuple),
        outcome_unknown=st.booleans(),
        log_text=st.text(),
    ),
    time_left=st.none() | st.floats(min_value=-10, max_value=300),
)
def test_any_failure_has_one_complete_answer(failure: Failure, time_left: float | None) -> None:
    """One ErrorInfo, no detail twice, below 7 KiB, and a pushback that is RetryInfo's time or -1."""
    refusal = _refuse(failure, time_left)
    details = _details(refusal)
    assert set(_info(refusal).metadata) == set(TABLE[failure.reason].metadata_keys)
    assert _status(refusal).ByteSize() <= DETAILS_MAX_BYTES
    pushback = int(_pushback(refusal))
    if pushback != -1:
        retry_info = details[RetryInfo]
        assert isinstance(retry_info, RetryInfo)
        assert pushback == retry_info.retry_delay.ToMilliseconds()
        assert time_left is None or pushback <= math.ceil(time_left * 1000)
