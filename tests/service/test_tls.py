"""`tls`: which files are taken, and how a running server follows them."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc.aio
import pytest
from certificates import Authority, Key, Leaf
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from fakes import FakeClock
from identity_fakes import MountedSecret, Who, answering, ask, channel
from monitor_contact_service.access import Access, Issuer
from monitor_contact_service.authentication import Authenticator
from monitor_contact_service.settings import ConfigurationError
from monitor_contact_service.tls import POLL_SECONDS, ServerTls, TlsFiles

_CA: Final = Authority()
_CLIENT: Final = _CA.leaf(uris=["spiffe://corp.example/a"])
_CERT, _KEY, _CLIENT_CA = (f"MONITOR_CONTACT_TLS_{name}_FILE" for name in ("CERT", "KEY", "CLIENT_CA"))

_RIGHT_CERT: Final = "must be a readable PEM file of a valid certificate, followed by its chain"
_RIGHT_KEY: Final = "must be a readable PEM file of the certificate's private key, without a password"
_RIGHT_CLIENT_CA: Final = "must be a readable PEM file of the CAs that clients' certificates come from"


def _server_leaf() -> Leaf:
    return _CA.leaf(dns_names=["localhost"])


@pytest.fixture
def secret(tmp_path: Path) -> MountedSecret:
    """A mounted secret with a good certificate, its key and a client CA."""
    mounted = MountedSecret(tmp_path)
    mounted.publish(_server_leaf(), _CA.certificate)
    return mounted


class Followed:
    """A `ServerTls` and what it told about changes."""

    def __init__(self, files: TlsFiles, clock: FakeClock | None = None) -> None:
        self.told: list[bool] = []
        self.tls = ServerTls(files, clock=clock) if clock else ServerTls(files)
        self.tls.on_reload = self.told.append

    @asynccontextmanager
    async def server(self, *, max_age_ms: int = 60_000) -> AsyncIterator[Who]:
        """Yield a server with these credentials, whose connections live so long."""
        authenticator = Authenticator(Access(trust_domains=("corp.example",)), tokens=None, tls=True)
        options = [("grpc.max_connection_age_ms", max_age_ms), ("grpc.max_connection_age_grace_ms", 10_000)]
        async with answering(authenticator, self.tls.credentials(), options) as who:
            yield who


def _der(leaf: Leaf) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.certificate.decode())


async def _shown(who: Who) -> bytes:
    """Return the certificate (DER) that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=_CA.certificate.decode())
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    _, writer = await asyncio.open_connection("localhost", who.port, ssl=context, server_hostname="localhost")
    try:
        found: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return found.getpeercert(binary_form=True) or b""
    finally:
        writer.transport.abort()


# --- which files are taken


def _problems(files: TlsFiles, now: float | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Followed(files, None if now is None else FakeClock(now))
    return list(caught.value.problems)


def test_good_files_are_taken_and_tell_their_end(secret: MountedSecret) -> None:
    """The end of the certificate is known in epoch seconds."""
    leaf = _server_leaf()
    secret.publish(leaf, _CA.certificate)
    assert ServerTls(secret.files).not_after == leaf.not_after


def test_every_missing_file_is_named_with_its_variable(tmp_path: Path) -> None:
    """One line each, with what would be right; a folder is no file; an empty path says that nothing is set."""
    files = TlsFiles(str(tmp_path / "no.crt"), "", str(tmp_path))
    assert _problems(files) == [
        f"{_CERT}: {tmp_path}/no.crt: No such file or directory; {_RIGHT_CERT}",
        f"{_KEY}: not set; {_RIGHT_KEY}",
        f"{_CLIENT_CA}: {tmp_path}: Is a directory; {_RIGHT_CLIENT_CA}",
    ]


@pytest.mark.parametrize("junk", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_files_that_hold_something_else_are_all_named(junk: bytes, tmp_path: Path) -> None:
    """Empty, text, and PEM around nonsense; each of the three files has its line."""
    path = tmp_path / "junk"
    path.write_bytes(junk)
    found = [line.split("; ")[0] for line in _problems(TlsFiles(*[str(path)] * 3))]
    assert found == [
        f"{_CERT}: {path}: no certificates that can be parsed",
        f"{_KEY}: {path}: no private key that can be parsed",
        f"{_CLIENT_CA}: {path}: no certificates that can be parsed",
    ]


@pytest.mark.parametrize(("off_seconds", "good"), [(-3600, False), (0, True), (3599, True), (3601, False)])
def test_only_a_certificate_of_the_present_is_taken(off_seconds: int, good: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a table's column
    """Before its time and after it the line says which time it is."""
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    leaf = _CA.leaf(dns_names=["localhost"], not_before=begin, not_after=begin + timedelta(hours=1))
    certificate, key = leaf.write(tmp_path)
    files, now = TlsFiles(str(certificate), str(key)), begin.timestamp() + off_seconds
    if good:
        assert ServerTls(files, clock=FakeClock(now)).not_after == leaf.not_after
        return
    which = "not valid before 2030-01-01T00:00:00" if off_seconds < 0 else "expired at 2030-01-01T01:00:00"
    (line,) = _problems(files, now)
    assert line.startswith(f"{_CERT}: {certificate}: {which}+00:00; must be ")


def _pem(key: ec.EllipticCurvePrivateKey, password: str = "") -> bytes:
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _with_password(leaf: Leaf) -> bytes:
    key = load_pem_private_key(leaf.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return _pem(key, "secret")


@pytest.mark.parametrize(
    ("key_of", "fault"),
    [
        (lambda _: _server_leaf().key, "not the key of the first certificate in {}"),
        (_with_password, "has a password"),
        (lambda leaf: leaf.certificate, "no private key that can be parsed"),
    ],
    ids=["of another certificate", "with a password", "a certificate"],
)
def test_only_the_certificates_own_open_key_is_taken(
    key_of: Callable[[Leaf], bytes], fault: str, tmp_path: Path
) -> None:
    """The line names the key's variable and, where they do not match, both files."""
    leaf = _server_leaf()
    certificate, key = leaf.write(tmp_path)
    key.write_bytes(key_of(leaf))
    (line,) = _problems(TlsFiles(str(certificate), str(key)))
    assert line.startswith(f"{_KEY}: {key}: {fault.format(certificate)}; must be ")


@pytest.mark.parametrize(
    "make",
    [ed25519.Ed25519PrivateKey.generate, lambda: ec.generate_private_key(ec.SECP521R1())],
    ids=["Ed25519", "P-521"],
)
def test_keys_that_grpc_clients_refuse_are_not_taken(make: Callable[[], Key], tmp_path: Path) -> None:
    """With these a server starts and no client ever connects."""
    key = make()
    certificate, path = _CA.leaf(dns_names=["localhost"], key=key).write(tmp_path)
    (line,) = _problems(TlsFiles(str(certificate), str(path)))
    assert line.split("; ")[0] == f"{_KEY}: {path}: neither RSA nor elliptic P-256 or P-384, so gRPC clients refuse it"


@pytest.mark.parametrize(
    "make",
    [lambda: rsa.generate_private_key(65_537, 2_048), lambda: ec.generate_private_key(ec.SECP384R1())],
    ids=["RSA", "P-384"],
)
async def test_keys_of_the_usual_kinds_serve(make: Callable[[], Key], tmp_path: Path) -> None:
    """A client connects to a server with an RSA or a P-384 key, and to one with P-256 in all other tests."""
    certificate, key = _CA.leaf(dns_names=["localhost"], key=make()).write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(_CA.certificate)
    followed = Followed(TlsFiles(str(certificate), str(key), str(tmp_path / "ca.crt")))
    async with followed.server() as who, channel(who, _CA, _CLIENT) as opened:
        assert await ask(opened) == "spiffe://corp.example/a"


async def test_without_client_cas_a_client_needs_no_certificate(tmp_path: Path) -> None:
    """TLS for the server only: a client without a certificate reaches the method, where it is nobody yet."""
    certificate, key = _server_leaf().write(tmp_path)
    tls = ServerTls(TlsFiles(str(certificate), str(key)))
    issuer = Issuer(issuer="https://issuer.example", audience="x", keys="/keys.json")
    authenticator = Authenticator(Access(issuers=(issuer,)), tokens=None, tls=True)
    async with answering(authenticator, tls.credentials()) as who, channel(who, _CA) as opened:
        assert await ask(opened) == "UNAUTHENTICATED: no bearer token"


# --- how a running server follows them


async def test_a_swapped_secret_is_served_without_a_lost_call(secret: MountedSecret) -> None:
    """Twelve swaps by `..data` while eight clients call and connections live 0.1 s: each is shown, no call fails."""
    followed = Followed(secret.files)
    answers: set[str] = set()

    async def call(opened: grpc.aio.Channel) -> None:
        for _ in range(60):
            answers.add(await ask(opened))

    async with followed.server(max_age_ms=100) as who, AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(channel(who, _CA, _CLIENT)) for _ in range(8)]
        for _ in range(12):
            leaf = _server_leaf()
            async with asyncio.TaskGroup() as load:
                for opened in channels:
                    load.create_task(call(opened))
                await ask(channels[0])
                secret.publish(leaf, _CA.certificate)
                await followed.tls.reload()
                assert await _shown(who) == _der(leaf)
            assert followed.tls.not_after == leaf.not_after
    assert answers == {"spiffe://corp.example/a"}
    assert followed.told == [True] * 12
    assert len(set(who.peers)) > len(channels), "connections were replaced meanwhile"


async def test_connections_of_a_removed_ca_end_with_their_age(secret: MountedSecret) -> None:
    """An open connection ends with its age, and its client gets no other; new ones of that CA are refused at once."""
    followed = Followed(secret.files)
    other = Authority()
    async with (
        followed.server(max_age_ms=1_000) as who,
        channel(who, _CA, _CLIENT) as old,
        channel(who, _CA, _CLIENT) as late,
        channel(who, _CA, other.leaf(uris=["spiffe://corp.example/b"])) as successor,
    ):
        assert await ask(old) == "spiffe://corp.example/a"
        secret.publish(_server_leaf(), other.certificate)
        await followed.tls.reload()
        assert await ask(late) == "UNAVAILABLE"
        assert await ask(successor) == "spiffe://corp.example/b"
        async with asyncio.timeout(20):  # a test that would hang for ever ends
            while (answer := await ask(old)) == "spiffe://corp.example/a":
                pass
        assert answer == "UNAVAILABLE"


async def test_a_bad_file_keeps_the_old_certificate(
    secret: MountedSecret, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each bad content is told and logged once; what was good goes on being served; the next good one is taken."""
    followed = Followed(secret.files)
    first, second = _server_leaf(), _server_leaf()
    secret.publish(first, _CA.certificate)
    caplog.set_level(logging.INFO)
    async with followed.server() as who:
        await followed.tls.reload()
        caplog.clear()
        (tmp_path / "tls.crt").write_bytes(b"junk")
        await followed.tls.reload()
        await followed.tls.reload()
        (tmp_path / "tls.crt").write_bytes(b"other junk")
        await followed.tls.reload()
        (tmp_path / "tls.crt").unlink()
        await followed.tls.reload()
        await followed.tls.reload()
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
        assert all(_CERT in str(vars(record)["fields"]["problems"]) for record in caplog.records)
        assert await _shown(who) == _der(first)
        assert followed.tls.not_after == first.not_after
        (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
        secret.publish(second, _CA.certificate)
        await followed.tls.reload()
        await followed.tls.reload()
        assert await _shown(who) == _der(second)
    assert followed.told == [True, False, False, False, True]
    assert [record.getMessage() for record in caplog.records[3:]] == ["certificate reloaded"]


async def test_good_content_that_comes_back_is_told(secret: MountedSecret, tmp_path: Path) -> None:
    """After a bad content the same good one as before clears the alarm."""
    followed = Followed(secret.files)
    (tmp_path / "tls.key").unlink()
    await followed.tls.reload()
    (tmp_path / "tls.key").symlink_to("..data/tls.key")
    await followed.tls.reload()
    assert followed.told == [False, True]


async def test_half_swapped_files_settle_by_themselves(tmp_path: Path) -> None:
    """A new certificate beside the old key is not taken; once the key follows, both are."""
    old, new = _server_leaf(), _server_leaf()
    certificate, key = old.write(tmp_path)
    followed = Followed(TlsFiles(str(certificate), str(key)))
    certificate.write_bytes(new.certificate)
    await followed.tls.reload()
    assert followed.tls.not_after == old.not_after
    key.write_bytes(new.key)
    await followed.tls.reload()
    assert followed.told == [False, True]
    async with followed.server() as who:
        assert await _shown(who) == _der(new)


async def test_a_certificate_that_nobody_renews_is_told(
    secret: MountedSecret, caplog: pytest.LogCaptureFixture
) -> None:
    """Unchanged files are no change until their certificate expires; then it is an alarm, once."""
    clock = FakeClock(datetime.now(UTC).timestamp())
    followed = Followed(secret.files, clock)
    await followed.tls.reload()
    assert followed.told == []
    clock.now = followed.tls.not_after + 1
    await followed.tls.reload()
    await followed.tls.reload()
    assert followed.told == [False]
    assert "expired at" in str([vars(record)["fields"] for record in caplog.records])


async def test_the_files_are_looked_at_for_ever(secret: MountedSecret) -> None:
    """Every two seconds, good or bad."""
    followed = Followed(secret.files)
    told_by_then: list[list[bool]] = []
    contents = iter([_server_leaf(), None, _server_leaf()])

    class EndError(Exception):
        """Ends the test."""

    async def sleep(seconds: float) -> None:
        assert seconds == POLL_SECONDS == 2
        told_by_then.append(list(followed.told))
        leaf = next(contents, EndError)
        if leaf is EndError:
            raise EndError
        if isinstance(leaf, Leaf):
            secret.publish(leaf, _CA.certificate)

    with pytest.raises(EndError):
        await followed.tls.keep_fresh(sleep)
    assert told_by_then == [[], [True], [True], [True, True]]


async def test_looks_at_the_same_time_tell_once(secret: MountedSecret) -> None:
    """A signal during the regular look takes the new content and tells it no second time."""
    followed = Followed(secret.files)
    leaf = _server_leaf()
    secret.publish(leaf, _CA.certificate)
    await asyncio.gather(*(followed.tls.reload() for _ in range(5)))
    assert followed.told == [True]
    assert followed.tls.not_after == leaf.not_after


def test_the_key_is_in_no_repr(secret: MountedSecret) -> None:
    """Whatever logs an object of this module shows no key."""
    tls = ServerTls(secret.files)
    assert "PRIVATE" not in "".join(repr(value) for value in (tls, *vars(tls).values()))
