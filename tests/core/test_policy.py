"""`core.policy`: what compiles, what is refused with its line, and that nothing but a clean allow permits."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import NoReturn

import cedarpy
import policy_oracle as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service import policy_files
from monitor_contact_service.core.command import Capability
from monitor_contact_service.core.permissions import SupervisorFacts
from monitor_contact_service.core.policy import Decision, Foundation, Policies, PolicyError, compile_policies

SILENT = (Capability.SILENT_MONITOR,)
BARGE = (Capability.SILENT_MONITOR, Capability.BARGE)

_ALL = '@id("all") permit (principal, action, resource);'
_FOUNDATION = policy_files.foundation()
# A number that no product with a minute fits into: such a rule passes validation and fails when it is evaluated.
_FAILS = "context.minute_of_day * 9223372036854775807 > 0"


def _compile(text: str) -> Policies:
    return compile_policies(text, "policy.cedar", _FOUNDATION)


def _problems(text: str) -> list[str]:
    with pytest.raises(PolicyError) as raised:
        _compile(text)
    assert str(raised.value) == "\n".join(raised.value.problems)
    return [problem.removeprefix("policy.cedar:") for problem in raised.value.problems]


def test_what_is_permitted_names_its_policies() -> None:
    """An allow says which policies permitted it, once each and in one order, and which version they are of."""
    policies = _compile(f'{_ALL}\n@id("a-silent") permit (principal, action, resource) when {{ true }};')
    text = f'{_ALL}\n@id("a-silent") permit (principal, action, resource) when {{ true }};'
    expected = sha256(f"{_FOUNDATION.schema}\0{_FOUNDATION.invariants}\0{text}".encode()).hexdigest()

    assert policies.decide(oracle.question(), BARGE) == Decision(
        allowed=True, policies=("a-silent", "all"), sha256=expected
    )
    assert policies.ids == ("all", "a-silent")
    assert policies.sha256 == expected


def test_what_is_forbidden_names_its_policies() -> None:
    """A deny names the rules that forbid, not the permits that were in vain."""
    decision = _compile(_ALL).decide(oracle.question(barge_in=False, restricted=True), BARGE)

    assert not decision.allowed
    assert decision.policies == ("invariant:barge-in", "invariant:unrestricted")
    assert decision.failed == ()


def test_without_a_permit_all_is_denied() -> None:
    """An empty file is a valid one: a default deny, which no policy determined."""
    policies = _compile("// nothing yet\n")

    assert policies.decide(oracle.question(), SILENT) == Decision(allowed=False, sha256=policies.sha256)
    assert policies.ids == ()


def test_no_capabilities_are_never_allowed() -> None:
    """Nothing asked for is nothing permitted."""
    assert not _compile(_ALL).decide(oracle.question(), ()).allowed


@pytest.mark.parametrize("permitted", ["SilentMonitor", "Barge"])
@pytest.mark.parametrize("asked", [(Capability.BARGE,), BARGE])
def test_barge_needs_both_actions(permitted: str, asked: tuple[Capability, ...]) -> None:
    """Whoever barges listens too: a permit for one of the two actions is not enough, however it is asked for."""
    policies = _compile(f'@id("one") permit (principal, action == MonitorContact::Action::"{permitted}", resource);')

    assert not policies.decide(oracle.question(), asked).allowed
    assert policies.decide(oracle.question(), SILENT).allowed is (permitted == "SilentMonitor")


@pytest.mark.parametrize(
    "values",
    [
        {"subject_verified": False},
        {"listen_in": False},
        {"restricted": True},
        {"tenant": "other"},
        {"tenant": "", "instance_tenant": "", "supervisor_tenant": ""},
        {"barge_in": False},
        {"acting_for": "somebody"},
    ],
)
@pytest.mark.parametrize(
    "attempt",
    [
        _ALL,
        '@id("not-forbid") permit (principal, action, resource) unless { false };',
        '@id("same-tenant") permit (principal, action, resource);',
        '@id("no") forbid (principal, action, resource) when { false };\n' + _ALL,
        '@id("x") @effect("permit") @override("invariant:listen-in") permit (principal, action, resource);',
    ],
)
def test_an_operators_file_cannot_lift_an_invariant(values: dict[str, object], attempt: str) -> None:
    """Whatever it permits, and whatever it calls it, each invariant still denies."""
    assert not _compile(attempt).decide(oracle.question(**values), BARGE).allowed
    assert _compile(attempt).decide(oracle.question(), BARGE).allowed


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "\npermit (principal, action, resource);",
            ['2: this policy has no @id: write @id("a-unique-name") before it'],
        ),
        (
            "@id permit (principal, action, resource);",
            ['1: this policy has no @id: write @id("a-unique-name") before it'],
        ),
        (
            '@id("a b") permit (principal, action, resource);',
            ["1: @id must be 1 to 64 letters, digits and . _ : / - and begin with letter or digit"],
        ),
        (
            f"{_ALL}\n\n{_ALL}",
            ['3: @id("all") is that of policy.cedar:1 already: ids must differ'],
        ),
        (
            '@id("invariant:listen-in") permit (principal, action, resource);',
            ['1: @id("invariant:listen-in"): ids that begin with "invariant:" are kept for the service'],
        ),
        (
            '@id("x") @id("y") permit (principal, action, resource);',
            ["1: this policy cannot be parsed: duplicate annotation: @id"],
        ),
        (
            f'{_ALL}\n@id("t") permit (principal == ?principal, action, resource);',
            ["2: templates (?principal, ?resource) are not supported: write a policy for each"],
        ),
        (f"{_ALL}\n// fine\npermit (principal,", ["3: this policy cannot be parsed: unexpected end of input"]),
        (
            f'permit (;\n{_ALL}\n@id("b") permit (principal, action, resource) when {{ 1 + }};',
            [
                "1: this policy cannot be parsed: unexpected token `;`",
                "3: this policy cannot be parsed: unexpected token `}`",
            ],
        ),
        (f"\ufeff{_ALL}", ["1: this policy cannot be parsed: invalid token"]),
        (f"/* c */ {_ALL}", ["1: this policy cannot be parsed: unexpected token `/`"]),
        (f"{_ALL};", ["1: this policy cannot be parsed: unexpected token `;`"]),
    ],
)
def test_a_file_that_is_no_list_of_policies_is_refused(text: str, problems: list[str]) -> None:
    """Each fault of syntax and of ids is told with its line; several at once."""
    assert _problems(text) == problems


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        (
            "principal.tennant == resource.tenant",
            "attribute `tennant` on entity type `MonitorContact::Service` not found",
        ),
        ('principal in MonitorContact::Rol::"qa"', "unrecognized entity type `MonitorContact::Rol`"),
        ('action == MonitorContact::Action::"Silent"', 'unrecognized action `MonitorContact::Action::"Silent"`'),
        ('context.ticket like "QA-*"', "unable to guarantee safety of access to optional attribute `ticket`"),
        ("context.supervisor.id > 3", "unexpected type: expected Long but saw String"),
        ("context.supervisor.barge", "attribute `supervisor.barge` in context for"),
    ],
)
def test_what_the_schema_does_not_know_is_refused(condition: str, fault: str) -> None:
    """Typos in attributes, types and actions, unguarded optional attributes and wrong types, each with its line."""
    problems = _problems(f'{_ALL}\n\n@id("b")\npermit (principal, action, resource)\nwhen {{ {condition} }};')

    assert problems
    assert all(problem.startswith("3: ") for problem in problems)
    assert any(fault in problem for problem in problems)


def test_faults_of_ids_and_schema_are_told_together() -> None:
    """Who has to mend a file learns of both at once, each fault once."""
    problems = _problems("permit (principal, action, resource) when { context.nothing };")

    assert [problem.partition(" in ")[0] for problem in problems] == [
        '1: this policy has no @id: write @id("a-unique-name") before it',
        "1: attribute `nothing`",
        "1: attribute `nothing`",
    ]
    assert len(set(problems)) == 3


def test_a_faulty_foundation_is_told_by_its_own_name() -> None:
    """The package's own files are held to the same schema."""
    broken = Foundation(_FOUNDATION.schema, '// x\n@id("invariant:x") forbid (principal, action, resource) when { 1 };')
    with pytest.raises(PolicyError) as raised:
        compile_policies(_ALL, "policy.cedar", broken)

    assert raised.value.problems[0].startswith("invariants.cedar:2: ")


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 65 + "true" + ")" * 65,
        "[" * 3_000 + "1" + "]" * 3_000 + " == []",
        "true && " * 2_000 + "true",
        "if true then true else " * 20_000 + "true",
    ],
)
def test_what_would_overflow_cedars_stack_is_refused(condition: str) -> None:
    """The parser would end the process; the limits are far below."""
    limits = "at most 16384 characters, 64 nested brackets, some hundred operators in a row"
    problems = _problems(f'{_ALL}\n@id("deep") permit (principal, action, resource) when {{ {condition} }};')
    assert problems == [f"2: this policy is too large: {limits}"]


@pytest.mark.parametrize("condition", ["(" * 63 + "true" + ")" * 63, "true && " * 300 + "true"])
def test_what_is_just_below_the_limits_works(condition: str) -> None:
    """The limits themselves are reached, and evaluated, without harm."""
    policies = _compile(f'@id("deep") permit (principal, action, resource) when {{ {condition} }};')
    assert policies.decide(oracle.question(), SILENT).allowed


@pytest.mark.parametrize("effect", ["permit", "forbid"])
def test_a_rule_that_fails_never_allows(effect: str) -> None:
    """Beside a permit that holds, a permit or forbid that cannot be evaluated denies, and is named."""
    policies = _compile(f'{_ALL}\n@id("fails") {effect} (principal, action, resource) when {{ {_FAILS} }};')
    decision = policies.decide(oracle.question(), SILENT)

    assert (decision.allowed, decision.failed) == (False, ("fails",))
    assert policies.decide(oracle.question(minute_of_day=0), SILENT).allowed


def test_a_failing_rule_of_one_action_denies_both() -> None:
    """BARGE is not allowed if the rule for listening fails."""
    silent = 'action == MonitorContact::Action::"SilentMonitor"'
    policies = _compile(f'{_ALL}\n@id("fails") forbid (principal, {silent}, resource) when {{ {_FAILS} }};')

    assert policies.decide(oracle.question(), (Capability.BARGE,)).failed == ("fails",)


@pytest.mark.parametrize(
    "values",
    [
        {"minute_of_day": 2**63},
        {"minute_of_day": "720"},
        {"weekday": None},
        {"ticket": 1},
        {"subject_verified": "yes"},
        {"ticket": "\ud800"},
    ],
)
def test_a_question_outside_the_schema_is_denied(values: dict[str, object]) -> None:
    """A wrong type, a number out of range or text that is no Unicode is no request at all, where a rule sees it."""
    sees_all = '@id("never") forbid (principal, action, resource) when { context != context };'
    decision = _compile(f"{_ALL} {sees_all}").decide(oracle.question(**values), SILENT)

    assert (decision.allowed, decision.policies, decision.failed) == (False, (), ("request",))


@pytest.mark.parametrize(
    ("values", "failed"),
    [
        ({"principal_id": "\ud800"}, "ValueError"),
        ({"tenant": 7}, "ValueError"),
        ({"contact_id": object()}, "TypeError"),
        ({"roles": ("qa", 3)}, "ValueError"),
    ],
)
def test_an_exception_denies(values: dict[str, object], failed: str) -> None:
    """What Cedar refuses to look at is denied, and only the kind of exception is told."""
    decision = _compile(_ALL).decide(oracle.question(**values), SILENT)

    assert (decision.allowed, decision.failed) == (False, (failed,))


class _Panic(BaseException):
    """As a panic of native code arrives: no Exception."""


class _Raising(str):
    """A text that cannot be looked at."""

    __slots__ = ("error",)
    error: BaseException

    def __hash__(self) -> NoReturn:
        raise self.error


def _raising(error: BaseException) -> str:
    text = _Raising("x")
    text.error = error
    return text


def test_a_panic_denies() -> None:
    """Native code that gives up denies the call; it does not end the service."""
    decision = _compile(_ALL).decide(oracle.question(tenant=_raising(_Panic())), SILENT)

    assert (decision.allowed, decision.failed) == (False, ("_Panic",))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_who_ends_the_process_is_not_stopped(error: BaseException) -> None:
    """The signals of an end pass."""
    with pytest.raises(type(error)):
        _compile(_ALL).decide(oracle.question(tenant=_raising(error)), SILENT)


_NASTY = ('x" == 1 || "', "a\nb", "\0", "ü\u202e", '"', "\\", "*", "QA-*", "}", "//", "a" * 2048)


@pytest.mark.parametrize("text", _NASTY)
@pytest.mark.parametrize("field", ["principal_id", "instance_id", "contact_id", "acting_for", "ticket", "reason"])
def test_texts_of_callers_are_data(text: str, field: str) -> None:
    """Quotes, line ends and pieces of Cedar in any text change nothing: neither allow nor fail."""
    policies = _compile(
        '@id("named") permit (principal == MonitorContact::Service::"somebody", action, resource);'
        f'{_ALL.replace("all", "good")[:-1]} when {{ context has ticket && context.ticket == "good" }};'
    )
    values = {"ticket": "good", "acts_for_others": True} | {field: text}

    decision = policies.decide(oracle.question(**values), SILENT)

    assert decision.failed == ()
    assert decision.allowed is (field != "ticket")
    assert not policies.decide(oracle.question(**values | {"ticket": "bad"}), SILENT).allowed


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_text_permits_by_itself(principal_id: str, ticket: str, contact_id: str) -> None:
    """Whatever a caller is called and claims, a policy for another caller does not permit it."""
    policies = _compile('@id("other") permit (principal == MonitorContact::Service::"the other", action, resource);')
    question = oracle.question(principal_id=principal_id, ticket=ticket, contact_id=contact_id)

    assert not policies.decide(question, SILENT).allowed


_UNEVEN = _compile(
    '@id("a") permit (principal in MonitorContact::Role::"demo", action, resource);'
    '@id("b") permit (principal in MonitorContact::Role::"coach", action == MonitorContact::Action::"Barge", resource);'
    '@id("c") forbid (principal, action == MonitorContact::Action::"SilentMonitor", resource)'
    "when { context.weekday > 5 };"
)


def test_who_may_barge_may_listen() -> None:
    """No question is answered with more for BARGE than for listening alone, even where policies permit BARGE only."""
    for question, _ in (*oracle.operator_grid()[::41], *oracle.invariant_grid()[::37]):
        barge, silent = (_UNEVEN.decide(question, capabilities).allowed for capabilities in (BARGE, SILENT))
        assert silent or not barge


def test_the_same_contact_may_be_asked_about_by_many() -> None:
    """What is kept between questions is of the caller and the instance it was kept for."""
    policies = _compile(
        '@id("a") permit (principal in MonitorContact::Role::"a", action, '
        f'resource in MonitorContact::Instance::"{oracle.MAIN}");'
    )
    asked = [
        replace(
            oracle.question(), principal_id=principal_id, roles=roles, instance_id=instance_id, contact_id=contact_id
        )
        for contact_id in ("one", "two")
        for instance_id in (oracle.MAIN, oracle.OTHER)
        for roles in (("a",), ("b",))
        for principal_id in ("p", "q")
    ]

    for question in (*asked, *reversed(asked)):
        right = question.roles == ("a",) and question.instance_id == oracle.MAIN
        assert policies.decide(question, SILENT).allowed is right


def test_an_instance_can_be_read_by_its_name() -> None:
    """Of the instances, only the one of the call is known; a rule that reads another one fails, and so denies."""
    policies = _compile(
        '@id("a") permit (principal, action, resource) '
        f'when {{ MonitorContact::Instance::"{oracle.MAIN}".tenant == principal.tenant }};'
    )

    assert policies.decide(oracle.question(), SILENT).allowed
    assert policies.decide(oracle.question(instance_id=oracle.OTHER), SILENT).failed == ("a",)


def test_other_facts_of_the_supervisor_do_not_matter() -> None:
    """Profiles and the time of the check are for the audit."""
    facts = SupervisorFacts("supervisor", True, True, False, ("profile",), 17.0)  # noqa: FBT003 - in its order
    assert _compile(_ALL).decide(replace(oracle.question(), supervisor=facts), SILENT).allowed


def _unsafe() -> Iterator[tuple[str, cedarpy.AuthzResult]]:
    """What Cedar by itself says where this module must say no: the reasons for its rules."""
    service, contact = ({"type": f"MonitorContact::{kind}", "id": "x"} for kind in ("Service", "Contact"))
    request = {"principal": service, "action": 'MonitorContact::Action::"Barge"', "resource": contact}
    forbid = f'{_ALL}@id("f") forbid (principal, action, resource) when'
    missing = f'{forbid} {{ principal.tenant == "x" }};'
    yield "entity not in the store", cedarpy.is_authorized(request | {"context": {}}, missing, [])
    yield "field missing", cedarpy.is_authorized(request | {"context": {}}, f"{forbid} {{ context.nothing }};", [])


@pytest.mark.parametrize(("case", "result"), list(_unsafe()))
def test_cedar_alone_allows_what_a_failing_forbid_forbids(case: str, result: cedarpy.AuthzResult) -> None:
    """The measured behaviour that the gate is there for: when it changes, the gate can be thought about again."""
    del case
    assert result.decision is cedarpy.Decision.Allow
    assert result.diagnostics.errors


@pytest.mark.parametrize(
    "condition",
    [
        'resource == MonitorContact::Contact::"one"',
        'resource in [MonitorContact :: Contact::"one"]',
        'resource == MonitorContact // here\n::Contact::"one"',
    ],
)
def test_a_rule_that_names_a_contact_decides_each_by_itself(condition: str) -> None:
    """What is remembered of one contact is never said of another, however a rule names it."""
    not_one = f'@id("not-one") forbid (principal, action, resource) when {{ {condition} }};'
    policies = _compile(f"{_ALL} {not_one}")
    for _ in range(2):
        assert not policies.decide(oracle.question(contact_id="one"), SILENT).allowed
        assert policies.decide(oracle.question(contact_id="two"), SILENT).allowed


@pytest.mark.parametrize("kind", ["==", "in"])
def test_a_scope_that_names_a_contact_decides_each_by_itself(kind: str) -> None:
    """In the scope of a rule as in its condition."""
    policies = _compile(f'@id("one") permit (principal, action, resource {kind} MonitorContact::Contact::"one");')
    for _ in range(2):
        assert policies.decide(oracle.question(contact_id="one"), SILENT).allowed
        assert not policies.decide(oracle.question(contact_id="two"), SILENT).allowed


def test_a_remembered_decision_is_of_the_same_question() -> None:
    """Whatever else is different is decided by itself, at each minute anew."""
    when = "context has ticket && context.minute_of_day < 720"
    policies = _compile(f'@id("t") permit (principal, action, resource) when {{ {when} }};')
    for _ in range(2):
        assert policies.decide(oracle.question(ticket="x", minute_of_day=719), SILENT).allowed
        assert not policies.decide(oracle.question(ticket="x", minute_of_day=720), SILENT).allowed
        assert not policies.decide(oracle.question(ticket=None, minute_of_day=719), SILENT).allowed
