"""Ten thousand calls that wait in one process: what each costs in memory, and that the next ones use it again."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from e2e.answers import Caller, calling, valid
from e2e.processes import Running, serve, started, until
from monitor_contact_service.simulator import UNLIMITED, Simulator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="MEMORY IS NOT MEASURED: needs Linux's /proc"),
]

WAITING = 10_000
# The service lets 100 calls of a connection run at a time. A few more than can wait are made: one has to be refused.
CONNECTIONS = 120
CALLS_PER_CONNECTION = 86
# The last of 10,000 has its turn after 40 s: there are 20 s to let them all in before deadlines of 60 s bind.
DEADLINE_SECONDS = 60.0
QUOTA: Mapping[str, str] = {
    "MONITOR_CONTACT_QUOTA_RATE": "250",
    "MONITOR_CONTACT_DEFAULT_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
    "MONITOR_CONTACT_QUOTA_BURST": "1",
    "MONITOR_CONTACT_QUEUE_PER_CALLER": str(WAITING),
    "MONITOR_CONTACT_QUEUE_TOTAL": str(WAITING),
    "MONITOR_CONTACT_MAX_IN_FLIGHT": str(2 * WAITING),
    "MONITOR_CONTACT_MAX_CONNECTION_AGE_SECONDS": "600",  # a connection that is asked to end takes no further calls
}
# For what the service adds to gRPC, which itself takes 23 KB for a call that waits in a server that does nothing else
# (measured, grpcio 1.85.1; 22 KB with its minimal stack): no service on it can be below that.
MOST_KB_PER_CALL = 20.0
# From one round to the next; what malloc keeps differs by up to 1 KB a call (measured).
GROWTH_MAX_KB_PER_CALL = 2.0


class Crowd:
    """Calls over all connections at once, until one is refused because no more can wait; who is answered calls again.

    `outcomes` counts the answers.
    """

    def __init__(self, callers: Sequence[Caller]) -> None:
        self.outcomes: Counter[str] = Counter()
        self._full = asyncio.Event()
        self._calls = [asyncio.ensure_future(self._call(each)) for each in callers for _ in range(CALLS_PER_CONNECTION)]

    async def full(self) -> None:
        """Wait until one call is refused: then 10,000 wait."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._full.wait()

    async def leave(self) -> None:
        """Cancel all that wait."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _call(self, caller: Caller) -> None:
        while not self._full.is_set():
            # Without a deadline of its own: all get the service's, in their order. Ten thousand of one caller whose
            # deadlines are out of order cost some milliseconds each to place, which is not the matter here.
            answer = await caller.ask(valid(), timeout=None)
            self.outcomes[answer.reason] += 1
            if answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self._full.set()


@asynccontextmanager
async def _connections(target: str) -> AsyncIterator[list[Caller]]:
    async with AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(calling(target)) for _ in range(CONNECTIONS)]
        for caller in callers:
            await caller.channel.channel_ready()  # it has heard how many calls it may make at a time
        yield callers


async def test_ten_thousand_calls_can_wait_and_the_next_ten_thousand_take_no_more(tell: Callable[[str], None]) -> None:
    """To what gRPC needs for it a call adds less than 20 KB; those that leave are not sent and leak nothing."""
    bare_kb = await _bare_kb()
    async with Simulator() as simulator:
        simulator.set_quota("MonitorContact", UNLIMITED)
        simulator.switches = simulator.switches.change({"hard_limits": False})
        async with serve(simulator.environment, quota=QUOTA) as service, _connections(service.target) as callers:
            await service.serving()
            before_kb = _resident_kb(service.running)
            first_kb, second_kb = [await _round(service.running, callers, simulator) - before_kb for _ in range(2)]
            tell(
                f"{first_kb / WAITING:.1f} KB for each of {WAITING} waiting calls, connections included, of which a "
                f"gRPC server that does nothing takes {bare_kb / WAITING:.1f}; {second_kb / WAITING:.1f} a second time"
            )
    assert (first_kb - bare_kb) / WAITING < MOST_KB_PER_CALL
    assert (second_kb - first_kb) / WAITING < GROWTH_MAX_KB_PER_CALL


async def _round(service: Running, callers: Sequence[Caller], simulator: Simulator) -> float:
    """Let 10,000 calls wait and leave; return the service's memory while they waited."""
    read, sent_before = len(service.err.lines), len(simulator.calls("MonitorContact"))
    crowd = Crowd(callers)
    await crowd.full()
    resident_kb = _resident_kb(service)
    await crowd.leave()
    # What has come to an end is a line of the log each. A few were on their way to Connect or back.
    await until(lambda: _cancelled(service.err.lines[read:]) > WAITING * 0.97)
    sent = len(simulator.calls("MonitorContact")) - sent_before
    assert (await callers[0].ask()).is_ok
    assert len(simulator.calls("MonitorContact")) - sent_before - sent < WAITING * 0.03
    # gRPC refuses some unsent (REFUSED_STREAM, 7) while the loop is busy; every client with a retry policy repeats
    # those; it cancels none.
    answered = crowd.outcomes["OK"] + crowd.outcomes["OVERLOADED"]
    refused = sum(count for said, count in crowd.outcomes.items() if "error code 7" in said)
    assert crowd.outcomes.total() - answered - refused < WAITING * 0.01, crowd.outcomes
    # Between leaving and the service's knowing of it some have their turn.
    assert sent - crowd.outcomes["OK"] < WAITING * 0.05
    return resident_kb


async def _bare_kb() -> float:
    """Return what all the calls take together while they wait in a gRPC server that does nothing else."""
    script = str(Path(__file__).with_name("bare_server.py"))
    async with started(script, environment={}, program=sys.executable) as server:
        target = await server.out.find(lambda line: line.startswith("127.0.0.1:"))
        before_kb = _resident_kb(server)
        async with _connections(target) as callers:
            crowd = Crowd(callers)
            await crowd.full()
            resident_kb = _resident_kb(server)
            await crowd.leave()
    return resident_kb - before_kb


def _resident_kb(process: Running) -> float:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1000


def _cancelled(log: Sequence[str]) -> int:
    return sum('"code": "CANCELLED"' in line for line in log)
