"""`http1.pool`: which connection a request takes, and who waits; over connections that do what the test says."""

import asyncio
from dataclasses import dataclass, field

import pytest
from fakes import FakeClock
from monitor_contact_service.core.wire import Answer
from monitor_contact_service.http1 import LostError, NotConnectedError, Pool, pool
from monitor_contact_service.http1.connection import Connection

pytestmark = pytest.mark.asyncio(loop_scope="function")

ANSWER = Answer(200, {}, b"{}")


class FakeConnection(Connection):
    """Answers when told, by `outcome`; whoever leaves before closes it."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges = 0
        self.timeout_seconds = 0.0
        self.outcome: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    async def exchange(self, request: bytes, timeout_seconds: float) -> Answer:
        """Wait for the outcome."""
        del request
        self.exchanges += 1
        self.timeout_seconds = timeout_seconds
        self.outcome = asyncio.get_running_loop().create_future()
        try:
            return await self.outcome
        except BaseException:
            self.close()
            raise


@dataclass
class Rig:
    """A pool, whose connections are opened at once unless `may_open` is cleared; the next one fails with `failure`."""

    max_connections: int = 10
    clock: FakeClock = field(default_factory=FakeClock)
    opened: list[FakeConnection] = field(default_factory=list)
    opening: int = 0
    connect_seconds: float = 0.0
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.pool = Pool(self._connect, max_connections=self.max_connections, clock=self.clock)

    async def _connect(self) -> Connection:
        self.opening += 1
        await self.may_open.wait()
        self.clock.advance(self.connect_seconds)
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        self.opened.append(FakeConnection())
        return self.opened[-1]

    async def ask(self, timeout_seconds: float = 5.0) -> "asyncio.Task[Answer]":
        """Begin an exchange and return when it waits for something."""
        task = asyncio.ensure_future(self.pool.exchange(b"", timeout_seconds))
        await turns()
        return task

    async def end(self, *tasks: "asyncio.Task[Answer]") -> None:
        """Cancel what is left."""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def turns() -> None:
    """Let everything happen that needs no more than the loop."""
    for _ in range(10):
        await asyncio.sleep(0)


# ---- Which connection ------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again() -> None:
    """Requests in turn share one."""
    rig = Rig()
    for exchanges in range(1, 4):
        task = await rig.ask()
        rig.opened[0].outcome.set_result(ANSWER)
        assert await task is ANSWER
        assert (len(rig.opened), rig.opened[0].exchanges) == (1, exchanges)


async def test_the_one_used_last_is_used_first() -> None:
    """So that those which are not needed grow old."""
    rig = Rig()
    tasks = [await rig.ask() for _ in range(3)]
    for index in (1, 2, 0):
        rig.opened[index].outcome.set_result(ANSWER)
        await tasks[index]
    again = [await rig.ask() for _ in range(2)]
    assert [connection.exchanges for connection in rig.opened] == [2, 1, 2]
    await rig.end(*again)


async def test_a_closed_one_is_not_used() -> None:
    """However it came to that: another idle one is, or a new one."""
    rig = Rig()
    tasks = [await rig.ask() for _ in range(2)]
    for connection in rig.opened:
        connection.outcome.set_result(ANSWER)
    await asyncio.wait(tasks)
    rig.opened[1].close()
    tasks = [await rig.ask() for _ in range(2)]
    assert [connection.exchanges for connection in rig.opened] == [2, 1, 1]
    await rig.end(*tasks)


@pytest.mark.parametrize(("idle_seconds", "kept"), [(14.99, True), (15.0, False), (1000.0, False)])
async def test_one_that_was_idle_for_15_seconds_is_thrown_away(idle_seconds: float, *, kept: bool) -> None:
    """Before the other side does it; the next request opens a new one."""
    rig = Rig()
    task = await rig.ask()
    rig.clock.advance(60)  # of work, which do not count
    rig.opened[0].outcome.set_result(ANSWER)
    await task
    rig.clock.advance(idle_seconds)
    task = await rig.ask()
    assert rig.opened[0].closed is not kept
    assert len(rig.opened) == (1 if kept else 2)
    await rig.end(task)


async def test_those_that_grow_old_go_while_others_are_used() -> None:
    """Each by its own time, although nobody asks for it."""
    rig = Rig()
    tasks = [await rig.ask() for _ in range(3)]
    for connection, task in zip(rig.opened, tasks, strict=True):
        connection.outcome.set_result(ANSWER)
        await task
        rig.clock.advance(5)
    task = await rig.ask()  # 15, 10 and 5 s after they became idle
    assert [connection.closed for connection in rig.opened] == [True, False, False]
    assert rig.opened[2].exchanges == 2
    await rig.end(task)


# ---- How many --------------------------------------------------------------------------------------------------------


async def test_no_more_than_the_limit_are_open() -> None:
    """Further requests wait, in turn, for a connection that becomes free, or for the place of one that is closed."""
    rig = Rig(max_connections=2)
    tasks = [await rig.ask() for _ in range(4)]
    assert rig.opening == 2
    rig.opened[1].outcome.set_result(ANSWER)
    await turns()
    assert [task.done() for task in tasks] == [False, True, False, False]
    assert [connection.exchanges for connection in rig.opened] == [1, 2]
    await rig.end(tasks[0])
    await turns()
    assert [connection.exchanges for connection in rig.opened] == [1, 2, 1]
    await rig.end(*tasks)


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    """A connection that has just become free is the first waiting request's."""
    rig = Rig(max_connections=1)
    first, second = await rig.ask(), await rig.ask()
    rig.opened[0].outcome.set_result(ANSWER)
    third = asyncio.ensure_future(rig.pool.exchange(b"", 5))  # begins in the turn in which the first one ends
    await turns()
    rig.opened[0].outcome.set_result(ANSWER)
    await turns()
    assert [task.done() for task in (first, second, third)] == [True, True, False]
    await rig.end(third)


@pytest.mark.parametrize("how", ["fails", "is cancelled", "cannot connect"])
async def test_the_next_one_goes_on_when_one(how: str) -> None:
    """Its place is free again, whatever ended it."""
    rig = Rig(max_connections=1)
    if how == "cannot connect":
        rig.may_open.clear()
        rig.failure = NotConnectedError("no")
    first, second = await rig.ask(), await rig.ask()
    if how == "fails":
        rig.opened[0].outcome.set_exception(LostError("lost"))
    elif how == "is cancelled":
        first.cancel()
    rig.may_open.set()
    await turns()
    assert [first.done(), second.done()] == [True, False]
    assert (rig.opening, rig.opened[-1].exchanges) == (2, 1)
    await rig.end(first, second)


async def test_one_who_gives_up_waiting_takes_no_place() -> None:
    """Neither by its own time nor by cancellation: who comes after it is served."""
    rig = Rig(max_connections=1)
    first, cancelled = await rig.ask(), await rig.ask()
    cancelled.cancel()
    with pytest.raises(NotConnectedError, match=r"TimeoutError: no connection within 0\.010 s"):
        await rig.pool.exchange(b"", 0.01)
    last = await rig.ask()
    rig.opened[0].outcome.set_result(ANSWER)
    await turns()
    assert [task.done() for task in (first, cancelled, last)] == [True, True, False]
    assert (rig.opening, rig.opened[0].exchanges) == (1, 2)
    await rig.end(last)


# ---- Time ------------------------------------------------------------------------------------------------------------


async def test_connecting_counts_towards_the_time_out() -> None:
    """The exchange has what is left; on an idle connection, all of it."""
    rig = Rig(connect_seconds=0.3)
    task = await rig.ask(timeout_seconds=2.0)
    assert rig.opened[0].timeout_seconds == pytest.approx(1.7)
    rig.opened[0].outcome.set_result(ANSWER)
    await task
    task = await rig.ask(timeout_seconds=2.0)
    assert rig.opened[0].timeout_seconds == 2.0
    await rig.end(task)


async def test_a_connection_that_does_not_come_is_given_up() -> None:
    """Nothing was sent; its place is free for the next request."""
    rig = Rig(max_connections=1)
    rig.may_open.clear()
    for _ in range(2):
        with pytest.raises(NotConnectedError, match="TimeoutError"):
            await rig.pool.exchange(b"", 0.01)
    assert rig.opening == 2


async def test_connecting_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the answer may take: what does not connect in a second will not."""
    assert pool.CONNECT_TIMEOUT_SECONDS == 1.0
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT_SECONDS", 0.01)
    rig = Rig()
    rig.may_open.clear()
    with pytest.raises(NotConnectedError, match=r"within 0\.010 s"):
        await rig.pool.exchange(b"", 1000)


# ---- The end ---------------------------------------------------------------------------------------------------------


async def test_nothing_stays_open_behind_the_pool() -> None:
    """Idle connections are closed with it, those in use when their exchange ends."""
    rig = Rig()
    async with rig.pool:
        tasks = [await rig.ask() for _ in range(2)]
        rig.opened[0].outcome.set_result(ANSWER)
        await tasks[0]
    assert [connection.closed for connection in rig.opened] == [True, False]
    rig.opened[1].outcome.set_result(ANSWER)
    assert await tasks[1] is ANSWER
    assert rig.opened[1].closed
