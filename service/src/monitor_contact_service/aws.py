"""What AWS's own configuration says: where Connect is, and with which credentials to call it.

boto3 decides all of it (profiles, environment, web identity, container credentials, endpoint overrides, FIPS, dual
stack, proxies, CA bundles), so it works as its users know it. Calling Connect is the matter of `connect`.
"""

import asyncio
import logging
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialResolver,
    DeferredRefreshableCredentials,
    ReadOnlyCredentials,
)
from botocore.exceptions import BotoCoreError, CredentialRetrievalError, HTTPClientError, NoRegionError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from .address import Address
from .core.wire import MONITOR_CONTACT_PATH
from .settings import ConfigurationError
from .telemetry import fields

_log = logging.getLogger(__name__)

_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")

# Refreshable credentials renew themselves when asked within 15 minutes of their end (botocore).
POLL_SECONDS: Final = 30.0
# While there are none, ask more often: the service is NOT_SERVING until they come.
POLL_WITHOUT_SECONDS: Final = 2.0
# Calls that fail together renew once.
RENEW_INTERVAL_SECONDS: Final = 1.0

_NO_REGION: Final = (
    "no AWS Region: set AWS_REGION (for example AWS_REGION=eu-central-1) or a profile with one (AWS_PROFILE)"
)
_NO_CREDENTIALS: Final = (
    "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with an IAM role "
    "(IRSA, EKS Pod Identity, ECS, EC2)"
)
_UNSAFE_ENDPOINT: Final = (
    "must be https; plain http is accepted on loopback only (the simulator). Check AWS_ENDPOINT_URL_CONNECT, "
    "AWS_ENDPOINT_URL and endpoint_url in the AWS config file"
)

_FOREIGN_ENDPOINT: Final = (
    "is neither Connect's in this Region nor on loopback. Unset AWS_ENDPOINT_URL_CONNECT, AWS_ENDPOINT_URL and "
    "endpoint_url in the AWS config file, or allow it with MONITOR_CONTACT_ALLOW_ENDPOINT={host}"
)

# CloudTrail tells calls with BARGE by it from all the others of this service.
BARGE_SESSION_NAME: Final = "monitor-contact-barge"

MakeSession = Callable[[], botocore.session.Session]


def new_session() -> botocore.session.Session:
    """Return a session that has read the configuration anew. AWS_REGION works, as in every SDK but botocore."""
    session = botocore.session.Session()
    if region := os.environ.get("AWS_REGION"):
        session.set_config_variable("region", region)
    return session


class _AssumedRole:
    """Puts a role in place of the credentials that a session has by itself: botocore's `credential_provider`."""

    def __init__(self, session: botocore.session.Session, role_arn: str) -> None:
        self._session = session
        self._own: CredentialResolver = session.get_component("credential_provider")
        self._role_arn = role_arn

    def load_credentials(self) -> DeferredRefreshableCredentials | None:
        """Return credentials that ask STS when they are first needed and before they end; None without own ones."""
        own = self._own.load_credentials()
        if own is None:
            return None
        fetcher = AssumeRoleCredentialFetcher(
            self._session.create_client, own, self._role_arn, extra_args={"RoleSessionName": BARGE_SESSION_NAME}
        )
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def new_barge_session(role_arn: str) -> botocore.session.Session:
    """Return a session whose credentials are those of the role, assumed with the ones that it would have otherwise."""
    session = new_session()
    session.register_component("credential_provider", _AssumedRole(session, role_arn))
    return session


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Connect is. `url` is what the operation's path is put after; `proxy` is None for a direct connection."""

    url: str
    region: str
    signing_name: str
    user_agent: str
    ca_file: str
    proxy: str | None

    def tls_context(self) -> ssl.SSLContext:
        """Return what boto3 would trust."""
        return ssl.create_default_context(cafile=self.ca_file)


class _CapturedError(Exception):
    """Ends boto3's dry run with the request that it would have sent."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__()
        self.request = request


def resolve_endpoint(session: botocore.session.Session, allow_host: str = "") -> Endpoint:
    """Return what boto3 would call for MonitorContact, by asking it: a dry run, stopped before anything is sent.

    Args:
        session: AWS's configuration.
        allow_host: the one host besides AWS's own and loopback that may get signed calls; "" for none.

    Raises:
        ConfigurationError: no Region, or an endpoint that must not get signed calls.
    """
    request = _dry_run(session)
    scope = _SCOPE.search(_header(request, "Authorization"))
    if scope is None:
        raise ConfigurationError(["boto3 does not sign with AWS4-HMAC-SHA256 here: check AWS_AUTH_SCHEME_PREFERENCE"])
    url = request.url.removesuffix(MONITOR_CONTACT_PATH)
    _require_safe(url)
    _require_allowed(url, scope["region"], session, allow_host)
    return Endpoint(
        url=url,
        region=scope["region"],
        signing_name=scope["service"],
        user_agent=_header(request, "User-Agent"),
        ca_file=_ca_file(session),
        proxy=_proxy(url),
    )


def _dry_run(session: botocore.session.Session) -> AWSPreparedRequest:
    def capture(request: AWSPreparedRequest, **_: object) -> None:
        raise _CapturedError(request)

    try:
        client = boto3.Session(botocore_session=session).client(
            "connect",
            aws_access_key_id="dry-run",
            aws_secret_access_key="dry-run",  # noqa: S106 - never sent: the run ends before
            config=Config(retries={"total_max_attempts": 1}),
        )
        client.meta.events.register("before-send.connect.MonitorContact", capture)
        client.monitor_contact(InstanceId="dry-run", ContactId="dry-run", UserId="dry-run")
    except _CapturedError as captured:
        return captured.request
    except NoRegionError as error:
        raise ConfigurationError([_NO_REGION]) from error
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError([f"AWS configuration: {error}"]) from error
    raise ConfigurationError(["boto3 sends nothing for MonitorContact"])


def _header(request: AWSPreparedRequest, name: str) -> str:
    value = request.headers[name]
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _ca_file(session: botocore.session.Session) -> str:
    configured = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    if configured and not os.access(configured, os.R_OK):
        raise ConfigurationError([f"CA bundle {configured}: cannot be read; check AWS_CA_BUNDLE and ca_bundle"])
    return str(configured or get_cert_path(verify=True))


def _proxy(url: str) -> str | None:
    """Return the URL of the proxy for an endpoint; without a scheme it is http, as for botocore."""
    proxy = get_environ_proxies(url).get(urlsplit(url).scheme)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy.removeprefix('//')}"
    parts = urlsplit(proxy)
    try:
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # what stands for the port is none
        usable = False
    if not usable:  # its text may hold a password
        raise ConfigurationError(["the proxy is no http:// or https:// URL: check HTTPS_PROXY and HTTP_PROXY"])
    return proxy


def _require_safe(url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ConfigurationError(
            [f"endpoint {parts.scheme}://…@{parts.hostname}: must not hold a user name or password"]
        )
    if parts.scheme == "https":
        return
    host = Address(parts.hostname or "", parts.port or 0)
    if parts.scheme != "http" or not host.is_loopback:
        raise ConfigurationError([f"endpoint {parts.scheme}://{host}: {_UNSAFE_ENDPOINT}"])


def _require_allowed(url: str, region: str, session: botocore.session.Session, allow_host: str) -> None:
    """Let a variable alone redirect nothing: who could set it would read whom callers listen to, and answer for AWS."""
    host = urlsplit(url).hostname or ""
    if not Address(host, 0).is_loopback and host != allow_host.lower() and not is_connects(host, region, session):
        raise ConfigurationError([f"endpoint {url}: {_FOREIGN_ENDPOINT.format(host=host)}"])


def is_connects(host: str, region: str, session: botocore.session.Session) -> bool:
    """Return whether a host (in lower case) is Connect's in the Region, in any partition; interface endpoints too.

    Not simply whatever is below amazonaws.com: AWS's customers have names there.
    """
    suffixes = "|".join(re.escape(suffix) for suffix in _suffixes(session))
    own = rf"(.+\.)?connect(-fips)?\.{re.escape(region)}(\.vpce)?\.({suffixes})"
    return re.fullmatch(own, host) is not None


def _suffixes(session: botocore.session.Session) -> set[str]:
    """Return what the names of AWS's hosts end with in all its partitions, dual stack included."""
    partitions = session.get_component("data_loader").load_data("partitions")["partitions"]
    return {partition["outputs"][name] for partition in partitions for name in ("dnsSuffix", "dualStackDnsSuffix")}


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
