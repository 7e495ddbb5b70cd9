"""SIGHUP: the settings file is read again; what can change without a restart changes, with a bad file nothing does."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from e2e.answers import Answer, Caller, calling
from e2e.processes import Line, ServiceProcess, serve
from monitor_contact_service.simulator import Quota, Simulator

# The one token of the start, then none for 51 s: longer than any test here lasts.
SLOW = {"QUOTA_RATE": "0.02", "QUOTA_BURST": "1"}
FAST = {"QUOTA_RATE": "50", "QUOTA_BURST": "50"}
AT_ONCE_SECONDS = 30.0


class Configured(NamedTuple):
    """A service with a settings file, and a caller."""

    file: Path
    service: ServiceProcess
    caller: Caller

    def write(self, settings: Mapping[str, str]) -> None:
        """Put these settings, named without their prefix, in the file in place of what was there."""
        lines = [f"MONITOR_CONTACT_{name}={value}\n" for name, value in settings.items()]
        self.file.write_text("".join(lines), encoding="utf-8")

    async def hang_up(self, event: str) -> Line:
        """Send SIGHUP and return the line that the service logs of it, which must be this event."""
        since = len(self.service.running.err.lines)
        self.service.running.signal(signal.SIGHUP)
        return await self.service.running.logged(event, since=since)

    async def reload(self, settings: Mapping[str, str]) -> Line:
        """Write these settings, have them read, and return the log line."""
        self.write(settings)
        return await self.hang_up("settings reloaded")


@asynccontextmanager
async def _configured(simulator: Simulator, folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Configured]:
    """Yield a service that has its quota from a file."""
    simulator.switches = simulator.switches.change({"hard_limits": False})
    file = folder / "settings"
    environment = {**simulator.environment, "MONITOR_CONTACT_SETTINGS_FILE": str(file)}
    file.write_text("".join(f"MONITOR_CONTACT_{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
    async with serve(environment, quota={}) as service, calling(service.target) as caller:
        await service.serving()
        yield Configured(file, service, caller)


def _limit(answer: Answer) -> Any:
    """Return which limit an OVERLOADED call has met."""
    assert answer.reason == "OVERLOADED", answer
    metadata: Any = answer.details["ErrorInfo"]["metadata"]
    return metadata["limit_name"]


async def test_a_raised_quota_holds_from_the_next_token_on(simulator: Simulator, tmp_path: Path) -> None:
    """What was refused at the old pace is served at the new one, and what waited does not wait any longer."""
    async with _configured(simulator, tmp_path, SLOW) as configured:
        caller = configured.caller
        assert (await caller.ask()).is_ok
        waiting = asyncio.ensure_future(caller.ask(timeout=60))
        assert _limit(await caller.ask(timeout=10)) == "quota_wait_ms"
        line = await configured.reload(FAST)
        assert (line["level"], line["rate"], line["burst"], line["needs_restart"]) == ("info", 50, 50, [])
        async with asyncio.timeout(AT_ONCE_SECONDS):
            assert (await waiting).is_ok
            answers = await asyncio.gather(*(caller.ask() for _ in range(20)))
        assert {answer.reason for answer in answers} == {"OK"}
        assert len(simulator.calls("MonitorContact")) == 22


async def test_a_lowered_quota_is_kept_to(simulator: Simulator, tmp_path: Path) -> None:
    """Connect allows 4/s, burst 2, and refuses nothing although ten calls come at once: none is sent twice."""
    async with _configured(simulator, tmp_path, FAST) as configured:
        assert (await configured.caller.ask()).is_ok
        await configured.reload({"QUOTA_RATE": "4", "QUOTA_BURST": "2"})
        simulator.set_quota("MonitorContact", Quota(rate=4, burst=2))
        answers = await asyncio.gather(*(configured.caller.ask() for _ in range(10)))
        assert {answer.reason for answer in answers} == {"OK"}
        assert len(simulator.calls("MonitorContact")) == 11


async def test_limits_of_the_queue_change_too(simulator: Simulator, tmp_path: Path) -> None:
    """Who waits stays; the next one meets the new limit."""
    slow = {"QUOTA_RATE": "0.05", "QUOTA_BURST": "1"}
    async with _configured(simulator, tmp_path, slow) as configured:
        assert (await configured.caller.ask()).is_ok
        waiting = asyncio.ensure_future(configured.caller.ask(timeout=60))
        assert _limit(await configured.caller.ask(timeout=10)) == "quota_wait_ms"
        await configured.reload({**slow, "QUEUE_TOTAL": "1"})
        assert _limit(await configured.caller.ask(timeout=60)) == "queue_total"
        assert not waiting.done()
        await configured.reload(FAST)
        assert (await waiting).is_ok


async def test_what_needs_a_restart_is_named(simulator: Simulator, tmp_path: Path) -> None:
    """The rest takes effect; the operator reads which changes do not."""
    async with _configured(simulator, tmp_path, SLOW) as configured:
        line = await configured.reload({**FAST, "LOG_LEVEL": "warning", "DRAIN_SECONDS": "7", "WEIGHTS": "qa=2"})
        # The environment of the process sets the drain, so the file does not change it.
        assert line["needs_restart"] == ["MONITOR_CONTACT_LOG_LEVEL"]
        assert {(await configured.caller.ask()).reason for _ in range(5)} == {"OK"}


async def test_the_hash_of_the_settings_is_of_those_in_force(simulator: Simulator, tmp_path: Path) -> None:
    """It changes with what a signal changes, back too, and not with what waits for a restart."""
    metrics = {"METRICS_LISTEN": "127.0.0.1:0"}
    async with _configured(simulator, tmp_path, {**SLOW, **metrics}) as configured:
        served = await configured.service.running.logged("metrics served")

        async def config_sha256() -> str:
            async with aiohttp.request("GET", f"http://{served['address']}/metrics") as response:
                (sha256,) = re.findall(r'config_info\{sha256="(\w+)"\}', await response.text())
                return str(sha256)

        at_start = await config_sha256()
        await configured.reload({**FAST, **metrics})
        assert (fast := await config_sha256()) != at_start
        line = await configured.reload({**FAST, **metrics, "LOG_LEVEL": "warning"})
        assert line["needs_restart"] == ["MONITOR_CONTACT_LOG_LEVEL"]
        assert await config_sha256() == fast
        await configured.reload({**SLOW, **metrics})
        assert await config_sha256() == at_start


async def test_with_a_bad_access_file_the_old_one_holds(simulator: Simulator, tmp_path: Path) -> None:
    """That is a warning, as with every file: calls go on as before."""
    access = tmp_path / "access.toml"
    access.write_text('[callers.anonymous]\nroles = ["demo"]\n', encoding="utf-8")
    async with _configured(simulator, tmp_path, {**FAST, "ACCESS_FILE": str(access)}) as configured:
        access.write_text("[callers.nobody]\n[callers.somebody]\n", encoding="utf-8")
        line = await configured.hang_up("access file not reloaded: the old one holds")
        assert line["level"] == "warning"
        assert [problem.split(": ")[1] for problem in line["problems"]] == ["callers.'nobody'", "callers.'somebody'"]
        assert (await configured.caller.ask()).is_ok


@pytest.mark.parametrize("kind", ["wrong values", "gone"])
async def test_with_a_bad_file_the_old_settings_hold(simulator: Simulator, tmp_path: Path, kind: str) -> None:
    """Every problem is logged, nothing changes, and the next good file is read."""
    async with _configured(simulator, tmp_path, FAST) as configured:
        if kind == "gone":
            configured.file.unlink()
            expected = [f"MONITOR_CONTACT_SETTINGS_FILE: {configured.file}: "]
        else:
            configured.write({"QUOTA_RATE": "0", "QUOTA_BURST": "nan", "QUEUE_TOTAL": "1", "WEIGHT": "qa=2"})
            expected = [f"MONITOR_CONTACT_{name}: " for name in ("WEIGHT", "QUOTA_RATE", "QUOTA_BURST")]
        line = await configured.hang_up("settings not reloaded: the old ones hold")
        assert line["level"] == "warning"
        assert len(line["problems"]) == len(expected)
        for problem, beginning in zip(line["problems"], expected, strict=True):
            assert problem.startswith(beginning)
        answers = await asyncio.gather(*(configured.caller.ask() for _ in range(20)))
        assert {answer.reason for answer in answers} == {"OK"}
        await configured.reload({"QUOTA_RATE": "40", "QUOTA_BURST": "50"})
