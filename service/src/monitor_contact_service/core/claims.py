"""Decides whom a token proves: its header before the signature is checked, its claims once it is.

Reading the token's text, keys and signatures is left to the caller. Nothing here trusts a library's idea of a claim:
PyJWT takes `exp` as a string or in 10^22 years, an audience among others, and any `typ` (measured with 2.15.1).
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal

from .caller import Authentication, EndUser, Principal
from .identity import unauthenticated

# Between clocks that are set by NTP; RFC 7519, 4.1.4: "no more than a few minutes". Of `exp`, `nbf` and `iat` alike.
LEEWAY_SECONDS: Final = 30

# A kid, sub or jti is an identifier; with blanks or control characters it could imitate something else in a record.
# Choice: 512; OpenID Connect Core, 2 allows 255 characters for a sub.
_PRINTABLE: Final = re.compile(r"[!-~]{1,512}")
# As the API page limits a user's id.
_CONNECT_USER_ID: Final = re.compile(r"[!-~]{1,256}")

# Kubernetes, "Object Names and IDs": a namespace is an RFC 1123 label, a service account's name an RFC 1123 subdomain.
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SERVICE_ACCOUNT: Final = re.compile(rf"system:serviceaccount:({_LABEL}):({_LABEL}(?:\.{_LABEL})*)")
_SERVICE_ACCOUNT_NAME_MAX_CHARACTERS: Final = 253


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What must be true of an issuer's tokens.

    Attributes:
        issuer: `iss`, whole.
        kind: whose form of `sub` it is.
        audience: the one audience that a token may have.
        algorithms: of the signature.
        types: of the header, in lower case and without "application/" (RFC 7515, 4.1.9); "" accepts a header without
            one. Tokens of Kubernetes have none.
        max_lifetime_seconds: from `iat` to `exp`.
        connect_user_claim: the claim with a person's user id in Connect.
    """

    issuer: str
    kind: Literal["kubernetes", "oidc"]
    audience: str
    algorithms: AbstractSet[str]
    types: AbstractSet[str]
    max_lifetime_seconds: int
    connect_user_claim: str


def require_header(header: Mapping[str, object], rules: TokenRules) -> tuple[str, str]:
    """Return `alg` and `kid` of a header that these rules accept.

    Raises:
        Failure: UNAUTHENTICATED.
    """
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in rules.algorithms:
        raise unauthenticated("token's algorithm is not one of its issuer's")
    if not isinstance(key_id, str) or _PRINTABLE.fullmatch(key_id) is None:
        raise unauthenticated("token names no key")
    if "crit" in header:  # RFC 7515, 4.1.11: extensions that must be understood; we understand none
        raise unauthenticated("token has critical extensions")
    if not _is_accepted_type(header.get("typ", ""), rules):
        raise unauthenticated("token is of another type")
    return algorithm, key_id


def principal_of(claims: Mapping[str, object], rules: TokenRules, now: float) -> Principal:
    """Return the calling service that verified claims prove; `now` in epoch seconds.

    Raises:
        Failure: UNAUTHENTICATED.
    """
    _require_valid(claims, rules, now)
    token_id = _text_if_any(claims, "jti", _PRINTABLE)
    if rules.kind == "kubernetes":
        return Principal(_service_account(claims), Authentication.KUBERNETES, token_id=token_id)
    subject = _text(claims, "sub", _PRINTABLE)
    return Principal(f"oidc:{rules.issuer}#{subject}", Authentication.OIDC, token_id=token_id)


def end_user_of(claims: Mapping[str, object], rules: TokenRules, now: float) -> EndUser:
    """Return the person that verified claims prove; `now` in epoch seconds.

    Raises:
        Failure: UNAUTHENTICATED.
    """
    _require_valid(claims, rules, now)
    return EndUser(
        issuer=rules.issuer,
        subject=_text(claims, "sub", _PRINTABLE),
        connect_user_id=_text_if_any(claims, rules.connect_user_claim, _CONNECT_USER_ID),
        token_id=_text_if_any(claims, "jti", _PRINTABLE),
    )


def ends_at(claims: Mapping[str, object]) -> float:
    """Return when claims that were found valid stop being so, in epoch seconds; they are not valid in that second."""
    return _seconds(claims, "exp") + LEEWAY_SECONDS


def _require_valid(claims: Mapping[str, object], rules: TokenRules, now: float) -> None:
    issued_at = _seconds(claims, "iat")
    if _seconds(claims, "exp") - issued_at > rules.max_lifetime_seconds:
        raise unauthenticated("token lives too long")
    if now >= ends_at(claims):
        raise unauthenticated("token has expired")
    not_before = _seconds(claims, "nbf") if "nbf" in claims else issued_at
    if max(issued_at, not_before) > now + LEEWAY_SECONDS:
        raise unauthenticated("token is not valid yet")
    # A token for others as well could be replayed here by any of them.
    if claims.get("aud") not in (rules.audience, [rules.audience]):
        raise unauthenticated("token is not for this service alone")


def _seconds(claims: Mapping[str, object], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise unauthenticated(f"token's {name} is not an integer")
    return value


def _is_accepted_type(value: object, rules: TokenRules) -> bool:
    if not isinstance(value, str):
        return False
    name = value.lower().removeprefix("application/")
    return name in rules.types or (not name and rules.kind == "kubernetes")


def _service_account(claims: Mapping[str, object]) -> str:
    match = _SERVICE_ACCOUNT.fullmatch(_text(claims, "sub", _PRINTABLE))
    if match is None or len(match[2]) > _SERVICE_ACCOUNT_NAME_MAX_CHARACTERS:
        raise unauthenticated("token's sub is not that of a service account")
    return f"k8s:{match[1]}:{match[2]}"


def _text_if_any(claims: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str:
    return _text(claims, name, pattern) if claims.get(name) is not None else ""


def _text(claims: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise unauthenticated(f"token's {name} is malformed")
    return value
