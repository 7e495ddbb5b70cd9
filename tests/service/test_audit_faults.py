"""`audit_log` on a disk that is full, broken, hanging or taken away: it refuses, and loses nothing acknowledged."""

# ruff: noqa: ASYNC240 - the tests' own files, small, with nothing else to do meanwhile

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from audit_fakes import EIO, ENOSPC, FaultyDisk, entry, file_log, read_chain
from monitor_contact_service import audit_log, audit_writer
from monitor_contact_service.audit import AuditError
from monitor_contact_service.audit_log import FileLog
from monitor_contact_service.core import record
from monitor_contact_service.settings import ConfigurationError

DENIED = {"id": "x", "stage": "denied"}
# What is written on a full disk too: the room that is left is kept for it.
OUTCOME = {"id": "x", "stage": "outcome"}
WITHIN_SECONDS = 30.0


class Health:
    """What the log has said of itself; `changed` is set with each word."""

    def __init__(self, log: FileLog) -> None:
        self.said: list[str] = []
        self.changed = asyncio.Event()
        log.on_failed = lambda: self._say("failed")
        log.on_recovered = lambda: self._say("recovered")

    def _say(self, word: str) -> None:
        self.said.append(word)
        self.changed.set()


@asynccontextmanager
async def writing(path: Path, disk: FaultyDisk, **options: Any) -> AsyncIterator[tuple[FileLog, Health]]:
    """Yield an open log on a disk that works at first."""
    log = file_log(path, disk=disk, **options)
    health = Health(log)
    await log.open()
    try:
        yield log, health
    finally:
        disk.going.set()
        await log.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where to write."""
    return tmp_path / "audit.jsonl"


@pytest.mark.parametrize(("call", "code"), [("write", ENOSPC), ("write", EIO), ("sync", EIO)])
async def test_a_failed_write_ends_the_log_for_good(path: Path, call: str, code: int) -> None:
    """All that wait are refused and all that come, health is told once, and nothing is written or synced again."""
    disk = FaultyDisk()
    async with writing(path, disk) as (log, health):
        assert await log.append(DENIED) == 3
        disk.errors[call] = code
        results = await asyncio.gather(*(log.append(DENIED) for _ in range(50)), return_exceptions=True)
        assert {type(result) for result in results} == {AuditError}
        assert health.said == ["failed"]
        disk.errors.clear()
        calls = len(disk.calls)
        with pytest.raises(AuditError, match=r"OSError: \[Errno"):
            log.append(DENIED)
    assert len(disk.calls) == calls
    assert health.said == ["failed"]


async def test_records_queued_behind_a_failure_are_refused_too(path: Path) -> None:
    """They came while the write that fails was under way."""
    disk = FaultyDisk()
    async with writing(path, disk) as (log, _):
        disk.reached.clear()
        disk.going.clear()
        first = log.append(DENIED)
        await asyncio.to_thread(disk.reached.wait)
        behind = [log.append(DENIED) for _ in range(3)]
        disk.errors["write"] = EIO
        disk.going.set()
        assert await first == 3
        results = await asyncio.gather(*behind, return_exceptions=True)
        assert {type(result) for result in results} == {AuditError}


async def test_what_was_acknowledged_before_a_failure_is_there_after_a_restart(path: Path) -> None:
    """A write that got half way: the next start cuts it and goes on."""
    disk = FaultyDisk()
    async with writing(path, disk) as (log, _):
        acknowledged = await log.append(record.intent(entry()))
        disk.part = 100
        disk.errors["sync"] = EIO
        with pytest.raises(AuditError):
            await log.append(DENIED)
    async with writing(path, FaultyDisk()):
        pass
    links = {link.seq: link for link in read_chain(path)}
    assert links[acknowledged].stage == "intent"
    assert [link.stage for link in links.values() if link.seq > acknowledged][-2:] == ["recovered", "checkpoint"]


async def test_a_full_disk_takes_no_intents_but_the_outcomes_of_those_it_has(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reserve is for them; when there is room again, actions are taken again."""
    monkeypatch.setattr(audit_writer, "FULL_RETRY_SECONDS", 0.01)
    disk = FaultyDisk()
    async with writing(path, disk) as (log, health):
        seq = await log.append(record.intent(entry()))
        disk.errors["reserve"] = ENOSPC
        while not health.said:
            await log.append(OUTCOME | {"reason": "x" * 50_000})
        assert await log.append({"id": OUTCOME["id"], "stage": "policy"})
        for other in (record.intent(entry(2)), DENIED):
            with pytest.raises(AuditError, match="No space left"):
                log.append(other)
        await log.append(record.ended(entry(), seq, record.Result.DROPPED, "CANCELLED", 1))
        health.changed.clear()
        del disk.errors["reserve"]
        await asyncio.wait_for(health.changed.wait(), WITHIN_SECONDS)
        assert health.said == ["failed", "recovered"]
        await log.append(record.intent(entry(2)))
    stages = [link.stage for link in read_chain(path) if link.id != OUTCOME["id"]]
    assert stages == ["segment", "checkpoint", "intent", "outcome", "intent", "checkpoint"]


async def test_refusals_on_a_full_disk_use_up_no_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls are refused meanwhile, the outcomes find their room, and it goes on by itself."""
    monkeypatch.setattr(audit_writer, "FULL_RETRY_SECONDS", 0.01)
    disk = FaultyDisk()
    async with writing(path, disk) as (log, health):
        disk.errors["reserve"] = ENOSPC
        while not health.said:
            await log.append(OUTCOME | {"reason": "x" * 50_000})
        size = path.stat().st_size
        for _ in range(5_000):
            with pytest.raises(AuditError, match="No space left"):
                log.append(DENIED | {"reason": "x" * 1_000})
        assert path.stat().st_size == size
        await log.append(OUTCOME)
        health.changed.clear()
        del disk.errors["reserve"]
        await asyncio.wait_for(health.changed.wait(), WITHIN_SECONDS)
        await log.append(DENIED)


async def test_intents_queued_while_the_disk_fills_are_refused(path: Path) -> None:
    """They reach the writer after it has found that there is no room."""
    disk = FaultyDisk()
    async with writing(path, disk) as (log, health):
        disk.errors["reserve"] = ENOSPC
        disk.reached.clear()
        disk.going.clear()
        large = log.append(OUTCOME | {"reason": "x" * 100_000})
        await asyncio.to_thread(disk.reached.wait)
        more = [log.append(OUTCOME | {"reason": "x" * 100_000}) for _ in range(5)]
        disk.going.set()
        await asyncio.gather(large, *more)
        disk.reached.clear()
        disk.going.clear()
        last = log.append(OUTCOME)
        await asyncio.wait_for(health.changed.wait(), WITHIN_SECONDS)
        log._full = ""  # as if it had not heard yet
        intent = log.append(record.intent(entry()))
        disk.going.set()
        await last
        with pytest.raises(AuditError, match="No space left"):
            await intent
    assert "intent" not in {link.stage for link in read_chain(path)}


async def test_without_room_for_the_next_file_the_old_one_is_written_on(path: Path) -> None:
    """Rotation fails before anything of the old file is touched; later it succeeds."""
    disk = FaultyDisk()
    async with writing(path, disk, rotate_bytes=1000) as (log, health):
        disk.errors["reserve"] = ENOSPC
        await log.append(OUTCOME | {"reason": "x" * 1000})
        await log.append(OUTCOME)
        assert [file.name for file in path.parent.iterdir() if file.name.startswith("audit")] == ["audit.jsonl"]
        await asyncio.wait_for(health.changed.wait(), WITHIN_SECONDS)
        del disk.errors["reserve"]
        await log.append(OUTCOME)
        assert path.with_name("audit.jsonl.000000000001").exists()
    read_chain(path)


@pytest.mark.parametrize("call", ["reserve", "write", "sync", "sync_all"])
async def test_a_disk_that_fails_at_the_start_is_a_fault_of_the_configuration(path: Path, call: str) -> None:
    """The service does not start, and has let go of the file."""
    disk = FaultyDisk()
    disk.errors[call] = ENOSPC
    with pytest.raises(ConfigurationError, match=r"MONITOR_CONTACT_AUDIT: cannot write .* No space left"):
        await file_log(path, disk=disk).open()
    async with writing(path, FaultyDisk()):
        pass


async def test_a_disk_that_cannot_reserve_is_used_without(path: Path) -> None:
    """Some file systems know no fallocate: there is no reserve then."""
    disk = FaultyDisk()
    disk.errors["reserve"] = 95  # EOPNOTSUPP
    async with writing(path, disk) as (log, health):
        assert await log.append(DENIED) == 3
        assert path.read_bytes().endswith(b"}\n")
        assert health.said == []


@pytest.mark.parametrize("how", ["deleted", "replaced", "cut"])
async def test_a_file_taken_away_is_noticed_before_the_next_record_is_acknowledged(path: Path, how: str) -> None:
    """Deleted, replaced by another or cut: what is written now would be lost, so it is refused."""
    async with writing(path, FaultyDisk()) as (log, health):
        await log.append(DENIED)
        match how:
            case "deleted":
                path.unlink()
            case "replaced":
                shutil.copy(path, path.with_name("copy"))
                path.with_name("copy").replace(path)
            case "cut":
                path.write_bytes(b"")
        with pytest.raises(AuditError):
            await log.append(DENIED)
        assert health.said == ["failed"]


async def test_a_hanging_disk_leaves_records_pending_and_goes_on(path: Path) -> None:
    """Nobody is told anything until it is true; the event loop goes on meanwhile."""
    disk = FaultyDisk()
    async with writing(path, disk) as (log, health):
        disk.reached.clear()
        disk.going.clear()
        future = log.append(DENIED)
        await asyncio.to_thread(disk.reached.wait)
        await asyncio.sleep(0.05)  # not a wait: in this time nothing may be said
        assert not future.done()
        assert health.said == []
        disk.going.set()
        assert await future == 3


async def test_the_end_does_not_wait_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs is given up; what is pending is settled by the next start."""
    monkeypatch.setattr(audit_log, "CLOSE_SECONDS", 0.05)
    disk = FaultyDisk()
    log = file_log(path, disk=disk)
    await log.open()
    disk.going.clear()
    log.append(DENIED)
    await log.close()
    disk.going.set()


async def test_a_fault_of_ours_ends_the_log_too(path: Path) -> None:
    """A record that is no JSON: the chain cannot be continued, so nothing is acknowledged any more."""
    async with writing(path, FaultyDisk()) as (log, health):
        with pytest.raises(AuditError, match="TypeError"):
            await log.append(DENIED | {"odd": object()})
        assert health.said == ["failed"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A tmpfs of 3 MiB; needs root."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def _fill(log: FileLog, seqs: list[int]) -> None:
    for number in range(10_000):
        seqs.append(await log.append(record.intent(entry(number))))  # noqa: PERF401 - those before the end count


async def test_a_really_full_disk(small_disk: Path) -> None:
    """Intents until there is no room; then all their outcomes fit, and the chain holds."""
    path = small_disk / "audit.jsonl"
    async with writing(path, FaultyDisk()) as (log, health):
        seqs: list[int] = []
        with pytest.raises(AuditError, match="No space left"):
            await _fill(log, seqs)
        assert health.said == ["failed"]
        for seq in seqs[-500:]:
            await log.append(record.ended(entry(), seq, record.Result.DROPPED, "CANCELLED", 1))
    links = {link.seq: link.stage for link in read_chain(path)}
    assert len(seqs) > 1000
    assert all(links[seq] == "intent" for seq in seqs)
    assert list(links.values()).count("outcome") == 500
