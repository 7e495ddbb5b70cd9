"""What the commands say and do when something around them is missing, wrong or broken, and that they recover alone."""

import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from e2e.answers import Caller, calling
from e2e.processes import free_port, run, serve, simulate, started, until
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from monitor_contact_service.credentials import RENEW_INTERVAL_SECONDS
from monitor_contact_service.settings import Settings
from monitor_contact_service.simulator import AccessKey, Simulator, default_world
from monitor_contact_service.variables import variable

KEYS = default_world().access_keys
LASTING, TEMPORARY, EXPIRED = KEYS["AKIDSIMULATOR"], KEYS["ASIASIMULATOR"], KEYS["ASIAEXPIRED"]
CREDENTIAL_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of loopback that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def _without_credentials(simulator: Simulator) -> dict[str, str]:
    return {name: value for name, value in simulator.environment.items() if name not in CREDENTIAL_VARIABLES}


async def _readiness(caller: Caller) -> int:
    answer: HealthCheckResponse = await caller.health.Check(HealthCheckRequest(service="readiness"))
    return answer.status


# ---- Wrong configuration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["serve", "check-config"])
async def test_without_aws_configuration_it_says_what_to_set(command: str) -> None:
    """With neither Region nor credentials both are named at once, each with how to set it; exit code 2."""
    ended = await run(command)
    assert ended.exit_code == 2
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert len(lines) == 2
    assert "no AWS Region: set AWS_REGION (for example AWS_REGION=eu-central-1)" in lines[0]
    assert (
        "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with" in lines[1]
    )


@pytest.mark.parametrize("command", ["serve", "check-config"])
async def test_every_wrong_variable_is_named_before_anything_listens(command: str, taken_port: int) -> None:
    """All faults come out in one run, without any secret; the port, taken by another, was not even tried."""
    wrong = {
        "MONITOR_CONTACT_DEFAULT_DEADLINE_SECONDS": "soon",
        "MONITOR_CONTACT_MAX_DEADLINE_SECONDS": "-1",
        "MONITOR_CONTACT_ATTEMPT_TIMEOUT_SECONDS": "0",
        "MONITOR_CONTACT_QUOTA_RATE": "0",
        "MONITOR_CONTACT_QUOTA_BURST": "0.5",
        "MONITOR_CONTACT_QUOTA_URL": f"valkey://user:{LASTING.secret}@localhost",
        "MONITOR_CONTACT_QUOTA_REPLICAS": "none",
        "MONITOR_CONTACT_QUOTA_NAME": "our account",
        "MONITOR_CONTACT_QUEUE_PER_CALLER": "-1",
        "MONITOR_CONTACT_QUEUE_TOTAL": "0",
        "MONITOR_CONTACT_WEIGHTS": "qa:2",
        "MONITOR_CONTACT_MAX_IN_FLIGHT": "many",
        "MONITOR_CONTACT_TERMINATION_GRACE_SECONDS": "-1",
        "MONITOR_CONTACT_DRAIN_SECONDS": "-0.5",
        "MONITOR_CONTACT_MAX_CONNECTION_AGE_SECONDS": "0",
        "MONITOR_CONTACT_REFLECTION": "maybe",
        "MONITOR_CONTACT_METRICS_LISTEN": "9090",
        "MONITOR_CONTACT_HEALTH_LISTEN": "8081",
        "MONITOR_CONTACT_POLICY_TIMEZONE": "Europe/Atlantis",
        "MONITOR_CONTACT_SUPERVISOR_CHECK": "maybe",
        "MONITOR_CONTACT_RESTRICTED_SUPERVISORS": "some",
        "MONITOR_CONTACT_READ_QUOTA_RATE": "0",
        "MONITOR_CONTACT_READ_QUOTA_BURST": "0",
        "MONITOR_CONTACT_DIAGNOSIS": "on",
        "MONITOR_CONTACT_BARGE_ROLE_ARN": "barge",
        "MONITOR_CONTACT_ALLOW_ENDPOINT": "https://connect.example",
        "MONITOR_CONTACT_AUDIT": f"mysql://user:{LASTING.secret}@localhost",
        "MONITOR_CONTACT_AUDIT_ROTATE_BYTES": "1",
        "MONITOR_CONTACT_AUDIT_ROTATE_SECONDS": "1",
        "MONITOR_CONTACT_AUDIT_TIMEOUT_SECONDS": "0",
        "MONITOR_CONTACT_MAX_CONNECTIONS": "0",
        "MONITOR_CONTACT_CALLER_RATE_PER_MINUTE": "-1",
        "MONITOR_CONTACT_SUPERVISOR_RATE_PER_MINUTE": "-1",
        "MONITOR_CONTACT_TRACES": "on",
        "MONITOR_CONTACT_LOG_LEVEL": "chatty",
        "MONITOR_CONTACT_LOG_FORMAT": "xml",
        "MONITOR_CONTACT_SETTINGS_FILE": "/nonexistent/settings",
    }
    # What is wrong with a file is found by whoever reads it.
    named = {"listen", *(name for name in Settings.model_fields if name.endswith("_file"))}
    assert {variable(name) for name in Settings.model_fields.keys() - named} <= wrong.keys()
    environment = {
        **wrong,
        "MONITOR_CONTACT_LISTEN": f"127.0.0.1:{taken_port}",
        "MONITOR_CONTACT_DRAIN": "5",
        "MONITOR_CONTACT_SERVICE_PORT": "tcp://10.0.0.1:443",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": LASTING.id,
        "AWS_SECRET_ACCESS_KEY": LASTING.secret,
        "AWS_ENDPOINT_URL_CONNECT": "http://connect.example.com",
    }
    ended = await run(command, environment=environment)
    assert ended.exit_code == 2
    for name in wrong:
        assert f"monitor-contact: {name}: " in ended.err
    assert "MONITOR_CONTACT_DRAIN: is not a setting; did you mean MONITOR_CONTACT_DRAIN_SECONDS?" in ended.err
    assert "MONITOR_CONTACT_SERVICE_PORT: is not a setting; set enableServiceLinks: false in the pod" in ended.err
    assert "must be https; plain http is accepted on loopback only" in ended.err
    assert len(ended.err.splitlines()) == len(wrong) + 3
    assert LASTING.secret not in ended.err + ended.out


async def test_a_wrong_setting_makes_no_other_one_look_wrong() -> None:
    """The host that another setting allows is not refused only because the settings could not be read whole."""
    environment = {
        "MONITOR_CONTACT_ALLOW_ENDPOINT": "connect.example.com",
        "MONITOR_CONTACT_MAX_IN_FLIGHT": "many",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": LASTING.id,
        "AWS_SECRET_ACCESS_KEY": LASTING.secret,
        "AWS_ENDPOINT_URL_CONNECT": "https://connect.example.com",
    }
    ended = await run("check-config", environment=environment)
    assert ended.exit_code == 2
    [problem] = ended.err.splitlines()
    assert problem.startswith("monitor-contact: MONITOR_CONTACT_MAX_IN_FLIGHT: ")


async def test_any_other_address_than_loopback_is_refused_with_the_reason(simulator: Simulator) -> None:
    """Nobody can put the service on the network where it cannot tell its callers apart."""
    ended = await run("serve", environment={**simulator.environment, "MONITOR_CONTACT_LISTEN": "0.0.0.0:50051"})
    assert ended.exit_code == 2
    assert "MONITOR_CONTACT_LISTEN: must be a loopback address" in ended.err
    assert "otherwise everybody on the network could listen in on customers" in ended.err


async def test_a_taken_port_is_named(simulator: Simulator, taken_port: int) -> None:
    """Where another process listens, `serve` says so and which variable to change, with exit code 1, in one line."""
    environment = {**simulator.environment, "MONITOR_CONTACT_LISTEN": f"127.0.0.1:{taken_port}"}
    ended = await run("serve", environment=environment)
    assert ended.exit_code == 1
    assert f"monitor-contact: cannot listen on 127.0.0.1:{taken_port}: " in ended.err
    assert "MONITOR_CONTACT_LISTEN" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("name", ["MONITOR_CONTACT_METRICS_LISTEN", "MONITOR_CONTACT_HEALTH_LISTEN"])
async def test_another_taken_port_is_named_before_calls_are_taken(
    simulator: Simulator, taken_port: int, name: str
) -> None:
    """Nobody has been served when it gives up: exit code 1, and the variable in one line."""
    environment = {**simulator.environment, "MONITOR_CONTACT_LISTEN": "127.0.0.1:0"}
    ended = await run("serve", environment={**environment, name: f"127.0.0.1:{taken_port}"})
    assert ended.exit_code == 1
    assert f"monitor-contact: cannot listen on 127.0.0.1:{taken_port}: " in ended.err
    assert name in ended.err
    assert '"listening"' not in ended.err
    assert "Traceback" not in ended.err


async def test_a_second_service_does_not_share_the_port(simulator: Simulator) -> None:
    """Two replicas on one port would split the calls between them without a word: the second one does not start."""
    async with serve(simulator.environment) as first:
        environment = {**simulator.environment, "MONITOR_CONTACT_LISTEN": first.target}
        assert (await run("serve", environment=environment)).exit_code == 1


# ---- The audit -------------------------------------------------------------------------------------------------------


async def test_an_audit_that_another_replica_writes_is_never_told_as_ready(
    simulator: Simulator, tmp_path: Path
) -> None:
    """The file is locked: exit code 2, and no line before said that records can be made."""
    environment = {**simulator.environment, "MONITOR_CONTACT_AUDIT": str(tmp_path / "audit.jsonl")}
    async with serve(environment) as first:
        await first.running.logged("readiness", need="audit", met=True)
        ended = await run("serve", environment={**environment, "MONITOR_CONTACT_LISTEN": "127.0.0.1:0"})
    assert ended.exit_code == 2
    assert "audit.jsonl" in ended.err
    assert '"readiness"' not in ended.err


async def test_a_database_that_is_away_at_start_is_told_as_not_ready(simulator: Simulator) -> None:
    """It is waited for, and until then clients are sent elsewhere: no line says that records can be made."""
    database = f"postgresql://writer@127.0.0.1:{free_port()}/audit"
    environment = {**simulator.environment, "MONITOR_CONTACT_AUDIT": database}
    async with serve(environment) as service, calling(service.target) as caller:
        await service.running.logged("readiness", need="credentials", met=True)
        assert await _readiness(caller) == HealthCheckResponse.NOT_SERVING
        assert (await caller.ask()).reason == "AUDIT_UNAVAILABLE"
        assert not [line for line in service.running.log("readiness") if line["need"] == "audit"]


# ---- Connect is away -------------------------------------------------------------------------------------------------


async def test_connect_down_at_start_is_waited_for() -> None:
    """The service starts without Connect, refuses with a typed reason, and works as soon as Connect is there."""
    port = free_port()
    environment = {
        "AWS_ENDPOINT_URL_CONNECT": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": LASTING.id,
        "AWS_SECRET_ACCESS_KEY": LASTING.secret,
    }
    async with serve(environment) as service, calling(service.target) as caller:
        await service.serving()
        refused = await caller.ask(timeout=1)
        assert refused.reason == "CONNECT_UNREACHABLE"
        assert refused.code.name == "UNAVAILABLE"
        assert {"ErrorInfo", "RetryInfo", "RequestInfo"} == set(refused.details)
        metadata: Any = refused.details["ErrorInfo"]["metadata"]
        assert set(metadata) == {"attempts", "aws_request_id"}
        async with simulate(f"127.0.0.1:{port}"):
            assert (await caller.ask()).is_ok


async def test_a_restart_of_connect_is_not_noticed() -> None:
    """Connections that went stale because the other end was killed and came back cost no caller an error."""
    port = free_port()
    async with (
        simulate(f"127.0.0.1:{port}") as before,
        serve(before.environment) as service,
        calling(service.target) as caller,
    ):
        await service.serving()
        assert (await caller.ask()).is_ok
        await before.running.kill()
        async with simulate(f"127.0.0.1:{port}") as after:
            await after.lift_limits()
            answers = [await caller.ask() for _ in range(20)]
            assert {answer.reason for answer in answers} == {"OK"}


async def test_a_frozen_connect_is_survived() -> None:
    """While Connect's process stands still callers get a typed answer in time; when it goes on, so does the service."""
    async with simulate() as simulator, serve(simulator.environment) as service, calling(service.target) as caller:
        await service.serving()
        await simulator.lift_limits()
        assert (await caller.ask()).is_ok
        simulator.running.signal(signal.SIGSTOP)
        try:
            answers = [await caller.ask(timeout=1) for _ in range(3)]
        finally:
            simulator.running.signal(signal.SIGCONT)
        assert "CONNECT_UNREACHABLE" in {answer.reason for answer in answers}, answers
        assert {answer.code.name for answer in answers} <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert (await caller.ask()).is_ok


# ---- Credentials -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _credentials_endpoint(port: int, key: AccessKey) -> AsyncIterator[None]:
    """Answer like the endpoint of ECS and EKS Pod Identity."""

    async def answer(_: web.Request) -> web.Response:
        document = {
            "AccessKeyId": key.id,
            "SecretAccessKey": key.secret,
            "Token": key.session_token,
            "Expiration": "2099-01-01T00:00:00Z",
        }
        return web.json_response(document)

    application = web.Application()
    application.router.add_get("/credentials", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


async def test_a_credentials_endpoint_that_is_down_at_start_is_waited_for(simulator: Simulator) -> None:
    """Without credentials yet, the service is NOT_SERVING and says whose fault it is; SERVING when they come."""
    port = free_port()
    environment = {
        **_without_credentials(simulator),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{port}/credentials",
    }
    async with serve(environment) as service, calling(service.target) as caller:
        assert await _readiness(caller) == HealthCheckResponse.NOT_SERVING
        refused = await caller.ask()
        assert refused.reason == "SERVICE_CREDENTIALS"
        assert refused.pushback == "-1"
        assert simulator.calls() == []
        async with _credentials_endpoint(port, TEMPORARY):
            await service.serving()
            assert (await caller.ask()).is_ok
        assert service.running.log("credentials not fetched")
        assert TEMPORARY.secret not in service.running.err.text()


def _write(path: Path, key: AccessKey) -> None:
    lines = ["[default]", f"aws_access_key_id = {key.id}", f"aws_secret_access_key = {key.secret}"]
    if key.session_token:
        lines.append(f"aws_session_token = {key.session_token}")
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
    fresh.rename(path)


async def test_expired_credentials_are_replaced_without_a_restart(simulator: Simulator, tmp_path: Path) -> None:
    """Connect's word that they expired is told as the service's own fault; with a new file the next call works."""
    shared = tmp_path / "credentials"
    _write(shared, EXPIRED)
    environment = {**_without_credentials(simulator), "AWS_SHARED_CREDENTIALS_FILE": str(shared)}
    async with serve(environment) as service, calling(service.target) as caller:
        await service.serving()
        refused = await caller.ask()
        refused_at = time.monotonic()
        assert refused.reason == "SERVICE_CREDENTIALS"
        assert refused.code.name == "UNAVAILABLE"
        _write(shared, LASTING)
        # Calls that fail together renew once: within this time no second renewal is made.
        await until(lambda: time.monotonic() > refused_at + RENEW_INTERVAL_SECONDS)
        assert (await caller.ask()).is_ok


async def test_a_rotation_behind_its_back_costs_no_call(simulator: Simulator, tmp_path: Path) -> None:
    """When the key in use stops working and the file has the next one, the very call that meets it succeeds."""
    shared = tmp_path / "credentials"
    _write(shared, TEMPORARY)
    simulator.switches = simulator.switches.change({"hard_limits": False})
    environment = {**_without_credentials(simulator), "AWS_SHARED_CREDENTIALS_FILE": str(shared)}
    async with serve(environment) as service, calling(service.target) as caller:
        await service.serving()
        assert (await caller.ask()).is_ok
        _write(shared, LASTING)
        simulator.world = replace(simulator.world, access_keys={LASTING.id: LASTING})
        assert (await caller.ask()).is_ok
        assert [call.status for call in simulator.calls()] == [200, 403, 200]


# ---- The simulator's command -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_simulator_runs_until_it_is_signalled(number: signal.Signals) -> None:
    """`simulate` says where it is and what to export, answers there, and ends with exit code 0."""
    async with simulate() as simulator:
        assert set(simulator.environment) == {"AWS_ENDPOINT_URL_CONNECT", "AWS_REGION", *CREDENTIAL_VARIABLES}
        assert await simulator.calls() == 0
        simulator.running.signal(number)
        assert await simulator.running.ended() == 0
        assert "Traceback" not in simulator.running.err.text()


async def test_the_printed_world_can_be_started(tmp_path: Path) -> None:
    """What --print-world prints is a world file to copy: a simulator started with it knows the same contacts."""
    printed = await run("simulate", "--print-world")
    assert printed.exit_code == 0
    world = tmp_path / "world.toml"
    world.write_text(printed.out, encoding="utf-8")
    async with (
        simulate("127.0.0.1:0", "--world", str(world)) as simulator,
        serve(simulator.environment) as service,
        calling(service.target) as caller,
    ):
        await service.serving()
        assert (await caller.ask()).is_ok


async def test_a_broken_world_file_is_named_with_line_and_reason(tmp_path: Path) -> None:
    """Every problem of the file comes out at once, with its line; nothing listens; exit code 2."""
    printed = await run("simulate", "--print-world")
    world = tmp_path / "world.toml"
    broken = printed.out.replace('channel = "CHAT"', 'channel = "SMOKE"').replace("voice = false", 'voise = "no"')
    world.write_text(broken, encoding="utf-8")
    lines = [number for number, line in enumerate(broken.splitlines(), start=1) if "SMOKE" in line or "voise" in line]
    ended = await run("simulate", "--listen", "127.0.0.1:0", "--world", str(world))
    assert ended.exit_code == 2
    assert ended.out == ""
    for line in lines:
        assert f"{world}:{line}: " in ended.err
    assert len(ended.err.splitlines()) == len(lines)
    world.write_text('account = "unfinished\n', encoding="utf-8")
    ended = await run("simulate", "--listen", "127.0.0.1:0", "--world", str(world))
    assert ended.exit_code == 2
    assert f"{world}:1: not TOML: " in ended.err


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "example.com:80", "127.0.0.1", "4570"])
async def test_the_simulator_listens_on_loopback_only(listen: str) -> None:
    """Any other address, or none at all, is refused by the option's name with exit code 2."""
    ended = await run("simulate", "--listen", listen)
    assert ended.exit_code == 2
    assert f"monitor-contact: --listen {listen}: " in ended.err


async def test_a_taken_port_of_the_simulator_is_named(taken_port: int) -> None:
    """Where another process listens, `simulate` says so, with exit code 1, in one line."""
    async with started("simulate", "--listen", f"127.0.0.1:{taken_port}", environment={}) as running:
        assert await running.ended() == 1
        assert len(running.err.lines) == 1
        assert f"cannot listen on 127.0.0.1:{taken_port}: " in running.err.lines[0]
