"""`core.audit_chain`: lines that hang together, read back and signed."""

import json

import pytest
from audit_fakes import KEY
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core import audit_chain
from monitor_contact_service.core.audit_chain import NO_HASH, ChainError, Head

T = "2026-01-02T12:00:00.000000Z"
CHAIN = "0123abcd/4567"
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _line(members: dict[str, object] | None = None, seq: int = 1, prev: str = NO_HASH) -> bytes:
    return audit_chain.line({"id": "x", "stage": "intent"} | (members or {}), seq, prev, CHAIN, T)


def test_a_line_is_what_the_documentation_says() -> None:
    """The members in their order, without spaces, in ASCII."""
    first = f'{{"v":1,"seq":1,"prev":"{NO_HASH}","chain":"{CHAIN}","t":"{T}","id":"x","stage":"intent",'
    expected = first + '"contact":"\\u2028"}'
    assert _line({"contact": "\u2028"}) == expected.encode()
    assert json.loads(expected) == json.loads(_line({"contact": "\u2028"}))


@settings(deadline=None)
@given(st.dictionaries(st.text(), _JSON, max_size=5))
def test_any_text_is_one_line_and_parses_back_equal(members: dict[str, object]) -> None:
    """Line ends, bidi characters, quotes, lone surrogates: one line of printable ASCII that says the same."""
    members = {f"_{name}": value for name, value in members.items()}
    line = _line(members)
    assert line.isascii()
    assert line.decode().isprintable()
    link = audit_chain.parse(line)
    assert {name: link.record[name] for name in members} == members
    assert (link.seq, link.prev, link.chain, link.t, link.id, link.stage) == (1, NO_HASH, CHAIN, T, "x", "intent")
    assert link.head == Head(1, audit_chain.digest(line))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_has_no_word_for_is_not_written(value: float) -> None:
    """A line that no other reader could read would end the chain."""
    with pytest.raises(ValueError, match="JSON"):
        _line({"x": value})


def test_the_hash_is_the_sha256_of_the_line() -> None:
    """As `sha256sum` prints it."""
    assert audit_chain.digest(b"{}") == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_lines_follow_one_another() -> None:
    """The first follows on nothing, the second on the first."""
    first = audit_chain.parse(_line())
    audit_chain.require_next(Head(), first)
    second = audit_chain.parse(_line(seq=2, prev=first.head.hash))
    audit_chain.require_next(first.head, second)


@pytest.mark.parametrize(
    ("seq", "prev", "problem"),
    [(1, "0" * 64, "seq is 1, it must be 2"), (3, "0" * 64, "seq is 3, it must be 2"), (2, "0" * 64, "prev is not")],
)
def test_a_line_at_the_wrong_place_is_seen(seq: int, prev: str, problem: str) -> None:
    """Repeated, left out, or behind another line than it was written behind."""
    with pytest.raises(ChainError, match=problem):
        audit_chain.require_next(Head(1, "1" * 64), audit_chain.parse(_line(seq=seq, prev=prev)))


_GOOD: dict[str, object] = {"v": 1, "seq": 1, "prev": NO_HASH, "chain": CHAIN, "t": T, "id": "x", "stage": "intent"}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"\xff{}",
        b'{"v":1,"x":NaN}',
        b"[" * 100_000,
        b"1" * 5_000,
        b" " * (audit_chain.MAX_LINE_BYTES + 1),
        b"{}",
        json.dumps(dict(reversed(_GOOD.items()))).encode(),
        *(
            json.dumps(_GOOD | changed).encode()
            for changed in (
                {"v": 2},
                {"v": True},
                {"seq": 0},
                {"seq": True},
                {"seq": 1.0},
                {"seq": "1"},
                {"prev": NO_HASH[1:]},
                {"prev": NO_HASH + "\n"},
                {"prev": 0},
                {"chain": "abc"},
                {"t": "2026-01-02"},
                {"id": 1},
                {"stage": "other"},
                {"stage": ["intent"]},
            )
        ),
    ],
    ids=lambda line: repr(line[:12]) + str(hash(line) % 1000),
)
def test_what_no_writer_wrote_is_refused(line: bytes) -> None:
    """Neither other JSON nor a record with a wrong first member gets through, and nothing but ChainError is raised."""
    audit_chain.parse(json.dumps(_GOOD).encode())
    with pytest.raises(ChainError):
        audit_chain.parse(line)


def test_a_signature_covers_every_other_byte() -> None:
    """A signed line verifies; with any bit changed, or under another key, it does not."""
    line = _line({"stage": "checkpoint", "key": audit_chain.key_id(KEY.public_key())})
    signed = audit_chain.signed(line, KEY)
    assert audit_chain.split_signature(signed)[0] == line
    assert audit_chain.parse(signed).record["sig"]
    assert audit_chain.is_signed_by(signed, KEY.public_key())
    assert not audit_chain.is_signed_by(signed, Ed25519PrivateKey.generate().public_key())
    for position in range(len(signed)):
        changed = bytearray(signed)
        changed[position] ^= 1
        assert not audit_chain.is_signed_by(bytes(changed), KEY.public_key()), position


def test_a_line_without_a_signature_is_signed_by_nobody() -> None:
    """Also one that has a member of that name elsewhere."""
    line = _line({"sig": "A" * 86 + "==", "more": 1})
    assert audit_chain.split_signature(line) == (line, None)
    assert not audit_chain.is_signed_by(line, KEY.public_key())


def test_a_key_is_named_by_its_hash() -> None:
    """The first 16 digits of what `sha256sum` says of the 32 bytes."""
    assert KEY.public_key().public_bytes_raw().hex().startswith("3b6a27bcceb6a42d")  # RFC 8032's key of 32 zeros
    assert audit_chain.key_id(KEY.public_key()) == "139e3940e64b5491"
