"""Sets up the log: one JSON object a line, or text for people. Decides nothing about what is logged.

Identifiers of contacts, users and instances never reach the log.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Literal, TextIO

# The id of the call that the running task works on; "" outside a call. Set by `interceptors`, read by every log line.
request_id_var: ContextVar[str] = ContextVar("request_id", default="")

_encode = json.JSONEncoder(default=str).encode


def fields(**values: object) -> Mapping[str, Mapping[str, object]]:
    """Return the `extra` of a log call: named values beside the event."""
    return {"fields": values}


def configure_logging(level: str, log_format: Literal["json", "text"], stream: TextIO = sys.stderr) -> None:
    """Send everything from `level` on to `stream`. Foreign libraries speak from warnings on."""
    # What no formatter here prints is not looked up, callers' lines included: logging's documentation, "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - as documented there
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("monitor_contact_service").setLevel(level.upper())


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
    if request_id := request_id_var.get():
        entry["request_id"] = request_id
    entry.update(getattr(record, "fields", {}))
    if record.exc_info:
        entry["exception"] = formatter.formatException(record.exc_info)
    return entry
