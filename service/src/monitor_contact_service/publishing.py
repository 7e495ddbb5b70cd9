"""Writes lines to a pipe that somebody may read slowly, or not at all: nothing of the service waits for that.

What is published is the audit's matter: its checkpoints, on standard output, where its disk's owner cannot reach them.
"""

import logging
import os
import queue
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
        self._dropping = False
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def publish(self, line: str) -> None:
        """Write a line later, from any thread; its end is added where it has none."""
        try:
            self._lines.put_nowait(f"{line.rstrip()}\n")
        except queue.Full:
            if not self._dropping:
                _log.warning("checkpoint not published", extra=fields(error="nobody reads standard output"))
            self._dropping = True
        else:
            self._dropping = False

    def close(self) -> None:
        """Write what waits, for a second at most, and end."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                rest = line.encode()
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:  # nobody reads it any more, or ever did
            _log.warning("checkpoint not published", extra=fields(error=str(error)))
