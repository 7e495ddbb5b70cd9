"""`idempotency`: identical calls are one action, whoever comes, leaves or comes back."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fakes import SESSION, FakeClock
from monitor_contact_service import interceptors
from monitor_contact_service.core.chance import COME_AGAIN_MIN_SECONDS
from monitor_contact_service.core.command import Capability, MonitorCommand, MonitoringSession
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.idempotency import MAX_JOINED, Successes
from monitor_contact_service.core.work import Work
from monitor_contact_service.idempotency import Idempotency

_COMMAND = MonitorCommand("instance", "contact", "user", (Capability.SILENT_MONITOR,), "token")
_OTHER = replace(_COMMAND, contact_id="other")
_WITHOUT_TOKEN = replace(_COMMAND, client_token="")
_LONG = 1000.0

Call = asyncio.Task[MonitoringSession]


async def _settled() -> None:
    """Let everything run that can run without time passing: more turns of the event loop than any path here takes."""
    for _ in range(10):
        await asyncio.sleep(0)


class _Performance:
    """One run of `perform` as it was begun; it ends when told."""

    def __init__(self, command: MonitorCommand, work: Work) -> None:
        self.command = command
        self.work = work
        self.cancelled = False
        self._result: asyncio.Future[MonitoringSession] = asyncio.get_running_loop().create_future()

    async def run(self) -> MonitoringSession:
        try:
            return await self._result
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def set(self, result: MonitoringSession | Exception) -> None:
        self.work.sending = False
        if isinstance(result, Exception):
            self._result.set_exception(result)
        else:
            self._result.set_result(result)

    async def end(self, result: MonitoringSession | Exception = SESSION) -> None:
        self.set(result)
        await _settled()

    async def cancel_from_within(self) -> None:
        self._result.cancel()
        await _settled()


class _Rig:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.successes = Successes()
        self.idempotency = Idempotency(clock=self.clock, successes=self.successes)
        self.performances: list[_Performance] = []

    async def perform(self, command: MonitorCommand, work: Work) -> MonitoringSession:
        self.performances.append(_Performance(command, work))
        return await self.performances[-1].run()

    def begin(self, command: MonitorCommand = _COMMAND, *, caller: str = "desk", seconds: float = _LONG) -> Call:
        deadline = self.clock() + seconds
        return asyncio.ensure_future(self.idempotency.once(caller, command, deadline, self.perform))

    async def call(self, command: MonitorCommand = _COMMAND, *, caller: str = "desk", seconds: float = _LONG) -> Call:
        """Begin a call and let it come as far as it can."""
        call = self.begin(command, caller=caller, seconds=seconds)
        await _settled()
        return call

    def only(self) -> _Performance:
        assert len(self.performances) == 1
        return self.performances[0]


async def _leave(call: Call) -> None:
    call.cancel()
    await asyncio.wait([call])
    await _settled()
    assert call.cancelled()


async def _failure(call: Call) -> Failure:
    with pytest.raises(Failure) as raised:
        await call
    return raised.value


@pytest.fixture
async def rig() -> AsyncIterator[_Rig]:
    """A fresh memory. Afterwards nothing is left over, and the event loop had nothing to complain of by itself.

    It would complain of exceptions that nobody fetched, and of callbacks that failed.
    """
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    rig = _Rig()
    yield rig
    assert not rig.idempotency._tasks
    assert not rig.idempotency._flights
    rig.performances.clear()
    gc.collect()
    loop.set_exception_handler(before)
    assert complaints == []


async def test_a_call_gets_what_its_work_gets(rig: _Rig) -> None:
    """One call, one run with the call's own command and deadline, one session."""
    call = await rig.call(seconds=7.0)
    assert rig.only().command is _COMMAND
    assert rig.only().work.deadline == rig.clock() + 7.0
    await rig.only().end()
    assert await call is SESSION


async def test_identical_calls_at_the_same_time_are_one_action(rig: _Rig) -> None:
    """Ten calls, one run, ten times the same session."""
    calls = [await rig.call(replace(_COMMAND)) for _ in range(10)]
    await rig.only().end()
    assert [await call for call in calls] == [SESSION] * 10


async def test_a_session_that_is_being_written_down_is_remembered_although_everybody_has_left(rig: _Rig) -> None:
    """Connect has said yes, the disk is slow, the caller's deadline passes: its repetition gets that session."""
    call = await rig.call()
    rig.only().work.sending = True
    rig.only().work.sending = False
    rig.only().work.succeeded = True
    await _leave(call)
    assert not rig.only().cancelled
    joined = await rig.call()
    await rig.only().end()
    assert await joined is SESSION
    assert await (await rig.call()) is SESSION
    rig.only()


async def test_no_more_than_a_hundred_wait_for_one_action(rig: _Rig) -> None:
    """The next is refused at once, with a time to come again; when one leaves there is room again."""
    calls = [await rig.call() for _ in range(MAX_JOINED)]
    failure = await _failure(await rig.call())
    assert (failure.reason, failure.metadata["limit_name"]) == (Reason.OVERLOADED, "joined_calls")
    assert failure.retry_after_seconds == COME_AGAIN_MIN_SECONDS
    await _leave(calls.pop())
    calls.append(await rig.call())
    await rig.only().end()
    assert [await call for call in calls] == [SESSION] * MAX_JOINED


async def test_joined_calls_get_the_same_failure_each_in_a_copy_of_its_own(rig: _Rig) -> None:
    """What one caller's answer adds to the failure does not show in another one's."""
    calls = [await rig.call() for _ in range(3)]
    original = Failure(Reason.THROTTLED, metadata={"attempts": "6"}, retry_after_seconds=1.5, outcome_unknown=True)
    await rig.only().end(original)
    failures = [await _failure(call) for call in calls]
    assert len({original, *failures}) == 4
    assert all(vars(failure) == vars(original) for failure in failures)


@pytest.mark.parametrize(
    ("caller", "command"),
    [("desk", replace(_COMMAND, client_token="other")), ("other", _COMMAND), ("other", _OTHER)],
)
async def test_another_caller_or_token_is_another_action(rig: _Rig, caller: str, command: MonitorCommand) -> None:
    """Neither joined nor compared: nobody can reach what belongs to another caller."""
    calls = [await rig.call(), await rig.call(command, caller=caller)]
    sessions = [SESSION, MonitoringSession("second", "", "")]
    for performance, session in zip(rig.performances, sessions, strict=True):
        await performance.end(session)
    assert [await call for call in calls] == sessions


async def test_calls_without_a_token_are_never_the_same(rig: _Rig) -> None:
    """Neither while they run nor afterwards."""
    calls = [await rig.call(_WITHOUT_TOKEN), await rig.call(_WITHOUT_TOKEN)]
    for performance in rig.performances:
        await performance.end()
    assert [await call for call in calls] == [SESSION, SESSION]
    third = await rig.call(_WITHOUT_TOKEN)
    assert len(rig.performances) == 3
    await rig.performances[2].end()
    assert await third is SESSION
    assert len(rig.successes) == 0


async def test_other_fields_are_a_mismatch_while_the_first_call_runs(rig: _Rig) -> None:
    """Refused at once, nothing performed, and the first call is not disturbed."""
    first = await rig.call()
    assert (await _failure(await rig.call(_OTHER))).reason is Reason.IDEMPOTENCY_MISMATCH
    await rig.only().end()
    assert await first is SESSION


async def test_other_fields_are_a_mismatch_after_the_first_call_has_succeeded(rig: _Rig) -> None:
    """The memory compares, too."""
    first = await rig.call()
    await rig.only().end()
    await first
    assert (await _failure(await rig.call(_OTHER))).reason is Reason.IDEMPOTENCY_MISMATCH
    rig.only()


async def test_other_fields_are_allowed_after_the_first_call_has_failed(rig: _Rig) -> None:
    """A failure leaves nothing behind; whether Connect has seen the token is for Connect to say."""
    first = await rig.call()
    await rig.only().end(Failure(Reason.INVALID_REQUEST))
    await _failure(first)
    second = await rig.call(_OTHER)
    await rig.performances[1].end()
    assert await second is SESSION


async def test_a_success_is_answered_from_memory_for_ten_minutes(rig: _Rig) -> None:
    """No run for a repetition, a new one when the time is over."""
    first = await rig.call()
    await rig.only().end()
    await first
    rig.clock.advance(599)
    assert await (await rig.call()) is SESSION
    rig.only()
    rig.clock.advance(1)
    later = await rig.call()
    assert len(rig.performances) == 2
    await rig.performances[1].end()
    await later


async def test_a_failure_is_not_remembered(rig: _Rig) -> None:
    """The repetition of a failed call runs."""
    first = await rig.call()
    await rig.only().end(Failure(Reason.THROTTLED))
    await _failure(first)
    second = await rig.call()
    await rig.performances[1].end()
    assert await second is SESSION


async def test_the_work_has_the_latest_deadline_of_those_who_wait(rig: _Rig) -> None:
    """It grows with a more patient call, not with a less patient one, and shrinks when the patient one leaves."""
    first = await rig.call(seconds=100)
    work, start = rig.only().work, rig.clock()
    moved: list[float] = []
    work.on_moved = lambda: moved.append(work.deadline - start)
    second = await rig.call(seconds=300)
    third = await rig.call(seconds=200)
    assert moved == [300]
    await _leave(second)
    assert moved == [300, 200]
    await _leave(first)
    assert moved == [300, 200]
    await rig.only().end()
    assert await third is SESSION


@pytest.mark.parametrize("sent", [False, True])
async def test_each_call_is_answered_at_its_own_deadline(rig: _Rig, sent: bool) -> None:  # noqa: FBT001 - a table's column
    """The one who joins with less time is told so, and whether the outcome is known; the work goes on for the other."""
    patient = await rig.call()
    rig.only().work.sending = sent
    failure = await _failure(await rig.call(seconds=0))
    assert failure.reason is (Reason.CONNECT_UNREACHABLE if sent else Reason.DEADLINE_TOO_SHORT)
    assert failure.outcome_unknown is sent
    assert rig.only().work.deadline == rig.clock() + _LONG
    await rig.only().end()
    assert await patient is SESSION


async def test_the_first_call_keeps_its_own_deadline_when_a_more_patient_one_joins(rig: _Rig) -> None:
    """Alone it relies on the work's deadline; from then on that is another one's."""
    first = await rig.call(seconds=-1)
    assert not first.done()
    patient = await rig.call()
    assert (await _failure(first)).reason is Reason.DEADLINE_TOO_SHORT
    await rig.only().end()
    assert await patient is SESSION


async def test_the_works_own_answer_comes_first_where_both_are_due(rig: _Rig) -> None:
    """At the deadline itself the work's typed answer still reaches a call that has joined."""
    calls = [await rig.call(seconds=0) for _ in range(2)]
    await rig.only().end(Failure(Reason.CONNECT_UNREACHABLE, outcome_unknown=True))
    assert [(await _failure(call)).reason for call in calls] == [Reason.CONNECT_UNREACHABLE] * 2


async def test_a_caller_that_leaves_takes_nothing_from_the_others(rig: _Rig) -> None:
    """Neither the one that began the work nor one that joined it."""
    first, second, third = [await rig.call() for _ in range(3)]
    await _leave(first)
    await _leave(third)
    assert not rig.only().cancelled
    await rig.only().end()
    assert await second is SESSION


@pytest.mark.parametrize("command", [_COMMAND, _WITHOUT_TOKEN])
async def test_work_that_waits_is_dropped_when_everybody_has_left(rig: _Rig, command: MonitorCommand) -> None:
    """Before its turn, or between two attempts, nothing more is sent."""
    await _leave(await rig.call(command))
    assert rig.only().cancelled
    assert not rig.only().work.abandoned


async def test_work_that_waits_is_dropped_when_the_last_deadline_has_passed(rig: _Rig) -> None:
    """A deadline that passes is one more way to leave."""
    patient = await rig.call()
    hasty = await rig.call(seconds=0)
    await _leave(patient)
    await _failure(hasty)
    await _settled()
    assert rig.only().cancelled


async def test_a_new_call_does_not_join_what_is_being_dropped(rig: _Rig) -> None:
    """It begins anew even if it comes in the very moment in which the last one leaves."""
    first = await rig.call()
    first.cancel()
    await asyncio.sleep(0)
    second = await rig.call()
    third = await rig.call()
    assert [performance.cancelled for performance in rig.performances] == [True, False]
    await rig.performances[1].end()
    assert [await second, await third] == [SESSION, SESSION]


async def test_a_call_that_comes_before_the_last_one_has_left_keeps_the_work(rig: _Rig) -> None:
    """The last caller's cancellation is under way, but it has not left yet: nothing is dropped."""
    first = await rig.call()
    second = rig.begin()
    await _leave(first)
    await rig.only().end()
    assert await second is SESSION


@pytest.mark.parametrize(("command", "runs"), [(_COMMAND, 1), (_WITHOUT_TOKEN, 2)])
async def test_work_that_was_sent_is_finished_without_anybody(rig: _Rig, command: MonitorCommand, runs: int) -> None:
    """It is told that it is abandoned, and its success is remembered for a repetition with the same token."""
    first = await rig.call(command)
    rig.only().work.sending = True
    await _leave(first)
    assert rig.only().work.abandoned
    assert not rig.only().cancelled
    await rig.only().end()
    repetition = await rig.call(command)
    assert len(rig.performances) == runs
    if runs == 2:
        await rig.performances[1].end()
    assert await repetition is SESSION


async def test_a_new_call_adopts_abandoned_work(rig: _Rig) -> None:
    """It joins what is still being sent, with its own deadline and not the one of those who have left."""
    first = await rig.call(seconds=300)
    work = rig.only().work
    work.sending = True
    await _leave(first)
    second = await rig.call(seconds=100)
    assert not work.abandoned
    assert work.deadline == rig.clock() + 100
    await rig.only().end()
    assert await second is SESSION


async def test_a_call_that_adopts_work_is_answered_at_its_own_deadline(rig: _Rig) -> None:
    """The attempt on its way may have been given more time than this call has."""
    first = await rig.call()
    rig.only().work.sending = True
    await _leave(first)
    failure = await _failure(await rig.call(seconds=0))
    assert failure.reason is Reason.CONNECT_UNREACHABLE
    assert failure.outcome_unknown
    assert rig.only().work.abandoned
    await rig.only().end()


async def test_other_fields_are_a_mismatch_also_while_abandoned_work_is_finished(rig: _Rig) -> None:
    """The token is taken until its work is over."""
    first = await rig.call()
    rig.only().work.sending = True
    await _leave(first)
    assert (await _failure(await rig.call(_OTHER))).reason is Reason.IDEMPOTENCY_MISMATCH
    assert rig.only().work.abandoned
    await rig.only().end()


async def test_a_failure_of_abandoned_work_is_fetched_and_forgotten(
    rig: _Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged here, and a repetition runs."""
    first = await rig.call()
    rig.only().work.sending = True
    await _leave(first)
    await rig.only().end(Failure(Reason.INTERNAL_SERVICE))
    second = await rig.call()
    await rig.performances[1].end()
    assert await second is SESSION
    assert caplog.records == []


async def test_a_bug_in_abandoned_work_is_logged(rig: _Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is left to whom it could be raised."""
    first = await rig.call()
    rig.only().work.sending = True
    await _leave(first)
    await rig.only().end(ZeroDivisionError("a bug"))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("ERROR", "unexpected exception in abandoned work")
    ]
    assert "ZeroDivisionError: a bug" in caplog.text


async def test_dropped_work_logs_nothing(rig: _Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A caller that leaves is an everyday matter."""
    await _leave(await rig.call())
    assert caplog.records == []


async def test_a_bug_is_raised_to_every_call(rig: _Rig, caplog: pytest.LogCaptureFixture) -> None:
    """It is not a Failure, and is neither turned into one nor logged here: the guard around every RPC does both."""
    calls = [await rig.call(), await rig.call()]
    await rig.only().end(ZeroDivisionError("a bug"))
    for call in calls:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await call
    assert caplog.records == []


@pytest.mark.parametrize("joined", [1, 2])
async def test_a_cancellation_that_no_caller_asked_for_is_a_bug(rig: _Rig, joined: int) -> None:
    """It must not look like the caller's own: that one would be answered with nothing at all."""
    calls = [await rig.call() for _ in range(joined)]
    await rig.only().cancel_from_within()
    for call in calls:
        with pytest.raises(RuntimeError, match="cancelled") as raised:
            await call
        assert isinstance(raised.value.__cause__, asyncio.CancelledError)


async def test_a_cancellation_that_no_caller_asked_for_is_answered_with_internal(rig: _Rig) -> None:
    """The guard around every RPC masks it like any other bug."""

    async def behaviour(*_: object) -> MonitoringSession:
        return await rig.idempotency.once("desk", _COMMAND, rig.clock() + _LONG, rig.perform)

    answer = asyncio.ensure_future(interceptors._call(behaviour, None, None))
    await _settled()
    await rig.only().cancel_from_within()
    with pytest.raises(Failure) as raised:
        await answer
    assert raised.value.reason is Reason.INTERNAL


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_caller_that_leaves_as_the_work_ends_loses_only_its_own_answer(rig: _Rig, turns: int) -> None:
    """At whichever turn of the event loop between result and answer: cancelled, and the success remembered."""
    first = await rig.call()
    rig.only().set(SESSION)
    for _ in range(turns):
        await asyncio.sleep(0)
    await _leave(first)
    assert await (await rig.call()) is SESSION
    rig.only()


@pytest.mark.parametrize("turns", [1, 2])
async def test_a_caller_that_leaves_as_its_time_runs_out_has_left(rig: _Rig, turns: int) -> None:
    """Its timer is due one turn of the event loop after it leaves, or in the same; the other one gets the session."""
    first = await rig.call()
    second = rig.begin(seconds=-1)
    for _ in range(turns):
        await asyncio.sleep(0)
    await _leave(second)
    await rig.only().end()
    assert await first is SESSION


async def test_finishing_waits_for_work_that_everybody_has_left(rig: _Rig) -> None:
    """A session that may have started is known before the process ends."""
    first = await rig.call()
    rig.only().work.sending = True
    await _leave(first)
    finishing = asyncio.ensure_future(rig.idempotency.finish())
    await _settled()
    assert not finishing.done()
    await rig.only().end()
    await finishing
    assert await (await rig.call()) is SESSION
    rig.only()


async def test_finishing_with_nothing_to_finish_returns(rig: _Rig) -> None:
    """At the end of a quiet process there is nothing to wait for."""
    await rig.idempotency.finish()


@pytest.mark.parametrize("joined", [1, 2])
async def test_nothing_keeps_a_failed_call_alive(rig: _Rig, joined: int) -> None:
    """No timer, no task and no reference cycle: a flood of refusals leaves nothing for the garbage collector."""
    gc.disable()
    try:
        calls = [await rig.call() for _ in range(joined)]
        await rig.only().end(Failure(Reason.THROTTLED))
        failures = [weakref.ref(call.exception() or Failure(Reason.INTERNAL)) for call in calls]
        assert all(failure() for failure in failures)
        calls.clear()
        await _settled()
        assert not any(failure() for failure in failures)
    finally:
        gc.enable()
