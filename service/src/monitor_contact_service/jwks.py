"""Reads a JSON Web Key Set (RFC 7517) and keeps the keys that may verify a signature, each with its algorithms.

A key is bound to the algorithms that fit it, so that no token can have an RSA key taken for a shared secret or an
elliptic key for another curve. Where the document comes from is the matter of `keys`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

# NIST SP 800-131A: less is disallowed for signatures; RFC 7518, 3.3 asks for the same.
RSA_MIN_BITS: Final = 2_048

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
# RFC 7518, 3.4: one curve each.
_BY_CURVE: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the names (`alg`) of the algorithms that it may verify."""

    key: PublicKey
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys by `kid`, at least one, and why others of the document are not among them."""

    keys: Mapping[str, VerificationKey]
    ignored: tuple[str, ...]


class _UnusableError(Exception):
    """A key that is not to be used; the message says why."""


def read_key_set(document: bytes) -> KeySet:
    """Return the usable keys of a document.

    Raises:
        ValueError: it is no JSON Web Key Set, or has no usable key; says why.
    """
    keys: dict[str, VerificationKey] = {}
    ignored: list[str] = []
    for number, entry in enumerate(_entries(document)):
        try:
            key_id, key = _usable(entry)
        except _UnusableError as error:
            ignored.append(f"keys[{number}] {error}")
            continue
        if keys.setdefault(key_id, key) is not key:
            ignored.append(f"keys[{number}] has the kid of another key")
    if not keys:
        raise ValueError("; ".join(["no usable key", *ignored]))
    return KeySet(keys, tuple(ignored))


def _entries(document: bytes) -> list[Any]:
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise ValueError('no JSON Web Key Set: {"keys": [...]}')  # noqa: TRY004 - the content is wrong, not a type
    return entries


def _usable(entry: Any) -> tuple[str, VerificationKey]:
    if not isinstance(entry, dict):
        raise _UnusableError("is no object")
    key_id = entry.get("kid")
    if not isinstance(key_id, str) or not key_id:
        raise _UnusableError("has no kid")
    if entry.get("use", "sig") != "sig":
        raise _UnusableError("is not for signatures")
    key = _public_key(entry)
    algorithms = _fitting(key)
    if "alg" in entry:
        algorithms = frozenset(name for name in algorithms if name == entry["alg"])
    if not algorithms:
        raise _UnusableError("has an algorithm that does not fit it")
    return key_id, VerificationKey(key, algorithms)


def _public_key(entry: Mapping[str, Any]) -> PublicKey:
    if entry.get("kty") not in ("RSA", "EC", "OKP"):  # "oct" is a shared secret: whoever verifies could sign
        raise _UnusableError("has a type (kty) that is not used")
    try:
        # Its algorithm is decided here, not there: a key without `alg` may fit several.
        key = jwt.PyJWK({name: value for name, value in entry.items() if name != "alg"}).key
    except Exception as error:  # whatever a foreign document makes two libraries raise
        raise _UnusableError("cannot be read") from error
    if not isinstance(key, PublicKey):
        raise _UnusableError("is not a public key")
    return key


def _fitting(key: PublicKey) -> frozenset[str]:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < RSA_MIN_BITS:
            raise _UnusableError(f"has fewer than {RSA_MIN_BITS} bits")
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({_BY_CURVE[key.curve.name]}) if key.curve.name in _BY_CURVE else frozenset()
    return frozenset({"EdDSA"})
