"""How audit records become lines that hang together: numbers, hashes and signed checkpoints; reads them back.

Shared by whoever writes an audit (`audit_log`, `audit_postgresql`) and whoever verifies one. What a record holds is
decided in `record`; no file and no database is known here.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

VERSION: Final = 1
# `prev` of the first line.
NO_HASH: Final = "0" * 64
# Above what `record` can make of the longest values that get past validation (a test); longer lines are not ours.
MAX_LINE_BYTES: Final = 128 * 1024
STAGES: Final = frozenset({"segment", "intent", "outcome", "denied", "repeated", "recovered", "checkpoint", "policy"})

_HASH: Final = re.compile(r"[0-9a-f]{64}")
# "<writer id>/<boot id>".
_CHAIN: Final = re.compile(r"[0-9a-z-]{1,64}/[0-9a-z-]{1,64}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_FIRST_MEMBERS: Final = ("v", "seq", "prev", "chain", "t", "id", "stage")
_SIGNATURE: Final = re.compile(rb',"sig":"([A-Za-z0-9+/]{86}==)"\}\Z')

# ASCII only: U+2028 and bidi characters are escaped, so that one record is one line for every reader.
_encode: Final = json.JSONEncoder(
    ensure_ascii=True, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


class ChainError(Exception):
    """A line is not what a writer wrote, or not at this place. The text says why and holds nothing of the line."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: number and hash of its last line. `Head()` is the end of an empty one."""

    seq: int = 0
    hash: str = NO_HASH


@dataclass(frozen=True, slots=True)
class Link:
    """A line, read back. `record` holds all members; `head` is the chain's end once this line is its last."""

    seq: int
    prev: str
    chain: str
    t: str
    id: str
    stage: str
    record: Mapping[str, Any]
    head: Head


def line(record: Mapping[str, object], seq: int, prev: str, chain: str, t: str) -> bytes:
    """Return a record as a line, without the newline.

    Args:
        record: the members from `id` and `stage` on; not empty.
        seq: from 1, gapless.
        prev: hash of the line before, NO_HASH for the first.
        chain: "<writer id>/<boot id>", of lower-case letters, digits and "-".
        t: when it is written, RFC 3339 in UTC with microseconds.
    """
    # These five need no escapes; what is not encoded costs nothing (half of a record's 10 µs, measured).
    first = f'{{"v":{VERSION},"seq":{seq},"prev":"{prev}","chain":"{chain}","t":"{t}",'
    return (first + _encode(record)[1:]).encode("ascii")


def digest(line: bytes) -> str:
    """Return the hash of a line without its newline: 64 hex digits of SHA-256."""
    return hashlib.sha256(line).hexdigest()


def parse(line: bytes) -> Link:
    """Return what a line (without its newline) says.

    Raises:
        ChainError: it is not JSON, or not a record of this version.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ChainError(f"the line is longer than {MAX_LINE_BYTES} bytes")
    try:
        record = json.loads(line.decode("ascii"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ChainError("the line is not JSON in ASCII") from error
    if not isinstance(record, dict) or tuple(record)[: len(_FIRST_MEMBERS)] != _FIRST_MEMBERS:
        raise ChainError(f"the line is not a record: its members must begin with {', '.join(_FIRST_MEMBERS)}")
    if record["v"] != VERSION or isinstance(record["v"], bool):
        raise ChainError(f"the record is not of version {VERSION}")
    _require_shapes(record)
    seq, prev, chain, t, id_, stage = (record[name] for name in _FIRST_MEMBERS[1:])
    return Link(seq, prev, chain, t, id_, stage, record, Head(seq, digest(line)))


def require_next(head: Head, link: Link) -> None:
    """Raise ChainError unless the line follows directly on the chain that ends in `head`."""
    if link.seq != head.seq + 1:
        raise ChainError(f"seq is {link.seq}, it must be {head.seq + 1}")
    if link.prev != head.hash:
        raise ChainError(f"prev is not the hash of the line before (seq {head.seq})")


def key_id(key: Ed25519PublicKey) -> str:
    """Return the name of a key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def signed(line: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return a checkpoint's line (no newline) with `sig` as its last member: Ed25519 over the line as it was."""
    return line[:-1] + b',"sig":"' + base64.b64encode(key.sign(line)) + b'"}'


def split_signature(line: bytes) -> tuple[bytes, bytes | None]:
    """Return the bytes that were signed and the signature, or the line itself and None if it is not signed."""
    found = _SIGNATURE.search(line)
    if found is None:
        return line, None
    return line[: found.start()] + b"}", base64.b64decode(found[1])


def is_signed_by(line: bytes, key: Ed25519PublicKey) -> bool:
    """Tell whether the line ends in a signature of `key` over its other bytes."""
    payload, signature = split_signature(line)
    if signature is None:
        return False
    try:
        key.verify(signature, payload)
    except InvalidSignature:
        return False
    return True


def _no_constant(name: str) -> object:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _require_shapes(record: Mapping[str, Any]) -> None:
    """Raise ChainError unless the first members have their types."""
    if type(record["seq"]) is not int or record["seq"] < 1:
        raise ChainError("seq must be a number from 1 on")
    for name, shape in (("prev", _HASH), ("chain", _CHAIN), ("t", _TIME)):
        if not isinstance(record[name], str) or not shape.fullmatch(record[name]):
            raise ChainError(f"{name} has a wrong form")
    if not isinstance(record["id"], str):
        raise ChainError("id must be a text")
    if not isinstance(record["stage"], str) or record["stage"] not in STAGES:
        raise ChainError("stage is none of this version")
