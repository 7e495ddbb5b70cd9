"""Three processes of the service and one quota, over a real Redis that is killed, frozen and started again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from e2e.answers import Answer, Caller, calling
from e2e.processes import ServiceProcess, serve, until
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from monitor_contact_service.simulator import Quota, Simulator
from redis_server import RedisServer

REPLICAS = 3
# Ten times Connect's own, so that the tests are quick: the rules know no particular rate.
RATE, BURST = 20.0, 6
THROTTLED = "ThrottlingException"

Tell = Callable[[str], None]


@pytest.fixture
def redis_server(require_tool: Callable[[str, str], str]) -> RedisServer:
    """A Redis that is not started yet."""
    return RedisServer(require_tool("redis-server", "several replicas over one Redis, and its loss"))


@dataclass(frozen=True, slots=True)
class Replicas:
    """The processes, a caller of each, and what stands for Connect."""

    services: Sequence[ServiceProcess]
    callers: Sequence[Caller]
    simulator: Simulator

    async def herd(self, *shares: int, timeout_seconds: float = 30.0) -> Counter[str]:
        """Make so many calls of each replica at once and count the outcomes."""
        calls = (
            caller.ask(timeout=timeout_seconds)
            for caller, count in zip(self.callers, shares, strict=True)
            for _ in range(count)
        )
        answers: list[Answer] = await asyncio.gather(*calls)
        return Counter(answer.reason for answer in answers)

    def throttled(self) -> int:
        """How often Connect has refused for rate."""
        return sum(call.error == THROTTLED for call in self.simulator.calls("MonitorContact"))

    async def quota_health(self, wanted: HealthCheckResponse.ServingStatus, *, first: int = 0) -> None:
        """Wait until the replicas from `first` on say so of their quota."""
        for caller in self.callers[first:]:
            async for answer in caller.health.Watch(HealthCheckRequest(service="quota")):
                if answer.status == wanted:
                    break

    async def quota_shared(self) -> list[float]:
        """Return what each replica's metric says of it."""
        return [await _metric(service, "monitor_contact_quota_shared") for service in self.services]


async def _metric(service: ServiceProcess, name: str) -> float:
    """Return the value of a metric without labels."""
    address = (await service.running.logged("metrics served"))["address"]
    async with aiohttp.request("GET", f"http://{address}/metrics") as response:
        lines = (await response.text()).splitlines()
    (value,) = (line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} "))
    return float(value)


@asynccontextmanager
async def _replicas(redis_url: str) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator())
        simulator.set_quota("MonitorContact", Quota(rate=RATE, burst=BURST))
        simulator.switches = simulator.switches.change({"hard_limits": False})
        quota = {
            "MONITOR_CONTACT_QUOTA_RATE": str(RATE),
            "MONITOR_CONTACT_QUOTA_BURST": str(BURST),
            "MONITOR_CONTACT_QUOTA_URL": redis_url,
            "MONITOR_CONTACT_QUOTA_REPLICAS": str(REPLICAS),
            "MONITOR_CONTACT_METRICS_LISTEN": "127.0.0.1:0",
        }
        started = [serve(simulator.environment, quota=quota) for _ in range(REPLICAS)]
        services = [await stack.enter_async_context(each) for each in started]
        callers = [await stack.enter_async_context(calling(service.target)) for service in services]
        for service in services:
            await service.serving()
        yield Replicas(services, callers, simulator)


async def test_replicas_together_keep_to_one_quota_and_waste_none_of_it(redis_server: RedisServer, tell: Tell) -> None:
    """A herd of 100, 60 % of it on one replica: all succeed, no 429, at the pace of one process."""
    with redis_server:
        async with _replicas(redis_server.url) as replicas:
            outcomes = await replicas.herd(60, 20, 20)
            times = [call.at for call in replicas.simulator.calls("MonitorContact")]
            assert outcomes == {"OK": 100}
            assert replicas.throttled() == 0
            tell(f"{len(times) / (times[-1] - times[0]):.1f} calls/s of a quota of {RATE:g}/s")


async def test_a_lost_redis_costs_no_call_and_is_told(redis_server: RedisServer, tell: Tell) -> None:
    """Killed under load: each goes on at its share, says so in health, log and metric, and shares again by itself."""
    with redis_server:
        async with _replicas(redis_server.url) as replicas:
            await replicas.quota_health(HealthCheckResponse.SERVING)
            load = asyncio.ensure_future(replicas.herd(40, 40, 40))
            await _some_calls(replicas, 10)
            redis_server.kill()
            assert await load == {"OK": 120}
            for service in replicas.services:
                lost = await service.running.logged(
                    "quota not shared: Redis does not answer as it should, so this "
                    "replica keeps to its share until it does"
                )
                assert lost["level"] == "warning"
                assert lost["rate"] == pytest.approx(RATE / REPLICAS)
            await replicas.quota_health(HealthCheckResponse.NOT_SERVING)
            assert await replicas.quota_shared() == [0, 0, 0]
            assert (await replicas.callers[0].health.Check(HealthCheckRequest(service="readiness"))).status == 1
            redis_server.start()
            await replicas.quota_health(HealthCheckResponse.SERVING)
            assert await replicas.quota_shared() == [1, 1, 1]
            assert await replicas.herd(20, 20, 20) == {"OK": 60}
            assert replicas.throttled() == 0
            tell(f"{len(replicas.simulator.calls('MonitorContact'))} calls, 0 of them refused for rate")


async def test_a_frozen_redis_is_a_lost_one(redis_server: RedisServer) -> None:
    """It accepts connections and answers nothing: the calls go on, and afterwards the quota is shared again."""
    with redis_server:
        async with _replicas(redis_server.url) as replicas:
            load = asyncio.ensure_future(replicas.herd(30, 30, 30))
            await _some_calls(replicas, 10)
            redis_server.freeze()
            assert await load == {"OK": 90}
            await replicas.quota_health(HealthCheckResponse.NOT_SERVING)
            redis_server.thaw()
            await replicas.quota_health(HealthCheckResponse.SERVING)
            assert await replicas.herd(10, 10, 10) == {"OK": 30}
            assert replicas.throttled() == 0


async def test_without_redis_at_start_the_service_starts_with_its_share(redis_server: RedisServer) -> None:
    """A warning, not an error; health says that the quota is not shared, and calls succeed."""
    async with _replicas(redis_server.url) as replicas:
        await replicas.quota_health(HealthCheckResponse.NOT_SERVING)
        assert await replicas.herd(4, 4, 4) == {"OK": 12}
        assert replicas.throttled() == 0
        with redis_server:
            await replicas.quota_health(HealthCheckResponse.SERVING)


async def _some_calls(replicas: Replicas, count: int) -> None:
    """Wait until so many calls have reached Connect."""
    await until(lambda: len(replicas.simulator.calls("MonitorContact")) >= count)
