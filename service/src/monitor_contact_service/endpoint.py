"""Decides where Connect is, by AWS's own configuration, and that nothing else gets signed calls."""

import os
import re
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, NoRegionError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from .address import Address
from .core.wire import MONITOR_CONTACT_PATH
from .settings import ConfigurationError

_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")

_NO_REGION: Final = (
    "no AWS Region: set AWS_REGION (for example AWS_REGION=eu-central-1) or a profile with one (AWS_PROFILE)"
)
_UNSAFE_ENDPOINT: Final = (
    "must be https; plain http is accepted on loopback only (the simulator). Check AWS_ENDPOINT_URL_CONNECT, "
    "AWS_ENDPOINT_URL and endpoint_url in the AWS config file"
)
_FOREIGN_ENDPOINT: Final = (
    "is neither Connect's in this Region nor on loopback. Unset AWS_ENDPOINT_URL_CONNECT, AWS_ENDPOINT_URL and "
    "endpoint_url in the AWS config file, or allow it with MONITOR_CONTACT_ALLOW_ENDPOINT={host}"
)


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


def resolve_endpoint(session: botocore.session.Session, allow_host: str | None = "") -> Endpoint:
    """Return what boto3 would call for MonitorContact, by asking it: a dry run, stopped before anything is sent.

    Args:
        session: AWS's configuration.
        allow_host: the one host besides AWS's own and loopback that may get signed calls; "" for none, None where it
            is not known yet and no host is judged: for finding other faults only.

    Raises:
        ConfigurationError: no Region, or an endpoint that must not get signed calls.
    """
    request = _dry_run(session)
    scope = _SCOPE.search(_header(request, "Authorization"))
    if scope is None:
        raise ConfigurationError(["boto3 does not sign with AWS4-HMAC-SHA256 here: check AWS_AUTH_SCHEME_PREFERENCE"])
    url = request.url.removesuffix(MONITOR_CONTACT_PATH)
    _require_safe(url)
    if allow_host is not None:
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
    if parts.scheme != "http" or not Address(parts.hostname or "", 0).is_loopback:
        raise ConfigurationError([f"endpoint {url}: {_UNSAFE_ENDPOINT}"])


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
