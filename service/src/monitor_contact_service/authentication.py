"""Step 1: takes the credentials of a call from gRPC and returns who calls, for whom, and why it says it does.

What a certificate proves is decided by `core.identity`, what a token proves by whoever verifies tokens.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from .access import Access
from .core.caller import ANONYMOUS, Authentication, Caller, EndUser, Principal
from .core.failures import Violation
from .core.forwarded import forwarded_uri
from .core.identity import AcceptedNames, PeerCertificate, is_expired, principal_of, trust_domain_of, unauthenticated
from .core.validation import invalid

if TYPE_CHECKING:
    import grpc.aio  # its ServicerContext is generic for type checkers only

    Context = grpc.aio.ServicerContext[Any, Any]

AUTHORIZATION: Final = "authorization"
END_USER_TOKEN: Final = "x-end-user-token"  # noqa: S105 - the key's name
FORWARDED: Final = "x-forwarded-client-cert"
TICKET: Final = "x-monitor-ticket"
REASON: Final = "x-monitor-reason"
_KEYS: Final = frozenset({AUTHORIZATION, END_USER_TOKEN, FORWARDED, TICKET, REASON})

# Choice: a ticket's number or a sentence; three of them and all else fit into an audit record of 1 KiB.
CLAIM_MAX_CHARACTERS: Final = 256
# Choice: leaves known at a time, above the default of max_connections; each is 1-2 KB.
_KNOWN_LEAVES: Final = 2_048


class Tokens(Protocol):
    """Verifies tokens; `tokens.TokenVerifier` does."""

    def principal(self, token: str) -> Principal:
        """Return the calling service that a token proves, or raise UNAUTHENTICATED."""

    def end_user(self, token: str) -> EndUser:
        """Return the person that a token proves, or raise UNAUTHENTICATED."""


class Authenticator:
    """Identifies callers; every failure is UNAUTHENTICATED, with the same message whatever the cause.

    One source identifies callers, never two:

    - certificates, if this is TLS and the access file accepts some (trust domains or DNS names);
    - otherwise bearer tokens in `authorization`, if the access file has issuers for callers;
    - otherwise, without TLS, nobody is asked: the caller is `anonymous`, who may what the access file gives to it.
      With TLS every call is refused.

    A credential that does not count is refused, not ignored, as its sender takes it for one that does: `authorization`
    where tokens do not identify callers, `x-end-user-token` where no issuer of such is configured. The exception is
    `x-forwarded-client-cert` where no proxy is configured, because sidecars add it to every call.

    With a proxy configured, the header must come from that proxy's own certificate and from nobody else, and the proxy
    by itself is no caller.

    Args:
        access: what is accepted; `change` replaces it.
        tokens: None if there are no issuers.
        tls: whether the listener speaks TLS.
        clock: epoch seconds.
    """

    def __init__(
        self, access: Access, *, tokens: Tokens | None, tls: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._tokens = tokens
        self._tls = tls
        self._clock = clock
        self._rules = _rules(access, tls=tls)

    def change(self, access: Access) -> None:
        """Follow another access file, all of it at once. Nothing that was known of certificates is kept."""
        self._rules = _rules(access, tls=self._tls)

    def caller(self, context: "Context") -> Caller:
        """Return who calls, for whom, and why.

        Raises:
            Failure: UNAUTHENTICATED, or VALIDATION_FAILED for a ticket or a reason of more than 256 characters.
        """
        sent = {key: str(value) for key, value in context.invocation_metadata() or () if key in _KEYS}
        rules = self._rules
        principal = self._principal(rules, context, sent)
        end_user = self._end_user(rules, sent[END_USER_TOKEN]) if END_USER_TOKEN in sent else None
        return Caller(principal, end_user, _claim(sent, TICKET), _claim(sent, REASON))

    def _principal(self, rules: "_Rules", context: "Context", sent: Mapping[str, str]) -> Principal:
        if AUTHORIZATION in sent and not rules.by_token:
            raise unauthenticated("authorization sent where tokens do not identify callers")
        if rules.by_certificate:
            return self._by_certificate(rules, context, sent.get(FORWARDED))
        if FORWARDED in sent and rules.proxy:
            raise unauthenticated("forwarded certificate from a peer without a certificate")
        if rules.by_token:
            return self._by_token(sent.get(AUTHORIZATION, ""))
        if self._tls:
            raise unauthenticated("TLS, and nothing is configured that identifies callers")
        return ANONYMOUS

    def _by_certificate(self, rules: "_Rules", context: "Context", forwarded: str | None) -> Principal:
        presented = context.auth_context()
        leaves = tuple(presented.get("x509_pem_cert", ()))
        if len(leaves) != 1:
            raise unauthenticated("no client certificate")
        peer, not_after = rules.identify(leaves[0], tuple(presented.get("peer_spiffe_id", ())))
        # On every call: nobody asks again while a connection or a resumed TLS session lives (measured).
        if is_expired(not_after, self._clock()):
            raise unauthenticated("client certificate has expired")
        if not rules.proxy:
            return peer
        return _forwarded(rules, peer, forwarded)

    def _by_token(self, authorization: str) -> Principal:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or self._tokens is None:  # RFC 9110, 11.1: in any case
            raise unauthenticated("no bearer token")
        return self._tokens.principal(token)

    def _end_user(self, rules: "_Rules", token: str) -> EndUser:
        if not rules.end_users or self._tokens is None:
            raise unauthenticated("end-user token sent where no issuer of such is configured")
        return self._tokens.end_user(token)


@dataclass(frozen=True, slots=True)
class _Rules:
    """One access file's rules. `proxy` is "" without one; `identify` remembers the leaves that it accepted."""

    by_certificate: bool
    by_token: bool
    end_users: bool
    proxy: str
    accepted: AcceptedNames
    identify: Callable[[bytes, tuple[bytes, ...]], tuple[Principal, float]]


def _rules(access: Access, *, tls: bool) -> _Rules:
    accepted = AcceptedNames(frozenset(access.trust_domains), access.dns_names)
    by_certificate = tls and access.identifies_by_certificate
    return _Rules(
        by_certificate=by_certificate,
        by_token=access.identifies_by_token and not by_certificate,
        end_users=any(issuer.identifies == "end-users" for issuer in access.issuers),
        proxy=access.forwarded.proxy if access.forwarded else "",
        accepted=accepted,
        identify=lru_cache(maxsize=_KNOWN_LEAVES)(partial(_identify, accepted)),
    )


def _identify(accepted: AcceptedNames, leaf: bytes, spiffe_ids: tuple[bytes, ...]) -> tuple[Principal, float]:
    """Return whom a leaf (PEM) identifies and until when, in epoch seconds."""
    try:
        certificate = _read(leaf, tuple(each.decode("ascii") for each in spiffe_ids))
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise unauthenticated("client certificate cannot be read") from error
    return principal_of(certificate, accepted), certificate.not_after


def _read(leaf: bytes, spiffe_ids: tuple[str, ...]) -> PeerCertificate:
    certificate = x509.load_pem_x509_certificate(leaf)
    names: Iterable[x509.GeneralName] = ()
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = tuple(extension.value)
    return PeerCertificate(
        spiffe_ids=spiffe_ids,
        uri_names=tuple(name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)),
        dns_names=tuple(name.value for name in names if isinstance(name, x509.DNSName)),
        not_after=certificate.not_valid_after_utc.timestamp(),
        sha256=certificate.fingerprint(SHA256()).hex(),
    )


def _forwarded(rules: _Rules, peer: Principal, header: str | None) -> Principal:
    """Return whom the proxy speaks for, or the peer itself if it is not the proxy and claims nothing."""
    if peer.id != rules.proxy:
        if header is not None:
            raise unauthenticated("forwarded certificate from a peer that is not the proxy")
        return peer
    if header is None:
        raise unauthenticated("the proxy forwards no certificate")
    spiffe_id = forwarded_uri(header)
    return Principal(spiffe_id, Authentication.FORWARDED, trust_domain_of(spiffe_id, rules.accepted))


def _claim(sent: Mapping[str, str], key: str) -> str:
    value = sent.get(key, "")
    if len(value) > CLAIM_MAX_CHARACTERS:
        raise invalid(Violation(key, "TOO_LONG", f"must have at most {CLAIM_MAX_CHARACTERS} characters"))
    return value
