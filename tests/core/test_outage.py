"""`core.outage`: when Connect counts as failing altogether, and when the next probe is due."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.failures import Reason
from monitor_contact_service.core.outage import FAILURES_TO_OPEN, FIRST_PROBE_SECONDS, Outage

_NOW = 1000.0
_MIDDLE = 0.5  # the draw without any jitter
_DOWN = Reason.CONNECT_UNREACHABLE


def _open(*, draw: float = _MIDDLE) -> Outage:
    """Return an outage that opened just now."""
    outage = Outage()
    for _ in range(FAILURES_TO_OPEN):
        outage.failed(_DOWN, _NOW, draw, probe=False)
    return outage


def _fail_probe(outage: Outage, now: float, *, draw: float = _MIDDLE) -> None:
    assert outage.sent()
    outage.failed(_DOWN, now, draw, probe=True)


def test_without_failures_nothing_is_held_back() -> None:
    """No outage: attempts leave at once, none of them is a probe, and there is nothing to outlast."""
    outage = Outage()
    assert outage.reason is None
    assert (outage.wait_seconds(_NOW), outage.probe_seconds(_NOW)) == (0.0, 0.0)
    assert not outage.sent()
    assert outage.wait_seconds(_NOW) == 0.0


def test_the_fifth_failure_in_a_row_opens_an_outage_with_its_reason() -> None:
    """Four failures are bad luck; the fifth says what is wrong, and the next attempt has to wait."""
    outage, reasons = Outage(), []
    for reason in (*[Reason.INTERNAL_SERVICE] * 4, _DOWN):
        outage.failed(reason, _NOW, _MIDDLE, probe=False)
        reasons.append(outage.reason)
    assert reasons == [None] * 4 + [_DOWN]
    assert outage.wait_seconds(_NOW) == outage.probe_seconds(_NOW) == pytest.approx(0.5)


def test_a_success_in_between_starts_the_count_anew() -> None:
    """Only failures in a row count: four, a success and four more open nothing."""
    outage = Outage()
    for _ in range(2):
        for _ in range(4):
            outage.failed(_DOWN, _NOW, _MIDDLE, probe=False)
        assert not outage.succeeded()
    assert outage.reason is None


def test_how_many_failures_open_it_is_a_choice() -> None:
    """With one as the limit the first failure opens the outage."""
    outage = Outage(failures_to_open=1)
    outage.failed(_DOWN, _NOW, _MIDDLE, probe=False)
    assert outage.reason is _DOWN


def test_one_probe_is_sent_at_a_time() -> None:
    """When its time has come one attempt leaves as a probe, and until its end nothing else does."""
    outage = _open()
    assert outage.wait_seconds(_NOW + 0.5) == 0.0
    assert outage.sent()
    assert outage.wait_seconds(_NOW + 100) == math.inf


def test_while_a_probe_is_under_way_the_next_one_is_an_interval_away() -> None:
    """Who comes during a probe has to outlast at least the interval after it."""
    outage = _open()
    assert outage.sent()
    assert outage.probe_seconds(_NOW + 0.5) == 0.5


def test_probes_become_rarer_up_to_one_a_second() -> None:
    """0.5 s after the opening, then 0.8 s after a failed probe, then 1 s after each."""
    outage, now, waits = _open(), _NOW, []
    for _ in range(4):
        waits.append(outage.wait_seconds(now))
        now += waits[-1]
        _fail_probe(outage, now)
    assert waits == pytest.approx([0.5, 0.8, 1.0, 1.0])


@pytest.mark.parametrize(("draw", "first", "second"), [(0.0, 0.4, 0.64), (0.5, 0.5, 0.8), (1.0, 0.6, 0.96)])
def test_replicas_do_not_probe_together(draw: float, first: float, second: float) -> None:
    """Each interval is up to 20 % shorter or longer, by the draw."""
    outage = _open(draw=draw)
    assert outage.wait_seconds(_NOW) == pytest.approx(first)
    _fail_probe(outage, _NOW, draw=draw)
    assert outage.wait_seconds(_NOW) == pytest.approx(second)


@pytest.mark.parametrize("probed", [False, True], ids=["an attempt still under way", "a probe"])
def test_any_success_ends_the_outage_at_once(probed: bool) -> None:  # noqa: FBT001 - a table's column
    """Whoever brings the good news: nothing is held back any more, and the count starts anew."""
    outage = _open()
    if probed:
        assert outage.sent()
    assert outage.succeeded()
    assert outage.reason is None
    assert outage.wait_seconds(_NOW) == 0.0
    for _ in range(4):
        outage.failed(_DOWN, _NOW, _MIDDLE, probe=False)
    assert outage.reason is None


def test_the_next_outage_begins_with_the_short_interval_again() -> None:
    """How rare the probes of the last outage had become does not count for a new one."""
    outage = _open()
    _fail_probe(outage, _NOW)
    outage.succeeded()
    for _ in range(FAILURES_TO_OPEN):
        outage.failed(Reason.INTERNAL_SERVICE, _NOW, _MIDDLE, probe=False)
    assert outage.reason is Reason.INTERNAL_SERVICE
    assert outage.wait_seconds(_NOW) == pytest.approx(0.5)


def test_failures_of_attempts_sent_before_do_not_move_the_probe() -> None:
    """What was under way when the outage opened fails too; the probe stays where it is, and so does the reason."""
    outage = _open()
    outage.failed(Reason.INTERNAL_SERVICE, _NOW + 0.4, _MIDDLE, probe=False)
    assert outage.wait_seconds(_NOW + 0.4) == pytest.approx(0.1)
    assert outage.reason is _DOWN


def test_a_late_failure_does_not_end_the_probe_that_is_under_way() -> None:
    """An attempt from before fails while a probe runs: still one probe at a time."""
    outage = _open()
    assert outage.sent()
    outage.failed(_DOWN, _NOW + 0.6, _MIDDLE, probe=False)
    assert outage.wait_seconds(_NOW + 0.6) == math.inf


def test_a_probe_that_tells_nothing_is_followed_by_another_after_the_same_interval() -> None:
    """Throttled or left alone: the outage goes on, the rhythm is not slowed down."""
    outage = _open()
    assert outage.sent()
    outage.undecided(_NOW + 2, _MIDDLE)
    assert outage.reason is _DOWN
    assert outage.wait_seconds(_NOW + 2) == pytest.approx(0.5)


def test_without_an_outage_an_undecided_probe_holds_nothing_back() -> None:
    """Another attempt's success has ended the outage while the probe was still under way."""
    outage = _open()
    assert outage.sent()
    outage.succeeded()
    outage.undecided(_NOW, _MIDDLE)
    assert outage.wait_seconds(_NOW) == 0.0


def test_a_probe_that_is_overdue_may_leave_now() -> None:
    """No wait is negative, however late somebody asks."""
    outage = _open()
    assert (outage.wait_seconds(_NOW + 60), outage.probe_seconds(_NOW + 60)) == (0.0, 0.0)


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["sent", "failed", "probe failed", "succeeded", "undecided"]),
            st.floats(min_value=0, max_value=3),
            st.floats(min_value=0, max_value=1, exclude_max=True),
        ),
        max_size=60,
    )
)
def test_recovery_is_never_more_than_one_long_interval_away(steps: list[tuple[str, float, float]]) -> None:
    """In any order of events: without a probe under way the next attempt leaves within 1.2 s."""
    outage, now = Outage(), _NOW
    for event, seconds, draw in steps:
        now += seconds
        match event:
            case "sent":
                assert outage.sent() == (outage.reason is not None)
            case "failed" | "probe failed":
                outage.failed(_DOWN, now, draw, probe=event == "probe failed")
            case "succeeded":
                outage.succeeded()
            case _:
                outage.undecided(now, draw)
        wait, probe = outage.wait_seconds(now), outage.probe_seconds(now)
        assert wait == math.inf or 0 <= wait <= 1.2
        assert 0 <= probe <= 1.2
        assert outage.reason is not None or wait == probe == 0


def test_a_probe_that_was_not_sent_leaves_its_place_to_the_next() -> None:
    """Its caller left in the moment of its turn: nobody waits for an answer that cannot come."""
    outage = Outage(failures_to_open=1)
    outage.failed(Reason.INTERNAL_SERVICE, 0.0, 0.5, probe=False)
    assert outage.sent()
    outage.not_sent()
    assert outage.wait_seconds(FIRST_PROBE_SECONDS) == 0
    assert outage.sent()
