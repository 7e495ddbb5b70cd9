"""What the tests of the audit share: calls to record, a log in memory, a disk that fails, and its files read back."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from monitor_contact_service.audit import AuditError
from monitor_contact_service.audit_log import FileLog
from monitor_contact_service.audit_segments import Disk, closed_files
from monitor_contact_service.audit_writer import Checkpoints, Rotation
from monitor_contact_service.core import audit_chain
from monitor_contact_service.core.audit_chain import Head, Link
from monitor_contact_service.core.caller import Authentication, Caller, Principal
from monitor_contact_service.core.command import Capability, MonitorCommand
from monitor_contact_service.core.permissions import SupervisorFacts
from monitor_contact_service.core.policy import Decision
from monitor_contact_service.core.record import Entry

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
PRINCIPAL = Principal("spiffe://corp.example/desk", Authentication.SPIFFE, "corp.example", "ab" * 32)


def entry(number: int = 1, *, caller: Caller | None = None) -> Entry:
    """Return a call that every step has filled in; `number` is its id."""
    return Entry(
        id=f"{number:032x}",
        received_at=NOON,
        deadline_seconds=9.98,
        peer="ipv4:10.0.0.1:4711",
        trace_id="cd" * 16,
        caller=caller or Caller(PRINCIPAL, ticket="QA-1", reason="random check"),
        command=MonitorCommand("instance", "contact", "user", (Capability.SILENT_MONITOR,), "token"),
        tenant="default",
        supervisor=SupervisorFacts(
            "user", listen_in=True, barge_in=False, restricted=False, profiles=("p",), checked_at=1
        ),
        decision=Decision(allowed=True, policies=("desk",), sha256="ef" * 32),
    )


@dataclass
class MemoryLog:
    """An audit log that keeps records. `hold` leaves appends pending until `settle`; `failure` refuses them."""

    hold: bool = False
    failure: str = ""
    records: list[Mapping[str, Any]] = field(default_factory=list)
    health: list[bool] = field(default_factory=list)
    _held: "list[tuple[asyncio.Future[int], int]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        self.on_failed: Callable[[], None] = lambda: self.health.append(False)
        self.on_recovered: Callable[[], None] = lambda: self.health.append(True)

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def append(self, record: Mapping[str, object]) -> "asyncio.Future[int]":
        """Keep the record."""
        if self.failure:
            raise AuditError(self.failure)
        self.records.append(record)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        seq = len(self.records)
        if self.hold:
            self._held.append((future, seq))
        else:
            # As a real log: the seq comes in a later turn of the event loop.
            asyncio.get_running_loop().call_soon(_resolve, future, seq)
        return future

    def settle(self, error: str = "") -> None:
        """Make durable what is held, or fail it."""
        held, self._held = self._held, []
        for future, seq in held:
            if error:
                future.set_exception(AuditError(error))
            else:
                _resolve(future, seq)

    def stages(self) -> list[str]:
        """Return the stages of all records, in order."""
        return [record["stage"] for record in self.records]


def _resolve(future: "asyncio.Future[int]", seq: int) -> None:
    if not future.done():
        future.set_result(seq)


class FaultyDisk(Disk):
    """A disk that writes `part` bytes at a time at most, and fails or hangs once it is told to.

    Each of `errors` names a call of `Disk` and its errno. Clear `going` to hang in `sync`.
    """

    def __init__(self, part: int | None = None) -> None:
        self.part = part
        self.errors: dict[str, int] = {}
        self.calls: list[str] = []
        self.going = threading.Event()
        self.going.set()
        self.reached = threading.Event()

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        """Write some of it."""
        self._enter("write")
        return super().write(descriptor, data[: self.part], offset)

    def sync(self, descriptor: int) -> None:
        """Hang or not."""
        self._enter("sync")
        self.reached.set()
        self.going.wait()
        super().sync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        """Sync all."""
        self._enter("sync_all")
        super().sync_all(descriptor)

    def reserve(self, descriptor: int, offset: int, length: int) -> None:
        """Reserve."""
        self._enter("reserve")
        super().reserve(descriptor, offset, length)

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        if code := self.errors.get(call):
            raise OSError(code, os.strerror(code))


def file_log(path: Path, **options: Any) -> FileLog:
    """Return a log of files with small defaults; `options` as FileLog's, those of Rotation and Checkpoints by name."""
    rotation = Rotation(options.pop("rotate_bytes", 2**26), options.pop("rotate_seconds", 86_400))
    checkpoints = Checkpoints(
        options.pop("checkpoint_seconds", 60), options.pop("checkpoint_records", 1000), options.pop("key", None)
    )
    options.setdefault("publish", lambda _: None)
    return FileLog(path, rotation=rotation, checkpoints=checkpoints, **options)


def read_chain(path: Path) -> list[Link]:
    """Return every record of an audit that was closed or killed, oldest first; the chain must hold."""
    links = []
    head: Head | None = None
    for file in (*closed_files(path), path):
        lines = file.read_bytes().rstrip(b"\0").split(b"\n")
        assert lines.pop() == b"", f"{file} ends within a line"
        for line in lines:
            link = audit_chain.parse(line)
            audit_chain.require_next(head or Head(link.seq - 1, link.prev), link)
            links.append(link)
            head = link.head
    return links


ENOSPC, EIO = errno.ENOSPC, errno.EIO
