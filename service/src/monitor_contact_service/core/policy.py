"""Decides whether a caller may do something to a contact, by the policies, which are written in Cedar.

Policies are read once, by `compile_policies`; where their text comes from, and what a refusal is called, is left to
others. Only `Policies.decide` speaks Cedar, so that another engine would change this module alone.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import cedarpy

from .command import Capability
from .policy_sight import Sight
from .policy_source import Statement, statements
from .question import NAMESPACE, Question, context_of

# Ids of the package's own rules begin so; no other does.
INVARIANT_PREFIX: Final = "invariant:"

# Ids stand in logs and audit records (choice).
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
# Far beyond, Cedar's parser overflows its stack and ends the process (measured, cedarpy 4.12.2: of brackets 500 levels
# pass and 3,000 do not; 8,192 factors of a product pass and 20,000 do not, each takes two characters).
_MAX_DEPTH: Final = 64
_MAX_CHARACTERS: Final = 16_384
# Whoever may barge listens too.
_ACTIONS: Final = {Capability.SILENT_MONITOR: ("SilentMonitor",), Capability.BARGE: ("SilentMonitor", "Barge")}
# Callers with their instances whose entities are kept: 24 µs of a decision's 80 (measured). More are only slower.
_KNOWN_CALLERS: Final = 1024
# Questions whose decisions are kept: where no rule asks for time or ticket, there is one for each pair of caller and
# supervisor with what Connect allows it.
_KNOWN_QUESTIONS: Final = 4096
_FAILED_RULE: Final = re.compile(r"error while evaluating policy `policy(\d+)`")


class PolicyError(Exception):
    """The policies cannot be used; `problems` has one line per fault, with file and line where it has one."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policies say.

    Attributes:
        allowed: only True permits.
        policies: the `@id`s that determined it, sorted; none for a default deny.
        sha256: of the policies, in hex: which version decided.
        failed: what could not be evaluated, and so denies: the `@id`s of rules, or in one word what else.
    """

    allowed: bool
    policies: tuple[str, ...] = ()
    sha256: str = ""
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Foundation:
    """What the package brings: the text of the schema, and of the invariants that no operator's file can lift."""

    schema: str
    invariants: str

    def sha256(self, operator_text: str) -> str:
        """Return what tells one version of policies from another, in hex."""
        return sha256(f"{self.schema}\0{self.invariants}\0{operator_text}".encode()).hexdigest()


class Policies:
    """Compiled policies; made by `compile_policies`.

    Attributes:
        sha256: of schema, invariants and operator's text, in hex.
        ids: the `@id`s of the operator's policies, in their order.
    """

    def __init__(self, policy_set: Any, schema: cedarpy.Schema, rules: Sequence["_Rule"], digest: str) -> None:
        ids = [rule.id for rule in rules]
        self.sha256 = digest
        self.ids = tuple(policy_id for policy_id in ids if not policy_id.startswith(INVARIANT_PREFIX))
        self._sight = Sight(rule.body for rule in rules)
        self._policy_set = policy_set
        self._schema = schema
        self._all_ids = tuple(ids)
        self._caller_entities = lru_cache(maxsize=_KNOWN_CALLERS)(self._parse_caller)
        # 70 µs in a loop, far more in a busy server, each call twice (measured); least recently used first.
        self._known: OrderedDict[Hashable, Decision] = OrderedDict()

    def decide(self, question: Question, capabilities: Iterable[Capability]) -> Decision:
        """Return whether all capabilities are allowed; never if there are none. Raises nothing.

        Allowed is what Cedar allows without any error: by itself Cedar skips a rule that fails, and allows what a
        failing forbid was to forbid (measured).
        """
        try:
            return self._remembered(question, tuple(capabilities))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of native code is no Exception (PyO3, PanicException)
            return Decision(allowed=False, sha256=self.sha256, failed=(type(error).__name__,))

    def _remembered(self, question: Question, capabilities: tuple[Capability, ...]) -> Decision:
        key = (self._sight.of(question), capabilities)
        decision = self._known.get(key)
        if decision is not None:
            self._known.move_to_end(key)
            return decision
        decision = self._decide(question, capabilities)
        if not decision.failed:  # what is no request at all says nothing of others that look the same to rules
            self._known[key] = decision
            if len(self._known) > _KNOWN_QUESTIONS:
                self._known.popitem(last=False)
        return decision

    def _decide(self, question: Question, capabilities: tuple[Capability, ...]) -> Decision:
        actions = sorted({action for capability in capabilities for action in _ACTIONS[capability]})
        if not actions:
            return Decision(allowed=False, sha256=self.sha256)
        results = self._evaluate(question, actions)
        denials = [result for result in results if not _allows(result)]
        return Decision(
            allowed=not denials,
            policies=_sorted(self._reasons(denials or results)),
            sha256=self.sha256,
            failed=_sorted(self._failed(denials)),
        )

    def _evaluate(self, question: Question, actions: Iterable[str]) -> Sequence[cedarpy.AuthzResult]:
        context = json.dumps(context_of(question))
        principal, contact = _uid("Service", question.principal_id), _uid("Contact", question.contact_id)
        return cedarpy.is_authorized_batch(
            [
                {"principal": principal, "action": _uid("Action", action), "resource": contact, "context": context}
                for action in actions
            ],
            self._policy_set,
            self._entities(question),
            self._schema,
        )

    def _entities(self, question: Question) -> cedarpy.Entities:
        caller = self._caller_entities(
            question.principal_id,
            question.roles,
            question.tenant,
            question.acts_for_others,
            question.instance_id,
            question.instance_tenant,
        )
        contact = {
            "uid": _uid("Contact", question.contact_id),
            "attrs": {"tenant": question.instance_tenant},
            "parents": [_uid("Instance", question.instance_id)],
        }
        return caller.with_added_json_str(json.dumps([contact]), self._schema)

    def _parse_caller(  # what of a question is the same for many calls
        self,
        principal_id: str,
        roles: tuple[str, ...],
        tenant: str,
        acts_for_others: bool,  # noqa: FBT001 - by position, for the cache
        instance_id: str,
        instance_tenant: str,
    ) -> cedarpy.Entities:
        service = {
            "uid": _uid("Service", principal_id),
            "attrs": {"tenant": tenant, "acts_for_others": acts_for_others},
            "parents": [_uid("Role", role) for role in roles],
        }
        instance = {"uid": _uid("Instance", instance_id), "attrs": {"tenant": instance_tenant}, "parents": []}
        return cedarpy.Entities.from_json_str(json.dumps([service, instance]), self._schema)

    @staticmethod
    def _reasons(results: Iterable[cedarpy.AuthzResult]) -> Iterator[str]:
        for result in results:
            yield from result.diagnostics.id_annotations_by_reason.values()

    def _failed(self, denials: Iterable[cedarpy.AuthzResult]) -> Iterator[str]:
        """Yield names only: Cedar's texts hold values of the request."""
        for result in denials:
            for error in result.diagnostics.errors:
                rule = _FAILED_RULE.match(error)
                yield self._all_ids[int(rule[1])] if rule else "request"


def compile_policies(operator_text: str, name: str, foundation: Foundation) -> Policies:
    """Return the policies of an operator's text, together with the invariants. It may be empty: then all is denied.

    Args:
        operator_text: policies in Cedar's language, each with an `@id`.
        name: of the text's file, for the problems.
        foundation: what the package brings.

    Raises:
        PolicyError: with every problem: syntax, schema, or ids that are missing, double or reserved.
    """
    problems: list[str] = []
    invariants = list(_rules(foundation.invariants, "invariants.cedar", problems))
    rules = invariants + list(_rules(operator_text, name, problems))
    if problems:
        raise PolicyError(problems)  # what cannot be parsed cannot be validated either
    problems.extend(_id_problems(rules[len(invariants) :]))
    schema = cedarpy.Schema.from_str(foundation.schema, release_gil=True)
    # Both have been parsed apart: joined, neither can reach into the other.
    text = f"{foundation.invariants}\n{operator_text}"
    problems.extend(_validation_problems(text, schema, rules))
    if problems:
        raise PolicyError(problems)
    policy_set = cedarpy.PolicySet.from_str(text, release_gil=True)
    return Policies(policy_set, schema, rules, foundation.sha256(operator_text))


@dataclass(frozen=True, slots=True)
class _Rule:
    """A policy: `file:line`, its id or "", and itself as Cedar's JSON."""

    place: str
    id: str
    body: Any


def _rules(text: str, name: str, problems: list[str]) -> Iterator[_Rule]:
    for statement in statements(text):
        place = f"{name}:{statement.line}"
        try:
            parsed = _parsed(statement)
        except RecursionError:
            limits = (
                f"at most {_MAX_CHARACTERS} characters, {_MAX_DEPTH} nested brackets, some hundred operators in a row"
            )
            problems.append(f"{place}: this policy is too large: {limits}")
            continue
        except ValueError as error:
            problems.append(f"{place}: this policy cannot be parsed: {error}")
            continue
        if len(parsed["staticPolicies"]) != 1:
            problems.append(f"{place}: templates (?principal, ?resource) are not supported: write a policy for each")
            continue
        (policy,) = parsed["staticPolicies"].values()
        yield _Rule(place, policy.get("annotations", {}).get("id") or "", policy)


def _parsed(statement: Statement) -> Any:
    """Return a policy as JSON. Raises ValueError if it is none, RecursionError if it is too large."""
    if len(statement.text) > _MAX_CHARACTERS or statement.depth > _MAX_DEPTH:
        raise RecursionError
    return json.loads(cedarpy.policies_to_json_str(statement.text))


def _id_problems(rules: Iterable[_Rule]) -> Iterator[str]:
    place_by_id: dict[str, str] = {}
    for rule in rules:
        if not rule.id:
            yield f'{rule.place}: this policy has no @id: write @id("a-unique-name") before it'
        elif not _ID.fullmatch(rule.id):
            yield f"{rule.place}: @id must be 1 to 64 letters, digits and . _ : / - and begin with letter or digit"
        elif rule.id.startswith(INVARIANT_PREFIX):
            yield f'{rule.place}: @id("{rule.id}"): ids that begin with "{INVARIANT_PREFIX}" are kept for the service'
        elif rule.id in place_by_id:
            yield f'{rule.place}: @id("{rule.id}") is that of {place_by_id[rule.id]} already: ids must differ'
        else:
            place_by_id[rule.id] = rule.place


def _validation_problems(text: str, schema: cedarpy.Schema, rules: Sequence[_Rule]) -> Iterator[str]:
    found = cedarpy.validate_policies(text, schema, release_gil=True).errors
    numbered = sorted({(int(fault.policy_id.removeprefix("policy")), fault.error) for fault in found})
    for number, error in numbered:
        rule = rules[number]
        yield f"{rule.place}: {error.removeprefix(f'for policy `policy{number}`, ')}"


def _uid(kind: str, entity_id: str) -> dict[str, str]:
    """Return a reference that is safe whatever the id contains; as Cedar's text it would be parsed."""
    return {"type": f"{NAMESPACE}{kind}", "id": entity_id}


def _allows(result: cedarpy.AuthzResult) -> bool:
    """The gate. A result with errors is none, whatever it says."""
    return result.decision is cedarpy.Decision.Allow and not result.diagnostics.errors


def _sorted(ids: Iterable[str]) -> tuple[str, ...]:
    """Return each once, in one order: Cedar's differs from run to run (measured)."""
    return tuple(sorted(set(ids)))
