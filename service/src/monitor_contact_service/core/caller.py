"""Who calls, as plain values: the calling service, and the person on whose behalf it calls. Decides nothing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Authentication(StrEnum):
    """How an identity was proved, in the words of the audit record."""

    ANONYMOUS = "anonymous"
    SPIFFE = "spiffe"
    DNS = "dns"
    KUBERNETES = "kubernetes"
    OIDC = "oidc"
    FORWARDED = "forwarded"


@dataclass(frozen=True, slots=True)
class Principal:
    """The calling service.

    Attributes:
        id: what policy, quota and client_token know it by: a SPIFFE ID, `dns:name`, `k8s:namespace:account`,
            `oidc:issuer#subject`, or `anonymous`.
        authentication: how that was proved.
        trust_domain: of a SPIFFE ID; "" for others.
        certificate_sha256: of the leaf, in hex; "" without one.
        token_id: the token's `jti`; "" without one.
    """

    id: str
    authentication: Authentication
    trust_domain: str = ""
    certificate_sha256: str = ""
    token_id: str = ""


@dataclass(frozen=True, slots=True)
class EndUser:
    """The person on whose behalf a service calls, from `x-end-user-token`.

    `connect_user_id` is the person's user in Connect, as the issuer's claim says; "" if the claim is missing.
    """

    issuer: str
    subject: str
    connect_user_id: str
    token_id: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """A call's origin: who, for whom, and why. `ticket` and `reason` are claims of the caller, "" without one."""

    principal: Principal
    end_user: EndUser | None = None
    ticket: str = ""
    reason: str = ""


# Whoever calls a service that listens on loopback only and knows no identities.
ANONYMOUS: Final = Principal("anonymous", Authentication.ANONYMOUS)
