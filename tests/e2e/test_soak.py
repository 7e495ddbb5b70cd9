"""Ten thousand valid and ten thousand random requests: no answer without a reason, nothing wrong sent on, no leak."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import harness
import pytest
from e2e.answers import Answer, Caller, calling, valid
from e2e.processes import serve, simulate, until
from e2e.random_requests import random_messages
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact_service.core.idempotency import MAX_ENTRIES
from monitor_contact_service.core.validation import (
    CLIENT_TOKEN_MAX_CHARACTERS,
    CONTACT_ID_MAX_CHARACTERS,
    INSTANCE_ID_MAX_CHARACTERS,
    USER_ID_MAX_CHARACTERS,
)
from monitor_contact_service.reasons import TABLE
from monitor_contact_service.simulator import Fault, Simulator

VALID_CALLS = 10_000
RANDOM_CALLS = 10_000
WARM_UP_RANDOM_CALLS = 1_000
CHANNELS = 4
CALLS_AT_ONCE = 32
SEED = 20_251
# What malloc and the interpreter keep back after 20,000 calls; a leak of 1 KB a call would be 20 MB.
GROWTH_MAX_MB = 6.0

Ask = Callable[[Caller, Any], Awaitable[Answer]]


class OpenService(NamedTuple):
    """A service in this process, its simulator and a caller."""

    simulator: Simulator
    caller: Caller


@pytest.fixture
async def open_service(simulator: Simulator) -> AsyncIterator[OpenService]:
    """A service in this process in front of a simulator without limits."""
    simulator.switches = simulator.switches.change({"hard_limits": False})
    async with (
        harness.connect_to(simulator.url) as connect,
        harness.serving(connect) as service,
        calling(service.target) as caller,
    ):
        yield OpenService(simulator, caller)


class Holdings(NamedTuple):
    """What a process holds of the machine."""

    rss_mb: float
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> "Holdings":
        """Read it from the system."""
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return cls(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


async def _all(callers: list[Caller], requests: Iterable[Any], ask: Ask) -> list[Answer]:
    """Make all calls, `CALLS_AT_ONCE` at a time, over these callers in turn."""
    source = iter(enumerate(requests))
    answers: list[Answer] = []

    async def work() -> None:
        for number, request in source:
            answers.append(await ask(callers[number % len(callers)], request))

    await asyncio.gather(*(work() for _ in range(CALLS_AT_ONCE)))
    return answers


@asynccontextmanager
async def _callers(target: str) -> AsyncIterator[list[Caller]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(calling(target)) for _ in range(CHANNELS)]


def _ask(caller: Caller, request: Any) -> Awaitable[Answer]:
    return caller.ask(request, timeout=30)


def _ask_briefly(caller: Caller, request: Any) -> Awaitable[Answer]:
    return caller.ask(request, timeout=0.3)


def _ask_raw_briefly(caller: Caller, message: bytes) -> Awaitable[Answer]:
    return caller.ask_raw(message, timeout=0.3)


def _ask_raw(caller: Caller, message: bytes) -> Awaitable[Answer]:
    return caller.ask_raw(message, timeout=30)


_LONGEST = {
    "InstanceId": INSTANCE_ID_MAX_CHARACTERS,
    "ContactId": CONTACT_ID_MAX_CHARACTERS,
    "UserId": USER_ID_MAX_CHARACTERS,
    "ClientToken": CLIENT_TOKEN_MAX_CHARACTERS,
}


def _wrong(body: Any) -> str:
    """Return what is wrong by Connect's own limits with a body that arrived there, or nothing."""
    if set(body) != {*_LONGEST, "AllowedMonitorCapabilities"}:
        return "members"
    for name, longest in _LONGEST.items():
        if not 1 <= len(body[name]) <= longest:
            return f"length of {name}"
        if name != "ClientToken" and (body[name] in {".", ".."} or any(ord(each) < ord(" ") for each in body[name])):
            return f"characters of {name}"
    if body["AllowedMonitorCapabilities"] not in (
        ["SILENT_MONITOR"],
        ["SILENT_MONITOR", "BARGE"],
        ["BARGE", "SILENT_MONITOR"],
    ):
        return "capabilities"
    return ""


@pytest.mark.slow
async def test_twenty_thousand_calls_leave_nothing_behind(tell: Callable[[str], None]) -> None:
    """One process answers them all, each with one reason; memory and descriptors come back to where they were."""
    async with (
        simulate() as simulator,
        serve(simulator.environment) as service,
    ):
        await service.serving()
        await simulator.lift_limits()
        pid = service.running.pid
        idle = Holdings.of(pid)
        async with _callers(service.target) as callers:
            # Everything that is made once has been made after these, and no more successes can be remembered.
            await _all(callers, (valid() for _ in range(MAX_ENTRIES)), _ask)
            await _all(callers, random_messages(WARM_UP_RANDOM_CALLS, SEED - 1), _ask_raw)
            warm = Holdings.of(pid)
            good = await _all(callers, (valid() for _ in range(VALID_CALLS)), _ask)
            odd = await _all(callers, random_messages(RANDOM_CALLS, SEED), _ask_raw)
            busy = Holdings.of(pid)
        # Connections to Connect are thrown away after 15 s without use, but for the two that are kept warm.
        await until(lambda: Holdings.of(pid).descriptors <= idle.descriptors)
        end = Holdings.of(pid)
        outcomes = Counter(answer.reason for answer in odd)
        tell(
            f"RSS {idle.rss_mb:.1f} MB idle, {warm.rss_mb:.1f} warm, {busy.rss_mb:.1f} after the calls, "
            f"{end.rss_mb:.1f} at the end; descriptors {idle.descriptors}, {warm.descriptors}, {busy.descriptors}, "
            f"{end.descriptors}; random requests: {dict(outcomes)}"
        )

        assert Counter(answer.reason for answer in good) == {"OK": VALID_CALLS}
        assert set(outcomes) <= {"OK", *TABLE}, outcomes
        assert outcomes["VALIDATION_FAILED"] > RANDOM_CALLS / 4
        assert outcomes["OK"] > RANDOM_CALLS / 50  # some are right all the same, or the mutations prove nothing
        assert outcomes["INTERNAL"] == 0
        received = await simulator.received()
        assert len(received) >= VALID_CALLS + outcomes["OK"]
        assert Counter(_wrong(call["body"]) for call in received) == {"": len(received)}
        assert [line for line in service.running.err.lines if "unexpected exception" in line] == []
        assert not service.running.has_ended
        assert end.rss_mb - warm.rss_mb < GROWTH_MAX_MB


IDENTIFIERS = st.one_of(st.text(max_size=300), st.sampled_from([".", "..", "a/b", "%2e", "x" * 256, "x" * 257]))
MESSAGES = st.one_of(
    st.binary(max_size=2_000),
    st.builds(
        MonitorContactRequest,
        instance_id=IDENTIFIERS,
        contact_id=IDENTIFIERS,
        user_id=IDENTIFIERS,
        allowed_monitor_capabilities=st.lists(st.integers(-(2**31), 2**31 - 1) | st.sampled_from([1, 2]), max_size=4),
        client_token=st.text(max_size=600),
    ).map(lambda request: request.SerializeToString()),
)


@settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=MESSAGES)
async def test_whatever_is_sent_gets_one_reason(open_service: OpenService, message: bytes) -> None:
    """Any bytes and any field values are answered OK or with exactly one reason, and nothing wrong is sent on."""
    sent_before = len(open_service.simulator.calls())
    answer = await open_service.caller.ask_raw(message)
    assert answer.reason in {"OK", *TABLE} - {"INTERNAL"}
    received = open_service.simulator.calls()[sent_before:]
    assert [_wrong(call.body) for call in received] == ["" for _ in received]
    assert (answer.reason == "VALIDATION_FAILED") == (not received)


async def test_no_task_and_no_connection_is_left(simulator: Simulator) -> None:
    """After calls of every kind of end, cancelled and timed-out ones too, the loop has the tasks that it had before."""
    async with (
        harness.connect_to(simulator.url) as connect,
        harness.serving(connect) as service,
        calling(service.target) as caller,
    ):
        pool: Any = connect._http._exchange
        places = pool.__self__._places
        unused = places._value
        await caller.ask()
        before = Counter(_names(asyncio.all_tasks()))
        for fault in (None, Fault("close"), Fault("hang"), Fault("garbage"), Fault("error", status=503)):
            simulator.clear_faults()
            if fault:
                simulator.inject(fault)
            started = [caller.stub.MonitorContact(valid(), timeout=10) for _ in range(100)]
            await until(lambda: service.admission._in_flight > 0)
            for call in started:
                call.cancel()
            await _all([caller], (valid() for _ in range(100)), _ask_briefly)
            # Briefly too: in an outage, who has time waits for its end.
            await _all([caller], random_messages(100, SEED), _ask_raw_briefly)
        await until(lambda: service.admission._in_flight == 0)
        await until(lambda: places._value == unused)
        await until(lambda: not Counter(_names(asyncio.all_tasks())) - before)


def _names(tasks: Iterable["asyncio.Task[Any]"]) -> Iterator[str]:
    names = (getattr(task.get_coro(), "__qualname__", "") for task in tasks)
    return (name for name in names if name != "RequestHandler.start")  # the simulator's, one for each idle connection
