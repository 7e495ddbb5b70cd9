"""Where to listen: `host:port` as text and as a value. Opens nothing."""

import ipaddress
from typing import NamedTuple


class Address(NamedTuple):
    """A host, IPv6 without its brackets, and a port; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True for `localhost` and every loopback IP address."""
        if self.host == "localhost":
            return True
        return is_ip_address(self.host) and ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_ip_address(host: str) -> bool:
    """Return whether a host is an IP address, IPv6 without its brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_address(text: str) -> Address:
    """Return the address that `host:port` or `[ipv6]:port` names.

    Raises:
        ValueError: it does not have that form.
    """
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        separator = ""  # an IPv6 address without brackets
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - TCP
        raise ValueError("must be host:port or [ipv6]:port, for example 127.0.0.1:50051")
    return Address(host, int(port))
