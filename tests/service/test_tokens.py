"""`tokens`: the token matrix. Every token but a right one is refused, whoever signed it, in whatever spelling."""

import hmac
import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import issuers
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fakes import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st
from issuers import AUDIENCE, CLUSTER, ISSUED_AT, ISSUER, KeyPair, compact, key_pair, oidc_claims
from monitor_contact_service.access import Issuer
from monitor_contact_service.core.caller import Authentication, EndUser, Principal
from monitor_contact_service.core.claims import LEEWAY_SECONDS
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.jwks import VerificationKey, read_key_set
from monitor_contact_service.tokens import REMEMBERED_SECONDS, REMEMBERED_TOKENS, TOKEN_MAX_BYTES, TokenVerifier

_KEY = key_pair("ES256")
_RSA = key_pair("RS256", "rsa-1")
_EXPIRY = ISSUED_AT + issuers.LIFETIME_SECONDS


def _issuer(**changes: Any) -> Issuer:
    right = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ("ES256", "RS256"), "keys": "unread"}
    return Issuer(**{**right, **changes})


_CALLERS = _issuer()
_PEOPLE = _issuer(identifies="end-users")
_CLUSTER = _issuer(issuer=CLUSTER, tokens="kubernetes")


class FakeKeys:
    """The same keys for every issuer; counts how often one is asked for."""

    def __init__(self, *keys: KeyPair | Mapping[str, object]) -> None:
        self.version = 0
        self.asked = 0
        self.publish(*keys)

    def publish(self, *keys: KeyPair | Mapping[str, object]) -> None:
        """Replace them all."""
        self.version += 1
        self.keys = read_key_set(issuers.key_set(*keys)).keys

    def key(self, issuer: Issuer, key_id: str) -> VerificationKey | None:
        """Return the key of that kid."""
        assert isinstance(issuer, Issuer)
        self.asked += 1
        return self.keys.get(key_id)


class Rig:
    """A verifier for callers, people and a cluster, ten seconds after the tokens were issued."""

    def __init__(self, *keys: KeyPair | Mapping[str, object]) -> None:
        self.keys = FakeKeys(*(keys or (_KEY, _RSA)))
        self.clock = FakeClock(ISSUED_AT + 10.0)
        self.verifier = TokenVerifier([_CALLERS, _PEOPLE, _CLUSTER], keys=self.keys, clock=self.clock)

    def refusal(self, token: str) -> str:
        """Return the rule that a token breaks, as a caller's and as a person's: the same one."""
        said = {_refusal(self.verifier.principal, token), _refusal(self.verifier.end_user, token)}
        assert len(said) == 1
        return said.pop()


def _refusal(verify: Callable[[str], object], token: str) -> str:
    with pytest.raises(Failure) as caught:
        verify(token)
    assert caught.value.reason is Reason.UNAUTHENTICATED
    assert caught.value.log_text
    return caught.value.log_text


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"])
def test_each_algorithm_verifies_where_it_is_configured(algorithm: str) -> None:
    """A right token of every algorithm that an issuer may use; one that its list leaves out is refused."""
    pair = key_pair(algorithm, f"{algorithm}-key")
    keys = FakeKeys(pair)
    clock = FakeClock(ISSUED_AT)
    token = pair.token(oidc_claims())
    right = TokenVerifier([_issuer(algorithms=(algorithm,))], keys=keys, clock=clock)
    assert right.principal(token).id == f"oidc:{ISSUER}#qa-desk"
    other = TokenVerifier([_issuer(algorithms=("EdDSA",))], keys=keys, clock=clock)
    assert _refusal(other.principal, token) == "token's algorithm is not one of its issuer's"


def test_eddsa_verifies() -> None:
    """Ed25519, whose name of the algorithm is that of a family."""
    pair = key_pair("EdDSA", "ed-1")
    verifier = TokenVerifier([_issuer(algorithms=("EdDSA",))], keys=FakeKeys(pair), clock=FakeClock(ISSUED_AT))
    assert verifier.principal(pair.token(oidc_claims())).authentication is Authentication.OIDC


def test_a_projected_token_of_kubernetes_proves_its_service_account() -> None:
    """The claims as a cluster writes them (audience as a list, no typ, a kubernetes.io object) are accepted."""
    token = _RSA.token(issuers.kubernetes_claims(), typ=None)
    assert Rig().verifier.principal(token) == Principal(
        "k8s:batch:coach", Authentication.KUBERNETES, token_id="0d6b2f3a-64a2-4f0e-8f3f-3f1d7a1c2b11"
    )


def test_a_persons_token_proves_the_person() -> None:
    """Issuer, subject, the user in Connect, and the token's id."""
    token = _KEY.token(issuers.end_user_claims())
    assert Rig().verifier.end_user(token) == EndUser(ISSUER, "person-1", "user-1", "token-1")


def test_a_token_is_good_for_one_use_only() -> None:
    """An issuer of callers alone proves no person, one of people alone no caller, though remembered as the other."""
    token = _KEY.token(issuers.end_user_claims())
    keys, clock = FakeKeys(_KEY), FakeClock(ISSUED_AT)
    callers = TokenVerifier([_CALLERS], keys=keys, clock=clock)
    people = TokenVerifier([_PEOPLE], keys=keys, clock=clock)
    assert callers.principal(token).id
    assert _refusal(callers.end_user, token) == "token's issuer is not accepted here"
    assert people.end_user(token).subject
    assert _refusal(people.principal, token) == "token's issuer is not accepted here"


# What PyJWT by itself refuses.


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None])
def test_an_unsigned_token_is_refused(algorithm: str | None) -> None:
    """`alg` none, in any case, with no signature and with some."""
    header = {"alg": algorithm, "kid": _KEY.kid, "typ": "JWT"}
    unsigned = compact(header, oidc_claims(), lambda _: b"")
    for signature in (b"", b"x", _KEY.sign(b"")):
        assert Rig().refusal(unsigned + issuers.base64url(signature).decode())


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_a_public_key_is_no_shared_secret(form: Encoding, algorithm: str) -> None:
    """Who knows the public key cannot sign with it by HMAC, whichever algorithm the header names."""
    public = _RSA.private.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": algorithm, "kid": _RSA.kid, "typ": "JWT"}
    forged = compact(header, oidc_claims(), lambda text: hmac.digest(public, text, sha256))
    assert Rig().refusal(forged)


def test_an_algorithm_of_another_key_is_refused() -> None:
    """A header cannot have an elliptic key used for RSA, nor RSA for elliptic curves, nor one padding for another."""
    rig = Rig()
    for pair, algorithm in ((_KEY, "RS256"), (_RSA, "ES256")):
        assert rig.refusal(pair.token(oidc_claims(), alg=algorithm)) == "token's algorithm does not fit its key"
    pss = key_pair("PS256", _RSA.kid)
    verifier = TokenVerifier([_issuer(algorithms=("RS256", "PS256"))], keys=rig.keys, clock=rig.clock)
    assert "fit its key" in _refusal(verifier.principal, KeyPair(_RSA.kid, "PS256", _RSA.private).token(oidc_claims()))
    assert "fit its key" in _refusal(verifier.principal, pss.token(oidc_claims()))


def test_the_key_that_a_token_brings_along_is_not_used() -> None:
    """`jwk` in the header is a stranger's own key, `jku` and `x5u` are addresses that nobody should visit."""
    stranger = key_pair("ES256", _KEY.kid, number=1)
    for extra in ({"jwk": stranger.jwk()}, {"jku": "http://127.0.0.1:1/"}, {"x5u": "http://127.0.0.1:1/"}):
        assert "signature" in Rig().refusal(stranger.token(oidc_claims(), **extra))


@pytest.mark.parametrize("critical", [["exp"], ["b64"], ["http://example/x"], [], "exp"])
def test_unknown_critical_extensions_are_refused(critical: object) -> None:
    """Also those that PyJWT would understand: this service understands none."""
    assert "critical" in Rig().refusal(_KEY.token(oidc_claims(), crit=critical, b64=False))


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat"])
def test_every_claim_that_counts_is_required(claim: str) -> None:
    """Signed, but silent about one of them."""
    assert Rig().refusal(_KEY.token(oidc_claims(**{claim: None})))


@pytest.mark.parametrize("value", [1, ["a"], {"a": 1}, True])
@pytest.mark.parametrize("claim", ["iss", "sub"])
def test_issuer_and_subject_are_text(claim: str, value: object) -> None:
    """Numbers, lists and objects prove nobody."""
    assert Rig().refusal(_KEY.token(oidc_claims(**{claim: value})))


def test_a_token_from_the_future_is_refused() -> None:
    """Its `iat` may be 30 s ahead of our clock, which is ten seconds after it was issued, not more."""
    rig = Rig()
    assert rig.verifier.principal(_KEY.token(oidc_claims(iat=ISSUED_AT + 10 + LEEWAY_SECONDS))).id
    assert rig.refusal(_KEY.token(oidc_claims(iat=ISSUED_AT + 11 + LEEWAY_SECONDS))) == "token is not valid yet"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 5_000])
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
def test_numbers_that_are_none_are_refused(claim: str, number: str) -> None:
    """What Python's parser would take for numbers, and digits that would cost it seconds."""
    text = json.dumps(oidc_claims(**{claim: "NUMBER"})).replace('"NUMBER"', number).encode()
    assert Rig().refusal(_KEY.token(text))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_not_json_is_refused_anywhere(number: str) -> None:
    """Also in a claim that nobody asks for: another parser would not have read the token at all."""
    text = json.dumps(oidc_claims(x="NUMBER")).replace('"NUMBER"', number).encode()
    assert Rig().refusal(_KEY.token(text)) == "token cannot be read"


def test_megabytes_are_refused_before_they_are_looked_at() -> None:
    """Above 8 KiB nothing is hashed, split or parsed; one byte less is looked at."""
    rig = Rig()
    assert rig.refusal("x" * 10_000_000) == "not a token: too long, or not ASCII"
    assert rig.refusal("x" * (TOKEN_MAX_BYTES + 1)) == "not a token: too long, or not ASCII"
    assert rig.refusal("x" * TOKEN_MAX_BYTES) == "not a token in compact form"
    long = _KEY.token(oidc_claims(padding="x" * 5_800))
    assert 7_900 < len(long) <= TOKEN_MAX_BYTES
    assert rig.verifier.principal(long).id
    assert rig.refusal(_KEY.token(oidc_claims(padding="x" * 6_000))).startswith("not a token: too long")


@pytest.mark.parametrize("bracket", [b"[", b'{"a":', b'{"iss":{"a":'])
def test_deep_nesting_is_refused(bracket: bytes) -> None:
    """As deep as 8 KiB allow, in the claims and in the header: refused, not a crash."""
    deep = bracket * (3_000 // len(bracket))
    rig = Rig()
    assert rig.refusal(_KEY.token(deep)) == "token cannot be read"
    assert rig.refusal(compact(deep, oidc_claims(), _KEY.sign)) == "token cannot be read"


# What PyJWT by itself accepts.


def test_an_end_in_text_is_refused() -> None:
    """`exp` must be an integer."""
    assert Rig().refusal(_KEY.token(oidc_claims(exp=str(_EXPIRY)))) == "token's exp is not an integer"


def test_an_end_that_never_comes_is_refused() -> None:
    """`exp` at most an hour after `iat`, or what the issuer's entry says."""
    assert Rig().refusal(_KEY.token(oidc_claims(exp=10**30))) == "token lives too long"
    two_hours = _KEY.token(oidc_claims(exp=ISSUED_AT + 7_200))
    assert Rig().refusal(two_hours) == "token lives too long"
    patient = TokenVerifier([_issuer(max_lifetime_seconds=7_200)], keys=FakeKeys(_KEY), clock=FakeClock(ISSUED_AT))
    assert patient.principal(two_hours).id


@pytest.mark.parametrize("name", ["sub", "iss", "aud", "x"])
def test_a_name_that_stands_twice_is_refused(name: str) -> None:
    """In the claims, where the last would win and a proxy in front might have believed the first."""
    text = json.dumps(oidc_claims(x="y"))
    twice = text[:-1] + f', "{name}": {json.dumps(oidc_claims(x="y")[name])}' + "}"
    assert Rig().refusal(_KEY.token(twice.encode())) == "token cannot be read"


def test_a_name_that_stands_twice_deeper_down_is_refused() -> None:
    """In the header and in objects within the claims too."""
    header = f'{{"alg":"ES256","kid":"{_KEY.kid}","kid":"{_KEY.kid}","typ":"JWT"}}'.encode()
    assert Rig().refusal(compact(header, oidc_claims(), _KEY.sign)) == "token cannot be read"
    inner = json.dumps(oidc_claims())[:-1] + ', "x": [{"a": 1, "a": 1}]}'
    assert Rig().refusal(_KEY.token(inner.encode())) == "token cannot be read"


@pytest.mark.parametrize("typ", ["logout+jwt", "secevent+jwt", "JWE", "", None])
def test_another_type_of_token_is_refused(typ: str | None) -> None:
    """Only the types of the issuer's entry; a missing one only from Kubernetes."""
    assert Rig().refusal(_KEY.token(oidc_claims(), typ=typ)) == "token is of another type"


@pytest.mark.parametrize("audience", [[AUDIENCE, "other"], ["other", AUDIENCE], "other", ["other"], []])
def test_an_audience_among_others_is_refused(audience: object) -> None:
    """The token is for this service alone, or not for it."""
    assert Rig().refusal(_KEY.token(oidc_claims(aud=audience))) == "token is not for this service alone"


@pytest.mark.parametrize(
    "spelling",
    ["{}=", "{}==", "{}===", "{} ", " {}", "{}\n", "{}.", ".{}", "{}.x", "{}..", "Bearer {}", "{}\x00", "{},{}", "{}é"],
)
def test_no_other_spelling_of_a_right_token_is_taken(spelling: str) -> None:
    """Padding, blanks, further parts and a repeat: one token has one text."""
    token = _KEY.token(oidc_claims())
    assert Rig().refusal(spelling.replace("{}", token))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_spare_bits_and_padding_within_are_refused(part: int) -> None:
    """base64's last character may hold bits that say nothing, which parsers ignore; each part may have padding."""
    # Lengths of which the last character has spare bits: signatures of 64 bytes, header and claims made to fit.
    header = {"alg": "ES256", "kid": _KEY.kid, "typ": "JWT"}
    claims = next(
        claims
        for claims in (oidc_claims(x="x" * n) for n in range(3))
        if len(_KEY.token(claims).split(".")[1]) % 4 == 2
    )
    parts = compact(_spare(header), claims, _KEY.sign).split(".")
    assert Rig().verifier.principal(".".join(parts)).id
    last = parts[part][-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(last) + 1]
    for changed in (parts[part][:-1] + other, parts[part] + "=="):
        spelled = ".".join([*parts[:part], changed, *parts[part + 1 :]])
        assert Rig().refusal(spelled) in {"token cannot be read", "not a token in compact form"}


def _spare(header: Mapping[str, object]) -> bytes:
    """Return a header whose base64url ends in a character with spare bits."""
    text = json.dumps(header).encode()
    return text + b" " * (-(len(text) - 1) % 3)


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "e30.e30.", ".e30.e30", "e30..e30", "e30.e30.e30", "W10.W10.e30"],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    """Too few parts, too many, empty ones, no JSON, no objects, no issuer."""
    assert Rig().refusal(token)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "latin-1"])
def test_text_that_is_not_utf_8_is_refused(encoding: str) -> None:
    """Python's JSON parser would guess the encoding."""
    text = json.dumps(oidc_claims(x="é"), ensure_ascii=False).encode(encoding)
    assert Rig().refusal(_KEY.token(text)) == "token cannot be read"


# Keys, issuers, time.


def test_a_strangers_signature_is_refused() -> None:
    """The right kid with another key, and a right signature of other content."""
    stranger = key_pair("ES256", _KEY.kid, number=1)
    assert Rig().refusal(stranger.token(oidc_claims())) == "token's signature does not verify"
    head, _, signature = _KEY.token(oidc_claims()).split(".")
    other = _KEY.token(oidc_claims(sub="admin")).split(".")[1]
    assert Rig().refusal(f"{head}.{other}.{signature}") == "token's signature does not verify"


@pytest.mark.parametrize("key_id", [None, "", "unknown", 1])
def test_a_key_that_is_not_named_or_not_known_is_refused(key_id: object) -> None:
    """No other key is tried in its place."""
    assert "key" in Rig().refusal(_KEY.token(oidc_claims(), kid=key_id))


@pytest.mark.parametrize("issuer", [f"{ISSUER}/", ISSUER.upper(), ISSUER[:-1], f"{ISSUER}#x", "", CLUSTER + "x"])
def test_an_issuer_is_compared_whole(issuer: str) -> None:
    """Neither a prefix nor another spelling of an issuer is that issuer."""
    assert Rig().refusal(_KEY.token(oidc_claims(iss=issuer))) == "token's issuer is not accepted here"


def test_each_issuer_has_keys_of_its_own() -> None:
    """The key of one issuer signs nothing in the name of another."""
    own = {ISSUER: _KEY, CLUSTER: _RSA}

    class OwnKeys(FakeKeys):
        def key(self, issuer: Issuer, key_id: str) -> VerificationKey | None:
            return self.keys.get(key_id) if own[issuer.issuer].kid == key_id else None

    verifier = TokenVerifier([_CALLERS, _CLUSTER], keys=OwnKeys(_KEY, _RSA), clock=FakeClock(ISSUED_AT))
    assert verifier.principal(_KEY.token(oidc_claims())).id
    assert _refusal(verifier.principal, _RSA.token(oidc_claims())) == "token's key is not known"
    assert _refusal(verifier.principal, _KEY.token(issuers.kubernetes_claims())) == "token's key is not known"


def test_a_token_is_verified_once_a_minute() -> None:
    """Within 60 s it is known by its hash; then its signature is checked again."""
    rig = Rig()
    token = _KEY.token(oidc_claims())
    first = rig.verifier.principal(token)
    rig.clock.advance(REMEMBERED_SECONDS - 0.001)
    assert rig.verifier.principal(token) is first
    assert rig.keys.asked == 1
    rig.clock.advance(0.001)
    assert rig.verifier.principal(token) == first
    assert rig.keys.asked == 2


def test_a_remembered_token_ends_when_it_ends() -> None:
    """To the millisecond, however short it was remembered."""
    rig = Rig()
    token = _KEY.token(oidc_claims())
    end = _EXPIRY + LEEWAY_SECONDS
    rig.clock.now = end - 1.0
    assert rig.verifier.principal(token).id
    rig.clock.now = end - 0.001
    assert rig.verifier.principal(token).id
    assert rig.keys.asked == 1
    rig.clock.now = end
    assert _refusal(rig.verifier.principal, token) == "token has expired"


def test_a_key_that_is_taken_back_ends_its_tokens_at_once() -> None:
    """A change of keys makes every token be verified again, remembered ones too."""
    rig = Rig()
    token, other = _KEY.token(oidc_claims()), _RSA.token(oidc_claims())
    assert rig.verifier.principal(token).id
    rig.keys.publish(_RSA)
    assert rig.refusal(token) == "token's key is not known"
    assert rig.verifier.principal(other).id


def test_a_change_of_issuers_acts_at_once() -> None:
    """An issuer that is gone, or wants another audience, is not believed for what was remembered of it."""
    rig = Rig()
    token = _KEY.token(oidc_claims())
    assert rig.verifier.principal(token).id
    rig.verifier.change([_issuer(audience="other"), _CLUSTER])
    assert _refusal(rig.verifier.principal, token) == "token is not for this service alone"
    rig.verifier.change([_CLUSTER])
    assert _refusal(rig.verifier.principal, token) == "token's issuer is not accepted here"


def test_refusals_are_not_remembered() -> None:
    """A token whose key came later is accepted then; floods of bad ones take no memory."""
    rig = Rig(_RSA)
    token = _KEY.token(oidc_claims())
    assert rig.refusal(token) == "token's key is not known"
    assert not rig.verifier._callers._remembered
    rig.keys.publish(_RSA, _KEY)
    assert rig.verifier.principal(token).id


def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    """Above the bound the token that was not used for longest is forgotten."""
    rig = Rig()
    used, unused = (_KEY.token(oidc_claims(jti=name)) for name in ("used", "unused"))
    first = rig.verifier.principal(used)
    rig.verifier.principal(unused)
    remembered = rig.verifier._callers._remembered
    filler = next(iter(remembered.values()))
    for number in range(REMEMBERED_TOKENS - 2):
        remembered[str(number).encode()] = filler
    assert rig.verifier.principal(used) is first
    rig.verifier.principal(_KEY.token(oidc_claims(jti="new")))
    assert len(remembered) == REMEMBERED_TOKENS
    assert sha256(used.encode()).digest() in remembered
    assert sha256(unused.encode()).digest() not in remembered


def test_a_refusal_holds_nothing_of_the_token() -> None:
    """Neither its text nor its claims are in what is logged, nor is there a library's text."""
    rig = Rig()
    for token in (
        _KEY.token(oidc_claims(iss="canary")),
        _KEY.token(oidc_claims(sub="can ary")),
        _KEY.token(oidc_claims(), kid="canary"),
        _KEY.token(oidc_claims(), alg="canary"),
        _KEY.token(b'{"canary":'),
    ):
        said = rig.refusal(token)
        assert "ary" not in said
        assert not any(part in said for part in token.split("."))


_RIG = Rig()
_SIGNED = [_KEY.token(issuers.end_user_claims()), _RSA.token(issuers.end_user_claims())]
_CHARACTERS = st.characters(codec="ascii") | st.sampled_from("ABCxyz019-_.=+/ ")


@st.composite
def _mutations(draw: st.DrawFn) -> str:
    """Draw a right token with some of its characters replaced, inserted or removed, or its parts exchanged."""
    token = draw(st.sampled_from(_SIGNED))
    for _ in range(draw(st.integers(min_value=1, max_value=3))):
        place = draw(st.integers(min_value=0, max_value=len(token) - 1))
        cut = draw(st.integers(min_value=0, max_value=3))
        token = token[:place] + draw(st.text(_CHARACTERS, max_size=3)) + token[place + cut :] or "x"
    if draw(st.booleans()):
        token = ".".join(draw(st.permutations(token.split("."))))
    return token


@settings(deadline=None, max_examples=400)
@given(token=_mutations())
def test_no_mutation_of_a_right_token_is_accepted(token: str) -> None:
    """Whatever is changed, and though the right ones are remembered: only UNAUTHENTICATED."""
    for right in _SIGNED:
        assert _RIG.verifier.principal(right).id
        assert _RIG.verifier.end_user(right).subject
    if token not in _SIGNED:
        _RIG.refusal(token)


@settings(deadline=None, max_examples=200)
@given(header=st.binary(max_size=60), payload=st.binary(max_size=60))
def test_no_bytes_in_place_of_json_do_harm(header: bytes, payload: bytes) -> None:
    """Whatever bytes stand in header or claims, signed as they are: refused, never another exception."""
    _RIG.refusal(compact(header, payload, _KEY.sign))
    _RIG.refusal(_KEY.token(payload))


@pytest.mark.parametrize(
    ("token", "rule"),
    [
        (_KEY.token(oidc_claims(exp=str(2**40))), "token's exp is not an integer"),
        (_KEY.token(oidc_claims(exp=10**30)), "token lives too long"),
        (_KEY.token(oidc_claims(), typ="logout+jwt"), "token is of another type"),
        (_KEY.token(oidc_claims(aud=[AUDIENCE, "other"])), "token is not for this service alone"),
        (_KEY.token(oidc_claims()) + "==", "not a token in compact form"),
        (_KEY.token(json.dumps(oidc_claims())[:-1].encode() + b',"sub":"admin"}'), "token cannot be read"),
    ],
)
def test_pyjwt_alone_would_accept_what_is_refused_here(token: str, rule: str) -> None:
    """The control: without our rules these tokens pass, so the tests above prove the rules and not the library."""
    # Its clock is the machine's own: of the end only the type is asked, where it is far away.
    far = "exp" in rule or "long" in rule
    options: Any = {"verify_iat": False, "verify_exp": far}
    public = _KEY.private.public_key()
    assert jwt.decode(token, public, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER, options=options)
    assert Rig().refusal(token) == rule
