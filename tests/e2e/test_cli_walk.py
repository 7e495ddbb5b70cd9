"""The README's path as a newcomer walks it: simulate, serve, call; the answers as JSON, the exit codes by outcome."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import harness
import pytest
from e2e.processes import COMMAND, ServiceProcess, SimulatorProcess, free_port, run, serve, simulate
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact_service.reasons import TABLE
from monitor_contact_service.simulator import default_world

WORLD = default_world()
VALID: Mapping[str, str] = {
    "instance-id": harness.INSTANCE_ID,
    "contact-id": harness.CONTACT_ID,
    "user-id": harness.USER_ID,
}
# Refusals of the default world: what to change in the valid call, the reason, the exit code.
REFUSALS: Mapping[str, tuple[Mapping[str, str], str, int]] = {
    "an identifier that cannot be": ({"contact-id": ".."}, "VALIDATION_FAILED", 3),
    "nobody's contact": ({"contact-id": "nonsense"}, "RESOURCE_NOT_FOUND", 3),
    "a task": ({"contact-id": WORLD.contacts["task"].id}, "UNSUPPORTED_CHANNEL", 3),
    "a call that has ended": ({"contact-id": WORLD.contacts["ended"].id}, "CONTACT_NOT_MONITORABLE", 5),
    "a call without an agent": ({"contact-id": WORLD.contacts["queued"].id}, "NO_AGENT_PARTICIPANT", 5),
    "a supervisor who is offline": ({"user-id": WORLD.users["oscar"].id}, "SERVICE_QUOTA_EXCEEDED", 5),
    "a desk phone that cannot be called": ({"user-id": WORLD.users["pat"].id}, "USER_PHONE_NUMBER_INVALID", 5),
    "a call that is not recorded": (
        {
            "instance-id": WORLD.instances["plain"].id,
            "contact-id": WORLD.contacts["unrecorded-call"].id,
            "user-id": WORLD.users["polly"].id,
        },
        "RECORDING_DISABLED",
        5,
    ),
    "an instance without its role": (
        {
            "instance-id": WORLD.instances["unlinked"].id,
            "contact-id": WORLD.contacts["unlinked-call"].id,
            "user-id": WORLD.users["una"].id,
        },
        "SERVICE_LINKED_ROLE_MISSING",
        7,
    ),
}


class Called(NamedTuple):
    """What `monitor-contact call` said and how it ended."""

    exit_code: int
    answer: dict[str, Any]


class Shell(NamedTuple):
    """A simulator, a service in front of it, and `monitor-contact call`."""

    simulator: SimulatorProcess
    service: ServiceProcess

    async def call(self, *options: str, **changed: str) -> Called:
        """Make the valid call, with some members changed."""
        members = {**VALID, **{name.replace("_", "-"): value for name, value in changed.items()}}
        arguments = [f"--{name}={value}" for name, value in members.items()]
        ended = await run("call", "--target", self.service.target, *arguments, *options)
        assert ended.err == ""
        return Called(ended.exit_code, json.loads(ended.out))


@pytest.fixture
async def shell() -> AsyncIterator[Shell]:
    """Both processes, started as the README says, on free ports."""
    async with simulate() as simulator, serve(simulator.environment) as service:
        await service.serving()
        yield Shell(simulator, service)


async def test_a_newcomer_starts_monitoring(shell: Shell) -> None:
    """The call prints the session and exits with 0; with the same client token it prints the same session again."""
    first = await shell.call("--capability=SILENT_MONITOR", "--capability=BARGE")
    assert first.exit_code == 0
    assert set(first.answer) == {"client_token", "contact_id", "contact_arn"}
    assert first.answer["contact_arn"].endswith(first.answer["contact_id"])
    token = first.answer["client_token"]
    again = await shell.call("--capability=SILENT_MONITOR", "--capability=BARGE", f"--client-token={token}")
    assert again == first
    other = await shell.call()
    assert other.exit_code == 5, "sue listens to one call at a time"
    assert other.answer["reason"] == "SERVICE_QUOTA_EXCEEDED"


async def test_every_kind_of_refusal_has_its_exit_code(shell: Shell) -> None:
    """Each refusal of the world is printed with its reason, and the exit code says what to do about it."""
    await shell.simulator.lift_limits()
    for what, (changed, reason, exit_code) in REFUSALS.items():
        called = await shell.call(**changed)
        assert called.answer["reason"] == reason, (what, called)
        assert called.exit_code == exit_code, what
        assert called.answer["code"] in grpc.StatusCode.__members__
        assert called.answer["request_id"]
    refused = await shell.call(user_id="..", contact_id="")
    assert {each["field"] for each in refused.answer["violations"]} == {"user_id", "contact_id"}
    await shell.simulator.control("PUT", "switches", {"check_security_profile": True})
    denied = await shell.call(user_id=WORLD.users["nora"].id)
    assert (denied.exit_code, denied.answer["reason"]) == (4, "ACCESS_DENIED")


async def test_what_passes_by_itself_is_to_be_repeated_later(shell: Shell) -> None:
    """Throttled and unreachable calls exit with 6 and say when to come again; a broken answer exits with 7."""
    await shell.simulator.set_faults({"action": "hang"})
    unreachable = await shell.call("--timeout=0.5")
    assert (unreachable.exit_code, unreachable.answer["reason"]) == (6, "CONNECT_UNREACHABLE")
    await shell.simulator.set_faults({"action": "error", "error": "ThrottlingException"})
    throttled = await shell.call("--timeout=1")
    assert (throttled.exit_code, throttled.answer["reason"]) == (6, "THROTTLED")
    assert throttled.answer["retry_after"].endswith("s")
    await shell.simulator.set_faults({"action": "garbage", "garbage": "html"})
    broken = await shell.call()
    assert (broken.exit_code, broken.answer["reason"]) == (7, "CONNECT_BAD_RESPONSE")
    await shell.simulator.set_faults({"action": "error", "status": 503, "times": 2})
    assert (await shell.call()).exit_code == 0, "two failures are repeated by the service itself"


async def test_nobody_answers() -> None:
    """Where no service listens, the call says so as JSON and exits with 1."""
    arguments = [f"--{name}={value}" for name, value in VALID.items()]
    ended = await run("call", f"--target=127.0.0.1:{free_port()}", "--timeout=2", *arguments)
    assert ended.exit_code == 1
    assert json.loads(ended.out)["code"] == "UNAVAILABLE"
    assert "reason" not in json.loads(ended.out)


async def test_wrong_usage_exits_with_2() -> None:
    """What cannot be typed is refused by the parser; nothing is called."""
    for arguments in ([], ["call"], ["call", "--instance-id=i"], ["nonsense"], ["serve", "--port=1"]):
        ended = await run(*arguments)
        assert ended.exit_code == 2, arguments
        assert "usage: monitor-contact" in ended.err


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        *((f"--timeout={seconds}", "--timeout: must be a number of") for seconds in ("inf", "nan", "0", "-1", "1e300")),
        *(
            (f"--target={target}", f"--target {target}: must be host:port or [ipv6]:port")
            for target in (
                *("", ":50051", "localhost", "127.0.0.1:99999", "127.0.0.1:0", "::1:50051"),
                *("http://localhost:50051", "a b:1", "user@host:1"),
            )
        ),
        *(
            (f"--{name}=\udcff\udcfe".encode("utf-8", "surrogateescape"), f"--{name}: must be UTF-8 text")
            for name in ("target", "instance-id", "contact-id", "user-id", "client-token")
        ),
        ("--ticket=\udcff".encode("utf-8", "surrogateescape"), "--ticket: must have only printable ASCII"),
    ],
)
async def test_what_cannot_be_sent_is_wrong_usage(option: str | bytes, problem: str) -> None:
    """Exit 2 with the option and what would be right; nothing is called, no traceback."""
    ended = await run("call", *(f"--{name}={value}" for name, value in VALID.items()), os.fsdecode(option))
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err.startswith(f"monitor-contact: {problem}"), ended.err


async def test_targets_in_grpcs_own_form_are_grpcs_matter() -> None:
    """They are called, and here nobody answers."""
    for target in (f"dns:///127.0.0.1:{free_port()}", f"ipv4:127.0.0.1:{free_port()}", f"[::1]:{free_port()}"):
        ended = await run("call", *(f"--{name}={value}" for name, value in VALID.items()), f"--target={target}")
        assert (ended.exit_code, json.loads(ended.out)["code"]) == (1, "UNAVAILABLE"), target


async def test_what_is_too_large_is_to_be_changed(shell: Shell, tmp_path: Path) -> None:
    """GRPC's own refusal names no reason; found before, it is the request's fault. One byte less is the service's."""
    fixed = MonitorContactRequest(**{name.replace("-", "_"): value for name, value in VALID.items()}).ByteSize()
    fits = "t" * (16_384 - fixed - 3)  # 3: tag and length of the token's field
    judged = await shell.call(f"--client-token={fits}")
    assert judged.answer["reason"] == "VALIDATION_FAILED"
    large = await shell.call(f"--client-token={fits}t")
    assert (large.exit_code, large.answer["code"]) == (3, "RESOURCE_EXHAUSTED")
    assert large.answer["message"] == "the request has 16385 bytes, the service accepts 16384"
    token = tmp_path / "token"
    token.write_text("t" * (7_168 - 32 - len("authorizationBearer ")))
    assert (await shell.call(f"--token-file={token}")).answer["reason"] == "UNAUTHENTICATED"
    token.write_text(token.read_text() + "t")
    large = await shell.call(f"--token-file={token}")
    assert (large.exit_code, large.answer["message"]) == (
        3,
        "reason, ticket and tokens have 7169 bytes, the service accepts 7168",
    )


async def test_an_answer_that_cannot_be_written_is_told(shell: Shell) -> None:
    """Monitoring has started: an exit code of its own, and the answer on stderr. With stdout closed nothing starts."""
    command = [str(COMMAND), "call", f"--target={shell.service.target}"]
    command += [f"--{name}={value}" for name, value in VALID.items()]
    for redirection, exit_code, said in (
        (">&-", 2, "monitor-contact: stdout is closed"),
        (
            ">/dev/full",
            8,
            "monitor-contact: the answer could not be written to stdout (No space left on device); it is {",
        ),
    ):
        ended = await run("-c", f'exec "$@" {redirection}', "sh", *command, program="/bin/sh")
        assert ended.exit_code == exit_code, ended.err
        assert ended.err.startswith(said)
        assert ended.err.count("\n") == 0, "one line, without a traceback"
        assert await shell.simulator.calls() == (exit_code == 8)


async def test_check_config_prints_what_serve_would_use() -> None:
    """With a right environment it lists every setting and where Connect is, without the secret; exit code 0."""
    async with simulate() as simulator:
        ended = await run("check-config", environment={**simulator.environment, "MONITOR_CONTACT_MAX_IN_FLIGHT": "7"})
        assert ended.exit_code == 0
        assert "MONITOR_CONTACT_MAX_IN_FLIGHT=7" in ended.out
        assert f"Connect is {simulator.url}, Region us-east-1" in ended.out
        assert simulator.environment["AWS_SECRET_ACCESS_KEY"] not in ended.out + ended.err
        assert await simulator.calls() == 0


async def test_the_command_explains_itself() -> None:
    """--version names the version; every command's --help names every option, variable and exit code."""
    assert (await run("--version")).out.startswith("monitor-contact ")
    for command, needed in {
        "serve": ("MONITOR_CONTACT_LISTEN", "MONITOR_CONTACT_DRAIN_SECONDS", "exit codes: 0"),
        "check-config": ("MONITOR_CONTACT_LISTEN", "exit codes: 0"),
        "simulate": ("--listen", "--world", "--print-world", "exit codes: 0"),
        "call": ("--target", "--client-token", "--reason", "--tls-ca", "--end-user-token-file", "exit codes: 0"),
    }.items():
        ended = await run(command, "--help")
        assert ended.exit_code == 0
        assert [word for word in needed if word not in ended.out] == []


def test_every_refusal_of_the_walk_has_the_advice_of_the_table() -> None:
    """The exit codes above are those that the error table gives."""
    for changed, reason, exit_code in REFUSALS.values():
        row = next(row for key, row in TABLE.items() if key == reason)
        assert row.advice.value == exit_code, (changed, reason)
