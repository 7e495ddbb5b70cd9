"""`http1.reader`: answers from bytes, however they are cut into pieces, and what is none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from monitor_contact_service.core.wire import ANSWER_MAX_BYTES, Answer
from monitor_contact_service.http1 import NotHttpError
from monitor_contact_service.http1.reader import OVERHEAD_MAX_BYTES, AnswerReader

OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"Content-Length: 2\r\n\r\n{}"
PIECE_SIZES = [1, 7, 1000, 10**9]


def _pieces(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[start : start + size] for start in range(0, len(raw), size))


def _read(raw: bytes, *, size: int = 10**9, reader: AnswerReader | None = None) -> Answer | None:
    """Return what a reader makes of the pieces of `raw`; it is asked no further after an answer."""
    reader = reader or AnswerReader()
    answer = None
    for piece in _pieces(raw, size):
        answer = reader.feed(piece)
        if answer is not None:
            break
    return answer


def _whole(raw: bytes, *, size: int = 10**9) -> Answer:
    answer = _read(raw, size=size)
    assert answer is not None
    return answer


# ---- Pieces ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """An answer as bytes, and what it must be read as."""

    raw: bytes
    answer: Answer
    reusable: bool
    ends: bool


def _chunks(body: bytes, sizes: Sequence[int]) -> bytes:
    parts = []
    for size in sizes:
        parts.append(body[:size])
        body = body[size:]
    frames = [b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (*parts, body) if part]
    return b"".join(frames) + b"0\r\nX-Trailer: late\r\n\r\n"


@st.composite
def _answers(draw: st.DrawFn) -> Made:
    status = draw(st.sampled_from([200, 201, 400, 403, 429, 500, 599]))
    names = st.sampled_from(["X-A", "x-amzn-RequestId", "x-amzn-ErrorType", "Date"])
    texts = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
    headers = draw(st.lists(st.tuples(names, texts), max_size=5))
    body = draw(st.binary(max_size=200))
    framing = draw(st.sampled_from(["length", "chunks", "end"]))
    reusable = framing != "end" and draw(st.booleans())
    if framing == "length":
        headers.append(("Content-Length", str(len(body))))
    if framing == "chunks":
        headers.append(("Transfer-Encoding", "chunked"))
    if not reusable and framing != "end":
        headers.append(("Connection", "close"))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nX-A: b\r\n\r\n"]))
    head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    content = _chunks(body, draw(st.lists(st.integers(1, 50), max_size=5))) if framing == "chunks" else body
    answer = Answer(status, {name.lower(): value for name, value in headers}, body)
    return Made(interim + head.encode() + content, answer, reusable, framing == "end")


@given(made=_answers(), cuts=st.lists(st.integers(0, 600), max_size=20))
@example(made=Made(PLAIN, Answer(200, {"content-length": "2"}, b"{}"), reusable=True, ends=False), cuts=[*range(99)])
def test_pieces_make_no_difference(made: Made, cuts: list[int]) -> None:
    """However the bytes of a valid answer are cut, the same is read, and not before the last piece."""
    places = sorted({0, len(made.raw), *(cut for cut in cuts if cut < len(made.raw))})
    reader = AnswerReader()
    read = [reader.feed(made.raw[start:end]) for start, end in pairwise(places)]
    assert read[:-1] == [None] * (len(read) - 1)
    assert read[-1] == (None if made.ends else made.answer)
    assert reader.end() == made.answer
    assert reader.reusable is made.reusable


def test_answers_follow_each_other() -> None:
    """Nothing of one answer is left in the next one."""
    reader = AnswerReader()
    assert _read(OK + b"X-A: a\r\nContent-Length: 1\r\n\r\na", reader=reader) == Answer(
        200, {"x-a": "a", "content-length": "1"}, b"a"
    )
    reader.start()
    assert _read(b"HTTP/1.1 204 No\r\n\r\n", reader=reader, size=1) == Answer(204, {}, b"")
    assert reader.end() == Answer(204, {}, b"")


# ---- What counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", PIECE_SIZES)
@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_an_interim_answer_does_not_count(status: int, size: int) -> None:
    """Nor do its headers; the answer after it, or after several, does."""
    interim = f"HTTP/1.1 {status} Wait\r\nX-A: b\r\n\r\n".encode()
    assert _whole(interim * 3 + PLAIN, size=size) == Answer(200, {"content-length": "2"}, b"{}")


@pytest.mark.parametrize("headers", [b"", b"Connection: upgrade\r\nUpgrade: x\r\n"])
def test_a_switch_of_protocols_is_the_last_answer(headers: bytes) -> None:
    """Nobody asked for one; what follows a 101 is no HTTP, so the connection is not used again."""
    reader = AnswerReader()
    answer = _read(b"HTTP/1.1 101 Switch\r\n" + headers + b"\r\n", reader=reader)
    assert answer is not None
    assert (answer.status, answer.body, reader.reusable) == (101, b"", False)


def test_the_last_header_of_a_name_counts() -> None:
    """In lower case, whatever its spelling, without the blanks around its value."""
    answer = _whole(OK + b"X-A: 1\r\nx-a: \t2 \t\r\nX-Empty:\r\nX-B: \xe9\r\nContent-Length: 0\r\n\r\n")
    assert answer.headers == {"x-a": "2", "x-empty": "", "x-b": "é", "content-length": "0"}


def test_trailers_do_not_count() -> None:
    """A header after the body replaces none before it."""
    raw = OK + b"X-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-A: 2\r\n\r\n"
    assert _whole(raw) == Answer(200, {"x-a": "1", "transfer-encoding": "chunked"}, b"{}")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_cannot_have_a_body_has_none(status: int) -> None:
    """Its length is that of another answer; what follows is not waited for."""
    assert _whole(f"HTTP/1.1 {status} No\r\nContent-Length: 9\r\n\r\n".encode()).body == b""


@pytest.mark.parametrize("framing", [b"", b"Transfer-Encoding: gzip\r\n", b"Connection: keep-alive\r\n"])
def test_a_body_without_length_ends_with_the_connection(framing: bytes) -> None:
    """It is whole when no more comes, and only then."""
    reader = AnswerReader()
    assert _read(OK + framing + b"\r\n{}", reader=reader) is None
    answer = reader.end()
    assert answer is not None
    assert (answer.body, reader.reusable) == (b"{}", False)


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b"HTTP/1.1 2",
        OK + b"X-A",
        OK + b"Content-Length: 2\r\n\r\n",
        OK + b"Content-Length: 2\r\n\r\n{",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        OK + b"Transfer-Encoding: gzip, Chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_answer_cut_short_is_none(cut: bytes) -> None:
    """The end of the connection makes nothing whole that said how long it is."""
    reader = AnswerReader()
    assert _read(cut, reader=reader) is None
    assert reader.end() is None


@pytest.mark.parametrize(
    ("raw", "reusable"),
    [
        (PLAIN, True),
        (PLAIN.replace(b"{}", b"{}\r\n"), True),  # blank lines before an answer are allowed, and hide nothing
        (PLAIN.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), False),
        (PLAIN.replace(b"1.1", b"1.0"), False),
        (PLAIN.replace(b"1.1", b"1.0").replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1), True),
        (PLAIN + PLAIN, False),
        (PLAIN + b"nonsense", False),
        (PLAIN + b"\0", False),
    ],
)
def test_a_connection_is_used_again_only_if_nothing_speaks_against_it(raw: bytes, *, reusable: bool) -> None:
    """The answer allows it, and not one byte follows that nobody asked for; the answer itself counts in any case."""
    reader = AnswerReader()
    answer = _read(raw, reader=reader)
    assert answer is not None
    assert (answer.status, answer.body, reader.reusable) == (200, b"{}", reusable)


@pytest.mark.parametrize(
    ("raw", "reusable"),
    [
        (OK + b"\r\n", True),
        (OK + b"Content-Length: 5\r\n\r\n", True),  # means nothing
        (OK + b"\r\nx", False),
        (OK + b"Content-Length: 0\r\n\r\n" + OK, False),
    ],
)
def test_an_answer_to_connect_ends_after_its_head(raw: bytes, *, reusable: bool) -> None:
    """What follows in the same piece would be lost: then there is no tunnel."""
    reader = AnswerReader(head_only=True)
    answer = _read(raw, reader=reader)
    assert answer is not None
    assert (answer.status, answer.body, reader.reusable) == (200, b"", reusable)


# ---- Limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 10**9])
@pytest.mark.parametrize("framing", ["length", "chunks", "end"])
@pytest.mark.parametrize("length", [ANSWER_MAX_BYTES, ANSWER_MAX_BYTES + 1, 3 * ANSWER_MAX_BYTES])
def test_a_body_is_read_up_to_one_byte_more_than_the_limit(length: int, framing: str, size: int) -> None:
    """Then it is cut, and the connection of no more use."""
    body = b"x" * length
    raw = {
        "length": OK + b"Content-Length: %d\r\n\r\n%b" % (length, body),
        "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n" + _chunks(body, [10_000] * 30),
        "end": OK + b"\r\n" + body,
    }[framing]
    reader = AnswerReader()
    answer = _read(raw, size=size, reader=reader) or reader.end()
    assert answer is not None
    assert answer.body == body[: ANSWER_MAX_BYTES + 1]
    assert reader.reusable is (length == ANSWER_MAX_BYTES and framing != "end")


_FLOOD = b"x" * OVERHEAD_MAX_BYTES
LARGE = {
    "status line": b"HTTP/1.1 200 " + _FLOOD + b"\r\nContent-Length: 0\r\n\r\n",
    "one header": OK + b"X-A: " + _FLOOD + b"\r\nContent-Length: 0\r\n\r\n",
    "header name": OK + _FLOOD + b": a\r\nContent-Length: 0\r\n\r\n",
    "many headers": OK + b"X-A: a\r\n" * 5000 + b"Content-Length: 0\r\n\r\n",
    "interim answers": b"HTTP/1.1 103 Hints\r\n\r\n" * 2000 + PLAIN,
    "chunk extension": OK + b"Transfer-Encoding: chunked\r\n\r\n2;" + _FLOOD + b"\r\n{}\r\n0\r\n\r\n",
    "trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-A: a\r\n" * 5000 + b"\r\n",
}


@pytest.mark.parametrize("size", PIECE_SIZES)
@pytest.mark.parametrize("raw", LARGE.values(), ids=LARGE.keys())
def test_more_than_32_kib_beside_the_body_is_no_answer(raw: bytes, size: int) -> None:
    """Wherever they stand, and whether they come at once or byte by byte."""
    with pytest.raises(NotHttpError, match="more than 32 KiB beside the body"):
        _read(raw, size=size)


def test_a_head_just_below_the_limit_is_read() -> None:
    """All of it counts: status line, headers, line ends."""
    head = OK + b"Content-Length: 2\r\nX-A: \r\n\r\n"
    filling = b"x" * (OVERHEAD_MAX_BYTES - len(head))
    raw = head.replace(b"X-A: ", b"X-A: " + filling) + b"{}"
    assert _whole(raw).body == b"{}"
    with pytest.raises(NotHttpError):
        _read(raw.replace(b"X-A: ", b"X-A: x"))


# ---- What is no HTTP -------------------------------------------------------------------------------------------------

NONSENSE = {
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "status not a number": b"HTTP/1.1 abc No\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "length with a sign": OK + b"Content-Length: +2\r\n\r\n{}",
    "length that is none": OK + b"Content-Length: \r\n\r\n",
    "length beyond all numbers": OK + b"Content-Length: 99999999999999999999\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "the same length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "length before chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "length after chunks": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunk size not a number": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk longer than said": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n",
    "NUL in a header": OK + b"X-A: a\0b\r\n\r\n",
    "blank before the colon": OK + b"X-A : a\r\n\r\n",
    "folded header": OK + b"X-A: a\r\n b\r\n\r\n",
    "line feed alone": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "carriage return alone": OK + b"X-A: a\rContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("size", PIECE_SIZES)
@pytest.mark.parametrize("raw", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_no_answer(raw: bytes, size: int) -> None:
    """The parser is strict: nothing is read that another one in between could have read otherwise."""
    reader = AnswerReader()
    with pytest.raises(NotHttpError):
        _read(raw, size=size, reader=reader)
    assert not reader.reusable


@given(raw=st.binary(max_size=300), head=st.sampled_from([b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"]))
def test_any_bytes_are_an_answer_or_none_or_no_http(raw: bytes, head: bytes) -> None:
    """Nothing else is raised, whatever comes."""
    reader = AnswerReader()
    try:
        assert isinstance(reader.feed(head + raw) or reader.end(), Answer | None)
    except NotHttpError:
        assert not reader.reusable
