"""`core.validation`: nothing invalid gets past it, every violation is named, no value is echoed."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact.v1.monitor_contact_pb2 import MonitorCapability, MonitorContactRequest
from monitor_contact_service.core import validation
from monitor_contact_service.core.command import Capability, MonitorCommand
from monitor_contact_service.core.failures import Failure, Reason, Violation

_SILENT = MonitorCapability.MONITOR_CAPABILITY_SILENT_MONITOR
_BARGE = MonitorCapability.MONITOR_CAPABILITY_BARGE
_LIMITS = {"instance_id": 100, "contact_id": 256, "user_id": 256, "client_token": 500}
_IDENTIFIERS = ("instance_id", "contact_id", "user_id")
_CAPABILITIES = "allowed_monitor_capabilities"

_texts = st.text(max_size=600)
_requests = st.builds(
    MonitorContactRequest,
    instance_id=_texts,
    contact_id=_texts,
    user_id=_texts,
    allowed_monitor_capabilities=st.lists(st.integers(min_value=-(2**31), max_value=2**31 - 1) | st.integers(0, 3)),
    client_token=_texts,
)


def _request(**changed: object) -> MonitorContactRequest:
    members: dict[str, object] = {"instance_id": "i", "contact_id": "c", "user_id": "u", **changed}
    return MonitorContactRequest(**members)  # type: ignore[arg-type]  # by name, a table's cell


def _violations(request: MonitorContactRequest) -> list[tuple[str, str]]:
    with pytest.raises(Failure) as raised:
        validation.parse(request)
    assert raised.value.reason is Reason.VALIDATION_FAILED
    assert raised.value.metadata == {"violations": str(len(raised.value.violations))}
    assert raised.value.retry_after_seconds is None
    return [(violation.field, violation.reason) for violation in raised.value.violations]


def test_a_valid_request_becomes_a_command_unchanged() -> None:
    """Every field arrives as it was sent, capabilities in their order."""
    request = _request(allowed_monitor_capabilities=[_BARGE, _SILENT], client_token="Token é")
    expected = MonitorCommand("i", "c", "u", (Capability.BARGE, Capability.SILENT_MONITOR), "Token é")
    assert validation.parse(request) == expected


def test_no_capabilities_mean_listening_only() -> None:
    """An empty list is sent to Connect as SILENT_MONITOR, and an absent token stays absent."""
    assert validation.parse(_request()) == MonitorCommand("i", "c", "u", (Capability.SILENT_MONITOR,), "")


@pytest.mark.parametrize("character", ["a", "é", "\N{GRINNING FACE}"])
@pytest.mark.parametrize(("field", "limit"), _LIMITS.items())
def test_lengths_are_limited_in_characters(field: str, limit: int, character: str) -> None:
    """The limit passes and one more does not, whatever the characters take in bytes."""
    assert getattr(validation.parse(_request(**{field: character * limit})), field) == character * limit
    assert _violations(_request(**{field: character * (limit + 1)})) == [(field, "TOO_LONG")]


@pytest.mark.parametrize("field", _IDENTIFIERS)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param("", "REQUIRED", id="empty"),
        pytest.param(".", "RESERVED_ID", id="dot"),
        pytest.param("..", "RESERVED_ID", id="dots"),
        pytest.param("a\x00b", "CONTROL_CHARACTER", id="NUL"),
        pytest.param("\n", "CONTROL_CHARACTER", id="line end"),
        pytest.param("a\x7f", "CONTROL_CHARACTER", id="DEL"),
        pytest.param("\x85a", "CONTROL_CHARACTER", id="C1"),
    ],
)
def test_identifiers_that_cannot_be_one_are_refused(field: str, value: str, reason: str) -> None:
    """Missing, dot segments, control characters: each by its own reason."""
    assert _violations(_request(**{field: value})) == [(field, reason)]


@pytest.mark.parametrize("field", _IDENTIFIERS)
@pytest.mark.parametrize(
    "value",
    [
        "...",
        "a/b",
        "a?b#c",
        "%2e%2e",
        "é",
        " ",
        "\N{LINE SEPARATOR}",
        "arn:aws:connect:eu-central-1:123456789012:instance/10000000-0000-4000-8000-000000000001",
    ],
)
def test_identifiers_are_limited_no_further_than_the_api_page_does(field: str, value: str) -> None:
    """Odd identifiers are Connect's to judge: what goes into a path is percent-encoded, not refused."""
    assert getattr(validation.parse(_request(**{field: value})), field) == value


def test_a_token_may_hold_anything() -> None:
    """Only the length of the token is limited: it goes nowhere but into the JSON body."""
    assert validation.parse(_request(client_token="..\n\x00")).client_token == "..\n\x00"


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([0], [("[0]", "UNKNOWN_VALUE")], id="unspecified"),
        pytest.param([7], [("[0]", "UNKNOWN_VALUE")], id="unknown number"),
        pytest.param([-1], [("[0]", "UNKNOWN_VALUE")], id="negative"),
        pytest.param([_SILENT, 3], [("[1]", "UNKNOWN_VALUE")], id="the second"),
        pytest.param([_BARGE], [("", "BARGE_WITHOUT_SILENT_MONITOR")], id="barge alone"),
        pytest.param([_SILENT, _SILENT], [("[1]", "DUPLICATE")], id="twice"),
        pytest.param(
            [_BARGE, _BARGE], [("", "BARGE_WITHOUT_SILENT_MONITOR"), ("[1]", "DUPLICATE")], id="barge alone, twice"
        ),
        pytest.param([_SILENT, _BARGE, _SILENT], [("", "TOO_MANY"), ("[2]", "DUPLICATE")], id="three"),
        pytest.param(
            [0, 0], [("[0]", "UNKNOWN_VALUE"), ("[1]", "UNKNOWN_VALUE")], id="unknown is not also a duplicate"
        ),
    ],
)
def test_wrong_capabilities_are_named_one_by_one(items: list[int], expected: list[tuple[str, str]]) -> None:
    """Each wrong item is named by its index, what concerns the list by the list."""
    found = _violations(_request(allowed_monitor_capabilities=items))
    assert found == [(_CAPABILITIES + index, reason) for index, reason in expected]


def test_of_a_long_list_the_first_ten_wrong_items_are_named() -> None:
    """Thousands of wrong items give ten violations and the one of the list: details stay small."""
    found = _violations(_request(allowed_monitor_capabilities=[_SILENT, *[9] * 4000]))
    expected = [(f"{_CAPABILITIES}[{index}]", "UNKNOWN_VALUE") for index in range(1, 11)]
    assert found == [(_CAPABILITIES, "TOO_MANY"), *expected]


def test_all_violations_come_in_one_answer() -> None:
    """A caller that breaks everything at once learns everything at once, in the order of the fields."""
    request = MonitorContactRequest(
        instance_id="\n" * 101,
        contact_id="..",
        allowed_monitor_capabilities=[_BARGE, 5, 5],  # type: ignore[list-item]  # proto3 enums are open
        client_token="t" * 501,
    )
    assert _violations(request) == [
        ("instance_id", "CONTROL_CHARACTER"),
        ("instance_id", "TOO_LONG"),
        ("contact_id", "RESERVED_ID"),
        ("user_id", "REQUIRED"),
        (_CAPABILITIES, "TOO_MANY"),
        (_CAPABILITIES, "BARGE_WITHOUT_SILENT_MONITOR"),
        (f"{_CAPABILITIES}[1]", "UNKNOWN_VALUE"),
        (f"{_CAPABILITIES}[2]", "UNKNOWN_VALUE"),
        ("client_token", "TOO_LONG"),
    ]


def test_bytes_that_are_no_request_have_a_violation_of_their_own() -> None:
    """The interceptor refuses undecodable bytes with this."""
    failure = validation.undecodable()
    assert failure.reason is Reason.VALIDATION_FAILED
    assert [(violation.field, violation.reason) for violation in failure.violations] == [("", "UNDECODABLE")]
    assert failure.metadata == {"violations": "1"}


def _broken_limits(request: MonitorContactRequest) -> bool:
    """Return whether the API page, read independently of the code, refuses the request."""
    identifiers = [getattr(request, field) for field in _IDENTIFIERS]
    items = list(request.allowed_monitor_capabilities)
    return (
        any(not 1 <= len(getattr(request, field)) <= _LIMITS[field] for field in _IDENTIFIERS)
        or any(value in {".", ".."} for value in identifiers)
        or any(unicodedata.category(character) == "Cc" for value in identifiers for character in value)
        or len(request.client_token) > _LIMITS["client_token"]
        or sorted(items) not in ([], [_SILENT], [_SILENT, _BARGE])
    )


@settings(deadline=None, max_examples=300)
@given(_requests)
def test_parse_accepts_what_the_api_page_accepts_and_nothing_else(request: MonitorContactRequest) -> None:
    """Any request at all: a command exactly where no limit is broken, a Failure elsewhere, never another exception."""
    try:
        command = validation.parse(request)
    except Failure as failure:
        assert _broken_limits(request)
        assert failure.violations  # noqa: PT017 - both ends are right
        assert len(failure.violations) <= 24  # noqa: PT017 - 3 an identifier, 12 the list, 1 the token, rounded up
        return
    assert not _broken_limits(request)
    assert command.capabilities
    assert len(set(command.capabilities)) == len(command.capabilities) <= 2
    assert all(getattr(command, field) == getattr(request, field) for field in _LIMITS)


@settings(deadline=None)
@given(
    instance_id=st.text(min_size=101, max_size=110),
    contact_id=st.text(min_size=257, max_size=260).map(lambda text: "\x01" + text),
    user_id=st.sampled_from(["\x02\N{SNOWMAN}", "."]),
    client_token=st.text(min_size=501, max_size=510),
    number=st.integers(min_value=1_000_000, max_value=2**31 - 1),
)
def test_no_violation_depends_on_a_value(
    instance_id: str, contact_id: str, user_id: str, client_token: str, number: int
) -> None:
    """What is said is one of a fixed set of sentences, whatever the values are: none of them is echoed."""
    request = MonitorContactRequest(
        instance_id=instance_id,
        contact_id=contact_id,
        user_id=user_id,
        allowed_monitor_capabilities=[number],  # type: ignore[list-item]  # proto3 enums are open
        client_token=client_token,
    )
    with pytest.raises(Failure) as raised:
        validation.parse(request)
    sentences = {
        "must be set: 1 to 100 characters",
        "must be set: 1 to 256 characters",
        "must have at most 100 characters",
        "must have at most 256 characters",
        "must have at most 500 characters",
        "must not be '.' or '..'",
        "must not contain control characters",
        "must be MONITOR_CAPABILITY_SILENT_MONITOR or MONITOR_CAPABILITY_BARGE",
    }
    assert {violation.description for violation in raised.value.violations} <= sentences
    assert {violation.field for violation in raised.value.violations} <= {*_LIMITS, f"{_CAPABILITIES}[0]"}
    assert not raised.value.log_text


def test_invalid_counts_what_it_is_given() -> None:
    """The metadata's number is the number of violations."""
    failure = validation.invalid(Violation("a", "R", "d"), Violation("b", "R", "d"))
    assert failure.metadata == {"violations": "2"}


def test_the_stand_in_for_undecodable_bytes_is_refused_as_such() -> None:
    """By identity: an empty request, equal to it, is refused for its fields."""
    for request, reason in ((validation.UNDECODABLE, "UNDECODABLE"), (MonitorContactRequest(), "REQUIRED")):
        with pytest.raises(Failure) as caught:
            validation.parse(request)
        assert {violation.reason for violation in caught.value.violations} == {reason}
