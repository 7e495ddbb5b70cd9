"""What `monitor-contact call` finds wrong before anything is sent, which gRPC would misunderstand or not explain.

What the request means is the service's to judge; files and tokens are read in `call`.
"""

import argparse
import re
import sys
from typing import ClassVar, Final

import grpc
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest

from .address import parse_address
from .core import metadata as limits
from .exits import EXIT_USAGE, CannotStartError
from .reasons import Advice

_MAX_TIMEOUT_SECONDS: Final = 1_000_000.0  # choice: eleven days; from 9e9 s on gRPC ends the call at once (measured)
_MAX_REQUEST_BYTES: Final = 16_384  # `server`: grpc.max_receive_message_length
_GRPCS_OWN_BYTES: Final = 1_024  # of metadata: 583 with a short target (measured)
_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")  # grpc/doc/naming.md
_HOST: Final = re.compile(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+(%[\w.-]+)?")  # a name, or IPv6 without its brackets
_TARGET: Final = "must be host:port or [ipv6]:port, for example 127.0.0.1:50051, or a gRPC target such as dns:///…"

Pairs = tuple[tuple[str, str | bytes], ...]
Answer = tuple[dict[str, object], int]
"""What to print, and the exit code."""


class WrongUsageError(CannotStartError):
    """What was typed cannot be sent."""

    exit_code: ClassVar[int] = EXIT_USAGE


def check(arguments: argparse.Namespace) -> None:
    """Return if the options can be right.

    Raises:
        WrongUsageError: with every one that cannot.
    """
    problems = [
        f"--{name.replace('_', '-')}: must be UTF-8 text"
        for name in ("target", "instance_id", "contact_id", "user_id", "client_token")
        if not _is_utf8(getattr(arguments, name))
    ]
    if not _is_target(arguments.target):
        problems.append(f"--target {arguments.target}: {_TARGET}")
    if not 0 < arguments.timeout <= _MAX_TIMEOUT_SECONDS:  # said so that NaN is refused too
        problems.append(f"--timeout: must be a number of seconds above 0 and at most {_MAX_TIMEOUT_SECONDS:,.0f}")
    # `>&-` closes it; found here, nothing has begun yet.
    if sys.stdout is None:
        problems.append("stdout is closed: the answer goes there, or to /dev/null")
    if problems:
        raise WrongUsageError(problems)


def _is_utf8(text: str) -> bool:
    """Return False for an argument of other bytes, which Python holds as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_target(text: str) -> bool:
    """Return whether gRPC would go where it says: by itself gRPC takes a port modulo 65536, and 443 for none."""
    if text.startswith(_SCHEMES):
        return True
    try:
        address = parse_address(text)
    except ValueError:
        return False
    return address.port > 0 and _HOST.fullmatch(address.host) is not None


def too_large(request: MonitorContactRequest, metadata: Pairs) -> Answer | None:
    """Return the answer to a request that gRPC would refuse without a reason, None if it may be sent."""
    most = limits.MAX_BYTES - _GRPCS_OWN_BYTES
    size = sum(len(key) + len(value) + limits.ENTRY_BYTES for key, value in metadata)
    if request.ByteSize() > _MAX_REQUEST_BYTES:
        message = f"the request has {request.ByteSize()} bytes, the service accepts {_MAX_REQUEST_BYTES}"
    elif size > most:
        message = f"reason, ticket and tokens have {size} bytes, the service accepts {most}"
    else:
        return None
    return {"code": grpc.StatusCode.RESOURCE_EXHAUSTED.name, "message": message}, Advice.FIX_REQUEST.value
