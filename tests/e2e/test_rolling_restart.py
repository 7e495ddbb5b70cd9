"""Rolling restarts behind a proxy that behaves like kube-proxy lose no call, whatever the client is like."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import grpc.aio
import harness
import pytest
from e2e.kube_proxy import KubeProxy, Replica, kube_proxy
from e2e.processes import ServiceProcess, SimulatorProcess, free_port, run, serve, simulate
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub
from monitor_contact_client import AsyncMonitorContactClient, MonitorContactError

# Not a part of `make test` yet: beside other work on two cores some run of it has failed, and why is not known.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ROLLING_RESTARTS" not in os.environ, reason="ROLLING RESTARTS ARE NOT CHECKED: make soak does"),
]

# `make soak` asks for 42: the load of 30 callers makes 200,000 calls of them.
RESTARTS = int(os.environ.get("ROLLING_RESTARTS", "3"))
REPLICAS = 3
CALLERS_OF_EACH_KIND = 10
# A dead rig has no errors either. A slow machine makes some thousand calls a restart.
LEAST_CALLS = 500 * RESTARTS
# The drain outlasts the proxy's delay and 1.1 times the connections' age, so that each has moved on by itself.
AGE_SECONDS, DRAIN_SECONDS = 2, 4
# Every connection of its own, as processes would have: gRPC shares them by target otherwise.
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]

Tell = Callable[[str], None]


def _request() -> MonitorContactRequest:
    return MonitorContactRequest(
        instance_id=harness.INSTANCE_ID,
        contact_id=harness.CONTACT_ID,
        user_id=harness.USER_ID,
        client_token=uuid4().hex,
    )


class Load:
    """Callers that call again and again, each as soon as it has its answer; counts how the calls ended, by kind."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.over = False

    async def repeat(self, kind: str, call: Callable[[], Awaitable[object]]) -> None:
        """Call until the load is over."""
        while not self.over:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                self.outcomes[f"{kind}: {error.code().name} {error.details()}"] += 1
            except MonitorContactError as error:
                self.outcomes[f"{kind}: {error}"] += 1
            else:
                self.outcomes[f"{kind}: OK"] += 1


async def _shipped(client: AsyncMonitorContactClient) -> None:
    await client.monitor_contact(
        instance_id=harness.INSTANCE_ID, contact_id=harness.CONTACT_ID, user_id=harness.USER_ID
    )


async def _plain(channel: grpc.aio.Channel) -> None:
    await MonitorContactServiceStub(channel).MonitorContact(_request(), timeout=10)


async def _one_shot(target: str) -> None:
    """Make one call on a connection of its own, as grpcurl does."""
    async with grpc.aio.insecure_channel(target, options=OWN_CONNECTION) as channel:
        await MonitorContactServiceStub(channel).MonitorContact(_request(), timeout=10)


class Deployment:
    """Three replicas behind the proxy; each has files of its own in `folder`."""

    def __init__(self, stack: AsyncExitStack, proxy: KubeProxy, simulator: SimulatorProcess, folder: Path) -> None:
        self._stack = stack
        self._proxy = proxy
        self._simulator = simulator
        self._folder = folder
        self._started = 0
        self.running: list[tuple[ServiceProcess, Replica]] = []

    async def start(self) -> None:
        """Add a replica and wait until connections go to it."""
        self._started += 1
        health = f"127.0.0.1:{free_port()}"
        environment = {
            **self._simulator.environment,
            "MONITOR_CONTACT_HEALTH_LISTEN": health,
            "MONITOR_CONTACT_MAX_CONNECTION_AGE_SECONDS": str(AGE_SECONDS),
            "MONITOR_CONTACT_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "MONITOR_CONTACT_LOG_LEVEL": "warning",
            "MONITOR_CONTACT_AUDIT": str(self._folder / f"{self._started}" / "audit.jsonl"),
        }
        target = f"127.0.0.1:{free_port()}"
        process = await self._stack.enter_async_context(serve(environment, listen=target))
        replica = Replica(target, health)
        self._proxy.replicas.append(replica)
        self.running.append((process, replica))
        await self._proxy.ready(replica)

    async def stop_oldest(self) -> int:
        """Signal the oldest replica to stop and return its exit code."""
        process, replica = self.running.pop(0)
        process.running.signal(signal.SIGTERM)
        exit_code = await process.running.ended()
        self._proxy.replicas.remove(replica)
        return exit_code

    async def audits(self) -> list[int]:
        """Verify what each replica that has ended wrote down, and return the exit codes."""
        files = sorted(self._folder.glob("*/audit.jsonl*"))
        return [(await run("audit", "verify", str(file))).exit_code for file in files]


async def test_rolling_restarts_lose_no_call(tmp_path: Path, tell: Tell) -> None:
    """Neither the shipped client, nor one that neither retries nor watches health, nor one-shot connections."""
    load = Load()
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulate())
        await simulator.lift_limits()
        proxy = await stack.enter_async_context(kube_proxy())
        deployment = Deployment(stack, proxy, simulator, tmp_path)
        for _ in range(REPLICAS):
            await deployment.start()
        client = await stack.enter_async_context(AsyncMonitorContactClient(proxy.target))
        plain = [
            await stack.enter_async_context(grpc.aio.insecure_channel(proxy.target, options=OWN_CONNECTION))
            for _ in range(CALLERS_OF_EACH_KIND)
        ]
        async with asyncio.TaskGroup() as callers:
            for channel in plain:
                callers.create_task(load.repeat("plain", partial(_plain, channel)))
                callers.create_task(load.repeat("client", partial(_shipped, client)))
                callers.create_task(load.repeat("one-shot", partial(_one_shot, proxy.target)))
            exit_codes = []
            for _ in range(RESTARTS):
                await deployment.start()
                exit_codes.append(await deployment.stop_oldest())
            load.over = True
        exit_codes += [await deployment.stop_oldest() for _ in range(REPLICAS)]
        audits = await deployment.audits()
    calls = sum(load.outcomes.values())
    tell(f"{calls} calls over {RESTARTS} restarts: {dict(load.outcomes)}")
    assert set(load.outcomes) == {"plain: OK", "client: OK", "one-shot: OK"}
    assert calls >= LEAST_CALLS
    assert set(exit_codes) == {0}
    assert set(audits) == {0}
    assert proxy.not_alive == 0


async def test_a_killed_replica_costs_the_shipped_client_no_call_and_starts_nothing_twice(
    tmp_path: Path, tell: Tell
) -> None:
    """Only calls that were under way can fail; they are repeated with their client_token, elsewhere."""
    load = Load()
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulate())
        await simulator.lift_limits()
        await simulator.set_latency(0.05)
        proxy = await stack.enter_async_context(kube_proxy())
        deployment = Deployment(stack, proxy, simulator, tmp_path)
        for _ in range(REPLICAS):
            await deployment.start()
        killed = asyncio.Event()

        async def call(client: AsyncMonitorContactClient) -> None:
            await _shipped(client)
            if load.outcomes["client: OK"] > 3 * CALLERS_OF_EACH_KIND and not killed.is_set():
                killed.set()
                process, _ = deployment.running[0]
                process.running.signal(signal.SIGKILL)
            load.over = load.outcomes["client: OK"] > 30 * CALLERS_OF_EACH_KIND

        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS_OF_EACH_KIND):
                client = await stack.enter_async_context(
                    AsyncMonitorContactClient(proxy.target, channel_options=OWN_CONNECTION)
                )
                callers.create_task(load.repeat("client", partial(call, client)))
        received = await simulator.received()
    tokens = Counter(each["client_token"] for each in received)
    repeated = sum(count > 1 for count in tokens.values())
    tell(f"{dict(load.outcomes)}; {repeated} calls were sent twice, each with one ClientToken")
    assert killed.is_set()
    assert set(load.outcomes) == {"client: OK"}
    # Connect starts one session for a ClientToken, however often it is sent: as many as there were calls.
    assert len(tokens) == load.outcomes["client: OK"]
