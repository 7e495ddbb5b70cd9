"""Token buckets: never more than the quota, and what a cut of the quota or a refused call does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_contact_service.simulator import Quota, Simulator, Switches
from monitor_contact_service.simulator.buckets import Bucket, Buckets

from .support import Caller, FakeClock, untimed


def _granted(bucket: Bucket, times: list[float], *, free: bool) -> list[float]:
    return [now for now in times if bucket.take(now, refused_calls_free=free)]


@untimed
@given(
    gaps=st.lists(st.floats(0, 5), max_size=60),
    rate=st.floats(0, 10),
    burst=st.integers(0, 10),
    free=st.booleans(),
)
def test_no_window_gets_more_than_rate_times_length_plus_burst(
    gaps: list[float], rate: float, burst: int, *, free: bool
) -> None:
    """Whatever the arrivals: in any window the calls granted are at most what the quota allows."""
    times = [sum(gaps[:number]) for number in range(len(gaps))]
    granted = _granted(Bucket(Quota(rate, burst), 0), times, free=free)
    for first, start in enumerate(granted):
        for count, end in enumerate(granted[first:], start=1):
            assert count <= rate * (end - start) + burst + 1e-6


def test_refused_calls_are_free() -> None:
    """However many are refused, the next token is there half a second later."""
    bucket = Bucket(Quota(2, 5), 0)
    assert len(_granted(bucket, [0.0] * 100, free=True)) == 5
    assert bucket.take(0.5, refused_calls_free=True)


def test_refused_calls_take_a_token_when_switched_so() -> None:
    """They go down to minus the burst, no further: three seconds later one call is granted again."""
    bucket = Bucket(Quota(2, 5), 0)
    _granted(bucket, [0.0] * 100, free=False)
    assert not bucket.take(2.9, refused_calls_free=True)
    assert bucket.take(3.0, refused_calls_free=True)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Time that is seen twice fills the bucket once."""
    bucket = Bucket(Quota(1, 1), 10)
    assert _granted(bucket, [10, 5, 10], free=True) == [10]


def test_a_cut_takes_effect_at_once() -> None:
    """Tokens above the new burst are lost; a raise gives none."""
    buckets = Buckets({"MonitorContact": Quota(2, 5)})
    assert buckets.take("MonitorContact", 0, refused_calls_free=True)
    buckets.change("MonitorContact", Quota(1, 1), 0)
    taken = [buckets.take("MonitorContact", 0, refused_calls_free=True) for _ in range(2)]
    assert taken == [True, False]
    buckets.change("MonitorContact", Quota(1, 100), 0)
    assert not buckets.take("MonitorContact", 0, refused_calls_free=True)


def test_an_unknown_api_has_no_quota() -> None:
    """A mistyped API is an error, not a quota that nothing uses."""
    with pytest.raises(KeyError):
        Buckets({}).change("MonitorContacts", Quota(1, 1), 0)


@pytest.mark.parametrize(("rate", "burst"), [(-1, 1), (1, -1)])
def test_a_negative_quota_is_refused(rate: float, burst: float) -> None:
    """Zero means nothing gets through; less means nothing at all."""
    with pytest.raises(ValueError, match="cannot be negative"):
        Quota(rate, burst)


@pytest.mark.parametrize(
    ("target", "burst"),
    [
        ("/users/i/x", 5),
        ("/security-profiles/i/x", 5),
        ("/security-profiles-permissions/i/x", 5),
        ("/contacts/i/x", 15),
    ],
)
async def test_every_api_has_its_own_bucket(caller: Caller, target: str, burst: int) -> None:
    """A read's burst is its own and leaves MonitorContact's alone."""
    statuses = [(await caller.get(target)).status for _ in range(burst + 1)]
    assert statuses == [404] * burst + [429]
    assert (await caller.monitor()).status == 200


async def test_the_bucket_fills_with_the_clock(sim: Simulator, caller: Caller, clock: FakeClock) -> None:
    """Two calls a second after the burst; the throttled ones are counted but start nothing."""
    sim.switches = Switches(hard_limits=False)
    first = [(await caller.monitor()).status for _ in range(6)]
    clock.now += 1
    second = [(await caller.monitor()).status for _ in range(3)]
    assert (first, second) == ([200] * 5 + [429], [200, 200, 429])
    assert (sim.counts["MonitorContact"], len(sim.sessions)) == (9, 7)
