"""Writes lines to a pipe that somebody may read slowly, or not at all: nothing of the service waits for that.

What is published is the audit's matter: its checkpoints, on standard output, where its disk's owner cannot reach them.
"""

import logging
import os
import queue
import select
import threading
from typing import Final

from .telemetry import fields

_log = logging.getLogger(__name__)

# Of 350 bytes, one a minute: most of a day (choice).
MAX_WAITING: Final = 1_000
CLOSE_SECONDS: Final = 1.0


class Publisher:
    """Publishes from a thread of its own; what nobody reads in time is dropped and noted.

    Args:
        descriptor: of the pipe. Not a stream of Python's: its lock, held by a write that hangs, would hold up the end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING)  # None is the end
        self._noted = ""
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def publish(self, line: str) -> None:
        """Write a line later, from any thread; its end is added where it has none."""
        try:
            self._lines.put_nowait(f"{line.rstrip()}\n")
        except queue.Full:
            self._note("nobody reads standard output")

    def close(self) -> None:
        """Write what waits, for a second at most, and end."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(line.encode())
            except OSError as error:  # nobody reads it any more, or its disk is full; the next line is tried anew
                self._note(str(error))
            else:
                self._noted = ""

    def _write(self, rest: bytes) -> None:
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])

    def _note(self, why: str) -> None:
        """Warn once of what goes on."""
        if why != self._noted:
            _log.warning("checkpoint not published", extra=fields(error=why))
        self._noted = why
