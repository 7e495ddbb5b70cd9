"""`publishing`: whoever reads standard output, or does not, holds nothing up."""

import os
from collections.abc import Iterator

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
    """It is full after one line; the others wait, then are dropped, which is said once. The end comes all the same."""
    reader, writer = pipe
    publisher = Publisher(writer)
    for _ in range(MAX_WAITING + 10):
        publisher.publish(_LARGE)
    publisher.close()
    assert [record.getMessage() for record in caplog.records] == ["checkpoint not published"]
    assert os.read(reader, 10) == b"x" * 10


def test_a_pipe_whose_reader_is_gone_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    """Once; what comes later is not tried."""
    reader, writer = os.pipe()
    os.close(reader)
    publisher = Publisher(writer)
    publisher.publish("one")
    publisher.publish("two")
    publisher.close()
    os.close(writer)
    assert [record.__dict__["fields"] for record in caplog.records] == [{"error": "[Errno 32] Broken pipe"}]
