"""Sets up the log: one JSON object a line, or text for people. Decides nothing about what is logged.

Identifiers of contacts, users and instances never reach the log.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

# The id of the call that the running task works on; "" outside a call. Set by `interceptors`, read by every log line.
request_id_var: ContextVar[str] = ContextVar("request_id", default="")


def fields(**values: object) -> Mapping[str, Mapping[str, object]]:
    """Return the `extra` of a log call: named values beside the event."""
    return {"fields": values}


def configure_logging(level: str, log_format: Literal["json", "text"], stream: TextIO = sys.stderr) -> None:
    """Send everything from `level` on to `stream`. Foreign libraries speak from warnings on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("monitor_contact_service").setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """One JSON object a line. json.dumps escapes line ends and bidi characters, so one event is one line."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102 - logging's hook
        return json.dumps(_entry(self, record), default=str)


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


def _entry(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, object]:
    moment = datetime.fromtimestamp(record.created, UTC)
    entry: dict[str, object] = {
        "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
    }
    if request_id := request_id_var.get():
        entry["request_id"] = request_id
    entry.update(getattr(record, "fields", {}))
    if record.exc_info:
        entry["exception"] = formatter.formatException(record.exc_info)
    return entry
