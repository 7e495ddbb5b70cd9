"""`attempts`: the one layer that retries, with a scripted transport and a clock that passes at once."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from fakes import SESSION, FakeClock, FakeObserver, FakePlace, FakeTransport
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.attempts import Attempts
from monitor_contact_service.core.command import Capability, MonitorCommand, MonitoringSession
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.latency import MedianSeconds
from monitor_contact_service.core.work import Work

_SECONDS = 10.0  # the time that a call has in most tests


def _fail(reason: Reason, *, outcome_unknown: bool = False, retry_after_seconds: float | None = None) -> Failure:
    return Failure(
        reason,
        metadata={"aws_request_id": "aws-2"},
        outcome_unknown=outcome_unknown,
        retry_after_seconds=retry_after_seconds,
    )


def _lost() -> Failure:
    return _fail(Reason.CONNECT_UNREACHABLE, outcome_unknown=True)


def _command(client_token: str = "") -> MonitorCommand:
    return MonitorCommand("i", "c", "u", (Capability.SILENT_MONITOR,), client_token)


@dataclass
class _SlowRenewal(FakeTransport):
    """Renewing takes time, or for ever."""

    renewal_seconds: float = 0.0
    for_ever: bool = False

    async def renew_credentials(self, *, barge: bool = False) -> None:
        """Pass the time."""
        self.barge_renewals += barge
        self.renewals += 1
        self.clock.advance(self.renewal_seconds)
        if self.for_ever:
            await asyncio.Event().wait()


class _Rig:
    """Attempts over a script; `draw` is 0.5 for ever. `place` is that of the last call."""

    def __init__(
        self,
        *script: MonitoringSession | Failure,
        transport: FakeTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.clock = transport.clock if transport else FakeClock()
        self.transport = transport or FakeTransport(self.clock)
        self.transport.script = script
        self.call_seconds = MedianSeconds(0.15)
        self.observer = FakeObserver()
        self.attempts = Attempts(
            transport=self.transport,
            attempt_timeout_seconds=3,
            call_seconds=self.call_seconds,
            clock=self.clock,
            sleep=sleep or self.clock.sleep,
            draw=lambda: 0.5,
            observer=self.observer,
        )

    async def monitor(
        self,
        client_token: str = "",
        seconds: float = _SECONDS,
        place: FakePlace | None = None,
        *,
        repeated: bool = False,
    ) -> MonitoringSession:
        self.place = place or self.new_place(seconds)
        upstream_token = client_token and f"derived from {client_token}"
        return await self.attempts.monitor(_command(client_token), upstream_token, self.place, repeated=repeated)

    async def refused(
        self,
        client_token: str = "",
        seconds: float = _SECONDS,
        place: FakePlace | None = None,
        *,
        repeated: bool = False,
    ) -> Failure:
        with pytest.raises(Failure) as raised:
            await self.monitor(client_token, seconds, place, repeated=repeated)
        return raised.value

    def new_place(self, seconds: float = _SECONDS) -> FakePlace:
        return FakePlace(Work(self.clock() + seconds))


def _token(body: bytes) -> str:
    return str(json.loads(body)["ClientToken"])


async def test_a_success_is_returned_after_one_attempt() -> None:
    """Nothing is repeated or waited for when Connect answers."""
    rig = _Rig()
    assert await rig.monitor() == SESSION
    assert len(rig.transport.sent) == 1
    assert rig.clock.slept == []


@pytest.mark.parametrize("client_token", ["", "the caller's"])
async def test_every_attempt_is_the_same_request(client_token: str) -> None:
    """One body, one ClientToken and one invocation id for all attempts, numbered from 1."""
    rig = _Rig(_lost(), _fail(Reason.THROTTLED), _fail(Reason.INTERNAL_SERVICE))
    await rig.monitor(client_token)
    assert [sent.attempt for sent in rig.transport.sent] == [1, 2, 3, 4]
    assert len({(sent.body, sent.invocation_id) for sent in rig.transport.sent}) == 1


async def test_the_token_that_was_derived_is_sent() -> None:
    """Connect gets the one that it is told, not the caller's own, which other callers may have chosen too."""
    rig = _Rig()
    await rig.monitor("the caller's")
    assert _token(rig.transport.sent[0].body) == "derived from the caller's"


async def test_a_missing_token_is_made_once_a_call() -> None:
    """Two calls without a token are two actions, each with a UUID of its own."""
    rig = _Rig()
    await rig.monitor()
    await rig.monitor()
    tokens = [_token(sent.body) for sent in rig.transport.sent]
    assert len({UUID(token) for token in tokens}) == 2


@pytest.mark.parametrize(
    "reason",
    [
        reason
        for reason in Reason
        if reason
        not in {
            Reason.INTERNAL_SERVICE,
            Reason.CONNECT_UNREACHABLE,
            Reason.THROTTLED,
            Reason.SERVICE_CREDENTIALS,
        }
    ],
)
async def test_a_decision_of_connect_is_not_asked_for_twice(reason: Reason) -> None:
    """A final answer ends the call with its own reason, without a time to come again."""
    rig = _Rig(_fail(reason, retry_after_seconds=1.0))
    failure = await rig.refused("token")
    assert failure.reason is reason
    assert failure.retry_after_seconds is None
    assert len(rig.transport.sent) == 1


async def test_six_attempts_are_made_and_no_more() -> None:
    """The last failure is the answer; its metadata says how often it was tried."""
    rig = _Rig(*[_fail(Reason.INTERNAL_SERVICE) for _ in range(10)])
    failure = await rig.refused("token", seconds=60)
    assert failure.reason is Reason.INTERNAL_SERVICE
    assert failure.metadata == {"aws_request_id": "aws-2", "attempts": "6"}
    assert len(rig.transport.sent) == 6


async def test_transient_failures_wait_with_jitter() -> None:
    """Half of 0.1, 0.2, 0.4 s with a draw of a half."""
    rig = _Rig(_lost(), _lost(), _lost())
    await rig.monitor()
    assert rig.clock.slept == pytest.approx([0.05, 0.1, 0.2])


async def test_throttled_calls_wait_for_nothing_but_their_turn() -> None:
    """The pacer holds everybody back after a 429: the call reports it and asks for its next turn at once."""
    rig = _Rig(*[_fail(Reason.THROTTLED, retry_after_seconds=2) for _ in range(3)])
    await rig.monitor()
    assert rig.clock.slept == []
    assert rig.place.turns == 4
    assert [report and report.retry_after_seconds for report in rig.place.reports] == [2, 2, 2, None]


@pytest.mark.parametrize(("hint", "waited"), [(0.01, 0.05), (2.0, 2.0), (5.5, 5.5), (9.0, 5.5)])
async def test_retry_after_is_honoured_within_bounds(hint: float, waited: float) -> None:
    """Never earlier than Connect asks for, but not longer than 5.5 s."""
    rig = _Rig(_fail(Reason.INTERNAL_SERVICE, retry_after_seconds=hint))
    await rig.monitor()
    assert rig.clock.slept == pytest.approx([waited])


async def test_a_wait_that_does_not_fit_ends_the_call_at_once() -> None:
    """No time is slept away when the next attempt could not finish: the caller learns it now, with Connect's hint."""
    rig = _Rig(_fail(Reason.INTERNAL_SERVICE, retry_after_seconds=5.0))
    failure = await rig.refused(seconds=5.2)
    assert rig.clock.slept == []
    assert rig.place.turns == 1
    assert failure.metadata["attempts"] == "1"
    assert failure.retry_after_seconds == pytest.approx(5.0 * 1.1)


async def test_without_a_further_turn_the_failure_at_hand_is_the_answer() -> None:
    """What Connect said of the attempt tells the caller more than that there was no second one."""
    rig = _Rig(_fail(Reason.THROTTLED))
    place = rig.new_place()
    place.refusal = _fail(Reason.OVERLOADED)
    failure = await rig.refused("token", place=place)
    assert failure.reason is Reason.THROTTLED
    assert failure.metadata["attempts"] == "1"
    assert len(rig.transport.sent) == 1


async def test_every_outcome_is_reported_to_the_place() -> None:
    """Pace and probes follow each attempt, whatever it is worth: failures in their order, then the success."""
    script = (_lost(), _fail(Reason.THROTTLED), _fail(Reason.SERVICE_CREDENTIALS))
    rig = _Rig(*script)
    await rig.monitor()
    assert rig.place.reports == [*script, None]
    final = _fail(Reason.INVALID_REQUEST)
    rig = _Rig(final)
    await rig.refused()
    assert rig.place.reports == [final]


async def test_work_is_marked_as_sending_during_an_attempt_only() -> None:
    """Who wants to cancel it can tell an attempt on its way from a wait; after the first one it counts as sent."""
    during = []

    class Watched(FakeTransport):
        async def monitor_contact(
            self,
            body: bytes,
            *,
            timeout_seconds: float,
            attempt: int,
            max_attempts: int,
            invocation_id: str,
            barge: bool,
        ) -> MonitoringSession:
            during.append(place.work.sending)
            return await super().monitor_contact(
                body,
                timeout_seconds=timeout_seconds,
                attempt=attempt,
                max_attempts=max_attempts,
                invocation_id=invocation_id,
                barge=barge,
            )

    between = []

    async def sleep(_: float) -> None:
        between.append(place.work.sending)

    rig = _Rig(_lost(), transport=Watched(FakeClock()), sleep=sleep)
    place = rig.new_place()
    assert not place.work.sent
    await rig.monitor(place=place)
    assert (during, between) == ([True, True], [False])
    assert not place.work.sending
    assert place.work.sent


@pytest.mark.parametrize("reason", [Reason.INTERNAL_SERVICE, Reason.THROTTLED, Reason.SERVICE_CREDENTIALS])
async def test_abandoned_work_is_not_tried_again(reason: Reason) -> None:
    """Everybody left while the attempt was on its way: its outcome is reported, and it was the last."""
    rig = _Rig(_fail(reason))
    place = rig.new_place()
    place.work.abandoned = True
    assert (await rig.refused("token", place=place)).reason is reason
    assert len(rig.transport.sent) == place.turns == 1
    assert rig.transport.renewals == 0
    assert len(place.reports) == 1


async def test_probes_of_an_outage_are_not_counted_as_attempts() -> None:
    """A call whose turns are those of probes goes on past six attempts, without waits of its own, and succeeds."""
    rig = _Rig(*[_lost() for _ in range(9)])
    place = rig.new_place()
    place.outage_after = 5
    assert await rig.monitor(place=place) == SESSION
    assert len(rig.transport.sent) == 10
    assert [sent.attempt for sent in rig.transport.sent] == list(range(1, 11))
    assert rig.clock.slept == pytest.approx([0.05, 0.1, 0.2, 0.4])  # before the outage


async def test_probes_of_an_outage_do_not_use_up_the_budget() -> None:
    """Fifty failed probes later, a call may still repeat as often as the budget was before."""
    rig = _Rig(*[_lost() for _ in range(1 + 50 + 100)])
    place = rig.new_place(seconds=1000)
    place.outage_after = 1
    place.work.deadline = rig.clock() + 51 * 0.15 + 0.1  # enough for one attempt and fifty probes
    assert (await rig.refused(place=place)).metadata["attempts"] == "51"
    made = []
    for _ in range(5):
        before = len(rig.transport.sent)
        await rig.refused(seconds=60)
        made.append(len(rig.transport.sent) - before)
    assert made == [6, 6, 6, 6, 1]


async def test_a_place_that_knows_better_says_when_to_come_again() -> None:
    """The queue, the hold or the next probe may take longer than Connect's hint: the longest counts."""
    rig = _Rig(*[_fail(Reason.THROTTLED, retry_after_seconds=2) for _ in range(6)])
    place = rig.new_place()
    place.come_again = 3
    failure = await rig.refused("token", place=place)
    assert failure.retry_after_seconds == pytest.approx(3.3)


@pytest.mark.parametrize(("seconds", "expected"), [(10.0, 3.0), (3.0, 3.0), (1.5, 1.5), (0.2, 0.2)])
async def test_an_attempt_gets_no_more_than_the_time_left(seconds: float, expected: float) -> None:
    """The time-out of an attempt is the setting or what is left of the deadline, whichever is less."""
    rig = _Rig()
    await rig.monitor(seconds=seconds)
    assert rig.transport.sent[0].timeout_seconds == pytest.approx(expected)


async def test_the_last_attempt_gets_the_rest_of_the_time() -> None:
    """After a hang of 3 s and a wait, a call of 5 s has less than 2 s for its second attempt."""
    rig = _Rig(_lost(), transport=FakeTransport(FakeClock(), takes_seconds=3))
    await rig.monitor(seconds=5)
    assert [sent.timeout_seconds for sent in rig.transport.sent] == pytest.approx([3.0, 5 - 3 - 0.05])


_scripted_failures = st.builds(
    _fail,
    st.sampled_from(
        [Reason.INTERNAL_SERVICE, Reason.CONNECT_UNREACHABLE, Reason.THROTTLED, Reason.SERVICE_CREDENTIALS]
    ),
    outcome_unknown=st.booleans(),
    retry_after_seconds=st.none() | st.floats(min_value=0, max_value=100),
)


@settings(deadline=None)
@given(
    script=st.lists(_scripted_failures, max_size=10),
    seconds=st.floats(min_value=0.1, max_value=60),
    takes_seconds=st.floats(min_value=0.001, max_value=5),
    renewal_seconds=st.floats(min_value=0, max_value=5),
)
async def test_no_attempt_starts_or_ends_after_the_deadline(
    script: list[Failure], seconds: float, takes_seconds: float, renewal_seconds: float
) -> None:
    """Whatever fails and however long things take: every attempt lies within the deadline, and so does every wait."""
    transport = _SlowRenewal(FakeClock(), takes_seconds=takes_seconds, renewal_seconds=renewal_seconds)
    rig = _Rig(*script, transport=transport)
    deadline = rig.clock() + seconds
    try:
        await rig.monitor(seconds=seconds)
    except Failure as failure:
        assert failure.metadata["attempts"] == str(len(transport.sent))  # noqa: PT017 - both ends are right
    assert 1 <= len(transport.sent) <= 6
    assert transport.renewals <= 1
    for sent in transport.sent:
        assert sent.at < deadline
        assert sent.at + sent.timeout_seconds <= deadline + 1e-9


async def test_credentials_are_renewed_once_and_tried_again_at_once() -> None:
    """After fresh credentials the call succeeds without its caller noticing."""
    rig = _Rig(_fail(Reason.SERVICE_CREDENTIALS))
    assert await rig.monitor() == SESSION
    assert rig.transport.renewals == 1
    assert rig.clock.slept == []
    assert rig.place.turns == 2


async def test_credentials_that_still_do_not_work_end_the_call() -> None:
    """One renewal a call; the operators have to act, so no time to come again is named."""
    rig = _Rig(*[_fail(Reason.SERVICE_CREDENTIALS) for _ in range(3)])
    failure = await rig.refused("token")
    assert failure.reason is Reason.SERVICE_CREDENTIALS
    assert failure.retry_after_seconds is None
    assert (rig.transport.renewals, len(rig.transport.sent)) == (1, 2)


async def test_a_renewal_that_takes_the_rest_of_the_time_ends_the_call() -> None:
    """No attempt is sent after the deadline only because fetching credentials took that long."""
    transport = _SlowRenewal(FakeClock(), renewal_seconds=9.8)
    failure = await _Rig(_fail(Reason.SERVICE_CREDENTIALS), transport=transport).refused()
    assert failure.reason is Reason.SERVICE_CREDENTIALS
    assert len(transport.sent) == 1


async def test_a_renewal_that_hangs_does_not_outlast_the_deadline() -> None:
    """A credential provider that never answers costs the call its time, not more: the typed answer still comes."""
    transport = _SlowRenewal(FakeClock(), for_ever=True, takes_seconds=0.01)
    failure = await _Rig(_fail(Reason.SERVICE_CREDENTIALS), transport=transport).refused(seconds=0.2)
    assert failure.reason is Reason.SERVICE_CREDENTIALS
    assert len(transport.sent) == 1


async def test_the_budget_bounds_retries_over_all_calls() -> None:
    """Twenty retries of failed calls without a success in between; then calls fail at their first failure."""
    rig = _Rig(*[_lost() for _ in range(100)])
    made = []
    for _ in range(6):
        before = len(rig.transport.sent)
        await rig.refused(seconds=60)
        made.append(len(rig.transport.sent) - before)
    assert made == [6, 6, 6, 6, 1, 1]


async def test_throttling_does_not_use_up_the_budget() -> None:
    """Refused for rate a hundred times, the next broken connection is still repeated."""
    rig = _Rig(*[_fail(Reason.THROTTLED) for _ in range(96)], _lost())
    for _ in range(16):
        await rig.refused(seconds=100)
    assert await rig.monitor() == SESSION
    assert rig.transport.sent[-1].attempt == 2


async def test_successes_earn_retries() -> None:
    """With the budget used up, two successes pay for one retry."""
    failures = [_lost() for _ in range(26)]
    rig = _Rig(*failures, SESSION, SESSION, _lost(), SESSION, _lost())
    for _ in range(6):
        await rig.refused(seconds=60)
    for _ in range(3):
        assert await rig.monitor() == SESSION
    assert (await rig.refused()).reason is Reason.CONNECT_UNREACHABLE


@pytest.mark.parametrize("reason", [Reason.SERVICE_QUOTA_EXCEEDED, Reason.INVALID_REQUEST, Reason.ACCESS_DENIED])
async def test_after_an_ambiguous_attempt_no_refusal_proves_anything(reason: Reason) -> None:
    """402 may be the success of the attempt whose answer was lost."""
    assert (await _Rig(_lost(), _fail(reason)).refused()).outcome_unknown
    assert not (await _Rig(_fail(Reason.THROTTLED), _fail(reason)).refused()).outcome_unknown


async def test_a_conflict_with_an_own_attempt_is_waited_for() -> None:
    """409 after a lost answer may be that attempt still at work; once it is done, the same token gets its session."""
    rig = _Rig(_lost(), _fail(Reason.IDEMPOTENCY_CONFLICT), _fail(Reason.IDEMPOTENCY_CONFLICT), SESSION)
    assert await rig.monitor() == SESSION
    assert len({sent.body for sent in rig.transport.sent}) == 1
    assert rig.clock.slept == [0.05, 0.4, 0.8]


async def test_a_conflict_with_the_callers_own_repetition_is_waited_for() -> None:
    """Its first attempt may be at work on a replica that is gone."""
    rig = _Rig(_fail(Reason.IDEMPOTENCY_CONFLICT), SESSION)
    assert await rig.monitor("token", repeated=True) == SESSION


async def test_a_conflict_with_anybody_elses_call_is_final() -> None:
    """Two calls with one token at two replicas, or other fields: the caller has to sort that out."""
    rig = _Rig(_fail(Reason.IDEMPOTENCY_CONFLICT), SESSION)
    failure = await rig.refused("token")
    assert (failure.reason, len(rig.transport.sent)) == (Reason.IDEMPOTENCY_CONFLICT, 1)


async def test_a_conflict_that_stays_is_the_answer() -> None:
    """After six attempts, with what is known: the outcome of the first is not."""
    rig = _Rig(*[_fail(Reason.IDEMPOTENCY_CONFLICT)] * 6)
    failure = await rig.refused("token", seconds=60, repeated=True)
    assert (failure.reason, failure.metadata["attempts"]) == (Reason.IDEMPOTENCY_CONFLICT, "6")
    assert failure.retry_after_seconds is None


@pytest.mark.parametrize(
    ("client_token", "last", "earlier", "expected"),
    [
        pytest.param("token", _fail(Reason.THROTTLED), None, 0.55, id="throttled"),
        pytest.param("", _fail(Reason.THROTTLED), None, 0.55, id="throttled without a token: nothing started"),
        pytest.param("token", _fail(Reason.THROTTLED, retry_after_seconds=2), None, 2.2, id="with Connect's hint"),
        pytest.param("token", _fail(Reason.THROTTLED, retry_after_seconds=1e9), None, 66, id="a hint of years"),
        pytest.param("token", _lost(), None, 0.55, id="answer lost, with a token"),
        pytest.param("", _lost(), None, None, id="answer lost, without a token: could start a second session"),
        pytest.param("", _fail(Reason.CONNECT_UNREACHABLE), None, 0.55, id="never sent, without a token"),
        pytest.param("", _fail(Reason.THROTTLED), _lost(), None, id="throttled after a lost answer, without a token"),
        pytest.param("token", _fail(Reason.THROTTLED), _lost(), 0.55, id="throttled after a lost answer, with a token"),
        pytest.param("token", _fail(Reason.SERVICE_CREDENTIALS), None, None, id="credentials: operators have to act"),
    ],
)
async def test_a_caller_is_told_when_to_come_again_only_if_that_is_safe(
    client_token: str, last: Failure, earlier: Failure | None, expected: float | None
) -> None:
    """At least half a second or Connect's hint, 10 % more with a draw of a half; nothing if it could act twice."""
    script = [*([earlier] if earlier else []), *[last] * 10]
    failure = await _Rig(*script).refused(client_token, seconds=60)
    assert failure.reason is last.reason
    last.metadata.clear()
    assert failure.retry_after_seconds == (None if expected is None else pytest.approx(expected))


async def test_the_usual_time_is_learned_from_successes() -> None:
    """Ten answers in 50 ms move the estimate down, so later decisions know better."""
    rig = _Rig(transport=FakeTransport(FakeClock(), takes_seconds=0.05))
    for _ in range(10):
        await rig.monitor()
    assert rig.call_seconds.seconds < 0.1


async def test_a_call_cancelled_during_a_wait_sends_no_further_attempt() -> None:
    """The caller left while the service waited: nothing more is sent."""
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    rig = _Rig(_fail(Reason.INTERNAL_SERVICE), sleep=sleep)
    call = asyncio.ensure_future(rig.monitor())
    await waiting.wait()
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert len(rig.transport.sent) == 1


async def test_a_call_cancelled_while_it_waits_for_its_turn_sends_no_further_attempt() -> None:
    """The same for the wait in the queue."""
    waiting = asyncio.Event()

    class NoTurn(FakePlace):
        async def again(self) -> None:
            waiting.set()
            await asyncio.Event().wait()

    rig = _Rig(_fail(Reason.THROTTLED))
    call = asyncio.ensure_future(rig.monitor(place=NoTurn(Work(rig.clock() + _SECONDS))))
    await waiting.wait()
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert len(rig.transport.sent) == 1


@dataclass
class _Hanging(FakeTransport):
    """Never answers; `started` is set when it is asked."""

    started: asyncio.Event | None = None

    async def monitor_contact(
        self, body: bytes, *, timeout_seconds: float, attempt: int, max_attempts: int, invocation_id: str, barge: bool
    ) -> MonitoringSession:
        """Hang."""
        assert self.started
        self.started.set()
        await asyncio.Event().wait()
        return await super().monitor_contact(
            body,
            timeout_seconds=timeout_seconds,
            attempt=attempt,
            max_attempts=max_attempts,
            invocation_id=invocation_id,
            barge=barge,
        )


async def test_a_call_cancelled_during_an_attempt_sends_no_further_attempt() -> None:
    """Cancellation is no failure to be repeated: it ends the attempt and the call."""
    transport = _Hanging(FakeClock(), started=(started := asyncio.Event()))
    rig = _Rig(transport=transport)
    call = asyncio.ensure_future(rig.monitor())
    await started.wait()
    sending = rig.place.work.sending
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert (sending, rig.place.work.sending) == (True, False)
    assert transport.sent == []


async def test_a_bug_of_the_transport_is_not_repeated() -> None:
    """Only a Failure is judged; any other exception goes up as it is."""

    class Broken(FakeTransport):
        async def monitor_contact(
            self,
            body: bytes,
            *,
            timeout_seconds: float,
            attempt: int,
            max_attempts: int,
            invocation_id: str,
            barge: bool,
        ) -> MonitoringSession:
            await super().monitor_contact(
                body,
                timeout_seconds=timeout_seconds,
                attempt=attempt,
                max_attempts=max_attempts,
                invocation_id=invocation_id,
                barge=barge,
            )
            raise KeyError("bug")

    transport = Broken(FakeClock())
    with pytest.raises(KeyError):
        await _Rig(transport=transport).monitor()
    assert len(transport.sent) == 1


@pytest.mark.parametrize(
    ("reason", "said", "level"),
    [
        (Reason.INVALID_REQUEST, "HTTP 400", "INFO"),
        (Reason.THROTTLED, "HTTP 429", "WARNING"),
        (Reason.CONNECT_UNREACHABLE, "refused", "WARNING"),
        (Reason.ACCESS_DENIED, "User: arn is not authorized to perform: connect:MonitorContact", "ERROR"),
    ],
)
async def test_a_failed_attempt_is_logged_as_loud_as_it_matters(
    reason: Reason, said: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal is everyday, a fault a warning, and a role of ours that may not monitor an error."""
    caplog.set_level("INFO", "monitor_contact_service")
    failure = _fail(reason)
    failure.log_text = said
    await _Rig(failure, *[_fail(reason)] * 9).refused(seconds=60)
    assert caplog.records[0].levelname == level


async def test_no_identifier_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """AWS repeats the ids of the request in its texts; they belong to the audit record alone."""
    caplog.set_level("INFO", "monitor_contact_service")
    failure = _fail(Reason.ACCESS_DENIED)
    refused = "User: USER-1 is not authorized to perform: connect:MonitorContact on INSTANCE-1/CONTACT-1"
    failure.log_text = f"HTTP 403 AccessDeniedException: {refused}"
    rig = _Rig(failure)
    command = MonitorCommand("INSTANCE-1", "CONTACT-1", "USER-1", (Capability.SILENT_MONITOR,), "")
    with pytest.raises(Failure):
        await rig.attempts.monitor(command, "", rig.new_place())
    said = str([vars(record) for record in caplog.records])
    assert "HTTP 403 AccessDeniedException is not authorized to perform: connect:MonitorContact'" in said
    assert not any(identifier in said for identifier in ("INSTANCE-1", "CONTACT-1", "USER-1"))


async def test_calls_with_barge_are_sent_and_renewed_as_such() -> None:
    """They may have credentials of their own; calls that only listen never get those."""
    expired = _fail(Reason.SERVICE_CREDENTIALS)
    for capabilities in ((Capability.SILENT_MONITOR,), (Capability.SILENT_MONITOR, Capability.BARGE)):
        rig = _Rig(expired.copy())
        barge = Capability.BARGE in capabilities
        command = replace(_command(), capabilities=capabilities)
        await rig.attempts.monitor(command, "token", rig.new_place())
        assert [sent.barge for sent in rig.transport.sent] == [barge, barge]
        assert (rig.transport.renewals, rig.transport.barge_renewals) == (1, int(barge))


async def test_each_further_attempt_is_told_with_the_failure_that_it_follows() -> None:
    """A first attempt is none, nor is the failure after which it is given up."""
    rig = _Rig(_fail(Reason.INTERNAL_SERVICE), _fail(Reason.INVALID_REQUEST))
    await rig.refused()
    assert rig.observer.retries == [Reason.INTERNAL_SERVICE]
