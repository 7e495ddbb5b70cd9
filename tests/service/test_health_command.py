"""`monitor-contact health`: what is asked, what is printed, how it exits, over real servers."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import grpc.aio
import pytest
from monitor_contact_service.address import Address
from monitor_contact_service.cli import main, parser
from monitor_contact_service.exits import EXIT_FAILED, EXIT_USAGE
from monitor_contact_service.health import Health
from monitor_contact_service.health_command import health
from monitor_contact_service.server import SERVICE, build_health, listen

_ANY_PORT = Address("127.0.0.1", 0)


@pytest.fixture
async def known() -> Health:
    """What the servers below answer: everything is NOT_SERVING until a test says otherwise."""
    return Health([SERVICE])


@pytest.fixture
async def address(known: Health) -> AsyncIterator[str]:
    """Where `known` is served in plain text, as on the health port."""
    server = build_health(known)
    address = listen(server, _ANY_PORT, field="health_listen")
    await server.start()
    yield str(address)
    await server.stop(None)


async def _ask(*arguments: str) -> int:
    """Run the command in a thread: the server that it asks needs this one."""
    return await asyncio.to_thread(health, parser().parse_args(["health", *arguments]))


@pytest.mark.parametrize("name", [None, "", "readiness", SERVICE])
async def test_a_ready_replica_is_serving(
    known: Health, address: str, name: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every name that means ready, and without one: a word on stdout, nothing on stderr, exit 0."""
    known.set_ready(True)
    chosen = [] if name is None else ["--service", name]
    assert await _ask(*chosen, address) == 0
    assert capsys.readouterr() == ("SERVING\n", "")


async def test_readiness_is_asked_unless_another_name_is_given(
    known: Health, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A replica that lives but is not ready: NOT_SERVING and exit 1 by default, SERVING for `liveness`."""
    known.set_alive()
    assert await _ask(address) == EXIT_FAILED
    assert await _ask("--service", "liveness", address) == 0
    assert capsys.readouterr() == ("NOT_SERVING\nSERVING\n", "")


async def test_an_unknown_name_is_told_apart_from_a_sick_replica(
    known: Health, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever mistyped it reads so; a probe sees a failure."""
    known.set_ready(True)
    assert await _ask("--service", "readyness", address) == EXIT_FAILED
    out, err = capsys.readouterr()
    assert out == "SERVICE_UNKNOWN\n"
    assert err == f'monitor-contact: {address} knows no service "readyness"\n'


async def test_a_server_without_health_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Some other gRPC server listens there."""
    server = grpc.aio.server()
    address = listen(server, _ANY_PORT)
    await server.start()
    exit_code = await _ask(str(address))
    await server.stop(None)
    assert exit_code == EXIT_FAILED
    out, err = capsys.readouterr()
    assert out == "UNKNOWN\n"
    assert err == f"monitor-contact: {address} has no grpc.health.v1.Health\n"


async def test_where_nobody_listens_is_unreachable(capsys: pytest.CaptureFixture[str]) -> None:
    """With the address, gRPC's reason and a hint at the usual mistake; one line."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert await _ask(address) == EXIT_FAILED
    out, err = capsys.readouterr()
    assert out == "UNREACHABLE\n"
    assert err.startswith(f"monitor-contact: {address}: UNAVAILABLE ")
    assert "health port" in err
    assert err.count("\n") == 1


async def test_who_asks_a_service_without_a_health_port_is_led_to_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    """127.0.0.2 has no such port: the setting that opens it, and the command that works beside a default service."""
    assert await _ask("127.0.0.2:8081") == EXIT_FAILED
    err = capsys.readouterr().err
    assert "MONITOR_CONTACT_HEALTH_LISTEN" in err
    assert err.endswith(": monitor-contact health 127.0.0.1:50051\n")
    assert err.count("\n") == 1


async def test_a_proxy_for_http_is_not_asked(
    known: Health, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """http_proxy is for the world outside; gRPC by itself would send even loopback there."""
    known.set_ready(True)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:1")
    assert await _ask(address) == 0
    assert capsys.readouterr().out == "SERVING\n"


@pytest.mark.parametrize("address", ["8081", "localhost", "::1:8081", "127.0.0.1:http"])
def test_what_is_no_address_is_wrong_usage(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with the text that was typed and what would be right."""
    assert main(["health", address]) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"monitor-contact: {address}: must be host:port or [ipv6]:port, for example 127.0.0.1:50051\n"


def test_the_health_port_of_this_machine_is_the_default() -> None:
    """As in the manifests: readiness on 8081."""
    typed = parser().parse_args(["health"])
    assert (typed.address, typed.service) == ("127.0.0.1:8081", "readiness")


def test_a_probe_does_not_pay_for_the_service() -> None:
    """Neither AWS, HTTP, settings, policy nor the simulator are loaded: they take a second to import."""
    program = """
import sys
from monitor_contact_service.cli import main
main(["health", "127.0.0.1:1"])
heavy = {"boto3", "botocore", "aiohttp", "pydantic", "cedarpy", "cryptography", "jwt", "uvloop"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "UNREACHABLE\n[]\n", done.stderr
