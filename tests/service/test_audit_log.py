"""`audit_log`: records in files, in one chain over batches, rotations, restarts and half-written lines."""

# ruff: noqa: ASYNC240 - the tests' own files, small, with nothing else to do meanwhile

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from audit_fakes import KEY, NOON, FaultyDisk, entry, file_log, read_chain
from monitor_contact_service.audit import AuditError
from monitor_contact_service.audit_log import FileLog
from monitor_contact_service.audit_recovery import recover
from monitor_contact_service.audit_segments import Disk, closed_files
from monitor_contact_service.core import audit_chain, record
from monitor_contact_service.settings import ConfigurationError

DENIED = {"id": "x", "stage": "denied"}
_BEGIN = ("segment", "checkpoint")


@asynccontextmanager
async def writing(path: Path, **options: Any) -> AsyncIterator[FileLog]:
    """Yield an open log."""
    log = file_log(path, **options)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


def _stages(path: Path) -> list[str]:
    return [link.stage for link in read_chain(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file in a folder that is not there yet."""
    return tmp_path / "state" / "audit.jsonl"


async def test_a_record_is_on_disk_when_its_future_is_done(path: Path) -> None:
    """With the seq that the future has, as one line; only the owner can read it."""
    async with writing(path) as log:
        seq = await log.append(record.intent(entry()))
        link = read_chain(path)[-1]
        assert (seq, link.seq, link.stage, link.id) == (3, 3, "intent", f"{1:032x}")
        assert link.record["contact"] == "contact"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_records_that_come_together_are_written_together(path: Path) -> None:
    """What is queued while the disk works becomes one write, in order."""
    disk = FaultyDisk()
    async with writing(path, disk=disk) as log:
        disk.reached.clear()
        disk.going.clear()
        futures = [log.append(DENIED)]
        await asyncio.to_thread(disk.reached.wait)
        writes = disk.calls.count("write")
        futures += [log.append(DENIED) for _ in range(500)]
        disk.going.set()
        assert await asyncio.gather(*futures) == list(range(3, 504))
        assert disk.calls.count("write") == writes + 1


async def test_a_future_that_was_cancelled_disturbs_nobody(path: Path) -> None:
    """Its record is written all the same."""
    async with writing(path) as log:
        futures = [log.append(DENIED) for _ in range(3)]
        futures[1].cancel()
        assert [await futures[0], await futures[2]] == [3, 5]
    assert _stages(path).count("denied") == 3


@pytest.mark.parametrize("part", [1, 7, 1000])
async def test_short_writes_are_continued(path: Path, part: int) -> None:
    """A disk that takes a few bytes at a time."""
    async with writing(path, disk=FaultyDisk(part)) as log:
        await asyncio.gather(*(log.append(record.intent(entry(n))) for n in range(3)))
    assert _stages(path) == [*_BEGIN, "intent", "intent", "intent", "checkpoint"]


async def test_a_large_batch_is_written_in_parts(path: Path) -> None:
    """No write is larger than what recovery takes for one."""
    sizes: list[int] = []

    class Sized(FaultyDisk):
        def write(self, descriptor: int, data: memoryview, offset: int) -> int:
            sizes.append(len(data))
            return super().write(descriptor, data, offset)

    async with writing(path, disk=Sized()) as log:
        await asyncio.gather(*(log.append(DENIED | {"reason": "x" * 100_000}) for _ in range(20)))
    assert len(read_chain(path)) == 23
    assert max(sizes) < 640 * 1024


async def test_a_restart_goes_on_with_the_chain(path: Path) -> None:
    """The next process has the next seq and the same writer id, its own boot id, and says that it began."""
    for _ in range(3):
        async with writing(path) as log:
            await log.append(DENIED)
    links = read_chain(path)
    assert [link.stage for link in links] == [*_BEGIN, "denied", "checkpoint"] * 3
    assert [link.seq for link in links] == list(range(1, 13))
    assert len({link.chain.split("/")[0] for link in links}) == 1
    assert len({link.chain for link in links}) == 3


async def test_the_reserve_is_zeros_behind_the_lines_and_gone_at_the_end(path: Path) -> None:
    """Room for the outcomes of what is under way, taken from the disk before it is needed."""
    async with writing(path) as log:
        await log.append(DENIED)
        content = path.read_bytes()
        assert len(content.rstrip(b"\0")) + 512 * 1024 < len(content) < 2 * 1024 * 1024
        assert path.stat().st_blocks * 512 >= 1024 * 1024
    assert path.read_bytes().endswith(b"}\n")


async def test_times_are_those_of_the_clock(path: Path) -> None:
    """RFC 3339 in UTC."""
    async with writing(path, utc_now=lambda: NOON) as log:
        await log.append(DENIED)
    assert {link.t for link in read_chain(path)} == {"2026-01-02T12:00:00.000000Z"}


# --- rotation ---------------------------------------------------------------------------------------------------


async def test_files_are_closed_by_size_and_the_chain_goes_on(path: Path) -> None:
    """Under load: each closed file has the number of its first record, each next one begins with a checkpoint."""
    async with writing(path, rotate_bytes=10_000) as log:
        for _ in range(20):
            await asyncio.gather(*(log.append(record.intent(entry(n))) for n in range(10)))
    closed = closed_files(path)
    assert len(closed) >= 10
    links = {link.seq: link for link in read_chain(path)}
    assert sorted(links) == list(range(1, len(links) + 1))
    for file in closed:
        first = audit_chain.parse(file.read_bytes().split(b"\n", 1)[0])
        assert file.name == f"audit.jsonl.{first.seq:012}"
        assert first.stage == ("segment" if first.seq == 1 else "checkpoint")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_bytes().endswith(b"}\n")
    assert sum(link.stage == "intent" for link in links.values()) == 200


async def test_files_are_closed_by_age(path: Path) -> None:
    """An hour after its first line, at the next record; also if a restart lies between."""
    times = [NOON]
    for hours in (0, 0.5, 1.0):
        times.append(NOON + timedelta(hours=hours))
        async with writing(path, rotate_seconds=3600, utc_now=lambda: times[-1]) as log:
            await log.append(DENIED)
            assert len(closed_files(path)) == (1 if hours == 1 else 0)
    times.append(NOON + timedelta(hours=2))
    async with writing(path, rotate_seconds=3600, utc_now=lambda: times[-1]) as log:
        await log.append(DENIED)
    assert [len(file.name) for file in closed_files(path)] == [len("audit.jsonl.") + 12] * 2
    read_chain(path)


async def test_a_restart_goes_on_where_a_rotation_was_interrupted(path: Path) -> None:
    """The file has its number and the next one is not there yet, or was half made under its hidden name."""
    async with writing(path) as log:
        await log.append(DENIED)
    path.rename(path.with_name("audit.jsonl.000000000001"))
    path.with_name(".audit.jsonl.next").write_bytes(b"\0" * 100)
    async with writing(path, rotate_bytes=400) as log:
        await log.append(DENIED)
        await log.append(DENIED)
    assert len(closed_files(path)) > 1
    assert [link.seq for link in read_chain(path)] == list(range(1, len(read_chain(path)) + 1))
    assert not path.with_name(".audit.jsonl.next").exists()


async def test_a_closed_file_is_never_overwritten(path: Path) -> None:
    """A file of the name that would be given is in the way: the log fails, the file stays."""
    path.parent.mkdir()
    async with writing(path, rotate_bytes=2000) as log:
        in_the_way = path.with_name("audit.jsonl.000000000001")
        in_the_way.write_text("precious")
        await log.append(DENIED | {"reason": "x" * 2000})
        with pytest.raises(AuditError, match="closed file"):
            await log.append(DENIED)
    assert in_the_way.read_text() == "precious"


# --- checkpoints ------------------------------------------------------------------------------------------------


async def test_checkpoints_come_with_the_records_are_signed_and_published(path: Path) -> None:
    """At once, for the young chain; then every ten records one, with the hash and the number of what came before."""
    published: list[str] = []
    async with writing(path, key=KEY, checkpoint_records=10, publish=published.append) as log:
        await asyncio.gather(*(log.append(DENIED) for _ in range(25)))
    links = read_chain(path)
    found = [link for link in links if link.stage == "checkpoint"]
    assert [link.record["count"] for link in found] == [1, 10, 10, 5]
    assert all(link.record["head"] == link.prev for link in found)
    lines = path.read_text().splitlines()
    assert published == [lines[link.seq - 1] for link in found]
    assert all(audit_chain.is_signed_by(line.encode(), KEY.public_key()) for line in published)
    assert {link.record["key"] for link in found} == {audit_chain.key_id(KEY.public_key())}


async def test_without_a_key_checkpoints_are_not_signed(path: Path) -> None:
    """They are there all the same."""
    async with writing(path):
        pass
    last = read_chain(path)[-1].record
    assert last["stage"] == "checkpoint"
    assert not {"key", "sig"} & set(last)


async def test_a_checkpoint_comes_by_time_too_but_not_for_nothing(path: Path) -> None:
    """Half a second after the last one if there is anything new, without another record; then no more."""
    published: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def publish(line: str) -> None:
        loop.call_soon_threadsafe(published.put_nowait, line)

    async with writing(path, checkpoint_seconds=0.05, publish=publish) as log:
        async with asyncio.timeout(30):
            await published.get()  # of the first record, which says that a process began
            seq = await log.append(DENIED)
            while audit_chain.parse((await published.get()).encode()).seq <= seq:
                pass
        before = len(read_chain(path))
        await asyncio.sleep(0.2)  # not a wait: in this time none may come
        assert len(read_chain(path)) == before


async def test_the_count_goes_on_over_restarts(path: Path) -> None:
    """A process that was killed has left records behind its last checkpoint."""
    async with writing(path) as log:
        await log.append(DENIED)
        await log.append(DENIED)
        image = path.read_bytes()
    path.write_bytes(image)
    async with writing(path) as log:
        await log.append(DENIED)
    assert [link.record["count"] for link in read_chain(path) if link.stage == "checkpoint"] == [1, 3, 1]


async def test_no_moment_of_a_chain_is_unsigned(path: Path) -> None:
    """Each start signs what it begins with: what it recovered too, and in a file that it begins because it is time."""
    published: list[str] = []
    for rotate_bytes, begin in (
        (2**26, ["segment", "checkpoint"]),
        (2**26, ["segment", "recovered", "checkpoint"]),
        (1, ["checkpoint", "segment", "recovered", "checkpoint"]),
    ):
        before = len(published)
        async with writing(path, key=KEY, rotate_bytes=rotate_bytes, publish=published.append) as log:
            image = path.read_bytes().rstrip(b"\0")
            assert _stages(path)[-len(begin) :] == begin
            assert audit_chain.is_signed_by(image.splitlines()[-1], KEY.public_key())
            assert published[-1].encode() == image.splitlines()[-1]
            assert len(published) == before + begin.count("checkpoint")
            await log.append(record.intent(entry()))
            image = path.read_bytes()
        path.write_bytes(image)  # as if it had been killed


async def test_a_reader_that_has_gone_is_no_fault_of_the_audit(path: Path) -> None:
    """Standard output is closed: records are durable all the same."""

    def publish(_: str) -> None:
        raise BrokenPipeError

    async with writing(path, checkpoint_records=1, publish=publish) as log:
        assert await log.append(DENIED) > 0
        assert await log.append(DENIED) > 0


# --- recovery ---------------------------------------------------------------------------------------------------


async def test_actions_without_an_outcome_are_settled_at_the_next_start(path: Path) -> None:
    """Each open intent gets one `recovered`, also one in the file before; those with an outcome get none."""
    async with writing(path, rotate_bytes=3000) as log:
        old = await log.append(record.intent(entry(1)))
        done = await log.append(record.intent(entry(2)))
        await log.append(record.ended(entry(2), done, record.Result.DROPPED, "CANCELLED", 1))
        for _ in range(4):
            if closed_files(path):
                break
            await log.append(DENIED | {"reason": "x" * 600})
        new = await log.append(record.intent(entry(3)))
        assert len(closed_files(path)) == 1
    for _ in range(2):
        async with writing(path):
            pass
    recovered = [link.record for link in read_chain(path) if link.stage == "recovered"]
    assert [(each["id"], each["intent_seq"], each["result"]) for each in recovered] == [
        (f"{1:032x}", old, "unknown"),
        (f"{3:032x}", new, "unknown"),
    ]


async def _image(path: Path) -> bytes:
    """Return a file that a killed process could have left: a few records and the reserve."""
    async with writing(path) as log:
        await log.append(record.intent(entry()))
        await log.append(DENIED)
        return path.read_bytes()


async def test_a_torn_line_is_cut_off_at_every_length(tmp_path: Path) -> None:
    """The last line ends after each of its bytes, with a reserve behind or without: the chain ends before it."""
    path = tmp_path / "audit.jsonl"
    whole = (await _image(path)).rstrip(b"\0")
    start = whole.rindex(b"\n", 0, -1) + 1
    for length in range(1, len(whole) - start):
        path.write_bytes(whole[: start + length] + b"\0" * (length % 3 * 700))
        now = NOON + timedelta(seconds=length)
        found = recover(Disk(), path, now)
        assert (found.head.seq, found.torn_bytes, found.open_intents) == (3, length, {3: f"{1:032x}"})
        assert path.read_bytes() == whole[:start]
        copy = path.with_name(found.torn_file)
        assert copy.read_bytes() == whole[start : start + length]
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600


async def test_a_torn_line_is_recorded(path: Path) -> None:
    """By the process that cut it off; the intent before it is settled."""
    path.write_bytes((await _image(path)).rstrip(b"\0")[:-9])
    async with writing(path):
        pass
    links = read_chain(path)
    assert [link.stage for link in links] == [*_BEGIN, "intent", "segment", "recovered", "checkpoint"]
    assert path.with_name(links[3].record["torn_file"]).stat().st_size == links[3].record["torn_bytes"]


async def test_a_whole_line_is_never_torn(path: Path) -> None:
    """Only the reserve is cut, and nothing is kept aside."""
    image = await _image(path)
    path.write_bytes(image)
    async with writing(path):
        pass
    assert _stages(path) == [*_BEGIN, "intent", "denied", "segment", "recovered", "checkpoint"]
    assert sorted(file.name for file in path.parent.iterdir()) == [".audit.jsonl.lock", "audit.jsonl"]


async def test_holes_in_the_last_write_are_torn_too(path: Path) -> None:
    """A machine that stopped may have written a later page and not an earlier one."""
    whole = (await _image(path)).rstrip(b"\0")
    start = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[:start] + b"\0" * 512 + whole[start + 512 :])
    async with writing(path):
        pass
    assert _stages(path) == [*_BEGIN, "intent", "segment", "recovered", "checkpoint"]


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("change", ["edit", "delete", "swap"])
async def test_a_file_that_was_tampered_with_stops_the_start(path: Path, change: str, rotated: bool) -> None:  # noqa: FBT001 - a table's column
    """Edited, cut or reordered before its last line, closed or not: the error names file, byte and what to do."""
    image = (await _image(path)).rstrip(b"\0")
    lines = image.splitlines(keepends=True)
    match change:
        case "edit":
            lines[0] = lines[0].replace(b"segment", b"Segment")
        case "delete":
            del lines[1]
        case "swap":
            lines[1:] = reversed(lines[1:])
    offset = {"edit": 0, "delete": len(lines[0]), "swap": len(lines[0])}[change]
    path.write_bytes(b"".join(lines))
    if rotated:
        path = path.rename(path.with_name("audit.jsonl.000000000001")).with_name("audit.jsonl")
    with pytest.raises(
        ConfigurationError, match=rf"MONITOR_CONTACT_AUDIT: .*audit.jsonl.* is damaged at byte {offset}: "
    ):
        await file_log(path).open()
    assert not list(path.parent.glob("*.torn.*"))


async def test_an_end_that_is_too_long_for_one_write_is_not_torn(path: Path) -> None:
    """A megabyte of rubbish was not left by a crash."""
    path.write_bytes((await _image(path)).rstrip(b"\0") + b"x" * 2**20)
    with pytest.raises(ConfigurationError, match="is damaged at byte"):
        await file_log(path).open()


async def test_a_chain_whose_closed_files_were_moved_away_goes_on(path: Path) -> None:
    """Operators ship and delete closed files."""
    async with writing(path, rotate_bytes=2000) as log:
        for _ in range(10):
            await log.append(DENIED | {"reason": "x" * 600})
    for file in closed_files(path):
        file.unlink()
    first = read_chain(path)[0].seq
    async with writing(path):
        pass
    assert first > 1
    assert read_chain(path)[-1].seq > first


# --- who may not ------------------------------------------------------------------------------------------------


async def test_a_second_process_is_refused(path: Path) -> None:
    """The file has one writer; once it is closed, another may."""
    async with writing(path):
        with pytest.raises(
            ConfigurationError, match=re.escape(f"MONITOR_CONTACT_AUDIT: another process writes to {path}")
        ):
            await file_log(path).open()
    async with writing(path):
        pass


async def _not_a_file(tmp_path: Path) -> Path:
    (tmp_path / "audit.jsonl").mkdir()
    return tmp_path / "audit.jsonl"


async def _a_pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "audit.jsonl")
    return tmp_path / "audit.jsonl"


async def _under_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "audit.jsonl"


async def _a_link(tmp_path: Path) -> Path:
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "audit.jsonl"


async def _missing_device(_: Path) -> Path:
    return Path("/proc/audit.jsonl")


@pytest.mark.parametrize("place", [_not_a_file, _a_pipe, _under_a_file, _a_link, _missing_device])
async def test_a_place_that_cannot_be_written_is_a_fault_of_the_configuration(tmp_path: Path, place: Any) -> None:
    """Said at the start, with the name of the setting."""
    with pytest.raises(ConfigurationError, match=r"^MONITOR_CONTACT_AUDIT: "):
        await file_log(await place(tmp_path)).open()


async def test_a_closed_log_takes_nothing(path: Path) -> None:
    """Whoever comes after the end is told so."""
    async with writing(path) as log:
        pass
    with pytest.raises(AuditError, match="closed"):
        log.append(DENIED)
