"""A request on one screen: the steps in their order. Each is one call into one module; steps do not call each other.

A refusal is a `Failure` that any step raises; `interceptors` has `status` turn it into the answer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceServicer

from .access import Access
from .admission import Admission
from .attempts import Attempts
from .audit import Audit
from .authorization import Authorization
from .core import metadata, validation
from .core.asking import Asking
from .core.caller import Caller
from .core.command import MonitorCommand, MonitoringSession
from .core.deadline import deadline_at
from .core.failures import Failure
from .core.idempotency import derive_client_token
from .core.permissions import SupervisorFacts
from .core.rates import Rates
from .core.record import Entry
from .core.work import Work
from .diagnosis import Diagnosis
from .idempotency import Idempotency
from .telemetry import caller_var, request_id_var, trace_id_var
from .tracing import NOT_TRACED, Tracer

if TYPE_CHECKING:
    import grpc.aio  # its ServicerContext is generic for type checkers only

    Context = grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The deadline of callers that set none, and the longest that any call is worked on. Seconds."""

    default_seconds: float
    max_seconds: float


class SupervisorCheck(Protocol):
    """`supervisors.Supervisors`, or what stands in for it where the check only warns or is off."""

    async def facts(self, command: MonitorCommand, asking: Asking) -> SupervisorFacts:
        """Return what the command's user may do in Connect."""


class Authentication(Protocol):
    """`authentication.Authenticator`."""

    def caller(self, context: "Context") -> Caller:
        """Return who calls."""

    def change(self, access: Access) -> None:
        """Follow another access file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What a request meets, in this order; see the modules."""

    authenticator: Authentication
    authorization: Authorization
    supervisors: SupervisorCheck
    audit: Audit
    idempotency: Idempotency
    rates: Rates
    admission: Admission
    attempts: Attempts
    diagnosis: Diagnosis | None


class MonitorContactHandler(MonitorContactServiceServicer):
    """The service's one method.

    Args:
        steps: what a request meets.
        deadlines: what a caller's own deadline is completed and cut to.
        clock: monotonic seconds, the one of all steps.
        utc_now: for the record.
        tracer: makes spans of the waits.
        caller_name: what log and metrics call a principal id: one of few names.
    """

    def __init__(
        self,
        steps: Steps,
        *,
        deadlines: Deadlines,
        clock: Callable[[], float],
        utc_now: Callable[[], datetime],
        tracer: Tracer = NOT_TRACED,
        caller_name: Callable[[str], str] = str,
    ) -> None:
        self._tracer = tracer
        self._caller_name = caller_name
        self._steps = steps
        self._deadlines = deadlines
        self._clock = clock
        self._utc_now = utc_now

    async def MonitorContact(  # noqa: N802 - the contract's name
        self, request: MonitorContactRequest, context: "Context"
    ) -> MonitorContactResponse:
        """Put a supervisor into silent monitoring of a contact, or raise the `Failure` that says why not."""
        entry = self._entry(context)
        try:
            session = await self._monitor(request, context, entry)
        except Failure as failure:
            if not entry.begun:  # otherwise the outcome says it
                self._steps.audit.denied(entry, failure)
            raise
        return MonitorContactResponse(contact_id=session.contact_id, contact_arn=session.contact_arn)

    def refused(self, context: "Context", failure: Failure) -> None:
        """Record a call that came no further than the interceptor."""
        self._steps.audit.denied(self._entry(context), failure)

    def _entry(self, context: "Context") -> Entry:
        return Entry(
            id=request_id_var.get(), received_at=self._utc_now(), peer=context.peer(), trace_id=trace_id_var.get()
        )

    def _deadline(self, context: "Context", entry: Entry) -> float:
        now = self._clock()
        deadline = deadline_at(
            now,
            context.time_remaining(),
            default_seconds=self._deadlines.default_seconds,
            max_seconds=self._deadlines.max_seconds,
        )
        entry.deadline_seconds = deadline - now
        return deadline

    async def _monitor(self, request: MonitorContactRequest, context: "Context", entry: Entry) -> MonitoringSession:
        steps = self._steps
        deadline = self._deadline(context, entry)
        entry.caller = steps.authenticator.caller(context)  # 1 who is calling
        caller_var.set(self._caller_name(entry.caller.principal.id))
        entry.command = validation.parse(request)  # 2 is it well formed
        await self._require_permission(entry, entry.caller, entry.command, deadline)  # 3 may they
        caller, command = entry.caller.principal.id, entry.command
        # the same call again? join it, or answer from memory
        repeated = metadata.is_repetition(context.invocation_metadata() or ())
        perform = partial(self._perform, entry, caller, repeated=repeated)
        session = await steps.idempotency.once(caller, command, deadline, perform)
        if not entry.begun:
            await steps.audit.repeated(entry, session, session.started_by)
        return session

    async def _require_permission(self, entry: Entry, caller: Caller, command: MonitorCommand, deadline: float) -> None:
        """The caller first, as if Connect allowed the supervisor everything: who is denied costs no read of Connect."""
        case = self._steps.authorization.case(caller, command)
        entry.tenant = case.tenant
        try:
            case.permit_caller()
            entry.supervisor = await self._steps.supervisors.facts(command, Asking(caller.principal.id, deadline))
            case.permit(entry.supervisor)
        finally:
            entry.decision = case.decision

    async def _perform(
        self, entry: Entry, caller: str, command: MonitorCommand, work: Work, *, repeated: bool
    ) -> MonitoringSession:
        """What identical calls do once."""
        steps, traced = self._steps, self._tracer.waiting
        recorded = traced(steps.audit.action(entry, work), enter="audit intent", leave="audit outcome")
        with self._counted(entry, caller, command):
            async with recorded as action:  # 4 write down that it will be tried; 7 what happened
                try:
                    # 5 wait for a place in the quota
                    async with traced(steps.admission.place(caller, work), enter="admission") as place:
                        token = derive_client_token(caller, command.client_token) if command.client_token else ""
                        # 6 call Connect
                        session = await steps.attempts.monitor(command, token, place, repeated=repeated)
                except Failure as failure:
                    action.failed(failure)
                    if steps.diagnosis is not None:
                        await steps.diagnosis.explain(command, failure, Asking(caller, work.deadline))
                    raise
                action.succeeded(session)
        return replace(session, started_by=entry.id)

    @contextmanager
    def _counted(self, entry: Entry, caller: str, command: MonitorCommand) -> Iterator[None]:
        """Count an action against the rates of caller and supervisor, unless it was not even begun."""
        supervisor, now = (command.instance_id, command.user_id), self._clock()
        self._steps.rates.admit(caller, supervisor, now)
        try:
            yield
        finally:
            if not entry.begun:
                self._steps.rates.give_back(caller, supervisor, now)
