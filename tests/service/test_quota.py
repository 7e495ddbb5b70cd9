"""`quota`: the pacer of a single replica, read by a clock."""

import pytest
from fakes import FakeClock
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.quota import LocalQuota

_SPACING = 1 / 1.99


class _Rig:
    def __init__(self, replicas: int = 1) -> None:
        self.clock = FakeClock()
        self.quota = LocalQuota(Quota(rate=2.0, burst=5), replicas=replicas, clock=self.clock)

    def take_at_once(self) -> int:
        taken = 0
        while self.quota.wait_seconds() == 0:
            self.quota.take()
            taken += 1
        return taken


def test_it_starts_with_one_token_and_goes_by_the_clock() -> None:
    """One token at the start; the next one when the clock says so, and four after a rest."""
    rig = _Rig()
    assert rig.take_at_once() == 1
    assert rig.quota.wait_seconds() == pytest.approx(_SPACING)
    rig.clock.advance(rig.quota.wait_seconds())
    assert rig.take_at_once() == 1
    rig.clock.advance(60)
    assert rig.take_at_once() == 4


def test_it_estimates_starts() -> None:
    """The start after three others is three spacings away if one token is there."""
    rig = _Rig()
    assert rig.quota.start_seconds(0) == 0
    assert rig.quota.start_seconds(3) == pytest.approx(3 * _SPACING)


def test_a_429_holds_everything() -> None:
    """Connect's hint is kept by the clock, and shows in the estimates."""
    rig = _Rig()
    rig.quota.throttled(3.0)
    assert rig.quota.start_seconds(0) == 3.0
    assert rig.quota.wait_seconds() == 3.0
    rig.clock.advance(1)
    assert rig.quota.start_seconds(0) == 2.0
    rig.clock.advance(2)
    assert rig.quota.start_seconds(0) == 0
    assert rig.quota.wait_seconds() == 0


def test_a_429_without_a_hint_holds_half_a_second() -> None:
    """Connect need not say how long; at ten times the rate the next token would be there sooner."""
    rig = _Rig()
    rig.quota.change(Quota(rate=20.0, burst=5), 1)
    rig.quota.throttled(None)
    assert rig.quota.start_seconds(0) == 0.5


def test_a_changed_quota_is_told_to_who_waits() -> None:
    """A larger quota makes waits shorter, so the listener is called after it holds."""
    rig = _Rig()
    rig.take_at_once()
    told: list[float] = []
    rig.quota.on_change = lambda: told.append(rig.quota.wait_seconds())
    rig.quota.change(Quota(rate=20.0, burst=5), 1)
    assert told == [pytest.approx(_SPACING / 10)]


def test_a_change_needs_no_listener() -> None:
    """A quota may change before anybody listens."""
    rig = _Rig()
    rig.quota.change(Quota(rate=1.0, burst=1), 1)
    assert rig.take_at_once() == 1
    assert rig.quota.wait_seconds() == pytest.approx(1 / 0.995)


def test_one_of_several_replicas_takes_its_part() -> None:
    """Half of the pace and a burst of one for each of two; the whole again as soon as it is alone."""
    rig = _Rig(replicas=2)
    rig.clock.advance(60)
    assert rig.take_at_once() == 1
    assert rig.quota.wait_seconds() == pytest.approx(2 * _SPACING)
    rig.quota.change(Quota(rate=2.0, burst=5), 1)
    rig.clock.advance(60)
    assert rig.take_at_once() == 4


def test_a_token_given_back_can_be_taken_again() -> None:
    """A call that leaves in its turn costs nothing."""
    rig = _Rig()
    assert rig.take_at_once() == 1
    rig.quota.give_back()
    assert rig.take_at_once() == 1
