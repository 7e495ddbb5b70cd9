"""Makes request ids: what a caller is told, the log, the trace and the audit record of a call have in common."""

import os
import time

from .core.record import new_id


def new_request_id() -> str:
    """Return a UUIDv7 as 32 hex digits: ids sort by time."""
    return new_id(time.time_ns() // 1_000_000, os.urandom(10))
