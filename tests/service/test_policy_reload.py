"""`policy_reload`: new content is used whole and after its tests, or the old policies stay."""

import asyncio
import logging
import threading
from pathlib import Path
from typing import ClassVar

import policy_oracle as oracle
import pytest
from monitor_contact_service.core.command import Capability
from monitor_contact_service.core.policy import Policies
from monitor_contact_service.policy_files import PolicyContent, load_policies
from monitor_contact_service.policy_reload import POLL_SECONDS, PolicyReload

_OPEN = '@id("open") permit (principal, action, resource);\n'
_CLOSED = _OPEN + '@id("closed") forbid (principal, action, resource);\n'
_EXPECTS_ALLOW = '[[cases]]\nname = "open"\nexpect = "allow"\n'


class _Rig:
    """A policy file that is followed, and what came of it."""

    def __init__(self, folder: Path, text: str = _OPEN) -> None:
        self.file = folder / "policy.cedar"
        self.tests = folder / "policy.cedartest.toml"
        self.file.write_text(text)
        loaded = load_policies(str(self.file))
        self.policies = loaded.policies
        self.changes: list[tuple[str, bool]] = []
        self.reload = PolicyReload(str(self.file), loaded, use=self._use)
        self.reload.on_change = lambda sha256, accepted: self.changes.append((sha256, accepted))

    def _use(self, policies: Policies) -> None:
        self.policies = policies

    @property
    def allows(self) -> bool:
        """Whether the policies in use permit an unremarkable call."""
        return self.policies.decide(oracle.question(), (Capability.SILENT_MONITOR,)).allowed

    async def poll_twice(self) -> None:
        """Look until content counts."""
        await self.reload.poll()
        await self.reload.poll()


async def test_unchanged_content_changes_nothing(tmp_path: Path) -> None:
    """Neither looking nor asking reads the same policies again."""
    rig = _Rig(tmp_path)
    before = rig.policies
    await rig.poll_twice()
    await rig.reload.reload()

    assert rig.policies is before
    assert rig.changes == []


async def test_content_counts_when_it_was_seen_twice(tmp_path: Path) -> None:
    """Half a file that is being written is valid here, but lacks its forbids: it is never used."""
    rig = _Rig(tmp_path, _CLOSED)
    rig.file.write_text(_OPEN)
    await rig.reload.poll()
    assert not rig.allows
    rig.file.write_text(_CLOSED + "\n")
    await rig.reload.poll()
    assert rig.changes == []
    await rig.reload.poll()

    assert not rig.allows
    assert rig.changes == [(rig.policies.sha256, True)]


async def test_what_was_undone_was_never_there(tmp_path: Path) -> None:
    """Content that is back to what is used is no change."""
    rig = _Rig(tmp_path)
    rig.file.write_text(_CLOSED)
    await rig.reload.poll()
    rig.file.write_text(_OPEN)
    await rig.poll_twice()

    assert rig.changes == []


async def test_who_asks_for_it_need_not_wait(tmp_path: Path) -> None:
    """SIGHUP says that the file is whole."""
    rig = _Rig(tmp_path)
    rig.file.write_text(_CLOSED)
    await rig.reload.reload()

    assert not rig.allows
    assert rig.changes == [(load_policies(str(rig.file)).policies.sha256, True)]


@pytest.mark.parametrize(
    "bad",
    [
        "permit (principal, action, resource);",
        f"{_CLOSED}permit (",
        '@id("typo") permit (principal, action, resource) when { context.nothing };',
        "\udcff",
        '@id("deep") permit (principal, action, resource) when { ' + "(" * 90_000,
    ],
)
async def test_bad_content_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str) -> None:
    """The old policies hold, the log says so once, and the callback gets the sha256 of what was rejected."""
    rig = _Rig(tmp_path)
    before = rig.policies
    rig.file.write_bytes(bad.encode(errors="surrogateescape"))
    for _ in range(4):
        await rig.reload.poll()
    await rig.reload.reload()

    assert rig.policies is before
    ((sha256, accepted),) = rig.changes
    assert not accepted
    assert len(sha256) == 64
    assert sha256 != before.sha256
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.message == "policies not reloaded: the old ones hold"
    assert record.__dict__["fields"]["problems"][0].startswith(str(rig.file))


async def test_good_content_after_bad_is_used(tmp_path: Path) -> None:
    """Also if it is what was used all the time: the callback hears that all is well again."""
    rig = _Rig(tmp_path)
    rig.file.write_text("permit")
    await rig.poll_twice()
    rig.file.write_text(_OPEN)
    await rig.poll_twice()
    rig.file.write_text(_CLOSED)
    await rig.poll_twice()

    assert [accepted for _, accepted in rig.changes] == [False, True, True]
    assert not rig.allows


async def test_a_table_that_does_not_hold_rejects_the_file(tmp_path: Path) -> None:
    """The tests beside the file run first; mending either of them is a change."""
    rig = _Rig(tmp_path)
    rig.tests.write_text(_EXPECTS_ALLOW)
    await rig.poll_twice()
    rig.file.write_text(_CLOSED)
    await rig.poll_twice()
    assert rig.allows
    rig.tests.write_text(_EXPECTS_ALLOW.replace("allow", "deny"))
    await rig.poll_twice()

    assert [accepted for _, accepted in rig.changes] == [True, False, True]
    assert not rig.allows


async def test_a_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """It has no sha256; when it is back, it is used."""
    rig = _Rig(tmp_path)
    rig.file.unlink()
    await rig.poll_twice()
    await rig.poll_twice()
    assert rig.allows
    assert rig.changes == [("", False)]
    rig.file.write_text(_CLOSED)
    await rig.poll_twice()

    assert not rig.allows


async def test_a_swapped_link_is_a_change(tmp_path: Path) -> None:
    """Mounted configuration changes by a link of a folder above the file."""
    for name, text in (("one", _OPEN), ("two", _CLOSED)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.cedar").write_text(text)
    (tmp_path / "data").symlink_to("one")
    path = str(tmp_path / "data" / "policy.cedar")
    used: list[Policies] = []
    reload = PolicyReload(path, load_policies(path), use=used.append)
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "data")
    await reload.poll()
    await reload.poll()

    assert [policies.ids for policies in used] == [("open", "closed")]


async def test_a_fault_of_ours_does_not_end_the_following(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong with a file, such as tests nested too deep to be read, the old policies hold."""
    rig = _Rig(tmp_path)
    rig.tests.write_text("a = " + "[" * 100_000)
    await rig.reload.reload()

    assert rig.allows
    assert [accepted for _, accepted in rig.changes] == [False]
    assert any(record.exc_info for record in caplog.records)


class _Watched(bytes):
    """The content of a file that tells which thread read it."""

    readers: ClassVar[list[int]] = []

    def decode(self, *_: str, **__: str) -> str:
        """Note the thread."""
        self.readers.append(threading.get_ident())
        return super().decode()


class _WatchedReload(PolicyReload):
    """A reload of such content."""

    def _look(self) -> PolicyContent:
        return PolicyContent(_Watched(_CLOSED.encode()), None)


async def test_policies_are_compiled_beside_the_event_loop(tmp_path: Path) -> None:
    """Calls go on while a file is read, and are decided by the old policies until the new ones are complete."""
    rig = _Rig(tmp_path)
    users: list[int] = []
    reload = _WatchedReload("p", load_policies(str(rig.file)), use=lambda _: users.append(threading.get_ident()))
    await reload.reload()

    assert _Watched.readers
    assert threading.get_ident() not in _Watched.readers
    assert users == [threading.get_ident()]


async def test_the_file_is_followed_for_ever(tmp_path: Path) -> None:
    """Every two seconds it is looked at."""
    rig = _Rig(tmp_path)
    rig.file.write_text(_CLOSED)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await rig.reload.keep_fresh(sleep)

    assert slept == [POLL_SECONDS] * 4
    assert not rig.allows
