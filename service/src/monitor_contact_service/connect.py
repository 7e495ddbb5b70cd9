"""The transport to Connect: signs and sends one HTTP call and reads its answer; foreign errors become `Failure` here.

Sends exactly once per call: repeating is the matter of `attempts`, what an answer means that of `core.wire`.
"""

import asyncio
import logging
import math
from collections.abc import Iterable
from typing import Final, Protocol

import aiohttp
import yarl
from botocore.credentials import ReadOnlyCredentials

from .aws import Endpoint
from .core.command import MonitoringSession
from .core.failures import Failure, Reason
from .core.wire import ANSWER_MAX_BYTES, MONITOR_CONTACT_PATH, Answer, read_answer
from .signing import DayKeySigner
from .telemetry import fields

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS: Final = 1.0
# Connections are thrown away after 15 s without use: before any front end that is known to close idle ones (20 s and
# more), and pinged before that, so that some are always open.
KEEP_ALIVE_SECONDS: Final = 15.0
WARM_INTERVAL_SECONDS: Final = 10.0
# Connect's quota is 2 requests/s: two open connections carry what it allows.
WARM_CONNECTIONS: Final = 2


class CredentialSource(Protocol):
    """Where the credentials come from."""

    @property
    def current(self) -> ReadOnlyCredentials | None:
        """The credentials to sign with now."""

    async def renew(self) -> None:
        """Fetch them anew."""


def open_http(endpoint: Endpoint, *, max_connections: int) -> aiohttp.ClientSession:
    """Return the session to reach `endpoint` with; it must be made inside the running event loop, and closed."""
    tls = endpoint.tls_context() if endpoint.url.startswith("https:") else True
    connector = aiohttp.TCPConnector(limit=max_connections, ssl=tls, keepalive_timeout=KEEP_ALIVE_SECONDS)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # nothing compressed is asked for; what comes all the same is not unpacked
        # A failure of the transport is retried by `attempts` alone.
        headers={"User-Agent": endpoint.user_agent, "Accept-Encoding": "identity"},
        proxy=endpoint.proxy,
    )


class Connect:
    """One Connect endpoint.

    Args:
        endpoint: where it is.
        credentials: what to sign with.
        http: made by `open_http`; not closed here.
    """

    def __init__(self, *, endpoint: Endpoint, credentials: CredentialSource, http: aiohttp.ClientSession) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._http = http
        self._url = endpoint.url + MONITOR_CONTACT_PATH
        # encoded=True: yarl must not rewrite what was signed.
        self._yarl_url = yarl.URL(self._url, encoded=True)
        self._signer: DayKeySigner | None = None

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
        headers = self._signed_headers(body)
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
        timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_SECONDS * 2, connect=CONNECT_TIMEOUT_SECONDS)
        try:
            async with self._http.get(self._endpoint.url, allow_redirects=False, timeout=timeout) as response:
                await _read_limited(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.info("Connect not reachable for warming up", extra=fields(error=f"{type(error).__name__}: {error}"))

    def _signed_headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        self._current_signer().sign(self._url, headers, body)
        return headers

    def _current_signer(self) -> DayKeySigner:
        credentials = self._credentials.current
        if credentials is None:
            raise Failure(Reason.SERVICE_CREDENTIALS, log_text="no AWS credentials")
        if self._signer is None or self._signer.signed_with is not credentials:
            self._signer = DayKeySigner(credentials, self._endpoint.signing_name, self._endpoint.region)
        return self._signer

    async def _send(self, body: bytes, headers: dict[str, str], timeout_seconds: float) -> Answer:
        timeout = aiohttp.ClientTimeout(
            total=timeout_seconds,
            connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds),  # name look-up included
            ceil_threshold=math.inf,  # aiohttp rounds 5 s and more up to whole seconds: past the caller's deadline
        )
        try:
            async with self._http.post(
                self._yarl_url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return Answer(response.status, _lower(response.headers.items()), await _read_limited(response))
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError) as error:
            raise _unreachable(error, sent=False) from error
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
            raise _unreachable(error, sent=True) from error
        except TimeoutError as error:  # also aiohttp's SocketTimeoutError
            raise _unreachable(error, sent=True) from error
        except aiohttp.ClientError as error:  # not HTTP at all
            metadata = {"aws_error": "", "http_status": ""}
            raise Failure(
                Reason.CONNECT_BAD_RESPONSE, metadata=metadata, outcome_unknown=True, log_text=_said(error)
            ) from error


async def _read_limited(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, cut after one byte more than the limit: what is longer makes no sense and is not read."""
    if response.content_length is not None and response.content_length <= ANSWER_MAX_BYTES:
        return await response.read()
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_MAX_BYTES:
            response.close()
            break
    return bytes(body[: ANSWER_MAX_BYTES + 1])


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


def _unreachable(error: Exception, *, sent: bool) -> Failure:
    return Failure(Reason.CONNECT_UNREACHABLE, outcome_unknown=sent, log_text=_said(error))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
