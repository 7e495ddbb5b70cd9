"""A request on one screen: the steps in their order. Each is one call into one module; steps do not call each other.

A refusal is a `Failure` that any step raises; `interceptors` has `status` turn it into the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceServicer

from .admission import Admission
from .attempts import Attempts
from .core import validation
from .core.command import MonitorCommand, MonitoringSession
from .core.deadline import deadline_at
from .core.idempotency import derive_client_token
from .core.work import Work
from .idempotency import Idempotency

if TYPE_CHECKING:
    import grpc.aio  # its ServicerContext is generic for type checkers only

    Context = grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]

# Who is calling, until callers are identified: the service listens on loopback only.
ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The deadline of callers that set none, and the longest that any call is worked on. Seconds."""

    default_seconds: float
    max_seconds: float


class MonitorContactHandler(MonitorContactServiceServicer):
    """The service's one method.

    Args:
        caller_of: step 1; the id of the caller, for quota and client_token.
        deadlines: what a caller's own deadline is completed and cut to.
        idempotency: between steps 4 and 5.
        admission: step 5.
        attempts: step 6.
        clock: monotonic seconds, the one of all steps.
    """

    def __init__(
        self,
        *,
        caller_of: "Callable[[Context], str]",
        deadlines: Deadlines,
        idempotency: Idempotency,
        admission: Admission,
        attempts: Attempts,
        clock: Callable[[], float],
    ) -> None:
        self._caller_of = caller_of
        self._deadlines = deadlines
        self._idempotency = idempotency
        self._admission = admission
        self._attempts = attempts
        self._clock = clock

    async def MonitorContact(  # noqa: N802 - the contract's name
        self, request: MonitorContactRequest, context: "Context"
    ) -> MonitorContactResponse:
        """Put a supervisor into silent monitoring of a contact, or raise the `Failure` that says why not."""
        deadline = deadline_at(
            self._clock(),
            context.time_remaining(),
            default_seconds=self._deadlines.default_seconds,
            max_seconds=self._deadlines.max_seconds,
        )
        caller = self._caller_of(context)  # 1 who is calling (not there yet: loopback only, all are anonymous)
        command = validation.parse(request)  # 2 is it well formed
        # 3 may they                              authorization, supervisors (not there yet)
        # 4 write down that it will be tried      audit (not there yet)
        # the same call again? join it, or answer from memory
        session = await self._idempotency.once(caller, command, deadline, partial(self._perform, caller))
        # 7 write down what happened              audit (not there yet)
        return MonitorContactResponse(contact_id=session.contact_id, contact_arn=session.contact_arn)

    async def _perform(self, caller: str, command: MonitorCommand, work: Work) -> MonitoringSession:
        """What identical calls do once."""
        async with self._admission.place(caller, work) as place:  # 5 wait for a place in the quota
            client_token = derive_client_token(caller, command.client_token) if command.client_token else ""
            return await self._attempts.monitor(command, client_token, place)  # 6 call Connect, again if worth it
