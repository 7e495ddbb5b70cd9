"""Turns, refusals and outages over a real pacer and queue, in virtual time: waiting costs nothing and is exact."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import virtual_time
from fakes import FakeObserver
from monitor_contact_service.admission import Admission, Place
from monitor_contact_service.core.chance import SHUTTING_DOWN_RETRY_SECONDS, Limits, waiting_seconds
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.fairness import FairQueue
from monitor_contact_service.core.latency import MedianSeconds
from monitor_contact_service.core.outage import FAILURES_TO_OPEN, FIRST_PROBE_SECONDS, Outage
from monitor_contact_service.core.pacing import RATE_SHARE, Quota
from monitor_contact_service.core.work import Work
from monitor_contact_service.quota import LocalQuota
from monitor_contact_service.turns import Turns
from virtually import virtually

# Without the service's own safety margin this is a token each half second, one at a time.
T = 0.5
QUOTA = Quota(rate=1 / RATE_SHARE / T, burst=1)
CALL_SECONDS = 0.2
# What must be left when a call that waited is sent.
NEEDED = waiting_seconds(CALL_SECONDS)


class Rig:
    """An admission in virtual time, and the order in which calls got their turns."""

    def __init__(
        self, *, quota: Quota = QUOTA, limits: Limits | None = None, weights: dict[str, float] | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock: Callable[[], float] = loop.time
        self.tokens = LocalQuota(quota, clock=loop.time)
        self.outage = Outage()
        self.observer = FakeObserver()
        call_seconds = MedianSeconds(CALL_SECONDS)
        self.turns = Turns(
            tokens=self.tokens,
            queue=FairQueue(weights=weights or {}),
            outage=self.outage,
            call_seconds=call_seconds,
            clock=loop.time,
            draw=lambda: 0.5,
        )
        self.admission = Admission(
            turns=self.turns,
            outage=self.outage,
            limits=limits or Limits(per_caller=64, total=256, in_flight=512),
            call_seconds=call_seconds,
            observer=self.observer,
            clock=loop.time,
            draw=lambda: 0.5,
        )
        self.begun: list[tuple[str, float]] = []

    async def call(
        self,
        name: str,
        *,
        caller: str | None = None,
        deadline: float = 60.0,
        during: Callable[[Place], Awaitable[None]] | None = None,
    ) -> None:
        """Have a place from the first turn on until `during` ends."""
        work = Work(self.clock() + deadline)
        async with self.admission.place(caller or name, work) as place:
            self.begun.append((name, round(self.clock(), 3)))
            if during is not None:
                await during(place)
            else:
                place.succeeded()

    def start(self, name: str, **options: Any) -> "asyncio.Task[None]":
        """Begin a call; it has asked for its turn when this returns to the loop once."""
        return asyncio.ensure_future(self.call(name, **options))

    async def failure(self, name: str = "late", **options: Any) -> Failure:
        """Return why a call gets no turn."""
        with pytest.raises(Failure) as caught:
            await self.call(name, **options)
        return caught.value


async def _fail(place: Place, reason: Reason = Reason.INTERNAL_SERVICE) -> None:
    place.failed(Failure(reason))


@virtually
async def test_each_call_gets_its_token_and_none_comes_early() -> None:
    """The first at once, the others half a second apart, in the order of their deadlines."""
    rig = Rig()
    calls = [rig.start(name, deadline=60.0 + number) for number, name in enumerate("abc")]
    await asyncio.gather(*calls)
    assert rig.begun == [("a", 0.0), ("b", T), ("c", 2 * T)]


@virtually
async def test_a_caller_with_many_calls_does_not_delay_one_with_a_single_call() -> None:
    """A hog has 30 calls waiting; the light caller's comes after the one under way and a round of four."""
    rig = Rig()
    hog = [rig.start(f"hog {number}", caller="hog", deadline=59.0) for number in range(30)]
    await asyncio.sleep(0)
    light = rig.start("light")
    await asyncio.gather(light, *hog)
    assert [name for name, _ in rig.begun].index("light") <= 5


@virtually
async def test_what_cannot_be_in_time_is_refused_at_once() -> None:
    """Its caller has four waiting, so it starts after 2.5 s: with 2.6 s left it is told so, without having waited."""
    rig = Rig()
    calls = [rig.start(str(number), caller="one", deadline=2.6) for number in range(5)]
    await asyncio.sleep(0)
    before = rig.clock()
    failure = await rig.failure(caller="one", deadline=2.6)
    assert rig.clock() - before < 0.001
    assert failure.reason is Reason.OVERLOADED
    assert failure.metadata["limit_name"] == "quota_wait_ms"
    assert int(failure.metadata["limit"]) == pytest.approx((2.6 - NEEDED) * 1000, abs=1)
    assert int(failure.metadata["current"]) == pytest.approx(2500, abs=1)
    await asyncio.gather(*calls)
    assert "late" not in [name for name, _ in rig.begun]


@virtually
async def test_who_comes_again_when_told_to_succeeds() -> None:
    """RetryInfo is true: after it, with the same time left as before, the call is let in and starts in time."""
    rig = Rig()
    calls = [rig.start(str(number), caller="one", deadline=2.6) for number in range(5)]
    await asyncio.sleep(0)
    failure = await rig.failure(caller="one", deadline=2.6)
    assert failure.retry_after_seconds is not None
    await asyncio.sleep(failure.retry_after_seconds)
    await rig.call("again", caller="one", deadline=2.6)
    await asyncio.gather(*calls)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(per_caller=2, total=9, in_flight=9), "queue_per_caller"),
        (Limits(per_caller=9, total=2, in_flight=9), "queue_total"),
        (Limits(per_caller=9, total=9, in_flight=2), "in_flight"),
    ],
)
def test_a_full_queue_refuses_the_newcomer_and_nobody_else(limits: Limits, name: str) -> None:
    """OVERLOADED names the limit, its value and the present number; those who wait get their turns."""

    async def scene() -> None:
        rig = Rig(limits=limits)
        await rig.call("first")
        waiting = [rig.start("early", caller="one") for _ in range(2)]
        await asyncio.sleep(0)
        failure = await rig.failure(caller="one")
        assert failure.reason is Reason.OVERLOADED
        assert failure.metadata == {"limit_name": name, "limit": "2", "current": "2"}
        await asyncio.gather(*waiting)
        assert [each for each, _ in rig.begun] == ["first", "early", "early"]

    virtual_time.run(scene())


@virtually
async def test_a_caller_that_leaves_spends_no_token() -> None:
    """Two of three leave while they wait: the third gets the token that the first of them would have had."""
    rig = Rig()
    await rig.call("first")
    gone = [rig.start("gone"), rig.start("gone too")]
    stays = rig.start("stays")
    await asyncio.sleep(0)
    for call in gone:
        call.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    await stays
    assert rig.begun == [("first", 0.0), ("stays", T)]


@virtually
async def test_a_turn_given_in_the_moment_of_leaving_goes_to_the_next() -> None:
    """The token was taken for a call that is cancelled before it runs on: nobody waits longer for that."""
    rig = Rig()
    await rig.call("first")
    gone, stays = rig.start("gone"), rig.start("stays")
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(T, lambda: asyncio.get_running_loop().call_soon(gone.cancel))
    await asyncio.gather(gone, return_exceptions=True)
    await stays
    assert rig.begun == [("first", 0.0), ("stays", pytest.approx(T, abs=0.001))]


@virtually
async def test_a_probes_turn_given_in_the_moment_of_leaving_goes_to_the_next() -> None:
    """Nothing was sent for it, so the outage does not wait for its answer: the next call is the probe."""
    rig = Rig(quota=Quota(1000, 1000))
    await _open_outage(rig)
    gone, stays = rig.start("gone", deadline=30.0), rig.start("stays", deadline=30.0)
    loop = asyncio.get_running_loop()
    loop.call_later(rig.outage.probe_seconds(rig.clock()), lambda: loop.call_soon(gone.cancel))
    await asyncio.gather(gone, return_exceptions=True)
    await stays
    assert rig.begun[-1][0] == "stays"
    assert rig.outage.reason is None


@virtually
async def test_a_call_whose_time_runs_out_while_it_waits_is_told_so() -> None:
    """Admitted, then overtaken by a 429's hold: DEADLINE_TOO_SHORT as soon as its time is too short."""
    rig = Rig()
    await rig.call("first")
    waiting = rig.start("waiting", deadline=2 * T + NEEDED)
    await asyncio.sleep(0)
    rig.turns.throttled(5.0)
    with pytest.raises(Failure) as caught:
        await waiting
    assert caught.value.reason is Reason.DEADLINE_TOO_SHORT
    assert rig.clock() == pytest.approx(2 * T, abs=0.001)
    assert rig.turns.waiting == 0


@virtually
async def test_a_deadline_that_moves_is_obeyed() -> None:
    """Somebody with more time joins the call that waits: it is not given up at its first deadline."""
    rig = Rig()
    await rig.call("first")
    work = Work(rig.clock() + 2 * T + NEEDED)
    place = rig.admission.place("caller", work)
    entered = asyncio.ensure_future(place.__aenter__())
    await asyncio.sleep(0)
    rig.turns.throttled(2.0)
    work.deadline = rig.clock() + 60.0
    await entered
    assert rig.clock() >= 2.0
    await place.__aexit__()


@virtually
async def test_a_throttled_call_goes_to_the_head_of_its_callers_queue() -> None:
    """After a 429 it is before the calls that its caller began later, and nobody is sent during the hold."""
    rig = Rig()

    async def throttled_once(place: Place) -> None:
        place.failed(Failure(Reason.THROTTLED, retry_after_seconds=2.0))
        await place.again()
        rig.begun.append(("again", round(rig.clock(), 3)))
        place.succeeded()

    first = rig.start("first", caller="one", during=throttled_once)
    second = rig.start("second", caller="one")
    await asyncio.gather(first, second)
    assert [name for name, _ in rig.begun] == ["first", "again", "second"]
    assert rig.begun[1][1] >= 2.0


@virtually
async def test_a_further_turn_that_cannot_be_in_time_is_refused() -> None:
    """The hold after the 429 is longer than the call may last: refused at once, not at the deadline."""
    rig = Rig()

    async def throttled(place: Place) -> None:
        place.failed(Failure(Reason.THROTTLED, retry_after_seconds=5.0))
        assert place.come_again_seconds() >= 5.0
        await place.again()

    assert (await rig.failure(deadline=3.0, during=throttled)).reason is Reason.OVERLOADED
    assert rig.clock() < 0.001


async def _open_outage(rig: Rig) -> None:
    for number in range(FAILURES_TO_OPEN):
        await rig.call(f"failing {number}", during=_fail)
    assert rig.outage.reason is Reason.INTERNAL_SERVICE


@virtually
async def test_in_an_outage_one_probe_at_a_time_is_sent() -> None:
    """Of ten that wait, one is sent while it is not known how it ends; its success lets the others follow in pace."""
    rig = Rig()
    await _open_outage(rig)
    rig.begun.clear()
    ended = asyncio.Event()

    async def until_told(place: Place) -> None:
        assert place.probing
        await ended.wait()
        place.succeeded()

    probe = rig.start("probe", deadline=30.0, during=until_told)
    others = [rig.start("other") for _ in range(10)]
    await asyncio.sleep(10)  # not a wait: virtual
    assert [name for name, _ in rig.begun] == ["probe"]
    ended.set()
    await asyncio.gather(probe, *others)
    assert len(rig.begun) == 11


@virtually
async def test_a_probe_that_fails_lets_the_next_follow_within_a_second() -> None:
    """The first after half a second, the further ones after up to one; each by whoever is next."""
    rig = Rig(quota=Quota(1000, 1000))
    await _open_outage(rig)
    opened = rig.clock()
    calls = [rig.start(str(number), deadline=30.0, during=_fail) for number in range(4)]
    await asyncio.gather(*calls)
    times = [at - opened for _, at in rig.begun[-4:]]
    assert times == [pytest.approx(expected, abs=0.01) for expected in (0.5, 1.3, 2.3, 3.3)]


@virtually
async def test_what_cannot_outlast_the_next_probe_is_refused_with_the_reason_of_the_outage() -> None:
    """New calls at once, those that wait as soon as the probe has failed; nothing is sent for either."""
    rig = Rig()
    await _open_outage(rig)
    failure = await rig.failure(deadline=FIRST_PROBE_SECONDS)
    assert (failure.reason, failure.metadata) == (Reason.INTERNAL_SERVICE, {"attempts": "0"})
    assert failure.retry_after_seconds is not None
    assert failure.retry_after_seconds >= FIRST_PROBE_SECONDS
    ended = asyncio.Event()

    async def fail_when_told(place: Place) -> None:
        await ended.wait()
        await _fail(place)

    probe = rig.start("probe", deadline=30.0, during=fail_when_told)
    await asyncio.sleep(1)  # not a wait: virtual
    short = rig.start("short", deadline=FIRST_PROBE_SECONDS + 2 * CALL_SECONDS)
    await asyncio.sleep(0)
    ended.set()
    await probe
    with pytest.raises(Failure) as caught:
        await short
    assert caught.value.reason is Reason.INTERNAL_SERVICE
    assert rig.begun[-1][0] == "probe"


@virtually
async def test_a_probe_whose_caller_leaves_lets_another_try() -> None:
    """It told nothing: the next probe comes after the same interval and nobody waits for ever."""
    rig = Rig()
    await _open_outage(rig)
    probe = rig.start("probe", deadline=30.0, during=lambda _: asyncio.sleep(60))  # not a wait: virtual
    await asyncio.sleep(2)  # not a wait: virtual
    assert rig.begun[-1][0] == "probe"
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    await rig.call("next", deadline=30.0)
    assert rig.outage.reason is None


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.SERVICE_CREDENTIALS])
def test_a_probe_that_is_throttled_or_unsigned_decides_nothing(reason: Reason) -> None:
    """The outage goes on, and the next probe comes."""

    async def scene() -> None:
        rig = Rig()
        await _open_outage(rig)
        await rig.call("probe", deadline=30.0, during=lambda place: _fail(place, reason))
        assert rig.outage.reason is Reason.INTERNAL_SERVICE
        await rig.call("next", deadline=30.0)
        assert rig.outage.reason is None

    virtual_time.run(scene())


@virtually
async def test_a_refusal_by_name_proves_that_connect_lives() -> None:
    """NOT_FOUND is an answer: it ends the outage."""
    rig = Rig()
    await _open_outage(rig)
    await rig.call("probe", deadline=30.0, during=lambda place: _fail(place, Reason.RESOURCE_NOT_FOUND))
    assert rig.outage.reason is None


@pytest.mark.parametrize("reason", Reason)
def test_however_a_probe_fails_the_next_call_is_sent(reason: Reason) -> None:
    """No answer, of whatever class, leaves the outage waiting for a probe that has ended."""

    async def scene() -> None:
        rig = Rig()
        await _open_outage(rig)
        await rig.call("probe", deadline=30.0, during=lambda place: _fail(place, reason))
        await rig.call("next", deadline=30.0)
        assert rig.begun[-1][0] == "next"
        assert rig.outage.reason is None

    virtual_time.run(scene())


@virtually
async def test_stopping_refuses_those_who_wait_and_all_who_come() -> None:
    """SHUTTING_DOWN: they spent nothing, and another replica takes their repetition."""
    rig = Rig()
    await rig.call("first")
    waiting = rig.start("waiting")
    await asyncio.sleep(0)
    rig.admission.close()
    with pytest.raises(Failure) as caught:
        await waiting
    for failure in (caught.value, await rig.failure()):
        assert failure.reason is Reason.SHUTTING_DOWN
        assert failure.retry_after_seconds == SHUTTING_DOWN_RETRY_SECONDS
    assert rig.begun == [("first", 0.0)]


@virtually
async def test_a_new_quota_acts_on_those_who_wait() -> None:
    """Ten times the rate: what would have waited five seconds waits half of one."""
    rig = Rig()
    calls = [rig.start(str(number)) for number in range(11)]
    await asyncio.sleep(0)
    rig.tokens.change(Quota(QUOTA.rate * 10, 1), 1)
    await asyncio.gather(*calls)
    assert rig.begun[-1][1] == pytest.approx(0.5, abs=0.05)


@virtually
async def test_the_observer_is_told_of_each_call_once() -> None:
    """Who got a turn and after how long, who was refused and why, who left; a further turn is no further call."""
    rig = Rig()

    async def twice(place: Place) -> None:
        await _fail(place, Reason.THROTTLED)
        await place.again()
        place.succeeded()

    await rig.call("first")
    second, gone = rig.start("second", during=twice), rig.start("gone", deadline=70.0)
    await asyncio.sleep(0)
    assert rig.admission.in_flight == 2
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await rig.failure(deadline=NEEDED + T / 2)
    await rig.failure(deadline=CALL_SECONDS / 4)
    await second
    assert rig.observer.waits == pytest.approx([0.0, T])
    assert rig.observer.refusals == [Reason.OVERLOADED, Reason.DEADLINE_TOO_SHORT]
    assert (rig.observer.left, rig.observer.throttles) == (1, 1)
    assert rig.admission.in_flight == 0


@virtually
async def test_new_limits_and_weights_act_on_the_next_call() -> None:
    """Limits that become smaller throw nobody out; a weight of three gives three turns for one."""
    rig = Rig()
    await rig.call("first")
    calls = [rig.start("heavy", caller="heavy", deadline=50.0) for _ in range(12)]
    calls += [rig.start("light", caller="light", deadline=40.0) for _ in range(12)]
    await asyncio.sleep(0)
    rig.admission.change(Limits(per_caller=1, total=1, in_flight=99), {"heavy": 3.0})
    assert (await rig.failure()).metadata["limit_name"] == "queue_total"
    await asyncio.gather(*calls)
    early = [name for name, _ in rig.begun[1:17]]
    assert early.count("heavy") == 12
