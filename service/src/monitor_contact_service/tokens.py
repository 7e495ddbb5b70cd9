"""Verifies bearer tokens: reads their text strictly, has PyJWT check the signature, and remembers who it was.

Keys come from `keys`; what a header and claims must say is decided by `core.claims`, with our clock and not with that
of PyJWT. Every refusal is UNAUTHENTICATED; its log text names the rule and holds no value.
"""

import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Generic, Protocol, TypeVar

import jwt

from .access import Issuer
from .core.caller import EndUser, Principal
from .core.claims import TokenRules, end_user_of, ends_at, principal_of, require_header
from .core.identity import unauthenticated
from .jwks import VerificationKey

# Before anything is parsed. Choice: as much as gRPC's metadata may have in all; a Kubernetes token has 1 KB.
TOKEN_MAX_BYTES: Final = 8_192
# Choice: the longest that a key which its issuer has taken back is still believed, after its set was read again; and
# at ten calls a second, 600 verifications become one.
REMEMBERED_SECONDS: Final = 60.0
# Choice: tokens known at a time, of callers and of people each; above it the one that was not used for longest goes.
REMEMBERED_TOKENS: Final = 4_096

_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")

Identity = TypeVar("Identity")


class Keys(Protocol):
    """Finds the keys of issuers; `keys.KeySets` does. `version` changes whenever a key is new or gone."""

    @property
    def version(self) -> int:
        """Return the number of changes so far."""

    def key(self, issuer: Issuer, key_id: str) -> VerificationKey | None:
        """Return the issuer's key of that `kid`, if it is known."""


class TokenVerifier:
    """Says whom a token proves; a token that is for callers proves no person, and the other way round.

    A result is remembered by the hash of the token until the earliest of: the token's end, 60 s, a change of keys, a
    change of issuers.

    Args:
        issuers: whose tokens count; `change` replaces them.
        keys: of these issuers.
        clock: epoch seconds.
    """

    def __init__(self, issuers: Iterable[Issuer], *, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self.change(issuers)

    def change(self, issuers: Iterable[Issuer]) -> None:
        """Follow other issuers, all of it at once. Nothing that was remembered is kept."""
        known = [_KnownIssuer(issuer, _rules(issuer)) for issuer in issuers]
        callers = {each.rules.issuer: each for each in known if each.issuer.identifies == "callers"}
        end_users = {each.rules.issuer: each for each in known if each.issuer.identifies == "end-users"}
        self._callers = _Verified(callers, principal_of, self._keys)
        self._end_users = _Verified(end_users, end_user_of, self._keys)

    def principal(self, token: str) -> Principal:
        """Return the calling service that a token proves.

        Raises:
            Failure: UNAUTHENTICATED.
        """
        return self._callers.identity(token, self._clock())

    def end_user(self, token: str) -> EndUser:
        """Return the person that a token proves.

        Raises:
            Failure: UNAUTHENTICATED.
        """
        return self._end_users.identity(token, self._clock())


@dataclass(frozen=True, slots=True)
class _KnownIssuer:
    issuer: Issuer
    rules: TokenRules


class _Verified(Generic[Identity]):
    """The tokens of one use (callers or people): verifies each and remembers whom it proved."""

    def __init__(
        self,
        issuers: Mapping[str, _KnownIssuer],
        identity_of: Callable[[Mapping[str, object], TokenRules, float], Identity],
        keys: Keys,
    ) -> None:
        self._issuers = issuers
        self._identity_of = identity_of
        self._keys = keys
        # By the token's hash: the token itself is a secret, and whoever reads our memory should find few.
        self._remembered: OrderedDict[bytes, tuple[Identity, float, int]] = OrderedDict()

    def identity(self, token: str, now: float) -> Identity:
        if len(token) > TOKEN_MAX_BYTES or not token.isascii():
            raise unauthenticated("not a token: too long, or not ASCII")
        digest = sha256(token.encode()).digest()
        remembered = self._remembered.get(digest)
        if remembered is not None:
            identity, until, version = remembered
            if now < until and version == self._keys.version:
                self._remembered.move_to_end(digest)
                return identity
            del self._remembered[digest]
        identity, ends = self._verify(token, now)
        if len(self._remembered) >= REMEMBERED_TOKENS:
            self._remembered.popitem(last=False)
        self._remembered[digest] = identity, min(ends, now + REMEMBERED_SECONDS), self._keys.version
        return identity

    def _verify(self, token: str, now: float) -> tuple[Identity, float]:
        """Return whom a token proves and when it ends, in epoch seconds."""
        header, claims = _parts(token)
        name = claims.get("iss")
        known = self._issuers.get(name) if isinstance(name, str) else None
        if known is None:
            raise unauthenticated("token's issuer is not accepted here")
        algorithm, key_id = require_header(header, known.rules)
        key = self._keys.key(known.issuer, key_id)
        if key is None:
            raise unauthenticated("token's key is not known")
        if algorithm not in key.algorithms:
            raise unauthenticated("token's algorithm does not fit its key")
        _require_signature(token, key, algorithm)
        return self._identity_of(claims, known.rules, now), ends_at(claims)


def _rules(issuer: Issuer) -> TokenRules:
    return TokenRules(
        issuer=issuer.issuer,
        kind=issuer.tokens,
        audience=issuer.audience,
        algorithms=frozenset(issuer.algorithms),
        types=frozenset(name.lower().removeprefix("application/") for name in issuer.types),
        max_lifetime_seconds=issuer.max_lifetime_seconds,
        connect_user_claim=issuer.connect_user_claim,
    )


_JWS: Final = jwt.PyJWS()


def _require_signature(token: str, key: VerificationKey, algorithm: str) -> None:
    try:
        _JWS.decode_complete(token, key=key.key, algorithms=[algorithm])
    except jwt.PyJWTError as error:
        raise unauthenticated("token's signature does not verify") from error


def _parts(token: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Return header and claims of a token in its one right spelling, not verified."""
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise unauthenticated("not a token in compact form")
    try:
        header, claims, _signature = _json(_decoded(match[1])), _json(_decoded(match[2])), _decoded(match[3])
    except (ValueError, RecursionError) as error:
        raise unauthenticated("token cannot be read") from error
    return header, claims


def _decoded(segment: str) -> bytes:
    """Return what base64url without padding says. Bits beyond the last byte must be 0: one text for one content."""
    raw = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != segment:
        raise ValueError("not canonical")
    return raw


def _json(raw: bytes) -> Mapping[str, object]:
    value = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004 - caught above, as all that cannot be read
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with one name twice: parsers differ in which they believe (RFC 7519, 4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name twice")
    return members


def _no_constant(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are not JSON (RFC 8259, 6)
