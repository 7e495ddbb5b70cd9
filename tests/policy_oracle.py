"""What the policies ought to say, in plain Python: written from the rules in words, without a look at their Cedar."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, Final

from monitor_contact_service.core.command import Capability
from monitor_contact_service.core.permissions import SupervisorFacts
from monitor_contact_service.core.question import Question

MAIN: Final = "11111111-1111-4111-8111-111111111111"
OTHER: Final = "22222222-2222-4222-8222-222222222222"

CAPABILITIES: Final[Sequence[tuple[Capability, ...]]] = (
    (Capability.SILENT_MONITOR,),
    (Capability.BARGE,),
    (Capability.SILENT_MONITOR, Capability.BARGE),
)

Permits = Callable[[Question, str], bool]
"""Whether an operator's policies, by themselves, let a question pass for the action "listen" or "barge"."""

Case = tuple[Question, tuple[Capability, ...]]


def question(**values: Any) -> Question:
    """Return a question of a coach that every rule lets pass, but for what is given; facts by their own names."""
    facts: dict[str, Any] = {"listen_in": True, "barge_in": True, "restricted": False}
    facts |= {name: values.pop(name) for name in list(values) if name in facts}
    known: dict[str, Any] = {
        "principal_id": "spiffe://corp.example/coaching",
        "roles": ("coach",),
        "tenant": "corp",
        "instance_id": MAIN,
        "instance_tenant": "corp",
        "contact_id": "contact",
        "subject_verified": True,
        "supervisor": SupervisorFacts("supervisor", **facts),
        "supervisor_tenant": "corp",
        "acting_for": None,
        "acts_for_others": False,
        "ticket": "COACH-1",
        "reason": "training",
        "minute_of_day": 720,
        "weekday": 3,
    }
    return Question(**(known | values))


def allowed(question: Question, capabilities: Sequence[Capability], permits: Permits) -> bool:
    """Return the right answer for a question, given what the operator permits."""
    actions = {"listen"}
    if Capability.BARGE in capabilities:
        actions.add("barge")
    return bool(capabilities) and all(
        _invariants_hold(question, action) and permits(question, action) for action in actions
    )


def demo(question: Question, action: str) -> bool:
    """The package's demo policies: everything to the role "demo"."""
    del action
    return "demo" in question.roles


def example(question: Question, action: str) -> bool:
    """The policies of docs/examples/policy.cedar, as its comments say them."""
    office_hours = question.weekday in {1, 2, 3, 4, 5} and 8 <= question.minute_of_day / 60 < 18
    qa_may = "qa" in question.roles and action == "listen" and question.instance_id == MAIN and office_hours
    coach_may = "coach" in question.roles and (question.ticket or "").startswith("COACH-")
    says_why = bool(question.reason)
    return (qa_may or coach_may) and (action == "listen" or says_why)


def _invariants_hold(question: Question, action: str) -> bool:
    facts = question.supervisor
    if not question.subject_verified or not facts.listen_in or facts.restricted:
        return False
    if action == "barge" and not facts.barge_in:
        return False
    tenants = {question.tenant, question.instance_tenant, question.supervisor_tenant}
    if len(tenants) > 1 or "" in tenants:
        return False
    for_another = question.acting_for not in {None, facts.user_id}
    return question.acts_for_others or not for_another


def _combined(axes: dict[str, Sequence[Any]]) -> Iterator[Case]:
    for capabilities in CAPABILITIES:
        for values in product(*axes.values()):
            yield question(**dict(zip(axes, values, strict=True))), capabilities


_BOOL: Final = (False, True)
_TENANTS: Final = ("corp", "other", "")

# All that the invariants speak of, in all combinations, for a caller with permits and for one without.
INVARIANT_AXES: Final[dict[str, Sequence[Any]]] = {
    "roles": (("demo", "coach"), ("nobody",)),
    "tenant": _TENANTS,
    "instance_tenant": _TENANTS,
    "supervisor_tenant": _TENANTS,
    "subject_verified": _BOOL,
    "listen_in": _BOOL,
    "barge_in": _BOOL,
    "restricted": _BOOL,
    "acting_for": (None, "supervisor", "somebody"),
    "acts_for_others": _BOOL,
}
# All that the policies of demo and example speak of, at both sides of each boundary.
OPERATOR_AXES: Final[dict[str, Sequence[Any]]] = {
    "roles": (("qa",), ("coach",), ("demo",), ("other", "qa", "coach"), ("QA", "Demo", "coach ", "qa2")),
    "instance_id": (MAIN, OTHER),
    "ticket": (None, "COACH-", "COACH-1", "coach-1"),
    "reason": (None, "", "training"),
    "minute_of_day": (479, 480, 1079, 1080),
    "weekday": (1, 5, 6),
    "barge_in": _BOOL,
}


def invariant_grid() -> Sequence[Case]:
    """Return the cases of `INVARIANT_AXES`: 15,552."""
    return tuple(_combined(INVARIANT_AXES))


def operator_grid() -> Sequence[Case]:
    """Return the cases of `OPERATOR_AXES`: 8,640."""
    return tuple(_combined(OPERATOR_AXES))
