"""The service without what decides who may listen: the call's path that `cost.py` and `run.py` compare it with.

Usage: unguarded_server.py serve; configured like the service, and composed by the same code. Of its steps four do
nothing: nobody is asked who calls, everything is permitted, Connect is not asked about the supervisor, nothing is
recorded.
"""

import sys
from dataclasses import replace
from typing import Any, Self

# Before anything of gRPC: it chooses the engine.
from monitor_contact_service import __main__ as service

# isort: split

from monitor_contact_service.access import Access
from monitor_contact_service.assembly import Outside, assemble
from monitor_contact_service.audit import Action, Audit
from monitor_contact_service.authorization import AssumedSupervisors, Authorization, Case
from monitor_contact_service.cli import main
from monitor_contact_service.core.caller import ANONYMOUS, Caller
from monitor_contact_service.core.command import MonitorCommand, MonitoringSession
from monitor_contact_service.core.failures import Failure
from monitor_contact_service.core.permissions import SupervisorFacts
from monitor_contact_service.core.policy import Decision, Policies
from monitor_contact_service.core.record import Entry
from monitor_contact_service.core.work import Work
from monitor_contact_service.handler import Steps
from monitor_contact_service.settings import Settings

NOBODY = Caller(ANONYMOUS)


class Unasked:
    """Step 1: everybody is anonymous."""

    def caller(self, context: Any) -> Caller:
        """Return the anonymous caller."""
        del context
        return NOBODY

    def change(self, access: Access) -> None:
        """Do nothing."""


class Permitted(Case):
    """Permits, and asks no policy."""

    def __init__(self) -> None:
        self.tenant = ""
        self.decision = Decision(allowed=True)

    def permit_caller(self) -> None:
        """Do nothing."""

    def permit(self, facts: SupervisorFacts) -> None:
        """Do nothing."""


class Unauthorized(Authorization):
    """Step 3: has policies, and asks them nothing."""

    def __init__(self, policies: Policies) -> None:
        self.policies = policies
        self._permitted = Permitted()

    def case(self, caller: Caller, command: MonitorCommand) -> Case:
        """Return a case that is permitted."""
        del caller, command
        return self._permitted


class Unrecorded(Action):
    """Waits for nothing."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    async def __aenter__(self) -> Self:
        self._entry.begun = True
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def succeeded(self, session: MonitoringSession) -> None:
        """Do nothing."""


class Unaudited(Audit):
    """Steps 4 and 7: records nothing of calls."""

    def action(self, entry: Entry, work: Work) -> Unrecorded:
        """Return what records nothing."""
        del work
        return Unrecorded(entry)

    def denied(self, entry: Entry, failure: Failure) -> None:
        """Do nothing."""

    async def repeated(self, entry: Entry, session: MonitoringSession, of: str) -> None:
        """Do nothing."""


def assemble_unguarded(settings: Settings, access: Access, policies: Policies, outside: Outside) -> Steps:
    """Return the steps of a replica, four of them replaced."""
    return replace(
        assemble(settings, access, policies, outside),
        authenticator=Unasked(),
        authorization=Unauthorized(policies),
        supervisors=AssumedSupervisors(),
        audit=Unaudited(outside.audit_log, code_of=str, timeout_seconds=1, clock=outside.timing.clock),
    )


if __name__ == "__main__":
    composer = vars(service)
    assert composer["assemble"] is assemble  # noqa: S101 - else nothing would be replaced
    composer["assemble"] = assemble_unguarded
    sys.exit(main())
