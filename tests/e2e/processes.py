"""The project's own commands as processes: start them, follow what they say, signal and end them by process id.

Every wait is for a line, an answer or an end, with a deadline; what was said so far stands in the error.
"""

import asyncio
import json
import os
import random
import socket
import sysconfig
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

COMMAND = Path(sysconfig.get_path("scripts")) / "monitor-contact"
# Starting takes about 1.5 s on an idle machine; seven busy neighbours make it many times that.
WITHIN_SECONDS = 60.0
SERVICE = "monitor_contact.v1.MonitorContactService"

# Nothing of the machine's own AWS configuration, and no search for an instance role.
BARE_ENVIRONMENT: Mapping[str, str] = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}
UNLIMITED = {"rate": 1e9, "burst": 1e9}
# A quota that no test uses up, for tests of everything but the pace.
UNPACED: Mapping[str, str] = {"MONITOR_CONTACT_QUOTA_RATE": "50000", "MONITOR_CONTACT_QUOTA_BURST": "50000"}

Line = dict[str, Any]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds. For what nobody reports: it is asked again and again."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)  # not a wait: asks again until the condition holds


class Output:
    """The lines of one stream, as they come."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self.lines: list[str] = []
        self._changed = asyncio.Event()
        self._over = False
        self._reader = asyncio.ensure_future(self._read(stream))

    async def find(self, wanted: Callable[[str], bool], *, since: int = 0) -> str:
        """Return the first line from number `since` on that is wanted, as soon as it is there."""
        position = since
        async with asyncio.timeout(WITHIN_SECONDS):
            while True:
                for line in self.lines[position:]:
                    if wanted(line):
                        return line
                position = len(self.lines)
                assert not self._over, f"the output ended without the line: {self.text()}"
                changed = self._changed
                if position == len(self.lines):
                    await changed.wait()

    async def all(self) -> list[str]:
        """Return every line, once the stream has ended."""
        await self._reader
        return self.lines

    def text(self) -> str:
        """Return what was said so far."""
        return "\n".join(self.lines)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.lines.append(line.decode().rstrip("\n"))
            self._wake()
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Running:
    """A command that was started. `out` and `err` are its outputs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self.pid = process.pid
        self.out = Output(process.stdout)
        self.err = Output(process.stderr)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.returncode is not None

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    async def ended(self, within_seconds: float = WITHIN_SECONDS) -> int:
        """Return the exit code, once the process has ended and all its output is read."""
        async with asyncio.timeout(within_seconds):
            exit_code = await self._process.wait()
            await self.out.all()
            await self.err.all()
        return exit_code

    async def logged(self, event: str, *, since: int = 0, **fields: object) -> Line:
        """Return the first line of the JSON log with this event and these fields, from line number `since` on."""

        def wanted(line: str) -> bool:
            entry = _entry(line)
            return entry.get("event") == event and all(entry.get(key) == value for key, value in fields.items())

        return _entry(await self.err.find(wanted, since=since))

    def log(self, event: str) -> list[Line]:
        """Return the lines of the JSON log with this event that were written so far."""
        return [entry for entry in map(_entry, self.err.lines) if entry.get("event") == event]

    async def kill(self) -> None:
        """End the process at once, if it still runs."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self.ended()


def _entry(line: str) -> Line:
    if not line.startswith("{"):
        return {}
    entry: Line = json.loads(line)
    return entry


@asynccontextmanager
async def started(
    *arguments: str, environment: Mapping[str, str], program: str | Path = COMMAND
) -> AsyncIterator[Running]:
    """Yield the command (ours, unless `program` says another), started; it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        env={**BARE_ENVIRONMENT, **environment},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    running = Running(process)
    try:
        yield running
    finally:
        await running.kill()


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has run to its end."""

    exit_code: int
    out: str
    err: str


async def run(*arguments: str, environment: Mapping[str, str] | None = None, program: str | Path = COMMAND) -> Ended:
    """Run the command (ours, unless `program` says another) to its end."""
    async with started(*arguments, environment=environment or {}, program=program) as running:
        exit_code = await running.ended()
        return Ended(exit_code, running.out.text(), running.err.text())


class ServiceProcess:
    """`monitor-contact serve`, listening. `target` is its host:port."""

    def __init__(self, running: Running, target: str) -> None:
        self.running = running
        self.target = target

    async def serving(self, *, since: int = 0) -> None:
        """Wait until its log says that it is SERVING."""
        await self.running.logged("health", since=since, status="SERVING", names=["", "readiness", SERVICE])


@asynccontextmanager
async def serve(
    environment: Mapping[str, str], *, listen: str = "127.0.0.1:0", quota: Mapping[str, str] = UNPACED
) -> AsyncIterator[ServiceProcess]:
    """Yield the service, listening; whether it is SERVING is not waited for.

    Unless told it does not drain or pace, asks nothing about supervisors, and keeps its records in a folder of its own.
    """
    with TemporaryDirectory(prefix="monitor-contact-audit-") as folder:
        settings = {
            "MONITOR_CONTACT_LISTEN": listen,
            "MONITOR_CONTACT_DRAIN_SECONDS": "0",
            "MONITOR_CONTACT_SUPERVISOR_CHECK": "off",
            "MONITOR_CONTACT_AUDIT": f"{folder}/audit.jsonl",
            **quota,
            **environment,
        }
        async with started("serve", environment=settings) as running:
            listening = await running.logged("listening")
            yield ServiceProcess(running, listening["address"])


class SimulatorProcess:
    """`monitor-contact simulate`, listening: where it is, and its control API."""

    def __init__(self, running: Running, environment: Mapping[str, str]) -> None:
        self.running = running
        self.environment = environment
        self.url = environment["AWS_ENDPOINT_URL_CONNECT"]

    async def control(self, method: str, name: str, document: object = None) -> Any:
        """Ask the control API, and return the simulator's state."""
        async with aiohttp.request(method, f"{self.url}/_simulator/{name}", json=document) as response:
            state = await response.json()
            assert response.status == 200, state
            return state

    async def set_faults(self, *faults: Mapping[str, object]) -> None:
        """Put these faults, as in docs/simulator.md, in place of those in force."""
        await self.control("PUT", "faults", list(faults))

    async def set_latency(self, seconds: float) -> None:
        """Let every call take this long."""
        await self.control("PUT", "switches", {"latency_seconds": seconds})

    async def lift_limits(self) -> None:
        """Take away the request quota and the limits on sessions."""
        await self.control("PUT", "quota", UNLIMITED)
        await self.control("PUT", "switches", {"hard_limits": False})

    async def calls(self) -> int:
        """Return how many MonitorContact calls have arrived."""
        state = await self.control("GET", "state")
        return int(state["calls"].get("MonitorContact", 0))

    async def received(self) -> list[dict[str, Any]]:
        """Return the MonitorContact calls that have arrived, oldest first."""
        state = await self.control("GET", "state")
        calls: list[dict[str, Any]] = state["monitor_contacts"]
        return calls


@asynccontextmanager
async def simulate(listen: str = "127.0.0.1:0", *options: str) -> AsyncIterator[SimulatorProcess]:
    """Yield the simulator's process, listening, with its quota and limits."""
    async with started("simulate", "--listen", listen, *options, environment={}) as running:
        await running.out.find(lambda line: line.startswith("export AWS_SECRET_ACCESS_KEY="))
        exports = (line.removeprefix("export ").partition("=") for line in running.out.lines if "export " in line)
        yield SimulatorProcess(running, {name: value for name, _, value in exports})


def free_port() -> int:
    """Return a port of loopback that nobody listens on, below those that outgoing connections get (Linux: 32768)."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port between 20000 and 32000")
