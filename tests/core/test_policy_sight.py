"""`core.policy_sight`: what no rule sees makes no new question, and whatever one sees does."""

import json
from dataclasses import replace
from typing import Any

import cedarpy
import policy_oracle as oracle
import pytest
from monitor_contact_service.core.permissions import SupervisorFacts
from monitor_contact_service.core.policy_sight import Sight
from monitor_contact_service.core.question import Question

# Every member that a rule may see or not, each with two values.
_OTHERS: dict[str, Any] = {
    "contact_id": "another",
    "ticket": "COACH-2",
    "reason": "complaint",
    "minute_of_day": 721,
    "weekday": 4,
}


def _rule(condition: str, resource: str = "resource") -> Any:
    text = f'@id("x") permit (principal, action, {resource}) when {{ {condition} }};'
    (rule,) = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values()
    return rule


def _question(name: str, value: Any) -> Question:
    others: dict[str, Any] = {name: value}
    return replace(oracle.question(), **others)


def _told_apart(*rules: Any) -> set[str]:
    """Return the members of which two values make two questions."""
    sight, question = Sight(rules), oracle.question()
    return {name for name, other in _OTHERS.items() if sight.of(question) != sight.of(_question(name, other))}


@pytest.mark.parametrize(
    ("condition", "seen"),
    [
        ("true", set()),
        ("context.subject_verified", set()),
        ("context.minute_of_day < 720", {"minute_of_day"}),
        ('context["minute_of_day"] < 720', {"minute_of_day"}),
        ("!(if context.weekday > 5 then true else false)", {"weekday"}),
        ('context has ticket && context.ticket like "COACH-*"', {"ticket"}),
        ('["a", context.reason].contains("a")', {"reason"}),
        ("context has ticket", set()),
        ('{"x": context} == {"x": context}', set(_OTHERS)),
        ("context == context", set(_OTHERS)),
        ('resource == MonitorContact::Contact::"a"', {"contact_id"}),
        ('resource in [MonitorContact :: Contact::"a"]', {"contact_id"}),
        ("resource is MonitorContact::Contact", set()),
        ('resource in MonitorContact::Instance::"a"', set()),
        ('principal.tenant == "minute_of_day"', set()),
    ],
)
def test_a_rule_sees_what_it_asks_for(condition: str, seen: set[str]) -> None:
    """However it is written; what it does not ask for is the same for all."""
    assert _told_apart(_rule(condition)) == seen


def test_a_scope_sees_its_contact() -> None:
    """In the scope of a rule as in its condition."""
    assert _told_apart(_rule("true", 'resource == MonitorContact::Contact::"a"')) == {"contact_id"}


def test_rules_see_together_what_each_of_them_sees() -> None:
    """One rule that asks is enough."""
    assert _told_apart(_rule("context.weekday == 1"), _rule("true"), _rule('context.ticket == "a"')) == {
        "weekday",
        "ticket",
    }


def test_a_rule_of_many_operators_is_read_to_its_end() -> None:
    """Its JSON may be nested deeper than a recursive function could follow."""
    rule: Any = {"==": {"left": {".": {"left": {"Var": "context"}, "attr": "weekday"}}, "right": {"Value": 1}}}
    for _ in range(300):
        rule = {"&&": {"left": rule, "right": {"Value": True}}}
    assert _told_apart(rule) == {"weekday"}


@pytest.mark.parametrize("name", ["ticket", "reason"])
def test_whether_there_is_a_text_stays_to_be_seen(name: str) -> None:
    """A rule may ask whether there is one, and not which."""
    sight, question = Sight([_rule(f"context has {name}")]), oracle.question()
    assert sight.of(_question(name, None)) != sight.of(question)


# Every other member, with another value than the question has.
_SEEN: dict[str, Any] = {
    "principal_id": "spiffe://corp.example/other",
    "roles": ("qa",),
    "tenant": "other",
    "instance_id": oracle.OTHER,
    "instance_tenant": "other",
    "subject_verified": False,
    "supervisor": SupervisorFacts("supervisor", listen_in=True, barge_in=False, restricted=False),
    "supervisor_tenant": "other",
    "acting_for": "somebody",
    "acts_for_others": True,
}


@pytest.mark.parametrize("name", sorted(set(Question.__slots__) - _OTHERS.keys()))
def test_everything_else_is_always_seen(name: str) -> None:
    """Who calls, for whom, and what is known of the supervisor: the rules of the package ask for it."""
    sight = Sight([])
    assert sight.of(_question(name, _SEEN[name])) != sight.of(oracle.question())
