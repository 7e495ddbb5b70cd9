"""Step 3, with `supervisors`: puts a call before the policies, and refuses what they do not permit.

The caller is decided first, as if Connect allowed the supervisor everything: who is denied then costs no read of
Connect and learns nothing of it. Then the supervisor, by the facts. What the policies say is `core.policy`'s matter.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

from .access import Access
from .core.asking import Asking
from .core.caller import ANONYMOUS, Caller
from .core.command import Capability, MonitorCommand
from .core.failures import Failure, Reason
from .core.permissions import SupervisorFacts
from .core.policy import Decision, Policies
from .core.question import Question
from .telemetry import fields

_log = logging.getLogger(__name__)

SupervisorCheck = Literal["enforce", "warn", "off"]


class Authorization:
    """Holds the policies and the access file's roles and tenants.

    Args:
        access: who has which roles.
        policies: what they may do.
        timezone: of the hours and weekdays that policies see.
        supervisor_check: what facts about the supervisor do: decide, are only logged, or are not asked for.
        utc_now: the time, aware.
    """

    def __init__(
        self,
        access: Access,
        policies: Policies,
        *,
        timezone: ZoneInfo,
        supervisor_check: SupervisorCheck,
        utc_now: Callable[[], datetime],
    ) -> None:
        self.policies = policies
        self._access = access
        self._timezone = timezone
        self._supervisor_check = supervisor_check
        self._utc_now = utc_now

    def case(self, caller: Caller, command: MonitorCommand) -> "Case":
        """Return the case of one call. It decides nothing yet."""
        question = question_of(self._access, caller, command, self._utc_now().astimezone(self._timezone))
        return Case(self.policies, question, command.capabilities, self._supervisor_check)

    def change(self, access: Access | None = None, policies: Policies | None = None) -> None:
        """Follow another access file or other policies. They decide calls that come after."""
        self._access = access or self._access
        self.policies = policies or self.policies


class Case:
    """One call: both decisions are made by the same policies and roles and at the same minute.

    Attributes:
        tenant: of the instance; "" for none.
        decision: the latest; denied until there is one.
    """

    __slots__ = ("_capabilities", "_check", "_first", "_policies", "_question", "decision", "tenant")

    def __init__(
        self,
        policies: Policies,
        question: Question,
        capabilities: tuple[Capability, ...],
        supervisor_check: SupervisorCheck,
    ) -> None:
        self.tenant = question.instance_tenant
        self.decision = Decision(allowed=False, sha256=policies.sha256)
        self._policies = policies
        self._question = question
        self._capabilities = capabilities
        self._check = supervisor_check
        self._first: Decision | None = None

    def permit_caller(self) -> None:
        """Decide as if Connect allowed the supervisor everything.

        Raises:
            Failure: CALLER_NOT_PERMITTED.
        """
        self.decision = self._as_assumed()
        self._require(Reason.CALLER_NOT_PERMITTED)

    def permit(self, facts: SupervisorFacts) -> None:
        """Decide by what Connect says of the supervisor. Without a supervisor check it does not matter.

        Raises:
            Failure: SUPERVISOR_NOT_PERMITTED.
        """
        decision = self._as_assumed() if self._check == "off" else self._by(facts)
        if self._check == "warn" and not decision.allowed:
            self._log(logging.WARNING, "supervisor not permitted, but let through", decision)
            decision = self._as_assumed()
        self.decision = decision
        self._require(Reason.SUPERVISOR_NOT_PERMITTED)

    def _as_assumed(self) -> Decision:
        if self._first is None:
            self._first = self._policies.decide(self._question, self._capabilities)
        return self._first

    def _by(self, facts: SupervisorFacts) -> Decision:
        user_id = self._question.supervisor.user_id
        known = SupervisorFacts(
            user_id, listen_in=facts.listen_in, barge_in=facts.barge_in, restricted=facts.restricted
        )
        if known == self._question.supervisor:
            return self._as_assumed()  # the same question has the same answer
        return self._policies.decide(replace(self._question, supervisor=known), self._capabilities)

    def _require(self, reason: Reason) -> None:
        if not self.decision.allowed:
            self._log(logging.INFO, "not permitted", self.decision, reason=reason)
            raise Failure(reason)
        self._log(logging.DEBUG, "permitted", self.decision)

    def _log(self, level: int, event: str, decision: Decision, **more: object) -> None:
        """Log who was decided by which policies; never about whom."""
        if decision.failed:  # a fault of the policies, or of this service
            level = logging.ERROR
            more["failed"] = decision.failed
        if _log.isEnabledFor(level):
            principal = self._question.principal_id
            _log.log(level, event, extra=fields(principal=principal, policies=decision.policies, **more))


def assumed(user_id: str) -> SupervisorFacts:
    """Return facts of a supervisor who may do everything; Connect was not asked."""
    return SupervisorFacts(user_id, listen_in=True, barge_in=True, restricted=False)


def question_of(access: Access, caller: Caller, command: MonitorCommand, local: datetime) -> Question:
    """Return what policies are asked about a call at that local time, with the supervisor's facts assumed good."""
    entry = access.caller(caller.principal.id)
    tenant = access.tenant_of(command.instance_id)
    return Question(
        principal_id=caller.principal.id,
        roles=entry.roles,
        tenant=entry.tenant,
        instance_id=command.instance_id,
        instance_tenant=tenant,
        contact_id=command.contact_id,
        # Who is anonymous was not proved to be anybody: the file must name that caller.
        subject_verified=caller.principal != ANONYMOUS or ANONYMOUS.id in access.callers,
        supervisor=assumed(command.user_id),
        supervisor_tenant=tenant,  # Connect looks for the user in the instance that the request names
        acting_for=caller.end_user.connect_user_id if caller.end_user else None,
        acts_for_others=entry.acts_for_others,
        ticket=caller.ticket or None,
        reason=caller.reason or None,
        minute_of_day=local.hour * 60 + local.minute,
        weekday=local.isoweekday(),
    )


class AssumedSupervisors:
    """Stands in for `Supervisors` where the supervisor check is off: asks nobody."""

    async def facts(self, command: MonitorCommand, asking: Asking) -> SupervisorFacts:  # noqa: ARG002 - the seam's
        """Return that the supervisor may do everything."""
        return assumed(command.user_id)


class FactsSource(Protocol):
    """Asks Connect about supervisors: `supervisors.Supervisors`."""

    async def facts(self, command: MonitorCommand, asking: Asking) -> SupervisorFacts:
        """Return what Connect says, or raise the Failure that says why it could not be asked."""


class TolerantSupervisors:
    """Stands before `Supervisors` where the supervisor check only warns: a failed read does not stop the call."""

    def __init__(self, supervisors: FactsSource) -> None:
        self._supervisors = supervisors

    async def facts(self, command: MonitorCommand, asking: Asking) -> SupervisorFacts:
        """Return what Connect says, or that the supervisor may do everything if it cannot be asked."""
        try:
            return await self._supervisors.facts(command, asking)
        except Failure as failure:
            _log.warning("supervisor not checked, but let through", extra=fields(reason=failure.reason))
            return assumed(command.user_id)
