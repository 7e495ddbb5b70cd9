"""A TCP proxy that behaves like kube-proxy: new connections go to ready replicas, open ones are left alone.

Readiness is asked for on the plain-text health port, as a kubelet does; what it says is known here only later, as in a
cluster. Knows nothing of HTTP/2. Without any ready replica, or where nobody listens any more, it refuses.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

import grpc
import grpc.aio
from e2e.processes import until
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

# Choice: much shorter than a kubelet's, so that `late_seconds` says how late it is.
_PROBE_SECONDS: Final = 0.05
_PROBE_TIMEOUT_SECONDS: Final = 2.0


@dataclass(eq=False)
class Endpoint:
    """One replica: where it listens, where its health is asked for, and whether it gets new connections."""

    target: str
    health: str
    is_used: bool = False


class KubeProxy:
    """Forwards connections; `target` is where it listens.

    Args:
        late_seconds: how much later than a change of readiness new connections follow it.
    """

    def __init__(self, late_seconds: float) -> None:
        self.target = ""
        self._late_seconds = late_seconds
        self._followed: dict[Endpoint, asyncio.Task[None]] = {}
        self._turn = count()

    async def add(self, endpoint: Endpoint) -> None:
        """Follow the readiness of a replica; return when it gets connections."""
        self._followed[endpoint] = asyncio.ensure_future(self._follow(endpoint))
        await until(lambda: endpoint.is_used)

    async def remove(self, endpoint: Endpoint) -> None:
        """Forget a replica."""
        endpoint.is_used = False
        task = self._followed.pop(endpoint)
        task.cancel()
        await asyncio.wait([task])

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen while the body runs."""
        server = await asyncio.get_running_loop().create_server(lambda: _Downstream(self), "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            self.target = f"{host}:{port}"
            yield
            for endpoint in list(self._followed):
                await self.remove(endpoint)

    def choose(self) -> Endpoint | None:
        """Return the endpoint whose turn it is, if any is ready."""
        used = [endpoint for endpoint in self._followed if endpoint.is_used]
        return used[next(self._turn) % len(used)] if used else None

    async def _follow(self, endpoint: Endpoint) -> None:
        async with grpc.aio.insecure_channel(endpoint.health) as channel:
            stub = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
            while True:
                is_ready = await _is_ready(stub)
                asyncio.get_running_loop().call_later(self._late_seconds, self._use, endpoint, is_ready)
                await asyncio.sleep(_PROBE_SECONDS)  # not a wait: the rhythm of the probes

    def _use(self, endpoint: Endpoint, is_ready: bool) -> None:  # noqa: FBT001 - the answer of the probe
        endpoint.is_used = is_ready and endpoint in self._followed


async def _is_ready(stub: HealthStub) -> bool:
    try:
        answer = await stub.Check(HealthCheckRequest(service="readiness"), timeout=_PROBE_TIMEOUT_SECONDS)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == HealthCheckResponse.SERVING)


class _End(asyncio.Protocol):
    """One end of a forwarded connection: what arrives goes to the other end, and so does the close.

    Nothing slows a sender down: the messages here are small.
    """

    def __init__(self, other: asyncio.Transport | None = None) -> None:
        self.other = other

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.other is not None:
            self.other.close()


class _Downstream(_End):
    """The end at the client: it connects to a replica before anything is read."""

    def __init__(self, proxy: KubeProxy) -> None:
        super().__init__()
        self._proxy = proxy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect(transport))

    async def _connect(self, transport: asyncio.Transport) -> None:
        endpoint = self._proxy.choose()
        if endpoint is None:
            transport.abort()
            return
        host, _, port = endpoint.target.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            self.other, _ = await loop.create_connection(lambda: _End(transport), host, int(port))
        except OSError:
            transport.abort()
            return
        if transport.is_closing():
            self.other.close()
        else:
            transport.resume_reading()
