"""`tls` and `authentication` together, on a real server: each shape of a client's certificate, accepted or refused."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import h2.connection
import h2.events
import pytest
from certificates import CLIENT_AUTH, SERVER_AUTH, Authority, Leaf
from fakes import FakeClock
from identity_fakes import METHOD, MountedSecret, Who, answering, ask, channel
from monitor_contact_service.access import Access, Forwarded
from monitor_contact_service.authentication import Authenticator
from monitor_contact_service.tls import ServerTls

_SERVER_CA: Final = Authority("servers")
_CLIENT_CA: Final = Authority("clients")
_OTHER_CA: Final = Authority("clients")  # of the same name, with another key
_SERVER: Final = _SERVER_CA.leaf(dns_names=["localhost"])
_ID: Final = "spiffe://a.org/x"
_PROXY: Final = "spiffe://a.org/proxy"
_ACCESS: Final = Access(trust_domains=("a.org",))
_NOT_ONE_URI: Final = "UNAUTHENTICATED: certificate has not exactly one URI SAN with a SPIFFE ID"
_GRAMMAR: Final = "UNAUTHENTICATED: not a SPIFFE ID of a workload by the strict grammar"


def _authenticator(access: Access) -> Authenticator:
    return Authenticator(access, tokens=None, tls=True)


@pytest.fixture(scope="module")
async def credentials(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], grpc.ServerCredentials]:
    """Return what makes those of a server that wants certificates of one CA, from its files."""
    secret = MountedSecret(tmp_path_factory.mktemp("secret"))
    secret.publish(_SERVER, _CLIENT_CA.certificate)
    return ServerTls(secret.files).credentials


@pytest.fixture
async def server(credentials: Callable[[], grpc.ServerCredentials]) -> AsyncIterator[Who]:
    """A server that accepts SPIFFE IDs of one trust domain."""
    async with answering(_authenticator(_ACCESS), credentials()) as who:
        yield who


@dataclass(frozen=True)
class Row:
    """One certificate: its names, whether gRPC names a SPIFFE ID for it, and the answer."""

    uris: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    common_name: str = ""
    usages: tuple[Any, ...] = (CLIENT_AUTH, SERVER_AUTH)
    named: bool = True
    answer: str = _GRAMMAR


_ROWS: Final = {
    "one SPIFFE ID": Row(uris=(_ID,), answer=_ID),
    "one SPIFFE ID, no extended key usage": Row(uris=(_ID,), usages=(), answer=_ID),
    "one SPIFFE ID, for clients only": Row(uris=(_ID,), usages=(CLIENT_AUTH,), answer=_ID),
    "a SPIFFE ID beside a DNS name": Row(uris=(_ID,), dns_names=("a.example",), answer=_ID),
    "two SPIFFE IDs": Row(uris=(_ID, "spiffe://a.org/y"), named=False, answer=_NOT_ONE_URI),
    "a SPIFFE ID and another URI": Row(uris=(_ID, "https://a.org/x"), named=False, answer=_NOT_ONE_URI),
    "a SPIFFE ID in a DNS SAN": Row(dns_names=(_ID,), named=False, answer=_NOT_ONE_URI),
    "a SPIFFE ID in the common name": Row(common_name=_ID, named=False, answer=_NOT_ONE_URI),
    "a DNS name": Row(dns_names=("a.example",), named=False, answer=_NOT_ONE_URI),
    "query": Row(uris=("spiffe://a.org/x?q=1",)),
    "dot segments": Row(uris=("spiffe://a.org/a/../b",)),
    "percent-encoding": Row(uris=("spiffe://a.org/a%2fb",)),
    "slash at the end": Row(uris=("spiffe://a.org/a/",)),
    "capitals": Row(uris=("spiffe://A.ORG/x",)),
    "user": Row(uris=("spiffe://a.org@evil/x",)),
    "no path": Row(uris=("spiffe://a.org",), named=False, answer=_NOT_ONE_URI),
    "another scheme": Row(uris=("https://a.org/x",), named=False, answer=_NOT_ONE_URI),
    "another trust domain": Row(uris=("spiffe://b.org/x",), answer="UNAUTHENTICATED: trust domain is not accepted"),
}


@pytest.mark.parametrize("row", _ROWS.values(), ids=_ROWS)
async def test_each_certificate_of_the_right_ca_gets_its_answer(row: Row, server: Who) -> None:
    """The handshake accepts all of these: only our rules tell them apart. gRPC names the IDs that it was seen to."""
    leaf = _CLIENT_CA.leaf(uris=row.uris, dns_names=row.dns_names, common_name=row.common_name, usages=row.usages)
    async with channel(server, _SERVER_CA, leaf) as opened:
        assert await ask(opened) == row.answer
    named = tuple(uri.encode() for uri in row.uris) if row.named else ()
    assert server.contexts[0].get("peer_spiffe_id", ()) == named


_HOUR_AGO: Final = datetime.now(UTC) - timedelta(hours=1)


@pytest.mark.parametrize(
    "leaf",
    [
        None,
        _OTHER_CA.leaf(uris=[_ID]),
        _CLIENT_CA.leaf(uris=[_ID], not_before=_HOUR_AGO, not_after=_HOUR_AGO + timedelta(minutes=30)),
        _CLIENT_CA.leaf(uris=[_ID], usages=[SERVER_AUTH]),
        _SERVER_CA.leaf(uris=[_ID]),
    ],
    ids=["none", "another CA of the same name", "expired", "for servers only", "the servers' CA"],
)
async def test_the_handshake_refuses_the_rest(leaf: Leaf | None, server: Who) -> None:
    """No call of theirs reaches the server's methods."""
    async with channel(server, _SERVER_CA, leaf) as opened:
        assert await ask(opened) == "UNAVAILABLE"
    assert server.contexts == []


@pytest.mark.parametrize(
    ("uris", "dns_names", "answer"),
    [
        ([], ["qa.corp.example"], "dns:qa.corp.example"),
        ([], ["*.corp.example"], "UNAUTHENTICATED: DNS SAN is not a host name in lower case"),
        ([], [_ID], "UNAUTHENTICATED: DNS SAN is not a host name in lower case"),
        ([], ["a.example", "b.example"], "UNAUTHENTICATED: certificate has not exactly one DNS SAN"),
        (["spiffe://b.org/x"], ["qa.corp.example"], "UNAUTHENTICATED: trust domain is not accepted"),
        (["https://a.org/x"], ["qa.corp.example"], _NOT_ONE_URI),
        ([_ID, "spiffe://a.org/y"], ["qa.corp.example"], _NOT_ONE_URI),
        ([_ID], ["qa.corp.example"], _ID),
    ],
)
async def test_dns_names_count_where_they_are_opted_in(
    uris: list[str], dns_names: list[str], answer: str, credentials: Callable[[], grpc.ServerCredentials]
) -> None:
    """One host name, in a certificate without any URI SAN."""
    access = Access(trust_domains=("a.org",), dns_names=True)
    leaf = _CLIENT_CA.leaf(uris=uris, dns_names=dns_names)
    async with answering(_authenticator(access), credentials()) as who, channel(who, _SERVER_CA, leaf) as opened:
        assert await ask(opened) == answer


async def test_a_forwarded_identity_is_believed_from_the_proxy_alone(
    credentials: Callable[[], grpc.ServerCredentials],
) -> None:
    """The same header: from the proxy it names the caller, from another accepted service it ends the call."""
    access = Access(trust_domains=("a.org",), forwarded=Forwarded(proxy=_PROXY))
    header = [("x-forwarded-client-cert", f'By={_PROXY};Hash=ab;Subject="CN=a;URI=spiffe://a.org/y";URI={_ID}')]
    proxy, other = _CLIENT_CA.leaf(uris=[_PROXY]), _CLIENT_CA.leaf(uris=["spiffe://a.org/other"])
    async with answering(_authenticator(access), credentials()) as who:
        async with channel(who, _SERVER_CA, proxy) as opened:
            assert await ask(opened, header) == _ID
            assert await ask(opened) == "UNAUTHENTICATED: the proxy forwards no certificate"
        async with channel(who, _SERVER_CA, other) as opened:
            expected = "UNAUTHENTICATED: forwarded certificate from a peer that is not the proxy"
            assert await ask(opened, header) == expected
            assert await ask(opened) == "spiffe://a.org/other"


class Connection:
    """A client of one method over Python's ssl, which resumes sessions where gRPC's Python clients do not. Blocking."""

    def __init__(self, who: Who, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        raw = socket.create_connection(("localhost", who.port), timeout=10)
        try:
            self._socket = context.wrap_socket(raw, server_hostname="localhost", session=session)
        except BaseException:
            raw.close()
            raise
        self._h2 = h2.connection.H2Connection()
        self._h2.initiate_connection()

    @property
    def session(self) -> ssl.SSLSession | None:
        """What the server gave to come back with; TLS 1.3 sends it with the first answer."""
        return self._socket.session

    @property
    def resumed(self) -> bool:
        """Whether the handshake was cut short."""
        return bool(self._socket.session_reused)

    def call(self) -> int:
        """Return the number of the gRPC status. Raises OSError if the server closes the connection."""
        stream = self._h2.get_next_available_stream_id()
        head = {":method": "POST", ":scheme": "https", ":path": METHOD, ":authority": "localhost"}
        self._h2.send_headers(stream, [*head.items(), ("content-type", "application/grpc"), ("te", "trailers")])
        self._h2.send_data(stream, bytes(5), end_stream=True)
        self._socket.sendall(self._h2.data_to_send())
        while True:
            received = self._socket.recv(65_536)
            if not received:
                raise ConnectionResetError
            for event in self._h2.receive_data(received):
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    status = dict(event.headers).get(b"grpc-status")
                    if status is not None:
                        return int(status)
            self._socket.sendall(self._h2.data_to_send())

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def _client(folder: Path, leaf: Leaf, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=_SERVER_CA.certificate.decode())
    context.load_cert_chain(*leaf.write(folder))
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    return context


@dataclass(frozen=True)
class Visit:
    """What became of a first connection, of the same one after its leaf's end, and of one that came back then."""

    first: int
    later: int
    resumed: bool
    back: int | str


def _visit(who: Who, folder: Path, version: ssl.TLSVersion) -> Visit:
    leaf = _CLIENT_CA.leaf(uris=[_ID], not_after=datetime.now(UTC) + timedelta(seconds=3))
    context = _client(folder, leaf, version)
    connection = Connection(who, context)
    try:
        first = connection.call()
        _until(leaf.not_after)
        later = connection.call()
        session = connection.session
    finally:
        connection.close()
    try:
        connection = Connection(who, context, session)
    except OSError as error:
        return Visit(first, later, resumed=False, back=type(error).__name__)
    try:
        return Visit(first, later, connection.resumed, connection.call())
    except OSError as error:
        return Visit(first, later, connection.resumed, type(error).__name__)
    finally:
        connection.close()


def _until(epoch_seconds: float) -> None:
    """Let a leaf's time end: both ends of TLS read the system's clock, so no other can stand in for it."""
    time.sleep(epoch_seconds + 0.05 - time.time())  # not a wait: the end of the leaf is the subject


async def test_an_identity_ends_with_its_leaf_on_every_kind_of_connection(
    credentials: Callable[[], grpc.ServerCredentials], tmp_path: Path
) -> None:
    """On an open connection, and in a resumed TLS session, which gRPC itself accepts: the leaf is seen on each call."""
    ok, refused = grpc.StatusCode.OK.value[0], grpc.StatusCode.UNAUTHENTICATED.value[0]
    async with answering(_authenticator(_ACCESS), credentials()) as who:
        visits = []
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            folder = tmp_path / version.name
            folder.mkdir()
            visits.append(asyncio.to_thread(_visit, who, folder, version))
        found = await asyncio.gather(*visits)
    assert found == [Visit(ok, refused, resumed=True, back=refused)] * 2


def _comes_back(who: Who, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[bool, int] | str:
    """Return whether a connection with that session was resumed and how its call ended, or why there is none."""
    try:
        with closing(Connection(who, context, session)) as connection:
            return connection.resumed, connection.call()
    except OSError as error:
        return type(error).__name__


def _session(who: Who, context: ssl.SSLContext) -> ssl.SSLSession | None:
    with closing(Connection(who, context)) as connection:
        assert connection.call() == 0
        return connection.session


async def test_no_session_outlives_the_cas_that_it_was_checked_by(tmp_path: Path) -> None:
    """It is resumed while they are the same; not once one of them has ended, and never after another has taken over."""
    (tmp_path / "secret").mkdir()
    secret = MountedSecret(tmp_path / "secret")
    secret.publish(_SERVER, _CLIENT_CA.certificate)
    clock = FakeClock(datetime.now(UTC).timestamp())
    tls = ServerTls(secret.files, clock=clock)
    context = _client(tmp_path, _CLIENT_CA.leaf(uris=[_ID]), ssl.TLSVersion.TLSv1_3)
    async with answering(_authenticator(_ACCESS), tls.credentials()) as who:
        session = await asyncio.to_thread(_session, who, context)
        await tls.reload()
        assert await asyncio.to_thread(_comes_back, who, context, session) == (True, 0)
        clock.now += timedelta(days=2).total_seconds()  # beyond the CA's end, as the service sees it
        await tls.reload()
        assert await asyncio.to_thread(_comes_back, who, context, session) == (False, 0)
        session = await asyncio.to_thread(_session, who, context)
        clock.now -= timedelta(days=2).total_seconds()
        secret.publish(_SERVER, Authority("another CA").certificate)
        await tls.reload()
        assert isinstance(await asyncio.to_thread(_comes_back, who, context, session), str)
