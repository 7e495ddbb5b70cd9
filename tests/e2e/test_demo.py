"""`make demo` as the README shows it, and what is left of it when it is ended early: nothing."""

import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from e2e.processes import started

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


@pytest.mark.slow
async def test_every_scene_ends_as_its_title_says() -> None:
    """A newcomer's first command: all scenes, the audit verified, exit code 0."""
    async with started(_DEMO, environment={}, program=sys.executable) as demo:
        assert await demo.ended() == 0
    said = demo.out.text()
    scenes = re.split(r"^ ?\d+\. ", said, flags=re.MULTILINE)[1:]
    assert [answer for answer, scene in zip(_ANSWERS, scenes, strict=True) if answer not in scene] == []
    assert "Each call was written down before and after" in said
    assert "Traceback" not in said + demo.err.text()


@pytest.mark.slow
async def test_ended_early_it_leaves_nothing_running() -> None:
    """SIGTERM, as from a CI job that runs out of time: simulator and service go with it."""
    async with started(_DEMO, environment={}, program=sys.executable) as demo:
        line = await demo.out.find(lambda line: "the service at" in line)
        demo.signal(signal.SIGTERM)
        assert await demo.ended() == 130
    for port in re.findall(r"127\.0\.0\.1:(\d+)", line):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(port))) != 0
    assert "Traceback" not in demo.err.text()
