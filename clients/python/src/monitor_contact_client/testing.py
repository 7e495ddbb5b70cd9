"""Stand-ins for the two clients, for the tests of their users: no server, no channel, the same calls and exceptions.

    client = FakeMonitorContactClient(Throttled(retry_after=0.5))
    with pytest.raises(RetryLater):
        code_under_test(client)
    assert client.calls[0].user_id == "supervisor"

Answers are given in the order of the calls; when they are used up, every call succeeds with a session of its own.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from ._checks import checked_timeout
from ._errors import MonitorContactError
from ._metadata import call_metadata, checked_metadata, checked_size
from ._request import new_request
from ._types import Capability, Metadata, MonitoringSession

__all__ = ["AsyncFakeMonitorContactClient", "FakeMonitorContactClient", "RecordedCall"]


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call as the service would have seen it: with the token that was made where none was given."""

    instance_id: str
    contact_id: str
    user_id: str
    capabilities: tuple[Capability, ...]
    client_token: str
    timeout_seconds: float | None
    metadata: tuple[tuple[str, str | bytes], ...]
    reason: str | None = None
    ticket: str | None = None
    end_user_token: str | None = field(default=None, repr=False)


class _Script:
    """What both fakes share: they answer from the script and write down each call.

    Args:
        answers: For each call in order the session to return or the exception to raise. An exception without a client
            token gets the call's; the given object itself is never changed.

    Attributes:
        calls: Every call so far, oldest first; calls that a real client refuses before sending are not among them.
        closed: Whether the client was closed.
    """

    def __init__(self, *answers: MonitoringSession | MonitorContactError) -> None:
        self.calls: list[RecordedCall] = []
        self.closed = False
        self._answers = iter(answers)

    def _answer(
        self,
        *,
        instance_id: str,
        contact_id: str,
        user_id: str,
        capabilities: Iterable[Capability],
        client_token: str | None,
        reason: str | None,
        ticket: str | None,
        end_user_token: str | None,
        timeout_seconds: float | None,
        metadata: Metadata,
    ) -> MonitoringSession:
        if self.closed:
            raise RuntimeError("this client is closed: make a new one")
        request = new_request(
            instance_id=instance_id,
            contact_id=contact_id,
            user_id=user_id,
            capabilities=capabilities,
            client_token=client_token,
        )
        given = checked_metadata(metadata)
        beside = call_metadata(given, reason=reason, ticket=ticket, end_user_token=end_user_token, may_send_tokens=True)
        checked_size(beside, request.client_token)
        call = RecordedCall(
            instance_id=request.instance_id,
            contact_id=request.contact_id,
            user_id=request.user_id,
            capabilities=tuple(Capability(each) for each in request.allowed_monitor_capabilities),
            client_token=request.client_token,
            timeout_seconds=None if timeout_seconds is None else checked_timeout(timeout_seconds),
            metadata=given,
            reason=reason,
            ticket=ticket,
            end_user_token=end_user_token,
        )
        self.calls.append(call)
        answer = next(self._answers, None) or self._session(call)
        if isinstance(answer, MonitorContactError):
            raise _with_token(answer, call.client_token)
        return answer

    def _session(self, call: RecordedCall) -> MonitoringSession:
        number = len(self.calls)
        return MonitoringSession(
            contact_id=f"fake-session-{number}",
            contact_arn=None,
            client_token=call.client_token,
            request_id=f"fake-request-{number}",
        )


class FakeMonitorContactClient(_Script):
    """Stands in for MonitorContactClient."""

    def monitor_contact(
        self,
        *,
        instance_id: str,
        contact_id: str,
        user_id: str,
        capabilities: Iterable[Capability] = (),
        client_token: str | None = None,
        reason: str | None = None,
        ticket: str | None = None,
        end_user_token: str | None = None,
        timeout_seconds: float | None = None,
        metadata: Metadata = (),
    ) -> MonitoringSession:
        """See MonitorContactClient.monitor_contact; answers from the script."""
        return self._answer(
            instance_id=instance_id,
            contact_id=contact_id,
            user_id=user_id,
            capabilities=capabilities,
            client_token=client_token,
            reason=reason,
            ticket=ticket,
            end_user_token=end_user_token,
            timeout_seconds=timeout_seconds,
            metadata=metadata,
        )

    def close(self) -> None:
        """Refuse further calls."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncFakeMonitorContactClient(_Script):
    """Stands in for AsyncMonitorContactClient."""

    async def monitor_contact(
        self,
        *,
        instance_id: str,
        contact_id: str,
        user_id: str,
        capabilities: Iterable[Capability] = (),
        client_token: str | None = None,
        reason: str | None = None,
        ticket: str | None = None,
        end_user_token: str | None = None,
        timeout_seconds: float | None = None,
        metadata: Metadata = (),
    ) -> MonitoringSession:
        """See AsyncMonitorContactClient.monitor_contact; answers from the script."""
        return self._answer(
            instance_id=instance_id,
            contact_id=contact_id,
            user_id=user_id,
            capabilities=capabilities,
            client_token=client_token,
            reason=reason,
            ticket=ticket,
            end_user_token=end_user_token,
            timeout_seconds=timeout_seconds,
            metadata=metadata,
        )

    async def close(self) -> None:
        """Refuse further calls."""
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _with_token(error: MonitorContactError, client_token: str) -> MonitorContactError:
    raised = copy.copy(error)
    raised.client_token = error.client_token or client_token
    return raised
