"""Assembles the gRPC server: limits, interceptor, the service, health, reflection. Neither starts nor stops it."""

import socket
from collections.abc import Callable, Sequence
from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from monitor_contact.v1 import monitor_contact_pb2
from monitor_contact.v1.monitor_contact_pb2_grpc import (
    MonitorContactServiceServicer,
    add_MonitorContactServiceServicer_to_server,
)

from .address import Address, is_ip_address
from .exits import CannotStartError
from .health import Health
from .interceptors import CallGuard
from .reflection import SERVICES as REFLECTION_SERVICES
from .reflection import Reflection
from .settings import Settings
from .variables import variable

SERVICE: Final = monitor_contact_pb2.DESCRIPTOR.services_by_name["MonitorContactService"].full_name
_UNBOUNDED: Final = 2**31 - 1  # the largest channel argument
_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class PortTakenError(CannotStartError):
    """Another process listens where this one should."""


def build(
    settings: Settings,
    *,
    handler: MonitorContactServiceServicer,
    health: Health,
    reflection: Reflection | None,
    guard: CallGuard | None = None,
) -> grpc.aio.Server:
    """Return the server, with everything registered but without a port. Without a guard nothing is counted."""
    server = grpc.aio.server(interceptors=(guard or CallGuard(),), options=_options(settings))
    add_MonitorContactServiceServicer_to_server(handler, server)
    add_HealthServicer_to_server(health, server)  # type: ignore[no-untyped-call]  # generated
    if reflection is not None:
        server.add_generic_rpc_handlers(reflection.handlers())
    return server


def services() -> Sequence[str]:
    """Return the full names of all that reflection lists."""
    return (SERVICE, _HEALTH, *REFLECTION_SERVICES)


def build_health(health: Health) -> grpc.aio.Server:
    """Return a server with health alone, for probes: they speak neither TLS nor our metadata."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    add_HealthServicer_to_server(health, server)  # type: ignore[no-untyped-call]  # generated
    return server


def listen(
    server: grpc.aio.Server,
    address: Address,
    credentials: Callable[[], grpc.ServerCredentials] | None = None,
    *,
    field: str = "listen",
) -> Address:
    """Bind the server to `address` and return it with the port that it got. Without credentials in plain text.

    Args:
        server: not started yet.
        address: where; port 0 lets the system choose.
        credentials: for TLS; asked for with each of the addresses that a name has.
        field: the setting that the address comes from.

    Raises:
        PortTakenError: the port is in use, or the host is not one of this machine's.
    """
    try:
        port = _bind(server, address, credentials) if credentials else server.add_insecure_port(str(address))
    except (RuntimeError, OSError) as error:
        problem = f"cannot listen on {address}: another process does already, or the host is not of this machine"
        raise PortTakenError([f"{problem}; {variable(field)} names another address"]) from error
    return Address(address.host, port)


def _bind(server: grpc.aio.Server, address: Address, credentials: Callable[[], grpc.ServerCredentials]) -> int:
    """Bind TLS to each address of the host, on one port; return it. Raises RuntimeError or OSError if there is none."""
    if is_ip_address(address.host):
        return server.add_secure_port(str(address), credentials())
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    port, failed = address.port, None
    bound = False
    for host in dict.fromkeys(str(each[4][0]) for each in found):
        try:
            port = server.add_secure_port(str(Address(host, port)), credentials())
            bound = True
        except RuntimeError as error:  # as gRPC does: a machine may have a name's IPv4 address and not the other
            failed = error
    if not bound:
        raise failed or RuntimeError(address.host)
    return port


def _options(settings: Settings) -> Sequence[tuple[str, int]]:
    """Return gRPC's channel arguments. Unknown ones are accepted silently, so tests check the effect of each."""
    grace_seconds = settings.max_deadline_seconds + 5
    return (
        ("grpc.so_reuseport", 0),  # 1 lets a second server bind the same port without a word
        # Bounds rapid reset (CVE-2023-44487). Further calls of a connection wait in the client; those that come before
        # it has heard of the limit are refused unsent, which every gRPC client with a retry policy repeats (measured).
        ("grpc.max_concurrent_streams", 100),
        # With some thousand calls in flight gRPC by itself cancels new ones at random, without a reason (measured: the
        # first between 1,900 and 2,500). How many there may be decides `admission`, which says why.
        ("grpc.server.max_pending_requests", _UNBOUNDED),
        ("grpc.server.max_pending_requests_hard_limit", _UNBOUNDED),
        ("grpc.max_connection_age_ms", round(settings.max_connection_age_seconds * 1000)),
        # Longer than any deadline, or calls end with a bare UNAVAILABLE "max connection age".
        ("grpc.max_connection_age_grace_ms", round(grace_seconds * 1000)),
        ("grpc.max_connection_idle_ms", 300_000),
        # Further ones are closed at once; without a bound each costs memory and a descriptor.
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        # By default anybody could hold a connection for two minutes without a word. Choice: a handshake takes 2 ms
        # (measured), with a slow network and a busy server far less than this.
        ("grpc.server_handshake_timeout_ms", 5_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.max_receive_message_length", 16_384),  # the largest valid request has 4.5 KB
        # Equal on purpose: with unequal values gRPC refuses at random in between.
        ("grpc.max_metadata_size", 8_192),
        ("grpc.absolute_max_metadata_size", 8_192),
    )
