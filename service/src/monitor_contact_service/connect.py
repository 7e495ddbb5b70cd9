"""The transport to Connect: signs and sends one HTTP call and reads its answer; foreign errors become `Failure` here.

Sends exactly once per call: repeating is the matter of `attempts`, what an answer means that of `core.wire`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from botocore.credentials import ReadOnlyCredentials

from .aws import Endpoint
from .core.command import MonitoringSession
from .core.failures import Failure, Reason
from .core.wire import MONITOR_CONTACT_PATH, Answer, read_answer
from .http1 import HttpClient, HttpError, LostError, NotConnectedError, NotHttpError, Pool, Route
from .signing import Signer
from .telemetry import fields

_log = logging.getLogger(__name__)

# Before idle connections are thrown away (15 s), so that some are always open.
WARM_INTERVAL_SECONDS: Final = 10.0
# Connect's quota is 2 requests/s: two open connections carry what it allows.
WARM_CONNECTIONS: Final = 2
_PING_TIMEOUT_SECONDS: Final = 2.0


class CredentialSource(Protocol):
    """Where the credentials come from."""

    @property
    def current(self) -> ReadOnlyCredentials | None:
        """The credentials to sign with now."""

    async def renew(self) -> None:
        """Fetch them anew."""


@asynccontextmanager
async def open_http(endpoint: Endpoint, *, max_connections: int) -> AsyncIterator[HttpClient]:
    """Yield the client to reach `endpoint` with, over at most `max_connections` connections."""
    route = Route(endpoint.url, proxy=endpoint.proxy, tls=endpoint.tls_context)
    async with Pool(route.open, max_connections=max_connections) as pool:
        yield HttpClient(endpoint.url, route=route, user_agent=endpoint.user_agent, exchange=pool.exchange)


class Connect:
    """One Connect endpoint.

    Args:
        endpoint: where it is.
        credentials: what to sign with.
        http: of `open_http`.
    """

    def __init__(self, *, endpoint: Endpoint, credentials: CredentialSource, http: HttpClient) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._http = http
        self._url = endpoint.url + MONITOR_CONTACT_PATH
        self._signer: Signer | None = None
        self._reachable = True  # as far as pings tell

    async def monitor_contact(
        self, body: bytes, *, timeout_seconds: float, attempt: int, max_attempts: int, invocation_id: str
    ) -> MonitoringSession:
        """Send one attempt and return the session that Connect has started.

        Args:
            body: the JSON body.
            timeout_seconds: until the whole answer must be here.
            attempt: from 1.
            max_attempts: for AWS's own statistics, like `attempt`.
            invocation_id: one id for all attempts of a call.

        Raises:
            Failure: what Connect answered instead; CONNECT_UNREACHABLE; SERVICE_CREDENTIALS without any credentials.
        """
        headers = self._current_signer().headers(body)
        headers["amz-sdk-invocation-id"] = invocation_id
        headers["amz-sdk-request"] = f"attempt={attempt}; max={max_attempts}"
        return read_answer(await self._send(body, headers, timeout_seconds))

    async def renew_credentials(self) -> None:
        """Fetch the credentials anew, after an answer that says that they do not work."""
        await self._credentials.renew()

    async def keep_warm(self) -> None:
        """Open connections before the first call needs them and keep them open; ends with its task."""
        while True:
            await asyncio.gather(*(self._ping() for _ in range(WARM_CONNECTIONS)))
            await asyncio.sleep(WARM_INTERVAL_SECONDS)

    async def _ping(self) -> None:
        """Use a connection for a request that is not signed and names no operation: it costs no quota."""
        try:
            await self._http.get("/", timeout_seconds=_PING_TIMEOUT_SECONDS)
        except HttpError as error:
            self._tell(reachable=False, error=str(error))
        else:
            self._tell(reachable=True)

    def _tell(self, *, reachable: bool, **why: str) -> None:
        """Log when that changes, not each ten seconds."""
        if reachable is not self._reachable:
            self._reachable = reachable
            _log.info("Connect reachable" if reachable else "Connect not reachable", extra=fields(**why))

    def _current_signer(self) -> Signer:
        credentials = self._credentials.current
        if credentials is None:
            raise Failure(Reason.SERVICE_CREDENTIALS, log_text="no AWS credentials")
        if self._signer is None or self._signer.signed_with is not credentials:
            self._signer = Signer(credentials, self._endpoint.signing_name, self._endpoint.region, self._url)
        return self._signer

    async def _send(self, body: bytes, headers: dict[str, str], timeout_seconds: float) -> Answer:
        try:
            return await self._http.post(
                MONITOR_CONTACT_PATH, headers=headers, body=body, timeout_seconds=timeout_seconds
            )
        except NotConnectedError as error:
            raise _unreachable(error, sent=False) from error
        except LostError as error:
            raise _unreachable(error, sent=True) from error
        except NotHttpError as error:
            metadata = {"aws_error": "", "http_status": ""}
            raise Failure(
                Reason.CONNECT_BAD_RESPONSE, metadata=metadata, outcome_unknown=True, log_text=str(error)
            ) from error


def _unreachable(error: HttpError, *, sent: bool) -> Failure:
    return Failure(Reason.CONNECT_UNREACHABLE, outcome_unknown=sent, log_text=str(error))
