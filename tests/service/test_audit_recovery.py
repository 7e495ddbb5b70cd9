"""`audit_recovery`: as many files are read back as an action can have lived, and no more."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from audit_fakes import NOON, entry, file_log, read_chain
from monitor_contact_service.audit_recovery import ACTION_TIME
from monitor_contact_service.audit_segments import closed_files
from monitor_contact_service.core import record
from monitor_contact_service.settings import ConfigurationError

_LARGE = {"id": "x", "stage": "denied", "reason": "x" * 2_000}


class _Clock:
    """The time of day, as the test moves it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


async def _life(path: Path, clock: _Clock, *steps: timedelta, **records: Any) -> None:
    """Let a process write the `first` record, and after each step enough for a further file; it ends without a word."""
    log = file_log(path, rotate_bytes=1_000, utc_now=clock)
    await log.open()
    for first in records.values():
        await log.append(first)
    for step in steps:
        clock.now += step
        await log.append(_LARGE)
    await log.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the audit is."""
    return tmp_path / "audit.jsonl"


async def test_an_intent_many_files_ago_is_settled_if_its_action_can_have_lived_so_long(path: Path) -> None:
    """A flood of denials closes a file every few seconds, and the action has a minute."""
    clock = _Clock()
    await _life(path, clock, *[timedelta(seconds=10)] * 6, intent=record.intent(entry(1)))
    assert len(closed_files(path)) >= 5
    await _life(path, clock)
    settled = [link for link in read_chain(path) if link.stage == "recovered"]
    assert [link.id for link in settled] == [f"{1:032x}"]


async def test_a_file_that_was_moved_away_from_between_does_not_stop_the_start(path: Path) -> None:
    """An archiver takes them in any order; what was open before the gap cannot be followed."""
    clock = _Clock()
    await _life(path, clock, *[timedelta(seconds=1)] * 4, intent=record.intent(entry(1)))
    closed_files(path)[-2].unlink()
    await _life(path, clock)
    last = path.read_text()  # noqa: ASYNC240 - a small file, and nobody else is on the loop
    assert '"stage":"segment"' in last
    assert "recovered" not in last


async def test_files_that_are_older_than_any_action_are_not_read(path: Path) -> None:
    """Years of audit do not delay a start: what is wrong in them is for `audit verify`."""
    clock = _Clock()
    await _life(path, clock, timedelta(), timedelta(), ACTION_TIME * 2, timedelta(), timedelta())
    oldest, *younger = closed_files(path)
    oldest.write_bytes(b"{}\n" + oldest.read_bytes())
    await _life(path, clock)
    younger[-1].write_bytes(b"{}\n" + younger[-1].read_bytes())
    with pytest.raises(ConfigurationError, match="is damaged at byte 0"):
        await _life(path, clock)
