"""Where the service is: what a target may look like, how gRPC is to resolve it, whether it stays on this machine.

What may travel there, and how, is decided in `_channel`.
"""

import ipaddress
import re

# Targets in gRPC's URI form (grpc/doc/naming.md); everything else is host:port.
SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:", "google-c2p:")

_HOST_AND_PORT = re.compile(r"(\[(?P<v6>[0-9A-Fa-f:.]+(%[\w.-]+)?)\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})")
_RIGHT = (
    "target must be host:port without http://, port 1 to 65535, for example 'monitor-contact.internal:443', "
    "or a gRPC target such as 'dns:///monitor-contact.internal:443'"
)


def resolvable(target: object) -> str:
    """Return the target as gRPC resolves it: names through DNS, so that round_robin sees every address.

    Raises TypeError for what is no str, ValueError for what is neither host:port nor in gRPC's URI form: gRPC by itself
    takes a port modulo 65536, port 443 where there is none, and any text for a host.
    """
    if not isinstance(target, str):
        raise TypeError(f"{_RIGHT}, not {type(target).__name__}")
    by_scheme = target.startswith(SCHEMES) and target.isprintable() and " " not in target
    if not by_scheme and not _is_host_and_port(target):
        raise ValueError(f"{_RIGHT}, not {target!r}")
    return target if by_scheme or _ip_of(target) else f"dns:///{target}"


def is_loopback(target: str) -> bool:
    """Tell whether the target certainly stays on this machine: a Unix socket, `localhost` or a loopback address."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    if target.startswith(("ipv4:", "ipv6:")):
        return all(_is_loopback_address(each) for each in target.split(":", 1)[1].split(","))
    authority = target.removeprefix("dns:").removeprefix("///")
    return _host_of(authority) == "localhost" or _is_loopback_address(authority)


def _is_host_and_port(target: str) -> bool:
    found = _HOST_AND_PORT.fullmatch(target)
    if found is None or not 1 <= int(found["port"]) <= 65_535:  # noqa: PLR2004 - TCP
        return False
    return found["v6"] is None or _ip_of(target) is not None


def _is_loopback_address(authority: str) -> bool:
    address = _ip_of(authority)
    return address is not None and address.is_loopback


def _ip_of(authority: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_host_of(authority))
    except ValueError:
        return None


def _host_of(authority: str) -> str:
    """Return the host of `host`, `host:port`, `[v6]:port` or a bare IPv6 address."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    host, colon, _ = authority.rpartition(":")
    return host if colon and ":" not in host else authority
