"""The service killed under load: what it has answered is on the disk, and the next start settles what was open."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
from e2e.answers import Answer, calling, valid
from e2e.processes import SimulatorProcess, run, serve, simulate

# `make soak` asks for 1,000.
KILLS = int(os.environ.get("SERVICE_KILLS", "3"))
CALLERS = 16
# Enough for intents without an outcome, answers on their way and a writer at work in the moment of the kill.
CALLS_BEFORE_KILL = 60

Tell = Callable[[str], None]


def _records(audit: Path) -> list[dict[str, Any]]:
    """Return every whole line of the audit's files."""
    files = [file for file in sorted(audit.parent.glob("audit.jsonl*")) if ".torn." not in file.name]
    lines = [line for file in files for line in file.read_bytes().split(b"\n")]
    return [json.loads(line) for line in lines if line.strip(b"\0").endswith(b"}")]


async def _life(simulator: SimulatorProcess, audit: Path) -> list[Answer]:
    """Let a service serve and kill it in the middle; return what it has answered with success."""
    answered: list[Answer] = []
    async with serve({**simulator.environment, "MONITOR_CONTACT_AUDIT": str(audit)}) as service:
        await service.serving()
        async with calling(service.target) as caller:

            async def call_for_ever() -> None:
                while True:
                    answer = await caller.ask(valid())
                    if not answer.is_ok:
                        return
                    answered.append(answer)
                    if len(answered) == CALLS_BEFORE_KILL:
                        service.running.signal(signal.SIGKILL)

            await asyncio.gather(*(call_for_ever() for _ in range(CALLERS)))
            await service.running.ended()
    return answered


@pytest.mark.slow
async def test_what_was_answered_is_recorded_whenever_the_service_is_killed(tmp_path: Path, tell: Tell) -> None:
    """Every session that a caller knows of has intent and outcome; every other intent is settled by the next start."""
    audit = tmp_path / "audit.jsonl"
    answered: list[Answer] = []
    async with simulate() as simulator:
        await simulator.lift_limits()
        await simulator.set_latency(0.02)
        for _ in range(KILLS):
            answered += await _life(simulator, audit)
        async with serve({**simulator.environment, "MONITOR_CONTACT_AUDIT": str(audit)}) as service:
            await service.serving()
            service.running.signal(signal.SIGTERM)
            assert await service.running.ended() == 0
    records = _records(audit)
    outcomes = {
        record["aws"]["monitor_contact_id"] for record in records if "monitor_contact_id" in record.get("aws", {})
    }
    intents = [record for record in records if record["stage"] == "intent"]
    settled = {record["intent_seq"] for record in records if record["stage"] in {"outcome", "recovered"}}
    recovered = sum(record["stage"] == "recovered" for record in records)
    tell(f"{KILLS} kills: {len(answered)} answered, {len(intents)} intents, {recovered} settled by the next start")
    assert {answer.contact_id for answer in answered} <= outcomes
    assert {record["seq"] for record in intents} == settled
    assert len(settled) == sum(record["stage"] in {"outcome", "recovered"} for record in records)
    verified = await run("audit", "verify", *map(str, sorted(audit.parent.glob("audit.jsonl*"))))
    assert verified.exit_code == 0, verified.out
    assert {record["instance"] for record in intents} == {harness.INSTANCE_ID}
