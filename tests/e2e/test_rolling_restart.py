"""Replicas that go and come under load: a rolling restart costs nobody a call, a kill only what was under way.

`make soak` asks for ROLLING_RESTARTS=42: more than 200,000 calls.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import harness
import pytest
from e2e.answers import Caller, calling
from e2e.kube_proxy import Endpoint, KubeProxy
from e2e.processes import WITHIN_SECONDS, Ended, ServiceProcess, SimulatorProcess, run, serve, simulate, until
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from monitor_contact_client import AsyncMonitorContactClient, MonitorContactError

RESTARTS: Final = int(os.environ.get("ROLLING_RESTARTS", "3"))
REPLICAS: Final = 3
# A dead rig has no errors either: the next replica is stopped only when so many calls have ended.
CALLS_PER_RESTART: Final = 5_000
CALLERS_OF_A_KIND: Final = 10
# The drain outlasts the proxy's delay and 1.1 times the age, so every connection has moved on before its server stops.
AGE_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 4.0
LATE_SECONDS: Final = 0.2
# Long enough for every caller to be seen waiting for Connect at one time.
CONNECT_SECONDS: Final = 0.5
# As processes of their own: otherwise all channels to one target share their connections.
OWN_CONNECTION: Final = ("grpc.use_local_subchannel_pool", 1)
ROUND_ROBIN: Final = ("grpc.lb_policy_name", "round_robin")

Tell = Callable[[str], None]
Call = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Failed:
    """A call that did not end well. `began_at` is in the event loop's time."""

    kind: str
    why: str
    began_at: float


class Load:
    """Callers that call again and again, each as soon as it has its answer."""

    def __init__(self) -> None:
        self.ok: Counter[str] = Counter()
        self.failed: list[Failed] = []
        self._over = False
        self._callers: list[asyncio.Task[None]] = []

    def add(self, kind: str, call: Call) -> None:
        """Let one more caller begin. `call` returns OK, or what went wrong."""
        self._callers.append(asyncio.ensure_future(self._repeat(kind, call)))

    async def more(self, calls: int) -> None:
        """Wait until so many more calls of every kind together have ended well."""
        wanted = self.ok.total() + calls
        await until(lambda: self.ok.total() >= wanted)

    async def end(self) -> None:
        """Let every caller finish its call and go."""
        self._over = True
        await asyncio.gather(*self._callers)

    def summary(self) -> str:
        """Return how the calls ended."""
        failed = Counter(f"{failed.kind}: {failed.why}" for failed in self.failed)
        return f"{self.ok.total()} calls well {dict(self.ok)}, {failed.total()} failed {dict(failed)}"

    async def _repeat(self, kind: str, call: Call) -> None:
        while not self._over:
            began_at = asyncio.get_running_loop().time()
            why = await call()
            if why == "OK":
                self.ok[kind] += 1
            else:
                self.failed.append(Failed(kind, why, began_at))


@asynccontextmanager
async def shipped(target: str, *options: tuple[str, str | int]) -> AsyncIterator[Call]:
    """Yield a call with the shipped client: it retries."""
    async with AsyncMonitorContactClient(target, channel_options=(OWN_CONNECTION, *options)) as client:

        async def call() -> str:
            try:
                await client.monitor_contact(
                    instance_id=harness.INSTANCE_ID, contact_id=harness.CONTACT_ID, user_id=harness.USER_ID
                )
            except MonitorContactError as error:
                return f"{type(error).__name__} {error}"
            return "OK"

        yield call


@asynccontextmanager
async def plain(target: str, *options: tuple[str, str | int]) -> AsyncIterator[Call]:
    """Yield a call with grpc-python alone, which has no retry policy and does not ask for health."""
    async with grpc.aio.insecure_channel(target, options=(OWN_CONNECTION, *options)) as channel:
        caller = Caller(channel)
        yield lambda: _outcome(caller)


@asynccontextmanager
async def one_shot(target: str, *_: tuple[str, str | int]) -> AsyncIterator[Call]:
    """Yield a call on a connection of its own, as grpcurl makes it."""

    async def call() -> str:
        async with calling(target) as caller:
            return await _outcome(caller)

    yield call


async def _outcome(caller: Caller) -> str:
    answer = await caller.ask()
    return "OK" if answer.is_ok else f"{answer.reason} {answer.message}"


KINDS: Final = {"shipped": shipped, "plain": plain, "one-shot": one_shot}


class Replica:
    """A running service with its audit, and all that its liveness has said since it was ready."""

    def __init__(self, process: ServiceProcess, health: str, audit: Path) -> None:
        self.running = process.running
        self.endpoint = Endpoint(process.target, health)
        self._audit = audit
        self._liveness = asyncio.ensure_future(self._follow_liveness())

    async def ended(self) -> int:
        """Return the exit code, once it has ended."""
        return await self.running.ended()

    async def liveness(self) -> list[str]:
        """Return what liveness has said, until the replica was gone."""
        return await self._liveness

    async def verified(self) -> Ended:
        """Verify its audit: exit code 0 says that every intent has its outcome."""
        files = map(str, self._audit.parent.glob(f"{self._audit.name}*"))
        return await run("audit", "verify", *files)

    async def _follow_liveness(self) -> list[str]:
        said: list[str] = []
        status = HealthCheckResponse.ServingStatus
        async with grpc.aio.insecure_channel(self.endpoint.health) as channel:
            stub = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
            try:
                watch = stub.Watch(HealthCheckRequest(service="liveness"))
                said.extend([status.Name(answer.status) async for answer in watch])
            except grpc.aio.AioRpcError as error:
                said.append(error.code().name)
        return said


class Deployment:
    """Starts replicas, each with a folder of its own, and keeps those that run."""

    def __init__(self, stack: AsyncExitStack, simulator: SimulatorProcess, folder: Path, **settings: float) -> None:
        self._stack = stack
        self._folder = folder
        self._environment = {
            **simulator.environment,
            "MONITOR_CONTACT_HEALTH_LISTEN": "127.0.0.1:0",
            **{f"MONITOR_CONTACT_{name}": str(value) for name, value in settings.items()},
        }
        self.started: list[Replica] = []

    async def start(self) -> Replica:
        """Return a new replica, ready, on ports of its own as a new pod has an address of its own."""
        folder = self._folder / str(len(self.started))
        folder.mkdir()
        audit = folder / "audit.jsonl"
        process = await self._stack.enter_async_context(
            serve({**self._environment, "MONITOR_CONTACT_AUDIT": str(audit)})
        )
        health = await process.running.logged("health served")
        await process.serving()
        replica = Replica(process, health["address"], audit)
        self.started.append(replica)
        return replica


async def _behind_proxy(stack: AsyncExitStack, folder: Path, **settings: float) -> tuple[Deployment, KubeProxy]:
    """Start three replicas with these settings: before them a proxy that knows them, behind them a free simulator."""
    simulator = await stack.enter_async_context(simulate())
    await simulator.lift_limits()
    proxy = KubeProxy(LATE_SECONDS)
    await stack.enter_async_context(proxy.listening())
    deployment = Deployment(stack, simulator, folder, **settings)
    for _ in range(REPLICAS):
        await deployment.start()
    for replica in deployment.started:
        await proxy.add(replica.endpoint)
    return deployment, proxy


async def _replaced(deployment: Deployment, proxy: KubeProxy, old: Replica) -> tuple[Replica, int]:
    """Stop a replica as a ReplicaSet does, which starts another at the same time; return it and the exit code."""
    old.running.signal(signal.SIGTERM)
    new = await deployment.start()
    await proxy.add(new.endpoint)
    exit_code = await old.ended()
    await proxy.remove(old.endpoint)
    return new, exit_code


@pytest.mark.slow
async def test_a_rolling_restart_loses_no_call_of_any_client(tmp_path: Path, tell: Tell) -> None:
    """Three kinds of callers that never pause, three replicas that are replaced in turn: every call ends well."""
    load = Load()
    async with AsyncExitStack() as stack:
        deployment, proxy = await _behind_proxy(
            stack, tmp_path, DRAIN_SECONDS=DRAIN_SECONDS, MAX_CONNECTION_AGE_SECONDS=AGE_SECONDS
        )
        running = list(deployment.started)
        for kind, opened in KINDS.items():
            for _ in range(CALLERS_OF_A_KIND):
                load.add(kind, await stack.enter_async_context(opened(proxy.target)))
        exit_codes = []
        for _ in range(RESTARTS):
            await load.more(CALLS_PER_RESTART)
            new, exit_code = await _replaced(deployment, proxy, running.pop(0))
            running.append(new)
            exit_codes.append(exit_code)
        await load.end()
        for replica in running:
            replica.running.signal(signal.SIGTERM)
        exit_codes.extend([await replica.ended() for replica in running])
        tell(f"{RESTARTS} restarts: {load.summary()}")
        assert load.failed == []
        assert set(load.ok) == set(KINDS)
        assert load.ok.total() >= RESTARTS * CALLS_PER_RESTART
        assert set(exit_codes) == {0}
        for replica in deployment.started:
            assert await replica.liveness() == ["SERVING"]
            verified = await replica.verified()
            assert verified.exit_code == 0, verified


async def test_without_drain_and_age_calls_are_lost(tmp_path: Path, tell: Tell) -> None:
    """The same callers, but the replica stops at once while connections still come: the test above can fail."""
    load = Load()
    async with AsyncExitStack() as stack:
        deployment, proxy = await _behind_proxy(stack, tmp_path, DRAIN_SECONDS=0)
        for kind in ("plain", "one-shot"):
            for _ in range(CALLERS_OF_A_KIND):
                load.add(kind, await stack.enter_async_context(KINDS[kind](proxy.target)))
        await load.more(500)
        await _replaced(deployment, proxy, deployment.started[0])
        await load.end()
    tell(load.summary())
    assert load.failed


@dataclass(frozen=True, slots=True)
class Killed:
    """What a kill did to callers of which each waited for Connect at that time."""

    load: Load
    seen_at: float  # from when on, in the event loop's time, the replica was known to be gone
    sent: Counter[str]  # how often each client token reached Connect
    sessions: int


async def _until(simulator: SimulatorProcess, condition: Callable[[int, int], bool]) -> None:
    """Wait until the condition on the numbers of client tokens that reached Connect, and of sessions there, holds."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            state = await simulator.control("GET", "state")
            tokens = {received["client_token"] for received in state["monitor_contacts"]}
            if condition(len(tokens), len(state["sessions"])):
                return


async def _kill_one_of_three(kind: str, folder: Path, *, answered: bool) -> Killed:
    """Kill -9 a replica while every caller waits for Connect. `answered`: when Connect is done, but nobody knows it."""
    load = Load()
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulate())
        await simulator.lift_limits()
        deployment = Deployment(stack, simulator, folder, DRAIN_SECONDS=0)
        replicas = [await deployment.start() for _ in range(REPLICAS)]
        targets = ",".join(replica.endpoint.target for replica in replicas)
        call = await stack.enter_async_context(KINDS[kind](f"ipv4:{targets}", ROUND_ROBIN))
        for _ in range(REPLICAS * CALLERS_OF_A_KIND):
            load.add(kind, call)
        for replica in replicas:
            await replica.running.logged("call", code="OK")
        await simulator.set_latency(CONNECT_SECONDS)
        await _until(simulator, lambda tokens, sessions: tokens == sessions + REPLICAS * CALLERS_OF_A_KIND)
        if answered:
            # Stopped, it takes no more answers; in the end every caller waits for it, and Connect has nothing to do.
            replicas[0].running.signal(signal.SIGSTOP)
            await _until(simulator, lambda tokens, sessions: tokens == sessions)
        replicas[0].running.signal(signal.SIGKILL)
        await replicas[0].ended()
        seen_at = asyncio.get_running_loop().time()
        await simulator.set_latency(0)
        await load.more(500)
        await load.end()
        await _until(simulator, lambda tokens, sessions: tokens == sessions)
        state = await simulator.control("GET", "state")
    sent = Counter(received["client_token"] for received in state["monitor_contacts"])
    return Killed(load, seen_at, sent, len(state["sessions"]))


@pytest.mark.slow
async def test_a_kill_costs_a_plain_client_only_what_was_under_way(tmp_path: Path, tell: Tell) -> None:
    """Kill -9 of one of three: the calls that it had fail as UNAVAILABLE, and no call that began later does."""
    killed = await _kill_one_of_three("plain", tmp_path, answered=False)
    tell(killed.load.summary())
    assert 0 < len(killed.load.failed) <= REPLICAS * CALLERS_OF_A_KIND
    for failed in killed.load.failed:
        assert failed.why.startswith("UNAVAILABLE"), failed
        assert failed.began_at < killed.seen_at, failed


@pytest.mark.slow
async def test_a_kill_costs_the_shipped_client_no_call_and_starts_nothing_twice(tmp_path: Path, tell: Tell) -> None:
    """Connect has started the session, the replica dies before it can say so: a repetition gets that session."""
    killed = await _kill_one_of_three("shipped", tmp_path, answered=True)
    repeated = sum(count > 1 for count in killed.sent.values())
    tell(f"{killed.load.summary()}; {repeated} reached Connect twice, {killed.sessions} sessions")
    assert killed.load.failed == []
    assert repeated > 0
    assert killed.sessions == len(killed.sent) == killed.load.ok.total()


@pytest.mark.slow
async def test_a_repetition_while_connect_is_still_at_work_gets_that_session(tmp_path: Path, tell: Tell) -> None:
    """Connect refuses a token that is under way: the replica that the client comes to waits until it is done."""
    killed = await _kill_one_of_three("shipped", tmp_path, answered=False)
    tell(f"{killed.load.summary()}; {sum(killed.sent.values())} sent, {killed.sessions} sessions")
    assert killed.load.failed == []
    assert sum(killed.sent.values()) > killed.sessions
    assert killed.sessions == len(killed.sent) == killed.load.ok.total()
