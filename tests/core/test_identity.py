"""`core.identity`: which certificate identifies whom."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core import identity
from monitor_contact_service.core.caller import Authentication, Principal
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.identity import AcceptedNames, PeerCertificate

_SHA256 = "ab" * 32
_ACCEPTED = AcceptedNames(frozenset({"corp.example", "a_b-c.9"}), dns_names=False)
_WITH_DNS = AcceptedNames(frozenset({"corp.example"}), dns_names=True)


def _certificate(
    *spiffe_ids: str, uri_names: tuple[str, ...] | None = None, dns_names: tuple[str, ...] = ()
) -> PeerCertificate:
    """Return a leaf whose URI SANs are its SPIFFE IDs unless said otherwise."""
    return PeerCertificate(spiffe_ids, spiffe_ids if uri_names is None else uri_names, dns_names, 2_000.0, _SHA256)


def _refusal(certificate: PeerCertificate, accepted: AcceptedNames = _ACCEPTED) -> Failure:
    with pytest.raises(Failure) as caught:
        identity.principal_of(certificate, accepted)
    return caught.value


@pytest.mark.parametrize(
    ("spiffe_id", "trust_domain"),
    [
        ("spiffe://corp.example/qa-desk", "corp.example"),
        ("spiffe://corp.example/ns/Prod_1/sa/qa.desk", "corp.example"),
        ("spiffe://corp.example/...", "corp.example"),
        ("spiffe://corp.example/.a/b.", "corp.example"),
        ("spiffe://a_b-c.9/x", "a_b-c.9"),
        (f"spiffe://corp.example/{'x' * 2026}", "corp.example"),
    ],
)
def test_a_spiffe_id_identifies_by_its_whole_text(spiffe_id: str, trust_domain: str) -> None:
    """The id is the certificate's text, unchanged, with its trust domain and the leaf's hash beside it."""
    principal = identity.principal_of(_certificate(spiffe_id), _ACCEPTED)
    assert principal == Principal(spiffe_id, Authentication.SPIFFE, trust_domain, _SHA256)


@pytest.mark.parametrize(
    "spiffe_id",
    [
        "",
        "spiffe://corp.example",
        "spiffe://corp.example/",
        "spiffe:///x",
        "spiffe:/corp.example/x",
        "SPIFFE://corp.example/x",
        "https://corp.example/x",
        "spiffe://CORP.example/x",
        "spiffe://corp.example/x/",
        "spiffe://corp.example//x",
        "spiffe://corp.example/./x",
        "spiffe://corp.example/a/../b",
        "spiffe://corp.example/..",
        "spiffe://corp.example/a%2fb",
        "spiffe://corp.example/x?q=1",
        "spiffe://corp.example/x#f",
        "spiffe://corp.example:443/x",
        "spiffe://corp.example@evil/x",
        "spiffe://corp.example/x\n",
        " spiffe://corp.example/x",
        "spiffe://corp.example/\N{CYRILLIC SMALL LETTER A}",
        "spiffe://corp.example/\N{ARABIC-INDIC DIGIT ONE}",
        "spiffe://corp.exampl\N{LATIN SMALL LETTER E WITH ACUTE}/x",
        f"spiffe://corp.example/{'x' * 2027}",
        f"spiffe://{'x' * 256}/x",
    ],
)
def test_what_the_grammar_forbids_identifies_nobody(spiffe_id: str) -> None:
    """Every form that SPIFFE forbids is refused, also those that gRPC's parser lets through."""
    accepted = AcceptedNames(frozenset({"corp.example", "", "x" * 256, "corp.example@evil"}), dns_names=True)
    failure = _refusal(_certificate(spiffe_id), accepted)
    assert (failure.reason, failure.log_text) == (
        Reason.UNAUTHENTICATED,
        "not a SPIFFE ID of a workload by the strict grammar",
    )


def test_a_trust_domain_may_have_255_characters() -> None:
    """The limit itself is inside."""
    domain = "x" * 255
    accepted = AcceptedNames(frozenset({domain}), dns_names=False)
    assert identity.trust_domain_of(f"spiffe://{domain}/y", accepted) == domain


@pytest.mark.parametrize("domain", ["evil.example", "corp.example.evil", "sub.corp.example", "corp.exampl"])
def test_only_listed_trust_domains_count(domain: str) -> None:
    """A domain is compared whole: neither a prefix nor a subdomain of a listed one is accepted."""
    assert _refusal(_certificate(f"spiffe://{domain}/x")).log_text == "trust domain is not accepted"


_ONE = "spiffe://corp.example/a"
_TWO = "spiffe://corp.example/b"


@pytest.mark.parametrize(
    "certificate",
    [
        _certificate(),
        _certificate(_ONE, _TWO),
        _certificate(_ONE, uri_names=(_ONE, _TWO)),
        _certificate(_ONE, uri_names=(_ONE, "https://corp.example")),
        _certificate(_ONE, uri_names=(_TWO,)),
        _certificate(_ONE, uri_names=()),
        _certificate(uri_names=(_ONE,)),
        _certificate(dns_names=(_ONE,)),
        _certificate(dns_names=("a.corp.example",)),
    ],
)
def test_exactly_one_uri_san_counts(certificate: PeerCertificate) -> None:
    """None, several, or one that gRPC and the leaf do not agree on: nobody; names of other kinds do not help."""
    assert _refusal(certificate).log_text == "certificate has not exactly one URI SAN with a SPIFFE ID"


def test_dns_sans_beside_a_spiffe_id_do_not_matter() -> None:
    """SPIFFE allows them; the SPIFFE ID identifies, whether DNS names count elsewhere or not."""
    for accepted in (_ACCEPTED, _WITH_DNS):
        principal = identity.principal_of(_certificate(_ONE, dns_names=("a.example", "*.b")), accepted)
        assert principal.id == _ONE


_LONG_LABEL = "x" * 63


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "qa-desk.corp.example",
        "9.a",
        "xn--bcher-kva.example",
        _LONG_LABEL,
        ".".join([_LONG_LABEL] * 3 + ["y" * 61]),
    ],
)
def test_a_host_name_identifies_where_dns_names_count(name: str) -> None:
    """The id of a DNS identity has its own prefix, so it can never be taken for a SPIFFE ID."""
    principal = identity.principal_of(_certificate(dns_names=(name,)), _WITH_DNS)
    assert principal == Principal(f"dns:{name}", Authentication.DNS, "", _SHA256)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*.corp.example",
        "A.example",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a_b",
        "a b",
        "a\n",
        "a/b",
        "a:b",
        _ONE,
        "x" * 64,
        ".".join([_LONG_LABEL] * 3 + ["y" * 62]),
        "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example",
    ],
)
def test_other_texts_in_a_dns_san_identify_nobody(name: str) -> None:
    """Wildcards, capitals, foreign characters and whatever else is no host name in its one spelling."""
    assert _refusal(_certificate(dns_names=(name,)), _WITH_DNS).log_text == "DNS SAN is not a host name in lower case"


@pytest.mark.parametrize("names", [(), ("a.example", "b.example"), ("a.example", "a.example")])
def test_exactly_one_dns_san_counts(names: tuple[str, ...]) -> None:
    """Several names are no identity, even if they are equal."""
    failure = _refusal(_certificate(dns_names=names), _WITH_DNS)
    assert failure.log_text == "certificate has not exactly one DNS SAN"


def test_a_certificate_with_a_uri_san_is_never_judged_by_its_dns_san() -> None:
    """A bad SPIFFE ID does not fall back to the DNS name beside it."""
    for spiffe_id in ("spiffe://evil.example/x", "https://corp.example/x"):
        _refusal(_certificate(spiffe_id, dns_names=("a.example",)), _WITH_DNS)
    _refusal(_certificate(uri_names=("https://corp.example",), dns_names=("a.example",)), _WITH_DNS)


@pytest.mark.parametrize(("now", "expired"), [(0.0, False), (2_000.0, False), (2_000.001, True), (9e9, True)])
def test_a_leaf_counts_until_its_last_second(now: float, expired: bool) -> None:  # noqa: FBT001 - a table's column
    """The end of validity is inside, whatever comes after is outside."""
    assert identity.is_expired(2_000.0, now) is expired


_TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.text("spife:/.-_%?#@*aA1\n", max_size=30)


@settings(deadline=None, max_examples=500)
@given(text=_TEXT | _TEXT.map(lambda end: "spiffe://corp.example/" + end))
def test_no_text_is_accepted_that_another_grammar_forbids(text: str) -> None:
    """An oracle that splits instead of matching agrees, on texts near the border too."""
    scheme, _, rest = text.partition("://")
    domain, *segments = rest.split("/")
    legal = (
        scheme == "spiffe"
        and domain == "corp.example"
        and bool(segments)
        and all(segment not in {"", ".", ".."} for segment in segments)
        and not re.sub("[A-Za-z0-9._-]", "", "".join(segments))
    )
    try:
        identity.trust_domain_of(text, _ACCEPTED)
    except Failure:
        assert not legal
    else:
        assert legal
