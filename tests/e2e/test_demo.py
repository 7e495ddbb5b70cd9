"""`make demo` and `make run` as a newcomer meets them, and what is left of them when they end early: nothing."""

import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from e2e.processes import COMMAND, Running, run, started

_DEMO = str(Path(__file__).parents[2] / "tools" / "demo.py")
# Of the 15 scenes, in their order; the third makes eight calls.
_ANSWERS = [
    "OK: monitoring has started",
    "OK: monitoring has started",
    "8 OK",
    "OK: monitoring has started",
    "VALIDATION_FAILED",
    "RESOURCE_NOT_FOUND",
    "CONTACT_NOT_MONITORABLE",
    "UNSUPPORTED_CHANNEL",
    "SERVICE_QUOTA_EXCEEDED",
    "SUPERVISOR_NOT_PERMITTED",
    "SUPERVISOR_NOT_PERMITTED",
    "ACCESS_DENIED",
    "SERVICE_LINKED_ROLE_MISSING",
    "THROTTLED",
    "DEADLINE_TOO_SHORT",
]


# What a person may have set for other purposes: none of it is meant for the demonstration.
_OTHERWISE_SET: Mapping[str, str] = {
    "MONITOR_CONTACT_LOG_LEVEL": "warning",
    "MONITOR_CONTACT_FOO": "1",
    "AWS_PROFILE": "nope",
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "grpc_proxy": "http://127.0.0.1:9",
}


@pytest.mark.slow
async def test_every_scene_ends_as_its_title_says() -> None:
    """A newcomer's first command, whatever the environment: all scenes, the audit verified, exit code 0."""
    async with started(_DEMO, environment=_OTHERWISE_SET, program=sys.executable) as demo:
        assert await demo.ended() == 0
    said = demo.out.text()
    scenes = re.split(r"^ ?\d+\. ", said, flags=re.MULTILINE)[1:]
    assert [answer for answer, scene in zip(_ANSWERS, scenes, strict=True) if answer not in scene] == []
    assert "permissions are read once, then remembered" in scenes[0]
    assert "Each call was written down before and after" in said
    assert demo.err.text() == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_ended_early_it_leaves_nothing_running(number: signal.Signals) -> None:
    """A CI job that runs out of time, a terminal that is closed: simulator and service go with it."""
    async with started(_DEMO, environment={}, program=sys.executable) as demo:
        line = await demo.out.find(lambda line: "the service at" in line)
        demo.signal(number)
        assert await demo.ended() == 130
    _nobody_listens(line)
    assert "Traceback" not in demo.err.text()


@asynccontextmanager
async def _staying(prelude: str = "") -> AsyncIterator[Running]:
    """Yield `make run` on free ports, once it has said all that it says; `prelude` is the shell's."""
    command = f"{prelude} exec {sys.executable} {_DEMO} --stay --connect 127.0.0.1:0 --listen 127.0.0.1:0"
    async with started("-c", command, environment={}, program="/bin/sh") as demo:
        await demo.out.find(lambda line: "audit verify" in line)
        yield demo
        if not demo.has_ended:
            demo.signal(signal.SIGINT)
            assert await demo.ended() == 0


@pytest.mark.slow
async def test_what_it_says_to_paste_works_and_works_again() -> None:
    """Each command of the shell and the block of Python, as they stand, one after the other and twice."""
    async with _staying() as demo:
        commands = [line.replace(".venv/bin/monitor-contact", str(COMMAND)) for line in demo.out.lines]
        commands = [line for line in commands if line.startswith((str(COMMAND), "tr "))]
        block = demo.out.text().partition(".venv/bin/python:\n")[2].partition("\n\n")[0]
        outputs: list[str] = []
        for _ in range(2):
            for command in commands:
                ended = await run("-c", command, program="/bin/sh")
                assert (ended.exit_code, ended.err) == (0, ""), command
                outputs.append(ended.out)
            ended = await run("-c", block, program=sys.executable)
            assert (ended.exit_code, ended.err) == (0, "")
    called, healthy, recorded, verified = outputs[-4:]
    assert "contact_arn" in called
    assert healthy == "SERVING"
    assert '"stage":"intent"' in recorded
    assert "\0" not in recorded
    assert "seq 1 to" in verified


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1], ids=["simulate", "serve"])
async def test_a_child_that_ends_ends_it(number: int, request: pytest.FixtureRequest) -> None:
    """With a sentence and exit code 1, and without the other child."""
    async with _staying() as demo:
        line = demo.out.lines[0]
        os.kill(_children(demo)[number], signal.SIGKILL)
        assert await demo.ended() == 1
    command = request.node.callspec.id
    assert f"monitor-contact {command} ended by itself, with exit code -9" in demo.err.text()
    _nobody_listens(line)


@pytest.mark.slow
async def test_nohup_outlasts_the_terminal() -> None:
    """Whoever ignores SIGHUP on purpose keeps it running: what ends it here is the end of a child."""
    async with _staying("trap '' HUP;") as demo:
        demo.signal(signal.SIGHUP)
        os.kill(_children(demo)[0], signal.SIGKILL)
        assert await demo.ended() == 1


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--connect", "--listen"])
async def test_a_port_that_is_taken_is_told(option: str) -> None:
    """The child's own sentence, exit code 1, and never a word that it runs."""
    ports = {"--connect": "127.0.0.1:0", "--listen": "127.0.0.1:0"}
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        ports[option] = f"127.0.0.1:{occupant.getsockname()[1]}"
        arguments = [each for pair in ports.items() for each in pair]
        ended = await run(_DEMO, "--stay", *arguments, program=sys.executable)
    assert (ended.exit_code, ended.out) == (1, "")
    assert f"cannot listen on {ports[option]}" in ended.err
    assert "ended by itself, with exit code 1" in ended.err
    assert "Traceback" not in ended.err


def _children(demo: Running) -> list[int]:
    """Return the process ids of the simulator and of the service."""
    return [int(pid) for pid in Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()]


def _nobody_listens(line: str) -> None:
    addresses = re.findall(r"127\.0\.0\.1:(\d+)", line)
    assert len(addresses) == 2
    for port in addresses:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(port))) != 0
