"""How fast the audit's files take records: records/s and the wait of each, by how many are appended at a time.

Usage: append.py [FOLDER]. FOLDER must be on the disk that counts; /tmp may be memory. Prints one line per number in
flight, then what one call costs in CPU: intent and outcome through `audit.Audit`, the writing thread's work included.
"""

import asyncio
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from monitor_contact_service.audit import Audit
from monitor_contact_service.audit_log import FileLog
from monitor_contact_service.audit_writer import Checkpoints, Rotation
from monitor_contact_service.core import record
from monitor_contact_service.core.caller import Authentication, Caller, Principal
from monitor_contact_service.core.command import Capability, MonitorCommand, MonitoringSession
from monitor_contact_service.core.permissions import SupervisorFacts
from monitor_contact_service.core.policy import Decision
from monitor_contact_service.core.record import Entry, new_id
from monitor_contact_service.core.work import Work

IN_FLIGHT = (1, 8, 64, 256)
SECONDS = 3.0
ID = "10000000-0000-4000-8000-000000000001"
SESSION = MonitoringSession(ID, "arn", ID)


def entry() -> Entry:
    """Return a call as most are: one profile, one policy, a ticket; its intent has about 1,000 bytes."""
    return Entry(
        id=new_id(round(time.time() * 1000), os.urandom(10)),
        received_at=datetime.now(UTC),
        deadline_seconds=9.98,
        peer="ipv4:10.0.0.1:4711",
        trace_id="0" * 32,
        caller=Caller(
            Principal("spiffe://corp.example/ns/quality/sa/desk", Authentication.SPIFFE, "corp.example", "0" * 64),
            ticket="QA-4711",
            reason="random check",
        ),
        command=MonitorCommand(ID, ID, ID, (Capability.SILENT_MONITOR,), "token"),
        tenant="default",
        supervisor=SupervisorFacts(
            ID, listen_in=True, barge_in=False, restricted=False, profiles=(ID,), checked_at=1.7e9
        ),
        decision=Decision(allowed=True, policies=("quality-desk",), sha256="0" * 64),
    )


async def waits(log: FileLog, in_flight: int) -> list[float]:
    """Return the seconds that each record took until it was durable, sorted."""
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    members = record.intent(entry())

    async def append() -> None:
        while (began := time.perf_counter()) < end:
            await log.append(members)
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(append() for _ in range(in_flight)))
    return sorted(taken)


async def cpu_us(log: FileLog, in_flight: int) -> float:
    """Return the CPU time of one action's two records, all threads together."""
    audit = Audit(log, code_of=lambda reason: reason.value, timeout_seconds=2, clock=time.monotonic)
    calls = 0
    end = time.perf_counter() + SECONDS

    async def act() -> None:
        nonlocal calls
        while time.perf_counter() < end:
            work = Work(time.monotonic() + 10)
            async with audit.action(entry(), work) as action:
                work.sending = True
                action.succeeded(SESSION)
            calls += 1

    began = time.process_time()
    await asyncio.gather(*(act() for _ in range(in_flight)))
    return (time.process_time() - began) / calls * 1e6


async def run(folder: Path) -> None:
    """Print the table."""
    log = FileLog(
        folder / "audit.jsonl",
        rotation=Rotation(64 * 1024 * 1024, 86_400),
        checkpoints=Checkpoints(),
        publish=lambda _: None,
    )
    await log.open()
    print("in flight   records/s    p50 ms    p99 ms")
    for in_flight in IN_FLIGHT:
        taken = await waits(log, in_flight)
        p50, p99 = (taken[int(len(taken) * part)] * 1000 for part in (0.5, 0.99))
        print(f"{in_flight:9}   {len(taken) / SECONDS:9,.0f} {p50:9.2f} {p99:9.2f}")
    for in_flight in (1, 32):
        print(f"{await cpu_us(log, in_flight):.0f} us CPU per call with {in_flight} in flight")
    await log.close()


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else "."
    with tempfile.TemporaryDirectory(dir=where) as place:
        uvloop.run(run(Path(place)))
