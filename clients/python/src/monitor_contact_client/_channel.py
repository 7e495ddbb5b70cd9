"""How the client reaches the service: encryption, bearer token, keepalive and the retries that gRPC makes.

Decides what may travel unencrypted. Where the service is, is `_target`'s matter; what is asked and answered is left to
`_request` and `_errors`.
"""

import asyncio
import importlib.metadata
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc
import grpc.aio
from monitor_contact.v1 import monitor_contact_pb2 as pb
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub

from ._checks import checked_text
from ._target import is_loopback, resolvable

if TYPE_CHECKING:
    from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceAsyncStub

Channel: TypeAlias = grpc.Channel
AsyncChannel: TypeAlias = grpc.aio.Channel
ChannelOption: TypeAlias = tuple[str, str | int]
BearerToken: TypeAlias = str | Callable[[], str]
Pem: TypeAlias = bytes | str | os.PathLike[str]
"""PEM text as bytes, or the path of a file that holds it."""
Pairs: TypeAlias = tuple[tuple[str, str | bytes], ...]
Answer: TypeAlias = tuple[pb.MonitorContactResponse, Iterable[tuple[str, str | bytes]] | None]
"""The response, and the trailers that came with it."""

# Retries are gRPC's own, steered by the server's pushback: the service vetoes what must not be repeated. Never a
# `timeout` in here: it ends calls 1.2-1.5 s early (grpc/grpc#34547). `tokenRatio` needs its decimal point: 1 acts as
# about 0. CANCELLED covers calls that a stopping server has not begun (grpc/grpc#41785). All measured.
SERVICE_CONFIG = """\
{"loadBalancingConfig": [{"round_robin": {}}], "retryThrottling": {"maxTokens": 100, "tokenRatio": 1.0},
 "methodConfig": [{"name": [{"service": "monitor_contact.v1.MonitorContactService"}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.1s",
  "maxBackoff": "2s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"]}}]}
"""  # noqa: E501 - one text for all languages, so that it can be compared
# Not for one address that stands for many replicas: the connection to one that stops is "unhealthy", gRPC makes no new
# one while it lives, and so every call fails until the connection has aged out (measured, behind kube-proxy's like).
HEALTH_CHECK = '{"healthCheckConfig": {"serviceName": "monitor_contact.v1.MonitorContactService"},'

KEEPALIVE_MS = 30_000  # the server cuts clients that ping more often than every 10 s
KEEPALIVE_TIMEOUT_MS = 10_000  # a dead connection is found within 40 s; gRPC's default of 20 s makes it 50


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Encryption, and optionally this client's own certificate. Each value is PEM bytes or the path of a PEM file.

    Attributes:
        root_certificates: The authorities that may vouch for the server; None means gRPC's built-in public ones.
        client_certificate: This client's certificate chain, for servers that ask for one. Needs `client_key`.
        client_key: The private key of `client_certificate`. Never shown by `repr`.
    """

    root_certificates: Pem | None = None
    client_certificate: Pem | None = None
    client_key: Pem | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together: give both or neither")


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """Everything that a channel is made from. `credentials` None means plaintext."""

    target: str
    credentials: grpc.ChannelCredentials | None
    options: tuple[ChannelOption, ...]


def channel_settings(
    target: str,
    *,
    tls: TlsOptions | None,
    insecure: bool,
    bearer_token: BearerToken | None,
    retries: bool,
    watch_health: bool,
    user_agent: str | None,
    channel_options: Iterable[ChannelOption],
) -> ChannelSettings:
    """Check how the service is to be reached, and read the TLS files.

    Args:
        target: `host:port`, or a target in gRPC's URI form.
        tls: None means plaintext.
        insecure: Whether plaintext may leave this machine.
        bearer_token: Never leaves this machine in plaintext, `insecure` or not.
        retries: Whether gRPC may repeat calls as the service config says.
        watch_health: Whether a replica is left when it says NOT_SERVING.
        user_agent: Put before this package's own name and version.
        channel_options: gRPC channel arguments that replace or join this package's.

    Raises TypeError for an argument of the wrong type, ValueError for an impossible value or combination, OSError for a
    file that cannot be read.
    """
    resolved, loopback = resolvable(target), is_loopback(target)
    _check_types(tls, bearer_token, user_agent)
    if tls is not None and insecure:
        raise ValueError("tls and insecure=True contradict each other: give one of them")
    if tls is None and bearer_token is not None and not loopback:
        raise ValueError(
            f"a bearer token is never sent unencrypted to another machine ({target}): give tls=TlsOptions(…)"
        )
    if tls is None and not loopback and not insecure:
        raise ValueError(
            f"{target} is not on this machine, so the connection must be encrypted: give tls=TlsOptions(…), "
            "or insecure=True where the network itself encrypts (a service mesh)"
        )
    options: dict[str, str | int] = {
        "grpc.service_config": HEALTH_CHECK + SERVICE_CONFIG.removeprefix("{") if watch_health else SERVICE_CONFIG,
        "grpc.enable_retries": int(retries),
        "grpc.keepalive_time_ms": KEEPALIVE_MS,
        "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
        "grpc.primary_user_agent": " ".join(filter(None, (user_agent, _own_user_agent()))),
    }
    if loopback:
        options["grpc.enable_http_proxy"] = 0  # else http_proxy takes even loopback plaintext off this machine
    return ChannelSettings(
        target=resolved,
        credentials=None if tls is None else _credentials(tls),
        options=tuple({**options, **dict(channel_options)}.items()),
    )


def open_channel(settings: ChannelSettings) -> grpc.Channel:
    """Make a blocking channel; it connects at the first call."""
    if settings.credentials is None:
        return grpc.insecure_channel(settings.target, settings.options)
    return grpc.secure_channel(settings.target, settings.credentials, settings.options)


def open_async_channel(settings: ChannelSettings) -> grpc.aio.Channel:
    """Make an asyncio channel, bound to the running loop; it connects at the first call.

    Raises RuntimeError outside a running loop.
    """
    asyncio.get_running_loop()
    if settings.credentials is None:
        return grpc.aio.insecure_channel(settings.target, settings.options)
    return grpc.aio.secure_channel(settings.target, settings.credentials, settings.options)


def call(
    stub: MonitorContactServiceStub, request: pb.MonitorContactRequest, *, timeout_seconds: float, metadata: Pairs
) -> Answer:
    """Make the call and wait for its answer. Raises grpc.RpcError."""
    response, done = stub.MonitorContact.with_call(request, timeout=timeout_seconds, metadata=metadata)
    return response, done.trailing_metadata()


async def call_async(
    stub: "MonitorContactServiceAsyncStub",
    request: pb.MonitorContactRequest,
    *,
    timeout_seconds: float,
    metadata: Pairs,
) -> Answer:
    """Make the call and await its answer. Raises grpc.RpcError, and CancelledError only if this task is cancelled."""
    started = stub.MonitorContact(request, timeout=timeout_seconds, metadata=metadata)
    try:
        return await started, await started.trailing_metadata()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Closing the channel in another task cancels the call, not this task: gRPC raises CancelledError all the same.
        raise _closed_meanwhile() from None


def _closed_meanwhile() -> grpc.aio.AioRpcError:
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, none, none, details="the client was closed during the call")


def bearer_metadata(bearer_token: BearerToken | None) -> Pairs:
    """Return the authorization header of one call, or nothing without a token; a callable is asked anew each time.

    Raises ValueError for an empty token or one that no header can carry, TypeError if the callable returns no str;
    neither holds the token.
    """
    if bearer_token is None:
        return ()
    token: object = bearer_token if isinstance(bearer_token, str) else bearer_token()
    if not isinstance(token, str):
        raise TypeError(f"bearer_token must return a str, not {type(token).__name__}")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("the bearer token is empty or has spaces, control or non-ASCII characters")
    return (("authorization", f"Bearer {token}"),)


def _check_types(tls: object, bearer_token: object, user_agent: object) -> None:
    if tls is not None and not isinstance(tls, TlsOptions):
        raise TypeError(f"tls must be TlsOptions(…) or None, not {type(tls).__name__}")
    if isinstance(bearer_token, str):
        bearer_metadata(bearer_token)
    elif bearer_token is not None and not callable(bearer_token):
        raise TypeError(f"bearer_token must be a str or a callable that returns one, not {type(bearer_token).__name__}")
    if user_agent is not None:
        checked_text("user_agent", user_agent)


def _credentials(tls: TlsOptions) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_pem("root_certificates", tls.root_certificates, "CERTIFICATE"),
        private_key=_pem("client_key", tls.client_key, "PRIVATE KEY"),
        certificate_chain=_pem("client_certificate", tls.client_certificate, "CERTIFICATE"),
    )


def _pem(name: str, value: Pem | None, kind: str) -> bytes | None:
    """Return the PEM text. gRPC by itself takes anything, and no handshake ever succeeds."""
    if value is None:
        return None
    if not isinstance(value, bytes | str | os.PathLike):
        raise TypeError(f"{name} must be PEM text as bytes or the path of a PEM file, not {type(value).__name__}")
    if not isinstance(value, bytes) and "-----BEGIN" in str(value):  # as a path, a key would end up in an OSError
        raise ValueError(f"{name} is PEM text as str: give it as bytes, or give the path of a file")
    content = value if isinstance(value, bytes) else Path(value).read_bytes()
    if not re.search(rf"-----BEGIN [A-Z0-9 ]*{kind}-----".encode(), content):
        raise ValueError(f"{name} must be PEM text with a line -----BEGIN {kind}-----, or the path of such a file")
    return content


def _own_user_agent() -> str:
    return f"monitor-contact-client/{importlib.metadata.version('monitor-contact-client')}"
