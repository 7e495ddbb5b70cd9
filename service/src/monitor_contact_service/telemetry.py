"""Sets up the log: one JSON object a line, or text for people. Decides nothing about what is logged.

Identifiers of contacts, users and instances never reach the log.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Final, Literal, TextIO

# The id of the call that the running task works on; "" outside a call. Set by `interceptors`, read by every log line.
request_id_var: ContextVar[str] = ContextVar("request_id", default="")
# The trace that the call belongs to, 32 hex digits; "" without one. Set by the tracer, read by every log line.
trace_id_var: ContextVar[str] = ContextVar("trace_id", default="")
# The same as {"trace_id": …} while the trace is sampled: what a measurement of the call is an example of.
exemplar_var: ContextVar[dict[str, str] | None] = ContextVar("exemplar", default=None)
# Who calls, in the words of log and metrics: the id of a configured caller, or "other"; "" until that is known. Set by
# `handler`, read by `interceptors` and `metrics`.
caller_var: ContextVar[str] = ContextVar("caller", default="")

# Lines wait so long for others, to be made and written together: one call at a time would pay 50 µs for its own, with
# cold caches and a system call (measured). Warnings and worse wait for nothing.
WRITE_DELAY_SECONDS: Final = 0.01

_encode = json.JSONEncoder(default=str).encode

# Whoever sends metadata that is no UTF-8 has its value written into gRPC's own log, a token too (measured, grpcio
# 1.85.1). The call itself is refused by `core.metadata`.
_GRPC_LOGGER: Final = "grpc._cython.cygrpc"
_GRPC_PRINTS_METADATA: Final = "Invalid encoding on %s"


def fields(**values: object) -> Mapping[str, Mapping[str, object]]:
    """Return the `extra` of a log call: named values beside the event."""
    return {"fields": values}


def configure_logging(level: str, log_format: Literal["auto", "json", "text"], stream: TextIO = sys.stderr) -> None:
    """Send everything from `level` on to `stream`. Foreign libraries speak from warnings on.

    With "auto" whoever reads decides: text on a terminal, otherwise JSON.
    """
    is_text = stream.isatty() if log_format == "auto" else log_format == "text"
    # What no formatter here prints is not looked up, callers' lines included: logging's documentation, "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - as documented there
    handler = LineHandler(stream)
    handler.setFormatter(TextFormatter() if is_text else JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("monitor_contact_service").setLevel(level.upper())
    logging.getLogger(_GRPC_LOGGER).addFilter(_prints_no_metadata)


def _prints_no_metadata(record: logging.LogRecord) -> bool:
    return record.msg != _GRPC_PRINTS_METADATA


class LineHandler(logging.Handler):
    """Writes lines in their order: a warning or worse at once, others up to `WRITE_DELAY_SECONDS` later.

    Without a running event loop, as at start and in threads, every line is written at once.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: list[logging.LogRecord] = []
        self._flushed_by: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line, with the ids of the call that it belongs to."""
        record.request_id = request_id_var.get()
        record.trace_id = trace_id_var.get()
        self._waiting.append(record)
        loop = asyncio._get_running_loop()  # noqa: SLF001 - the public one raises where there is none
        if loop is None or record.levelno >= logging.WARNING:
            self.flush()
        elif self._flushed_by is not loop:
            self._flushed_by = loop
            loop.call_later(WRITE_DELAY_SECONDS, self._flush_later)

    def flush(self) -> None:
        """Write what waits. The logging module calls it once more when the process ends."""
        self.acquire()
        waiting, self._waiting = self._waiting, []
        try:
            lines = [line for record in waiting if (line := self._line(record))]
            self._stream.write("".join(lines))
            self._stream.flush()
        except OSError:
            self.handleError(waiting[-1])
        finally:
            self.release()

    def _flush_later(self) -> None:
        self._flushed_by = None
        self.flush()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - as logging does: a line that cannot be made must not end the work
            self.handleError(record)
            return ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line. json.dumps escapes line ends and bidi characters, so one event is one line."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102 - logging's hook
        return _encode(_entry(self, record))


class TextFormatter(logging.Formatter):
    """One line for people: time, level, event, key=value."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102 - logging's hook
        entry = _entry(self, record)
        event = str(entry.pop("event"))
        head = f"{entry.pop('ts')} {entry.pop('level'):<7} {event if event.isprintable() else json.dumps(event)}"
        return " ".join([head, *(f"{key}={_readable(value)}" for key, value in entry.items() if value != "")])


def _readable(value: object) -> str:
    """Quote what is not one plain word: foreign text must not break the line or colour the terminal."""
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text else json.dumps(text)


@lru_cache(maxsize=1)
def _second(timestamp: int) -> str:
    """Return RFC 3339 in UTC, without the zone; many lines share their second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(timestamp))


def _entry(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, object]:
    entry: dict[str, object] = {
        "ts": f"{_second(int(record.created))}.{int(record.created % 1 * 1000):03}Z",
        "level": record.levelname.lower(),
        "event": record.getMessage(),
    }
    # As kept by `LineHandler`: when its timer writes, the present ids are those of the call that set it.
    for name, present in (("request_id", request_id_var), ("trace_id", trace_id_var)):
        if value := record.__dict__[name] if name in record.__dict__ else present.get():
            entry[name] = value
    entry.update(getattr(record, "fields", {}))
    if record.exc_info:
        entry["exception"] = formatter.formatException(record.exc_info)
    return entry
