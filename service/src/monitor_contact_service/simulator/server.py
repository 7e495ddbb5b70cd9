"""The HTTP server around a simulation: `Simulator`, for tests in the same process and for `monitor-contact simulate`.

Turns HTTP requests into the simulation's and brings its answers onto the socket. What is answered is decided in
`simulation`, how an answer goes wrong is `delivery`'s, the control API is `control`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

from aiohttp import web

from . import answers, delivery
from .answers import Answer
from .buckets import Quota
from .control import PREFIX, Control
from .faults import Fault
from .signature import SignedRequest
from .simulation import Simulation
from .switches import Switches
from .world import World
from .worldfile import default_world

SHUTDOWN_SECONDS = 0.05  # calls in flight when the simulator closes are dropped, not served


class NotLoopbackError(ValueError):
    """The simulator was told to listen where others could reach it."""


def _require_loopback(host: str) -> None:
    try:
        loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise NotLoopbackError(
            f"the simulator listens on loopback only, not on {host!r}: its control API has no password; use 127.0.0.1"
        )


class Simulator(Simulation):
    """A stand-in for Amazon Connect on a port of this machine: `async with Simulator() as sim: … sim.url`.

    world: the default world if none. port: 0 for a free one. quotas: by API, over the default ones. clock: epoch
    seconds. sleep: waits for latency and delays. seed: of the draws for faults with a probability. log: gets a line for
    each call. NotLoopbackError: host is not on loopback; OSError on start: the port is taken.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        switches: Switches | None = None,
        quotas: Mapping[str, Quota] | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        seed: int = 0,
        log: Callable[[str], object] | None = None,
    ) -> None:
        _require_loopback(host)
        super().__init__(
            world or default_world(),
            switches=switches or Switches(),
            quotas=quotas or {},
            clock=clock,
            sleep=sleep,
            seed=seed,
            log=log,
        )
        self._host, self._port = host, port
        self._control = Control(self)
        self._runner: web.ServerRunner | None = None
        self._released = asyncio.Event()
        self._answers_sent: WeakKeyDictionary[asyncio.Transport, int] = WeakKeyDictionary()

    async def start(self) -> None:
        """Begin to listen."""
        self._released.clear()
        # A caller that hangs up ends a hanging handler; what has begun to act is shielded from it.
        server = web.Server(self._serve, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    async def close(self) -> None:
        """Stop listening and drop every connection and every call in flight."""
        self._released.set()
        await self.drop_calls_in_flight()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """The endpoint, e.g. `http://127.0.0.1:49152`."""
        if self._runner is None:
            raise RuntimeError("the simulator is not running; use it in `async with`")
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point boto3, the AWS command line and the service here."""
        keys = self.world.access_keys.values()
        key = min(keys, key=lambda key: key.session_token is not None)  # a lasting one, if there is any
        token = {"AWS_SESSION_TOKEN": key.session_token} if key.session_token else {}
        return {
            "AWS_ENDPOINT_URL_CONNECT": self.url,
            "AWS_REGION": self.world.region,
            "AWS_ACCESS_KEY_ID": key.id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            **token,
        }

    async def _serve(self, http: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await http.read()
        except web.HTTPRequestEntityTooLarge:
            return delivery.respond(answers.encode(answers.TOO_LARGE))
        if http.raw_path.startswith(PREFIX):
            return delivery.respond(self._control.answer(http.method, http.raw_path, body))
        answer, fault = await self.answer(SignedRequest(http.method, http.raw_path, _headers(http), body))
        return await self._deliver(http, answer, fault)

    async def _deliver(self, http: web.BaseRequest, answer: Answer, fault: Fault | None) -> web.StreamResponse:
        match fault.action if fault else None:
            case "hang":
                return await delivery.hang(http, self._released)
            case "close":
                return delivery.drop(http)
            case "reset":
                return delivery.drop(http, reset=True)
            case "truncate":
                return delivery.truncate(http, answer)
        if self._is_last(http):
            return await delivery.respond_and_close(http, answer)
        return delivery.respond(answer)

    def _is_last(self, http: web.BaseRequest) -> bool:
        limit, transport = self.switches.close_idle_after_requests, http.transport
        if limit is None or transport is None:
            return False
        sent = self._answers_sent[transport] = self._answers_sent.get(transport, 0) + 1
        return sent >= limit


def _headers(http: web.BaseRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in http.headers.items():
        lower = name.lower()
        headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
    return headers
