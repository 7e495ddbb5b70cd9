"""`redis_script`: a real Redis behind TLS and a password lets in whom it should, and no other gets the password."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import Authority
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.quota_url import parse_quota_url, quota_scope
from monitor_contact_service.redis_script import RedisScript
from monitor_contact_service.reservations import Answer, Reservations, ServerFaultError
from redis_server import RedisServer

_PASSWORD = "p4ss:w@rd"
_RESERVE = Reservations(quota_scope("tls", "eu-central-1"), Quota(rate=2.0, burst=5), replicas=1).reserve()


@dataclass(frozen=True, slots=True)
class Secured:
    """A Redis with TLS for the name localhost, and the file of the CA that vouches for it."""

    server: RedisServer
    ca_file: Path

    async def reserve(self, *, host: str = "localhost", login: str = ":p4ss%3Aw%40rd@") -> Answer:
        """Make a reservation, as the service does."""
        address = parse_quota_url(f"rediss://{login}{host}:{self.server.tls_port}/0")
        assert address is not None
        script = RedisScript(address, timeout_seconds=10.0)
        try:
            return await script.run(_RESERVE)
        finally:
            await script.close()


@pytest.fixture
def secured(require_tool: Callable[[str, str], str], tmp_path: Path) -> Iterator[Secured]:
    """A Redis whose CA this machine does not know."""
    authority = Authority()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.certificate)
    program = require_tool("redis-server", "the quota that replicas share, over TLS")
    with RedisServer(program, tls=authority.leaf(dns_names=["localhost"]), password=_PASSWORD) as server:
        yield Secured(server, ca_file)


async def test_a_redis_of_a_known_ca_shares_the_quota(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS, a password with characters that a URL has to escape, and a CA of the company's own by SSL_CERT_FILE."""
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.ca_file))
    assert (await secured.reserve()).granted


async def test_a_redis_of_an_unknown_ca_gets_no_password(secured: Secured) -> None:
    """Whoever answers in its place would learn it, and decide the pace."""
    with pytest.raises(ServerFaultError, match="certificate verify failed"):
        await secured.reserve()


async def test_a_redis_of_another_name_gets_no_password(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is for localhost, not for the address."""
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.ca_file))
    with pytest.raises(ServerFaultError, match="certificate verify failed"):
        await secured.reserve(host="127.0.0.1")


@pytest.mark.parametrize("login", ["", ":wrong@", "somebody:p4ss%3Aw%40rd@"])
async def test_a_wrong_login_is_told_without_the_password(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    """What is logged of it holds no password."""
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.ca_file))
    with pytest.raises(ServerFaultError, match=r"uthentica|WRONGPASS") as raised:
        await secured.reserve(login=login)
    assert "p4ss" not in str(raised.value)
    assert "wrong" not in str(raised.value)
