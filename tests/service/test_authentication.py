"""`authentication`: which credentials of a call count, over a context made by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from certificates import Authority, Leaf
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from fakes import FakeClock
from monitor_contact_service.access import OPEN_ACCESS, Access, Forwarded, Issuer
from monitor_contact_service.authentication import Authenticator, Tokens
from monitor_contact_service.core.caller import ANONYMOUS, Authentication, Caller, EndUser, Principal
from monitor_contact_service.core.failures import Failure, Reason, Violation
from monitor_contact_service.core.identity import unauthenticated

_ID: Final = "spiffe://corp.example/qa-desk"
_PROXY: Final = "spiffe://corp.example/proxy"
_TOKEN_PRINCIPAL: Final = Principal("oidc:https://issuer.example#qa", Authentication.OIDC, token_id="jti-1")
_PERSON: Final = EndUser("https://people.example", "ann", "30000000-0000-4000-8000-000000000001")
_CALLERS_ISSUER: Final = Issuer(issuer="https://issuer.example", audience="monitor-contact", keys="/keys.json")
_PEOPLE_ISSUER: Final = Issuer(
    issuer="https://people.example", audience="monitor-contact", keys="/keys.json", identifies="end-users"
)
_BY_CERTIFICATE: Final = Access(trust_domains=("corp.example",))
_BY_TOKEN: Final = Access(issuers=(_CALLERS_ISSUER,))
_BEHIND_PROXY: Final = Access(trust_domains=("corp.example",), forwarded=Forwarded(proxy=_PROXY))
_AUTHORITY: Final = Authority()
_NOW: Final = datetime.now(UTC).timestamp()


class FakeTokens:
    """Knows one token of a service and one of a person."""

    def principal(self, token: str) -> Principal:
        """Return the service."""
        if token != "service-token":
            raise unauthenticated("token of a service is bad")
        return _TOKEN_PRINCIPAL

    def end_user(self, token: str) -> EndUser:
        """Return the person."""
        if token != "person-token":
            raise unauthenticated("token of a person is bad")
        return _PERSON


@dataclass
class FakeContext:
    """The two questions that step 1 asks of gRPC."""

    metadata: Sequence[tuple[str, str | bytes]] = ()
    auth: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Return what the caller sent."""
        return self.metadata

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return what the handshake showed."""
        return self.auth


def _leaf(spiffe_id: str = _ID) -> Leaf:
    return _AUTHORITY.leaf(uris=[spiffe_id])


def _context(leaf: Leaf | None = None, *spiffe_ids: str, **metadata: str) -> FakeContext:
    """Return the context of a call; keys of metadata are written with underscores."""
    auth = {"peer_spiffe_id": [each.encode() for each in spiffe_ids]}
    if leaf:
        auth["x509_pem_cert"] = [leaf.certificate]
    sent = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    return FakeContext([("user-agent", "x"), *sent], auth)


def _authenticator(access: Access, *, tls: bool = True, tokens: Tokens | None = None, now: float = _NOW) -> Any:
    """Return step 1 with a type that takes the fake context."""
    return Authenticator(access, tokens=tokens or FakeTokens(), tls=tls, clock=FakeClock(now))


def _rule(authenticator: Any, context: FakeContext) -> str:
    with pytest.raises(Failure) as caught:
        authenticator.caller(context)
    assert caught.value.reason is Reason.UNAUTHENTICATED
    return caught.value.log_text


def test_without_tls_and_issuers_everybody_is_anonymous() -> None:
    """The embedded default: loopback, no credentials; ticket and reason are taken as said."""
    context = _context(None, x_monitor_ticket="QA-1", x_monitor_reason="complaint")
    assert _authenticator(OPEN_ACCESS, tls=False).caller(context) == Caller(ANONYMOUS, None, "QA-1", "complaint")
    assert _authenticator(_BY_CERTIFICATE, tls=False).caller(_context()) == Caller(ANONYMOUS)


def test_with_tls_nobody_is_anonymous() -> None:
    """A certificate that nothing accepts, and none, both identify nobody."""
    for context in (_context(), _context(_leaf(), _ID)):
        assert _rule(_authenticator(OPEN_ACCESS), context) == "TLS, and nothing is configured that identifies callers"


def test_a_certificate_identifies_its_service() -> None:
    """The id, trust domain and hash of the leaf reach the caller."""
    leaf = _leaf()
    expected = x509.load_pem_x509_certificate(leaf.certificate).fingerprint(SHA256()).hex()
    caller = _authenticator(_BY_CERTIFICATE).caller(_context(leaf, _ID))
    assert caller == Caller(Principal(_ID, Authentication.SPIFFE, "corp.example", expected))


def test_a_leaf_that_was_accepted_is_refused_once_its_time_is_over() -> None:
    """The time is asked for on every call, also of a leaf that is already known."""
    leaf = _leaf()
    clock = FakeClock(leaf.not_after)
    authenticator: Any = Authenticator(_BY_CERTIFICATE, tokens=None, tls=True, clock=clock)
    assert authenticator.caller(_context(leaf, _ID)).principal.id == _ID
    clock.advance(0.001)
    assert _rule(authenticator, _context(leaf, _ID)) == "client certificate has expired"


def test_no_certificate_identifies_nobody() -> None:
    """With certificates as the source, a connection without one is nobody's, and so is one of two leaves."""
    leaf = _leaf().certificate
    two = FakeContext(auth={"x509_pem_cert": [leaf, leaf], "peer_spiffe_id": [_ID.encode()]})
    for context in (_context(), two):
        assert _rule(_authenticator(_BY_CERTIFICATE), context) == "no client certificate"


def test_a_certificate_that_cannot_be_read_identifies_nobody() -> None:
    """Neither broken PEM, nor a name that is not ASCII gets out as another error."""
    not_ascii = FakeContext(auth={"x509_pem_cert": [_leaf().certificate], "peer_spiffe_id": [b"spiffe://\xff/x"]})
    broken = FakeContext(auth={"x509_pem_cert": [b"-----BEGIN"], "peer_spiffe_id": [_ID.encode()]})
    for context in (not_ascii, broken):
        assert _rule(_authenticator(_BY_CERTIFICATE), context) == "client certificate cannot be read"


def test_the_leaf_must_hold_the_id_that_grpc_names() -> None:
    """What gRPC says of a leaf is compared with the leaf, also when the leaf was accepted before with another word."""
    authenticator = _authenticator(_BY_CERTIFICATE)
    leaf = _leaf()
    authenticator.caller(_context(leaf, _ID))
    expected = "certificate has not exactly one URI SAN with a SPIFFE ID"
    assert _rule(authenticator, _context(leaf)) == expected
    assert _rule(authenticator, _context(leaf, "spiffe://corp.example/admin")) == expected


def test_other_access_rules_act_on_known_leaves_at_once() -> None:
    """After `change` nothing is answered from memory of the old rules."""
    authenticator = _authenticator(_BY_CERTIFICATE)
    context = _context(_leaf(), _ID)
    authenticator.caller(context)
    authenticator.change(Access(trust_domains=("other.example",)))
    assert _rule(authenticator, context) == "trust domain is not accepted"
    authenticator.change(_BY_CERTIFICATE)
    assert authenticator.caller(context).principal.id == _ID


def test_a_bearer_token_identifies_where_certificates_do_not() -> None:
    """The scheme in any case; with or without TLS, with or without a certificate."""
    for authenticator in (_authenticator(_BY_TOKEN), _authenticator(_BY_TOKEN, tls=False)):
        for context in (
            _context(authorization="Bearer service-token"),
            _context(_leaf(), _ID, authorization="bEARER service-token"),
        ):
            assert authenticator.caller(context).principal == _TOKEN_PRINCIPAL


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ({}, "no bearer token"),
        ({"authorization": ""}, "no bearer token"),
        ({"authorization": "service-token"}, "no bearer token"),
        ({"authorization": "Basic service-token"}, "no bearer token"),
        ({"authorization": "Bearer"}, "token of a service is bad"),
        ({"authorization": "Bearer  service-token"}, "token of a service is bad"),
        ({"authorization": "Bearer person-token"}, "token of a service is bad"),
    ],
)
def test_other_authorizations_identify_nobody(metadata: dict[str, str], rule: str) -> None:
    """Another scheme, no token, or a token that its verifier refuses."""
    assert _rule(_authenticator(_BY_TOKEN), _context(_leaf(), _ID, **metadata)) == rule


def test_without_a_verifier_no_token_counts() -> None:
    """Issuers that came with a reload, without anybody who verifies: refused, for services and for people."""
    both = Access(issuers=(_CALLERS_ISSUER, _PEOPLE_ISSUER))
    authenticator: Any = Authenticator(both, tokens=None, tls=True)
    assert _rule(authenticator, _context(authorization="Bearer service-token")) == "no bearer token"
    people: Any = Authenticator(Access(issuers=(_PEOPLE_ISSUER,)), tokens=None, tls=False)
    expected = "end-user token sent where no issuer of such is configured"
    assert _rule(people, _context(x_end_user_token="person-token")) == expected


@pytest.mark.parametrize(
    ("access", "tls"),
    [
        (_BY_CERTIFICATE, True),
        (OPEN_ACCESS, False),
        (OPEN_ACCESS, True),
        (Access(issuers=(_PEOPLE_ISSUER,)), False),
    ],
)
def test_a_token_that_would_not_count_is_refused(access: Access, tls: bool) -> None:  # noqa: FBT001 - a table's column
    """One source identifies callers: a good token beside a good certificate, or where nobody is asked, is no answer."""
    context = _context(_leaf(), _ID, authorization="Bearer service-token")
    expected = "authorization sent where tokens do not identify callers"
    assert _rule(_authenticator(access, tls=tls), context) == expected


@pytest.mark.parametrize(
    ("access", "tls", "credentials"),
    [
        (Access(trust_domains=("corp.example",), issuers=(_PEOPLE_ISSUER,)), True, {}),
        (Access(issuers=(_CALLERS_ISSUER, _PEOPLE_ISSUER)), True, {"authorization": "Bearer service-token"}),
        (Access(issuers=(_PEOPLE_ISSUER,)), False, {}),
    ],
)
def test_an_end_users_token_names_the_person(access: Access, tls: bool, credentials: dict[str, str]) -> None:  # noqa: FBT001 - a table's column
    """Beside every source of the calling service; without the token there is no person; a bad one is refused."""
    authenticator = _authenticator(access, tls=tls)
    leaf = _leaf()
    caller = authenticator.caller(_context(leaf, _ID, x_end_user_token="person-token", **credentials))
    assert caller.end_user == _PERSON
    assert authenticator.caller(_context(leaf, _ID, **credentials)).end_user is None
    for bad in ("", "service-token"):
        context = _context(leaf, _ID, x_end_user_token=bad, **credentials)
        assert _rule(authenticator, context) == "token of a person is bad"


def test_an_end_users_token_alone_identifies_no_service() -> None:
    """The calling service must be identified whoever it acts for."""
    authenticator = _authenticator(Access(trust_domains=("corp.example",), issuers=(_PEOPLE_ISSUER,)))
    assert _rule(authenticator, _context(x_end_user_token="person-token")) == "no client certificate"


@pytest.mark.parametrize(("access", "tls"), [(_BY_CERTIFICATE, True), (OPEN_ACCESS, False)])
def test_an_end_users_token_that_nobody_judges_is_refused(access: Access, tls: bool) -> None:  # noqa: FBT001 - a table's column
    """To ignore it would let the service act for somebody else than the token's person."""
    context = _context(_leaf(), _ID, x_end_user_token="person-token")
    assert _rule(_authenticator(access, tls=tls), context) == (
        "end-user token sent where no issuer of such is configured"
    )


def test_the_proxys_word_names_the_caller() -> None:
    """From the proxy's own certificate, one element with an accepted id is the principal."""
    context = _context(_leaf(_PROXY), _PROXY, x_forwarded_client_cert=f'Hash=ab;URI="{_ID}"')
    principal = _authenticator(_BEHIND_PROXY).caller(context).principal
    assert principal == Principal(_ID, Authentication.FORWARDED, "corp.example")


@pytest.mark.parametrize(
    ("peer", "header", "rule"),
    [
        (_PROXY, None, "the proxy forwards no certificate"),
        (_PROXY, "", "forwarded certificate is not exactly one well-formed element"),
        (_PROXY, f"URI={_ID},URI={_ID}", "forwarded certificate is not exactly one well-formed element"),
        (_PROXY, "Hash=ab", "forwarded certificate has not exactly one URI"),
        (_PROXY, "URI=", "not a SPIFFE ID of a workload by the strict grammar"),
        (_PROXY, "URI=spiffe://evil.example/x", "trust domain is not accepted"),
        (_ID, f"URI={_ID}", "forwarded certificate from a peer that is not the proxy"),
        (_ID, "", "forwarded certificate from a peer that is not the proxy"),
        (f"{_PROXY}/x", f"URI={_ID}", "forwarded certificate from a peer that is not the proxy"),
    ],
)
def test_only_the_proxy_forwards_and_nothing_else(peer: str, header: str | None, rule: str) -> None:
    """The header from others, the proxy without one, and one that names nobody that is accepted."""
    metadata = {} if header is None else {"x_forwarded_client_cert": header}
    assert _rule(_authenticator(_BEHIND_PROXY), _context(_leaf(peer), peer, **metadata)) == rule


def test_beside_a_proxy_others_call_by_themselves() -> None:
    """A peer that is not the proxy and forwards nothing is itself."""
    assert _authenticator(_BEHIND_PROXY).caller(_context(_leaf(), _ID)).principal.id == _ID


def test_an_expired_proxy_forwards_nobody() -> None:
    """The proxy's own leaf is judged like any other."""
    leaf = _leaf(_PROXY)
    authenticator = _authenticator(_BEHIND_PROXY, now=leaf.not_after + 1)
    context = _context(leaf, _PROXY, x_forwarded_client_cert=f"URI={_ID}")
    assert _rule(authenticator, context) == "client certificate has expired"


@pytest.mark.parametrize("tls", [True, False])
def test_a_peer_without_a_certificate_is_not_the_proxy(tls: bool) -> None:  # noqa: FBT001 - a table's column
    """Where tokens identify, or nobody is asked, a header in a service that knows a proxy is refused."""
    # As no access file can say it: the rule holds by itself.
    access = Access.model_construct(issuers=(_CALLERS_ISSUER,), forwarded=Forwarded(proxy=_PROXY))
    context = _context(authorization="Bearer service-token", x_forwarded_client_cert=f"URI={_ID}")
    expected = "forwarded certificate from a peer without a certificate"
    assert _rule(_authenticator(access, tls=tls), context) == expected


@pytest.mark.parametrize(
    ("access", "tls", "expected"), [(_BY_CERTIFICATE, True, _ID), (OPEN_ACCESS, False, "anonymous")]
)
def test_without_a_proxy_the_header_says_nothing(access: Access, tls: bool, expected: str) -> None:  # noqa: FBT001 - a table's column
    """Sidecars add it to every call: it neither helps nor hurts where no proxy is configured."""
    context = _context(_leaf(), _ID, x_forwarded_client_cert=f"URI={_PROXY}")
    assert _authenticator(access, tls=tls).caller(context).principal.id == expected


@pytest.mark.parametrize("key", ["x-monitor-ticket", "x-monitor-reason"])
def test_a_long_claim_is_the_callers_mistake(key: str) -> None:
    """256 characters are taken, one more is a violation of that key, and its text is in no part of the failure."""
    authenticator = _authenticator(OPEN_ACCESS, tls=False)
    authenticator.caller(FakeContext([(key, "x" * 256)]))
    with pytest.raises(Failure) as caught:
        authenticator.caller(FakeContext([(key, "x" * 257)]))
    assert caught.value.reason is Reason.VALIDATION_FAILED
    assert caught.value.violations == (Violation(key, "TOO_LONG", "must have at most 256 characters"),)


def test_a_stranger_learns_nothing_about_claims() -> None:
    """Who is not identified is told that, whatever else is wrong."""
    context = _context(x_monitor_ticket="x" * 257)
    assert _rule(_authenticator(_BY_CERTIFICATE), context) == "no client certificate"


def test_a_dns_name_identifies_only_where_the_file_says_so() -> None:
    """`dns_names` is an opt-in of its own."""
    context = _context(_AUTHORITY.leaf(dns_names=["qa.corp.example"]))
    caller = _authenticator(Access(dns_names=True)).caller(context)
    assert (caller.principal.id, caller.principal.authentication) == ("dns:qa.corp.example", Authentication.DNS)
    assert _rule(_authenticator(_BY_CERTIFICATE), context).startswith("certificate has not exactly one URI SAN")


def test_a_leaf_without_any_san_identifies_nobody() -> None:
    """Neither its common name nor anything else of it counts."""
    context = _context(_AUTHORITY.leaf(common_name="qa.corp.example", not_after=datetime.now(UTC) + timedelta(hours=1)))
    accepting_all = Access(trust_domains=("corp.example",), dns_names=True)
    assert _rule(_authenticator(accepting_all), context) == "certificate has not exactly one DNS SAN"


def test_the_system_clock_is_the_default() -> None:
    """Without another clock a leaf of the present is accepted and one of the past is not."""
    authenticator: Any = Authenticator(_BY_CERTIFICATE, tokens=None, tls=True)
    assert authenticator.caller(_context(_leaf(), _ID)).principal.id == _ID
    past = datetime.now(UTC) - timedelta(seconds=30)
    old = _AUTHORITY.leaf(uris=[_ID], not_after=past)
    assert _rule(authenticator, _context(old, _ID)) == "client certificate has expired"
