"""`read_quota`: reads go out within the quota of each, in their order, and are repeated where that is worth it."""

import asyncio

import pytest
from monitor_contact_service.core.asking import Asking
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.core.reads import ReadRequest, describe_contact, describe_user, read_user
from monitor_contact_service.core.wire import Answer
from read_fakes import BROKEN, DENIED, EXPIRED, PLENTY, THROTTLED, FakeReads, found, paced, refused, script
from virtually import VirtualClock, virtually

_ASKED = describe_user("i", "u")
_FOUND = found({"User": {"SecurityProfileIds": ["p"]}})
_TWO = Quota(rate=2.0, burst=5)
_SPACING = 1 / 1.99


class _Rig:
    def __init__(
        self, *answers: Answer | Failure, quota: Quota = PLENTY, takes_seconds: float = 0.0, replicas: int = 1
    ) -> None:
        self.clock = VirtualClock()
        self.transport = FakeReads(self.clock, script(*answers), takes_seconds)
        self.reads = paced(self.transport, self.clock, quota, replicas)

    async def ask(
        self, seconds: float = 10.0, request: ReadRequest = _ASKED, max_attempts: int = 3, caller: str = "caller"
    ) -> object:
        asking = Asking(caller, self.clock() + seconds)
        return await self.reads.ask(request, read_user, asking, max_attempts=max_attempts)

    async def failure(self, seconds: float = 10.0, max_attempts: int = 3) -> Failure:
        with pytest.raises(Failure) as caught:
            await self.ask(seconds, max_attempts=max_attempts)
        return caught.value


@virtually
async def test_reads_are_spaced_by_their_own_quota() -> None:
    """The first at once, then two a second; another API is not held up."""
    rig = _Rig(_FOUND, quota=_TWO)
    start = rig.clock()
    for _ in range(3):
        await rig.ask()
    assert rig.transport.times == pytest.approx([start, start + _SPACING, start + 2 * _SPACING])
    before = rig.clock()
    await rig.ask(request=describe_contact("i", "c"))
    assert rig.clock() == pytest.approx(before)


@virtually
async def test_contacts_are_read_five_times_as_often() -> None:
    """AWS's proportion: 10/s and 15 where the others have 2/s and 5."""
    rig = _Rig(_FOUND, quota=_TWO)
    start = rig.clock()
    for _ in range(3):
        await rig.ask(request=describe_contact("i", "c"))
    assert rig.transport.times == pytest.approx([start, start + _SPACING / 5, start + 2 * _SPACING / 5])
    await rig.clock.elapse(60)
    start = rig.clock()
    for _ in range(14):
        await rig.ask(request=describe_contact("i", "c"))
    assert rig.clock() == pytest.approx(start)


@virtually
async def test_replicas_share_the_quota() -> None:
    """Each takes its part, since nobody counts for all."""
    rig = _Rig(_FOUND, quota=_TWO, replicas=2)
    start = rig.clock()
    for _ in range(2):
        await rig.ask()
    assert rig.transport.times == pytest.approx([start, start + 2 * _SPACING])


@virtually
async def test_who_comes_first_is_sent_first() -> None:
    """The queue is fair also while sleeping for a token."""
    rig = _Rig(_FOUND, quota=_TWO)
    await asyncio.gather(*(rig.ask(request=describe_user("i", str(number))) for number in range(4)))
    assert [request.target[-1] for _, request in rig.transport.sent] == ["0", "1", "2", "3"]


@virtually
async def test_a_read_that_cannot_start_in_time_is_refused_at_once() -> None:
    """OVERLOADED with what it would have had to wait; nothing is sent, no time passes."""
    rig = _Rig(_FOUND, quota=_TWO)
    await rig.ask()
    before = rig.clock()
    failure = await rig.failure(seconds=0.5)
    assert failure.reason is Reason.OVERLOADED
    assert failure.metadata["limit_name"] == "quota_wait_ms"
    assert failure.retry_after_seconds is not None
    assert failure.retry_after_seconds >= 0.5
    assert (len(rig.transport.sent), rig.clock()) == (1, before)


@virtually
async def test_a_deadline_that_is_over_is_too_short() -> None:
    """Where there is no queue it is not the quota's fault."""
    rig = _Rig(_FOUND)
    assert (await rig.failure(seconds=0.1)).reason is Reason.DEADLINE_TOO_SHORT
    assert not rig.transport.sent


@virtually
async def test_an_attempt_has_the_time_that_is_left() -> None:
    """At most the configured time-out."""
    rig = _Rig(_FOUND)
    await rig.ask(seconds=2)
    await rig.ask(seconds=20)
    assert rig.transport.timeouts == [2.0, 3.0]


@virtually
async def test_a_throttled_read_slows_its_pace_and_is_repeated() -> None:
    """After the hold; what others send meanwhile waits too."""
    rig = _Rig(refused("ThrottlingException", 429, **{"retry-after": "3"}), _FOUND)
    start = rig.clock()
    await rig.ask()
    assert rig.transport.times == pytest.approx([start, start + 3.0])


@virtually
async def test_throttled_to_the_end_is_told_as_such() -> None:
    """Three attempts, then the read's own row, with the time when the pacer has a token again."""
    rig = _Rig(THROTTLED, quota=_TWO)
    failure = await rig.failure()
    assert (failure.reason, failure.metadata["attempts"]) == (Reason.THROTTLED, "3")
    assert failure.retry_after_seconds is not None
    assert failure.retry_after_seconds >= 0.5
    assert not failure.outcome_unknown


@virtually
async def test_throttled_without_time_for_another_turn_is_told_as_such() -> None:
    """What Connect said, not that there is no turn."""
    rig = _Rig(refused("ThrottlingException", 429, **{"retry-after": "3"}))
    failure = await rig.failure(seconds=2.0)
    assert (failure.reason, failure.metadata["attempts"]) == (Reason.THROTTLED, "1")


@virtually
async def test_a_broken_read_is_repeated_after_a_while() -> None:
    """With jitter: half of 0.1 and of 0.2 s here."""
    rig = _Rig(BROKEN, BROKEN, _FOUND)
    await rig.ask()
    assert rig.clock.slept == pytest.approx([0.05, 0.1])


@virtually
async def test_broken_to_the_end_is_told_as_such() -> None:
    """And that a repetition may succeed."""
    rig = _Rig(BROKEN)
    failure = await rig.failure()
    assert (failure.reason, failure.metadata["attempts"], len(rig.transport.sent)) == (Reason.INTERNAL_SERVICE, "3", 3)
    assert failure.retry_after_seconds is not None


@virtually
async def test_an_unreachable_connect_is_asked_again() -> None:
    """A read may be repeated whatever became of it."""
    rig = _Rig(Failure(Reason.CONNECT_UNREACHABLE), _FOUND)
    await rig.ask()
    assert len(rig.transport.sent) == 2


@virtually
async def test_expired_credentials_are_renewed_once() -> None:
    """And not again, if that did not help."""
    rig = _Rig(EXPIRED, _FOUND)
    await rig.ask()
    assert (rig.transport.renewals, len(rig.transport.sent)) == (1, 2)
    rig = _Rig(EXPIRED)
    failure = await rig.failure()
    assert (failure.reason, failure.retry_after_seconds) == (Reason.SERVICE_CREDENTIALS, None)
    assert (rig.transport.renewals, len(rig.transport.sent)) == (1, 2)


class _NeverRenewed(FakeReads):
    async def renew_credentials(self) -> None:
        """Take longer than anybody waits; the time passes on the clock."""
        await self.clock.elapse(100)
        await asyncio.Event().wait()


@virtually
async def test_a_renewal_does_not_outlast_the_deadline() -> None:
    """The call is told of its credentials in time."""
    clock = VirtualClock()
    transport = _NeverRenewed(clock, script(EXPIRED, _FOUND))
    deadline = clock() + 0.4
    with pytest.raises(Failure) as caught:
        await paced(transport, clock).ask(_ASKED, read_user, Asking("caller", deadline))
    assert (caught.value.reason, len(transport.sent)) == (Reason.SERVICE_CREDENTIALS, 1)


@pytest.mark.parametrize("answer", [DENIED, refused("ResourceNotFoundException", 404), Answer(200, {}, b"{}")])
@virtually
async def test_what_another_attempt_would_not_change_is_final(answer: Answer) -> None:
    """One attempt, and no time to come again."""
    rig = _Rig(answer)
    failure = await rig.failure()
    assert (len(rig.transport.sent), rig.transport.renewals, failure.retry_after_seconds) == (1, 0, None)


@virtually
async def test_attempts_can_be_limited() -> None:
    """A question that is not worth a second one."""
    rig = _Rig(BROKEN)
    assert (await rig.failure(max_attempts=1)).reason is Reason.INTERNAL_SERVICE
    assert len(rig.transport.sent) == 1


@virtually
async def test_a_slow_read_is_not_begun_when_time_is_short() -> None:
    """What reads usually take is learnt."""
    rig = _Rig(_FOUND, takes_seconds=2.0)
    for _ in range(60):
        await rig.ask()
    assert (await rig.failure(seconds=0.5)).reason is Reason.DEADLINE_TOO_SHORT


@virtually
async def test_who_leaves_the_queue_frees_a_place() -> None:
    """The next one waits in its place."""
    rig = _Rig(_FOUND, quota=_TWO)
    await rig.ask()
    leaving, next_one = asyncio.ensure_future(rig.ask()), asyncio.ensure_future(rig.ask())
    await asyncio.sleep(_SPACING / 2)  # not a wait: virtual
    leaving.cancel()
    await next_one
    assert rig.transport.times == pytest.approx([0, _SPACING], abs=1e-6)


@virtually
async def test_the_queue_counts_for_those_who_come_later() -> None:
    """With four ahead the fifth would wait for 2.5 s, and is told so when it comes."""
    rig = _Rig(_FOUND, quota=_TWO)
    await rig.ask()
    waiting = [asyncio.ensure_future(rig.ask(2.55)) for _ in range(4)]
    await asyncio.sleep(0)
    failure = await rig.failure(seconds=2.6)
    assert failure.reason is Reason.OVERLOADED
    assert int(failure.metadata["current"]) == pytest.approx(5 * _SPACING * 1000, abs=2)
    await asyncio.gather(*waiting)
    assert len(rig.transport.sent) == 5


@virtually
async def test_a_caller_with_many_questions_holds_up_no_other_one() -> None:
    """Two hundred of one caller who waits for a minute: another one's are in time, after one round of four at most."""
    rig = _Rig(_FOUND, quota=_TWO)
    await rig.ask()
    flood = [
        asyncio.ensure_future(rig.ask(60.0, describe_user("i", f"ghost-{number}"), caller="flood"))
        for number in range(200)
    ]
    await asyncio.sleep(_SPACING / 2)  # not a wait: virtual
    for _ in range(6):
        began = rig.clock()
        await rig.ask(10.0, caller="quiet")
        assert rig.clock() - began <= 5.1 * _SPACING
    for task in flood:
        task.cancel()
    await asyncio.wait(flood)


@virtually
async def test_a_deadline_that_moves_is_waited_for() -> None:
    """Who began would give up; others have joined who wait longer."""
    rig = _Rig(_FOUND, quota=_TWO)
    await rig.ask()
    asking = Asking("caller", rig.clock() + 1.8)
    reading = asyncio.ensure_future(rig.reads.ask(_ASKED, read_user, asking))
    urgent = [asyncio.ensure_future(rig.ask(seconds, caller="other")) for seconds in (1.3, 1.7)]
    await asyncio.sleep(0)
    asking.deadline += 10.0
    await asyncio.gather(reading, *urgent)


@virtually
async def test_a_429_meanwhile_can_make_it_too_late() -> None:
    """Who waits is told at once, and when to come again."""
    rig = _Rig(_FOUND, refused("ThrottlingException", 429, **{"retry-after": "5"}), _FOUND, quota=_TWO)
    await rig.ask()
    throttled, late = asyncio.ensure_future(rig.failure(2.0)), asyncio.ensure_future(rig.failure(3.0))
    assert (await throttled).reason is Reason.THROTTLED
    failure = await late
    assert failure.reason is Reason.OVERLOADED
    assert rig.clock() == pytest.approx(_SPACING)
    assert failure.retry_after_seconds is not None
    assert failure.retry_after_seconds >= 5
    assert len(rig.transport.sent) == 2


@virtually
async def test_the_log_names_no_identifier(caplog: pytest.LogCaptureFixture) -> None:
    """API, attempt, reason and AWS's request id; nothing of what AWS says or we asked."""
    rig = _Rig(refused("InternalServiceException", 500, **{"x-amzn-requestid": "aws-1"}))
    with caplog.at_level("INFO", logger="monitor_contact_service.read_quota"):
        await rig.failure(max_attempts=1)
    (record,) = caplog.records
    logged = record.__dict__["fields"]
    assert (logged["api"], logged["reason"], logged["aws_request_id"]) == ("DescribeUser", "INTERNAL_SERVICE", "aws-1")
    assert logged["said"] == "HTTP 500 InternalServiceException"
