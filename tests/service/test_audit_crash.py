"""The audit of a process that is killed under load, again and again: nothing acknowledged is lost, the chain holds.

AUDIT_KILLS is how often (10). A killed process loses nothing that Linux has taken; the power may fail otherwise.
"""

# ruff: noqa: ASYNC240 - the tests' own files, small, with nothing else to do meanwhile

import asyncio
import os
import random
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from pathlib import Path

from audit_fakes import file_log, read_chain
from monitor_contact_service.audit_segments import closed_files

_SCRIPT = Path(__file__).with_name("audit_crash_script.py")
KILLS = int(os.environ.get("AUDIT_KILLS", "10"))
# More than one file's worth, so that some kills come within a rotation.
MOST_RECORDS = 1000

Acknowledged = tuple[str, int, str]


async def _killed(path: Path, after_records: int) -> list[Acknowledged]:
    """Let a process record until it has said that so many are durable, kill it; return all that it has said."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(_SCRIPT), str(path), stdout=PIPE)
    assert process.stdout is not None
    lines: list[bytes] = []
    async with asyncio.timeout(60):
        while len(lines) < after_records:
            line = await process.stdout.readline()
            assert line, "the process ended by itself"
            lines.append(line)
        process.kill()
        lines += (await process.stdout.read()).splitlines(keepends=True)
        await process.wait()
    parts = [line.decode().split() for line in lines if line.endswith(b"\n")]
    return [(stage, int(seq), request_id) for stage, seq, request_id in parts]


async def _restarted(path: Path) -> None:
    log = file_log(path)
    await log.open()
    await log.close()


def _forget_old(path: Path) -> int:
    """Delete closed files that the next start does not read, as operators do; return how many."""
    old = closed_files(path)[:-2]
    for file in old:
        file.unlink()
    return len(old)


async def test_nothing_acknowledged_is_lost_however_often_the_process_is_killed(tmp_path: Path) -> None:
    """Every acknowledged record is on disk, and every intent has exactly one outcome, `recovered` if need be."""
    path = tmp_path / "audit.jsonl"
    draw = random.Random(4)  # noqa: S311 - when to kill, the same each time
    recovered = rotations = 0
    for _ in range(KILLS):
        acknowledged = await _killed(path, draw.randrange(1, MOST_RECORDS))
        await _restarted(path)
        links = {link.seq: link for link in read_chain(path)}
        for stage, seq, request_id in acknowledged:
            assert (links[seq].stage, links[seq].id) == (stage, request_id)
        first = min(links)
        outcomes = Counter(
            link.record["intent_seq"] for link in links.values() if link.stage in {"outcome", "recovered"}
        )
        intents = [seq for seq, link in links.items() if link.stage == "intent"]
        assert dict.fromkeys(intents, 1) == {seq: count for seq, count in outcomes.items() if seq >= first}
        recovered += sum(link.stage == "recovered" for link in links.values())
        rotations += _forget_old(path)
    torn = len(list(tmp_path.glob("*.torn.*")))
    print(f"{KILLS} kills: {torn} torn tails, {recovered} recovered, {rotations} files closed")  # noqa: T201 - pytest -s
    assert recovered > 0
    assert rotations > 0
