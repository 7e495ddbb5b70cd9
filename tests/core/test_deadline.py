"""`core.deadline`: a caller's time left becomes an instant, or a refusal with both times."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.deadline import (
    LEAST_USEFUL_SECONDS,
    REPLY_MARGIN_SECONDS,
    deadline_at,
    too_short,
)
from monitor_contact_service.core.failures import Failure, Reason


@pytest.mark.parametrize(
    ("time_left", "expected"),
    [
        pytest.param(None, 109.98, id="none set: the default"),
        pytest.param(2.0, 101.98, id="the caller's own"),
        pytest.param(60.0, 159.98, id="as long as the longest"),
        pytest.param(3600.0, 159.98, id="cut to the longest"),
        pytest.param(float("inf"), 159.98, id="endless: cut to the longest"),
        pytest.param(0.121, 100.101, id="just useful"),
    ],
)
def test_the_answer_leaves_before_the_caller_gives_up(time_left: float | None, expected: float) -> None:
    """The instant is what the caller, the default or the cap allows, less the reply margin."""
    assert deadline_at(100.0, time_left, default_seconds=10, max_seconds=60) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("time_left", "left_ms"),
    [(0.1195, "99"), (0.05, "30"), (0.02, "0"), (0.0, "0"), (-5.0, "0")],
)
def test_too_little_time_is_refused_with_both_times(time_left: float, left_ms: str) -> None:
    """Less than 100 ms of useful time is DEADLINE_TOO_SHORT; the time left is never reported as negative."""
    with pytest.raises(Failure) as raised:
        deadline_at(100.0, time_left, default_seconds=10, max_seconds=60)
    assert raised.value.reason is Reason.DEADLINE_TOO_SHORT
    assert raised.value.metadata == {"time_left_ms": left_ms, "time_needed_ms": "100"}
    assert raised.value.retry_after_seconds is None


def test_times_are_reported_so_that_they_explain_the_refusal() -> None:
    """The time left is rounded down and the time needed up: the first never looks sufficient."""
    assert too_short(0.1499, 0.1491).metadata == {"time_left_ms": "149", "time_needed_ms": "150"}


@settings(deadline=None)
@given(
    now=st.floats(min_value=0, max_value=1e6),
    time_left=st.none() | st.floats(min_value=-10, max_value=1e6),
    default_seconds=st.floats(min_value=0.13, max_value=60),
    max_seconds=st.floats(min_value=60, max_value=300),
)
def test_the_instant_is_useful_and_within_what_everybody_allows(
    now: float, time_left: float | None, default_seconds: float, max_seconds: float
) -> None:
    """Whatever the numbers are: refused, or at least 100 ms away and inside the caller's time and the cap."""
    try:
        useful = deadline_at(now, time_left, default_seconds=default_seconds, max_seconds=max_seconds) - now
    except Failure as failure:
        assert failure.reason is Reason.DEADLINE_TOO_SHORT  # noqa: PT017 - both ends are right
        return
    rounding = 1e-6  # now is large beside the difference
    assert useful >= LEAST_USEFUL_SECONDS - rounding
    assert useful <= max_seconds - REPLY_MARGIN_SECONDS + rounding
    assert useful <= (default_seconds if time_left is None else time_left) - REPLY_MARGIN_SECONDS + rounding
