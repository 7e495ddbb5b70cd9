"""A request on one screen: the steps in their order. Each is one call into one module; steps do not call each other.

A refusal is a `Failure` that any step raises; `interceptors` has `status` turn it into the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceServicer

from .admission import Admission
from .attempts import Attempts
from .core import validation
from .core.deadline import deadline_at

if TYPE_CHECKING:
    import grpc.aio  # its ServicerContext is generic for type checkers only


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The deadline of callers that set none, and the longest that any call is worked on. Seconds."""

    default_seconds: float
    max_seconds: float


class MonitorContactHandler(MonitorContactServiceServicer):
    """The service's one method.

    Args:
        deadlines: what a caller's own deadline is completed and cut to.
        admission: step 5.
        attempts: step 6.
        clock: monotonic seconds, the one of `admission` and `attempts`.
    """

    def __init__(
        self, *, deadlines: Deadlines, admission: Admission, attempts: Attempts, clock: Callable[[], float]
    ) -> None:
        self._deadlines = deadlines
        self._admission = admission
        self._attempts = attempts
        self._clock = clock

    async def MonitorContact(  # noqa: N802 - the contract's name
        self,
        request: MonitorContactRequest,
        context: "grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]",
    ) -> MonitorContactResponse:
        """Put a supervisor into silent monitoring of a contact, or raise the `Failure` that says why not."""
        deadline = deadline_at(
            self._clock(),
            context.time_remaining(),
            default_seconds=self._deadlines.default_seconds,
            max_seconds=self._deadlines.max_seconds,
        )
        # 1 who is calling                        authentication (not there yet: loopback only)
        command = validation.parse(request)  # 2 is it well formed
        # 3 may they                              authorization, supervisors (not there yet)
        # 4 write down that it will be tried      audit (not there yet)
        async with self._admission.place(deadline):  # 5 wait for a place in the quota
            session = await self._attempts.monitor(command, deadline)  # 6 call Connect, again if worth it
        # 7 write down what happened              audit (not there yet)
        return MonitorContactResponse(contact_id=session.contact_id, contact_arn=session.contact_arn)
