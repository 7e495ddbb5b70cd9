# noqa: INP001 - a script, not part of a package
"""Write `_sync.py` from `_async.py` by replacing tokens; with `--check`, only tell whether it is up to date.

Usage: python clients/python/generate_sync.py [--check]. Needs unasync (dependency group `dev`). Exit 1: not up to date.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import unasync  # type: ignore[import-untyped]

PACKAGE = Path(__file__).parent / "src" / "monitor_contact_client"
SOURCE = PACKAGE / "_async.py"
TARGET = PACKAGE / "_sync.py"

# Beside unasync's own (`async`, `await`, `__aenter__`, …).
TOKENS = {
    "AsyncMonitorContactClient": "MonitorContactClient",
    "AsyncChannel": "Channel",
    "MonitorContactServiceAsyncStub": "MonitorContactServiceStub",
    "call_async": "call",
    "open_async_channel": "open_channel",
}
# Inside docstrings and comments, where no token can be replaced.
PHRASES = {
    "The asyncio client. `_sync.py` is generated from this file: change this one, then run generate_sync.py.": (
        "The blocking client. Generated from _async.py by generate_sync.py: do not edit."
    ),
    ": the asyncio client.": ": the blocking client.",
    "async with AsyncMonitorContactClient": "with MonitorContactClient",
    "session = await ": "session = ",
    "Use it in one event loop.": "Threads may share it.",
    "must not block": "should be quick",
    "  # never held over an await; the blocking twin may be shared between threads": "  # threads may share the client",
    ": an aio channel cannot exist outside a running loop.": ".",
}


def generate() -> str:
    """Return the text of the blocking client."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / SOURCE.name
        copy.write_text(_with_phrases(SOURCE.read_text("utf-8")), "utf-8")
        rule = unasync.Rule(f"/{SOURCE.name}", f"/{TARGET.name}", additional_replacements=TOKENS)
        unasync.unasync_files([str(copy)], [rule])
        return (Path(folder) / TARGET.name).read_text("utf-8")


def _with_phrases(text: str) -> str:
    for old, new in PHRASES.items():
        if old not in text:
            raise SystemExit(f"{SOURCE} no longer holds {old!r}: update PHRASES in {__file__}")
        text = text.replace(old, new)
    return text


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 unless _sync.py is up to date")
    check = parser.parse_args().check
    text = generate()
    if not check:
        TARGET.write_text(text, "utf-8")
    elif not TARGET.exists() or TARGET.read_text("utf-8") != text:
        sys.stderr.write(f"{TARGET} is not up to date: run python {Path(__file__).name}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
