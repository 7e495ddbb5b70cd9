"""Every decision at every boundary against an oracle in plain Python, and every policy broken in turn."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import policy_oracle as oracle
import pytest
from monitor_contact_service import policy_files
from monitor_contact_service.core.policy import Foundation, Policies, compile_policies
from monitor_contact_service.core.policy_source import statements

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGE = _ROOT / "service/src/monitor_contact_service/policies"
_FOUNDATION = policy_files.foundation()


@dataclass(frozen=True)
class _Subject:
    """An operator's text, and what it ought to permit."""

    text: str
    permits: oracle.Permits


_SUBJECTS = {
    "demo": _Subject((_PACKAGE / "demo.cedar").read_text(), oracle.demo),
    "example": _Subject((_ROOT / "docs/examples/policy.cedar").read_text(), oracle.example),
}


Expected = Sequence[tuple[oracle.Case, bool]]


def _expected(cases: Sequence[oracle.Case], permits: oracle.Permits) -> Expected:
    """Every case with its right answer, mixed: what is wrong with a mutant is found soon."""
    answered = [(case, oracle.allowed(*case, permits)) for case in cases]
    random.Random(4).shuffle(answered)  # noqa: S311 - the same order each time
    return answered


@cache
def _invariant_grid() -> Expected:
    return _expected(oracle.invariant_grid(), oracle.demo)


@cache
def _operator_grid(subject: str) -> Expected:
    return _expected(oracle.operator_grid(), _SUBJECTS[subject].permits)


def _disagreements(policies: Policies, expected: Iterable[tuple[oracle.Case, bool]]) -> Iterator[oracle.Case]:
    return (case for case, right in expected if policies.decide(*case).allowed is not right)


@pytest.mark.parametrize("subject", _SUBJECTS)
def test_decisions_agree_with_the_oracle(subject: str) -> None:
    """Not one of 24,192 (demo) and 8,640 (example) combinations is decided otherwise than plain Python decides it."""
    policies = compile_policies(_SUBJECTS[subject].text, subject, _FOUNDATION)
    expected = (*_operator_grid(subject), *(_invariant_grid() if subject == "demo" else ()))

    assert {right for _, right in expected} == {False, True}
    assert list(_disagreements(policies, expected)) == []


@pytest.mark.slow
@pytest.mark.parametrize("subject", _SUBJECTS)
def test_decisions_agree_with_the_oracle_in_all_combinations(subject: str) -> None:
    """Nor where axes of the invariants and of the operator's policies meet."""
    policies = compile_policies(_SUBJECTS[subject].text, subject, _FOUNDATION)
    axes = oracle.INVARIANT_AXES | oracle.OPERATOR_AXES | {"minute_of_day": (479, 480), "weekday": (5, 6)}
    axes |= {"supervisor_tenant": ("corp", ""), "acting_for": (None, "somebody"), "ticket": (None, "COACH-1")}
    cases = (
        (oracle.question(**dict(zip(axes, values, strict=True))), capabilities)
        for values in product(*axes.values())
        for capabilities in oracle.CAPABILITIES
    )
    expected = ((case, oracle.allowed(*case, _SUBJECTS[subject].permits)) for case in cases)

    assert next(_disagreements(policies, expected), None) is None


def _mutants(text: str) -> Iterator[tuple[str, str]]:
    """Yield a name and the text with one policy broken: deleted, effect inverted, each condition inverted."""
    for statement in statements(text):
        name = statement.text.split('"')[1]
        yield f"{name} deleted", text.replace(statement.text, "")
        effect = {"permit": "forbid", "forbid": "permit"}["permit" if "\npermit" in statement.text else "forbid"]
        opposite = {"permit": "forbid", "forbid": "permit"}[effect]
        yield (
            f"{name} with its effect inverted",
            text.replace(statement.text, statement.text.replace(f"\n{opposite}", f"\n{effect}")),
        )
        for old, new in (("\nwhen", "\nunless"), ("\nunless", "\nwhen")):
            if old in statement.text:
                yield (
                    f"{name} with {old.strip()} inverted",
                    text.replace(statement.text, statement.text.replace(old, new)),
                )


_INVARIANT_MUTANTS = dict(_mutants(_FOUNDATION.invariants))
_OPERATOR_MUTANTS = {
    f"{subject}: {name}": (subject, text) for subject in _SUBJECTS for name, text in _mutants(_SUBJECTS[subject].text)
}
_DETAILS = {  # parts of conditions: each comparison moved or dropped
    "480": "479",
    "1080": "1081",
    "<= 5": "<= 4",
    "context.weekday <= 5 &&": "",
    "COACH-*": "COACH-",
    'resource in MonitorContact::Instance::"11111111-1111-4111-8111-111111111111"': "resource",
    'action == MonitorContact::Action::"SilentMonitor"': 'action in MonitorContact::Action::"Monitor"',
    ' && context.reason != ""': "",
    'context has ticket && context.ticket like "COACH-*"': "context has ticket",
}
_INVARIANT_DETAILS = {
    'principal.tenant != "" &&': "",
    "principal.tenant == resource.tenant &&": "",
    "principal.tenant == context.supervisor.tenant": "true",
    "context.acting_for != context.supervisor.id": "true",
    "unless { principal.acts_for_others }": "",
    'action == MonitorContact::Action::"Barge"': "action",
}


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def test_every_policy_is_mutated() -> None:
    """The mutants below are of all policies that the package and the example have."""
    assert len(_INVARIANT_MUTANTS) == 6 * 2 + 7  # acting-for has two conditions
    assert len(_OPERATOR_MUTANTS) == 2 + 3 * 3


@pytest.mark.parametrize("mutant", [*_INVARIANT_MUTANTS, *_INVARIANT_DETAILS])
def test_an_invariant_that_is_broken_is_found(mutant: str) -> None:
    """Whichever invariant is deleted, inverted or weakened, the grid disagrees."""
    invariants = _INVARIANT_MUTANTS.get(mutant) or _replaced(
        _FOUNDATION.invariants, mutant, _INVARIANT_DETAILS.get(mutant, "")
    )
    broken = Foundation(_FOUNDATION.schema, invariants)
    policies = compile_policies(_SUBJECTS["demo"].text, "demo", broken)

    assert next(_disagreements(policies, _invariant_grid()), None) is not None


@pytest.mark.parametrize("mutant", [*_OPERATOR_MUTANTS, *_DETAILS])
def test_an_operators_policy_that_is_broken_is_found(mutant: str) -> None:
    """Whichever policy of demo and example is deleted, inverted or moved by one, the grid disagrees."""
    subject, text = _OPERATOR_MUTANTS.get(mutant) or (
        "example",
        _replaced(_SUBJECTS["example"].text, mutant, _DETAILS.get(mutant, "")),
    )
    policies = compile_policies(text, subject, _FOUNDATION)

    assert next(_disagreements(policies, _operator_grid(subject)), None) is not None
