"""The files of an audit: the one that is written, and those that were closed. Writes bytes durably, knows no records.

Room is reserved ahead, so that outcomes of actions already under way can be written on a disk that has become full.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

# Reserved at a time, and the least that is kept free: at most 512 actions are under way by default, and their outcomes
# have less than 1 KiB each.
EXTENT_BYTES: Final = 1024 * 1024
ROOM_BYTES: Final = 512 * 1024

_NO_RESERVE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class Disk:
    """The system calls that a disk can refuse or hang in."""

    def write(self, descriptor: int, data: memoryview, offset: int) -> int:
        """Write some of the data; return how much."""
        return os.pwrite(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        """Return once what was written is durable."""
        os.fdatasync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        """As `sync`, the file's size or the folder's names included."""
        os.fsync(descriptor)

    def reserve(self, descriptor: int, offset: int, length: int) -> None:
        """Take the room for `length` bytes from the disk; the file grows by zeros."""
        os.posix_fallocate(descriptor, offset, length)


class Segment:
    """One open file, written by one thread.

    Not opened with O_APPEND, which would write behind the reserve (measured). Any OSError ends its use: after a failed
    fdatasync nobody knows what Linux still holds of it, so it is never tried again.

    Attributes:
        path: where it is.
        end: bytes written; the reserve is behind.
    """

    def __init__(self, disk: Disk, path: Path, *, end: int = 0) -> None:
        """Open the file, or create it; it has `end` bytes. Raises OSError."""
        self._disk = disk
        self.path = path
        self.end = end
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._reserved = end
        self._size = end  # of the file: less means that somebody cut it
        self._identity = _identity(os.fstat(self._descriptor))

    def write(self, data: bytes) -> None:
        """Append the data and return once it is durable, in this file and at this place. Raises OSError."""
        rest = memoryview(data)
        while rest:
            written = self._disk.write(self._descriptor, rest, self.end)
            if not written:
                raise OSError(errno.EIO, "nothing was written")
            self.end += written
            rest = rest[written:]
        self._disk.sync(self._descriptor)
        self._require_in_place()

    def reserve(self) -> None:
        """See to it that `ROOM_BYTES` are free. Raises OSError if the disk does not have them."""
        if self._reserved - self.end >= ROOM_BYTES:
            return
        try:
            self._disk.reserve(self._descriptor, self.end, EXTENT_BYTES)
            self._size = self.end + EXTENT_BYTES
        except OSError as error:
            if error.errno not in _NO_RESERVE:
                raise
        self._reserved = self.end + EXTENT_BYTES

    def finish(self) -> None:
        """Cut the reserve, durably. Raises OSError."""
        os.ftruncate(self._descriptor, self.end)
        self._disk.sync_all(self._descriptor)

    def release(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def moved(self, path: Path) -> None:
        """Be known by another name."""
        self.path.rename(path)
        self.path = path

    def _require_in_place(self) -> None:
        """Raise OSError if the file was deleted, replaced or cut: what is written would be lost."""
        found = os.stat(self.path)  # noqa: PTH116 - once a batch: Path.stat costs twice as much
        if _identity(found) != self._identity or found.st_size < max(self.end, self._size):
            raise OSError(errno.ESTALE, "the file was replaced or cut by somebody else")


def create_next(disk: Disk, path: Path) -> Segment:
    """Return a new file beside the one at `path`, with room. Raises OSError, and leaves nothing then."""
    place = hidden(path, "next")
    place.unlink(missing_ok=True)
    segment = Segment(disk, place)
    try:
        segment.reserve()
    except OSError:
        segment.release()
        place.unlink(missing_ok=True)
        raise
    return segment


def swap(disk: Disk, old: Segment, new: Segment, first_seq: int) -> None:
    """Close `old` for good, under the number of its first record, and put `new` in its place. Raises OSError."""
    path = old.path
    closed = path.with_name(f"{path.name}.{first_seq:012}")
    if closed.exists():
        raise FileExistsError(errno.EEXIST, "a closed file has the name already", str(closed))
    old.finish()
    old.moved(closed)
    new.moved(path)
    sync_folder(disk, path.parent)
    old.release()


def sync_folder(disk: Disk, folder: Path) -> None:
    """Make names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.sync_all(descriptor)
    finally:
        os.close(descriptor)


def closed_files(path: Path) -> list[Path]:
    """Return the closed files of the audit at `path`, oldest first. Raises OSError."""
    return [place for _, place in sorted(_numbered(path))]


def hidden(path: Path, purpose: str) -> Path:
    """Return a name beside `path` that no pattern like `audit.jsonl*` matches."""
    return path.with_name(f".{path.name}.{purpose}")


def _numbered(path: Path) -> Iterator[tuple[int, Path]]:
    name = re.compile(re.escape(path.name) + r"\.(\d{12,})")
    with suppress(FileNotFoundError):
        for place in path.parent.iterdir():
            if found := name.fullmatch(place.name):
                yield int(found[1]), place


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
