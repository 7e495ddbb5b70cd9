"""`core.claims`: which headers and claims prove whom."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import issuers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from issuers import AUDIENCE, CLUSTER, ISSUED_AT, ISSUER, LIFETIME_SECONDS
from monitor_contact_service.core import claims
from monitor_contact_service.core.caller import Authentication, EndUser, Principal
from monitor_contact_service.core.claims import LEEWAY_SECONDS, TokenRules
from monitor_contact_service.core.failures import Failure, Reason

_EXPIRY = ISSUED_AT + LIFETIME_SECONDS
_NOW = ISSUED_AT + 10.0
_OIDC = TokenRules(
    issuer=ISSUER,
    kind="oidc",
    audience=AUDIENCE,
    algorithms=frozenset({"RS256", "ES256"}),
    types=frozenset({"jwt", "at+jwt"}),
    max_lifetime_seconds=LIFETIME_SECONDS,
    connect_user_claim="connect_user_id",
)
_KUBERNETES = TokenRules(CLUSTER, "kubernetes", AUDIENCE, _OIDC.algorithms, _OIDC.types, LIFETIME_SECONDS, "")
_HEADER = {"alg": "RS256", "kid": "key-1", "typ": "JWT"}


def _principal(changes: dict[str, object], now: float = _NOW) -> Principal:
    return claims.principal_of(issuers.oidc_claims(**changes), _OIDC, now)


def _refusal(changes: dict[str, object], now: float = _NOW) -> Failure:
    with pytest.raises(Failure) as caught:
        _principal(changes, now)
    return caught.value


def _header_refusal(rules: TokenRules = _OIDC, **changes: object) -> str:
    header = {name: value for name, value in {**_HEADER, **changes}.items() if value is not None}
    with pytest.raises(Failure) as caught:
        claims.require_header(header, rules)
    assert caught.value.reason is Reason.UNAUTHENTICATED
    return caught.value.log_text


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_a_right_header_names_algorithm_and_key(typ: str) -> None:
    """The type is compared in any case, with or without "application/"."""
    assert claims.require_header({**_HEADER, "typ": typ}, _OIDC) == ("RS256", "key-1")


@pytest.mark.parametrize("algorithm", [None, "none", "None", "", "HS256", "PS256", "rs256", 256, ["RS256"], True])
def test_only_the_issuers_algorithms_count(algorithm: object) -> None:
    """The list decides, in its own spelling; neither a missing one nor another type of value gets past it."""
    assert "algorithm" in _header_refusal(alg=algorithm)


@pytest.mark.parametrize("key_id", [None, "", 1, ["key-1"], "a b", "a\n", "ключ", "k" * 513])
def test_a_header_must_name_its_key(key_id: object) -> None:
    """Without a kid nobody knows which key is meant, and trying all of them costs a verification each."""
    assert "names no key" in _header_refusal(kid=key_id)


@pytest.mark.parametrize("critical", [["b64"], ["exp"], [], "exp", 0])
def test_critical_extensions_are_refused(critical: object) -> None:
    """Whatever must be understood is not; an empty or odd list is no better."""
    assert "critical" in _header_refusal(crit=critical)


@pytest.mark.parametrize(
    "typ", ["", "JWE", "logout+jwt", "secevent+jwt", "dpop+jwt", "application/", 1, ["JWT"], False]
)
def test_other_types_are_refused(typ: object) -> None:
    """A token made for another purpose is none for this one, though its issuer signed it."""
    assert "another type" in _header_refusal(typ=typ)


def test_a_header_without_a_type_is_for_kubernetes_only() -> None:
    """Kubernetes writes none; of others it is refused unless their rules say "" in so many words."""
    header = {"alg": "RS256", "kid": "key-1"}
    assert claims.require_header(header, _KUBERNETES) == ("RS256", "key-1")
    assert "another type" in _header_refusal(typ=None)
    silent = TokenRules(ISSUER, "oidc", AUDIENCE, _OIDC.algorithms, frozenset({""}), LIFETIME_SECONDS, "")
    assert claims.require_header(header, silent) == ("RS256", "key-1")
    assert "another type" in _header_refusal(_KUBERNETES, typ="logout+jwt")


def test_an_oidc_token_proves_issuer_and_subject() -> None:
    """The id names both, because a subject is unique within its issuer only; `jti` goes with it."""
    assert _principal({}) == Principal(f"oidc:{ISSUER}#qa-desk", Authentication.OIDC, token_id="token-1")
    assert _principal({"jti": None}).token_id == ""


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE]])
def test_the_audience_may_be_a_list_of_one(audience: object) -> None:
    """RFC 7519 gives both forms the same meaning, and Kubernetes writes the list."""
    assert _principal({"aud": audience}).id.endswith("#qa-desk")


@pytest.mark.parametrize(
    "audience",
    [None, "", "other", f"{AUDIENCE} ", AUDIENCE.upper(), [], [AUDIENCE, "other"], [AUDIENCE, AUDIENCE], [[AUDIENCE]]],
)
def test_no_other_audience_counts(audience: object) -> None:
    """A token that is for others too could be replayed here by each of them."""
    assert "this service alone" in _refusal({"aud": audience}).log_text


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [str(ISSUED_AT), float(ISSUED_AT), True, [ISSUED_AT], {}, "soon", ""])
def test_times_are_integers(claim: str, value: object) -> None:
    """Text, fractions and booleans are no times; PyJWT would take most of them."""
    assert _refusal({claim: value}).log_text == f"token's {claim} is not an integer"


@pytest.mark.parametrize("claim", ["exp", "iat"])
def test_end_and_beginning_are_required(claim: str) -> None:
    """Without either nobody knows how long a token lives."""
    assert claim in _refusal({claim: None}).log_text


@pytest.mark.parametrize("expiry", [ISSUED_AT + LIFETIME_SECONDS + 1, 10**30, 10**4000])
def test_a_token_that_lives_too_long_is_refused(expiry: int) -> None:
    """From `iat` to `exp` at most the hour that the rules allow, whatever is left of it."""
    assert _refusal({"exp": expiry}).log_text == "token lives too long"


def test_a_token_ends_to_the_second() -> None:
    """The leeway after `exp` belongs to it, its last moment does not; `ends_at` says the same."""
    end = _EXPIRY + LEEWAY_SECONDS
    assert claims.ends_at(issuers.oidc_claims()) == end
    assert _principal({}, now=end - 0.001).id
    assert _refusal({}, now=end).log_text == "token has expired"


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_begins_to_the_second(claim: str) -> None:
    """A clock may be 30 s behind the issuer's, not more; without `nbf` it is `iat` that counts."""
    changes: dict[str, object] = {claim: ISSUED_AT + 100}
    assert _principal(changes, now=ISSUED_AT + 70).id
    assert _refusal(changes, now=ISSUED_AT + 69.999).log_text == "token is not valid yet"


@pytest.mark.parametrize("subject", [None, "", 7, ["a"], {}, True, "a b", "a\n", "\tb", "ä", "s" * 513, "a\x00"])
def test_a_malformed_subject_is_refused(subject: object) -> None:
    """Printable ASCII without blanks, at most 512: what else there is could imitate another id in a record."""
    assert _refusal({"sub": subject}).log_text == "token's sub is malformed"


def test_a_subject_may_have_512_characters() -> None:
    """The longest one is taken whole."""
    assert _principal({"sub": "s" * 512}).id == f"oidc:{ISSUER}#{'s' * 512}"


@pytest.mark.parametrize("token_id", ["", 7, False, ["a"], "a b", "j" * 513])
def test_a_malformed_token_id_is_refused(token_id: object) -> None:
    """It goes into the record as it is."""
    assert _refusal({"jti": token_id}).log_text == "token's jti is malformed"


@pytest.mark.parametrize(
    ("subject", "principal_id"),
    [
        ("system:serviceaccount:batch:coach", "k8s:batch:coach"),
        ("system:serviceaccount:a:1", "k8s:a:1"),
        (f"system:serviceaccount:{'n' * 63}:coach.v2.x-1", f"k8s:{'n' * 63}:coach.v2.x-1"),
    ],
)
def test_a_kubernetes_token_proves_a_service_account(subject: str, principal_id: str) -> None:
    """Namespace and name, in an id that no other kind of identity can have."""
    principal = claims.principal_of(issuers.kubernetes_claims(sub=subject, jti="j"), _KUBERNETES, _NOW)
    assert principal == Principal(principal_id, Authentication.KUBERNETES, token_id="j")


@pytest.mark.parametrize(
    "subject",
    [
        "coach",
        "system:serviceaccount:batch",
        "system:serviceaccount:batch:",
        "system:serviceaccount::coach",
        "system:serviceaccount:batch:coach:x",
        "xsystem:serviceaccount:batch:coach",
        "system:serviceaccount:Batch:coach",
        "system:serviceaccount:a.b:coach",
        "system:serviceaccount:-a:coach",
        "system:serviceaccount:batch:coach-",
        "system:serviceaccount:batch:a..b",
        f"system:serviceaccount:{'n' * 64}:coach",
        f"system:serviceaccount:batch:{'.'.join(['n' * 63] * 4)}",
        "system:node:node-a",
    ],
)
def test_other_subjects_of_a_cluster_are_refused(subject: str) -> None:
    """Only names that Kubernetes gives to service accounts, whole."""
    with pytest.raises(Failure, match="not that of a service account"):
        claims.principal_of(issuers.kubernetes_claims(sub=subject), _KUBERNETES, _NOW)


def test_an_end_users_token_names_the_user_in_connect() -> None:
    """Issuer, subject and jti for the record, the Connect user for the policy; "" where the claim is missing."""
    right = issuers.end_user_claims()
    assert claims.end_user_of(right, _OIDC, _NOW) == EndUser(ISSUER, "person-1", "user-1", "token-1")
    assert claims.end_user_of({**right, "connect_user_id": None}, _OIDC, _NOW).connect_user_id == ""


@pytest.mark.parametrize("user", ["", 0, False, ["user-1"], {}, "user 1", "u" * 257, "user-1\n"])
def test_a_malformed_connect_user_is_refused(user: object) -> None:
    """A claim that is there must be a user's id: it decides for whom the service may listen."""
    with pytest.raises(Failure, match="connect_user_id is malformed"):
        claims.end_user_of(issuers.end_user_claims(connect_user_id=user), _OIDC, _NOW)


def test_an_end_users_token_must_be_valid_like_any_other() -> None:
    """Time and audience are asked for people too."""
    for changes in ({"aud": "other"}, {"exp": ISSUED_AT - 60}, {"sub": 7}):
        with pytest.raises(Failure):
            claims.end_user_of(issuers.end_user_claims(**changes), _OIDC, _NOW)


def test_a_refusal_tells_no_value() -> None:
    """What is wrong is logged by its rule; the token's content is not."""
    for changes in ({"aud": "canary"}, {"sub": "can ary"}, {"jti": "can ary"}, {"exp": "canary"}):
        failure = _refusal(dict(changes))
        assert failure.reason is Reason.UNAUTHENTICATED
        assert "ary" not in str(failure)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_NAMES = ("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "connect_user_id")


@contextmanager
def _refusals() -> Iterator[None]:
    """Let UNAUTHENTICATED pass, and no other exception."""
    try:
        yield
    except Failure as refusal:
        if refusal.reason is not Reason.UNAUTHENTICATED:
            raise


@settings(deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from(_NAMES), _ANYTHING, min_size=1),
    rules=st.sampled_from([_OIDC, _KUBERNETES]),
)
def test_any_claims_end_in_an_identity_or_in_a_refusal(changes: dict[str, Any], rules: TokenRules) -> None:
    """No type of value in any claim raises anything but UNAUTHENTICATED, and what is accepted is well formed."""
    right = issuers.kubernetes_claims() if rules is _KUBERNETES else issuers.end_user_claims()
    with _refusals():
        principal = claims.principal_of({**right, **changes}, rules, _NOW)
        person = claims.end_user_of({**right, **changes}, rules, _NOW)
        assert principal.id.isascii()
        assert principal.id.isprintable()
        assert " " not in principal.id + person.connect_user_id


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jku", "jwk", "x5u"]), _ANYTHING))
def test_any_header_ends_in_its_own_names_or_in_a_refusal(header: dict[str, Any]) -> None:
    """Keys that a header brings along (jku, jwk, x5u) are never looked at; no value raises anything else."""
    with _refusals():
        algorithm, key_id = claims.require_header({**_HEADER, **header}, _OIDC)
        assert algorithm in _OIDC.algorithms
        assert isinstance(key_id, str)
