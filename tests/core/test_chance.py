"""`core.chance`: which calls are refused at once, why, and when they are told to come again."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core import chance
from monitor_contact_service.core.chance import Crowd, Limits
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.outage import Outage

_NOW = 1000.0
_LIMITS = Limits(per_caller=4, total=8, in_flight=16)
_DRAW = 0.5  # +10 % on what a caller is told


def _outage(reason: Reason = Reason.INTERNAL_SERVICE) -> Outage:
    """Return an outage whose first probe is due 0.5 s from now."""
    outage = Outage(failures_to_open=1)
    outage.failed(reason, _NOW, 0.5, probe=False)
    return outage


def _outlasts(left: float, outage: Outage, *, call_seconds: float = 0.25) -> Failure | None:
    try:
        chance.require_outlast(left, call_seconds, outage, _NOW, _DRAW)
    except Failure as failure:
        return failure
    return None


def _has_room(*, of_caller: int = 0, waiting: int = 0, in_flight: int = 0, start_seconds: float = 3) -> Failure | None:
    try:
        chance.require_room(Crowd(of_caller, waiting, in_flight), _LIMITS, start_seconds, _DRAW)
    except Failure as failure:
        return failure
    return None


@pytest.mark.parametrize(("left", "enough"), [(1.0, True), (0.1, True), (0.0999, False), (0.0, False), (-1.0, False)])
def test_half_of_a_usual_call_must_be_left(left: float, enough: bool) -> None:  # noqa: FBT001 - a table's column
    """With less than half of what a call usually takes, it is DEADLINE_TOO_SHORT, with both times."""
    if enough:
        chance.require_time(left, 0.2)
        return
    with pytest.raises(Failure) as raised:
        chance.require_time(left, 0.2)
    assert raised.value.reason is Reason.DEADLINE_TOO_SHORT
    assert raised.value.metadata == {"time_left_ms": str(max(0, math.floor(left * 1000))), "time_needed_ms": "100"}
    assert raised.value.retry_after_seconds is None


def test_without_an_outage_there_is_nothing_to_outlast() -> None:
    """A short call is let in while Connect answers."""
    assert _outlasts(0.0, Outage()) is None


@pytest.mark.parametrize(("left", "enough"), [(10.0, True), (0.75, True), (0.74, False), (0.1, False)])
def test_in_an_outage_the_next_probe_and_a_call_must_fit(left: float, enough: bool) -> None:  # noqa: FBT001 - a table's column
    """The probe is 0.5 s away and a call takes 0.25 s: with less than that a caller is refused at once."""
    assert (_outlasts(left, _outage()) is None) is enough


@pytest.mark.parametrize("reason", [Reason.INTERNAL_SERVICE, Reason.CONNECT_UNREACHABLE])
def test_who_cannot_outlast_an_outage_hears_what_opened_it(reason: Reason) -> None:
    """The reason is Connect's failure; no attempt was made, and the time to come again is that of the probe."""
    failure = _outlasts(0.1, _outage(reason))
    assert failure is not None
    assert failure.reason is reason
    assert failure.metadata == {"attempts": "0"}
    assert failure.retry_after_seconds == pytest.approx(0.5 * 1.1)
    assert not failure.outcome_unknown
    assert "not sent" in failure.log_text


@pytest.mark.parametrize(
    ("of_caller", "waiting", "in_flight", "limit_name", "limit", "current"),
    [
        pytest.param(4, 4, 4, "queue_per_caller", 4, 4, id="the caller's queue"),
        pytest.param(0, 8, 8, "queue_total", 8, 8, id="the queue"),
        pytest.param(0, 0, 16, "in_flight", 16, 16, id="the replica"),
        pytest.param(5, 9, 17, "in_flight", 16, 17, id="all: the widest, also when limits were lowered meanwhile"),
        pytest.param(4, 8, 15, "queue_total", 8, 8, id="both queues: the wider"),
    ],
)
def test_a_full_place_names_its_limit(
    of_caller: int, waiting: int, in_flight: int, limit_name: str, limit: int, current: int
) -> None:
    """OVERLOADED says which limit, how much it allows and how many there are, and when a turn would come."""
    failure = _has_room(of_caller=of_caller, waiting=waiting, in_flight=in_flight)
    assert failure is not None
    assert failure.reason is Reason.OVERLOADED
    assert failure.metadata == {"limit_name": limit_name, "limit": str(limit), "current": str(current)}
    assert failure.retry_after_seconds == pytest.approx(3 * 1.1)


def test_the_last_place_of_each_kind_can_be_had() -> None:
    """One below every limit is room."""
    assert _has_room(of_caller=3, waiting=7, in_flight=15) is None


@pytest.mark.parametrize(("start", "enough"), [(0.0, True), (1.25, True), (1.26, False), (60.0, False)])
def test_a_token_must_come_in_time(start: float, enough: bool) -> None:  # noqa: FBT001 - a table's column
    """With 2 s left and calls of 0.5 s, half as much again must be left: a turn after 1.25 s is OVERLOADED."""
    if enough:
        chance.require_quota(2.0, 0.5, start, _DRAW)
        return
    with pytest.raises(Failure) as raised:
        chance.require_quota(2.0, 0.5, start, _DRAW)
    assert raised.value.reason is Reason.OVERLOADED
    assert raised.value.metadata == {
        "limit_name": "quota_wait_ms",
        "limit": "1250",
        "current": str(round(start * 1000)),
    }
    assert raised.value.retry_after_seconds == pytest.approx(start * 1.1)


def test_a_deadline_that_allows_no_wait_at_all_is_told_as_none() -> None:
    """Less time than a usual call: the longest wait that it allows is 0 ms, never a negative one."""
    with pytest.raises(Failure) as raised:
        chance.require_quota(0.3, 0.5, 0.004, _DRAW)
    assert (raised.value.metadata["limit"], raised.value.metadata["current"]) == ("0", "4")


def test_a_token_that_is_there_now_is_never_too_late() -> None:
    """Whether the call itself can end in time is not the quota's question."""
    chance.require_quota(0.3, 0.5, 0.0, _DRAW)


@settings(deadline=None)
@given(
    left=st.floats(min_value=0, max_value=300),
    call_seconds=st.floats(min_value=0.001, max_value=10),
    start=st.floats(min_value=0, max_value=1e6),
)
def test_a_refusal_for_the_quota_never_contradicts_itself(left: float, call_seconds: float, start: float) -> None:
    """Whoever is refused reads that the expected wait is not shorter than the longest that the deadline allows."""
    try:
        chance.require_quota(left, call_seconds, start, _DRAW)
    except Failure as failure:
        assert int(failure.metadata["current"]) >= int(failure.metadata["limit"]) >= 0  # noqa: PT017 - both ends are right
    else:
        assert start == 0 or start + call_seconds <= left


@pytest.mark.parametrize(
    ("seconds", "draw", "told"),
    [
        pytest.param(3.0, 0.0, 3.0, id="never earlier than needed"),
        pytest.param(3.0, 1.0, 3.6, id="at most 20 % later"),
        pytest.param(0.0, 0.0, 0.5, id="at least half a second"),
        pytest.param(1e9, 0.0, 60.0, id="at most a minute"),
        pytest.param(math.inf, 0.5, 66.0, id="at most a minute and the jitter"),
    ],
)
def test_callers_refused_together_do_not_come_back_together(seconds: float, draw: float, told: float) -> None:
    """What a caller is told is what is needed, within bounds, and up to 20 % more."""
    assert chance.come_again(seconds, draw) == pytest.approx(told)


def test_a_replica_that_stops_names_the_time_to_find_another() -> None:
    """SHUTTING_DOWN: 100 ms, the same for everybody; a new object each time, because callers add to it."""
    first, second = chance.shutting_down(), chance.shutting_down()
    assert first.reason is Reason.SHUTTING_DOWN
    assert first.retry_after_seconds == 0.1
    assert first is not second
