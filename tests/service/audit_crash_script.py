"""Records actions as fast as it can until it is killed: run by test_audit_crash.py.

Usage: python audit_crash_script.py FILE. Prints a line "stage seq id" for each record once it is acknowledged.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from monitor_contact_service.audit_log import FileLog
from monitor_contact_service.audit_writer import Checkpoints, Rotation
from monitor_contact_service.core.record import new_id

IN_FLIGHT = 16
# Small, so that many kills hit a rotation.
ROTATION = Rotation(65_536, 86_400)


async def act(log: FileLog) -> None:
    """Record one action after the other."""
    while True:
        request_id = new_id(round(time.time() * 1000), os.urandom(10))
        seq = await log.append({"id": request_id, "stage": "intent"})
        os.write(1, f"intent {seq} {request_id}\n".encode())
        outcome = {"id": request_id, "stage": "outcome", "intent_seq": seq, "result": "answered"}
        seq = await log.append(outcome)
        os.write(1, f"outcome {seq} {request_id}\n".encode())


async def main(path: Path) -> None:
    """Run until killed."""
    log = FileLog(path, rotation=ROTATION, checkpoints=Checkpoints(records=50), publish=lambda _: None)
    await log.open()
    await asyncio.gather(*(act(log) for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
