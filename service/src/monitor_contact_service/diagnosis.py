"""After SERVICE_QUOTA_EXCEEDED: asks Connect once which of the limits it was, and adds that to what the caller is told.

Connect has one answer for three causes. What GetCurrentUserData says comes a moment later, and nobody promises it: it
makes a hint, which is "" wherever it does not tell. It needs a permission of its own (`connect:GetCurrentUserData`);
without that there is no hint, and nothing else changes.
"""

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from .core import reads
from .core.asking import Asking
from .core.command import MonitorCommand
from .core.failures import Failure, Reason
from .core.reads import Presence
from .read_quota import PacedReads

_log = logging.getLogger(__name__)

METADATA_KEY: Final = "cause"
# The caller waits for its answer meanwhile (choice).
MAX_SECONDS: Final = 1.0
# What is left for the answer itself: the record of the outcome has to be durable before it (choice).
ANSWER_SECONDS: Final = 0.1
# A role that lacks the permission gets it by hand, if ever (choice).
DENIED_SECONDS: Final = 300.0


class Cause(StrEnum):
    """What the caller is told."""

    SUPERVISOR_OFFLINE = "supervisor_offline"
    ALREADY_MONITORING = "already_monitoring"
    CONTACT_FULL = "contact_full"
    UNKNOWN = ""


class Diagnosis:
    """Finds out causes.

    Args:
        paced: asks Connect.
        clock: monotonic seconds.
    """

    def __init__(self, paced: PacedReads, *, clock: Callable[[], float]) -> None:
        self._paced = paced
        self._clock = clock
        self._denied_until = float("-inf")

    async def explain(self, command: MonitorCommand, failure: Failure, asking: Asking) -> None:
        """Add `cause` to the metadata of a SERVICE_QUOTA_EXCEEDED; other failures stay as they are. Raises nothing.

        Args:
            command: what was refused.
            failure: how.
            asking: whose call it is, and its deadline.
        """
        if failure.reason is Reason.SERVICE_QUOTA_EXCEEDED:
            failure.metadata[METADATA_KEY] = await self._cause(command, asking)

    async def _cause(self, command: MonitorCommand, asking: Asking) -> Cause:
        now = self._clock()
        if now < self._denied_until:
            return Cause.UNKNOWN
        asking = Asking(asking.caller, min(now + MAX_SECONDS, asking.deadline - ANSWER_SECONDS))
        request = reads.current_user_data(command.instance_id, command.user_id)
        try:
            presence = await self._paced.ask(request, reads.read_presence, asking, max_attempts=1)
        except Failure as failed:
            if reads.not_the_callers(failed) is not failed:
                self._denied_until = self._clock() + DENIED_SECONDS
            return Cause.UNKNOWN
        return _cause_of(presence)


def _cause_of(presence: Presence) -> Cause:
    if presence.offline:
        return Cause.SUPERVISOR_OFFLINE
    if presence.monitoring:
        return Cause.ALREADY_MONITORING
    # Only what the supervisor does not stand in the way of is the contact's: somebody on a call, or whose routing
    # profile has no calls, may have been refused for that.
    if presence.busy or not presence.takes_calls:
        return Cause.UNKNOWN
    return Cause.CONTACT_FULL
