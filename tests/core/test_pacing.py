"""`core.pacing`: a token bucket that is told the time, slows down on 429s and climbs back."""

import copy
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core import pacing
from monitor_contact_service.core.pacing import Pacer, Quota

_START = 1000.0
_QUOTA = Quota(rate=2.0, burst=5)
_PACE = 1.99
_SPACING = 1 / _PACE


def _idle(quota: Quota = _QUOTA, seconds: float = 60.0) -> tuple[Pacer, float]:
    """A pacer whose tokens are all there, and the present."""
    return Pacer(quota, _START), _START + seconds


def _take_at_once(pacer: Pacer, now: float) -> int:
    taken = 0
    while pacer.wait_seconds(now) == 0:
        pacer.take(now)
        taken += 1
    return taken


def _start_of_last(pacer: Pacer, count: int, now: float) -> float:
    """When the last of `count` tokens is taken by somebody who takes each as soon as it is there."""
    greedy, at = copy.copy(pacer), now
    for _ in range(count):
        at += greedy.wait_seconds(at)
        greedy.take(at)
    return at - now


# The table, row by row.


def test_a_new_process_has_one_token() -> None:
    """What was sent before the start is unknown: one request at once, the next one a full spacing later."""
    pacer = Pacer(_QUOTA, _START)
    assert pacer.quota == _QUOTA
    assert pacer.tokens(_START) == pytest.approx(1)
    assert _take_at_once(pacer, _START) == 1
    assert pacer.wait_seconds(_START) == pytest.approx(_SPACING)


@pytest.mark.parametrize(("burst", "tokens"), [(1, 1), (2, 1), (5, 4), (100, 99)])
def test_idle_time_saves_up_one_token_less_than_the_burst(burst: int, tokens: int) -> None:
    """One token of the burst is kept back, but never the only one."""
    pacer, now = _idle(Quota(2.0, burst))
    assert pacer.tokens(now) == tokens
    assert _take_at_once(pacer, now) == tokens
    assert pacer.tokens(now) == pytest.approx(0, abs=1e-9)


def test_tokens_come_back_evenly_at_a_little_less_than_the_quota() -> None:
    """After the burst, one token each 1/1.99 s."""
    pacer, now = _idle()
    _take_at_once(pacer, now)
    assert pacer.rate(now) == _PACE
    for taken in range(1, 10):
        now += pacer.wait_seconds(now)
        pacer.take(now)
        assert now - _START - 60 == pytest.approx(taken * _SPACING)
    assert pacer.tokens(now + _SPACING / 2) == pytest.approx(0.5)


def test_a_429_leaves_no_token_and_no_start_before_its_hold_ends() -> None:
    """What Connect refused shows that its bucket is empty, whatever this pacer believed."""
    pacer, now = _idle()
    pacer.throttled(now, None)
    assert pacer.tokens(now) == pytest.approx(0)
    assert pacer.hold_seconds(now) == 0.5
    assert pacer.wait_seconds(now) == pytest.approx(_SPACING / pacing.CUT)
    assert pacer.hold_seconds(now + 0.6) == 0


@pytest.mark.parametrize(
    ("hint", "hold"),
    [(None, 0.5), (0.0, 0.5), (0.4, 0.5), (2.0, 2.0), (5.5, 5.5), (5.6, 5.5), (1e9, 5.5)]
    + [(bad, 0.5) for bad in (-3.0, math.nan, math.inf, -math.inf)],
)
def test_a_hint_makes_the_hold_longer_up_to_a_bound(hint: float | None, hold: float) -> None:
    """At least 0.5 s, at most 5.5 s; a hint that is no positive number is as none."""
    pacer, now = _idle(Quota(100.0, 50))
    pacer.throttled(now, hint)
    assert pacer.hold_seconds(now) == pytest.approx(hold)
    assert pacer.wait_seconds(now) == pytest.approx(hold)


def test_a_later_shorter_hint_does_not_shorten_a_hold() -> None:
    """The longest of all that Connect asked for holds."""
    pacer, now = _idle()
    pacer.throttled(now, 4.0)
    pacer.throttled(now + 1, None)
    assert pacer.hold_seconds(now + 1) == 3.0


def test_the_pace_is_cut_once_per_hold() -> None:
    """Many 429s at once say the same thing once; one after the hold says a new thing."""
    pacer, now = _idle()
    for _ in range(10):
        pacer.throttled(now, None)
    assert pacer.rate(now) == pytest.approx(_PACE * pacing.CUT)
    now += 0.5
    pacer.throttled(now, None)
    assert pacer.rate(now) == pytest.approx(_PACE * pacing.CUT**2)


def test_the_pace_is_never_cut_below_a_quarter() -> None:
    """However long the 429s go on, there is a pace at which to find out that they ended."""
    pacer, now = _idle()
    for _ in range(50):
        pacer.throttled(now, None)
        now += 0.5
    assert pacer.rate(now) == pytest.approx(_PACE * 0.25)


def test_the_pace_climbs_back_evenly_after_the_hold() -> None:
    """Nothing during the hold, then 4 % of the full pace per second, and never beyond it."""
    pacer, now = _idle()
    pacer.throttled(now, 2.0)
    assert pacer.rate(now + 2) == pytest.approx(_PACE * 0.65)
    assert pacer.rate(now + 3) == pytest.approx(_PACE * 0.69)
    assert pacer.rate(now + 2 + 8.74) < _PACE
    assert pacer.rate(now + 2 + 8.76) == _PACE
    assert pacer.rate(now + 1000) == _PACE


def test_a_pace_that_changes_leaves_the_tokens_as_they_are() -> None:
    """A token and a half before a cut are as many after it."""
    pacer = Pacer(_QUOTA, _START)
    pacer.change(Quota(20.0, 5), _START)
    assert pacer.tokens(_START) == pytest.approx(1)
    pacer.change(Quota(0.1, 5), _START + 0.5 / 19.9)
    assert pacer.tokens(_START + 0.5 / 19.9) == pytest.approx(1.5)


def test_a_smaller_quota_holds_at_once() -> None:
    """The next tokens come at the new pace, and no more of them are saved up."""
    pacer, now = _idle(Quota(100.0, 50))
    pacer.change(_QUOTA, now)
    assert pacer.quota == _QUOTA
    assert _take_at_once(pacer, now) == 4
    assert pacer.wait_seconds(now) == pytest.approx(_SPACING)


def test_a_smaller_burst_is_not_given_after_a_larger_one() -> None:
    """Somebody who took the old burst has no token left for the new one, and owes none either."""
    pacer, now = _idle(Quota(2.0, 11))
    assert _take_at_once(pacer, now) == 10
    pacer.change(_QUOTA, now)
    assert pacer.tokens(now) == pytest.approx(0, abs=1e-9)
    assert pacer.wait_seconds(now) == pytest.approx(_SPACING)


def test_a_larger_quota_holds_from_the_next_token_on_and_its_burst_is_earned() -> None:
    """The pace rises at once; the larger bucket starts with what was there."""
    pacer, now = _idle()
    pacer.change(Quota(20.0, 51), now)
    assert pacer.rate(now) == pytest.approx(19.9)
    assert _take_at_once(pacer, now) == 4
    assert pacer.wait_seconds(now) == pytest.approx(1 / 19.9)
    assert pacer.tokens(now + 60) == 50


def test_a_cut_keeps_its_proportion_in_a_new_quota() -> None:
    """Others use up the same part of it, as far as anybody knows; the hold stands."""
    pacer, now = _idle()
    pacer.throttled(now, 3.0)
    pacer.change(Quota(4.0, 5), now + 1)
    assert pacer.rate(now + 1) == pytest.approx(2 * _PACE * 0.65)
    assert pacer.hold_seconds(now + 1) == 2.0
    assert pacer.rate(now + 4) == pytest.approx(2 * _PACE * 0.69)


def test_rounding_does_not_ask_for_one_more_wait() -> None:
    """Who waits as long as told has a token then, on a machine that has been up for three years too."""
    for start in (0.0, 1000.0, 1e8):
        pacer, now = Pacer(Quota(3.0, 5), start), start
        for _ in range(200):
            now += pacer.wait_seconds(now)
            assert pacer.wait_seconds(now) == 0
            pacer.take(now)


def test_a_token_given_back_can_be_taken_again() -> None:
    """Who took a token and did not use it leaves as many as before."""
    pacer, now = _idle()
    assert _take_at_once(pacer, now) == 4
    pacer.give_back(now)
    assert pacer.tokens(now) == pytest.approx(1)
    assert _take_at_once(pacer, now) == 1


@pytest.mark.parametrize(
    ("replicas", "share"),
    [(1, Quota(2.0, 5)), (2, Quota(1.0, 2)), (4, Quota(0.5, 1)), (8, Quota(0.25, 1))],
)
def test_a_share_is_rounded_down_to_whole_tokens(replicas: int, share: Quota) -> None:
    """All shares together are no more than the quota; but a share without any token would be none."""
    assert _QUOTA.share(replicas) == share


def test_reading_pace_and_tokens_changes_nothing() -> None:
    """Whoever shows them, and how often, has no part in when the next request leaves."""
    pacer, now = _idle()
    _take_at_once(pacer, now)
    pacer.throttled(now, 2.0)
    before = vars(pacer).copy()
    readings = [(pacer.rate(now + later), pacer.tokens(now + later)) for later in (0.5, 2.5, 6.0, 20.0)]
    assert vars(pacer) == before
    assert len(set(readings)) == 4


# What another pacer reported.


def test_a_follower_estimates_from_what_was_reported() -> None:
    """The first start is the reported wait, the others follow at the reported pace, however the pacer stood before."""
    pacer, now = _idle()
    _take_at_once(pacer, now)
    pacer.follow(now, wait_seconds=0.2, rate=_PACE, hold_seconds=0.0)
    for ahead in range(10):
        assert pacer.start_seconds(ahead, now) == pytest.approx(0.2 + ahead * _SPACING)
    assert pacer.rate(now) == pytest.approx(_PACE)


def test_a_follower_has_one_token_if_the_wait_is_over() -> None:
    """A wait of 0 does not say how many tokens there are, so there is one."""
    pacer, now = _idle()
    pacer.follow(now, wait_seconds=0.0, rate=_PACE, hold_seconds=0.0)
    assert pacer.wait_seconds(now) == 0
    assert pacer.tokens(now) == pytest.approx(1)


def test_a_follower_holds_and_climbs_like_the_one_it_follows() -> None:
    """The reported hold is kept, and the pace climbs after it."""
    pacer, now = _idle()
    pacer.follow(now, wait_seconds=0.0, rate=_PACE / 2, hold_seconds=2.0)
    assert pacer.hold_seconds(now) == 2.0
    assert pacer.wait_seconds(now) == 2.0
    assert pacer.rate(now + 2) == pytest.approx(_PACE * 0.5)
    assert pacer.rate(now + 3) == pytest.approx(_PACE * 0.54)


def test_a_429_does_not_shorten_a_reported_wait() -> None:
    """A follower whose turn is far away does not come nearer by being refused."""
    pacer, now = _idle()
    pacer.follow(now, wait_seconds=20.0, rate=_PACE, hold_seconds=0.0)
    pacer.throttled(now, None)
    assert pacer.wait_seconds(now) >= 20.0


@pytest.mark.parametrize(("rate", "pace"), [(1000.0, _PACE), (math.inf, _PACE), (0.0, _PACE / 4), (-1.0, _PACE / 4)])
def test_a_reported_pace_beyond_the_bounds_is_cut_to_them(rate: float, pace: float) -> None:
    """A report cannot make the pace higher than the own quota, nor stop it; negative times are none."""
    pacer, now = _idle()
    pacer.follow(now, wait_seconds=-1.0, rate=rate, hold_seconds=-1.0)
    assert pacer.rate(now) == pytest.approx(pace)
    assert pacer.hold_seconds(now) == 0
    assert pacer.wait_seconds(now) == 0


# Properties, for any order of events.


@dataclass
class _Bucket:
    """The oracle: tokens that drip in all the time, kept as a number of tokens; knows nothing of arrival times."""

    quota: Quota
    at: float = _START
    tokens: float = 1.0
    share: float = 1.0
    share_in_hold: float = 1.0
    hold_ends: float = _START

    @property
    def full_rate(self) -> float:
        return 0.995 * self.quota.rate

    @property
    def rate(self) -> float:
        return self.full_rate * self.share

    @property
    def size(self) -> int:
        return max(1, self.quota.burst - 1)

    @property
    def wait(self) -> float:
        return max((1 - self.tokens) / self.rate, self.hold_ends - self.at, 0)

    def pass_time(self, seconds: float) -> None:
        self.tokens = min(self.size, self.tokens + self.rate * seconds)
        self.at += seconds
        self._climb()

    def throttle(self, hint: float | None) -> None:
        if self.at >= self.hold_ends:
            self.share_in_hold = max(0.25, self.share * 0.65)
        usable = hint if hint is not None and math.isfinite(hint) else 0
        self.hold_ends = max(self.hold_ends, self.at + min(5.5, max(0.5, usable)))
        self.tokens = min(self.tokens, 0)
        self._climb()

    def change(self, quota: Quota) -> None:
        self.quota = quota
        self.tokens = min(self.size, max(0, self.tokens))

    def _climb(self) -> None:
        self.share = min(1, self.share_in_hold + 0.04 * max(0, self.at - self.hold_ends))


@dataclass(frozen=True)
class _Wait:
    spacings: float  # of the present pace


@dataclass(frozen=True)
class _Take:
    most: int


@dataclass(frozen=True)
class _Throttled:
    hint: float | None


_QUOTAS = st.builds(
    Quota,
    rate=st.sampled_from([0.05, 0.5, 2.0, 2.0, 10.0, 100_000.0]) | st.floats(0.1, 50),
    burst=st.integers(1, 20),
)
_HINTS = st.none() | st.floats(0, 10) | st.sampled_from([math.nan, math.inf, -1.0])
_STEPS = st.lists(
    st.builds(_Wait, spacings=st.floats(0, 3) | st.floats(0, 100))
    | st.builds(_Take, most=st.integers(1, 30))
    | st.builds(_Throttled, hint=_HINTS)
    | _QUOTAS,
    max_size=40,
)
# The pacer forgives rounding of 1e-7 s: at 100,000/s a hundredth of a token, however long it goes on.
_FORGIVEN_SECONDS = 1e-7
_FORGIVEN_TOKENS = 0.011


@dataclass
class _Run:
    """Plays steps on a pacer and remembers each take: when, what was earned until then at full pace, the burst then."""

    pacer: Pacer
    now: float = _START
    earned: float = 0.0
    takes: list[tuple[float, float, int]] = field(default_factory=list)
    holds: list[tuple[float, float]] = field(default_factory=list)

    @property
    def full_rate(self) -> float:
        return 0.995 * self.pacer.quota.rate

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.earned += self.full_rate * seconds

    def play(self, step: _Wait | _Take | _Throttled | Quota) -> None:
        match step:
            case _Wait():
                self.pass_time(step.spacings / self.pacer.rate(self.now))
            case _Take():
                for _ in range(step.most):
                    self.pass_time(self.pacer.wait_seconds(self.now))
                    self._take()
            case _Throttled():
                self.pacer.throttled(self.now, step.hint)
                self.holds.append((self.now, self.now + self.pacer.hold_seconds(self.now)))
            case Quota():
                self.pacer.change(step, self.now)

    def _take(self) -> None:
        assert self.pacer.wait_seconds(self.now) == 0
        self.pacer.take(self.now)
        self.takes.append((self.now, self.earned, max(1, self.pacer.quota.burst - 1)))


def _play(quota: Quota, steps: list[_Wait | _Take | _Throttled | Quota]) -> _Run:
    run = _Run(Pacer(quota, _START))
    for step in steps:
        run.play(step)
    return run


@settings(deadline=None)
@given(_QUOTAS, _STEPS)
def test_it_equals_a_bucket_with_continuous_refill(
    quota: Quota, steps: list[_Wait | _Take | _Throttled | Quota]
) -> None:
    """Tokens, pace, wait and hold are those of a plain token bucket, whatever happens in between."""
    pacer, bucket = Pacer(quota, _START), _Bucket(quota)
    for step in steps:
        match step:
            case _Wait():
                bucket.pass_time(step.spacings / bucket.rate)
            case _Take():
                for _ in range(step.most):
                    bucket.pass_time(pacer.wait_seconds(bucket.at))
                    pacer.take(bucket.at)
                    bucket.tokens -= 1
            case _Throttled():
                pacer.throttled(bucket.at, step.hint)
                bucket.throttle(step.hint)
            case Quota():
                pacer.change(step, bucket.at)
                bucket.change(step)
        assert pacer.rate(bucket.at) == pytest.approx(bucket.rate)
        forgiven = 1e-6 + bucket.rate * _FORGIVEN_SECONDS
        assert pacer.tokens(bucket.at) == pytest.approx(max(0, bucket.tokens), rel=1e-6, abs=forgiven)
        assert pacer.wait_seconds(bucket.at) == pytest.approx(bucket.wait, rel=1e-6, abs=1e-6)
        assert pacer.hold_seconds(bucket.at) == pytest.approx(max(0, bucket.hold_ends - bucket.at), abs=1e-6)


@settings(deadline=None)
@given(_QUOTAS, _STEPS)
def test_no_window_has_more_than_what_time_earns_and_the_burst(
    quota: Quota, steps: list[_Wait | _Take | _Throttled | Quota]
) -> None:
    """Between any two takes, both counted: at most 0.995 x rate x time and the burst of the first one's quota."""
    takes = _play(quota, [*steps, _Take(30)]).takes
    for first, (_, earned_first, burst) in enumerate(takes):
        for count, (_, earned_last, _) in enumerate(takes[first:], start=1):
            earned = earned_last - earned_first
            assert count <= burst + earned * (1 + 1e-9) + _FORGIVEN_TOKENS


@settings(deadline=None)
@given(_QUOTAS, _STEPS)
def test_nothing_starts_in_a_hold(quota: Quota, steps: list[_Wait | _Take | _Throttled | Quota]) -> None:
    """After a 429 there is no take before its hold ends, whatever else happens, and it lasts 0.5 to 5.5 s."""
    run = _play(quota, [*steps, _Throttled(None), _Take(1)])
    held = list(run.takes)
    for begins, ends in run.holds:
        assert 0.5 - 1e-6 <= ends - begins <= 5.5 + 1e-6
        assert not [at for at, _, _ in held if begins < at < ends - 1e-6]


@settings(deadline=None)
@given(_QUOTAS, _STEPS, st.integers(0, 30))
def test_a_token_given_back_is_as_if_never_taken(
    quota: Quota, steps: list[_Wait | _Take | _Throttled | Quota], ahead: int
) -> None:
    """Every estimate is what it was before."""
    run = _play(quota, steps)
    run.pass_time(run.pacer.wait_seconds(run.now))
    before = run.pacer.start_seconds(ahead, run.now)
    run.pacer.take(run.now)
    run.pacer.give_back(run.now)
    assert run.pacer.start_seconds(ahead, run.now) == pytest.approx(before, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(_QUOTAS, _STEPS, st.integers(0, 30))
def test_an_estimate_is_what_a_greedy_taker_gets(
    quota: Quota, steps: list[_Wait | _Take | _Throttled | Quota], ahead: int
) -> None:
    """Exactly so at the full pace; while the pace climbs, the taker gets it no later than estimated."""
    run = _play(quota, steps)
    estimate = run.pacer.start_seconds(ahead, run.now)
    start = _start_of_last(run.pacer, ahead + 1, run.now)
    slack = 1e-5 + 1e-6 * estimate
    assert start <= estimate + slack
    if run.pacer.rate(run.now) == pytest.approx(run.full_rate):
        assert start >= estimate - slack


@settings(deadline=None)
@given(_QUOTAS, _STEPS, st.floats(0, 10), st.floats(0, 10), st.floats(0.25, 1), st.integers(0, 30))
def test_a_follower_gives_the_estimates_of_the_pacer_that_it_follows(
    quota: Quota,
    steps: list[_Wait | _Take | _Throttled | Quota],
    wait: float,
    hold: float,
    share: float,
    ahead: int,
) -> None:
    """Nothing of its own past shows: it estimates as a follower does that has none."""
    run = _play(quota, steps)
    pacer, fresh = run.pacer, Pacer(run.pacer.quota, run.now)
    for follower in (pacer, fresh):
        follower.follow(run.now, wait_seconds=wait, rate=share * run.full_rate, hold_seconds=hold)
    assert pacer.start_seconds(ahead, run.now) == pytest.approx(fresh.start_seconds(ahead, run.now))
    assert pacer.start_seconds(0, run.now) == pytest.approx(max(wait, hold), abs=1e-6)
