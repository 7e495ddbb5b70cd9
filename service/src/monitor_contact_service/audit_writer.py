"""Writes an audit's records into its files, one after the other, and checkpoints between them. For one thread.

Every write is durable when it returns. What a line looks like is decided in `core.audit_chain`; which record is due is
`audit`'s matter, and who waits for it `audit_log`'s.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .audit_recovery import VARIABLE, WRITE_MAX_BYTES, Recovered, recover
from .audit_segments import Disk, Segment, create_next, hidden, swap, sync_folder
from .core import audit_chain, record
from .core.audit_chain import MAX_LINE_BYTES, Head
from .settings import ConfigurationError

# How often a full disk is asked again for room.
FULL_RETRY_SECONDS: Final = 1.0
_WRITE_BYTES: Final = WRITE_MAX_BYTES - MAX_LINE_BYTES


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is closed and the next one begun: at this size or this age, whichever comes first."""

    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """How often the hash of the last line is signed and repeated elsewhere, and by which key (None: not signed)."""

    seconds: float = 60.0
    records: int = 1000
    key: Ed25519PrivateKey | None = None


class Writer:
    """The one writer of the audit at `path`.

    Args:
        path: the file; its folder is made if need be.
        rotation: when the next file is begun; looked at before each write.
        checkpoints: how often, and signed by what.
        utc_now: the time of records.
        clock: monotonic seconds, for checkpoints.
        random_bytes: so many random bytes.
        disk: the system calls.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotation: Rotation,
        checkpoints: Checkpoints,
        utc_now: Callable[[], datetime],
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        disk: Disk,
    ) -> None:
        self.path = path.absolute()
        # Why there is no room for more actions; what is reserved is kept for the outcomes of those under way.
        self.full: OSError | None = None
        self._rotation = rotation
        self._checkpoints = checkpoints
        self._key_id = audit_chain.key_id(checkpoints.key.public_key()) if checkpoints.key else ""
        self._utc_now = utc_now
        self._clock = clock
        self._random_bytes = random_bytes
        self._disk = disk
        self._checkpoint_at = clock() + checkpoints.seconds
        # What the next flush writes.
        self._lines: list[bytes] = []
        self._bytes = 0
        self._published: list[str] = []

    def open(self) -> list[str]:
        """Settle what the last process left, and begin; return the checkpoints written.

        Raises:
            ConfigurationError: another process writes there, the audit was tampered with, or the disk refuses.
        """
        with self._explained(), ExitStack() as undo:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_out_others()
            undo.callback(os.close, self._lock)
            found = recover(self._disk, self.path, self._utc_now())
            self._segment = Segment(self._disk, self.path, end=found.end)
            undo.callback(lambda: self._segment.release())  # noqa: PLW0108 - another one after a rotation
            sync_folder(self._disk, self.path.parent)
            self._segment.reserve()
            published = self._begin(found)
            undo.pop_all()
        return published

    def write(
        self, records: Sequence[Mapping[str, object]], *, checkpoint: bool = False
    ) -> tuple[list[int], list[str]]:
        """Make records durable; return the seq of each, and the lines of checkpoints. Raises OSError, and ends then.

        With `checkpoint`, one follows them whatever the time. `full` says afterwards whether there is room for more
        actions.
        """
        self.full = None
        self._set_time()
        self._rotate_if_due()
        numbers = [self._add_record(each) for each in records]
        if self._since_checkpoint and (checkpoint or self._clock() >= self._checkpoint_at):
            self._add_checkpoint()
        self._flush()
        self._keep_room()
        published, self._published = self._published, []
        return numbers, published

    def seconds_to_write(self) -> float | None:
        """Return when `write` wants to be called again, with or without records; None if only with some."""
        if self.full is not None:
            return FULL_RETRY_SECONDS
        return max(0.0, self._checkpoint_at - self._clock()) if self._since_checkpoint else None

    def close(self) -> list[str]:
        """Write the last checkpoint and cut the reserve; return the checkpoint. Raises OSError."""
        self._set_time()
        if self._since_checkpoint:
            self._add_checkpoint()
            self._flush()
        self._segment.finish()
        return self._published

    def release(self) -> None:
        """Let other processes write; the last call."""
        self._segment.release()
        os.close(self._lock)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            problem = f"{VARIABLE}: cannot write {self.path}: {error.strerror}"
            remedy = "name a file in a folder that this process may write to, on a disk with room"
            raise ConfigurationError([f"{problem}; {remedy}"]) from error

    def _lock_out_others(self) -> None:
        self._lock = os.open(hidden(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            problem = f"{VARIABLE}: another process writes to {self.path}; each process needs a file of its own"
            raise ConfigurationError([problem]) from error

    def _begin(self, found: Recovered) -> list[str]:
        """Write that a new process goes on, and the outcomes that the last one could not write.

        The checkpoint after them is not left to its time: no chain is without a signature, not for a minute either.
        """
        self._set_time()
        self._head = found.head
        self._chain = f"{found.writer or self._random_bytes(8).hex()}/{self._random_bytes(4).hex()}"
        self._first_seq = found.first_seq
        self._since = found.since or self._now
        self._since_checkpoint = found.since_checkpoint
        segment = record.segment(self._new_id(), torn_bytes=found.torn_bytes, torn_file=found.torn_file)
        recovered = [record.recovered(request_id, seq) for seq, request_id in found.open_intents.items()]
        return self.write([segment, *recovered], checkpoint=True)[1]

    def _add_record(self, members: Mapping[str, object]) -> int:
        seq = self._add(members)
        self._since_checkpoint += 1
        if self._since_checkpoint >= self._checkpoints.records:
            self._add_checkpoint()
        if self._bytes >= _WRITE_BYTES:
            self._flush()
        return seq

    def _add_checkpoint(self) -> None:
        members = record.checkpoint(
            self._new_id(), head=self._head.hash, count=self._since_checkpoint, time=self._now, key_id=self._key_id
        )
        self._add(members, self._checkpoints.key)
        self._published.append(self._lines[-1][:-1].decode())
        self._since_checkpoint = 0
        self._checkpoint_at = self._clock() + self._checkpoints.seconds

    def _add(self, members: Mapping[str, object], key: Ed25519PrivateKey | None = None) -> int:
        """Put a record at the end of the chain; it is written by the next flush."""
        seq = self._head.seq + 1
        line = audit_chain.line(members, seq, self._head.hash, self._chain, self._t)
        if key is not None:
            line = audit_chain.signed(line, key)
        self._head = Head(seq, audit_chain.digest(line))
        self._lines.append(line + b"\n")
        self._bytes += len(line) + 1
        return seq

    def _flush(self) -> None:
        if self._lines:
            self._segment.write(b"".join(self._lines))
            self._lines.clear()
            self._bytes = 0

    def _keep_room(self) -> None:
        try:
            self._segment.reserve()
        except OSError as error:
            self.full = error

    def _rotate_if_due(self) -> None:
        """Begin the next file; it starts with a checkpoint. Without room for one, the old file is written on."""
        age_seconds = (self._now - self._since).total_seconds()
        if self._segment.end < self._rotation.bytes and age_seconds < self._rotation.seconds:
            return
        try:
            following = create_next(self._disk, self.path)
        except OSError as error:
            self.full = error
            return
        swap(self._disk, self._segment, following, self._first_seq)
        self._segment, self._first_seq, self._since = following, self._head.seq + 1, self._now
        self._add_checkpoint()

    def _set_time(self) -> None:
        """Take the time of the records to come."""
        self._now = self._utc_now()
        self._t = record.rfc3339(self._now)

    def _new_id(self) -> str:
        return record.new_id(round(self._now.timestamp() * 1000), self._random_bytes(10))
