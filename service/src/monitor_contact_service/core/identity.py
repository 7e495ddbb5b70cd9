"""Decides which calling service a client's certificate proves, from what the TLS layer verified and the rules here.

Chain, key and time of the handshake are gRPC's to verify. Names are compared whole: never by prefix, never the common
name. What an identity may do is the policy's matter.
"""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from .caller import Authentication, Principal
from .failures import Failure, Reason

# SPIFFE ID specification, 2 and 2.3: scheme and trust domain in lower case, at most 255 bytes of trust domain and 2,048
# of id, no empty or dot segments, no percent-encoding, query, fragment, user or port. gRPC's own parser is lax in most
# of that (measured with 1.85.1). A workload's id has a path: 2.2.
SPIFFE_ID_MAX_BYTES: Final = 2_048
_SPIFFE_ID: Final = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)+)")
_DOT_SEGMENTS: Final = frozenset({".", ".."})

# RFC 1123, 2.1 and RFC 1035, 2.3.4; in lower case, so that one host has one spelling. A wildcard names no one host.
DNS_NAME_MAX_CHARACTERS: Final = 253
_DNS_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME: Final = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*")


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The leaf that a client showed in a handshake that succeeded.

    Attributes:
        spiffe_ids: what gRPC's auth context calls `peer_spiffe_id`; it has none for a leaf with several URI SANs.
        uri_names: all URI SANs, as the leaf has them.
        dns_names: all DNS SANs, likewise.
        not_after: the last second of its validity, in epoch seconds.
        sha256: of the whole leaf, in hex.
    """

    spiffe_ids: tuple[str, ...]
    uri_names: tuple[str, ...]
    dns_names: tuple[str, ...]
    not_after: float
    sha256: str


@dataclass(frozen=True, slots=True)
class AcceptedNames:
    """Which names of certificates count: SPIFFE IDs of these trust domains; with `dns_names`, DNS SANs too."""

    trust_domains: AbstractSet[str]
    dns_names: bool


def unauthenticated(rule: str) -> Failure:
    """Return the refusal; the caller learns nothing of `rule`, which says for our log what was broken, without values.

    A stranger who could tell "unknown" from "expired" from "malformed" would have an oracle.
    """
    return Failure(Reason.UNAUTHENTICATED, log_text=rule)


def principal_of(certificate: PeerCertificate, accepted: AcceptedNames) -> Principal:
    """Return whom the certificate identifies: by its SPIFFE ID, or by its DNS SAN where it has no URI SAN at all.

    Time is not looked at: see `is_expired`.

    Raises:
        Failure: UNAUTHENTICATED.
    """
    if certificate.spiffe_ids or certificate.uri_names or not accepted.dns_names:
        return _by_spiffe_id(certificate, accepted)
    return _by_dns_name(certificate)


def trust_domain_of(spiffe_id: str, accepted: AcceptedNames) -> str:
    """Return the trust domain of a well-formed SPIFFE ID, if it is one of those accepted.

    Raises:
        Failure: UNAUTHENTICATED.
    """
    match = _SPIFFE_ID.fullmatch(spiffe_id)
    if match is None or len(spiffe_id) > SPIFFE_ID_MAX_BYTES or _DOT_SEGMENTS & set(match[2].split("/")):
        raise unauthenticated("not a SPIFFE ID of a workload by the strict grammar")
    if match[1] not in accepted.trust_domains:
        raise unauthenticated("trust domain is not accepted")
    return match[1]


def is_expired(not_after: float, now: float) -> bool:
    """Return whether a leaf's time is over; both in epoch seconds. The last second still counts (RFC 5280, 4.1.2.5)."""
    return now > not_after


def _by_spiffe_id(certificate: PeerCertificate, accepted: AcceptedNames) -> Principal:
    # The X.509-SVID specification, 2: exactly one URI SAN. Both sources must agree on it: gRPC's text forms of SANs do
    # not tell a DNS SAN with a spiffe text from a URI SAN (measured).
    if len(certificate.spiffe_ids) != 1 or certificate.uri_names != certificate.spiffe_ids:
        raise unauthenticated("certificate has not exactly one URI SAN with a SPIFFE ID")
    spiffe_id = certificate.spiffe_ids[0]
    trust_domain = trust_domain_of(spiffe_id, accepted)
    return Principal(spiffe_id, Authentication.SPIFFE, trust_domain, certificate.sha256)


def _by_dns_name(certificate: PeerCertificate) -> Principal:
    if len(certificate.dns_names) != 1:
        raise unauthenticated("certificate has not exactly one DNS SAN")
    name = certificate.dns_names[0]
    if len(name) > DNS_NAME_MAX_CHARACTERS or _DNS_NAME.fullmatch(name) is None:
        raise unauthenticated("DNS SAN is not a host name in lower case")
    return Principal(f"dns:{name}", Authentication.DNS, certificate_sha256=certificate.sha256)
