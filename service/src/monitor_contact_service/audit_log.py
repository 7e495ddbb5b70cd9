"""The audit in files: takes records on the event loop, has one thread write all that wait at once, tells who waits.

How lines become durable is the matter of `audit_writer`. A write that fails ends it for good: which bytes are on the
disk is then known only after a restart has read them.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from .audit import AuditError
from .audit_segments import Disk
from .audit_writer import Checkpoints, Rotation, Writer
from .telemetry import fields

_log = logging.getLogger(__name__)

# How long the end waits for a disk that hangs: what is not durable by then is settled by the next start.
CLOSE_SECONDS: Final = 5.0
# Where the last write had so many records, the next one waits a moment for more, unless it has enough: as PostgreSQL's
# commit_delay and commit_siblings. Each write costs the event loop as much as a call's own work: under load this takes
# 150 µs of CPU off each call, and 20 % off the time that it takes (measured; half the moment takes off half as much).
BUSY_RECORDS: Final = 4
ENOUGH_RECORDS: Final = 16
GATHER_SECONDS: Final = 0.001

_Seq = asyncio.Future[int]
_Item = tuple[Mapping[str, object], _Seq]


def _nothing() -> None:
    pass


def _utc_now() -> datetime:
    return datetime.now(UTC)


class FileLog:
    """An `audit.AuditLog` of files: `path`, and beside it the ones that were closed.

    Args:
        path: the file that is written; when closed it gets the seq of its first record as another suffix.
        rotation: when it is closed.
        checkpoints: how often they are written, and signed by what.
        publish: gets each checkpoint's line once it is durable, in the writing thread: standard output, for example.
        utc_now: the time of records.
        clock: monotonic seconds.
        random_bytes: so many random bytes.
        disk: the system calls.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotation: Rotation,
        checkpoints: Checkpoints,
        publish: Callable[[str], None],
        utc_now: Callable[[], datetime] = _utc_now,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = os.urandom,
        disk: Disk | None = None,
    ) -> None:
        self.on_failed: Callable[[], None] = _nothing
        self.on_recovered: Callable[[], None] = _nothing
        self._writer = Writer(
            path,
            rotation=rotation,
            checkpoints=checkpoints,
            utc_now=utc_now,
            clock=clock,
            random_bytes=random_bytes,
            disk=disk or Disk(),
        )
        self._publish = publish
        # None is the end.
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._batch = 0  # how many records were last written together
        self._failure = ""  # why nothing is written any more
        self._full = ""  # why nothing but outcomes is

    async def open(self) -> None:
        """Settle what the last process left open, and begin.

        Raises:
            ConfigurationError: the file cannot be written, another process does, or it was tampered with.
        """
        self._loop = asyncio.get_running_loop()
        self._tell_published(await asyncio.to_thread(self._writer.open))
        if self._writer.full is not None:
            self._room_changed(self._writer.full)
        self._ended = self._loop.create_future()
        threading.Thread(target=self._run, name="audit", daemon=True).start()

    def append(self, record: Mapping[str, object]) -> _Seq:
        """Queue a record; the future has its seq once it is durable.

        Raises:
            AuditError: nothing is written any more; or the disk is full, and what is left is kept for outcomes.
        """
        if self._failure:
            raise AuditError(self._failure)
        if self._full and not _has_kept_room(record):
            raise AuditError(self._full)
        future = self._loop.create_future()
        self._queue.put((record, future))
        return future

    async def close(self) -> None:
        """Write what is queued and a last checkpoint, and end; a disk that hangs is given up after 5 s."""
        self._queue.put(None)
        self._failure = self._failure or "the audit is closed"
        done, _ = await asyncio.wait({self._ended}, timeout=CLOSE_SECONDS)
        if not done:
            _log.error("audit not closed", extra=fields(waited_seconds=CLOSE_SECONDS))

    def _run(self) -> None:
        """Be the writing thread."""
        broken = last = False
        while not last:
            items, last = self._take()
            if broken:
                self._tell(_fail, items, "nothing is written any more")
            else:
                broken = not self._write(items)
        self._finish(broken=broken)
        self._tell(self._ended.set_result, None)

    def _take(self) -> tuple[list[_Item], bool]:
        """Wait for records, or until the writer wants to write without; return all there are and whether it ends.

        One record after the other waits for no others.
        """
        try:
            taken = [self._queue.get(timeout=self._writer.seconds_to_write())]
        except Empty:
            return [], False
        if self._batch >= BUSY_RECORDS and self._queue.qsize() < ENOUGH_RECORDS:
            time.sleep(GATHER_SECONDS)
        taken += [self._queue.get() for _ in range(self._queue.qsize())]
        self._batch = len(taken)
        items = [item for item in taken if item is not None]
        return items, len(items) < len(taken)

    def _write(self, items: list[_Item]) -> bool:
        """Write the records and tell who waits for them; return whether it can go on."""
        full = self._writer.full
        if full is not None:
            self._tell(_fail, [item for item in items if not _has_kept_room(item[0])], str(full))
            items = [item for item in items if _has_kept_room(item[0])]
        try:
            numbers, published = self._writer.write([record for record, _ in items])
        except Exception as error:  # noqa: BLE001 - whatever it is, the chain cannot be continued
            self._tell(self._break, items, f"{type(error).__name__}: {error}")
            return False
        self._tell(_resolve, items, numbers)
        if (self._writer.full is None) != (full is None):
            self._tell(self._room_changed, self._writer.full)
        self._tell_published(published)
        return True

    def _finish(self, *, broken: bool) -> None:
        """End the writer; one that is broken writes nothing more."""
        try:
            if not broken:
                self._tell_published(self._writer.close())
        except OSError as error:
            _log.error("audit not closed", extra=fields(error=str(error)))
        finally:
            self._writer.release()

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call on the event loop; one call for a whole batch. Nobody is left to be told if the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _tell_published(self, lines: Sequence[str]) -> None:
        """Repeat checkpoints where they are published; the audit itself does not depend on it."""
        try:
            for line in lines:
                self._publish(line)
        except (OSError, ValueError) as error:
            _log.warning("checkpoint not published", extra=fields(error=str(error)))

    def _break(self, items: Sequence[_Item], why: str) -> None:
        self._failure = self._failure or why
        _log.critical("audit failed", extra=fields(error=why))
        _fail(items, why)
        self.on_failed()

    def _room_changed(self, full: OSError | None) -> None:
        self._full = str(full) if full else ""
        if full:
            _log.critical("audit has no room", extra=fields(error=self._full))
            self.on_failed()
        else:
            _log.info("audit has room again")
            self.on_recovered()


def _has_kept_room(record: Mapping[str, object]) -> bool:
    return record["stage"] in {"outcome", "policy"}  # of the latter there are few, and later records name them


def _resolve(items: Sequence[_Item], numbers: Sequence[int]) -> None:
    for (_, future), seq in zip(items, numbers, strict=True):
        if not future.done():
            future.set_result(seq)


def _fail(items: Sequence[_Item], why: str) -> None:
    for _, future in items:
        if not future.done():
            future.set_exception(AuditError(why))
