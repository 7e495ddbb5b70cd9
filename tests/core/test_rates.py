"""`core.rates`: how many calls of one caller, and for one supervisor, a minute has room for."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.rates import WINDOW_SECONDS, Rates

_SUE = ("instance", "sue")
_PAT = ("instance", "pat")
_A_MOMENT = 1e-6  # more than floating point loses


def _refusal(rates: Rates, caller: str, supervisor: tuple[str, str], now: float) -> Failure:
    with pytest.raises(Failure) as caught:
        rates.admit(caller, supervisor, now)
    return caught.value


def _remembered(rates: Rates) -> tuple[int, int]:
    """Return how many callers and supervisors are remembered."""
    return len(rates._of_callers._times), len(rates._for_supervisors._times)


@pytest.mark.parametrize(
    ("rates", "limit_name"),
    [
        (Rates(caller_per_minute=3, supervisor_per_minute=0), "caller_rate"),
        (Rates(caller_per_minute=0, supervisor_per_minute=3), "supervisor_rate"),
        (Rates(caller_per_minute=3, supervisor_per_minute=3), "caller_rate"),
        (Rates(caller_per_minute=4, supervisor_per_minute=3), "supervisor_rate"),
    ],
)
def test_the_call_after_the_last_is_refused_and_told_when_to_come_again(rates: Rates, limit_name: str) -> None:
    """OVERLOADED names the limit and when the oldest call is a minute ago; then one call is admitted."""
    for now in (100.0, 110.0, 125.0):
        rates.admit("qa", _SUE, now)
    failure = _refusal(rates, "qa", _SUE, 130.0)
    assert failure.reason is Reason.OVERLOADED
    assert failure.metadata == {"limit_name": limit_name, "limit": "3", "current": "3"}
    assert failure.retry_after_seconds == pytest.approx(30.0)
    assert _refusal(rates, "qa", _SUE, 159.9).retry_after_seconds == pytest.approx(0.1)
    rates.admit("qa", _SUE, 160.0)
    assert _refusal(rates, "qa", _SUE, 160.0).retry_after_seconds == pytest.approx(10.0)


def test_what_is_given_back_was_never_counted() -> None:
    """A call that was refused for the audit does not keep the next one out; what has passed since does not matter."""
    rates = Rates(caller_per_minute=1, supervisor_per_minute=1)
    for now in (100.0, 101.0, 102.0):
        rates.admit("qa", _SUE, now)
        rates.give_back("qa", _SUE, now)
    rates.give_back("qa", _SUE, 100.0)
    rates.give_back("nobody", _PAT, 100.0)
    rates.admit("qa", _SUE, 103.0)
    rates.admit("other", _PAT, 150.0)
    rates.give_back("other", _PAT, 150.0)
    assert _refusal(rates, "qa", _SUE, 104.0).reason is Reason.OVERLOADED
    rates.admit("other", _PAT, 300.0)
    assert _remembered(rates) == (1, 1)


def test_without_limits_every_call_is_admitted_and_nothing_remembered() -> None:
    """0 is the default of both settings."""
    rates = Rates(caller_per_minute=0, supervisor_per_minute=0)
    for _ in range(1_000):
        rates.admit("qa", _SUE, 1.0)
    assert _remembered(rates) == (0, 0)


def test_callers_and_supervisors_are_counted_apart() -> None:
    """One caller's calls leave the others' room alone; a user id is another supervisor in another instance."""
    rates = Rates(caller_per_minute=1, supervisor_per_minute=0)
    rates.admit("qa", _SUE, 0.0)
    rates.admit("training", _SUE, 0.0)
    assert _refusal(rates, "qa", _PAT, 0.0).metadata["limit_name"] == "caller_rate"
    rates = Rates(caller_per_minute=0, supervisor_per_minute=1)
    for supervisor in (_SUE, _PAT, ("other", "sue")):
        rates.admit("qa", supervisor, 0.0)
    assert _refusal(rates, "training", _SUE, 0.0).metadata["limit_name"] == "supervisor_rate"


def test_a_refused_call_is_counted_nowhere() -> None:
    """Neither against the limit that refuses nor against the other: who goes on asking is not punished for it."""
    rates = Rates(caller_per_minute=2, supervisor_per_minute=1)
    rates.admit("qa", _SUE, 0.0)
    for now in (1.0, 2.0, 3.0):
        assert _refusal(rates, "qa", _SUE, now).metadata["limit_name"] == "supervisor_rate"
    rates.admit("qa", _PAT, 4.0)
    for now in (5.0, 59.0):
        assert _refusal(rates, "qa", ("instance", "una"), now).metadata["current"] == "2"
    rates.admit("qa", _SUE, 60.0)


def test_who_has_not_called_for_a_minute_is_forgotten() -> None:
    """Memory follows the last minute's calls, however many callers and supervisors there ever were."""
    rates = Rates(caller_per_minute=10, supervisor_per_minute=10)
    for number in range(1_000):
        rates.admit(f"caller-{number}", ("instance", f"user-{number}"), number / 10)
    assert _remembered(rates) == (600, 600)
    rates.admit("caller-999", ("instance", "user-999"), 155.0)
    assert _remembered(rates) == (49, 49)
    rates.admit("caller-0", ("instance", "user-0"), 1_000.0)
    assert _remembered(rates) == (1, 1)


_CALLS = st.lists(
    st.tuples(
        st.sampled_from(["qa", "training"]),
        st.sampled_from([_SUE, _PAT]),
        st.sampled_from([0.0, 0.5, 1.0, 7.0, 20.0, 59.0, 60.0, 61.0]),
    ),
    max_size=60,
)
_LIMITS = st.integers(min_value=0, max_value=4)


def _room_at(times: Sequence[float], limit: int, now: float) -> bool:
    return not limit or sum(time > now - WINDOW_SECONDS for time in times) < limit


@settings(deadline=None)
@given(calls=_CALLS, per_caller=_LIMITS, per_supervisor=_LIMITS)
def test_no_minute_holds_more_than_the_limits_and_no_room_is_wasted(
    calls: list[tuple[str, tuple[str, str], float]], per_caller: int, per_supervisor: int
) -> None:
    """Against a full record of what was admitted: a call passes exactly if both limits have room for it."""
    rates = Rates(caller_per_minute=per_caller, supervisor_per_minute=per_supervisor)
    admitted: list[tuple[str, tuple[str, str], float]] = []
    now = 0.0
    for caller, supervisor, pause in calls:
        now += pause
        of_caller = [at for who, _, at in admitted if who == caller]
        for_supervisor = [at for _, whom, at in admitted if whom == supervisor]
        if _room_at(of_caller, per_caller, now) and _room_at(for_supervisor, per_supervisor, now):
            rates.admit(caller, supervisor, now)
            admitted.append((caller, supervisor, now))
            continue
        failure = _refusal(rates, caller, supervisor, now)
        by_caller = failure.metadata["limit_name"] == "caller_rate"
        times, limit = (of_caller, per_caller) if by_caller else (for_supervisor, per_supervisor)
        wait = failure.retry_after_seconds
        assert wait is not None
        assert 0 < wait <= WINDOW_SECONDS
        assert not _room_at(times, limit, now + wait - _A_MOMENT)
        assert _room_at(times, limit, now + wait + _A_MOMENT)
