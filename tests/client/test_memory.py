"""Calls that end without an answer leave no memory behind. The server is another process."""

import asyncio
import contextlib
import gc
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from monitor_contact_client import AsyncMonitorContactClient, DeadlineExceeded, MonitorContactClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="MEMORY IS NOT MEASURED: needs Linux's /proc"),
]


@pytest.fixture(scope="module")
def silent_target() -> Iterator[str]:
    """Run a server that never answers, in a process of its own; give its target."""
    script = Path(__file__).with_name("silent_server.py")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def resident_kib() -> int:
    """Return this process's resident memory in KiB."""
    gc.collect()
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


async def growth_kib(calls: int, at_once: int, call: Callable[[], Awaitable[None]]) -> int:
    """Warm up with 2,000 calls, then make the calls; return by how many KiB this process has grown."""

    async def batches(number: int) -> None:
        for _ in range(number // at_once):
            await asyncio.gather(*(call() for _ in range(at_once)))

    await batches(2_000)
    before = resident_kib()
    await batches(calls)
    return resident_kib() - before


async def test_20000_asyncio_calls_cut_by_their_deadline(silent_target: str) -> None:
    """`timeout_seconds` is the way to give up on a call: it leaks nothing."""
    async with AsyncMonitorContactClient(silent_target) as client:

        async def call() -> None:
            with pytest.raises(DeadlineExceeded):
                await client.monitor_contact(instance_id="i", contact_id="c", user_id="u", timeout_seconds=0.005)

        grown = await growth_kib(20_000, 50, call)
    assert grown < 2 * 1024


async def test_5000_blocking_calls_cut_by_their_deadline(silent_target: str) -> None:
    """The same for the blocking client."""
    with MonitorContactClient(silent_target) as client:

        def cut() -> None:
            with pytest.raises(DeadlineExceeded):
                client.monitor_contact(instance_id="i", contact_id="c", user_id="u", timeout_seconds=0.005)

        grown = await growth_kib(5_000, 10, lambda: asyncio.to_thread(cut))
    assert grown < 2 * 1024


async def test_5000_cancelled_tasks_cost_what_grpc_costs(silent_target: str) -> None:
    """A cancelled task costs about 1 KiB in grpc.aio itself (grpc/grpc#43360, a bare stub's too); no more here."""
    async with AsyncMonitorContactClient(silent_target) as client:

        async def call() -> None:
            task = asyncio.create_task(client.monitor_contact(instance_id="i", contact_id="c", user_id="u"))
            await asyncio.sleep(0.003)  # not a wait: calls that are cancelled under way are the subject
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        grown = await growth_kib(5_000, 1, call)
    assert grown < 2.5 * 5_000
