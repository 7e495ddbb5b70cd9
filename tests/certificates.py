"""Makes CAs and leaf certificates for tests, with any SANs, times and keys (P-256 by default). Keeps no files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

CLIENT_AUTH: Final = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH: Final = ExtendedKeyUsageOID.SERVER_AUTH
# What a test that does not care about time gets.
_DEFAULT_LIFE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate and its key, both PEM. `not_after` is in epoch seconds, a whole number."""

    certificate: bytes
    key: bytes
    not_after: float

    def write(self, folder: Path, name: str = "tls") -> tuple[Path, Path]:
        """Write `<name>.crt` and `<name>.key` into an existing folder and return their paths."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in zip(paths, (self.certificate, self.key), strict=True):
            path.write_bytes(content)
        return paths


class Authority:
    """A self-signed CA.

    Args:
        name: its common name; two of one name are still two CAs, with keys of their own.
    """

    def __init__(self, name: str = "tests CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name(name)
        builder = _builder(
            self._name, self._name, self._key.public_key(), _a_minute_ago(), _a_minute_ago() + timedelta(days=1)
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = _pem(builder.sign(self._key, SHA256()))

    def leaf(
        self,
        *,
        uris: Sequence[str] = (),
        dns_names: Sequence[str] = (),
        common_name: str = "",
        usages: Sequence[x509.ObjectIdentifier] = (CLIENT_AUTH, SERVER_AUTH),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        key: Key | None = None,
    ) -> Leaf:
        """Return a new leaf. Names are taken as they are, valid or not; no names, no SAN extension; same for usages.

        Without times it is valid from a minute ago, for an hour. X.509 cuts times to whole seconds.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        end = (not_after or _a_minute_ago() + _DEFAULT_LIFE).replace(microsecond=0)
        subject = _common_name(common_name) if common_name else x509.Name([])
        builder = _builder(subject, self._name, key.public_key(), not_before or _a_minute_ago(), end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        names = [x509.UniformResourceIdentifier(uri) for uri in uris] + [x509.DNSName(name) for name in dns_names]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not common_name)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Leaf(_pem(builder.sign(self._key, SHA256())), private, end.timestamp())


def _a_minute_ago() -> datetime:
    """Return when validity begins: clocks that are a little apart must not matter."""
    return datetime.now(UTC) - timedelta(minutes=1)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
