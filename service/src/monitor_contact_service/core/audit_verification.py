"""Decides whether lines of an audit are what their writers wrote: numbers, hashes, outcomes, checkpoints, anchors.

Reads no file: it is given the lines of one writer's files in their order, with the place of each. The hash chain shows
what was edited, deleted or put elsewhere; only anchors and signatures show a tail that was cut off and a chain that was
written anew. A fault names the first byte that nothing vouches for any more: all lines before it are good.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from . import audit_chain
from .audit_chain import ChainError, Head, Link

# A machine that stops leaves holes of whole sectors in the last write; a single zero byte is no hole.
_SECTOR: Final = bytes(512)


class Place(NamedTuple):
    """Where a line begins: the file's name, and the bytes before it."""

    file: str
    offset: int


class TamperedError(Exception):
    """A line is not what a writer wrote there. `place` is None where it is not known."""

    def __init__(self, place: Place | None, problem: str) -> None:
        super().__init__(problem)
        self.place = place
        self.problem = problem


class Anchor(NamedTuple):
    """A hash that was kept elsewhere: of the line with this seq."""

    seq: int
    hash: str


class OpenIntent(NamedTuple):
    """An action that has no outcome; `id` is its request id."""

    seq: int
    id: str
    chain: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What the lines are held against, beside each other.

    Attributes:
        keys: those that may have signed, by `audit_chain.key_id`; with none, signatures are not looked at.
        unsigned_records: more than this many in a row without a signed checkpoint are a fault, with keys.
        anchors: hashes that were kept elsewhere.
    """

    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)
    unsigned_records: int = 1000
    anchors: Collection[Anchor] = ()


class Verification:
    """Follows the lines of one writer.

    Attributes:
        writer: its id; "" before the first line.
        first_seq: of the first line; 1, unless older files were not given.
        head: the end of the chain.
        first_t, last_t: times of the first and the last line.
        signed_seq: of the last checkpoint whose signature is good; 0 for none.
        open_intents: by seq.
        recovered: intents of other writers that this one has closed: (chain, seq) -> request id.
        anchored: hash and place of the lines that anchors name.
    """

    def __init__(self, proof: Proof) -> None:
        self.writer = ""
        self.first_seq = 1
        self.head = Head()
        self.first_t = self.last_t = ""
        self.signed_seq = 0
        self.open_intents: dict[int, OpenIntent] = {}
        self.recovered: dict[tuple[str, int], str] = {}
        self.anchored: dict[int, tuple[str, Place]] = {}
        self._proof = proof
        self._anchor_seqs = {anchor.seq for anchor in proof.anchors}
        self._first_place: Place | None = None
        self._place: Place | None = None  # of the last line
        self._since_checkpoint: int | None = 0  # None: not known yet
        self._since_signature = 0

    def follow(self, line: bytes, place: Place) -> None:
        """Take the next line, newline included, into account. Raises TamperedError."""
        if not line.endswith(b"\n"):
            raise TamperedError(place, "the line has no end")
        line = line[:-1]
        try:
            link = audit_chain.parse(line)
        except ChainError as error:
            raise TamperedError(place, str(error)) from error
        if not self.writer:
            self._begin(link, place)
        self._require_next(link, place)
        self.head, self.last_t, self._place = link.head, link.t, place
        if link.seq in self._anchor_seqs:
            self.anchored[link.seq] = link.head.hash, place
        try:
            self._judge(link, line)
        except ChainError as error:
            raise TamperedError(place, str(error)) from error

    def end(self, *, is_torn: bool = False) -> None:
        """Take note that there are no more lines, or of `is_torn`, only what `is_torn()` allows. Raises TamperedError.

        The first write has the chain's first record and a checkpoint: one that was not finished leaves that record
        alone, and nothing of a call.
        """
        is_first_write = is_torn and self.head.seq == 1
        if self._proof.keys and self.writer and not self.signed_seq and not is_first_write:
            raise TamperedError(self._first_place, "no checkpoint is signed: nothing vouches for these records")

    def _begin(self, link: Link, place: Place) -> None:
        self.writer = link.chain.partition("/")[0]
        self.first_seq, self.first_t, self._first_place = link.seq, link.t, place
        if link.seq == 1:
            return
        self.head = Head(link.seq - 1, link.prev)
        self._since_checkpoint = None
        if self.head.seq in self._anchor_seqs:
            self.anchored[self.head.seq] = link.prev, place

    def _require_next(self, link: Link, place: Place) -> None:
        if link.seq != self.head.seq + 1:
            raise TamperedError(place, f"seq is {link.seq}, it must be {self.head.seq + 1}")
        if link.prev != self.head.hash:
            raise TamperedError(self._place or place, f"not the line that the next one (seq {link.seq}) names in prev")
        if link.chain.partition("/")[0] != self.writer:
            raise TamperedError(place, f"another writer than in the lines before (seq {self.head.seq})")

    def _judge(self, link: Link, line: bytes) -> None:
        """Take a line into account that hangs on the chain. Raises ChainError."""
        if link.stage == "checkpoint":
            self._check(link, line)
            return
        if self._since_checkpoint is not None:
            self._since_checkpoint += 1
        self._since_signature += 1
        if self._proof.keys and self._since_signature > self._proof.unsigned_records:
            raise ChainError(f"more than {self._proof.unsigned_records} records without a signed checkpoint")
        if link.stage == "intent":
            self.open_intents[link.seq] = OpenIntent(link.seq, link.id, link.chain)
        elif link.stage in {"outcome", "recovered"}:
            self._close(link)

    def _check(self, link: Link, line: bytes) -> None:
        """Check a checkpoint."""
        if link.record.get("head") != link.prev:
            raise ChainError("the checkpoint's head is not its prev")
        if self._since_checkpoint not in {None, link.record.get("count")}:
            raise ChainError(f"the checkpoint's count must be {self._since_checkpoint}")
        self._since_checkpoint = 0
        if not self._proof.keys:
            return
        key = self._proof.keys.get(str(link.record.get("key")))
        if key is None or not audit_chain.is_signed_by(line, key):
            raise ChainError("the checkpoint is not signed by a key that was given")
        self.signed_seq, self._since_signature = link.seq, 0

    def _close(self, link: Link) -> None:
        """Give an intent its outcome."""
        seq, chain = link.record.get("intent_seq"), link.record.get("of_chain")
        if type(seq) is not int:
            raise ChainError("intent_seq is no number")
        if isinstance(chain, str) and chain.partition("/")[0] != self.writer:
            self.recovered[chain, seq] = link.id
            return
        intent = self.open_intents.pop(seq, None)
        if intent is None and seq >= self.first_seq:
            raise ChainError(f"an outcome of seq {seq}, which is no intent or has one already")
        if intent is not None and intent.id != link.id:
            raise ChainError(f"an outcome of seq {seq}, which is the intent of another request")


def is_torn(rest: bytes, write_max_bytes: int) -> bool:
    """Tell whether a writer that was killed, or whose machine stopped, can have left this behind its last good line.

    Args:
        rest: all that is left of the file, without the zero bytes of a reserve at its end.
        write_max_bytes: the most that one write has.
    """
    return len(rest) <= write_max_bytes and (b"\n" not in rest or _SECTOR in rest)


def open_intents(verifications: Iterable[Verification]) -> Sequence[OpenIntent]:
    """Return the intents that no writer has given an outcome."""
    verifications = list(verifications)
    closed = {key: request_id for each in verifications for key, request_id in each.recovered.items()}
    intents = (intent for each in verifications for intent in each.open_intents.values())
    return [intent for intent in intents if closed.get((intent.chain, intent.seq)) != intent.id]


def anchor_faults(anchors: Iterable[Anchor], verifications: Collection[Verification]) -> Sequence[TamperedError]:
    """Return a fault for each anchor that no writer's chain has."""
    faults = []
    for anchor in anchors:
        found = [each.anchored[anchor.seq] for each in verifications if anchor.seq in each.anchored]
        if not found:
            faults.append(TamperedError(None, f"there is no line with seq {anchor.seq}, which an anchor names"))
        elif anchor.hash not in {line_hash for line_hash, _ in found}:
            problem = (
                f"the line with seq {anchor.seq} has not the hash of the anchor: it or one before was written anew"
            )
            faults.append(TamperedError(found[0][1], problem))
    return faults
