"""What the stand-in received and how it went: the read-back for tests, and the lines of the access log."""

import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .standin import MONITOR_CONTACT, Call

REMEMBERED_CALLS = 50_000  # the newest; counts go on for ever


@dataclass(slots=True)
class ReceivedCall:
    """One call as it arrived, noted before anything else happens. `headers` have lower-case names.

    status: None until an answer is decided, and for good where a fault leaves the caller without one. error: the name
    that Connect would give. fault: the action of the fault that struck, or None.
    """

    call: Call
    at: float
    status: int | None = None
    error: str | None = None
    fault: str | None = None

    @property
    def api(self) -> str:
        """The API that was called."""
        return self.call.api

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers, names in lower case."""
        return self.call.request.headers

    @property
    def body(self) -> Any:
        """The JSON body. None: there is none, or it is not JSON."""
        try:
            return json.loads(self.call.request.body)
        except ValueError:
            return None

    @property
    def client_token(self) -> str | None:
        """The ClientToken that was sent."""
        return _member(self.body, "ClientToken")

    @property
    def sdk_request(self) -> str | None:
        """The header `amz-sdk-request`, e.g. `attempt=2; max=3`."""
        return self.headers.get("amz-sdk-request")

    @property
    def invocation_id(self) -> str | None:
        """The header `amz-sdk-invocation-id`: one for all attempts of a call."""
        return self.headers.get("amz-sdk-invocation-id")

    def document(self) -> dict[str, object]:
        """Return what the control API tells of the call. Credentials stay out: only that there were some."""
        return {
            "api": self.api,
            "at": self.at,
            "target": self.call.request.target,
            "body": self.body,
            "client_token": self.client_token,
            "authorization": "authorization" in self.headers,
            "amz-sdk-request": self.sdk_request,
            "amz-sdk-invocation-id": self.invocation_id,
            "status": self.status,
            "error": self.error,
            "fault": self.fault,
        }

    def line(self) -> str:
        """Return the call as a line of the access log, plain ASCII."""
        if self.api == MONITOR_CONTACT:
            body = self.body
            about = f"contact={_member(body, 'ContactId')} supervisor={_member(body, 'UserId')}"
        else:
            about = f"id={self.call.resource_id or self.call.instance_id}"
        outcome = " ".join(filter(None, (str(self.status or "unanswered"), self.error)))
        fault = f" fault={self.fault}" if self.fault else ""
        # What a client sent may hold anything: one line must stay one line, on any terminal.
        return f"{self.api} {outcome} {about}{fault}".encode("unicode_escape").decode("ascii")


def _member(body: object, name: str) -> str | None:
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None


class Journal:
    """The calls received: each of the newest, and the number of all by API."""

    def __init__(self) -> None:
        self._calls: deque[ReceivedCall] = deque(maxlen=REMEMBERED_CALLS)
        self.counts: Counter[str] = Counter()

    def note(self, call: Call, now: float) -> ReceivedCall:
        """Note a call that has just arrived."""
        received = ReceivedCall(call, now)
        self._calls.append(received)
        self.counts[call.api] += 1
        return received

    def calls(self, api: str | None = None) -> list[ReceivedCall]:
        """Return the calls of an API, or of all, oldest first."""
        return [received for received in self._calls if api in {None, received.api}]
