"""Decides whether the metadata of a call may be looked at: how much of it, of what text, what stands there twice.

gRPC's own limit binds only peers that have acknowledged its SETTINGS: from one that had not, megabytes reached the
handler, and NUL, LF, ESC and latin-1 arrive as they were sent (measured). What the values mean is judged elsewhere.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from .failures import Violation
from .validation import invalid

# Of a call's metadata as gRPC shows it: name, value and 32 for each entry, as HTTP/2 counts (RFC 9113, 6.5.2). gRPC's
# own limit (`server`) is the same number and counts pseudo-headers too: peers that keep to it never meet this one.
MAX_BYTES: Final = 8_192
ENTRY_BYTES: Final = 32
MAX_ENTRIES: Final = 64  # choice: a traced call through a mesh carries about 20
# Who calls, for whom and why. Of two values one reader would take the first, another the last.
SINGLE: Final = frozenset(
    {"authorization", "x-end-user-token", "x-forwarded-client-cert", "x-monitor-reason", "x-monitor-ticket"}
)
# gRPC's own, on a call that it sends again (gRFC A6).
_PREVIOUS_ATTEMPTS: Final = "grpc-previous-rpc-attempts"
# Stands for every other name: those are the caller's own text.
_WHOLE: Final = "metadata"


def check(metadata: Sequence[tuple[str, str | bytes]]) -> None:
    """Return if the metadata may be looked at. Values of keys that end in `-bin` are bytes, and may be any.

    Raises:
        Failure: VALIDATION_FAILED with every violation, none of which repeats a value, or a name that is not in SINGLE.
    """
    if len(metadata) > MAX_ENTRIES:
        raise invalid(Violation(_WHOLE, "METADATA_TOO_MANY", f"must have at most {MAX_ENTRIES} entries"))
    violations: list[Violation] = []
    size_bytes = 0
    seen: set[str] = set()
    for key, value in metadata:
        size_bytes += len(key) + len(value) + ENTRY_BYTES
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            violations.append(_violation(key, "METADATA_NOT_PRINTABLE", "must have only printable ASCII characters"))
        if key in SINGLE:
            if key in seen:
                violations.append(_violation(key, "METADATA_REPEATED", "must be there at most once"))
            seen.add(key)
    if size_bytes > MAX_BYTES:
        violations.append(_violation(_WHOLE, "METADATA_TOO_LARGE", f"must have at most {MAX_BYTES} bytes"))
    if violations:
        raise invalid(*dict.fromkeys(violations))


def is_repetition(metadata: Iterable[tuple[str, object]]) -> bool:
    """Return whether the caller's gRPC has sent this call before."""
    return any(key == _PREVIOUS_ATTEMPTS for key, _ in metadata)


def _violation(key: str, reason: str, description: str) -> Violation:
    return Violation(key if key in SINGLE else _WHOLE, reason, description)
