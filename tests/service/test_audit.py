"""`audit`, the step: no action without a durable intent, no answer without an outcome, one outcome for each intent."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
import virtual_time
from audit_fakes import NOON, MemoryLog, entry
from fakes import SESSION
from monitor_contact_service.audit import Audit
from monitor_contact_service.audit_denials import SINGLY
from monitor_contact_service.core.caller import Authentication, Caller, Principal
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.work import Work
from monitor_contact_service.reasons import TABLE
from virtually import virtually

TIMEOUT = 2.0
CANCELLED = asyncio.CancelledError()


class Rig:
    """The step over a log in memory, in virtual time."""

    def __init__(self, **log: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.log = MemoryLog(**log)
        self.audit = Audit(
            self.log,
            code_of=lambda reason: TABLE[reason].code.name,
            timeout_seconds=TIMEOUT,
            clock=self.loop.time,
        )
        self.worked = 0

    def work(self, seconds: float = 10.0, *, sent: bool = False) -> Work:
        """Return a piece of work with so much time."""
        work = Work(self.loop.time() + seconds)
        work.sent = sent
        return work

    async def act(
        self, end: BaseException | None = None, *, work: Work | None = None, sent: bool = False, turns: int = 0
    ) -> None:
        """Do an action that succeeds or ends so; `turns` awaits are in it."""
        work = work or self.work()
        async with self.audit.action(entry(), work) as action:
            self.worked += 1
            for _ in range(turns):
                await asyncio.sleep(0)
            work.sending = sent
            for _ in range(turns):
                await asyncio.sleep(0)
            if end is not None:
                raise end
            action.succeeded(SESSION)

    async def refused(self, **options: Any) -> Failure:
        """Return why an action is not begun."""
        worked = self.worked
        with pytest.raises(Failure) as caught:
            await self.act(**options)
        assert self.worked == worked
        assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
        return caught.value


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@virtually
async def test_nothing_is_done_before_the_intent_is_durable_nor_answered_before_the_outcome_is() -> None:
    """The action waits for the one, its end for the other."""
    rig = Rig(hold=True)
    call = asyncio.ensure_future(rig.act())
    await _turns()
    assert (rig.worked, rig.log.stages()) == (0, ["intent"])
    rig.log.settle()
    await _turns()
    assert (rig.worked, rig.log.stages(), call.done()) == (1, ["intent", "outcome"], False)
    rig.log.settle()
    await call
    assert rig.log.records[1]["intent_seq"] == 1
    assert rig.log.records[1]["aws"] == {"request_id": "aws-1", "monitor_contact_id": "session"}


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize(
    ("end", "unsent", "after_sending", "code"),
    [
        (Failure(Reason.OVERLOADED), "not_sent", "not_sent", "RESOURCE_EXHAUSTED"),
        (Failure(Reason.ACCESS_DENIED, metadata={"aws_request_id": "x"}), "not_sent", "answered", "PERMISSION_DENIED"),
        (Failure(Reason.CONNECT_UNREACHABLE, outcome_unknown=True), "not_sent", "unknown", "UNAVAILABLE"),
        (CANCELLED, "dropped", "unknown", "CANCELLED"),
        (ValueError("a bug"), "not_sent", "unknown", "INTERNAL"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_end_has_its_outcome(
    end: BaseException,
    unsent: str,
    after_sending: str,
    code: str,
    sent: bool,  # noqa: FBT001 - a table's column
) -> None:
    """What is known of the action, and the error itself goes on to the caller unchanged."""

    async def run() -> None:
        rig = Rig()
        with pytest.raises(type(end)) as caught:
            await rig.act(end, sent=sent)
        assert caught.value is end
        assert rig.log.stages() == ["intent", "outcome"]
        outcome = rig.log.records[1]
        assert (outcome["intent_seq"], outcome["grpc_code"]) == (1, code)
        assert outcome["result"] == (after_sending if sent else unsent)

    virtual_time.run(run())


@virtually
async def test_what_connect_has_started_is_recorded_whatever_comes_after() -> None:
    """A success that was noted is the outcome, even if the caller leaves before the end."""
    rig = Rig()
    action = rig.audit.action(entry(), rig.work(sent=True))
    await action.__aenter__()
    action.succeeded(SESSION)
    await action.__aexit__(asyncio.CancelledError, CANCELLED, None)
    assert rig.log.records[1]["result"] == "answered"


@virtually
async def test_a_refusal_that_was_noted_is_recorded_whatever_comes_after() -> None:
    """Connect has said no; the caller leaves while the cause is looked for: nobody has to search for a session."""
    rig = Rig()
    action = rig.audit.action(entry(), rig.work(sent=True))
    await action.__aenter__()
    action.failed(Failure(Reason.SERVICE_QUOTA_EXCEEDED, metadata={"aws_request_id": "aws-1"}))
    await action.__aexit__(asyncio.CancelledError, CANCELLED, None)
    outcome = rig.log.records[1]
    assert (outcome["result"], outcome["error_reason"]) == ("answered", "SERVICE_QUOTA_EXCEEDED")
    assert outcome["aws"] == {"request_id": "aws-1"}


@virtually
async def test_who_leaves_after_refusals_only_has_dropped_the_action() -> None:
    """Every attempt was refused, none is on its way: nothing can have started."""
    rig = Rig()
    work = rig.work(sent=True)
    action = rig.audit.action(entry(), work)
    await action.__aenter__()
    await action.__aexit__(asyncio.CancelledError, CANCELLED, None)
    assert rig.log.records[1]["result"] == "dropped"


@virtually
async def test_the_duration_is_that_of_the_action() -> None:
    """In whole microseconds, from the intent on."""
    rig = Rig()
    async with rig.audit.action(entry(), rig.work()) as action:
        await asyncio.sleep(0.25)  # not a wait: virtual
        action.succeeded(SESSION)
    assert rig.log.records[1]["dur_us"] == pytest.approx(250_000, abs=2)


@pytest.mark.parametrize("sent", [False, True])
def test_cancelled_at_any_await_every_durable_intent_gets_one_outcome(sent: bool) -> None:  # noqa: FBT001 - a table's column
    """The task is cancelled after each number of turns of the event loop, from before its first to after its last."""

    async def cancelled_after(turns: int) -> bool:
        rig = Rig()
        call = asyncio.ensure_future(rig.act(sent=sent, turns=2))
        for _ in range(turns):
            await asyncio.sleep(0)
        ended = call.done()
        call.cancel()
        await asyncio.wait([call])
        await _turns()
        intents = [seq for seq, stage in enumerate(rig.log.stages(), 1) if stage == "intent"]
        outcomes = [record["intent_seq"] for record in rig.log.records if record["stage"] == "outcome"]
        assert intents == outcomes
        assert len(intents) == (0 if turns == 0 else 1)
        return ended

    async def run() -> int:
        turns = 0
        while not await cancelled_after(turns):
            turns += 1
        return turns

    assert virtual_time.run(run()) >= 8


@virtually
async def test_who_leaves_while_the_intent_is_written_leaves_it_closed() -> None:
    """The intent becomes durable after its caller has gone: its outcome says dropped, and nobody waited for it."""
    rig = Rig(hold=True)
    call = asyncio.ensure_future(rig.act())
    await _turns()
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    rig.log.settle()
    await _turns()
    assert rig.worked == 0
    assert [record.get("result") for record in rig.log.records] == [None, "dropped"]


@virtually
async def test_an_intent_that_never_became_durable_needs_no_outcome() -> None:
    """The log fails after the caller has gone."""
    rig = Rig(hold=True)
    call = asyncio.ensure_future(rig.act())
    await _turns()
    call.cancel()
    await asyncio.wait([call])
    rig.log.settle("disk")
    await _turns()
    assert rig.log.stages() == ["intent"]


@virtually
async def test_a_log_that_refuses_or_fails_refuses_the_action() -> None:
    """At once or when the write ends; the caller is told when to come again, the log why."""
    rig = Rig(failure="disk")
    failure = await rig.refused()
    assert (failure.log_text, failure.retry_after_seconds) == ("disk", 1.0)
    rig = Rig(hold=True)
    call = asyncio.ensure_future(rig.refused())
    await _turns()
    rig.log.settle("disk")
    assert (await call).log_text == "disk"


@virtually
async def test_a_hanging_disk_refuses_after_the_time_out_and_the_intent_is_closed_if_it_comes() -> None:
    """After 2 s AUDIT_UNAVAILABLE; when the record becomes durable after all, its outcome says not_sent."""
    rig = Rig(hold=True)
    await rig.refused()
    assert rig.loop.time() == pytest.approx(TIMEOUT, abs=1e-3)
    rig.log.settle()
    await _turns()
    assert rig.log.stages() == ["intent", "outcome"]
    assert rig.log.records[1]["result"] == "not_sent"
    assert rig.log.records[1]["grpc_code"] == "UNAVAILABLE"


@virtually
async def test_while_a_record_is_overdue_others_are_refused_at_once_and_health_knows() -> None:
    """One call waits, the next ones do not; when the disk goes on so does the service."""
    rig = Rig(hold=True)
    await rig.refused()
    assert rig.log.health == [False]
    before = rig.loop.time()
    await rig.refused()
    assert rig.loop.time() == pytest.approx(before, abs=1e-3)
    assert rig.log.stages() == ["intent"]
    rig.log.settle()
    rig.log.hold = False
    await _turns()
    assert rig.log.health == [False, True]
    await rig.act()


@virtually
async def test_a_record_that_fails_in_the_end_is_no_recovery() -> None:
    """The log itself says when it can record again."""
    rig = Rig(hold=True)
    await rig.refused()
    rig.log.settle("disk")
    await _turns()
    assert rig.log.health == [False]


@virtually
async def test_a_call_waits_no_longer_than_its_deadline_and_that_is_no_fault_of_the_disk() -> None:
    """A call with 0.1 s left is refused then; the next one is tried."""
    rig = Rig(hold=True)
    await rig.refused(work=rig.work(0.1))
    assert rig.loop.time() == pytest.approx(0.1, abs=1e-3)
    await rig.refused(work=rig.work(-1.0))
    assert rig.log.health == []
    assert rig.log.stages() == ["intent", "intent"]


@virtually
async def test_an_outcome_that_cannot_be_written_leaves_the_answer_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """Refused, failed or hanging: the caller gets Connect's answer, at the latest after the time-out; the log tells."""
    for trouble in ("refuse", "fail", "hang"):
        rig = Rig()
        caplog.clear()
        async with rig.audit.action(entry(), rig.work()) as action:
            rig.log.failure = "disk" if trouble == "refuse" else ""
            rig.log.hold = True
            if trouble == "fail":
                rig.loop.call_later(1, rig.log.settle, "disk")
            action.succeeded(SESSION)
        assert [(each.levelno, each.message) for each in caplog.records][:1] == [
            (logging.ERROR, "audit outcome overdue" if trouble == "hang" else "audit record lost")
        ]
        assert rig.loop.time() <= 1 + 2 * TIMEOUT


@virtually
async def test_a_repetition_is_recorded_before_it_is_answered() -> None:
    """With the id of the call whose session it got; without a record there is no answer."""
    rig = Rig(hold=True)
    call = asyncio.ensure_future(rig.audit.repeated(entry(), SESSION, "earlier"))
    await _turns()
    assert not call.done()
    rig.log.settle()
    await call
    assert (rig.log.records[0]["stage"], rig.log.records[0]["of"]) == ("repeated", "earlier")
    with pytest.raises(Failure, match="AUDIT_UNAVAILABLE"):
        await rig.audit.repeated(entry(), SESSION, "earlier")


@virtually
async def test_a_policy_file_is_recorded() -> None:
    """Whether it was taken into use, and its hash."""
    rig = Rig()
    rig.audit.policy("x", "policy.rejected", "ab")
    assert rig.log.records == [{"id": "x", "stage": "policy", "event": "policy.rejected", "policy_sha256": "ab"}]


def _denial(number: int, caller: str = "desk") -> Any:
    call = entry(number, caller=Caller(Principal(caller, Authentication.DNS)))
    call.received_at = NOON + timedelta(milliseconds=number)
    return call


@virtually
async def test_denials_are_recorded_one_by_one() -> None:
    """Without waiting; a log that refuses them is noted and stops nothing."""
    rig = Rig()
    rig.audit.denied(_denial(1), Failure(Reason.CALLER_NOT_PERMITTED))
    assert (rig.log.stages(), rig.log.records[0]["grpc_code"]) == (["denied"], "PERMISSION_DENIED")
    rig.log.failure = "disk"
    rig.audit.denied(_denial(1), Failure(Reason.CALLER_NOT_PERMITTED))
    await asyncio.sleep(1.1)  # not a wait: virtual
    assert rig.log.stages() == ["denied"]


@virtually
async def test_a_flood_of_denials_becomes_one_record_a_second() -> None:
    """The first twenty by themselves, the rest by their number, first and last time; none is lost."""
    rig = Rig()
    for number in range(1000):
        rig.audit.denied(_denial(number), Failure(Reason.CALLER_NOT_PERMITTED))
    assert len(rig.log.records) == SINGLY
    await asyncio.sleep(1.1)  # not a wait: virtual
    assert len(rig.log.records) == SINGLY + 1
    told = rig.log.records[-1]
    assert (told["count"], told["id"]) == (1000 - SINGLY, f"{SINGLY:032x}")
    assert (told["first"], told["last"]) == ("2026-01-02T12:00:00.020000Z", "2026-01-02T12:00:00.999000Z")
    rig.audit.denied(_denial(1), Failure(Reason.CALLER_NOT_PERMITTED))
    assert "count" not in rig.log.records[-1]


@virtually
async def test_denials_that_the_log_does_not_take_are_counted_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk, as long as it lasts: one record then says how many there were. At the end they are told lost."""
    rig = Rig()
    rig.log.failure = "no room"
    for number in range(50):
        rig.audit.denied(_denial(number), Failure(Reason.CALLER_NOT_PERMITTED))
        await asyncio.sleep(0.5)  # not a wait: virtual
    assert rig.log.records == []
    rig.log.failure = ""
    await asyncio.sleep(1.1)  # not a wait: virtual
    (told,) = rig.log.records
    assert (told["count"], told["id"]) == (50, f"{0:032x}")
    rig.log.failure = "no room"
    rig.audit.denied(_denial(60), Failure(Reason.CALLER_NOT_PERMITTED))
    rig.audit.flush()
    assert caplog.records[-1].getMessage() == "audit denials lost"
    assert caplog.records[-1].__dict__["fields"] == {"calls": 1}


@virtually
async def test_floods_are_told_apart_by_caller_and_reason() -> None:
    """Neither another caller nor another reason is hidden behind a flood; strangers count as one."""
    rig = Rig()
    for number in range(100):
        rig.audit.denied(_denial(number), Failure(Reason.CALLER_NOT_PERMITTED))
        stranger = _denial(number)
        stranger.caller, stranger.peer = None, f"ipv4:10.0.0.{number}:1"
        rig.audit.denied(stranger, Failure(Reason.UNAUTHENTICATED))
    rig.audit.denied(_denial(200, "other"), Failure(Reason.CALLER_NOT_PERMITTED))
    rig.audit.denied(_denial(201), Failure(Reason.OVERLOADED))
    assert len(rig.log.records) == 2 * SINGLY + 2
    rig.audit.flush()
    assert sorted(record["count"] for record in rig.log.records if "count" in record) == [80, 80]
    await asyncio.sleep(1.1)  # not a wait: virtual
    assert len(rig.log.records) == 2 * SINGLY + 4
