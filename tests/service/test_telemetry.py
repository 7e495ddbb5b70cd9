"""`telemetry`: one event is one line, whatever it holds."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Final, Literal

import pytest
import raw_h2
import virtual_time
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceServicer
from monitor_contact_service import server as grpc_server
from monitor_contact_service.health import Health
from monitor_contact_service.settings import Settings
from monitor_contact_service.telemetry import (
    WRITE_DELAY_SECONDS,
    JsonFormatter,
    TextFormatter,
    configure_logging,
    fields,
    request_id_var,
    trace_id_var,
)

_LOGGER = "monitor_contact_service.tests"
_SECRET: Final = "geheim"


def _record(event: str = "event", **extra: object) -> logging.LogRecord:
    record = logging.LogRecord(_LOGGER, logging.WARNING, __file__, 1, event, None, None)
    record.created = 0.0625
    record.fields = extra
    return record


def _raised(text: str) -> logging.LogRecord:
    record = _record()
    with pytest.raises(ValueError, match="first") as raised:
        raise ValueError(text)
    record.exc_info = (raised.type, raised.value, raised.tb)
    return record


def _json(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    entry: dict[str, Any] = json.loads(line)
    return entry


@pytest.fixture
def request_id() -> Iterator[str]:
    """Run as if inside a call with this id."""
    token = request_id_var.set("request-1")
    yield "request-1"
    request_id_var.reset(token)


@pytest.fixture
def loggers() -> Iterator[None]:
    """Put the loggers back as pytest had them."""
    root, own = logging.getLogger(), logging.getLogger("monitor_contact_service")
    before = root.level, own.level, root.handlers[:]
    yield
    root.setLevel(before[0])
    own.setLevel(before[1])
    root.handlers[:] = before[2]


_texts = st.text(st.characters(), max_size=30)  # lone surrogates included


@settings(deadline=None)
@given(event=_texts, value=_texts)
@example(event="two\nlines", value="\N{LINE SEPARATOR}\x85\x0b\x1c\r\n")
@example(event="\ud800", value="\N{RIGHT-TO-LEFT OVERRIDE}")
def test_a_json_event_is_one_line_that_gives_back_its_values(event: str, value: str) -> None:
    """No text can end the line or forge another one."""
    entry = _json(_record(event, said=value, number=5, nothing=None))
    assert entry == {
        "ts": "1970-01-01T00:00:00.062Z",
        "level": "warning",
        "event": event,
        "said": value,
        "number": 5,
        "nothing": None,
    }


@settings(deadline=None)
@given(event=_texts, value=_texts)
@example(event="two\nlines", value="\N{LINE SEPARATOR}\x85\x0b\x1c\r\n")
@example(event="\ud800", value="\N{RIGHT-TO-LEFT OVERRIDE}")
def test_a_text_event_is_one_line_that_any_terminal_can_show(event: str, value: str) -> None:
    """What AWS or the network said cannot forge a line, turn the writing direction or break the stream."""
    line = TextFormatter().format(_record(event, said=value))
    assert line.replace("\x7f", "").isprintable()  # json.dumps leaves DEL, which shows as nothing
    assert line.encode()


def test_text_is_readable() -> None:
    """Time, level, event, then what is known by name; what is empty is left out."""
    line = TextFormatter().format(_record("call", code="OK", reason="", said="two words, é"))
    assert line == '1970-01-01T00:00:00.062Z warning call code=OK said="two words, \\u00e9"'


def test_an_event_outside_a_call_has_no_request_id() -> None:
    """The key is absent, not empty."""
    assert "request_id" not in _json(_record())


def test_an_event_inside_a_call_names_its_request(request_id: str) -> None:
    """Both formats carry the id of the call that the task works on."""
    assert _json(_record())["request_id"] == request_id
    assert f"request_id={request_id}" in TextFormatter().format(_record())


def test_an_event_of_a_traced_call_names_its_trace() -> None:
    """Both formats carry it; outside a trace the key is absent."""
    assert "trace_id" not in _json(_record())
    token = trace_id_var.set("0af7651916cd43dd8448eb211c80319c")
    try:
        assert _json(_record())["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert "trace_id=0af7651916cd43dd8448eb211c80319c" in TextFormatter().format(_record())
    finally:
        trace_id_var.reset(token)


def test_an_exception_is_part_of_its_event() -> None:
    """The traceback stands in the same JSON line."""
    entry = _json(_raised("first\nsecond"))
    assert "Traceback" in entry["exception"]
    assert "ValueError: first\nsecond" in entry["exception"]


def test_a_traceback_in_text_cannot_be_taken_for_events() -> None:
    """It is quoted on the event's line, so an exception's text cannot start a line of its own."""
    line = TextFormatter().format(_raised("first\n2026-01-01T00:00:00.000Z info  forged"))
    assert line.startswith('1970-01-01T00:00:00.062Z warning event exception="Traceback')
    assert "\\n2026-01-01T00:00:00.000Z info  forged" in line
    assert line.isprintable()


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    """Whatever is logged, the event is not lost."""
    assert _json(_record(path=ValueError("x"), items={"a": object}))["path"] == "x"


@pytest.mark.usefixtures("loggers")
@pytest.mark.parametrize(
    ("log_format", "terminal", "opening"),
    [
        ("json", True, '{"ts": '),
        ("text", False, "20"),
        ("auto", True, "20"),
        ("auto", False, '{"ts": '),
    ],
)
def test_the_chosen_format_and_level_reach_the_stream(
    log_format: Literal["auto", "json", "text"],
    terminal: bool,  # noqa: FBT001 - a table's column
    opening: str,
) -> None:
    """Own events from the level on, foreign ones from warnings on; for people where people read."""
    stream = _Terminal() if terminal else io.StringIO()
    configure_logging("info", log_format, stream)
    own, foreign = logging.getLogger(_LOGGER), logging.getLogger("botocore.tests")
    own.debug("own debug")
    own.info("own info", extra=fields(answer=42))
    foreign.info("foreign info")
    foreign.warning("foreign warning")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.startswith(opening) for line in lines)
    assert "own info" in lines[0]
    assert "42" in lines[0]
    assert "foreign warning" in lines[1]


class _Terminal(io.StringIO):
    """Where people read."""

    def isatty(self) -> bool:
        return True


class _BrokenStream(io.StringIO):
    """A pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


@pytest.mark.usefixtures("loggers")
async def test_lines_that_are_no_haste_are_written_together_and_in_order() -> None:
    """Inside the event loop nothing is written at once but warnings, which take what waits with them."""
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    own = logging.getLogger(_LOGGER)
    for number in range(3):
        request_id_var.set(f"request-{number}")
        trace_id_var.set(f"trace-{number}")
        own.info("call", extra=fields(number=number))
    assert stream.getvalue() == ""
    own.warning("trouble")
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [entry["event"] for entry in entries] == ["call", "call", "call", "trouble"]
    # Each with the ids that were the present ones when it was logged.
    assert [entry["request_id"] for entry in entries[:3]] == ["request-0", "request-1", "request-2"]
    assert [entry["trace_id"] for entry in entries[:3]] == ["trace-0", "trace-1", "trace-2"]


@pytest.mark.usefixtures("loggers")
def test_what_waits_is_written_by_the_loops_timer_and_at_the_end() -> None:
    """Without any warning the lines come by themselves, in virtual time 10 ms later; also when the loop ends before."""
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    own = logging.getLogger(_LOGGER)

    async def log_and_wait() -> None:
        own.info("first")
        await asyncio.sleep(WRITE_DELAY_SECONDS * 2)
        assert len(stream.getvalue().splitlines()) == 1
        own.info("second")

    virtual_time.run(log_and_wait())
    virtual_time.run(log_and_wait_once(own))
    logging.getLogger().handlers[0].flush()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["first", "second", "third"]


@pytest.mark.usefixtures("loggers")
def test_a_line_outside_a_call_takes_no_id_from_the_call_whose_line_it_is_written_with() -> None:
    """The timer that writes both runs as if inside the call that set it."""
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    own = logging.getLogger(_LOGGER)

    async def call() -> None:
        request_id_var.set("request-1")
        trace_id_var.set("trace-1")
        own.info("call")

    async def serve() -> None:
        await asyncio.create_task(call())
        own.info("draining")
        await asyncio.sleep(WRITE_DELAY_SECONDS * 2)

    virtual_time.run(serve())
    inside, outside = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (inside["request_id"], inside["trace_id"]) == ("request-1", "trace-1")
    assert not {"request_id", "trace_id"} & outside.keys()


async def log_and_wait_once(own: logging.Logger) -> None:
    """Log in another loop, whose timer is its own."""
    own.info("third")


@pytest.mark.usefixtures("loggers")
def test_a_broken_stream_or_line_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be written or made is reported as the logging module does, and the work goes on."""
    configure_logging("info", "json", _BrokenStream())
    logging.getLogger(_LOGGER).info("lost")
    configure_logging("info", "json", io.StringIO())
    logging.getLogger(_LOGGER).info("%d", "no number")
    assert capsys.readouterr().err.count("--- Logging error ---") == 2


class _Handler(MonitorContactServiceServicer):
    """Answers whoever gets this far."""

    async def MonitorContact(  # noqa: N802 - the contract's name
        self, request: MonitorContactRequest, context: object
    ) -> MonitorContactResponse:
        """Answer."""
        del context
        return MonitorContactResponse(contact_id=request.contact_id)


@pytest.mark.usefixtures("loggers")
@pytest.mark.parametrize("key", ["authorization", "x-end-user-token", "x-monitor-ticket", "user-agent"])
async def test_metadata_that_cannot_be_decoded_does_not_reach_the_log(key: str) -> None:
    """By itself gRPC logs such a value, with a traceback; the call is refused, and its line is the only one."""
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    settings = Settings(listen="127.0.0.1:0")
    server = grpc_server.build(settings, handler=_Handler(), health=Health([]), reflection=None)
    target = str(grpc_server.listen(server, settings.address))
    await server.start()
    try:
        async with raw_h2.connected(target) as connection:
            answer = await connection.call([(key.encode(), f"Bearer {_SECRET}".encode() + b"\xff\xfe")])
    finally:
        await server.stop(1)
    logging.getLogger().handlers[0].flush()
    assert answer.grpc_status == 3  # INVALID_ARGUMENT
    assert _SECRET not in stream.getvalue()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["call"]


@pytest.mark.usefixtures("loggers")
def test_what_else_grpc_says_stays_in_the_log() -> None:
    """Only the lines that repeat metadata are kept out."""
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    configure_logging("info", "json", stream)
    logging.getLogger("grpc._cython.cygrpc").error("Invalid encoding on %s", _SECRET)
    logging.getLogger("grpc._cython.cygrpc").error("Failed sending error status from server")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        "Failed sending error status from server"
    ]
