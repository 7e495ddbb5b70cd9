"""Finds out at start how far the last process came: the end of the chain, half-written lines, intents without outcome.

Reads the file that was written last, the one before it, and as many before that as an action can have lived. Cuts a
torn tail off, after a copy of it was kept; writes no records.
"""

import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from .audit_segments import EXTENT_BYTES, Disk, closed_files, sync_folder
from .core import audit_chain, audit_verification
from .core.audit_chain import ChainError, Head, Link
from .settings import ConfigurationError

VARIABLE: Final = "MONITOR_CONTACT_AUDIT"
# One write holds less than this, and the one before was durable when it began: more cannot be torn.
WRITE_MAX_BYTES: Final = 512 * 1024 + audit_chain.MAX_LINE_BYTES
# No action lives longer: the longest deadline that can be configured, and a minute for its end.
ACTION_TIME: Final = timedelta(seconds=360)


@dataclass(slots=True)
class Recovered:
    """Where an audit goes on.

    Attributes:
        head: the chain's last line.
        writer: the writer id of the chain; "" if there is none yet.
        end: bytes of good lines in the file that is written.
        first_seq: of that file.
        since: the time of its first line; None if it is empty.
        open_intents: request ids of actions without an outcome, by seq.
        since_checkpoint: records after the last checkpoint.
        torn_bytes: how many were cut off.
        torn_file: the name of their copy; "" if there is none.
    """

    head: Head = field(default_factory=Head)
    writer: str = ""
    end: int = 0
    first_seq: int = 1
    since: datetime | None = None
    open_intents: dict[int, str] = field(default_factory=dict)
    since_checkpoint: int = 0
    torn_bytes: int = 0
    torn_file: str = ""

    def follow(self, link: Link) -> None:
        """Take the next line into account. Raises ChainError if it is not the next one."""
        if not self.writer:  # the first line that is there: what came before it was moved away
            self.head = Head(link.seq - 1, link.prev)
        audit_chain.require_next(self.head, link)
        if self.since is None:
            self.first_seq, self.since = link.seq, _time(link)
        self.head = link.head
        self.writer = link.chain.partition("/")[0]
        self.since_checkpoint = 0 if link.stage == "checkpoint" else self.since_checkpoint + 1
        if link.stage == "intent":
            self.open_intents[link.seq] = link.id
        elif link.stage in {"outcome", "recovered"}:
            self.open_intents.pop(link.record.get("intent_seq", 0), None)

    def begin_file(self) -> None:
        """Go on with the next file."""
        self.end, self.first_seq, self.since = 0, self.head.seq + 1, None


@dataclass(frozen=True, slots=True)
class _Fault:
    """What follows the good lines of a file and is not a reserve."""

    offset: int
    problem: str
    rest: bytes

    @property
    def is_torn(self) -> bool:
        """True if a process that was killed, or a machine that stopped, can have left this.

        A process leaves a line without its end; a machine also holes in the last write, which are zeros.
        """
        return audit_verification.is_torn(self.rest, WRITE_MAX_BYTES)


def recover(disk: Disk, path: Path, now: datetime) -> Recovered:
    """Return where the audit at `path` goes on; `now` (UTC) names the copy of a torn tail.

    Raises:
        ConfigurationError: a file was tampered with.
        OSError: one cannot be read or mended.
    """
    state = Recovered()
    for closed in _recent(path):
        if state.writer and _first_seq(closed) > state.head.seq + 1:
            state = Recovered()  # files between were moved away: what was open before cannot be followed
        if fault := _read(closed, state):
            raise _damaged(closed, fault)
        state.begin_file()
    if path.exists():
        if not path.is_file():
            raise ConfigurationError([f"{VARIABLE}: {path} is not a file; name the file to write to"])
        _read_last(disk, path, state, now)
    return state


def _recent(path: Path) -> list[Path]:
    """Return the closed files that can hold an open intent, in their order.

    What was open when the process ended had begun `ACTION_TIME` before at most, and it ended after the last file began.
    """
    closed = closed_files(path)
    last_began = _began(path) or (_began(closed[-1]) if closed else None)
    recent: list[Path] = []
    for file in reversed(closed):
        recent.insert(0, file)
        began = _began(file)
        if began is not None and last_began is not None and began < last_began - ACTION_TIME:
            break
    return recent


def _first_seq(closed: Path) -> int:
    """Return what a closed file's name ends with."""
    return int(closed.suffix.removeprefix("."))


def _began(path: Path) -> datetime | None:
    """Return the time of a file's first line; None if it has none that can be read."""
    if not path.is_file():  # a pipe would never be opened
        return None
    try:
        with path.open("rb") as file:
            return _time(audit_chain.parse(_whole(file.readline(audit_chain.MAX_LINE_BYTES + 1))))
    except (OSError, ChainError):
        return None


def _read_last(disk: Disk, path: Path, state: Recovered, now: datetime) -> None:
    """Follow the file that was written last, and cut off its reserve and what is torn."""
    fault = _read(path, state)
    if fault is not None:
        if not fault.is_torn:
            raise _damaged(path, fault)
        state.torn_bytes = len(fault.rest)
        state.torn_file = _keep(disk, path, fault.rest, now)
    os.truncate(path, state.end)


def _read(path: Path, state: Recovered) -> _Fault | None:
    """Follow the lines of a file; `state.end` is where the good ones end."""
    with path.open("rb") as file:
        while line := file.readline(audit_chain.MAX_LINE_BYTES + 1):
            try:
                state.follow(audit_chain.parse(_whole(line)))
            except ChainError as error:
                rest = line + file.read(EXTENT_BYTES + WRITE_MAX_BYTES)
                more = file.read(1)
                rest = rest if more else rest.rstrip(b"\0")  # zeros at the end are a reserve
                return _Fault(state.end, str(error), rest) if rest else None
            state.end += len(line)
    return None


def _whole(line: bytes) -> bytes:
    """Return a line without its newline. Raises ChainError if it has none."""
    if not line.endswith(b"\n"):
        raise ChainError("the line has no end")
    return line[:-1]


def _keep(disk: Disk, path: Path, rest: bytes, now: datetime) -> str:
    """Copy what will be cut off, durably; return the copy's name."""
    copy = path.with_name(f"{path.name}.torn.{now:%Y%m%dT%H%M%S.%fZ}")
    with open(copy, "xb", opener=_private) as file:
        file.write(rest)
        file.flush()
        disk.sync_all(file.fileno())
    sync_folder(disk, path.parent)
    return copy.name


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _time(link: Link) -> datetime:
    try:
        return datetime.fromisoformat(link.t)
    except ValueError as error:
        raise ChainError("t is no time") from error


def _damaged(path: Path, fault: _Fault) -> ConfigurationError:
    remedy = "examine it with `monitor-contact audit verify`, then move the audit's files away: a new chain begins"
    return ConfigurationError([f"{VARIABLE}: {path} is damaged at byte {fault.offset}: {fault.problem}; {remedy}"])
