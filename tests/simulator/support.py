"""What the simulator's tests share: a clock that stands, botocore's signer, and a caller on a raw socket.

Requests are signed by botocore, never by code of this project, and answers are read byte by byte, so that neither side
of the simulator is tested with itself.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, settings
from monitor_contact_service.simulator import Simulator, World

NOW = 1_800_000_000.0
# Properties here are about what is right, not about how fast: a busy machine must not fail them.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LISTEN = ["SILENT_MONITOR"]
LISTEN_AND_BARGE = ["SILENT_MONITOR", "BARGE"]
JSON_HEADERS = {"Content-Type": "application/json"}


class FakeClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        """Return the time, in epoch seconds."""
        return self.now


class FakeSleep:
    """Sleeping that ends when the test says so; `asked` holds the seconds of every sleep begun."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        """Wait until `over` is set."""
        self.asked.append(seconds)
        self.begun.set()
        await self.over.wait()


class Key(NamedTuple):
    """Credentials to sign with."""

    id: str = "AKIDSIMULATOR"
    secret: str = "simulator-secret"
    token: str | None = None


class _SignerAt(SigV4Auth):
    """botocore's signer at a given time: its `add_auth` reads the clock by itself."""

    def add_auth_at(self, request: AWSRequest, now: float) -> None:
        request.context["timestamp"] = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]  # not in the stubs
        string_to_sign = self.string_to_sign(request, self.canonical_request(request))
        signature = self.signature(string_to_sign, request)
        self._inject_signature_to_request(request, signature)  # type: ignore[attr-defined]  # not in the stubs


def sign(
    method: str,
    url: str,
    body: bytes = b"",
    *,
    key: Key | None = None,
    now: float = NOW,
    region: str = "us-east-1",
    service: str = "connect",
) -> dict[str, str]:
    """Return the headers of a request that botocore signed, `Host` included."""
    key = key or Key()
    request = AWSRequest(method, url, data=body, headers=JSON_HEADERS if method == "POST" else {})
    _SignerAt(Credentials(key.id, key.secret, key.token), service, region).add_auth_at(request, now)
    return {"Host": urlsplit(url).netloc, **{str(name): str(value) for name, value in request.headers.items()}}


@dataclass(frozen=True)
class Reply:
    """An HTTP answer as read from the socket."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The JSON body."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error name in the header, or an empty text."""
        return self.headers.get("x-amzn-errortype", "")

    @property
    def text(self) -> str:
        """The error's text."""
        return str(self.document["Message"])


class Wire:
    """One connection to a simulator, as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str) -> "Wire":
        """Connect."""
        place = urlsplit(url)
        return cls(*await asyncio.open_connection(place.hostname, place.port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def send(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> None:
        """Send a request."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        length = [f"Content-Length: {len(body)}"] if body or method != "GET" else []
        self.write("\r\n".join([*lines, *length, "", ""]).encode() + body)

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    async def receive(self) -> Reply:
        """Read one answer. IncompleteReadError: the connection ended before the answer did."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(head[0].split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Read until the other side ends the connection."""
        return await self._reader.read()

    async def waits(self) -> bool:
        """Say whether the connection is open and silent, after everything that is ready has run."""
        read = asyncio.ensure_future(self._reader.read(1))
        for _ in range(20):
            await asyncio.sleep(0)
        silent = not read.done()
        read.cancel()
        return silent


def monitor_body(
    world: World,
    *,
    instance: str = "main",
    contact: str = "call",
    user: str = "sue",
    capabilities: list[str] | None = None,
    token: str | None = None,
) -> bytes:
    """Return a MonitorContact body for things of the world, by name."""
    document: dict[str, object] = {
        "InstanceId": world.instances[instance].id,
        "ContactId": world.contacts[contact].id,
        "UserId": world.users[user].id,
    }
    document["AllowedMonitorCapabilities"] = LISTEN if capabilities is None else capabilities
    if token is not None:
        document["ClientToken"] = token
    return json.dumps(document).encode()


class Caller:
    """Makes whole calls, each on a connection of its own, signed at the time of the simulator's clock."""

    def __init__(self, simulator: Simulator, clock: FakeClock) -> None:
        self._simulator, self._clock = simulator, clock

    async def post(self, body: bytes, *, key: Key | None = None) -> Reply:
        """Call MonitorContact with a body as it is."""
        return await self._call("POST", "/contact/monitor", body, key)

    async def monitor(self, **members: Any) -> Reply:
        """Call MonitorContact for things of the world, by name: see `monitor_body`."""
        return await self.post(monitor_body(self._simulator.world, **members))

    async def get(self, target: str, *, key: Key | None = None) -> Reply:
        """Call a read."""
        return await self._call("GET", target, b"", key)

    async def ask_presence(self, body: bytes, instance_id: str | None = None) -> Reply:
        """Call GetCurrentUserData with a body as it is, for the main instance if none is named."""
        instance_id = self._simulator.world.instances["main"].id if instance_id is None else instance_id
        return await self._call("POST", f"/metrics/userdata/{instance_id}", body, None)

    async def control(self, method: str, name: str, body: bytes = b"") -> Reply:
        """Call the control API, unsigned."""
        async with await Wire.open(self._simulator.url) as wire:
            wire.send(method, f"/_simulator/{name}", body, {"Host": "simulator"})
            return await wire.receive()

    async def open(self) -> Wire:
        """Open a connection for a test to use byte by byte."""
        return await Wire.open(self._simulator.url)

    def send_monitor(self, wire: Wire, **members: Any) -> None:
        """Send a MonitorContact on a connection, and leave the answer to the test."""
        body = monitor_body(self._simulator.world, **members)
        url = self._simulator.url + "/contact/monitor"
        wire.send("POST", "/contact/monitor", body, sign("POST", url, body, now=self._clock.now))

    async def _call(self, method: str, target: str, body: bytes, key: Key | None) -> Reply:
        async with await self.open() as wire:
            headers = sign(method, self._simulator.url + target, body, key=key, now=self._clock.now)
            wire.send(method, target, body, headers)
            return await wire.receive()
