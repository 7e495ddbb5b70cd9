"""Runs the table tests beside a policy file: each case is a call, and what the policies must say of it."""

import tomllib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .access import DEFAULT_TENANT
from .core.command import Capability
from .core.permissions import SupervisorFacts
from .core.policy import Decision, Policies, PolicyError
from .core.question import Question

# A Wednesday at noon: a case that says no time is not about time.
_NOON: Final = datetime(2026, 11, 25, 12)  # noqa: DTZ001 - the hour that policies see has no zone any more


class _Case(BaseModel):
    """What a case may say; what it leaves out is unremarkable."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, strict=True)

    name: Annotated[str, Field(min_length=1)]
    expect: Literal["allow", "deny"]
    # The @id of a policy that must be among those that determined it.
    by: str | None = None
    caller: str = "spiffe://test.example/caller"
    roles: list[str] = Field(default_factory=list)
    tenant: str = DEFAULT_TENANT
    capabilities: Annotated[list[Literal["SILENT_MONITOR", "BARGE"]], Field(min_length=1)] = ["SILENT_MONITOR"]
    instance: str = "instance"
    # That of the caller if it is not said.
    instance_tenant: str | None = None
    contact: str = "contact"
    supervisor: str = "supervisor"
    listen_in: bool = True
    barge_in: bool = True
    restricted: bool = False
    verified: bool = True
    acting_for: str | None = None
    acts_for_others: bool = False
    ticket: str | None = None
    reason: str | None = None
    # In the time zone that is configured for policies: an offset would say another hour than the policies see.
    at: datetime = _NOON


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    cases: tuple[_Case, ...] = ()


def run_cases(text: str, name: str, policies: Policies) -> int:
    """Run all cases of a table and return how many there are.

    Args:
        text: TOML, with a table `[[cases]]` for each.
        name: of the text's file, for the problems.
        policies: to be tested.

    Raises:
        PolicyError: a line per fault of the table, or else per case that does not hold.
    """
    try:
        table = _Table.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PolicyError([f"{name}: {error}"]) from error
    except ValidationError as error:
        raise PolicyError(list(_faults(name, error))) from error
    problems = [
        f"{name}: case {number} ({case.name}): {problem}"
        for number, case in enumerate(table.cases, start=1)
        for problem in _problems(case, policies)
    ]
    if problems:
        raise PolicyError(problems)
    return len(table.cases)


def requested(names: Sequence[str]) -> tuple[Capability, ...]:
    """Return capabilities as a request may have them.

    Raises:
        ValueError: the service refuses such a request before any policy is asked.
    """
    if len(set(names)) < len(names) or Capability.SILENT_MONITOR not in names:
        raise ValueError("must be SILENT_MONITOR, or SILENT_MONITOR and BARGE: the service refuses other requests")
    return tuple(Capability(name) for name in names)


def explanation(decision: Decision) -> str:
    """Return which rules determined a decision, for people."""
    if decision.failed:
        return f"cannot be evaluated: {', '.join(decision.failed)}"
    return ", ".join(decision.policies) or "no policy permits it"


def _problems(case: _Case, policies: Policies) -> Iterator[str]:
    if case.at.tzinfo is not None:
        yield "at must be a local time without an offset, for example 2026-11-25T14:30:00"
        return
    try:
        capabilities = requested(case.capabilities)
    except ValueError as error:
        yield f"capabilities {error}"
        return
    decision = policies.decide(_question(case), capabilities)
    found = "allow" if decision.allowed else "deny"
    if found != case.expect or (case.by is not None and case.by not in decision.policies):
        expected = case.expect + (f" by {case.by}" if case.by is not None else "")
        yield f"expected {expected}, got {found}: {explanation(decision)}"


def _question(case: _Case) -> Question:
    tenant = case.tenant if case.instance_tenant is None else case.instance_tenant
    return Question(
        principal_id=case.caller,
        roles=tuple(case.roles),
        tenant=case.tenant,
        instance_id=case.instance,
        instance_tenant=tenant,
        contact_id=case.contact,
        subject_verified=case.verified,
        supervisor=SupervisorFacts(case.supervisor, case.listen_in, case.barge_in, case.restricted),
        supervisor_tenant=tenant,
        acting_for=case.acting_for,
        acts_for_others=case.acts_for_others,
        ticket=case.ticket,
        reason=case.reason,
        minute_of_day=case.at.hour * 60 + case.at.minute,
        weekday=case.at.isoweekday(),
    )


def _faults(name: str, error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        match fault["loc"]:
            case ("cases", int(number), *rest):
                place = f"case {number + 1}: {'.'.join(str(part) for part in rest)}"
            case location:
                place = ".".join(str(part) for part in location)
        yield f"{name}: {place}: {fault['msg']}"
