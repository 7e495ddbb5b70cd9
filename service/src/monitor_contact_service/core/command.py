"""What is asked of Connect and what Connect gives back, as plain values. Decides nothing."""

from dataclasses import dataclass
from enum import StrEnum


class Capability(StrEnum):
    """What a supervisor may do in a session, in Connect's own spelling."""

    SILENT_MONITOR = "SILENT_MONITOR"
    BARGE = "BARGE"


@dataclass(frozen=True, slots=True)
class MonitorCommand:
    """A valid request: `validation.parse` is the only place that makes one out of what a caller sent.

    `capabilities` is never empty. `client_token` is "" where the caller gave none.
    """

    instance_id: str
    contact_id: str
    user_id: str
    capabilities: tuple[Capability, ...]
    client_token: str


@dataclass(frozen=True, slots=True)
class MonitoringSession:
    """The contact that is the monitoring session. `contact_arn` is "" if Connect did not return one.

    `started_by` is the request id of the call that has started it: repetitions get the same session.
    """

    contact_id: str
    contact_arn: str
    aws_request_id: str
    started_by: str = ""
