"""The commands `monitor-contact policy check` and `policy explain`: the policies at work without the service."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from .access import OPEN_ACCESS, read_access
from .authorization import question_of
from .core.caller import ANONYMOUS, Authentication, Caller, EndUser, Principal
from .core.command import Capability, MonitorCommand
from .core.failures import Reason
from .core.permissions import SupervisorFacts
from .core.policy import Policies
from .core.question import Question
from .environment import read_settings
from .policy_cases import explanation, requested
from .policy_files import load_policies, tests_path
from .reasons import Advice
from .settings import ConfigurationError

_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def policy(arguments: argparse.Namespace) -> int:
    """Run `policy check` or `policy explain` and return the exit code.

    Raises:
        ConfigurationError: a file or an option is wrong.
    """
    return check(arguments) if arguments.policy_command == "check" else explain(arguments)


def check(arguments: argparse.Namespace) -> int:
    """Print what a policy file holds. Returns 0; raises ConfigurationError with every problem."""
    loaded = load_policies(arguments.file)
    ids = loaded.policies.ids
    _print(f"policies: {len(ids)}{'' if ids else ': nothing is permitted'}")
    _print(*(f"  {policy_id}" for policy_id in ids))
    _print(f"tests: {loaded.cases} passed" if loaded.cases else f"tests: none ({tests_path(arguments.file).name})")
    _print(f"sha256: {loaded.policies.sha256}")
    return 0


def explain(arguments: argparse.Namespace) -> int:
    """Print what a policy file says of each capability of a call, and why. Returns 0 if all are allowed, else 4.

    Raises:
        ConfigurationError: a file or an option is wrong.
    """
    policies = load_policies(arguments.file).policies
    access = read_access(arguments.access) if arguments.access else OPEN_ACCESS
    try:
        capabilities = requested(arguments.capability or [Capability.SILENT_MONITOR])
    except ValueError as error:
        raise ConfigurationError([f"--capability {error}"]) from error
    command = MonitorCommand(arguments.instance_id, arguments.contact_id, arguments.user_id, capabilities, "")
    question = question_of(access, _caller(arguments), command, _local_time(arguments.at))
    facts = SupervisorFacts(
        arguments.user_id,
        listen_in=not arguments.no_listen_in,
        barge_in=not arguments.no_barge_in,
        restricted=arguments.restricted,
    )
    _print(*_situation(question))
    allowed = [_explain(policies, question, facts, capability) for capability in capabilities]
    return 0 if all(allowed) else Advice.ASK_PERMISSION.value


def _explain(policies: Policies, question: Question, facts: SupervisorFacts, capability: Capability) -> bool:
    """Print one line; the refusal is the one that the service would give, which decides the caller first."""
    first = policies.decide(question, (capability,))
    decision = policies.decide(replace(question, supervisor=facts), (capability,)) if first.allowed else first
    if decision.allowed:
        _print(f"ALLOW {capability}: {explanation(decision)}")
    else:
        reason = Reason.SUPERVISOR_NOT_PERMITTED if first.allowed else Reason.CALLER_NOT_PERMITTED
        _print(f"DENY {capability}: {explanation(decision)} ({reason})")
    return decision.allowed


def _situation(question: Question) -> Iterator[str]:
    yield f"caller: roles {', '.join(question.roles) or 'none'}; tenant {question.tenant or 'none'}"
    yield f"instance: tenant {question.instance_tenant or 'none'}"
    hours, minutes = divmod(question.minute_of_day, 60)
    yield f"time: {_WEEKDAYS[question.weekday - 1]} {hours:02}:{minutes:02} (minute {question.minute_of_day})"


def _caller(arguments: argparse.Namespace) -> Caller:
    known = arguments.caller == ANONYMOUS.id
    # How an identity was proved does not matter to policies, only that it was.
    principal = ANONYMOUS if known else Principal(arguments.caller, Authentication.SPIFFE)
    end_user = None if arguments.acting_for is None else EndUser("", "", connect_user_id=arguments.acting_for)
    return Caller(principal, end_user, ticket=arguments.ticket, reason=arguments.reason)


def _local_time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC).astimezone(ZoneInfo(read_settings().policy_timezone))
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        local = None
    if local is None or local.tzinfo is not None:
        raise ConfigurationError([f"--at {text}: must be a local time without an offset, such as 2026-11-25T14:30"])
    return local


def _print(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
