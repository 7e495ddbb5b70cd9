"""`core.audit_verification`: whatever is done to a chain of records is found, or is known not to be findable."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import pytest
from audit_chains import CHAIN, KEY, OTHER_KEY, TIME, Chain, dozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core import audit_chain
from monitor_contact_service.core.audit_chain import NO_HASH, Head
from monitor_contact_service.core.audit_verification import (
    Anchor,
    Place,
    Proof,
    TamperedError,
    Verification,
    anchor_faults,
    is_torn,
    open_intents,
)

FILE = "audit.jsonl"
DOZEN = dozen()
ALL = range(len(DOZEN.lines))
OFFSETS = [0, *accumulate(len(line) for line in DOZEN.lines)]
PROOF = Proof(keys={audit_chain.key_id(KEY.public_key()): KEY.public_key()})
LAST = Anchor(DOZEN.head.seq, DOZEN.head.hash)


def verified(data: bytes | Sequence[bytes], proof: Proof | None = None) -> Verification:
    """Return the verification of one file. Raises TamperedError, for anchors too."""
    proof = proof or Proof()
    lines = data.splitlines(keepends=True) if isinstance(data, bytes) else data
    verification = Verification(proof)
    offset = 0
    for line in lines:
        verification.follow(line, Place(FILE, offset))
        offset += len(line)
    verification.end()
    for fault in anchor_faults(proof.anchors, [verification]):
        raise fault
    return verification


def fault_of(data: bytes | Sequence[bytes], proof: Proof | None = None) -> TamperedError:
    """Return the fault that is found."""
    with pytest.raises(TamperedError) as raised:
        verified(data, proof)
    return raised.value


def test_a_whole_chain_has_no_fault() -> None:
    """Numbers, hashes, outcomes, counts, signatures and an anchor are as the writer made them."""
    found = verified(DOZEN.data, Proof(keys=PROOF.keys, anchors=[LAST, Anchor(3, digest_of(2))]))

    assert (found.writer, found.first_seq, found.head) == ("aa", 1, DOZEN.head)
    assert found.signed_seq == 13
    assert (found.first_t, found.last_t) == (TIME, TIME)
    assert not open_intents([found])


def digest_of(index: int) -> str:
    """Return the hash of one of the dozen lines."""
    return audit_chain.digest(DOZEN.lines[index][:-1])


@pytest.mark.parametrize("index", ALL)
def test_every_edited_byte_is_found(index: int) -> None:
    """The fault lies at the edited line, or at the one that its `prev` no longer names."""
    line = DOZEN.lines[index]
    prev = range(line.index(b'"prev":"') + 8, line.index(b'","chain"'))
    for at in range(len(line)):
        edited = line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]
        lines = [*DOZEN.lines[:index], edited, *DOZEN.lines[index + 1 :]]
        place = fault_of(b"".join(lines), Proof(anchors=[LAST])).place

        allowed = {OFFSETS[index]} | ({OFFSETS[index - 1]} if at in prev and index else set())
        assert place is not None, at
        assert place.offset in allowed, at


@pytest.mark.parametrize("index", ALL[1:-1])
def test_every_deleted_line_is_found_where_it_was(index: int) -> None:
    """The next line has a number that does not follow."""
    fault = fault_of([*DOZEN.lines[:index], *DOZEN.lines[index + 1 :]])

    assert fault.place == Place(FILE, OFFSETS[index])
    assert fault.problem == f"seq is {index + 2}, it must be {index + 1}"


def test_deleted_first_lines_are_told_as_a_later_begin() -> None:
    """Older files may have been moved away; an anchor among them shows that they are not there."""
    assert verified(DOZEN.lines[5:]).first_seq == 6
    assert "no line with seq 4" in fault_of(DOZEN.lines[5:], Proof(anchors=[Anchor(4, digest_of(3))])).problem


def test_the_hash_of_the_line_before_the_first_may_be_an_anchor() -> None:
    """The first line names it in `prev`."""
    verified(DOZEN.lines[5:], Proof(anchors=[Anchor(5, digest_of(4))]))

    assert fault_of(DOZEN.lines[5:], Proof(anchors=[Anchor(5, digest_of(3))])).place == Place(FILE, 0)


@pytest.mark.parametrize("index", ALL[:-1])
def test_every_two_lines_put_the_other_way_round_are_found(index: int) -> None:
    """At the first of the two; if it is the file's first, as one that the next does not follow."""
    lines = [*DOZEN.lines]
    lines[index], lines[index + 1] = lines[index + 1], lines[index]
    place = fault_of(lines).place

    assert place == Place(FILE, OFFSETS[index] if index else len(lines[0]))


@pytest.mark.parametrize("index", ALL)
def test_every_line_written_twice_is_found(index: int) -> None:
    """At its second place."""
    lines = [*DOZEN.lines[: index + 1], *DOZEN.lines[index:]]

    assert fault_of(lines).place == Place(FILE, OFFSETS[index + 1])


def test_a_tail_cut_off_at_any_byte_is_found_by_an_anchor() -> None:
    """Within a line it shows by itself; at a line's end only the anchor knows that there was more."""
    for at in range(len(DOZEN.data)):
        fault = fault_of(DOZEN.data[:at], Proof(anchors=[LAST]))
        begin = max(offset for offset in OFFSETS if offset <= at)

        assert fault.place == (None if begin == at else Place(FILE, begin)), at
        if begin == at:
            verified(DOZEN.data[:at])


@pytest.mark.parametrize("index", ALL)
def test_a_chain_written_anew_from_any_line_on_is_found_by_an_anchor(index: int) -> None:
    """Without one it is as good as the first: whoever can write all can also hash all."""
    anew = _anew(index)

    assert verified(anew).head.seq == DOZEN.head.seq
    assert "written anew" in fault_of(anew, Proof(anchors=[LAST])).problem


@pytest.mark.parametrize("key", [None, OTHER_KEY])
@pytest.mark.parametrize("index", ALL)
def test_a_chain_written_anew_without_the_key_is_found_by_its_checkpoints(
    index: int, key: Ed25519PrivateKey | None
) -> None:
    """Unsigned or signed by somebody else: the first checkpoint after the change is the fault."""
    anew = _anew(index, key)
    checkpoint = min(at for at in (4, 8, 12) if at >= index)

    place = fault_of(anew, PROOF).place

    assert place == Place(FILE, sum(len(line) for line in anew[:checkpoint]))


def _anew(index: int, key: Ed25519PrivateKey | None = None) -> list[bytes]:
    """Return the chain with another time in this line, and all hashes after it made to fit."""
    head, lines = Head(), []
    for at, original in enumerate(DOZEN.lines):
        link = audit_chain.parse(original[:-1])
        members = {name: value for name, value in link.record.items() if name not in {"v", "seq", "prev", "chain", "t"}}
        members.pop("sig", None)
        if link.stage == "checkpoint":
            members["head"] = head.hash
        t = TIME.replace("2026", "2027") if at == index else link.t
        line = audit_chain.line(members, link.seq, head.hash, link.chain, t)
        if link.stage == "checkpoint" and at < index:
            line = original[:-1]
        elif link.stage == "checkpoint" and key:
            line = audit_chain.signed(line, key)
        head = Head(link.seq, audit_chain.digest(line))
        lines.append(line + b"\n")
    return lines


_CHANGES = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=len(DOZEN.data)),
        st.integers(min_value=0, max_value=len(DOZEN.data)),
        st.one_of(st.binary(max_size=8), st.sampled_from([*DOZEN.lines, b"\n", b"\0" * 600])),
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None, max_examples=300)
@given(changes=_CHANGES)
def test_no_change_passes_by_an_anchor(changes: list[tuple[int, int, bytes]]) -> None:
    """What has no fault are whole lines of the original, up to the anchor, whatever was cut out and put in."""
    data = DOZEN.data
    for begin, length, inserted in changes:
        data = data[:begin] + inserted + data[begin + length :]
    try:
        found = verified(data, Proof(anchors=[LAST]))
    except TamperedError:
        return
    assert data == b"".join(DOZEN.lines[found.first_seq - 1 :])


def _twice(chain: Chain) -> None:
    chain.outcome(chain.intent())
    chain.outcome(1)


def _recovered_twice(chain: Chain) -> None:
    chain.outcome(chain.intent(), stage="recovered")
    chain.outcome(1, stage="recovered")


def _of_no_intent(chain: Chain) -> None:
    chain.add("denied")
    chain.outcome(1)


def _of_another(chain: Chain) -> None:
    chain.intent()
    chain.outcome(1, "another")


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (_twice, "an outcome of seq 1, which is no intent or has one already"),
        (_recovered_twice, "an outcome of seq 1, which is no intent or has one already"),
        (_of_no_intent, "an outcome of seq 1, which is no intent or has one already"),
        (lambda chain: chain.outcome(7), "an outcome of seq 7, which is no intent or has one already"),
        (_of_another, "an outcome of seq 1, which is the intent of another request"),
        (lambda chain: chain.outcome("1"), "intent_seq is no number"),
        (lambda chain: chain.outcome(True), "intent_seq is no number"),  # noqa: FBT003 - a member of the record
        (lambda chain: chain.add("recovered"), "intent_seq is no number"),
        (lambda chain: chain.checkpoint(head=NO_HASH[1:] + "1"), "the checkpoint's head is not its prev"),
        (lambda chain: chain.checkpoint(count=1), "the checkpoint's count must be 0"),
    ],
)
def test_a_record_that_hangs_on_the_chain_may_still_be_wrong(write: Callable[[Chain], object], problem: str) -> None:
    """One outcome an intent, of its own request; checkpoints repeat what is before them."""
    chain = Chain()
    write(chain)
    fault = fault_of(chain.lines)

    assert fault.problem == problem
    assert fault.place == Place(FILE, sum(len(line) for line in chain.lines[:-1]))


def test_an_intent_without_an_outcome_is_open() -> None:
    """It is told, not a fault: its process may still run."""
    chain = Chain()
    chain.intent("a")
    chain.outcome(chain.intent("b"), "b")

    assert [(intent.seq, intent.id, intent.chain) for intent in open_intents([verified(chain.lines)])] == [
        (1, "a", CHAIN)
    ]


def test_an_outcome_of_an_intent_before_the_first_line_is_taken_as_it_is() -> None:
    """Its intent is in a file that was not given."""
    chain = Chain(head=Head(40, NO_HASH))
    chain.outcome(39)

    assert verified(chain.lines).first_seq == 41


def test_a_count_that_begins_before_the_first_line_is_not_judged() -> None:
    """The next one is."""
    chain = Chain(head=Head(40, NO_HASH))
    chain.add("denied")
    chain.checkpoint(count=700)
    verified(chain.lines)
    chain.checkpoint(count=1)

    assert fault_of(chain.lines).problem == "the checkpoint's count must be 0"


def test_another_writer_cannot_go_on_with_a_chain() -> None:
    """A new start of the same writer can."""
    chain = Chain()
    chain.add("segment")
    chain.name = "aa/2"
    chain.add("segment")
    verified(chain.lines)
    chain.name = "bb/2"
    chain.add("segment")

    assert fault_of(chain.lines).problem == "another writer than in the lines before (seq 2)"


def test_another_writer_can_close_an_intent() -> None:
    """A chain of PostgreSQL is recovered in its successor's; only for the request that the intent is of."""
    dead, successor = Chain("aa/aa"), Chain("bb/bb")
    dead.intent("a")
    dead.intent("b")
    successor.outcome(1, "a", stage="recovered", of_chain="aa/aa")
    successor.outcome(2, "a", stage="recovered", of_chain="aa/aa")
    chains = [verified(dead.lines), verified(successor.lines)]

    assert [intent.id for intent in open_intents(chains)] == ["b"]
    assert [intent.id for intent in open_intents(chains[:1])] == ["a", "b"]


def test_a_recovered_record_that_names_its_own_chain_is_an_outcome_like_others() -> None:
    """The name alone makes no exception from the rules."""
    chain = Chain()
    chain.outcome(1, stage="recovered", of_chain=CHAIN)

    assert "no intent" in fault_of(chain.lines).problem


def test_with_a_key_something_must_be_signed() -> None:
    """Otherwise all checkpoints could be left out when a chain is written anew."""
    chain = Chain(key=KEY)
    chain.add("segment")

    assert fault_of(chain.lines, PROOF).place == Place(FILE, 0)
    assert "no checkpoint is signed" in fault_of(chain.lines, PROOF).problem
    chain.checkpoint()
    verified(chain.lines, PROOF)
    verified([], PROOF)


def test_with_a_key_checkpoints_cannot_be_left_out() -> None:
    """A writer has one after so many records at the latest."""
    chain = Chain(key=KEY)
    chain.checkpoint()
    for _ in range(5):
        chain.add("denied")

    verified(chain.lines, Proof(keys=PROOF.keys, unsigned_records=5))
    fault = fault_of(chain.lines, Proof(keys=PROOF.keys, unsigned_records=4))
    assert fault.place == Place(FILE, sum(len(line) for line in chain.lines[:-1]))
    assert fault.problem == "more than 4 records without a signed checkpoint"


def test_an_anchor_holds_if_one_of_several_chains_has_it() -> None:
    """Chains number their records alike: the hash tells which one is meant."""
    proof = Proof(anchors=[LAST])
    other = Chain("bb/1")
    for _ in range(13):
        other.add("denied")

    chains = [verified(DOZEN.lines, proof), Verification(proof)]
    for line in other.lines:
        chains[1].follow(line, Place("other", 0))

    assert not anchor_faults([LAST], chains)
    assert [fault.place for fault in anchor_faults([LAST], chains[1:])] == [Place("other", 0)]


@pytest.mark.parametrize(
    ("rest", "torn"),
    [
        (b"", True),
        (b'{"v":1', True),
        (b'{"v":1' + bytes(600) + b'"}\n{}\n', True),
        (bytes(512) + b"\n", True),
        (b'{"v":1' + bytes(511) + b'"}\n', False),
        (b'{"v":1}\n', False),
        (b"x" * 1000, True),
        (b"x" * 1001, False),
    ],
)
def test_a_torn_tail_is_a_line_without_end_or_has_holes(rest: bytes, torn: bool) -> None:  # noqa: FBT001 - a column
    """No more than one write can leave, and no hole smaller than a sector: a zero byte alone is an edit."""
    assert is_torn(rest, 1000) is torn
