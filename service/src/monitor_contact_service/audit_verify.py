"""`monitor-contact audit verify`: reads an audit's files and says whether they are whole, or from which byte on not.

What is right and what is wrong is decided in `core.audit_verification`. Files of several writers (replicas, chains that
were exported from PostgreSQL) may be given together, in any order.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
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
        arguments: `files` (one or more paths), `anchor` (texts SEQ:HASH), `pubkey` (paths of PEM files).

    Raises:
        UncheckedError: a file, key or anchor cannot be read.
    """
    keys = [_public_key(path) for path in arguments.pubkey]
    proof = Proof(
        keys={audit_chain.key_id(key): key for key in keys},
        unsigned_records=Checkpoints().records,
        anchors=[_anchor(text) for text in arguments.anchor],
    )
    try:
        return _Report(proof).verify([Path(path) for path in arguments.files])
    except OSError as error:
        raise UncheckedError([f"cannot read {error.filename}: {error.strerror}"]) from error


class _Report:
    """Verifies writer by writer and prints as it goes."""

    def __init__(self, proof: Proof) -> None:
        self._proof = proof
        self._is_tampered = False
        self._is_torn = False

    def verify(self, paths: Sequence[Path]) -> int:
        """Print what is found in the files; return the exit code. Raises OSError."""
        files = [file for path in paths if (file := self._identify(path)) is not None]
        writers = dict.fromkeys(sorted(file.writer for file in files))
        verifications = [self._verify_writer([file for file in files if file.writer == writer]) for writer in writers]
        if not verifications:
            _say("no records")
            self._is_tampered |= bool(self._proof.keys)  # nothing that a key could vouch for
        for fault in anchor_faults(self._proof.anchors, verifications):
            self._tampered(fault)
        return self._conclude(verifications)

    def _identify(self, path: Path) -> _File | None:
        """Return whose file it is, by its first line; None if it has none that could be wrong."""
        with path.open("rb") as file:
            line = file.readline(MAX_LINE_BYTES + 1)
            try:
                link = audit_chain.parse(line.removesuffix(b"\n"))
            except ChainError as error:
                rest = _rest(file, line)
                if is_torn(rest, WRITE_MAX_BYTES):
                    self._torn(Place(str(path), 0), rest)
                else:
                    self._tampered(TamperedError(Place(str(path), 0), str(error)))
                return None
        return _File(path, link.chain.partition("/")[0], link.seq)

    def _verify_writer(self, files: list[_File]) -> Verification:
        verification = Verification(self._proof)
        files.sort(key=attrgetter("first_seq"))
        try:
            for file in files:
                self._read(file.path, verification, is_last=file is files[-1])
            verification.end()
        except TamperedError as fault:
            self._tampered(fault)
        _say(*_summary(verification, len(files), signed=bool(self._proof.keys)))
        return verification

    def _read(self, path: Path, verification: Verification, *, is_last: bool) -> None:
        """Follow the lines of one file. Raises TamperedError."""
        name = str(path)
        with path.open("rb") as file:
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
                    self._torn(place, rest)
                    return
                offset += len(line)

    def _tampered(self, fault: TamperedError) -> None:
        self._is_tampered = True
        _say(f"TAMPERED {_where(fault.place)}{fault.problem}")

    def _torn(self, place: Place, rest: bytes) -> None:
        if rest:  # else only a reserve
            self._is_torn = True
            _say(f"torn {_where(place)}{len(rest)} bytes of a write that was not finished")

    def _conclude(self, verifications: Iterable[Verification]) -> int:
        intents = open_intents(verifications)
        _say(*(f"open intent: seq {seq} of {chain}, request {name}" for seq, name, chain in intents[:_NAMED_INTENTS]))
        if len(intents) > _NAMED_INTENTS:
            _say(f"open intents: {len(intents)} in all")
        if self._is_tampered:
            return EXIT_TAMPERED
        if intents:
            return EXIT_OPEN
        return EXIT_TORN if self._is_torn else EXIT_WHOLE


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
    if signed:
        yield f"  signed up to seq {verification.signed_seq}"


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
