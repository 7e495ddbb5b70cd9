"""`admission`: a place, or a refusal before anything is spent."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from fakes import FakeClock
from monitor_contact_service.admission import Admission
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.latency import MedianSeconds


class _Rig:
    def __init__(self, max_in_flight: int = 2, call_seconds: float = 0.2) -> None:
        self.clock = FakeClock()
        self.admission = Admission(
            max_in_flight=max_in_flight,
            call_seconds=MedianSeconds(call_seconds),
            clock=self.clock,
            draw=lambda: 0.5,
        )

    async def refusal(self, seconds: float = 10.0) -> Failure:
        with pytest.raises(Failure) as raised:
            async with self.admission.place(self.clock() + seconds):
                pytest.fail("the body ran")
        return raised.value

    async def takes_one(self) -> bool:
        async with self.admission.place(self.clock() + 10):
            return True


async def test_the_call_after_the_last_place_is_refused_with_both_sides_of_the_limit() -> None:
    """OVERLOADED says which limit, how much and how many, and when to come again: a usual call's time and 0-20 %."""
    rig = _Rig(max_in_flight=2)
    async with rig.admission.place(rig.clock() + 10), rig.admission.place(rig.clock() + 10):
        failure = await rig.refusal()
    assert failure.reason is Reason.OVERLOADED
    assert failure.metadata == {"limit_name": "in_flight", "limit": "2", "current": "2"}
    assert failure.retry_after_seconds == pytest.approx(0.2 * 1.1)


async def test_a_place_is_free_again_after_the_call() -> None:
    """As many calls as places at the same time, any number one after another."""
    rig = _Rig(max_in_flight=1)
    for _ in range(5):
        assert await rig.takes_one()


async def test_a_refused_call_takes_no_place() -> None:
    """Refusals do not add up: the place is free as soon as its holder leaves."""
    rig = _Rig(max_in_flight=1)
    async with rig.admission.place(rig.clock() + 10):
        for _ in range(5):
            assert (await rig.refusal()).metadata["current"] == "1"
    assert await rig.takes_one()


async def test_a_place_is_free_again_after_a_failure() -> None:
    """A call that fails gives its place back and its failure on."""
    rig = _Rig(max_in_flight=1)
    with pytest.raises(Failure) as raised:
        async with rig.admission.place(rig.clock() + 10):
            raise Failure(Reason.THROTTLED)
    assert raised.value.reason is Reason.THROTTLED
    assert await rig.takes_one()


async def test_a_place_is_free_again_after_a_cancellation() -> None:
    """A caller that leaves gives its place back."""
    rig = _Rig(max_in_flight=1)
    inside = asyncio.Event()

    async def hold() -> None:
        async with rig.admission.place(rig.clock() + 10):
            inside.set()
            await asyncio.Event().wait()

    holder = asyncio.ensure_future(hold())
    await inside.wait()
    assert (await rig.refusal()).reason is Reason.OVERLOADED
    holder.cancel()
    await asyncio.wait([holder])
    assert holder.cancelled()
    assert await rig.takes_one()


@pytest.mark.parametrize(("seconds", "left_ms"), [(0.09, "89"), (0.0, "0"), (-1.0, "0")])
async def test_a_deadline_that_connect_cannot_meet_is_refused(seconds: float, left_ms: str) -> None:
    """Less than half of a usual call's time left: DEADLINE_TOO_SHORT, with both times."""
    failure = await _Rig(call_seconds=0.2).refusal(seconds)
    assert failure.reason is Reason.DEADLINE_TOO_SHORT
    assert failure.metadata["time_needed_ms"] == "100"
    assert failure.metadata["time_left_ms"] in {left_ms, str(int(left_ms) + 1)}  # the clock's own rounding
    assert failure.retry_after_seconds is None


async def test_half_of_the_usual_time_is_enough_to_try() -> None:
    """The estimate is a median: half of the calls are faster, so 100 ms are tried where 200 are usual."""
    rig = _Rig(call_seconds=0.2)
    async with rig.admission.place(rig.clock() + 0.1001):
        pass


async def test_a_closed_admission_refuses_new_calls_and_keeps_the_running_ones() -> None:
    """SHUTTING_DOWN comes with a short time to find another replica; calls that have a place go on."""
    rig = _Rig()
    async with AsyncExitStack() as places:
        await places.enter_async_context(rig.admission.place(rig.clock() + 10))
        rig.admission.close()
        failure = await rig.refusal()
    assert failure.reason is Reason.SHUTTING_DOWN
    assert failure.retry_after_seconds == pytest.approx(0.1)
    assert failure.metadata == {}


async def test_closing_comes_before_every_other_refusal() -> None:
    """A full replica that stops says that it stops: the caller should look elsewhere at once."""
    rig = _Rig(max_in_flight=1)
    async with rig.admission.place(rig.clock() + 10):
        rig.admission.close()
        assert (await rig.refusal(seconds=0)).reason is Reason.SHUTTING_DOWN
