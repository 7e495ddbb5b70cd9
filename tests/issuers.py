"""Makes key pairs, JSON Web Key Sets and signed tokens of any shape for tests: right ones and wrong ones."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER: Final = "https://login.corp.example"
CLUSTER: Final = "https://kubernetes.default.svc"
AUDIENCE: Final = "monitor-contact"
# Of every token whose test says nothing else; epoch seconds. Its life is the hour that is allowed.
ISSUED_AT: Final = 1_800_000_000
LIFETIME_SECONDS: Final = 3_600

Claims = Mapping[str, object]

_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key of an issuer, the id that its tokens name it by, and the algorithm that it signs with."""

    kid: str
    algorithm: str
    private: Any

    def jwk(self, **changes: object) -> dict[str, object]:
        """Return the public half as a JSON Web Key; a change to None leaves that member out."""
        public = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        # PyJWT adds key_ops, which RFC 7517 says not to use beside `use`.
        return _changed({**public, "key_ops": None, "kid": self.kid, "use": "sig", "alg": self.algorithm}, changes)

    def private_jwk(self) -> dict[str, object]:
        """Return the whole pair as a JSON Web Key, which no server should ever publish."""
        whole = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private, as_dict=True)
        return _changed(whole, {"key_ops": None, "kid": self.kid, "use": "sig"})

    def sign(self, message: bytes) -> bytes:
        """Return the signature, as JWS has it."""
        signature: bytes = jwt.get_algorithm_by_name(self.algorithm).sign(message, self.private)
        return signature

    def token(self, claims: Claims | bytes, **header: object) -> str:
        """Return a signed token. `header` changes its header; a change to None leaves that member out."""
        whole = _changed({"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}, header)
        return compact(whole, claims, self.sign)


@lru_cache
def key_pair(algorithm: str = "RS256", kid: str = "key-1", *, bits: int = 2048, number: int = 0) -> KeyPair:
    """Return a pair, the same one for equal arguments; another `number` makes another pair with the same kid."""
    del number
    return KeyPair(kid, algorithm, _private(algorithm, bits))


def key_set(*keys: KeyPair | Mapping[str, object]) -> bytes:
    """Return the document that an issuer publishes, from pairs and from JWKs."""
    return json.dumps({"keys": [key.jwk() if isinstance(key, KeyPair) else key for key in keys]}).encode()


def oidc_claims(**changes: object) -> dict[str, object]:
    """Return right claims of an OIDC token for a calling service; a change to None leaves that claim out."""
    claims = {"iss": ISSUER, "sub": "qa-desk", "aud": AUDIENCE, "iat": ISSUED_AT, "jti": "token-1"}
    return _changed({**claims, "exp": ISSUED_AT + LIFETIME_SECONDS}, changes)


def end_user_claims(**changes: object) -> dict[str, object]:
    """Return right claims of a token for a person, who is user `user-1` in Connect."""
    return oidc_claims(**{"sub": "person-1", "connect_user_id": "user-1", **changes})


def kubernetes_claims(**changes: object) -> dict[str, object]:
    """Return the claims of a projected service-account token, in the shape that Kubernetes 1.30 gives them."""
    claims: dict[str, object] = {
        "aud": [AUDIENCE],
        "exp": ISSUED_AT + LIFETIME_SECONDS,
        "iat": ISSUED_AT,
        "iss": CLUSTER,
        "jti": "0d6b2f3a-64a2-4f0e-8f3f-3f1d7a1c2b11",
        "kubernetes.io": {
            "namespace": "batch",
            "node": {"name": "node-a", "uid": "5b2c7d0e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"},
            "pod": {"name": "coach-7c9f", "uid": "11b14f4c-3c38-4a4f-9d4e-6a0a52a9a1c7"},
            "serviceaccount": {"name": "coach", "uid": "f2f3a5de-7a3e-4f1e-8f57-0c1d2e3f4a5b"},
        },
        "nbf": ISSUED_AT,
        "sub": "system:serviceaccount:batch:coach",
    }
    return _changed(claims, changes)


def compact(header: Claims | bytes, payload: Claims | bytes, sign: Callable[[bytes], bytes]) -> str:
    """Return the compact form of whatever header and payload are; bytes are taken as they are, JSON or not."""
    signed = b".".join(base64url(part if isinstance(part, bytes) else _json(part)) for part in (header, payload))
    return b".".join((signed, base64url(sign(signed)))).decode()


def base64url(raw: bytes) -> bytes:
    """Return base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=")


def _private(algorithm: str, bits: int) -> Any:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm])
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


def _changed(members: Claims, changes: Claims) -> dict[str, object]:
    return {name: value for name, value in {**members, **changes}.items() if value is not None}


def _json(members: Claims) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()
