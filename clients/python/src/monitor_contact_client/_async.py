"""The asyncio client. `_sync.py` is generated from this file: change this one, then run generate_sync.py."""

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub

from ._channel import (
    AsyncChannel,
    BearerToken,
    ChannelOption,
    TlsOptions,
    bearer_metadata,
    call_async,
    channel_settings,
    open_async_channel,
)
from ._checks import checked_timeout
from ._errors import translate
from ._metadata import call_metadata, checked_size
from ._request import new_request, session_of
from ._target import is_loopback
from ._types import Capability, Metadata, MonitoringSession

if TYPE_CHECKING:
    from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceAsyncStub


class AsyncMonitorContactClient:
    """Asks the MonitorContact service to let supervisors listen to live contacts: the asyncio client.

    async with AsyncMonitorContactClient("localhost:50051") as client:
        session = await client.monitor_contact(instance_id=…, contact_id=…, user_id=…)

    Make one and share it: it serves any number of calls at once over few connections. Use it in one event loop. It
    connects at the first call, repeats calls as the service's pushback allows, each on another replica if it can.

    Args:
        target: `host:port`, or a gRPC target such as `dns:///host:port`. A name is asked for all its addresses.
        tls: Encryption; None means plaintext, which only targets on this machine may have.
        insecure: Let plaintext leave this machine, where the network itself encrypts. Never with a bearer token.
        bearer_token: Sent as `authorization: Bearer …`. A callable is asked before each call and must not block.
        timeout_seconds: Deadline of a call that names none, all attempts together; at most 1,000,000.
        retries: Whether gRPC may repeat a call that failed; each has at most 3 attempts with one client token.
        watch_health: Whether to leave a replica as soon as it says that it stops. Only where each address is a replica
            (a headless Service): behind one address for many it fails calls until the connection has aged out.
        user_agent: Your program's name and version, for the service's operators.
        channel_options: gRPC channel arguments; they replace this package's own of the same name.

    Raises TypeError and ValueError for an impossible argument or combination, and OSError for a TLS file that cannot be
    read.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: TlsOptions | None = None,
        insecure: bool = False,
        bearer_token: BearerToken | None = None,
        timeout_seconds: float = 10.0,
        retries: bool = True,
        watch_health: bool = False,
        user_agent: str | None = None,
        channel_options: Iterable[ChannelOption] = (),
    ) -> None:
        self._settings = channel_settings(
            target,
            tls=tls,
            insecure=insecure,
            bearer_token=bearer_token,
            retries=retries,
            watch_health=watch_health,
            user_agent=user_agent,
            channel_options=channel_options,
        )
        self._may_send_tokens = tls is not None or is_loopback(target)
        self._bearer_token = bearer_token
        self._timeout_seconds = checked_timeout(timeout_seconds)
        self._channel: AsyncChannel | None = None
        self._stub: MonitorContactServiceAsyncStub | None = None
        self._closed = False
        self._lock = threading.Lock()  # never held over an await; the blocking twin may be shared between threads

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
        """Set the Contact Control Panel of a supervisor to silent monitoring of a live contact.

        Args:
            instance_id: The Connect instance, 1 to 100 characters: the last part of its ARN, or the ARN.
            contact_id: The live contact to listen to, 1 to 256 characters.
            user_id: The supervisor's Connect user id, 1 to 256 characters.
            capabilities: What the supervisor may do; empty means listening only. BARGE needs SILENT_MONITOR beside it.
            client_token: Makes repetitions the same action, at most 500 characters. None or empty: a UUID is made once,
                before the first attempt. It is on the result and on every exception; repeat with it.
            reason: Why, for policy and audit: at most 256 characters, printable ASCII.
            ticket: The case that it belongs to, for policy and audit: likewise.
            end_user_token: OIDC token of the person on whose behalf you call, if the service accepts them. Never sent
                in plaintext to another machine.
            timeout_seconds: Deadline of this call, all attempts together; None means the client's.
            metadata: Further headers, for example `("traceparent", "…")`.

        Raises MonitorContactError, by cause: see the families below it. ValueError, TypeError and RuntimeError (closed
        client) tell of faults in the calling code, before anything is sent.
        """
        stub = self._open()
        request = new_request(
            instance_id=instance_id,
            contact_id=contact_id,
            user_id=user_id,
            capabilities=capabilities,
            client_token=client_token,
        )
        seconds = self._timeout_seconds if timeout_seconds is None else checked_timeout(timeout_seconds)
        beside = call_metadata(
            metadata,
            reason=reason,
            ticket=ticket,
            end_user_token=end_user_token,
            may_send_tokens=self._may_send_tokens,
        )
        headers = checked_size(bearer_metadata(self._bearer_token) + beside, request.client_token)
        try:
            answer = await call_async(stub, request, timeout_seconds=seconds, metadata=headers)
        except grpc.RpcError as error:
            raise translate(error, request.client_token) from error
        return session_of(answer, request.client_token)

    async def close(self) -> None:
        """Close the connections. Calls under way end with CallCancelled. Twice is fine; reopening is not."""
        with self._lock:
            self._closed = True
            channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self) -> "MonitorContactServiceAsyncStub":
        """Return the stub, made with its channel at first use: an aio channel cannot exist outside a running loop."""
        with self._lock:
            if self._closed:
                raise RuntimeError("this client is closed: make a new one")
            if self._stub is None:
                self._channel = open_async_channel(self._settings)
                self._stub = MonitorContactServiceStub(self._channel)
            return self._stub
