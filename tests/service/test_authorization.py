"""`authorization`: what policies are asked about a call, when twice, and what is refused by which name."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from monitor_contact_service.access import OPEN_ACCESS, Access, CallerEntry, InstanceEntry
from monitor_contact_service.authorization import (
    AssumedSupervisors,
    Authorization,
    Case,
    SupervisorCheck,
    TolerantSupervisors,
    assumed,
    question_of,
)
from monitor_contact_service.core.asking import Asking
from monitor_contact_service.core.caller import ANONYMOUS, Authentication, Caller, EndUser, Principal
from monitor_contact_service.core.command import Capability, MonitorCommand
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.permissions import SupervisorFacts
from monitor_contact_service.core.policy import Decision, Policies, compile_policies
from monitor_contact_service.core.question import Question
from monitor_contact_service.policy_files import demo_policies, foundation

_DESK = Principal("spiffe://corp.example/desk", Authentication.SPIFFE)
_COMMAND = MonitorCommand("instance-secret", "contact-secret", "user-secret", (Capability.SILENT_MONITOR,), "")
_BARGE = replace(_COMMAND, capabilities=(Capability.SILENT_MONITOR, Capability.BARGE))
_ACCESS = Access(
    trust_domains=("corp.example",),
    callers={_DESK.id: CallerEntry(roles=("demo",), tenant="corp")},
    instances={"instance-secret": InstanceEntry(tenant="corp")},
)
_GOOD = SupervisorFacts("user-secret", listen_in=True, barge_in=True, restricted=False, profiles=("p",), checked_at=9.0)
_NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class _CountedPolicies(Policies):
    """Real policies that count how often they are asked."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self.sha256 = policies.sha256
        self.asked: list[Question] = []

    def decide(self, question: Question, capabilities: Sequence[Capability]) -> Decision:  # type: ignore[override]
        """Ask them."""
        self.asked.append(question)
        return self._policies.decide(question, capabilities)


class _Rig:
    """An authorization by the demo policies at noon, UTC."""

    def __init__(self, *, check: SupervisorCheck = "enforce", policies: Policies | None = None) -> None:
        self.now = _NOON
        self.policies = _CountedPolicies(policies or demo_policies())
        self.authorization = Authorization(
            _ACCESS,
            self.policies,
            timezone=ZoneInfo("UTC"),
            supervisor_check=check,
            utc_now=lambda: self.now,
        )

    def case(self, command: MonitorCommand = _COMMAND, principal: Principal = _DESK) -> Case:
        """Return a case of that caller."""
        return self.authorization.case(Caller(principal), command)


def _policies(text: str) -> Policies:
    return compile_policies(text, "policy.cedar", foundation())


def test_a_permitted_call_passes_both_times_and_is_asked_about_once() -> None:
    """Facts as good as they were assumed make the same question, which has its answer already."""
    rig = _Rig()
    case = rig.case(_BARGE)

    case.permit_caller()
    case.permit(_GOOD)

    assert case.decision == Decision(allowed=True, policies=("demo",), sha256=rig.policies.sha256)
    assert case.tenant == "corp"
    assert len(rig.policies.asked) == 1


@pytest.mark.parametrize("command", [_COMMAND, _BARGE])
@pytest.mark.parametrize("fact", ["listen_in", "barge_in", "restricted"])
def test_other_facts_are_asked_about(command: MonitorCommand, fact: str) -> None:
    """A missing permission denies what needs it, and is asked about even where it does not: policies may care."""
    rig = _Rig()
    case = rig.case(command)
    case.permit_caller()
    other: dict[str, Any] = {fact: not getattr(_GOOD, fact)}
    facts = replace(_GOOD, **other)

    if fact == "barge_in" and command is _COMMAND:
        case.permit(facts)
    else:
        with pytest.raises(Failure) as raised:
            case.permit(facts)
        assert raised.value.reason is Reason.SUPERVISOR_NOT_PERMITTED
        assert case.decision.policies[0].startswith("invariant:")
    assert case.decision.allowed is (fact == "barge_in" and command is _COMMAND)
    assert len(rig.policies.asked) == 2


def test_policies_may_ask_for_more_of_a_supervisor_than_listening_needs() -> None:
    """A policy that wants barge rights for listening is asked with the real facts, not with assumed ones."""
    rig = _Rig(policies=_policies('@id("a") permit(principal, action, resource) when { context.supervisor.barge_in };'))
    case = rig.case()
    case.permit_caller()
    with pytest.raises(Failure):
        case.permit(replace(_GOOD, barge_in=False))


def test_a_caller_without_permit_is_refused_before_any_fact() -> None:
    """Default deny: no policy decided it, and the answer holds nothing of the call."""
    rig = _Rig()
    case = rig.case(principal=Principal("spiffe://corp.example/stranger", Authentication.SPIFFE))

    with pytest.raises(Failure) as raised:
        case.permit_caller()

    assert raised.value.reason is Reason.CALLER_NOT_PERMITTED
    assert (raised.value.metadata, raised.value.log_text) == ({}, "")
    assert not case.decision.allowed
    assert case.decision.sha256 == rig.policies.sha256


def test_nothing_is_allowed_before_it_was_decided() -> None:
    """A case that nobody decided is a denied one, also if only the supervisor is asked about."""
    case = _Rig().case(principal=Principal("spiffe://corp.example/stranger", Authentication.SPIFFE))
    assert not case.decision.allowed
    with pytest.raises(Failure):
        case.permit(_GOOD)
    assert not case.decision.allowed


def test_facts_of_somebody_else_are_not_believed_to_be_the_supervisors() -> None:
    """The policies judge the user that Connect would be told, whatever the facts are called."""
    rig = _Rig()
    rig.case().permit(replace(_GOOD, user_id="another", barge_in=False))
    assert rig.policies.asked[-1].supervisor == replace(assumed("user-secret"), barge_in=False)


def test_warn_lets_through_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """The decision is then the one of the assumed facts; the log has the rule that would have denied."""
    case = _Rig(check="warn").case()
    case.permit_caller()
    case.permit(replace(_GOOD, listen_in=False))

    assert case.decision.policies == ("demo",)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.message == "supervisor not permitted, but let through"
    assert record.__dict__["fields"] == {"principal": _DESK.id, "policies": ("invariant:listen-in",)}


def test_warn_does_not_let_callers_through() -> None:
    """It is about the supervisor's facts only."""
    case = _Rig(check="warn").case(principal=Principal("spiffe://corp.example/stranger", Authentication.SPIFFE))
    with pytest.raises(Failure):
        case.permit(_GOOD)


async def test_off_believes_no_facts() -> None:
    """Without the check nobody is asked, and what is passed all the same does not matter."""
    rig = _Rig(check="off")
    case = rig.case(_BARGE)
    case.permit_caller()
    case.permit(replace(_GOOD, listen_in=False))

    assert case.decision.allowed
    assert len(rig.policies.asked) == 1
    assert await AssumedSupervisors().facts(_COMMAND, Asking("caller", 0.0)) == assumed("user-secret")


class _Supervisors:
    """Reads of Connect that end as they are told to."""

    def __init__(self, end: SupervisorFacts | Failure) -> None:
        self._end = end

    async def facts(self, command: MonitorCommand, asking: Asking) -> SupervisorFacts:
        """End so."""
        assert (command, asking) == (_COMMAND, Asking("caller", 7.0))
        if isinstance(self._end, Failure):
            raise self._end
        return self._end


async def test_where_the_check_only_warns_a_failed_read_stops_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """The supervisor may do everything then, and the log says why; facts that were read are passed on."""
    bad = replace(_GOOD, listen_in=False)
    assert await TolerantSupervisors(_Supervisors(bad)).facts(_COMMAND, Asking("caller", 7.0)) == bad
    assert not caplog.records

    failing = TolerantSupervisors(_Supervisors(Failure(Reason.THROTTLED)))
    assert await failing.facts(_COMMAND, Asking("caller", 7.0)) == assumed("user-secret")
    assert caplog.records[-1].__dict__["fields"] == {"reason": Reason.THROTTLED}


def test_one_call_has_one_minute_and_one_version() -> None:
    """What changes between the two decisions of a call counts for the next one."""
    text = '@id("a") permit(principal, action, resource) when { context.minute_of_day == 720 };'
    rig = _Rig(policies=_policies(text))
    case = rig.case()
    case.permit_caller()

    rig.now = _NOON.replace(minute=1)
    rig.authorization.change(policies=_policies(""))
    case.permit(replace(_GOOD, barge_in=False))
    assert case.decision.sha256 == rig.policies.sha256
    with pytest.raises(Failure):
        rig.case().permit_caller()


def test_a_change_of_one_keeps_the_other() -> None:
    """Roles and policies change apart, and what is not given stays."""
    rig = _Rig()
    rig.authorization.change(access=OPEN_ACCESS)
    rig.authorization.change()
    with pytest.raises(Failure):
        rig.case().permit_caller()
    rig.authorization.case(Caller(ANONYMOUS), _COMMAND).permit_caller()

    rig.authorization.change(policies=_policies(""))
    with pytest.raises(Failure):
        rig.authorization.case(Caller(ANONYMOUS), _COMMAND).permit_caller()


@pytest.mark.parametrize(
    ("zone", "instant", "minute", "weekday"),
    [
        ("UTC", datetime(2026, 11, 25, 0, 0, tzinfo=UTC), 0, 3),
        ("UTC", datetime(2026, 11, 29, 23, 59, 59, 999_999, tzinfo=UTC), 1439, 7),
        ("Europe/Berlin", datetime(2026, 11, 29, 23, 0, tzinfo=UTC), 0, 1),
        ("Europe/Berlin", datetime(2026, 7, 1, 6, 0, tzinfo=UTC), 480, 3),
        ("America/New_York", datetime(2026, 11, 25, 4, 59, tzinfo=UTC), 1439, 2),
        ("Asia/Kathmandu", datetime(2026, 11, 25, 18, 15, tzinfo=UTC), 0, 4),
        ("Europe/Berlin", datetime(2026, 3, 29, 1, 0, tzinfo=UTC), 180, 7),  # 02:00 does not exist that day
        ("Europe/Berlin", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), 150, 7),  # 02:30 for the first time
        ("Europe/Berlin", datetime(2026, 10, 25, 1, 30, tzinfo=UTC), 150, 7),  # and for the second
    ],
)
def test_policies_see_the_time_of_their_zone(zone: str, instant: datetime, minute: int, weekday: int) -> None:
    """Minute and weekday are those of the configured zone, over midnight and the changes of the clock."""
    policies = _CountedPolicies(demo_policies())
    authorization = Authorization(
        _ACCESS, policies, timezone=ZoneInfo(zone), supervisor_check="enforce", utc_now=lambda: instant
    )
    authorization.case(Caller(_DESK), _COMMAND).permit_caller()

    assert (policies.asked[0].minute_of_day, policies.asked[0].weekday) == (minute, weekday)


def test_a_question_is_made_of_caller_access_and_command() -> None:
    """Each value comes from where it belongs."""
    person = EndUser("https://login", "subject", "user-secret")
    caller = Caller(_DESK, person, ticket="QA-1", reason="training")

    assert question_of(_ACCESS, caller, _COMMAND, _NOON) == Question(
        principal_id=_DESK.id,
        roles=("demo",),
        tenant="corp",
        instance_id="instance-secret",
        instance_tenant="corp",
        contact_id="contact-secret",
        subject_verified=True,
        supervisor=assumed("user-secret"),
        supervisor_tenant="corp",
        acting_for="user-secret",
        acts_for_others=False,
        ticket="QA-1",
        reason="training",
        minute_of_day=720,
        weekday=3,
    )


def test_what_a_caller_does_not_say_is_absent() -> None:
    """No person, ticket or reason are no values, so that `has` is false."""
    question = question_of(_ACCESS, Caller(_DESK), _COMMAND, _NOON)
    assert (question.acting_for, question.ticket, question.reason) == (None, None, None)


@pytest.mark.parametrize(
    ("connect_user_id", "others", "allowed"),
    [("user-secret", False, True), ("another", False, False), ("", False, False), ("another", True, True)],
)
def test_a_caller_acts_for_the_person_whose_token_it_shows(connect_user_id: str, others: bool, allowed: bool) -> None:  # noqa: FBT001 - a table's columns
    """For nobody else, also not with a token that names no Connect user, unless the access file lets it."""
    entry = CallerEntry(roles=("demo",), tenant="corp", acts_for_others=others)
    access = _ACCESS.model_copy(update={"callers": {_DESK.id: entry}})
    rig = _Rig()
    rig.authorization.change(access=access)
    case = rig.authorization.case(Caller(_DESK, EndUser("i", "s", connect_user_id)), _COMMAND)

    if allowed:
        case.permit_caller()
    else:
        with pytest.raises(Failure):
            case.permit_caller()
        assert case.decision.policies == ("invariant:acting-for",)


def test_another_tenants_instance_is_refused() -> None:
    """As is one that belongs to none."""
    rig = _Rig()
    for instance_id in ("INSTANCE-SECRET", "arn:aws:connect:::instance/instance-secret", "unknown"):
        case = rig.case(replace(_COMMAND, instance_id=instance_id))
        with pytest.raises(Failure):
            case.permit_caller()
        assert (case.tenant, case.decision.policies) == ("", ("invariant:same-tenant",))


def test_anonymous_callers_need_to_be_named() -> None:
    """Without a file they are; a file that does not name them admits none, whatever its policies say."""
    assert question_of(OPEN_ACCESS, Caller(ANONYMOUS), _COMMAND, _NOON).subject_verified
    assert not question_of(_ACCESS, Caller(ANONYMOUS), _COMMAND, _NOON).subject_verified


def test_the_log_says_who_was_refused_and_why_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """Principal and policies, and no identifier of contact, user or instance, nor ticket or reason."""
    caplog.set_level(logging.DEBUG)
    rig = _Rig(policies=_policies('@id("a") permit(principal, action, resource);'))
    caller = Caller(_DESK, EndUser("i", "s-secret", "user-secret"), ticket="t-secret", reason="r-secret")
    case = rig.authorization.case(caller, _COMMAND)
    case.permit_caller()
    with pytest.raises(Failure):
        case.permit(replace(_GOOD, listen_in=False))

    refusal = caplog.records[-1]
    assert refusal.levelno == logging.INFO
    assert refusal.__dict__["fields"] == {
        "principal": _DESK.id,
        "policies": ("invariant:listen-in",),
        "reason": Reason.SUPERVISOR_NOT_PERMITTED,
    }
    assert not any("secret" in f"{record.__dict__}" for record in caplog.records)


def test_a_policy_that_fails_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It denies, and operators learn which rule it was, without the values that made it fail."""
    fails = "context.minute_of_day * 9223372036854775807 > 0"
    rig = _Rig(policies=_policies(f'@id("a") permit(principal, action, resource) when {{ {fails} }};'))
    with pytest.raises(Failure) as raised:
        rig.case().permit_caller()

    assert raised.value.reason is Reason.CALLER_NOT_PERMITTED
    assert caplog.records[-1].levelno == logging.ERROR
    assert caplog.records[-1].__dict__["fields"]["failed"] == ("a",)
