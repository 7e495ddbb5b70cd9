"""`publishing`: whoever reads standard output, or does not, holds nothing up."""

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
from monitor_contact_service.publishing import MAX_WAITING, Publisher

# More than a pipe holds on Linux: 64 KiB.
_LARGE = "x" * 100_000

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """The two ends of a pipe: to read, to write."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_lines_come_in_their_order(pipe: Pipe) -> None:
    """Each ends once, whether it came with an end or not; closing waits for them."""
    reader, writer = pipe
    publisher = Publisher(writer)
    publisher.publish("one")
    publisher.publish("two\n")
    publisher.close()
    assert os.read(reader, 1_000) == b"one\ntwo\n"


def test_a_pipe_that_nobody_reads_holds_nobody_up(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    """It is full after one line; others wait, then are dropped, which is said once. Those that waited come later."""
    reader, writer = pipe
    publisher = Publisher(writer)
    for _ in range(MAX_WAITING + 10):
        publisher.publish(_LARGE)
    assert [record.getMessage() for record in caplog.records] == ["checkpoint not published"]
    lines = 0
    while lines < MAX_WAITING:
        lines += os.read(reader, 1_000_000).count(b"\n")
    os.set_blocking(reader, False)
    publisher.close()
    with suppress(BlockingIOError):
        lines += os.read(reader, 1_000_000).count(b"\n")
    assert MAX_WAITING <= lines <= MAX_WAITING + 1


def test_a_slow_reader_of_a_pipe_that_does_not_block_misses_nothing(pipe: Pipe) -> None:
    """Whoever made the pipe may have set it so."""
    reader, writer = pipe
    os.set_blocking(writer, False)
    publisher = Publisher(writer)
    for _ in range(3):
        publisher.publish(_LARGE)
    read = b""
    while read.count(b"\n") < 3:
        read += os.read(reader, 1_000)
    publisher.close()
    assert read == (_LARGE.encode() + b"\n") * 3


def test_a_pipe_whose_reader_is_gone_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    """Once, as long as it is the same."""
    reader, writer = os.pipe()
    os.close(reader)
    publisher = Publisher(writer)
    publisher.publish("one")
    publisher.publish("two")
    publisher.close()
    os.close(writer)
    assert [record.__dict__["fields"] for record in caplog.records] == [{"error": "[Errno 32] Broken pipe"}]
