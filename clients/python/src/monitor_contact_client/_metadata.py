"""What travels beside the request: who wants it and why, the caller's own metadata, and how much of it there may be.

The bearer token is made in `_channel`; what the values mean is the service's to judge.
"""

import re
from collections.abc import Iterable, Mapping

from ._channel import Pairs
from ._checks import checked_text
from ._errors import RequestTooLarge
from ._types import Metadata

MAX_ORIGIN_CHARACTERS = 256  # of reason and ticket each: the service's limit
# The service's 8 KiB, less 1 KiB for gRPC's own headers: 583 bytes with a short target and user agent, 59 more when
# gRPC repeats the call (measured). Name, value and 32 for each entry, as HTTP/2 counts (RFC 9113, 6.5.2).
MAX_METADATA_BYTES = 7_168
ENTRY_BYTES = 32

_KEY = re.compile(r"[a-z0-9_.-]+")  # gRPC over HTTP/2, Custom-Metadata
_VALUE = re.compile(r"[\x20-\x7e]*")  # same, ASCII-Value
_REASON, _TICKET, _END_USER_TOKEN = "x-monitor-reason", "x-monitor-ticket", "x-end-user-token"


def call_metadata(
    metadata: Metadata,
    *,
    reason: str | None,
    ticket: str | None,
    end_user_token: str | None,
    may_send_tokens: bool,
) -> Pairs:
    """Return all that is sent beside one request, except the bearer token.

    Args:
        metadata: The caller's own.
        reason: Sent as x-monitor-reason unless it is None or empty.
        ticket: Sent as x-monitor-ticket unless it is None or empty.
        end_user_token: Sent as x-end-user-token unless it is None.
        may_send_tokens: False where the connection is plaintext and leaves this machine.

    Raises as `checked_metadata`, ValueError for a value that the service would refuse and for a token that must not be
    sent, TypeError for what is no text; no error shows a value.
    """
    pairs = (
        *_origin(_REASON, "reason", reason),
        *_origin(_TICKET, "ticket", ticket),
        *_end_user(end_user_token, may_send_tokens=may_send_tokens),
        *checked_metadata(metadata),
    )
    keys = [key for key, _ in pairs]
    for key in (_REASON, _TICKET):
        if keys.count(key) > 1:
            raise ValueError(f"metadata key {key!r} is given twice: the service takes one")
    return pairs


def checked_metadata(metadata: Metadata) -> Pairs:
    """Return the caller's metadata as a tuple of pairs.

    Raises TypeError for what is no pairs of text, ValueError for what gRPC would refuse, and for tokens. gRPC's own
    error would show all values, the bearer token too; these show none.
    """
    pairs = _pairs(metadata)
    for key, value in pairs:
        if key == "authorization":
            raise ValueError("metadata cannot carry authorization: give bearer_token to the client")
        if key == _END_USER_TOKEN:
            raise ValueError(f"metadata cannot carry {_END_USER_TOKEN}: give end_user_token to the call")
        binary = key.endswith("-bin")
        if not _KEY.fullmatch(key) or isinstance(value, bytes) != binary:
            raise ValueError(
                f"metadata key {key!r}: lower case letters, digits, _.- only; bytes only under a …-bin key"
            )
        if isinstance(value, str) and not _VALUE.fullmatch(value):
            raise ValueError(f"the value of metadata key {key!r} has control or non-ASCII characters")
    return pairs


def checked_size(pairs: Pairs, client_token: str) -> Pairs:
    """Return the pairs, all that is sent beside one request. RequestTooLarge: the service would refuse so much."""
    size = sum(len(key) + len(value) + ENTRY_BYTES for key, value in pairs)
    if size > MAX_METADATA_BYTES:
        raise RequestTooLarge(
            f"metadata, reason, ticket and tokens have {size} bytes, the service accepts {MAX_METADATA_BYTES}",
            client_token=client_token,
        )
    return pairs


def _pairs(metadata: object) -> Pairs:
    if isinstance(metadata, Mapping) or not isinstance(metadata, Iterable):
        raise TypeError(
            f"metadata must be pairs such as [('traceparent', '…')], not {type(metadata).__name__}; "
            "of a dict give its items()"
        )
    return tuple(_pair(number, each) for number, each in enumerate(metadata))


def _pair(number: int, pair: object) -> tuple[str, str | bytes]:
    match pair:
        case (str() as key, (str() | bytes()) as value):
            return key, value
    raise TypeError(f"metadata[{number}] must be a pair of a str and a str or bytes, such as ('traceparent', '…')")


def _origin(key: str, argument: str, value: str | None) -> Pairs:
    if value is None or not checked_text(argument, value):
        return ()
    if len(value) > MAX_ORIGIN_CHARACTERS or not _VALUE.fullmatch(value):
        raise ValueError(f"{argument} must have at most {MAX_ORIGIN_CHARACTERS} characters, all printable ASCII")
    return ((key, value),)


def _end_user(token: str | None, *, may_send_tokens: bool) -> Pairs:
    if token is None:
        return ()
    if not may_send_tokens:
        raise ValueError("end_user_token is never sent unencrypted to another machine: give tls=TlsOptions(…)")
    checked_text("end_user_token", token)
    if not token or not _VALUE.fullmatch(token) or " " in token:
        raise ValueError("end_user_token is empty or has spaces, control or non-ASCII characters")
    return ((_END_USER_TOKEN, token),)
