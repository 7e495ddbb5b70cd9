"""Keeps the credentials to sign with fresh; they are found where AWS's own configuration says (`aws`)."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

import botocore.session
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError, HTTPClientError

from .settings import ConfigurationError
from .telemetry import fields

_log = logging.getLogger(__name__)

# Refreshable credentials renew themselves when asked within 15 minutes of their end (botocore).
POLL_SECONDS: Final = 30.0
# While there are none, ask more often: the service is NOT_SERVING until they come.
POLL_WITHOUT_SECONDS: Final = 2.0
# Calls that fail together renew once.
RENEW_INTERVAL_SECONDS: Final = 1.0

_NO_CREDENTIALS: Final = (
    "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with an IAM role "
    "(IRSA, EKS Pod Identity, ECS, EC2)"
)

MakeSession = Callable[[], botocore.session.Session]


class Credentials:
    """The credentials to sign with, kept fresh by a thread beside the event loop.

    Args:
        make_session: a new botocore session: renewing means to go through the whole provider chain again.
        clock: monotonic seconds.
    """

    def __init__(self, make_session: MakeSession, *, clock: Callable[[], float]) -> None:
        self._make_session = make_session
        self._session = make_session()
        self._clock = clock
        self._lock = asyncio.Lock()
        self._renewed_at = float("-inf")
        self._renewing: asyncio.Future[None] | None = None
        self.current: ReadOnlyCredentials | None = None
        self.expires_at: float | None = None  # epoch seconds; None for never, or unknown

    def require_configured(self) -> None:
        """Block until the provider chain has been walked once.

        Raises:
            ConfigurationError: no provider has credentials, or one is configured wrongly. A provider that is only
                out of reach now is not an error: credentials may come later.
        """
        try:
            found = self._session.get_credentials()
        except (HTTPClientError, CredentialRetrievalError):
            return
        except Exception as error:  # as in _fetch
            raise ConfigurationError([f"AWS credentials: {error}"]) from error
        if found is None:
            raise ConfigurationError([_NO_CREDENTIALS])

    async def renew(self) -> None:
        """Fetch anew, through the whole chain: what Connect says of the present ones is that they do not work."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.ensure_future(self._renew())
        # A caller that gives up must not end the fetch that others wait for, nor let the next one start another.
        await asyncio.shield(self._renewing)

    async def _renew(self) -> None:
        async with self._lock:
            if self._clock() - self._renewed_at < RENEW_INTERVAL_SECONDS:
                return
            await self._fetch(anew=True)
            self._renewed_at = self._clock()

    async def keep_fresh(self, on_fetched: Callable[[bool], None]) -> None:
        """Fetch now and then for ever, and tell each time whether there are credentials; ends with its task."""
        while True:
            async with self._lock:
                await self._fetch(anew=self.current is None)
            on_fetched(self.current is not None)
            await asyncio.sleep(POLL_SECONDS if self.current else POLL_WITHOUT_SECONDS)

    async def _fetch(self, *, anew: bool) -> None:
        try:
            self.current = await asyncio.to_thread(self._read, anew=anew)
        except Exception as error:  # noqa: BLE001 - STS' ClientError, and whatever a credential_process makes botocore raise
            # The old ones may still be good: Connect says so if not.
            _log.warning("credentials not fetched", extra=fields(error=f"{type(error).__name__}: {error}"))

    def _read(self, *, anew: bool) -> ReadOnlyCredentials | None:
        if anew:
            self._session = self._make_session()
        credentials = self._session.get_credentials()
        if credentials is None:
            return None
        frozen = credentials.get_frozen_credentials()
        expiry = getattr(credentials, "_expiry_time", None)  # botocore keeps it to itself
        self.expires_at = expiry.timestamp() if isinstance(expiry, datetime) else None
        return frozen
