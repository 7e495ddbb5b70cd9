"""The transport to Connect: signs and sends one HTTP call and reads its answer; foreign errors become `Failure` here.

Sends exactly once per call: repeating is the matter of `attempts` and `read_quota`, what an answer means that of
`core.wire` and `core.reads`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from botocore.credentials import ReadOnlyCredentials

from .core.command import MonitoringSession
from .core.failures import Failure, Reason
from .core.reads import ReadRequest
from .core.wire import MONITOR_CONTACT_PATH, Answer, read_answer
from .endpoint import Endpoint
from .http1 import HttpClient, HttpError, NotConnectedError, NotHttpError, Pool, Route
from .signing import Signer, sign
from .telemetry import fields
from .upstream import MONITOR_CONTACT, UNOBSERVED, Upstream

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
        barge_credentials: what to sign calls with BARGE with, so that no fault turns silent into barge; None for the
            same ones.
        http: of `open_http`.
        upstream: tells of each request.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        credentials: CredentialSource,
        barge_credentials: CredentialSource | None = None,
        http: HttpClient,
        upstream: Upstream = UNOBSERVED,
    ) -> None:
        self._endpoint = endpoint
        self._upstream = upstream
        self._http = http
        self._silent = _Identity(endpoint, credentials)
        self._barge = self._silent if barge_credentials is None else _Identity(endpoint, barge_credentials)
        self._reachable = True  # as far as pings tell

    async def monitor_contact(
        self,
        body: bytes,
        *,
        timeout_seconds: float,
        attempt: int,
        max_attempts: int,
        invocation_id: str,
        barge: bool = False,
    ) -> MonitoringSession:
        """Send one attempt and return the session that Connect has started.

        Args:
            body: the JSON body.
            timeout_seconds: until the whole answer must be here.
            attempt: from 1.
            max_attempts: for AWS's own statistics, like `attempt`.
            invocation_id: one id for all attempts of a call.
            barge: whether the body asks for BARGE.

        Raises:
            Failure: what Connect answered instead; CONNECT_UNREACHABLE; SERVICE_CREDENTIALS without any credentials.
        """
        headers = (self._barge if barge else self._silent).signer().headers(body)
        headers["amz-sdk-invocation-id"] = invocation_id
        headers["amz-sdk-request"] = f"attempt={attempt}; max={max_attempts}"
        with self._upstream.request(MONITOR_CONTACT, headers, attempt) as request:
            try:
                answer = await self._http.post(
                    MONITOR_CONTACT_PATH, headers=headers, body=body, timeout_seconds=timeout_seconds
                )
            except HttpError as error:
                raise _failure(error, acts=True) from error
            request.answered(answer)
            return read_answer(answer)

    async def read(self, request: ReadRequest, *, timeout_seconds: float) -> Answer:
        """Send a read and return its answer, whatever its status.

        Raises:
            Failure: CONNECT_UNREACHABLE; CONNECT_BAD_RESPONSE; SERVICE_CREDENTIALS without any credentials.
        """
        where, target, body = self._endpoint, request.target, request.body
        headers = sign(self._silent.credentials(), where.signing_name, where.region, where.url + target, body)
        with self._upstream.request(request.api, headers) as sent:
            try:
                if body:
                    answer = await self._http.post(target, headers=headers, body=body, timeout_seconds=timeout_seconds)
                else:
                    answer = await self._http.get(target, headers=headers, timeout_seconds=timeout_seconds)
            except HttpError as error:
                raise _failure(error, acts=False) from error
            sent.answered(answer)
            return answer

    async def renew_credentials(self, *, barge: bool = False) -> None:
        """Fetch the credentials of such calls anew, after an answer that says that they do not work."""
        await (self._barge if barge else self._silent).source.renew()

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


class _Identity:
    """A source of credentials, and the signer of MonitorContact with those that it has now."""

    def __init__(self, endpoint: Endpoint, source: CredentialSource) -> None:
        self.source = source
        self._endpoint = endpoint
        self._signer: Signer | None = None

    def credentials(self) -> ReadOnlyCredentials:
        credentials = self.source.current
        if credentials is None:
            raise Failure(Reason.SERVICE_CREDENTIALS, log_text="no AWS credentials")
        return credentials

    def signer(self) -> Signer:
        credentials = self.credentials()
        if self._signer is None or self._signer.signed_with is not credentials:
            where = self._endpoint
            url = where.url + MONITOR_CONTACT_PATH
            self._signer = Signer(credentials, where.signing_name, where.region, url)
        return self._signer


def _failure(error: HttpError, *, acts: bool) -> Failure:
    """Return what it means that there is no answer; `acts`: the request would have changed something."""
    if isinstance(error, NotHttpError):
        metadata = {"aws_error": "", "http_status": ""}
        return Failure(Reason.CONNECT_BAD_RESPONSE, metadata=metadata, outcome_unknown=acts, log_text=str(error))
    sent = not isinstance(error, NotConnectedError)
    return Failure(Reason.CONNECT_UNREACHABLE, outcome_unknown=acts and sent, log_text=str(error))
