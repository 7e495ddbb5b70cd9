"""`monitor-contact audit verify`: reads an audit's files and says whether they are whole, or from which byte on not.

What is right and what is wrong is decided in `core.audit_verification`. Files of several writers (replicas, chains that
were exported from PostgreSQL) may be given together, in any order.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, ClassVar, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from .audit_recovery import WRITE_MAX_BYTES
from .audit_segments import EXTENT_BYTES
from .audit_writer import Checkpoints
from .core import audit_chain
from .core.audit_chain import MAX_LINE_BYTES, ChainError
from .core.audit_verification import (
    Anchor,
    Place,
    Proof,
    TamperedError,
    Verification,
    anchor_faults,
    is_torn,
    open_intents,
)
from .exits import CannotStartError

EXIT_WHOLE: Final = 0
EXIT_TAMPERED: Final = 1
EXIT_TORN: Final = 2
EXIT_OPEN: Final = 3
EXIT_UNCHECKED: Final = 4
# Nobody reads what is said: as a shell shows a process that SIGPIPE has ended. Python's own 1 would say "tampered".
EXIT_NO_READER: Final = 141

# Of very many open intents (a process that still runs, a chain of PostgreSQL without its successor's) these are named.
_NAMED_INTENTS: Final = 20
_ANCHOR: Final = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{64})")


class UncheckedError(CannotStartError):
    """A file, key or anchor cannot be read: nothing is said about the audit."""

    exit_code: ClassVar[int] = EXIT_UNCHECKED


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    writer: str
    first_seq: int


def audit_verify(arguments: argparse.Namespace) -> int:
    """Verify `arguments.files` and print what was found; return the exit code.

    Args:
        arguments: `files` (one or more paths; one that is given twice counts once), `anchor` (texts SEQ:HASH),
            `pubkey` (paths of PEM files).

    Raises:
        UncheckedError: a file, key or anchor cannot be read, or the verdict cannot be written.
    """
    keys = [_public_key(path) for path in arguments.pubkey]
    proof = Proof(
        keys={audit_chain.key_id(key): key for key in keys},
        unsigned_records=Checkpoints().records,
        anchors=[_anchor(text) for text in arguments.anchor],
    )
    files = {os.path.realpath(path): Path(path) for path in arguments.files}
    try:
        exit_code = _Report(proof).verify(list(files.values()))
        sys.stdout.flush()
    except OSError as error:  # of standard output: those of files are UncheckedErrors already
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe: else the flush at the end fails once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_NO_READER
        raise UncheckedError([f"cannot write to standard output: {error.strerror}"]) from error
    return exit_code


class _Report:
    """Verifies writer by writer and prints as it goes."""

    def __init__(self, proof: Proof) -> None:
        self._proof = proof
        self._is_tampered = False
        self._is_torn = False

    def verify(self, paths: Sequence[Path]) -> int:
        """Print what is found in the files; return the exit code. Raises UncheckedError, and OSError of the output."""
        files = [file for path in paths if (file := self._identify(path)) is not None]
        writers = dict.fromkeys(sorted(file.writer for file in files))
        verifications = [self._verify_writer([file for file in files if file.writer == writer]) for writer in writers]
        for fault in anchor_faults(self._proof.anchors, verifications):
            self._tampered(fault)
        return self._conclude(verifications)

    def _identify(self, path: Path) -> _File | None:
        """Return whose file it is, by its first line; None if it has no record."""
        with _opened(path) as file:
            line = file.readline(MAX_LINE_BYTES + 1)
            try:
                link = audit_chain.parse(line.removesuffix(b"\n"))
            except ChainError as error:
                fault, rest = str(error), _rest(file, line)
            else:
                return _File(path, link.chain.partition("/")[0], link.seq)
        place = Place(str(path), 0)
        if not rest:  # nothing, or only a reserve
            _say(f"{path}: no record")
        elif is_torn(rest, WRITE_MAX_BYTES):
            self._torn(place, rest)
        else:
            self._tampered(TamperedError(place, fault))
        return None

    def _verify_writer(self, files: list[_File]) -> Verification:
        verification = Verification(self._proof)
        files.sort(key=attrgetter("first_seq"))
        try:
            torn = [self._read(file.path, verification, is_last=file is files[-1]) for file in files]
            verification.end(is_torn=torn[-1])
        except TamperedError as fault:
            self._tampered(fault)
        _say(*_summary(verification, len(files), signed=bool(self._proof.keys)))
        return verification

    def _read(self, path: Path, verification: Verification, *, is_last: bool) -> bool:
        """Follow the lines of one file; return whether its last write was not finished. Raises TamperedError."""
        name = str(path)
        with _opened(path) as file:
            offset = 0
            for line in _lines(file):
                place = Place(name, offset)
                try:
                    verification.follow(line, place)
                except TamperedError as fault:
                    rest = _rest(file, line)
                    # A place before this line: the line itself is whole.
                    if not is_last or fault.place != place or not is_torn(rest, WRITE_MAX_BYTES):
                        raise
                    break
                offset += len(line)
            else:
                return False
        if rest:  # else only a reserve
            self._torn(place, rest)
        return bool(rest)

    def _tampered(self, fault: TamperedError) -> None:
        self._is_tampered = True
        _say(f"TAMPERED {_where(fault.place)}{fault.problem}")

    def _torn(self, place: Place, rest: bytes) -> None:
        self._is_torn = True
        _say(f"torn {_where(place)}{len(rest)} bytes of a write that was not finished")

    def _conclude(self, verifications: Sequence[Verification]) -> int:
        intents = open_intents(verifications)
        _say(*(f"open intent: seq {seq} of {chain}, request {name}" for seq, name, chain in intents[:_NAMED_INTENTS]))
        if len(intents) > _NAMED_INTENTS:
            _say(f"open intents: {len(intents)} in all")
        if self._is_tampered:
            return EXIT_TAMPERED
        if not verifications:
            _say("nothing was verified: no file has a record")
            return EXIT_UNCHECKED
        if intents:
            return EXIT_OPEN
        return EXIT_TORN if self._is_torn else EXIT_WHOLE


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read it; nothing else may be done meanwhile. Raises UncheckedError."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise UncheckedError([f"cannot read {path}: {error.strerror}"]) from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE_BYTES + 1):
        yield line


def _rest(file: BinaryIO, line: bytes) -> bytes:
    """Return this line and what follows it, as much as a writer can have left; without the zero bytes of a reserve."""
    rest = line + file.read(WRITE_MAX_BYTES + EXTENT_BYTES)
    return rest if file.read(1) else rest.rstrip(b"\0")


def _summary(verification: Verification, files: int, *, signed: bool) -> Iterator[str]:
    head = verification.head
    if head.seq < verification.first_seq:
        return
    times = f"{verification.first_t} to {verification.last_t}"
    yield f"writer {verification.writer}: seq {verification.first_seq} to {head.seq} in {files} files, {times}"
    yield f"  the last line has the hash {head.hash}"
    if verification.first_seq > 1:
        yield f"  begins at seq {verification.first_seq}: what was before is not known"
    yield f"  signed up to seq {verification.signed_seq}" if signed else "  signatures not checked: no --pubkey"


def _where(place: Place | None) -> str:
    return f"{place.file}, byte {place.offset}: " if place else ""


def _anchor(text: str) -> Anchor:
    found = _ANCHOR.fullmatch(text)
    if found is None:
        raise UncheckedError(["--anchor: must be SEQ:HASH, the seq of a line and the 64 hex digits of its SHA-256"])
    return Anchor(int(found[1]), found[2])


def _public_key(path: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(Path(path).read_bytes())
    except OSError as error:
        raise UncheckedError([f"--pubkey: {path}: {error.strerror}"]) from error
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UncheckedError([f"--pubkey: {path}: must be a PEM file as `openssl pkey -pubout` writes it, of Ed25519"])
    return key


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
