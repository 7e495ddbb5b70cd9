"""`core.latency`: an estimate of the median that one slow call does not move far."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.latency import MedianSeconds


@pytest.mark.parametrize(
    ("initial", "observed", "expected"),
    [
        pytest.param(0.2, 3.0, 0.21, id="a hang: one step up"),
        pytest.param(0.2, 0.001, 0.19, id="a fast one: one step down"),
        pytest.param(0.2, 0.205, 0.205, id="slightly above: not past it"),
        pytest.param(0.2, 0.195, 0.195, id="slightly below: not past it"),
        pytest.param(0.2, 0.2, 0.2, id="equal: stays"),
    ],
)
def test_one_call_moves_the_estimate_by_one_step_at_most(initial: float, observed: float, expected: float) -> None:
    """A step is 5 % and never passes what was observed."""
    median = MedianSeconds(initial)
    median.observe(observed)
    assert median.seconds == pytest.approx(expected)


def test_the_estimate_settles_at_the_median_not_at_the_mean() -> None:
    """With one hang among nine usual calls the estimate stays at the usual calls."""
    median = MedianSeconds()
    for _ in range(100):
        for seconds in (*[0.1] * 9, 30.0):
            median.observe(seconds)
    assert median.seconds == pytest.approx(0.1, rel=0.06)


def test_the_step_can_be_chosen() -> None:
    """A larger step follows faster."""
    median = MedianSeconds(1.0, step=0.5)
    median.observe(10.0)
    assert median.seconds == 1.5


@settings(deadline=None)
@given(st.lists(st.floats(min_value=0.001, max_value=60), min_size=1))
def test_the_estimate_stays_within_what_was_seen(durations: list[float]) -> None:
    """The estimate never leaves the range of the first guess and all observations."""
    median = MedianSeconds(0.35)
    for seconds in durations:
        median.observe(seconds)
    assert min(0.35, *durations) <= median.seconds <= max(0.35, *durations)
