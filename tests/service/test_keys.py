"""`keys`, `key_sources`, `jwks`: key sets from files and real servers on loopback, and what becomes of them later."""

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import issuers
import pytest
from certificates import Authority
from fakes import FakeClock
from issuers import AUDIENCE, ISSUED_AT, ISSUER, KeyPair, key_pair, key_set, oidc_claims
from monitor_contact_service import key_sources
from monitor_contact_service.access import Issuer
from monitor_contact_service.core.failures import Failure
from monitor_contact_service.jwks import read_key_set
from monitor_contact_service.key_sources import DOCUMENT_MAX_BYTES, Document, Source, UnreadableError
from monitor_contact_service.keys import (
    FILE_SECONDS,
    KEPT_SECONDS,
    POLL_SECONDS,
    RETRY_SECONDS,
    UNKNOWN_KEY_SECONDS,
    URL_SECONDS,
    KeySets,
)
from monitor_contact_service.settings import ConfigurationError
from monitor_contact_service.tokens import TokenVerifier

_OLD = key_pair("ES256", "old")
_NEW = key_pair("ES256", "new")


class KeyServer:
    """An issuer's web server: answers with `content`, or as told. It runs in a thread of its own."""

    def __init__(self, content: bytes = b"", tls: ssl.SSLContext | None = None) -> None:
        self.content = content
        self.etag = ""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.trickle = threading.Event()
        self.stopped = threading.Event()
        # The If-None-Match of each request, "" without one.
        self.requests: list[str] = []
        self.authorization = ""  # of the last request
        self._server = _Quiet(("127.0.0.1", 0), self._handler())
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://localhost:{self._server.server_port}/keys"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer nobody any more."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def publish(self, *keys: KeyPair) -> None:
        """Answer with other keys from now on."""
        self.content = key_set(*keys)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("If-None-Match", "")
                server.requests.append(asked)
                server.authorization = self.headers.get("Authorization", "")
                unchanged = bool(asked) and asked == server.etag
                self.send_response(304 if unchanged else server.status)
                if server.etag:
                    self.send_header("ETag", server.etag)
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if not unchanged:
                    self._send()

            def _send(self) -> None:
                while server.trickle.is_set() and not server.stopped.wait(0.01):
                    self.wfile.write(b" ")
                self.wfile.write(server.content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


class _Quiet(ThreadingHTTPServer):
    """Says nothing of clients that go away."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[KeyServer]:
    """A running server with the old key."""
    with KeyServer(key_set(_OLD)) as running:
        yield running


def _issuer(keys: str, **changes: Any) -> Issuer:
    return Issuer(**{"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ("ES256",), "keys": keys, **changes})


class Rig:
    """The keys of one issuer in made-up time, and the changes that were told."""

    def __init__(self, location: str, *, draw: float = 1.0) -> None:
        self.issuer = _issuer(location)
        self.clock = FakeClock()
        self.keys = KeySets([self.issuer], clock=self.clock, draw=lambda: draw)
        self.told: list[tuple[bool, bool]] = []
        self.keys.on_change = lambda: self.told.append((self.keys.ready, self.keys.failing))

    def knows(self, pair: KeyPair) -> bool:
        """Return whether a token of this pair could be verified now."""
        return self.keys.key(self.issuer, pair.kid) is not None

    async def after(self, seconds: float) -> None:
        """Let time pass and do what is due then."""
        self.clock.advance(seconds)
        await self.keys.refresh()


# A document.


def test_every_kind_of_key_is_bound_to_its_algorithms() -> None:
    """A key that names none may verify what fits it; one that does, that alone."""
    pairs = [key_pair(name, name) for name in ("RS256", "PS384", "ES256", "ES384", "ES512", "EdDSA")]
    named = read_key_set(key_set(*pairs)).keys
    assert {kid: key.algorithms for kid, key in named.items()} == {pair.kid: {pair.kid} for pair in pairs}
    unnamed = read_key_set(key_set(*(pair.jwk(alg=None, use=None) for pair in pairs))).keys
    rsa = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert {kid: key.algorithms for kid, key in unnamed.items()} == {
        pair.kid: rsa if pair.kid[1] == "S" and pair.kid[0] in "RP" else {pair.kid} for pair in pairs
    }


_SHARED_SECRET = {"kty": "oct", "kid": "secret", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "alg": "HS256"}


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        (_SHARED_SECRET, "has a type (kty) that is not used"),
        ({**_SHARED_SECRET, "alg": "RS256"}, "has a type (kty) that is not used"),
        (_NEW.jwk(kty=None), "has a type (kty) that is not used"),
        (_NEW.jwk(kid=None), "has no kid"),
        (_NEW.jwk(kid=""), "has no kid"),
        (_NEW.jwk(kid=7), "has no kid"),
        (_NEW.jwk(use="enc"), "is not for signatures"),
        (_NEW.jwk(use=["sig"]), "is not for signatures"),
        (_NEW.private_jwk(), "is not a public key"),
        (key_pair("RS256", "weak", bits=1024).jwk(), "has fewer than 2048 bits"),
        (_NEW.jwk(alg="RS256"), "has an algorithm that does not fit it"),
        (_NEW.jwk(alg="ES384"), "has an algorithm that does not fit it"),
        (_NEW.jwk(alg="none"), "has an algorithm that does not fit it"),
        (key_pair("RS256", "rsa").jwk(alg="HS256"), "has an algorithm that does not fit it"),
        (key_pair("RS256", "rsa").jwk(alg="RSA-OAEP"), "has an algorithm that does not fit it"),
        (_NEW.jwk(crv="P-384"), "cannot be read"),
        (_NEW.jwk(crv=None), "cannot be read"),
        (_NEW.jwk(x=None), "cannot be read"),
        (_NEW.jwk(x=7), "cannot be read"),
        (_NEW.jwk(x="AAAA"), "cannot be read"),
        (_NEW.jwk(x="é"), "cannot be read"),
        (key_pair("RS256", "rsa").jwk(e="AQ"), "cannot be read"),
        (key_pair("RS256", "rsa").jwk(n={}), "cannot be read"),
        (_OLD.jwk(x=_NEW.jwk()["x"], y=_NEW.jwk()["y"]), "has the kid of another key"),
        ("text", "is no object"),
    ],
)
def test_keys_that_must_not_verify_are_ignored_and_named(jwk: Any, why: str) -> None:
    """The others of the document count; of two keys with one kid, the first."""
    read = read_key_set(key_set(_OLD, jwk))
    assert read.keys == read_key_set(key_set(_OLD)).keys
    assert read.ignored == (f"keys[1] {why}",)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no JSON Web Key Set"),
        (b"{}", "no JSON Web Key Set"),
        (b'{"keys": {}}', "no JSON Web Key Set"),
        (b'{"keys": []}', "no usable key"),
        (key_set(_SHARED_SECRET, _NEW.jwk(use="enc")), "no usable key; keys.0. has a type .* keys.1. is not for"),
    ],
)
def test_a_document_without_a_usable_key_is_none(document: bytes, why: str) -> None:
    """It says what is wrong, of each key."""
    with pytest.raises(ValueError, match=why):
        read_key_set(document)


# A source.


def _unreadable(url: str, etag: str = "", *, ca_file: str = "", timeout_seconds: float = 5.0) -> str:
    with pytest.raises(UnreadableError) as caught:
        key_sources.read(Source(url, ca_file), etag, timeout_seconds=timeout_seconds)
    return str(caught.value)


def test_a_url_is_read(server: KeyServer) -> None:
    """Content and ETag, as the server gives them."""
    server.etag = '"1"'
    assert key_sources.read(Source(server.url)) == Document(server.content, '"1"')


def test_what_has_not_changed_is_not_sent_again(server: KeyServer) -> None:
    """304 for the ETag that is known; 304 for none is no answer."""
    server.etag = '"1"'
    assert key_sources.read(Source(server.url), '"1"') is None
    assert server.requests == ['"1"']
    server.etag, server.status = "", 304
    assert _unreadable(server.url) == "HTTP 304"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server: KeyServer, status: int) -> None:
    """Where keys come from is configured; a server cannot send us elsewhere, to a file least of all."""
    for target in (server.url, "file:///etc/passwd", "ftp://127.0.0.1/keys"):
        server.status, server.headers = status, {"Location": target}
        assert _unreadable(server.url) == f"HTTP {status}"
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_an_error_is_no_key_set(server: KeyServer, status: int) -> None:
    """Though it has the keys in its body."""
    server.status = status
    assert _unreadable(server.url) == f"HTTP {status}"


def test_a_document_has_a_largest_size(server: KeyServer, tmp_path: Path) -> None:
    """256 KiB are read, one byte more is refused, from a file as from a URL."""
    path = tmp_path / "keys.json"
    server.content = key_set(_OLD).ljust(DOCUMENT_MAX_BYTES)
    path.write_bytes(server.content)
    for location in (server.url, str(path)):
        assert key_sources.read(Source(location)) == Document(server.content)
    server.content += b" "
    path.write_bytes(server.content)
    for location in (server.url, str(path)):
        assert _unreadable(location) == "larger than 262144 bytes"


def test_a_server_that_never_ends_is_given_up(server: KeyServer) -> None:
    """One byte now and then keeps the connection alive, but not for longer than the time-out."""
    server.trickle.set()
    assert _unreadable(server.url, timeout_seconds=0.2) == "too slow"


def test_a_server_that_never_answers_is_given_up() -> None:
    """A connection that is taken, and silence."""
    silent = _Quiet(("127.0.0.1", 0), BaseHTTPRequestHandler)  # accepts by its backlog, serves nobody
    try:
        assert "timed out" in _unreadable(f"http://127.0.0.1:{silent.server_port}/", timeout_seconds=0.2)
    finally:
        silent.server_close()


def test_no_server_and_no_http_are_unreadable(server: KeyServer) -> None:
    """Nobody listens; somebody speaks another protocol."""
    url = server.url
    server.headers = {"Transfer-Encoding": "chunked"}  # which it does not do
    assert "IncompleteRead" in _unreadable(url)
    with KeyServer() as other:
        gone = other.url
    assert "Connection refused" in _unreadable(gone)


@contextmanager
def _serving_tls(authority: Authority, folder: Path, name: str = "localhost") -> Iterator[KeyServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.leaf(dns_names=[name]).write(folder))
    with KeyServer(key_set(_OLD), context) as running:
        yield running


def test_a_server_must_be_the_one_that_the_ca_file_vouches_for(tmp_path: Path) -> None:
    """The configured CA and the right name; another CA, the public ones, or another name are refused."""
    authority, ca_file, other_file = Authority(), tmp_path / "ca.pem", tmp_path / "other.pem"
    ca_file.write_bytes(authority.certificate)
    other_file.write_bytes(Authority().certificate)
    with _serving_tls(authority, tmp_path) as server:
        assert key_sources.read(Source(server.url, str(ca_file))) == Document(server.content)
        assert "CERTIFICATE_VERIFY_FAILED" in _unreadable(server.url, ca_file=str(other_file))
        assert "CERTIFICATE_VERIFY_FAILED" in _unreadable(server.url)
    with _serving_tls(authority, tmp_path, "other.example") as server:
        assert "CERTIFICATE_VERIFY_FAILED" in _unreadable(server.url, ca_file=str(ca_file))


def test_a_token_is_shown_where_the_keys_are_not_for_everybody(tmp_path: Path) -> None:
    """Read anew for each request, because Kubernetes replaces it; a missing file is a failed read, not a request."""
    authority, ca_file, token_file = Authority(), tmp_path / "ca.pem", tmp_path / "token"
    ca_file.write_bytes(authority.certificate)
    with _serving_tls(authority, tmp_path) as server:
        source = Source(server.url, str(ca_file), str(token_file))
        for token in ("first", "second"):
            token_file.write_text(f"{token}\n")
            key_sources.read(source)
            assert server.authorization == f"Bearer {token}"
        token_file.unlink()
        with pytest.raises(UnreadableError, match="No such file"):
            key_sources.read(source)
        assert len(server.requests) == 2


def test_a_token_is_never_shown_in_plain_text() -> None:
    """Loopback is no exception: the setting is a mistake there."""
    problems = Source("http://127.0.0.1:1/keys", token_file="/token").problems()
    assert list(problems) == ["keys_token_file: must not be set for a URL that is not https"]


# At start.


@pytest.mark.parametrize(
    "url",
    [
        "http://login.corp.example/keys",
        "http://10.0.0.1/keys",
        "http://localhost.corp.example/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/keys.json",
        "https:///keys",
        "https://user:password@login.corp.example/keys",
        "https://[::1/keys",
    ],
)
def test_unsafe_urls_are_faults_of_the_configuration(url: str) -> None:
    """Keys decide whom we believe: https, or this very machine."""
    with pytest.raises(ConfigurationError) as caught:
        KeySets([_issuer("https://login.corp.example/keys"), _issuer(url)])
    assert [problem.partition(" must")[0] for problem in caught.value.problems] == ["access file: issuers.1.keys:"]
    assert url not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://a.example/keys", "http://127.0.0.1:1/keys", "http://[::1]/keys", "http://localhost/keys"]
)
def test_safe_urls_are_not_asked_at_once(url: str) -> None:
    """Nothing is fetched before `refresh`, and nothing is ready."""
    assert not KeySets([_issuer(url)]).ready


def test_every_fault_of_the_files_is_told(tmp_path: Path) -> None:
    """A file that is missing, a folder, one without a usable key, a CA file without a CA: each by its place."""
    (tmp_path / "bad.json").write_bytes(key_set(_SHARED_SECRET))
    (tmp_path / "ca.pem").write_text("no PEM")
    places = [str(tmp_path / "missing.json"), str(tmp_path), str(tmp_path / "bad.json")]
    url = "https://login.corp.example/keys"
    with pytest.raises(ConfigurationError) as caught:
        KeySets(
            [
                *map(_issuer, places),
                _issuer(url, keys_ca_file=str(tmp_path / "ca.pem")),
                _issuer(url, keys_ca_file=str(tmp_path / "no.pem")),
            ]
        )
    right = "; must be a readable JSON Web Key Set"
    assert caught.value.problems[:3] == [
        f"access file: issuers.0.keys: {places[0]}: No such file or directory{right}",
        f"access file: issuers.1.keys: {places[1]}: Is a directory{right}",
        f"access file: issuers.2.keys: {places[2]}: no usable key; keys[0] has a type (kty) that is not used{right}",
    ]
    assert [problem.partition("pem: ")[0] for problem in caught.value.problems[3:]] == [
        f"access file: issuers.3.keys_ca_file: {tmp_path}/ca.",
        f"access file: issuers.4.keys_ca_file: {tmp_path}/no.",
    ]


def test_a_file_is_there_from_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its keys are known and ready at once; what of it is not used is a warning."""
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(_OLD, _NEW.jwk(use="enc")))
    rig = Rig(str(path))
    assert rig.keys.ready
    assert not rig.keys.failing
    assert rig.knows(_OLD)
    assert not rig.knows(_NEW)
    (warning,) = caplog.records
    assert warning.message == "keys ignored"
    assert warning.fields["ignored"] == ("keys[1] is not for signatures",)  # type: ignore[attr-defined]


def test_without_issuers_there_is_nothing_to_wait_for() -> None:
    """A service that accepts no tokens is ready."""
    assert KeySets([]).ready


async def test_a_url_that_is_down_at_start_is_waited_for(server: KeyServer, caplog: pytest.LogCaptureFixture) -> None:
    """Not ready and failing until it answers; one warning, tries every ten seconds."""
    server.status = 503
    rig = Rig(server.url)
    for _ in range(3):
        await rig.after(RETRY_SECONDS)
    assert rig.told == [(False, True)] * 3
    assert [record.message for record in caplog.records] == ["keys not read: tokens are refused"]
    server.status = 200
    await rig.after(RETRY_SECONDS)
    assert rig.told[-1] == (True, False)
    assert rig.knows(_OLD)


# Later.


async def test_a_url_is_read_again_every_five_minutes(server: KeyServer) -> None:
    """Not before; by its ETag, and unchanged content changes nothing."""
    server.etag = '"1"'
    rig = Rig(server.url)
    await rig.keys.refresh()
    version = rig.keys.version
    await rig.after(URL_SECONDS - 0.001)
    assert server.requests == [""]
    await rig.after(0.001)
    assert server.requests == ["", '"1"']
    server.etag = '"2"'
    await rig.after(URL_SECONDS)
    assert rig.keys.version == version
    server.publish(_OLD, _NEW)
    server.etag = '"3"'
    await rig.after(URL_SECONDS)
    assert server.requests[2:] == ['"1"', '"2"']
    assert rig.keys.version == version + 1
    assert rig.knows(_OLD)
    assert rig.knows(_NEW)


async def test_replicas_do_not_ask_together(server: KeyServer) -> None:
    """The time between two reads is drawn from four to five minutes."""
    early = Rig(server.url, draw=0.0)
    await early.keys.refresh()
    await early.after(0.8 * URL_SECONDS - 0.001)
    assert len(server.requests) == 1
    await early.after(0.001)
    assert len(server.requests) == 2


async def test_a_file_is_read_again_every_five_seconds(tmp_path: Path) -> None:
    """By content: a swap of the link above it, as Kubernetes mounts do, is followed."""
    for name, pair in (("one", _OLD), ("two", _NEW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.json").write_bytes(key_set(pair))
    (tmp_path / "data").symlink_to("one")
    rig = Rig(str(tmp_path / "data" / "keys.json"))
    version = rig.keys.version
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")
    await rig.after(FILE_SECONDS - 0.001)
    assert rig.knows(_OLD)
    await rig.after(0.001)
    assert not rig.knows(_OLD)
    assert rig.knows(_NEW)
    assert rig.keys.version > version
    version = rig.keys.version
    await rig.after(FILE_SECONDS)
    assert rig.keys.version == version


@pytest.mark.parametrize("fault", ["status", "document", "gone"])
async def test_the_last_good_keys_are_kept_for_an_hour(
    server: KeyServer, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """Whatever fails: failing at once, one warning, keys that count to the hour, then a second warning and none."""
    rig = Rig(server.url)
    await rig.keys.refresh()
    if fault == "status":
        server.status = 500
    elif fault == "document":
        server.content, server.etag = b'{"keys": []}', '"bad"'
    else:
        server.stop()
    seen = rig.clock.now
    while rig.clock.now < seen + KEPT_SECONDS:
        await rig.after(RETRY_SECONDS)
        assert rig.knows(_OLD)
    assert rig.clock.now == seen + KEPT_SECONDS
    await rig.after(RETRY_SECONDS)
    assert not rig.knows(_OLD)
    assert rig.keys.ready
    assert rig.keys.failing
    warnings = [record.message for record in caplog.records]
    assert warnings == ["keys not read: the old ones hold", "keys not read: tokens are refused"]


async def test_keys_that_come_back_count_again(server: KeyServer) -> None:
    """After hours without them, the same keys are good at the first answer; a bad document's ETag was not kept."""
    rig = Rig(server.url)
    await rig.keys.refresh()
    good, server.content, server.etag = server.content, b"{}", '"bad"'
    await rig.after(2 * KEPT_SECONDS)
    assert not rig.knows(_OLD)
    server.content = good
    await rig.after(RETRY_SECONDS)
    assert server.requests == ["", "", ""]
    assert rig.knows(_OLD)
    assert not rig.keys.failing


async def test_a_flood_of_unknown_keys_is_one_read_in_thirty_seconds(server: KeyServer) -> None:
    """Each such token is refused at once, and all together bring forward one read at a time."""
    rig = Rig(server.url)
    await rig.keys.refresh()
    while rig.clock.now < 1_000 + 4 * UNKNOWN_KEY_SECONDS:
        for number in range(50):
            assert rig.keys.key(rig.issuer, f"made-up-{number}") is None
        await rig.after(POLL_SECONDS)
    assert len(server.requests) == 1 + 4


async def test_a_flood_does_not_put_off_what_is_due(server: KeyServer) -> None:
    """Keys that are known do not bring a read forward, and unknown ones never delay it."""
    rig = Rig(server.url)
    await rig.keys.refresh()
    await rig.after(URL_SECONDS - 1)
    rig.knows(_OLD)
    assert len(server.requests) == 1
    rig.knows(_NEW)
    await rig.after(0)
    assert len(server.requests) == 2
    server.status = 500
    await rig.after(URL_SECONDS)
    rig.knows(_NEW)
    await rig.after(RETRY_SECONDS)
    assert len(server.requests) == 4


async def test_keys_rotate_under_use(server: KeyServer) -> None:
    """A new key is accepted a read after its first token; a removed one at once ends tokens that are remembered."""
    rig = Rig(server.url)
    await rig.keys.refresh()
    verifier = TokenVerifier([rig.issuer], keys=rig.keys, clock=lambda: ISSUED_AT + 1.0)
    old, new = (pair.token(oidc_claims()) for pair in (_OLD, _NEW))
    assert verifier.principal(old).id

    server.publish(_OLD, _NEW)
    with pytest.raises(Failure, match="key is not known"):
        verifier.principal(new)
    await rig.after(UNKNOWN_KEY_SECONDS)
    assert verifier.principal(new).id
    assert verifier.principal(old).id

    server.publish(_NEW)
    await rig.after(URL_SECONDS)
    with pytest.raises(Failure, match="key is not known"):
        verifier.principal(old)
    assert verifier.principal(new).id


async def test_a_key_that_is_replaced_under_its_kid_ends_its_tokens(tmp_path: Path) -> None:
    """An issuer that reuses a kid: the old key's tokens no longer verify."""
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(_OLD))
    rig = Rig(str(path))
    verifier = TokenVerifier([rig.issuer], keys=rig.keys, clock=lambda: ISSUED_AT + 1.0)
    token = _OLD.token(oidc_claims())
    assert verifier.principal(token).id
    path.write_bytes(key_set(key_pair("ES256", "old", number=1)))
    await rig.after(FILE_SECONDS)
    with pytest.raises(Failure, match="signature"):
        verifier.principal(token)


async def test_one_source_is_read_once_for_all_its_issuers(server: KeyServer) -> None:
    """An issuer of callers and of people has one key set; another source is another set."""
    callers, people = _issuer(server.url), _issuer(server.url, identifies="end-users")
    with KeyServer(key_set(_NEW)) as other:
        elsewhere = _issuer(other.url, issuer=issuers.CLUSTER)
        keys = KeySets([callers, people, elsewhere])
        await keys.refresh()
    assert len(server.requests) == 1
    known = [
        [keys.key(issuer, pair.kid) is not None for pair in (_OLD, _NEW)] for issuer in (callers, people, elsewhere)
    ]
    assert known == [[True, False], [True, False], [False, True]]


async def test_a_source_that_fails_leaves_the_others_alone(server: KeyServer, tmp_path: Path) -> None:
    """One issuer's outage is no other's."""
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(_NEW))
    there, gone = _issuer(str(path)), _issuer(server.url)
    server.status = 500
    keys = KeySets([gone, there])
    await keys.refresh()
    assert keys.failing
    assert not keys.ready
    assert keys.key(there, "new")


async def test_a_change_of_issuers_keeps_what_is_known(server: KeyServer, tmp_path: Path) -> None:
    """Sources that stay are not read again, new files are known at once, new URLs soon, and all stays ready."""
    rig = Rig(server.url)
    await rig.keys.refresh()
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(_NEW))
    filed = _issuer(str(path))
    with KeyServer(key_set(_NEW)) as other:
        added = _issuer(other.url)
        version = rig.keys.version
        rig.keys.change([rig.issuer, filed, added])
        assert rig.keys.version != version
        assert rig.knows(_OLD)
        assert rig.keys.key(filed, "new")
        assert rig.keys.key(added, "new") is None
        assert rig.keys.ready
        await rig.after(POLL_SECONDS)
        assert rig.keys.key(added, "new")
    assert len(server.requests) == 1
    rig.keys.change([filed])
    assert not rig.knows(_OLD)


async def test_a_bad_change_changes_nothing(server: KeyServer, tmp_path: Path) -> None:
    """The old issuers hold, and their keys with them."""
    rig = Rig(server.url)
    await rig.keys.refresh()
    version = rig.keys.version
    with pytest.raises(ConfigurationError, match=r"issuers.0.keys: .*missing.json"):
        rig.keys.change([_issuer(str(tmp_path / "missing.json"))])
    assert rig.keys.version == version
    assert rig.knows(_OLD)


async def test_what_is_due_is_read_for_ever(server: KeyServer) -> None:
    """The service's own loop: it looks once a second and reads what is due, whatever fails."""
    rig = Rig(server.url)

    async def sleep(seconds: float) -> None:
        assert seconds == POLL_SECONDS
        server.status = 500 if len(server.requests) == 2 else 200
        if len(server.requests) == 4:
            raise EndedError
        await rig.clock.sleep(seconds)

    with pytest.raises(EndedError):
        await rig.keys.keep_fresh(sleep)
    assert rig.clock.now == 1_000 + 2 * URL_SECONDS + RETRY_SECONDS
    assert rig.told == [(True, False), (True, False), (True, True), (True, False)]


class EndedError(Exception):
    """Ends a loop that would not end."""


def test_the_set_of_a_cluster_is_read() -> None:
    """The members as an API server publishes them."""
    pair = key_pair("RS256", "6dWk1sRkEQhJ5rN2xIuCmR2fH4p0sL8tXv7yZaBcDeF")
    jwk: Mapping[str, object] = {"use": "sig", "kty": "RSA", "kid": pair.kid, "alg": "RS256"}
    jwk = {**jwk, **{name: pair.jwk()[name] for name in ("n", "e")}}
    assert list(read_key_set(json.dumps({"keys": [jwk]}).encode()).keys) == [pair.kid]
