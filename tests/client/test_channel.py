"""How the client reaches the service: targets, what may travel unencrypted, TLS, bearer, health, options."""

import asyncio
import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2
from monitor_contact_client import MonitorContactClient, ServiceUnavailable, TlsOptions
from monitor_contact_client._channel import SERVICE_CONFIG
from monitor_contact_client._target import is_loopback, resolvable

from client.scripted_server import SERVICE, serving
from client.twins import ClientOptions, Kind, connected, twin

LOOPBACK = [
    "localhost:50051",
    "127.0.0.1:50051",
    "127.8.9.10:1",
    "[::1]:50051",
    "dns:///localhost:50051",
    "dns:localhost:50051",
    "ipv4:127.0.0.1:1,127.0.0.2:1",
    "ipv6:[::1]:50051",
    "unix:/run/monitor-contact.sock",
    "unix-abstract:name",
]
ELSEWHERE = [
    "monitor-contact.internal:443",
    "10.0.0.7:50051",
    "0.0.0.0:50051",
    "[2001:db8::1]:443",
    "localhost.example:50051",
    "dns:///service:443",
    "dns://8.8.8.8/localhost:50051",
    "ipv4:127.0.0.1:1,10.0.0.7:1",
    "127.1:50051",
    "vsock:2:1",
    "xds:///service",
    "under_score:1",
    "[fe80::1%eth0]:65535",
    "[fe80::1%br-lan.100]:443",
]


@pytest.mark.parametrize("target", LOOPBACK)
def test_loopback_targets_may_be_plaintext(target: str) -> None:
    """What certainly stays on this machine needs no TLS, not even with a bearer token."""
    assert is_loopback(target)
    MonitorContactClient(target, bearer_token="token")


@pytest.mark.parametrize("target", ELSEWHERE)
def test_other_targets_need_tls_or_a_clear_word(kind: Kind, target: str) -> None:
    """Plaintext to another machine is refused with what to do; `insecure=True` allows it, a bearer token never."""
    assert not is_loopback(target)
    with pytest.raises(ValueError, match=r"tls=TlsOptions\(…\), or insecure=True"):
        twin(kind, target)
    twin(kind, target, insecure=True)
    twin(kind, target, tls=TlsOptions(), bearer_token="token")
    for insecure in (False, True):
        with pytest.raises(ValueError, match="never sent unencrypted"):
            twin(kind, target, insecure=insecure, bearer_token=lambda: "token")


def test_contradicting_options_are_refused(kind: Kind) -> None:
    """TLS beside insecure, a certificate without its key, PEM text as str."""
    with pytest.raises(ValueError, match="contradict"):
        twin(kind, "localhost:1", tls=TlsOptions(), insecure=True)
    with pytest.raises(ValueError, match="belong together"):
        TlsOptions(client_certificate=b"x")
    with pytest.raises(ValueError, match="give it as bytes") as caught:
        twin(
            kind,
            "localhost:1",
            tls=TlsOptions(client_certificate=b"x", client_key="-----BEGIN PRIVATE KEY-----\ngeheim"),
        )
    assert "geheim" not in str(caught.value)
    with pytest.raises(FileNotFoundError):
        twin(kind, "localhost:1", tls=TlsOptions(root_certificates="/nowhere/ca.pem"))


@pytest.mark.parametrize(
    "target",
    [
        "",
        " ",
        "host name:1",
        "host\n:1",
        "dns:///host name:1",
        "localhost",
        "::1",
        "::1:50051",
        ":50051",
        "localhost:",
        "localhost:0",
        "127.0.0.1:99999",
        "127.0.0.1:http",
        "127.0.0.1:-1",
        "[127.0.0.1]x:1",
        "[::g]:1",
        "[::1::]:1",
        "http://localhost:50051",
        "localhost@evil.example:1",
        "host/path:1",
        "\ud800:1",
    ],
)
def test_impossible_targets_are_refused(kind: Kind, target: str) -> None:
    """Said at once: gRPC takes a port modulo 65536, 443 where there is none, and any text for a host."""
    with pytest.raises(ValueError, match=r"^target must be host:port without http://, port 1 to 65535, for example"):
        twin(kind, target, insecure=True)


@pytest.mark.parametrize("target", [None, 5, b"localhost:50051"])
def test_a_target_is_text(kind: Kind, target: Any) -> None:
    """The error names the parameter and the type that came."""
    with pytest.raises(TypeError, match=rf"^target must be host:port .*, not {type(target).__name__}$"):
        twin(kind, target)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bearer_token": 5}, TypeError, "bearer_token must be a str or a callable that returns one, not int"),
        ({"tls": "ca.pem"}, TypeError, "tls must be TlsOptions"),
        ({"user_agent": 5}, TypeError, "user_agent must be a str, not int"),
        ({"timeout_seconds": "5"}, TypeError, "timeout_seconds must be a number of seconds, not str"),
        ({"tls": TlsOptions(root_certificates=b"junk")}, ValueError, "root_certificates must be PEM text with a line "),
        (
            {"tls": TlsOptions(root_certificates=Path(__file__).with_name("twins.py"))},
            ValueError,
            "root_certificates must be PEM text with a ",
        ),
        ({"tls": TlsOptions(root_certificates=5)}, TypeError, "root_certificates must be PEM text as bytes or the "),  # type: ignore[arg-type]
        (
            {"tls": TlsOptions(client_certificate=b"", client_key=b"-----BEGIN CERTIFICATE-----")},
            ValueError,
            "client_key must be PEM text with a line -----BEGIN PRIVATE KEY-----",
        ),
    ],
)
def test_a_wrong_option_is_named_at_once(
    kind: Kind, options: ClientOptions, error: type[Exception], message: str
) -> None:
    """Not by gRPC at the first call, and not by an error that names no parameter."""
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        twin(kind, "localhost:1", **options)


@pytest.mark.parametrize(
    ("target", "resolved"),
    [
        ("service:443", "dns:///service:443"),
        ("localhost:50051", "dns:///localhost:50051"),
        ("10.0.0.7:443", "10.0.0.7:443"),
        ("[::1]:443", "[::1]:443"),
        ("dns:///service:443", "dns:///service:443"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
    ],
)
def test_names_are_resolved_to_all_their_addresses(target: str, resolved: str) -> None:
    """Names go through DNS for round_robin; addresses and explicit schemes are left alone."""
    assert resolvable(target) == resolved


def test_service_config_is_the_measured_one() -> None:
    """The policy whose effects were measured, and never a timeout in it."""
    assert json.loads(SERVICE_CONFIG) == {
        "loadBalancingConfig": [{"round_robin": {}}],
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 1.0},
        "methodConfig": [
            {
                "name": [{"service": SERVICE}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
                },
            }
        ],
    }
    assert '"tokenRatio": 1.0' in SERVICE_CONFIG  # 1 acts as about 0
    assert "timeout" not in SERVICE_CONFIG


async def test_user_agent_names_the_program_and_this_package(kind: Kind) -> None:
    """The operators see who calls."""
    with serving() as server:
        async with connected(kind, server.target, user_agent="console/2.1") as client:
            await client.call()
    assert str(server.seen[0].metadata["user-agent"]).startswith("console/2.1 monitor-contact-client/0.1.0 grpc-python")


async def test_localhost_by_name_reaches_a_server_on_one_of_its_addresses(kind: Kind) -> None:
    """`localhost` may be two addresses with one of them dead: the call goes to the living one."""
    with serving() as server:
        async with connected(kind, server.target.replace("127.0.0.1", "localhost")) as client:
            await client.call()
    assert len(server.seen) == 1


async def test_proxy_of_the_environment_does_not_see_loopback_calls(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRPC sends even loopback plaintext through http_proxy; this client does not."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    with serving() as server:
        async with connected(kind, server.target, retries=False) as client:
            await client.call()
    assert len(server.seen) == 1


# --- Bearer ---


async def test_bearer_token_is_sent_and_asked_for_at_each_call(kind: Kind) -> None:
    """A text is sent as it is; a callable is asked anew, so that tokens can be renewed."""
    tokens = iter(("one", "two"))
    with serving() as server:
        async with connected(kind, server.target, bearer_token=lambda: next(tokens)) as client:
            await client.call()
            await client.call()
        async with connected(kind, server.target, bearer_token="fixed") as client:
            await client.call()
    assert [seen.metadata["authorization"] for seen in server.seen] == ["Bearer one", "Bearer two", "Bearer fixed"]


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ünicode"])
async def test_unsendable_bearer_token_is_refused_without_showing_it(kind: Kind, token: str) -> None:
    """At once for a text, at the call for a callable; the token is never in the message."""
    with pytest.raises(ValueError, match="the bearer token is empty or has") as caught:
        twin(kind, "localhost:1", bearer_token=token)
    assert not token or token not in str(caught.value)
    async with connected(kind, "127.0.0.1:1", bearer_token=lambda: token) as client:
        with pytest.raises(ValueError, match="the bearer token is empty or has"):
            await client.call()


async def test_what_is_no_token_is_refused_without_showing_it(kind: Kind) -> None:
    """A callable that forgot to return, or returns bytes: named, and never `Bearer None`."""
    for wrong in (None, b"geheim"):
        async with connected(kind, "127.0.0.1:1", bearer_token=lambda: wrong) as client:  # type: ignore[arg-type] # noqa: B023 - called in this turn
            with pytest.raises(TypeError, match=r"^bearer_token must return a str, not (NoneType|bytes)$"):
                await client.call()


async def test_authorization_cannot_come_in_by_metadata(kind: Kind) -> None:
    """One way for credentials, the one that is checked."""
    async with connected(kind, "127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="give bearer_token to the client"):
            await client.call(metadata=[("authorization", "Bearer x")])


async def test_failure_of_the_token_callable_is_its_own(kind: Kind) -> None:
    """What the callable raises reaches the caller as it is, even a gRPC error."""

    class TokenServiceDown(grpc.RpcError):
        """The caller's own trouble."""

    def fetch() -> str:
        raise TokenServiceDown

    async with connected(kind, "127.0.0.1:1", bearer_token=fetch) as client:
        with pytest.raises(TokenServiceDown):
            await client.call()


# --- TLS ---


def openssl(*arguments: str, folder: Path) -> None:
    """Run openssl in the folder; its chatter shows only if it fails."""
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def issue(folder: Path, name: str) -> None:
    """Make `name`.key and `name`.pem, signed by the folder's own authority, valid for 127.0.0.1."""
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", folder=folder)  # fmt: skip
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1", "utf-8")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1",
            "-extfile", "san", "-out", f"{name}.pem", folder=folder)  # fmt: skip


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    """Make a throw-away authority with a certificate for a server and one for a client."""
    require_tool("openssl", "the client over TLS")
    folder = tmp_path_factory.mktemp("ca")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
            "-subj", "/CN=throw-away", "-keyout", "ca.key", "-out", "ca.pem", folder=folder)  # fmt: skip
    for name in ("server", "caller"):
        issue(folder, name)
    return folder


def server_credentials(certificates: Path) -> grpc.ServerCredentials:
    """Make credentials of a server that asks its callers for a certificate."""
    pair = ((certificates / "server.key").read_bytes(), (certificates / "server.pem").read_bytes())
    return grpc.ssl_server_credentials([pair], (certificates / "ca.pem").read_bytes(), require_client_auth=True)


FORMS: dict[str, Callable[[Path], bytes | str | Path]] = {"bytes": Path.read_bytes, "path": Path, "text": str}


@pytest.mark.parametrize("form", FORMS)
async def test_tls_with_client_certificate_and_bearer(kind: Kind, certificates: Path, form: str) -> None:
    """Mutual TLS from bytes, paths or path texts, and the bearer token over it."""
    files = (certificates / "ca.pem", certificates / "caller.pem", certificates / "caller.key")
    tls = TlsOptions(*(FORMS[form](each) for each in files))
    with serving(credentials=server_credentials(certificates)) as server:
        async with connected(kind, server.target, tls=tls, bearer_token="token") as client:
            await client.call()
    assert server.seen[0].metadata["authorization"] == "Bearer token"


async def test_untrusted_server_or_missing_client_certificate_is_unavailable(kind: Kind, certificates: Path) -> None:
    """A handshake that fails is typed, and nothing of the call is sent."""
    with serving(credentials=server_credentials(certificates)) as server:
        for tls in (TlsOptions(), TlsOptions(certificates / "ca.pem")):
            async with connected(kind, server.target, tls=tls, retries=False) as client:
                with pytest.raises(ServiceUnavailable):
                    await client.call(timeout_seconds=5.0)
    assert server.seen == []


def test_repr_never_shows_the_key() -> None:
    """TlsOptions end up in logs."""
    assert "geheim" not in repr(TlsOptions(client_certificate=b"x", client_key=b"geheim"))


# --- Health ---


def _health(status: health_pb2.HealthCheckResponse.ServingStatus) -> health.HealthServicer:
    servicer = health.HealthServicer()  # type: ignore[no-untyped-call] # the library has no types
    set_health(servicer, status)
    return servicer


def set_health(servicer: health.HealthServicer, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
    """Change what the server says of itself."""
    servicer.set(SERVICE, status)  # type: ignore[no-untyped-call] # same


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """Find a port that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    yield port


async def test_calls_go_to_the_serving_backend_of_two(kind: Kind) -> None:
    """The health-checked round_robin leaves a backend that says NOT_SERVING, and comes back when it serves again."""
    one, two = _health(health_pb2.HealthCheckResponse.NOT_SERVING), _health(health_pb2.HealthCheckResponse.SERVING)
    with serving(healthy=one) as first, serving(healthy=two) as second:
        target = f"ipv4:{first.target},{second.target}"
        async with connected(kind, target, retries=False, watch_health=True) as client:
            for _ in range(20):
                await client.call()
            assert (len(first.seen), len(second.seen)) == (0, 20)
            set_health(one, health_pb2.HealthCheckResponse.SERVING)
            set_health(two, health_pb2.HealthCheckResponse.NOT_SERVING)
            while not first.seen:  # until the client has heard of it
                with contextlib.suppress(ServiceUnavailable):
                    await client.call()
            answered_by_second = len(second.seen)
            for _ in range(20):
                await client.call()
    assert (len(first.seen), len(second.seen)) == (21, answered_by_second)


async def test_no_serving_backend_is_unavailable(kind: Kind) -> None:
    """Nobody healthy: typed at once, not at the deadline."""
    with serving(healthy=_health(health_pb2.HealthCheckResponse.NOT_SERVING)) as server:
        async with connected(kind, server.target, retries=False, watch_health=True) as client:
            with pytest.raises(ServiceUnavailable):
                await client.call(timeout_seconds=5.0)
    assert server.seen == []


async def test_health_is_not_watched_unless_asked_for(kind: Kind) -> None:
    """Behind one address for many replicas, one that stops would fail every call of its connections."""
    with serving(healthy=_health(health_pb2.HealthCheckResponse.NOT_SERVING)) as server:
        async with connected(kind, server.target, retries=False) as client:
            await client.call()
    assert len(server.seen) == 1


async def test_client_finds_a_server_that_comes_back(kind: Kind) -> None:
    """After a restart on the same address the same client goes on."""
    with free_port() as port:
        with serving(port=port) as server:
            target = server.target
            client = twin(kind, target, channel_options=[("grpc.initial_reconnect_backoff_ms", 100)])
            await client.call()
        with pytest.raises(ServiceUnavailable):
            await client.call(timeout_seconds=2.0)
        with serving(port=port) as server:
            for _ in range(30):
                with contextlib.suppress(ServiceUnavailable):
                    await client.call()
                    break
                await asyncio.sleep(0.1)  # not a wait: asks again until the server is found
        assert len(server.seen) == 1
        await client.close()
