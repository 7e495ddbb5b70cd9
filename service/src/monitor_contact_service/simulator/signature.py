"""Signature Version 4, verified: whether a request was signed by an access key of the world, and recently.

An implementation of its own from AWS's description ("Create a signed AWS API request"), never botocore's: it is the
independent check of the service's signer. Decides check 2 of docs/simulator.md. The error names are those of
connect.md 4.1, the texts those that AWS's front ends send.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from .answers import Refusal
from .world import AccessKey

SERVICE = "connect"
ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "-_.~"  # beside letters and digits, all that is never encoded
_TIME = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Credential=(?P<key>[^/,\s]+)/(?P<date>\d{{8}})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)/"
    r"aws4_request, *SignedHeaders=(?P<headers>[^,\s]+), *Signature=(?P<signature>[0-9a-f]{64})",
    re.ASCII,
)


class SignedRequest(NamedTuple):
    """What a signature covers. `target` is path and query as sent; header names are in lower case, values joined."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Claim:
    key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


def verify(
    request: SignedRequest, keys: Mapping[str, AccessKey], region: str, now: float, window_seconds: float
) -> Refusal | None:
    """Return None for a request that is rightly signed, else Connect's 403.

    keys: by access key id. now: epoch seconds. window_seconds: how far the request's own time may be off, either way.
    """
    claim = _parse_authorization(request.headers)
    if isinstance(claim, Refusal):
        return claim
    key = keys.get(claim.key_id)
    token = request.headers.get("x-amz-security-token")
    if key is None or key.session_token != token:
        return Refusal("UnrecognizedClientException", 403, "The security token included in the request is invalid.")
    if key.expires_at is not None and key.expires_at <= now:
        return Refusal("ExpiredTokenException", 403, "The security token included in the request is expired")
    wrong = _wrong_scope(claim, request.headers["x-amz-date"], region) or _wrong_time(
        request.headers["x-amz-date"], now, window_seconds
    )
    if wrong:
        return Refusal("InvalidSignatureException", 403, wrong)
    if not hmac.compare_digest(_sign(request, claim, key.secret), claim.signature):
        return Refusal(
            "InvalidSignatureException",
            403,
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
        )
    return None


def _parse_authorization(headers: Mapping[str, str]) -> _Claim | Refusal:
    authorization = headers.get("authorization")
    if authorization is None:
        return Refusal("MissingAuthenticationToken", 403, "Missing Authentication Token")
    match = _AUTHORIZATION.fullmatch(authorization)
    if match is None:
        return Refusal("IncompleteSignature", 403, "The Authorization header is not a complete SigV4 signature.")
    if not _TIME.fullmatch(headers.get("x-amz-date", "")):
        return Refusal("IncompleteSignature", 403, "Authorization header requires existence of an 'X-Amz-Date' header.")
    signed = tuple(match["headers"].split(";"))
    unsigned = _must_be_signed(headers).difference(signed)
    absent = set(signed).difference(headers)
    if unsigned or absent:
        names = ", ".join(sorted(unsigned | absent))
        return Refusal("IncompleteSignature", 403, f"Headers that must be both sent and signed: {names}.")
    return _Claim(match["key"], match["date"], match["region"], match["service"], signed, match["signature"])


def _must_be_signed(headers: Mapping[str, str]) -> set[str]:
    return {"host", *(name for name in headers if name == "content-type" or name.startswith("x-amz-"))}


def _wrong_scope(claim: _Claim, signed_at: str, region: str) -> str | None:
    if claim.date != signed_at[:8]:
        return (
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{claim.date}' != '{signed_at[:8]}', from '{signed_at}'."
        )
    if claim.region != region:
        return f"Credential should be scoped to a valid region, not '{claim.region}'."
    if claim.service != SERVICE:
        return f"Credential should be scoped to correct service: '{SERVICE}'."
    return None


def _wrong_time(signed_at: str, now: float, window_seconds: float) -> str | None:
    window = f"{window_seconds / 60:g} min."
    earliest, latest = _stamp(now - window_seconds), _stamp(now + window_seconds)
    # The format sorts by time, so text is compared: there is no date that cannot be parsed.
    if signed_at < earliest:
        return f"Signature expired: {signed_at} is now earlier than {earliest} ({_stamp(now)} - {window})"
    if signed_at > latest:
        return f"Signature not yet current: {signed_at} is still later than {latest} ({_stamp(now)} + {window})"
    return None


def _stamp(moment: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))


def _sign(request: SignedRequest, claim: _Claim, secret: str) -> str:
    canonical = "\n".join(
        (
            request.method,
            canonical_path(request.target.partition("?")[0]),
            canonical_query(request.target.partition("?")[2]),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in claim.signed_headers),
            "",
            ";".join(claim.signed_headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{claim.date}/{claim.region}/{claim.service}/aws4_request"
    # Header bytes that are not UTF-8 arrive as surrogates and go back to what they were.
    digest = hashlib.sha256(canonical.encode(errors="surrogateescape")).hexdigest()
    to_sign = "\n".join((ALGORITHM, request.headers["x-amz-date"], scope, digest))
    key = _signing_key(secret, claim.date, claim.region, claim.service)
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


@lru_cache(maxsize=64)  # four HMACs once a day and key, not once a call
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def normalise_path(path: str) -> str:
    """Resolve `.` and `..` and collapse slashes, as AWS does before it looks at a path. Encoded dots stay."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    slash = "/" if kept and path.endswith("/") else ""
    return "/" + "/".join(kept) + slash


@lru_cache(maxsize=1024)
def canonical_path(path: str) -> str:
    """Return the path that is signed: normalised, then encoded a second time (`a%2Fb` becomes `a%252Fb`)."""
    return quote(normalise_path(path), safe="/" + _UNRESERVED)


def canonical_query(query: str) -> str:
    """Return the query that is signed: each name and value decoded and encoded once, sorted by name, then value."""
    if not query:
        return ""
    pairs = (parameter.partition("=") for parameter in query.split("&") if parameter)
    return "&".join(
        f"{name}={value}" for name, value in sorted((_once(name), _once(value)) for name, _, value in pairs)
    )


def _once(text: str) -> str:
    return quote(unquote_to_bytes(text), safe=_UNRESERVED)
