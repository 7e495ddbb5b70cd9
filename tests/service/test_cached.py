"""`cached`: one reading for all who need it at the same time, and nothing that is too old."""

import asyncio
from dataclasses import dataclass, field

import pytest
from fakes import FakeClock
from monitor_contact_service.cached import ABSENT_SECONDS, Cached, Known
from monitor_contact_service.core.asking import Asking
from monitor_contact_service.core.failures import Failure, Reason

_DEADLINE = 1_000_000.0


@dataclass
class _Source:
    """Gives out a number that counts the readings, or fails; `gate` holds readings up, `asking` is for whom."""

    failure: Failure | None = None
    readings: int = 0
    ended: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    asking: Asking | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    async def __call__(self, _key: str, asking: Asking) -> int:
        self.readings += 1
        number = self.readings
        self.asking = asking
        self.begun.set()
        try:
            await self.gate.wait()
        finally:
            self.ended += 1
        if self.failure is not None:
            raise self.failure
        return number


class _Rig:
    def __init__(self, failure: Failure | None = None, max_entries: int = 10) -> None:
        self.clock = FakeClock()
        self.source = _Source(failure)
        self.cached = Cached(self.source, keep_seconds=60, clock=self.clock, max_entries=max_entries)

    async def get(self, key: str = "k", max_age_seconds: float = 1e9) -> int:
        return (await self.cached.get(key, Asking("caller", _DEADLINE), max_age_seconds)).value

    async def begin(self, number: int) -> list["asyncio.Task[int]"]:
        """Return so many who wait for a reading that does not end."""
        self.source.gate.clear()
        tasks = [asyncio.create_task(self.get()) for _ in range(number)]
        await self.source.begun.wait()
        await asyncio.sleep(0)
        return tasks


async def test_what_is_known_is_not_read_again_until_it_is_too_old() -> None:
    """Up to the very end of its time and not beyond it, counted from the reading."""
    rig = _Rig()
    assert await rig.get() == 1
    rig.clock.advance(59.9)
    assert await rig.get() == 1
    assert rig.cached.peek("k", rig.clock()) == Known(1, 1000.0)
    rig.clock.advance(0.1)
    assert rig.cached.peek("k", rig.clock()) is None
    assert await rig.get() == 2


async def test_whoever_wants_it_fresher_reads_it_again() -> None:
    """And the others have it fresher too."""
    rig = _Rig()
    await rig.get()
    rig.clock.advance(5)
    assert await rig.get(max_age_seconds=5) == 1
    rig.clock.advance(0.1)
    assert await rig.get(max_age_seconds=5) == 2
    assert await rig.get() == 2


async def test_keys_are_apart() -> None:
    """Another key is another thing."""
    rig = _Rig()
    assert [await rig.get(key) for key in ("a", "b", "a", "b")] == [1, 2, 1, 2]


async def test_a_thousand_at_once_cause_one_reading() -> None:
    """All of them get what it brings."""
    rig = _Rig()
    tasks = await rig.begin(1000)
    rig.source.gate.set()
    assert await asyncio.gather(*tasks) == [1] * 1000
    assert rig.source.readings == 1


async def test_a_failure_is_everybodys_and_is_not_remembered() -> None:
    """Each gets a copy, as tracebacks are not to be shared; the next call asks again."""
    failure = Failure(Reason.THROTTLED, metadata={"attempts": "3"}, retry_after_seconds=2.0)
    rig = _Rig(failure)
    tasks = await rig.begin(3)
    rig.source.gate.set()
    raised = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, Failure) and error.metadata == failure.metadata for error in raised)
    assert len({id(error) for error in raised}) == 3
    rig.source.failure = None
    assert await rig.get() == 2


async def test_an_old_value_never_stands_in_for_a_failure() -> None:
    """What is too old is gone, whatever becomes of the new reading."""
    rig = _Rig()
    await rig.get()
    rig.clock.advance(60)
    rig.source.failure = Failure(Reason.INTERNAL_SERVICE)
    with pytest.raises(Failure):
        await rig.get()
    with pytest.raises(Failure):
        await rig.get()
    assert rig.source.readings == 3


async def test_what_does_not_exist_is_remembered_briefly() -> None:
    """Probing ids costs one reading in five seconds; then whoever was created meanwhile is found."""
    rig = _Rig(Failure(Reason.RESOURCE_NOT_FOUND))
    for _ in range(3):
        with pytest.raises(Failure) as caught:
            await rig.get()
        assert caught.value.reason is Reason.RESOURCE_NOT_FOUND
    assert rig.source.readings == 1
    rig.clock.advance(ABSENT_SECONDS)
    rig.source.failure = None
    assert await rig.get() == 2


async def test_the_least_recently_used_goes_first() -> None:
    """A flood of ids does not fill the memory, and does not drive out who is asked for."""
    rig = _Rig(max_entries=3)
    for key in ("a", "b", "c", "a", "d", "e"):
        await rig.get(key)
    assert len(rig.cached) == 3
    assert [rig.cached.peek(key, rig.clock()) is not None for key in "abcde"] == [True, False, False, True, True]


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    """Not even the one for whom the reading was begun."""
    rig = _Rig()
    first, *others = await rig.begin(3)
    first.cancel()
    await asyncio.wait([first])
    rig.source.gate.set()
    assert await asyncio.gather(*others) == [1, 1]
    assert (first.cancelled(), rig.source.readings) == (True, 1)


async def test_when_everybody_has_left_the_reading_ends() -> None:
    """It would spend quota for nobody; who comes then begins a new one at once."""
    rig = _Rig()
    tasks = await rig.begin(2)
    rig.source.begun.clear()
    for task in tasks:
        task.cancel()
    late = asyncio.create_task(rig.get())  # before what is being cancelled has ended
    await asyncio.wait(tasks)
    await rig.source.begun.wait()
    assert (rig.source.readings, rig.source.ended) == (2, 1)
    rig.source.gate.set()
    assert await late == 2


async def test_a_reading_has_the_latest_deadline_of_those_who_wait() -> None:
    """It goes on for the patient when the hurried are told that their time is over."""
    rig = _Rig()
    (patient,) = await rig.begin(1)
    assert rig.source.asking == Asking("caller", _DEADLINE)
    with pytest.raises(Failure) as caught:
        await rig.cached.get("k", Asking("caller", rig.clock()))
    assert caught.value.reason is Reason.DEADLINE_TOO_SHORT
    assert rig.source.asking == Asking("caller", _DEADLINE)
    rig.source.gate.set()
    assert await patient == 1


async def test_another_caller_does_not_wait_behind_a_reading_that_has_no_turn_yet() -> None:
    """It may be the last of many in its caller's queue; whichever has read first ends the other one."""
    rig = _Rig()
    (first,) = await rig.begin(1)
    rig.source.begun.clear()
    other = asyncio.create_task(rig.cached.get("k", Asking("another", _DEADLINE)))
    await rig.source.begun.wait()
    assert rig.source.readings == 2
    rig.source.gate.set()
    values = {await first, (await other).value}
    assert len(values) == 1
    assert await rig.get() in values


async def test_another_caller_joins_a_reading_that_has_begun() -> None:
    """It has its turn: a second one would spend quota for nothing."""
    rig = _Rig()
    (first,) = await rig.begin(1)
    assert rig.source.asking is not None
    rig.source.asking.begun = True
    other = asyncio.create_task(rig.cached.get("k", Asking("another", _DEADLINE)))
    await asyncio.sleep(0)
    rig.source.gate.set()
    assert (await first, (await other).value, rig.source.readings) == (1, 1, 1)


async def test_a_bug_in_a_reading_is_not_hidden() -> None:
    """What is no Failure reaches the caller as it is, and the next call asks again."""

    async def broken(_key: str, _asking: Asking) -> int:
        raise ZeroDivisionError

    cached = Cached(broken, keep_seconds=60, clock=FakeClock())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await cached.get("k", Asking("caller", _DEADLINE))


async def test_what_is_known_is_given_without_suspending() -> None:
    """A hit costs no turn of the event loop."""
    rig = _Rig()
    await rig.get()
    with pytest.raises(StopIteration) as stopped:
        rig.cached.get("k", Asking("caller", _DEADLINE)).send(None)
    assert stopped.value.value == Known(1, 1000.0)
