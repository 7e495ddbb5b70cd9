"""`core.retry`: what a failed attempt is worth, and how long to wait."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core import retry
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.retry import Backoff, RetryBudget, RetryClass

_REPEATED = {
    Reason.INTERNAL_SERVICE: RetryClass.TRANSIENT,
    Reason.CONNECT_UNREACHABLE: RetryClass.TRANSIENT,
    Reason.THROTTLED: RetryClass.THROTTLED,
    Reason.SERVICE_CREDENTIALS: RetryClass.CREDENTIALS,
    Reason.IDEMPOTENCY_CONFLICT: RetryClass.AT_WORK,
}
_ALMOST_ONE = 0.999999


def _wait(  # every argument of the function with an unremarkable value
    failure: Failure,
    *,
    attempt: int = 1,
    time_left: float = 60.0,
    call_seconds: float = 0.2,
    draw: float = _ALMOST_ONE,
    refreshed: bool = False,
    in_outage: bool = False,
    may_be_at_work: bool = False,
) -> float | None:
    return retry.wait_seconds(
        failure,
        attempt=attempt,
        time_left=time_left,
        call_seconds=call_seconds,
        draw=draw,
        refreshed=refreshed,
        in_outage=in_outage,
        may_be_at_work=may_be_at_work,
    )


@pytest.mark.parametrize("reason", Reason)
def test_only_these_reasons_are_worth_a_repetition(reason: Reason) -> None:
    """Every reason has one class; whatever Connect decided is final."""
    assert retry.classify(Failure(reason)) is _REPEATED.get(reason, RetryClass.FINAL)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in _REPEATED])
def test_a_final_answer_is_not_repeated_even_if_it_names_a_time(reason: Reason) -> None:
    """Retry-After on a final answer does not make it repeatable."""
    assert _wait(Failure(reason, retry_after_seconds=0.1)) is None


@pytest.mark.parametrize(
    ("reason", "attempt", "longest"),
    [
        (Reason.INTERNAL_SERVICE, 1, 0.1),
        (Reason.INTERNAL_SERVICE, 2, 0.2),
        (Reason.INTERNAL_SERVICE, 5, 1.6),
        (Reason.CONNECT_UNREACHABLE, 3, 0.4),
        (Reason.THROTTLED, 1, 0.0),
        (Reason.THROTTLED, 5, 0.0),
        (Reason.SERVICE_CREDENTIALS, 1, 0.0),
        (Reason.SERVICE_CREDENTIALS, 5, 0.0),
    ],
)
def test_waits_are_full_jitter_that_doubles(reason: Reason, attempt: int, longest: float) -> None:
    """The wait is uniform between nothing and the bound, which doubles with each attempt up to its cap."""
    assert _wait(Failure(reason), attempt=attempt, draw=0.0) == 0.0
    assert _wait(Failure(reason), attempt=attempt, draw=0.5) == pytest.approx(longest / 2)
    assert _wait(Failure(reason), attempt=attempt) == pytest.approx(longest, rel=1e-4)


def test_a_conflict_is_waited_for_only_with_an_attempt_that_may_be_at_work() -> None:
    """Otherwise another call has the token, and its caller the answer: no attempt of this one would change that."""
    conflict = Failure(Reason.IDEMPOTENCY_CONFLICT)
    assert _wait(conflict) is None
    for attempt, longest in ((1, 0.4), (2, 0.8), (5, 5.0)):
        assert _wait(conflict, attempt=attempt, draw=0.5, may_be_at_work=True) == pytest.approx(longest / 2)
    assert _wait(conflict, attempt=6, may_be_at_work=True) is None
    assert _wait(Failure(Reason.INVALID_REQUEST), may_be_at_work=True) is None


@settings(deadline=None)
@given(
    base=st.floats(min_value=0, max_value=10),
    cap=st.floats(min_value=0, max_value=10),
    attempt=st.integers(min_value=1, max_value=50),
    draw=st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_backoff_stays_between_nothing_and_its_cap(base: float, cap: float, attempt: int, draw: float) -> None:
    """No attempt number and no draw gives a wait outside the bounds."""
    assert 0 <= Backoff(base, cap).wait_seconds(attempt, draw) <= min(cap, base * 2 ** (attempt - 1))


@pytest.mark.parametrize(
    ("hint", "expected"),
    [(None, 0.05), (0.0, 0.05), (0.04, 0.05), (2.0, 2.0), (5.5, 5.5), (5.6, 5.5), (999_999_999.0, 5.5)],
)
def test_a_hint_is_honoured_up_to_its_bound(hint: float | None, expected: float) -> None:
    """The longer of Connect's hint and the own wait, the hint cut to 5.5 s."""
    assert _wait(Failure(Reason.INTERNAL_SERVICE, retry_after_seconds=hint), draw=0.5) == pytest.approx(expected)


@pytest.mark.parametrize("hint", [None, 0.1, 2.0, 999_999_999.0])
@pytest.mark.parametrize("attempt", [1, 5])
def test_a_throttled_call_does_not_wait_by_itself(hint: float | None, attempt: int) -> None:
    """The pacer holds everybody back after a 429, by Connect's hint: the call asks for its next turn at once."""
    assert _wait(Failure(Reason.THROTTLED, retry_after_seconds=hint), attempt=attempt) == 0.0


@pytest.mark.parametrize("hint", [None, 2.0])
@pytest.mark.parametrize("reason", [Reason.INTERNAL_SERVICE, Reason.CONNECT_UNREACHABLE])
def test_in_an_outage_the_probes_are_the_rhythm(reason: Reason, hint: float | None) -> None:
    """No backoff and no hint on top of the wait for a probe; final answers and the last attempt stay what they are."""
    failure = Failure(reason, retry_after_seconds=hint)
    assert _wait(failure, attempt=5, in_outage=True) == 0.0
    assert _wait(failure, attempt=6, in_outage=True) is None
    assert _wait(Failure(Reason.INVALID_REQUEST), in_outage=True) is None


def test_in_an_outage_a_usual_call_must_still_fit() -> None:
    """Without the time for a call nothing is asked for."""
    assert _wait(Failure(Reason.INTERNAL_SERVICE), time_left=0.19, call_seconds=0.2, in_outage=True) is None
    assert _wait(Failure(Reason.INTERNAL_SERVICE), time_left=0.2, call_seconds=0.2, in_outage=True) == 0.0


@pytest.mark.parametrize(("time_left", "waits"), [(0.7, True), (0.69, False), (0.0, False), (-1.0, False)])
def test_an_attempt_that_cannot_finish_in_time_is_not_made(time_left: float, waits: bool) -> None:  # noqa: FBT001 - a table's column
    """The wait and a usual call must fit into the time left."""
    failure = Failure(Reason.INTERNAL_SERVICE, retry_after_seconds=0.5)
    wait = _wait(failure, time_left=time_left, call_seconds=0.2, draw=0.0)
    assert wait == (0.5 if waits else None)


def test_six_attempts_are_all() -> None:
    """The fifth failure may be repeated, the sixth may not."""
    assert _wait(Failure(Reason.INTERNAL_SERVICE), attempt=5) is not None
    assert _wait(Failure(Reason.INTERNAL_SERVICE), attempt=6) is None
    assert retry.MAX_ATTEMPTS == 6


def test_credentials_are_renewed_once_and_tried_at_once() -> None:
    """After fresh credentials the same answer is final; before, there is nothing to wait for."""
    assert _wait(Failure(Reason.SERVICE_CREDENTIALS)) == 0.0
    assert _wait(Failure(Reason.SERVICE_CREDENTIALS), refreshed=True) is None
    assert _wait(Failure(Reason.INTERNAL_SERVICE), refreshed=True) is not None


@settings(deadline=None)
@given(
    reason=st.sampled_from(Reason),
    hint=st.none() | st.floats(min_value=0, max_value=1e9),
    attempt=st.integers(min_value=1, max_value=10),
    time_left=st.floats(min_value=-10, max_value=300),
    call_seconds=st.floats(min_value=0, max_value=60),
    draw=st.floats(min_value=0, max_value=1, exclude_max=True),
    refreshed=st.booleans(),
    in_outage=st.booleans(),
    may_be_at_work=st.booleans(),
)
def test_no_wait_ever_outlasts_the_time_left(
    reason: Reason,
    hint: float | None,
    attempt: int,
    time_left: float,
    call_seconds: float,
    draw: float,
    refreshed: bool,  # noqa: FBT001 - drawn
    in_outage: bool,  # noqa: FBT001 - drawn
    may_be_at_work: bool,  # noqa: FBT001 - drawn
) -> None:
    """Whatever the numbers are: give up, or a wait that leaves time for a usual call and is at most 5.5 s."""
    wait = retry.wait_seconds(
        Failure(reason, retry_after_seconds=hint),
        attempt=attempt,
        time_left=time_left,
        call_seconds=call_seconds,
        draw=draw,
        refreshed=refreshed,
        in_outage=in_outage,
        may_be_at_work=may_be_at_work,
    )
    if wait is None:
        return
    assert reason in _REPEATED
    assert attempt < retry.MAX_ATTEMPTS
    assert 0 <= wait <= retry.HINT_MAX_SECONDS
    assert wait + call_seconds <= time_left
    if retry.classify(Failure(reason)) is RetryClass.TRANSIENT and not in_outage:
        assert wait >= min(hint or 0.0, retry.HINT_MAX_SECONDS)


def test_the_budget_starts_full_and_ends() -> None:
    """Twenty retries without a success, and not one more."""
    budget = RetryBudget()
    assert [budget.spend() for _ in range(21)] == [True] * 20 + [False]
    assert budget.left == 0


def test_two_successes_earn_one_retry() -> None:
    """A success earns half a retry; half a retry is none."""
    budget = RetryBudget()
    while budget.spend():
        pass
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
    assert not budget.spend()


def test_the_budget_never_holds_more_than_its_cap() -> None:
    """A long good time does not save up a storm."""
    budget = RetryBudget()
    for _ in range(100):
        budget.earn()
    assert budget.left == RetryBudget.CAP == 20


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=200))
def test_retries_are_bounded_by_the_cap_and_half_the_successes(successes: list[bool]) -> None:
    """In any order of successes and failures: retries <= 20 + successes / 2."""
    budget = RetryBudget()
    retries = 0
    for success in successes:
        if success:
            budget.earn()
        else:
            retries += budget.spend()
    assert retries <= RetryBudget.CAP + successes.count(True) * RetryBudget.PER_SUCCESS
    assert 0 <= budget.left <= RetryBudget.CAP
