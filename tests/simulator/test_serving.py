"""Running the simulator: its address, its environment lines, its access log, its end."""

import asyncio
import io
import socket
from contextlib import suppress
from dataclasses import replace

import pytest
from monitor_contact_service.simulator import Fault, NotLoopbackError, Simulator, default_world, describe, simulate

from .support import Caller, FakeClock


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])  # noqa: S104 - refused, that is the point
def test_only_loopback_is_listened_on(host: str) -> None:
    """Whoever reaches the control API may do everything, so nobody else may reach it."""
    with pytest.raises(NotLoopbackError, match="listens on loopback only"):
        Simulator(host=host)


async def test_the_environment_points_here(sim: Simulator) -> None:
    """The variables that AWS's own tools read, with a lasting key before a temporary one."""
    assert sim.environment == {
        "AWS_ENDPOINT_URL_CONNECT": sim.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIDSIMULATOR",
        "AWS_SECRET_ACCESS_KEY": "simulator-secret",
    }
    assert f"export AWS_ENDPOINT_URL_CONNECT={sim.url}\n" in describe(sim)


async def test_a_world_with_temporary_keys_gives_the_token_too(sim: Simulator) -> None:
    """Temporary credentials are of no use without their session token."""
    keys = {"ASIASIMULATOR": default_world().access_keys["ASIASIMULATOR"]}
    sim.world = replace(sim.world, access_keys=keys)
    assert sim.environment["AWS_SESSION_TOKEN"] == "simulator-session-token"


def test_a_simulator_that_does_not_run_has_no_url() -> None:
    """The port is known only after the start."""
    with pytest.raises(RuntimeError, match="not running"):
        _ = Simulator().url


async def test_a_simulator_may_stop_and_start_again() -> None:
    """For tests of an outage: the same port, the same state."""
    async with Simulator() as probe:
        port = int(probe.url.rpartition(":")[2])
    simulator = Simulator(port=port)
    for _ in range(2):
        async with simulator:
            assert simulator.url == f"http://127.0.0.1:{port}"


async def test_a_taken_port_is_an_error() -> None:
    """The reason is the operating system's, for the command line to tell."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await Simulator(port=taken.getsockname()[1]).start()


async def test_ipv6_loopback_has_brackets() -> None:
    """The URL is one that clients can parse."""
    async with Simulator(host="::1") as simulator:
        assert simulator.url.startswith("http://[::1]:")


async def test_each_call_is_a_line_of_the_log(clock: FakeClock) -> None:
    """Short and readable; what a caller sent cannot break the line."""
    lines: list[str] = []
    async with Simulator(clock=clock, log=lines.append) as simulator:
        caller, world = Caller(simulator, clock), simulator.world
        await caller.monitor()
        await caller.monitor(user="oscar")
        await caller.post(b'{"ContactId": "a\\nb\\ud800", "UserId": 5}')
        await caller.get("/users/i/%0Ax")
        simulator.inject(Fault("close"))
        async with await caller.open() as wire:
            caller.send_monitor(wire)
            await wire.rest()
    call, sue, oscar = world.contacts["call"].id, world.users["sue"].id, world.users["oscar"].id
    assert lines == [
        f"MonitorContact 200 contact={call} supervisor={sue}",
        f"MonitorContact 402 ServiceQuotaExceededException contact={call} supervisor={oscar}",
        "MonitorContact 400 InvalidRequestException contact=a\\nb\\ud800 supervisor=None",
        "DescribeUser 404 ResourceNotFoundException id=\\nx",
        f"MonitorContact unanswered contact={call} supervisor={sue} fault=close",
    ]


class _Output(io.StringIO):
    """An output that tells when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def flush(self) -> None:
        self.written.set()


@pytest.mark.parametrize("quiet", [False, True])
async def test_simulate_says_where_it_is_and_runs_until_cancelled(*, quiet: bool) -> None:
    """The environment lines go to one stream, the calls to the other unless quiet; cancelling ends it."""
    output, log = _Output(), io.StringIO()
    running = asyncio.ensure_future(simulate(port=0, quiet=quiet, output=output, log=log))
    await output.written.wait()
    url = next(line.partition("=")[2] for line in output.getvalue().splitlines() if "AWS_ENDPOINT_URL_CONNECT" in line)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(b"POST /contact/monitor HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
    writer.close()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    expected = "" if quiet else "MonitorContact 403 MissingAuthenticationToken contact=None supervisor=None\n"
    assert log.getvalue() == expected


async def test_simulate_refuses_other_hosts() -> None:
    """Before anything listens."""
    with pytest.raises(NotLoopbackError):
        await simulate(host="192.0.2.1")
