"""The listener's TLS: reads certificate, key and client CAs, checks them before gRPC sees them, and follows the files.

gRPC itself takes anything and tells of a bad file only in its own log, at the next handshake (measured). Whom the
certificate of a client identifies is the matter of `authentication`.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .settings import ConfigurationError
from .telemetry import fields
from .variables import variable

_log = logging.getLogger(__name__)

# Choice: files are small, and looking at all three takes less than a millisecond of a thread. By content, not by time
# of change: mounted secrets change by a swap of a symbolic link above them.
POLL_SECONDS: Final = 2.0

_RIGHT: Final = {
    "tls_cert_file": "must be a readable PEM file of a valid certificate, followed by its chain",
    "tls_key_file": "must be a readable PEM file of the certificate's private key, without a password",
    "tls_client_ca_file": "must be a readable PEM file of the CAs that clients' certificates come from",
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; `client_ca` is "" where clients show no certificates."""

    certificate: str
    key: str
    client_ca: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class _Look:
    """What the files were when last looked at, and what is wrong with it. Without a repr: it holds the key."""

    certificate: bytes = b""
    key: bytes = b""
    client_ca: bytes | None = None
    problems: tuple[str, ...] = ()


class ServerTls:
    """Server credentials that follow their files.

    Each new connection gets the newest good content; open ones end by their age. A resumed TLS session skips the check
    of the client's certificate by the client CAs (measured): sessions can be resumed only while these are the same, and
    until the next of them ends. That the certificate itself has ended is seen on each call (`authentication`).

    Args:
        files: read at once.
        clock: epoch seconds.

    Attributes:
        on_reload: is told about changed content: True if it was taken, False if it is bad and the old one stays. A
            certificate that expires without a successor is told as bad too.
        not_after: when the certificate in use ends, in epoch seconds.

    Raises:
        ConfigurationError: a line per fault, with variable and file.
    """

    def __init__(self, files: TlsFiles, *, clock: Callable[[], float] = time.time) -> None:
        self.on_reload: Callable[[bool], None] = lambda _: None
        self._files = files
        self._clock = clock
        self._last = _look(files, clock())
        if self._last.problems:
            raise ConfigurationError(self._last.problems)
        self._take(self._last)

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for one `add_secure_port` with one address, each time others.

        With client CAs, every client must show a certificate. gRPC asks for news before each handshake, in threads of
        its own; it makes a TLS context of them, with ticket keys, in place of the old one, which another thread's
        handshake may just be about to use. Given the same again and again, a server died of a segmentation fault after
        some 1,000 handshakes, 12 at a time (measured, grpcio 1.85.1; 39,000 without news did nothing).
        """
        handed = self._configuration

        def news() -> grpc.ServerCertificateConfiguration | None:
            nonlocal handed
            if handed is self._configuration:
                return None
            handed = self._configuration
            return handed

        required = bool(self._files.client_ca)
        # None is documented, and not in the stub.
        return grpc.dynamic_ssl_server_credentials(handed, news, require_client_authentication=required)  # type: ignore[arg-type]

    async def keep_fresh(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Follow the files, for ever."""
        while True:
            await sleep(POLL_SECONDS)
            await self.reload()

    async def reload(self) -> None:
        """Look at the files now. Bad content changes nothing and is logged once; half-swapped files are bad so long."""
        now = self._clock()
        look = await asyncio.to_thread(_look, self._files, now)
        if now >= self._ca_ends_at:
            self._take(self._taken)
        # Of two at a time the older may come last: the next regular one sets it right.
        if look == self._last:
            return
        self._last = look
        if look.problems:
            _log.warning("certificate not reloaded: the old one holds", extra=fields(problems=look.problems))
        else:
            self._take(look)
            _log.info("certificate reloaded", extra=fields(not_after=_time(self.not_after)))
        self.on_reload(not look.problems)

    def _take(self, look: _Look) -> None:
        self._taken = look
        self._configuration = grpc.ssl_server_certificate_configuration([(look.key, look.certificate)], look.client_ca)
        self.not_after = _ends_at(_certificates(look.certificate)[0])
        ends = [_ends_at(ca) for ca in _certificates(look.client_ca or b"")]
        self._ca_ends_at = min((end for end in ends if end > self._clock()), default=math.inf)


def _look(files: TlsFiles, now: float) -> _Look:
    problems: list[str] = []
    certificate = _read("tls_cert_file", files.certificate, problems)
    key = _read("tls_key_file", files.key, problems)
    client_ca = _read("tls_client_ca_file", files.client_ca, problems) if files.client_ca else None
    if not problems:
        leaves = _certificates(certificate)
        problems += _of_certificate(files, leaves, now)
        problems += _of_key(files, key, leaves)
        if client_ca is not None and not _certificates(client_ca):
            problems.append(_problem("tls_client_ca_file", files.client_ca, "no certificates that can be parsed"))
    return _Look(certificate, key, client_ca, tuple(problems))


def _read(field: str, path: str, problems: list[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        problems.append(_problem(field, path, str(error.strerror) if path else "not set"))
        return b""


def _of_certificate(files: TlsFiles, leaves: Sequence[x509.Certificate], now: float) -> Iterator[str]:
    if not leaves:
        yield _problem("tls_cert_file", files.certificate, "no certificates that can be parsed")
        return
    begin, end = leaves[0].not_valid_before_utc.timestamp(), leaves[0].not_valid_after_utc.timestamp()
    if now > end:
        yield _problem("tls_cert_file", files.certificate, f"expired at {_time(end)}")
    if now < begin:
        yield _problem("tls_cert_file", files.certificate, f"not valid before {_time(begin)}")


def _of_key(files: TlsFiles, pem: bytes, leaves: Sequence[x509.Certificate]) -> Iterator[str]:
    try:
        # The full check of an RSA key takes 190 ms for 4096 bits (measured) and finds forged keys: this one is ours.
        key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        yield _problem("tls_key_file", files.key, "has a password")
        return
    except (ValueError, UnsupportedAlgorithm):
        yield _problem("tls_key_file", files.key, "no private key that can be parsed")
        return
    # gRPC's clients agree on no signature of another kind: NO_COMMON_SIGNATURE_ALGORITHMS (P-521, Ed25519; measured).
    p256_or_p384 = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    if not p256_or_p384 and not isinstance(key, rsa.RSAPrivateKey):
        yield _problem("tls_key_file", files.key, "neither RSA nor elliptic P-256 or P-384, so gRPC clients refuse it")
    if leaves and key.public_key() != leaves[0].public_key():
        yield _problem("tls_key_file", files.key, f"not the key of the first certificate in {files.certificate}")


def _ends_at(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _certificates(pem: bytes) -> Sequence[x509.Certificate]:
    """Return the certificates of a PEM file, none if it cannot be parsed."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return ()


def _problem(field: str, path: str, fault: str) -> str:
    return f"{variable(field)}: {path + ': ' if path else ''}{fault}; {_RIGHT[field]}"


def _time(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat()
