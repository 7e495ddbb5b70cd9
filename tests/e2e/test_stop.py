"""The end of a service process: calls in flight finish, clients leave without an error, nothing holds it up."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import harness
import pytest
from e2e.answers import Caller, calling
from e2e.processes import SERVICE, ServiceProcess, SimulatorProcess, free_port, serve, simulate, started, until
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from monitor_contact_client import AsyncMonitorContactClient, MonitorContactError
from monitor_contact_service.simulator import Simulator

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
READY_NAMES = ("", SERVICE, "readiness")
CALLERS = 24
ROUNDS = 1
RECONNECT_SOON = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
]
# Far below the 62 s that stop() would wait for what does not end by itself.
AT_ONCE_SECONDS = 15.0

Tell = Callable[[str], None]


class Load:
    """Callers of the shipped client that call again and again, each as soon as it has its answer."""

    def __init__(self, client: AsyncMonitorContactClient) -> None:
        self._client = client
        self.outcomes: Counter[str] = Counter()
        self._over = False

    async def call(self) -> None:
        """Call until the load is over."""
        while not self._over:
            try:
                await self._client.monitor_contact(
                    instance_id=harness.INSTANCE_ID, contact_id=harness.CONTACT_ID, user_id=harness.USER_ID
                )
            except MonitorContactError as error:
                self.outcomes[str(error)] += 1
            else:
                self.outcomes["OK"] += 1

    def end(self) -> None:
        """Let every caller finish its call and go."""
        self._over = True

    async def more(self, calls: int) -> None:
        """Wait until so many more calls have ended well."""
        wanted = self.outcomes["OK"] + calls
        await until(lambda: self.outcomes["OK"] >= wanted)


async def _start(stack: AsyncExitStack, simulator: SimulatorProcess, port: int, **settings: str) -> ServiceProcess:
    environment = {f"MONITOR_CONTACT_{name}": value for name, value in settings.items()}
    service = await stack.enter_async_context(
        serve({**simulator.environment, **environment}, listen=f"127.0.0.1:{port}")
    )
    await service.serving()
    return service


@pytest.mark.slow
@pytest.mark.parametrize(
    ("drain_seconds", "retries"),
    [
        pytest.param("0.5", True, id="as shipped"),
        pytest.param("0.5", False, id="by watched health alone"),
        pytest.param("0", True, id="by retries alone"),
    ],
)
async def test_restarts_under_load_cost_the_shipped_client_no_call(
    *, drain_seconds: str, retries: bool, tell: Tell
) -> None:
    """Two replicas are stopped and started in turn under callers that never pause: every call ends well."""
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(simulate())
        await simulator.lift_limits()
        await simulator.set_latency(0.02)
        ports = [free_port(), free_port()]
        services = [await _start(stack, simulator, port, DRAIN_SECONDS=drain_seconds) for port in ports]
        targets = ",".join(f"127.0.0.1:{port}" for port in ports)
        client = AsyncMonitorContactClient(
            f"ipv4:{targets}", retries=retries, watch_health=not retries, channel_options=RECONNECT_SOON
        )
        load = Load(await stack.enter_async_context(client))
        callers = [asyncio.ensure_future(load.call()) for _ in range(CALLERS)]
        for service in services:
            await service.running.logged("call", code="OK")
        stops = []
        for number in [0, 1] * ROUNDS:
            await load.more(200)
            stopped_at = time.monotonic()
            services[number].running.signal(signal.SIGTERM)
            assert await services[number].running.ended() == 0
            stops.append(time.monotonic() - stopped_at)
            await load.more(200)
            services[number] = await _start(stack, simulator, ports[number], DRAIN_SECONDS=drain_seconds)
            # Only when the client has found it may the other one go.
            await services[number].running.logged("call", code="OK")
        load.end()
        await asyncio.gather(*callers)
    tell(f"{load.outcomes.total()} calls over {len(stops)} restarts: {dict(load.outcomes)}; longest {max(stops):.2f} s")
    assert set(load.outcomes) == {"OK"}
    assert load.outcomes["OK"] > len(stops) * 400


async def _watch(caller: Caller, name: str) -> Any:
    """Open a Watch and take its first answer, SERVING."""
    watch = caller.health.Watch(HealthCheckRequest(service=name))
    assert (await watch.read()).status == SERVING
    return watch


async def test_the_drain_tells_clients_and_goes_on_serving(simulator: Simulator) -> None:
    """On SIGTERM every Watch says NOT_SERVING and stays open, liveness stays SERVING, calls are served to the end."""
    drain_seconds = 1.5
    environment = {**simulator.environment, "MONITOR_CONTACT_DRAIN_SECONDS": str(drain_seconds)}
    async with serve(environment) as service, calling(service.target) as caller:
        await service.serving()
        watches = [await _watch(caller, name) for name in READY_NAMES]
        alive = await _watch(caller, "liveness")
        signalled_at = time.monotonic()
        service.running.signal(signal.SIGTERM)
        for watch in watches:
            assert (await watch.read()).status == NOT_SERVING
        for name in READY_NAMES:
            assert (await caller.health.Check(HealthCheckRequest(service=name))).status == NOT_SERVING
        assert (await caller.health.Check(HealthCheckRequest(service="liveness"))).status == SERVING
        assert (await caller.ask()).is_ok
        async with calling(service.target) as newcomer:
            assert (await newcomer.health.Check(HealthCheckRequest(service="liveness"))).status == SERVING
        for watch in (*watches, alive):
            assert await watch.read() is grpc.aio.EOF
            assert await watch.code() is grpc.StatusCode.OK
        assert time.monotonic() - signalled_at >= drain_seconds
        assert await service.running.ended() == 0
        assert time.monotonic() - signalled_at < drain_seconds + AT_ONCE_SECONDS
        assert len(service.running.log("stopped")) == 1


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_an_open_reflection_stream_does_not_hold_up_the_stop(simulator: Simulator, version: str) -> None:
    """A tool that keeps its reflection stream open is cut off at the stop, with an orderly end."""
    async with serve(simulator.environment) as service, calling(service.target) as caller:
        await service.serving()
        stream = caller.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )()
        await stream.write(ServerReflectionRequest(list_services=""))
        answer: Any = await stream.read()
        assert answer.list_services_response.service
        service.running.signal(signal.SIGTERM)
        assert await stream.read() is grpc.aio.EOF
        assert await service.running.ended(AT_ONCE_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_call_in_flight_finishes(simulator: Simulator, number: signal.Signals) -> None:
    """A call that Connect works on for a second is answered, though the stop began in its middle; then exit code 0."""
    simulator.switches = simulator.switches.change({"latency_seconds": 1.0})
    async with serve(simulator.environment) as service, calling(service.target) as caller:
        await service.serving()
        call = asyncio.ensure_future(caller.ask())
        await until(lambda: len(simulator.calls()) == 1)
        service.running.signal(number)
        await service.running.logged("draining")
        answer = await call
        assert answer.is_ok, answer
        assert await service.running.ended() == 0
        assert len(simulator.sessions) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(simulator: Simulator, number: signal.Signals) -> None:
    """Who does not want to wait for the drain signals again; the exit code says that it was cut short."""
    environment = {**simulator.environment, "MONITOR_CONTACT_DRAIN_SECONDS": "600"}
    async with serve(environment) as service:
        await service.serving()
        service.running.signal(number)
        await service.running.logged("draining")
        service.running.signal(number)
        assert await service.running.ended(AT_ONCE_SECONDS) == 130


class SilentServer:
    """Accepts connections on loopback and never answers; `asked` is set when somebody has come."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.address = ""

    async def serve(self) -> AsyncIterator[None]:
        """Listen while the body runs."""
        released = asyncio.Event()

        async def keep_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked.set()
            await released.wait()
            writer.close()

        server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            self.address = f"{host}:{port}"
            yield
            released.set()


@pytest.fixture
async def silent_server() -> AsyncIterator[SilentServer]:
    """A server that never answers."""
    server = SilentServer()
    async for _ in server.serve():
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_during_start_up_ends_it_at_once(silent_server: SilentServer, number: signal.Signals) -> None:
    """While it still waits for its first credentials, a signal is obeyed, and nothing has listened yet."""
    environment = {
        "AWS_REGION": "us-east-1",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{silent_server.address}/credentials",
        "MONITOR_CONTACT_LISTEN": "127.0.0.1:0",
    }
    async with started("serve", environment=environment) as running:
        await silent_server.asked.wait()
        running.signal(number)
        assert await running.ended(AT_ONCE_SECONDS) == 130
        assert running.log("listening") == []
        assert "Traceback" not in running.err.text()
