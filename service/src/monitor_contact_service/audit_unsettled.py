"""Makes the lines of one process's chain, with checkpoints between them, and keeps those that may not be durable yet.

For a log that can lose its database: then it asks how far the chain was written, and sends the rest again as it was.
What a line looks like is decided in `core.audit_chain`.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from .audit_writer import Checkpoints
from .core import audit_chain, record
from .core.audit_chain import Head

Seq = asyncio.Future[int]


class NotOursError(Exception):
    """What was found is not what was written: durable records are missing, or somebody added some."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end, and who waits for it."""

    seq: int
    text: str
    future: Seq | None
    is_checkpoint: bool


class Unsettled:
    """The end of a chain that begins empty; its first record and a checkpoint, so that it is signed, are added at once.

    Args:
        checkpoints: how often, and signed by what.
        utc_now: the time of records.
        clock: monotonic seconds, for checkpoints.
        random_bytes: so many random bytes.

    Attributes:
        name: "<writer id>/<boot id>"; both are the same, for nothing is kept between two starts.
        lines: those that are not known to be durable.
        since_checkpoint: records after the last checkpoint.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        utc_now: Callable[[], datetime],
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        boot = random_bytes(8).hex()
        self.name = f"{boot}/{boot}"
        self.lines: list[Line] = []
        self.since_checkpoint = 0
        self._head = Head()
        self._durable_seq = 0
        self._written_seq = 0
        self._checkpoints = checkpoints
        self._key_id = audit_chain.key_id(checkpoints.key.public_key()) if checkpoints.key else ""
        self._utc_now = utc_now
        self._clock = clock
        self._random_bytes = random_bytes
        self.add(record.segment(self._new_id(utc_now())))
        self.add_checkpoint()

    def add(self, members: Mapping[str, object], future: Seq | None = None) -> None:
        """Add a record that `future` waits for, and a checkpoint after it if it is the last of so many."""
        self._add(members, self._utc_now(), future)
        self.since_checkpoint += 1
        if self.since_checkpoint >= self._checkpoints.records:
            self.add_checkpoint()

    def add_checkpoint(self) -> None:
        """Add a checkpoint, signed if there is a key."""
        now = self._utc_now()
        members = record.checkpoint(
            self._new_id(now), head=self._head.hash, count=self.since_checkpoint, time=now, key_id=self._key_id
        )
        self._add(members, now, is_checkpoint=True)
        self.since_checkpoint = 0
        self._checkpoint_at = self._clock() + self._checkpoints.seconds

    def seconds_to_checkpoint(self) -> float:
        """Return when the next one is due; infinity while there is nothing new."""
        return max(0.0, self._checkpoint_at - self._clock()) if self.since_checkpoint else math.inf

    def found(self, last_seq: int) -> None:
        """Take note that the chain is written up to there. Raises NotOursError if that cannot be."""
        if not self._durable_seq <= last_seq <= self._head.seq:
            raise NotOursError(f"seq {self._durable_seq} to {self._head.seq} were written, the last one is {last_seq}")
        self._written_seq = last_seq

    def unwritten(self) -> tuple[int, Sequence[str]]:
        """Return the lines that have to be written, and the seq of the first."""
        return self._written_seq + 1, [line.text for line in self.lines if line.seq > self._written_seq]

    def settle(self) -> Sequence[Line]:
        """Take note that all is durable; return the lines that were not known to be."""
        settled, self.lines = self.lines, []
        self._durable_seq = self._written_seq = self._head.seq
        return settled

    def _add(
        self, members: Mapping[str, object], now: datetime, future: Seq | None = None, *, is_checkpoint: bool = False
    ) -> None:
        seq = self._head.seq + 1
        line = audit_chain.line(members, seq, self._head.hash, self.name, record.rfc3339(now))
        if is_checkpoint and self._checkpoints.key is not None:
            line = audit_chain.signed(line, self._checkpoints.key)
        self._head = Head(seq, audit_chain.digest(line))
        self.lines.append(Line(seq, line.decode("ascii"), future, is_checkpoint))

    def _new_id(self, now: datetime) -> str:
        return record.new_id(round(now.timestamp() * 1000), self._random_bytes(10))
