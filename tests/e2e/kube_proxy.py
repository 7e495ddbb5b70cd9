"""A TCP proxy that behaves like kube-proxy: new connections go to replicas that are ready, open ones are left alone.

That a replica is not ready any more is learned late, as in a cluster.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

# How often readiness is asked for, and how much later a change takes effect.
PROBE_SECONDS = 0.1
LATE_SECONDS = 0.2
_CHUNK_BYTES = 65_536


@dataclass(eq=False)
class Replica:
    """Where one listens, and where its health is asked for."""

    target: str
    health: str
    ready: bool = False


@dataclass
class KubeProxy:
    """Forwards; `replicas` may change at any time. `target` is where it listens."""

    target: str = ""
    replicas: list[Replica] = field(default_factory=list)
    not_alive: int = 0  # answers of `liveness` other than SERVING while a replica could be asked

    async def ready(self, replica: Replica) -> None:
        """Wait until connections go to the replica."""
        while not replica.ready:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(PROBE_SECONDS)  # not a wait: asks again until it is so

    async def probe(self) -> None:
        """Follow readiness, for ever."""
        async with asyncio.TaskGroup() as probes:
            known: set[Replica] = set()
            while True:
                for replica in set(self.replicas) - known:
                    known.add(replica)
                    probes.create_task(self._probe(replica))
                await asyncio.sleep(PROBE_SECONDS)  # not a wait: the rhythm of a kubelet

    async def _probe(self, replica: Replica) -> None:
        async with grpc.aio.insecure_channel(replica.health) as channel:
            stub = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
            while replica in self.replicas:
                ready = await _is_serving(stub, "readiness")
                self.not_alive += await _is_serving(stub, "liveness") is False
                asyncio.get_running_loop().call_later(LATE_SECONDS, setattr, replica, "ready", bool(ready))
                await asyncio.sleep(PROBE_SECONDS)  # not a wait: likewise

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        ready = [replica for replica in self.replicas if replica.ready]
        if not ready:
            writer.close()
            return
        host, _, port = random.choice(ready).target.rpartition(":")  # noqa: S311 - no secret
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, upstream_writer), _pump(upstream_reader, writer))


async def _is_serving(stub: HealthStub, service: str) -> bool | None:
    """Return the answer, None if there is none."""
    try:
        answer = await stub.Check(HealthCheckRequest(service=service), timeout=1)
    except grpc.aio.AioRpcError:
        return None
    return bool(answer.status == HealthCheckResponse.SERVING)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def kube_proxy() -> AsyncIterator[KubeProxy]:
    """Yield a proxy without replicas, listening."""
    proxy = KubeProxy()
    server = await asyncio.start_server(proxy.forward, "127.0.0.1", 0)
    proxy.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    probes = asyncio.ensure_future(proxy.probe())
    try:
        yield proxy
    finally:
        probes.cancel()
        await asyncio.wait([probes])
        server.close()
