"""`shared_quota`, `reservations`, `redis_script`: one quota for several replicas, over a real Redis."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Self

import pytest
from fakes import FakeClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.pacing import CUT, RATE_SHARE, Pacer, Quota
from monitor_contact_service.quota_url import parse_quota_url, quota_scope
from monitor_contact_service.redis_script import RedisScript
from monitor_contact_service.reservations import (
    BODY,
    NOW_FROM_ARGUMENT,
    Answer,
    Command,
    Reservations,
    ServerFaultError,
    decode,
)
from monitor_contact_service.shared_quota import SharedQuota
from redis import Redis
from redis_server import RedisServer

QUOTA = Quota(rate=2.0, burst=5)
SPACING = 1 / (RATE_SHARE * QUOTA.rate)
FAST = Quota(rate=200.0, burst=5)
SCOPE = quota_scope("123456789012", "eu-central-1")
REPLICAS = 3


@pytest.fixture(scope="module")
def running(require_tool: Callable[[str, str], str]) -> Iterator[RedisServer]:
    """A Redis for all tests of this file."""
    with RedisServer(require_tool("redis-server", "the quota that replicas share")) as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    """A Redis that runs and remembers nothing."""
    running.kill()
    running.start()
    return running


@pytest.fixture
def client(server: RedisServer) -> Iterator[Redis]:
    """A plain client of the empty Redis."""
    with Redis(port=server.port) as connected:
        yield connected


class VirtualScript:
    """Runs the script in the real Redis, in the time of a fake clock."""

    def __init__(self, client: Redis, clock: Callable[[], float]) -> None:
        self.client = client
        self.clock = clock

    def run_now(self, command: Command) -> Answer:
        """Run it at the clock's moment."""
        now = round(self.clock() * 1e6)
        script = NOW_FROM_ARGUMENT + BODY
        return decode(self.client.eval(script, len(command.keys), *command.keys, *command.arguments, now))

    async def run(self, command: Command) -> Answer:
        """Do the same for SharedQuota."""
        return self.run_now(command)

    async def close(self) -> None:
        """Leave the client to its fixture."""


class _Rig:
    """The script by itself, in virtual time."""

    def __init__(self, client: Redis, replicas: int = REPLICAS) -> None:
        client.flushall()
        self.clock = FakeClock()
        self.script = VirtualScript(client, self.clock)
        self.reservations = Reservations(SCOPE, QUOTA, replicas)

    def reserve(self) -> Answer:
        return self.script.run_now(self.reservations.reserve())

    def at_once(self) -> int:
        """Reserve until a slot lies ahead, and return how many came before it."""
        count = 0
        while self.reserve().wait_seconds == 0:
            count += 1
        return count


def _about(expected: float | list[float], abs: float = 1e-5) -> Any:  # noqa: A002 - pytest's name
    """Return what equals `expected` up to the server's clock: whole microseconds, rounded a few times."""
    return pytest.approx(expected, rel=0, abs=abs)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(min_value=0, max_value=4_000_000)),
        st.tuples(st.just("reserve"), st.just(0)),
        st.tuples(st.just("throttled"), st.sampled_from([500_000, 2_000_000, 5_500_000])),
        st.tuples(st.just("rate"), st.integers(min_value=1, max_value=20)),
        st.tuples(st.just("burst"), st.integers(min_value=1, max_value=5)),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_the_script_computes_what_the_pacer_does(client: Redis, steps: list[tuple[str, int]]) -> None:
    """Same steps at the same times, 429s and new settings included: the same waits, to the microsecond."""
    rig = _Rig(client)
    rig.clock.now = 0.0
    pacer = Pacer(QUOTA, 0.0)
    rig.script.run_now(rig.reservations.join())
    microseconds = 0
    for step, value in steps:
        now = rig.clock()
        match step:
            case "pass":
                microseconds += value
                rig.clock.now = microseconds / 1e6
            case "throttled":
                rig.script.run_now(rig.reservations.throttled(value / 1e6))
                pacer.throttled(now, value / 1e6)
            case "rate":
                rig.reservations.quota = Quota(float(value), rig.reservations.quota.burst)
                pacer.change(rig.reservations.quota, now)
            case "burst":  # a smaller one is another matter: see below
                quota = rig.reservations.quota
                rig.reservations.quota = Quota(quota.rate, max(quota.burst, value + 4))
                pacer.change(rig.reservations.quota, now)
        expected = pacer.wait_seconds(rig.clock())
        # The pacer takes no token in advance; with -1 replicas, no slot is near enough.
        rig.reservations.replicas = 0 if step == "reserve" and expected == 0 else -1
        answer = rig.reserve()
        assert answer.wait_seconds == _about(expected, abs=1e-6)
        assert answer.rate == _about(pacer.rate(rig.clock()), abs=1e-6)
        assert answer.hold_seconds == _about(pacer.hold_seconds(rig.clock()), abs=1e-6)
        if answer.granted:
            pacer.take(rig.clock())


def test_a_new_key_gives_one_token_and_a_rest_fills_the_bucket(client: Redis) -> None:
    """What was sent before is not known: one token, then one each spacing; after a rest as many as the burst allows."""
    rig = _Rig(client)
    assert rig.at_once() == 1
    rig.clock.advance(60)
    assert rig.at_once() == 4


def test_a_lost_key_gives_one_token(client: Redis) -> None:
    """A flushed server is like a new one, not like a full bucket."""
    rig = _Rig(client)
    rig.clock.advance(60)
    client.flushall()
    assert rig.at_once() == 1


def test_a_joining_replica_leaves_one_token(client: Redis) -> None:
    """What it sent before is not known, so the others' rest does not count."""
    rig = _Rig(client)
    rig.reserve()
    rig.clock.advance(60)
    rig.script.run_now(rig.reservations.join())
    assert rig.at_once() == 1


def test_a_pause_is_not_added_to_a_hold(client: Redis) -> None:
    """The second replica that comes back does not make the others wait longer than the first did."""
    rig = _Rig(client)
    assert rig.script.run_now(rig.reservations.join(1.1)).hold_seconds == _about(1.1)
    rig.clock.advance(1)
    assert rig.script.run_now(rig.reservations.join(1.1)).hold_seconds == _about(0.1)


def test_a_pause_ends_with_one_token(client: Redis) -> None:
    """The share that others used until its end is not known either."""
    rig = _Rig(client)
    rig.script.run_now(rig.reservations.join(1.1))
    rig.clock.advance(1.1)
    assert rig.at_once() == 1


def test_a_pause_does_not_slow_down(client: Redis) -> None:
    """Only a 429 cuts the pace; one that had climbed halfway back stays there over a pause."""
    rig = _Rig(client)
    rig.script.run_now(rig.reservations.throttled(0.5))
    rig.clock.advance(5)
    before = rig.script.run_now(rig.reservations.join()).rate
    assert before < 1 / SPACING
    assert rig.script.run_now(rig.reservations.join(1.1)).rate == _about(before)


def test_slots_are_given_so_far_ahead_as_there_are_replicas(client: Redis) -> None:
    """One each spacing; the one too far ahead is not reserved, and says when it is worth asking again."""
    rig = _Rig(client)
    answers = [rig.reserve() for _ in range(REPLICAS + 2)]
    assert [answer.granted for answer in answers] == [True] * (REPLICAS + 1) + [False]
    assert [answer.wait_seconds for answer in answers] == _about([n * SPACING for n in range(REPLICAS + 2)])
    assert answers[-1].ask_again_seconds == _about(0.5 * SPACING)
    rig.clock.advance(answers[-1].ask_again_seconds)
    assert rig.reserve().granted


def test_slots_reserved_during_a_hold_count_from_its_end(client: Redis) -> None:
    """No more than the burst comes at the end of a hold, though it was reserved before, and then one each spacing."""
    rig = _Rig(client, replicas=20)
    rig.script.run_now(rig.reservations.throttled(5.5))
    waits = [rig.reserve().wait_seconds for _ in range(8)]
    spacing = SPACING / CUT
    assert waits == _about([5.5] * 4 + [5.5 + n * spacing for n in range(1, 5)])


@pytest.mark.parametrize("hours", [1, 24 * 365])
def test_a_clock_set_back_stops_nothing(client: Redis, hours: int) -> None:
    """No time has passed then: the hold is as long as before, and the slot after it comes."""
    rig = _Rig(client)
    rig.clock.now = 1.8e9
    rig.script.run_now(rig.reservations.throttled(2.0))
    rig.clock.advance(-hours * 3600)
    assert rig.reserve().wait_seconds == _about(2)
    rig.clock.advance(2)
    assert rig.at_once() == 1


def test_a_smaller_burst_and_back_costs_nothing(client: Redis) -> None:
    """While a new setting is rolled out, replicas with either ask by turns: tokens left stay as they are."""
    rig = _Rig(client)
    rig.at_once()
    for burst in (9, 5) * 10:
        rig.reservations.quota = Quota(2.0, burst)
        assert rig.script.run_now(rig.reservations.join()).wait_seconds == _about(2 * SPACING)


class _Busy:
    """A replica where calls always wait: takes every token as soon as it is there."""

    def __init__(self, quota: SharedQuota, took: Callable[["_Busy"], None]) -> None:
        self.quota = quota
        self._took = took
        self._timer: asyncio.TimerHandle | None = None
        self.more = True
        quota.on_change = self.pump

    def pump(self) -> None:
        """Take what is there, then wait for the next."""
        if self._timer is not None:
            self._timer.cancel()
        while self.more:
            wait = self.quota.wait_seconds()
            if wait > 0:
                if wait < math.inf:
                    self._timer = asyncio.get_running_loop().call_later(wait, self.pump)
                return
            self._took(self)
            self.quota.take()


class _Wire:
    """A replica's way to the real Redis: remembers the slots that it was given, on the server's clock."""

    def __init__(self, server: RedisServer, told: Callable[[], None] = lambda: None) -> None:
        address = parse_quota_url(server.url)
        self._told = told
        assert address is not None
        # Longer than usual: a busy machine must not look like a lost Redis.
        self._script = RedisScript(address, timeout_seconds=1.0)
        self.slots: list[int] = []
        self.commands: list[str] = []

    async def run(self, command: Command) -> Answer:
        """Pass it on."""
        self.commands.append(str(command.arguments[0]))
        self._told()
        answer = await self._script.run(command)
        if answer.granted:
            self.slots.append(answer.server_microseconds + round(answer.wait_seconds * 1e6))
        return answer

    async def close(self) -> None:
        """Pass it on."""
        await self._script.close()


class _Gate:
    """Stands for the sleep between two tries of a lost Redis: ends when told."""

    def __init__(self) -> None:
        self._asleep = asyncio.Event()
        self._end = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait for `open`."""
        assert seconds == 1.0
        self._end.clear()
        self._asleep.set()
        await self._end.wait()

    async def asleep(self) -> None:
        """Wait until somebody sleeps."""
        await self._asleep.wait()

    def open(self) -> None:
        """End the sleep."""
        self._asleep.clear()
        self._end.set()


class _Fleet:
    """Three busy replicas in one process, in real time, 200 requests/s; every use of the quota on one clock."""

    def __init__(self, server: RedisServer) -> None:
        self._changed = asyncio.Event()
        self.wires = [_Wire(server, self._changed.set) for _ in range(REPLICAS)]
        self.gates = [_Gate() for _ in range(REPLICAS)]
        self.replicas: list[_Busy] = []
        self.used: list[tuple[float, int]] = []  # server's clock in seconds, replica
        self.uncounted = 0  # slots that Redis has forgotten
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for wire, gate in zip(self.wires, self.gates, strict=True):
            quota = SharedQuota(
                wire, scope=SCOPE, quota=FAST, replicas=REPLICAS, clock=time.monotonic, sleep=gate.sleep
            )
            quota.on_shared_change = self._changed.set
            self.replicas.append(_Busy(await self._stack.enter_async_context(quota), self._took))
        for replica in self.replicas:
            replica.pump()
        return self

    async def __aexit__(self, *_: object) -> None:
        for replica in self.replicas:
            replica.more = False
        await self._stack.aclose()
        self.require_within_quota()

    @property
    def shared(self) -> list[bool]:
        return [replica.quota.shared for replica in self.replicas]

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not happened():
                self._changed.clear()
                await self._changed.wait()

    async def use(self, count: int) -> None:
        """Wait until so many more tokens are used."""
        goal = len(self.used) + count
        await self.until(lambda: len(self.used) >= goal)

    async def retry(self, number: int) -> None:
        """Let this replica try its lost Redis once, as soon as it would."""
        await self.gates[number].asleep()
        commands = self.wires[number].commands
        tried = len(commands)
        self.gates[number].open()
        await self.until(lambda: len(commands) > tried)

    async def all_retry(self) -> None:
        """Let every replica try once."""
        for number in range(REPLICAS):
            await self.retry(number)

    def require_within_quota(self) -> None:
        """Never more than rate x time + burst, in any window between two uses."""
        moments = sorted(moment for moment, _ in self.used)
        for first, start in enumerate(moments):
            for count, end in enumerate(moments[first:], start=1):
                assert count <= FAST.rate * (end - start) + FAST.burst + self.uncounted + 1e-3

    def _took(self, busy: _Busy) -> None:
        number = self.replicas.index(busy)
        slots = self.wires[number].slots
        self.used.append((slots[-1] / 1e6 if busy.quota.shared else time.time(), number))
        self._changed.set()


@pytest.fixture
async def fleet(server: RedisServer) -> AsyncIterator[_Fleet]:
    """Three busy replicas over the empty Redis."""
    async with _Fleet(server) as running:
        yield running


async def test_busy_replicas_share_the_quota_in_turns(client: Redis) -> None:
    """In virtual time: slots one spacing apart, every one used, each replica in its turn."""
    clock = FakeClock()
    used: list[tuple[float, int]] = []
    async with AsyncExitStack() as stack:
        quotas = [
            await stack.enter_async_context(
                SharedQuota(VirtualScript(client, clock), scope=SCOPE, quota=QUOTA, replicas=REPLICAS, clock=clock)
            )
            for _ in range(REPLICAS)
        ]
        while len(used) < 300:
            await _take_what_is_there(quotas, clock, used)
    moments = [moment for moment, _ in used]
    assert moments == _about([moments[0] + n * SPACING for n in range(300)])
    assert [number for _, number in used] == [used[n % REPLICAS][1] for n in range(300)]


async def _take_what_is_there(quotas: list[SharedQuota], clock: FakeClock, used: list[tuple[float, int]]) -> None:
    waits = [quota.wait_seconds() for quota in quotas]
    for number, wait in enumerate(waits):
        if wait == 0:
            used.append((clock(), number))
            quotas[number].take()
    if math.inf in waits:
        for _ in range(3):
            await asyncio.sleep(0)  # not a wait: the answers are given at once
    elif min(waits) > 0:
        clock.advance(min(waits))


class _Alone:
    """A replica in virtual time; its slots are reserved in the real Redis."""

    def __init__(self, client: Redis) -> None:
        self.clock = FakeClock()
        self.script = VirtualScript(client, self.clock)
        self.quota = self.another()

    def another(self) -> SharedQuota:
        """Return one more replica of the same quota."""
        return SharedQuota(self.script, scope=SCOPE, quota=QUOTA, replicas=REPLICAS, clock=self.clock)


async def _told(quota: SharedQuota) -> float:
    """Return what `wait_seconds` says once Redis has been asked."""
    if quota.wait_seconds() == math.inf:
        told = asyncio.Event()
        quota.on_change = told.set
        await told.wait()
    return quota.wait_seconds()


async def test_a_slot_that_nobody_uses_in_time_is_forgotten(client: Redis) -> None:
    """Half a spacing late is early enough; later, a new slot is reserved."""
    alone = _Alone(client)
    assert await _told(alone.quota) == 0
    alone.clock.advance(0.49 * SPACING)
    assert alone.quota.wait_seconds() == 0
    alone.clock.advance(0.02 * SPACING)
    assert alone.quota.wait_seconds() == math.inf
    assert await _told(alone.quota) == _about(0.49 * SPACING)


async def test_a_token_given_back_is_there_again(client: Redis) -> None:
    """Taken just now and not used: the next call has it, once."""
    quota = _Alone(client).quota
    assert await _told(quota) == 0
    quota.take()
    quota.give_back()
    assert quota.wait_seconds() == 0
    quota.take()
    assert await _told(quota) == _about(SPACING)


async def test_estimates_are_at_the_full_pace(client: Redis) -> None:
    """With a slot reserved it is the first, and the others follow one spacing apart; after a rest, at once."""
    alone = _Alone(client)
    assert await _told(alone.quota) == 0
    assert [alone.quota.start_seconds(n) for n in range(3)] == _about([0, SPACING, 2 * SPACING])
    alone.quota.take()
    alone.clock.advance(60)
    assert await _told(alone.quota) == 0
    assert [alone.quota.start_seconds(n) for n in range(6)] == _about([0, 0, 0, 0, SPACING, 2 * SPACING])


async def test_a_429_at_one_replica_holds_all_and_slows_them_down(client: Redis) -> None:
    """The slot in hand is dropped; the others hear of hold and pace at their next reservation."""
    alone = _Alone(client)
    other = alone.another()
    assert await _told(alone.quota) == 0
    alone.quota.throttled(2.0)
    assert alone.quota.start_seconds(0) == _about(2)
    assert alone.quota.wait_seconds() == math.inf
    assert await _told(alone.quota) == _about(2)
    assert await _told(other) == _about(2)
    assert other.start_seconds(0) == _about(2)
    assert other.start_seconds(3) - other.start_seconds(2) == _about(SPACING / CUT)


async def test_a_new_setting_holds_from_the_next_slot_on(client: Redis) -> None:
    """Ten times the rate: the slot after the one in hand comes after a tenth of the spacing."""
    quota = _Alone(client).quota
    assert await _told(quota) == 0
    quota.take()
    quota.change(Quota(rate=20.0, burst=5), REPLICAS)
    assert await _told(quota) == _about(SPACING / 10)


async def test_an_unreachable_redis_at_the_start_is_a_warning_and_the_safe_share(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """No token at the start, then one each three spacings, and the log says what that means; not an error."""
    clock, gate = FakeClock(), _Gate()
    server.kill()
    async with SharedQuota(
        _Wire(server), scope=SCOPE, quota=QUOTA, replicas=REPLICAS, clock=clock, sleep=gate.sleep
    ) as quota:
        assert not quota.shared
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        for _ in range(3):
            assert quota.wait_seconds() == _about(REPLICAS * SPACING)
            clock.advance(quota.wait_seconds())
            assert quota.wait_seconds() == 0
            quota.take()
        quota.give_back()
        assert quota.wait_seconds() == 0
        quota.change(Quota(rate=20.0, burst=5), REPLICAS)
        quota.take()
        assert quota.wait_seconds() == _about(REPLICAS * SPACING / 10)
        quota.throttled(5.0)
        assert quota.wait_seconds() == _about(5.0)


async def test_a_loss_keeps_what_429s_have_taught(client: Redis, server: RedisServer) -> None:
    """The safe share goes on with the hold and the slower pace that the quota had."""
    clock = FakeClock()
    async with SharedQuota(
        _Wire(server), scope=SCOPE, quota=QUOTA, replicas=REPLICAS, clock=clock, sleep=_Gate().sleep
    ) as quota:
        quota.throttled(5.0)
        client.set(SCOPE, "of another type")
        assert await _told(quota) == _about(5.0, abs=0.1)
        assert not quota.shared
        clock.advance(5)
        assert quota.start_seconds(1) - quota.start_seconds(0) == _about(REPLICAS * SPACING / CUT)


def _wrong_type(client: Redis) -> None:
    client.set(SCOPE, "of another type")


def _out_of_memory(client: Redis) -> None:
    client.config_set("maxmemory", 1)


def _read_only(client: Redis) -> None:
    client.replicaof("127.0.0.1", "1")


def _not_allowed(client: Redis) -> None:
    client.acl_setuser("default", enabled=True, nopass=True, keys=["*"], commands=["-eval"])


@pytest.mark.parametrize("spoil", [_wrong_type, _out_of_memory, _read_only, _not_allowed])
async def test_whatever_redis_refuses_is_a_fault(
    client: Redis, server: RedisServer, spoil: Callable[[Redis], None]
) -> None:
    """A refusal is like no answer: it never counts as a slot."""
    spoil(client)
    wire = _Wire(server)
    with pytest.raises(ServerFaultError):
        await wire.run(Reservations(SCOPE, QUOTA, REPLICAS).reserve())
    await wire.close()


@pytest.mark.parametrize("answer", [None, [], b"OK", ["x"] * 7, [1, "2", "3", "4", "5", "6"]])
def test_an_answer_of_another_form_is_refused(answer: object) -> None:
    """Something else than our script answered."""
    with pytest.raises(ValueError, match=r"form|invalid literal"):
        decode(answer)


async def test_replicas_in_real_time_stay_within_the_quota(fleet: _Fleet) -> None:
    """Busy replicas over the real Redis: all get slots, and all slots together keep to rate and burst."""
    await fleet.use(150)
    assert {number for _, number in fleet.used} == {0, 1, 2}
    assert fleet.shared == [True] * REPLICAS


async def test_a_killed_redis_means_the_safe_share_until_it_is_back(
    fleet: _Fleet, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Under load: each replica goes on at its share, says so once, comes back by itself; never above the quota."""
    caplog.set_level("INFO", "monitor_contact_service")
    await fleet.use(50)
    server.kill()
    await fleet.until(lambda: not any(fleet.shared))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * REPLICAS
    await fleet.use(30)
    await fleet.all_retry()
    await fleet.use(30)
    server.start()
    await fleet.retry(0)
    await fleet.until(lambda: fleet.shared == [True, False, False])
    await fleet.use(30)  # by those who have not noticed yet
    await fleet.retry(1)
    await fleet.retry(2)
    await fleet.until(lambda: all(fleet.shared))
    await fleet.use(60)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * REPLICAS + ["INFO"] * REPLICAS
    assert {number for _, number in fleet.used[-60:]} == {0, 1, 2}


async def test_a_frozen_redis_costs_each_replica_one_command(fleet: _Fleet, server: RedisServer) -> None:
    """Frozen under load: after one command without an answer, each replica goes on at its share, then comes back."""
    await fleet.use(50)
    server.freeze()
    before = [len(wire.commands) for wire in fleet.wires]
    await fleet.until(lambda: not any(fleet.shared))
    # One more may have been answered at the very moment of the freeze.
    assert all(len(wire.commands) - count <= 2 for wire, count in zip(fleet.wires, before, strict=True))
    await fleet.use(30)
    await fleet.all_retry()
    await fleet.use(30)
    for gate in fleet.gates:
        await gate.asleep()  # that try has failed too
    server.thaw()
    await fleet.all_retry()
    await fleet.until(lambda: all(fleet.shared))
    await fleet.use(60)


async def test_a_command_without_an_answer_is_sent_once(client: Redis, server: RedisServer) -> None:
    """A frozen server that goes on finds one command, not a client's repetitions: each would reserve a slot."""
    wire = _Wire(server)
    server.freeze()
    with pytest.raises(ServerFaultError, match="TimeoutError"):
        await wire.run(Reservations(SCOPE, QUOTA, REPLICAS).reserve())
    server.thaw()
    while "cmdstat_eval" not in (statistics := client.info("commandstats")):
        pass  # asked again until the server has come to it
    assert statistics["cmdstat_eval"]["calls"] == 1
    await wire.close()


async def test_an_emptied_redis_costs_no_more_than_the_slots_in_hand(fleet: _Fleet, client: Redis) -> None:
    """FLUSHALL under load: still shared; what replicas had reserved, one slot each, is all that comes on top."""
    fleet.uncounted = REPLICAS
    await fleet.use(40)
    client.flushall()
    await fleet.use(40)
    assert fleet.shared == [True] * REPLICAS


async def test_an_emptied_script_cache_goes_unnoticed(fleet: _Fleet, client: Redis) -> None:
    """SCRIPT FLUSH under load: still shared, still within the quota."""
    await fleet.use(40)
    client.script_flush()
    await fleet.use(40)
    assert fleet.shared == [True] * REPLICAS
