"""`server`: gRPC accepts unknown options silently, so each one is proved by its effect."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
import raw_h2
from certificates import Authority
from fakes import SESSION, FakeClock, FakeTransport
from harness import UNPACED, Service, serving
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceServicer, MonitorContactServiceStub
from monitor_contact_service import server as grpc_server
from monitor_contact_service.address import parse_address
from monitor_contact_service.health import Health
from monitor_contact_service.server import PortTakenError
from monitor_contact_service.settings import Settings

if TYPE_CHECKING:
    from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceAsyncStub

# That of the shipped client, reduced to one code.
_RETRY_POLICY = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
_METHOD = "/monitor_contact.v1.MonitorContactService/MonitorContact"
_VALID = MonitorContactRequest(instance_id="i", contact_id="c", user_id="u")
_GENEROUS_SECONDS = 30.0  # a test that would hang for ever ends


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Service]:
    """The service over a fake transport; nothing here changes it."""
    async with serving(FakeTransport(FakeClock())) as service:
        yield service


class _Silent(MonitorContactServiceServicer):
    """Is never called."""

    async def MonitorContact(  # noqa: N802 - the contract's name
        self,
        request: MonitorContactRequest,
        context: "grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]",
    ) -> MonitorContactResponse:
        """Be registered."""
        raise NotImplementedError


def _bare_server(settings: Settings, handler: MonitorContactServiceServicer | None = None) -> grpc.aio.Server:
    return grpc_server.build(settings, handler=handler or _Silent(), health=Health([]), reflection=None)


async def test_a_second_server_cannot_listen_on_the_same_port(running: Service) -> None:
    """By gRPC's default it could, silently, and take half of the calls; the error names the setting."""
    address = parse_address(running.target)
    with pytest.raises(PortTakenError, match="MONITOR_CONTACT_LISTEN") as raised:
        grpc_server.listen(_bare_server(Settings()), address)
    assert str(address) in str(raised.value)


async def test_a_host_of_another_machine_is_refused_like_a_taken_port() -> None:
    """Nothing listens and the error says so."""
    with pytest.raises(PortTakenError, match=r"192\.0\.2\.1:50051"):
        grpc_server.listen(_bare_server(Settings()), parse_address("192.0.2.1:50051"))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
async def test_port_0_is_a_free_port_and_the_answer_says_which(listen: str) -> None:
    """The system chooses, and whoever composes the server learns the choice; IPv6 works too."""
    if "::1" in listen and not _has_ipv6_loopback():
        pytest.skip("no IPv6 loopback on this machine")
    async with serving(FakeTransport(FakeClock()), Settings(**{**UNPACED, "listen": listen})) as service:
        assert parse_address(service.target).port > 0
        assert (await service.stub.MonitorContact(_VALID, timeout=5)).contact_id == SESSION.contact_id


def _has_ipv6_loopback() -> bool:
    try:
        grpc_server.listen(_bare_server(Settings()), parse_address("[::1]:0"))
    except PortTakenError:
        return False
    return True


async def _send(service: Service, size: int) -> grpc.StatusCode:
    """Send a message of exactly `size` bytes, filled by an unknown field, and return the code of the answer."""
    valid = _VALID.SerializeToString()
    filler = size - len(valid) - 4  # tag of field 15, length in two or three bytes
    for length in range(filler + 4, filler - 4, -1):
        unknown = bytes([15 << 3 | 2]) + _varint(length) + b"x" * length
        if len(valid) + len(unknown) == size:
            break
    else:
        pytest.fail("no such size")
    call: grpc.aio.UnaryUnaryCall[bytes, bytes] = _raw(service.channel)(valid + unknown, timeout=_GENEROUS_SECONDS)
    return await call.code()


def _raw(channel: grpc.aio.Channel) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    return channel.unary_unary(_METHOD)


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


async def test_messages_are_limited_to_16_kib(running: Service) -> None:
    """The limit passes, one byte more is refused before any handler sees it."""
    assert await _send(running, 16_384) is grpc.StatusCode.OK
    assert await _send(running, 16_385) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_largest_valid_request_is_below_the_limit(running: Service) -> None:
    """Every field as long as it may be, in the longest characters."""
    face = "\N{GRINNING FACE}"
    request = MonitorContactRequest(
        instance_id=face * 100,
        contact_id=face * 256,
        user_id=face * 256,
        allowed_monitor_capabilities=["MONITOR_CAPABILITY_SILENT_MONITOR", "MONITOR_CAPABILITY_BARGE"],
        client_token=face * 500,
    )
    assert request.ByteSize() > 4_000
    assert (await running.stub.MonitorContact(request, timeout=5)).contact_id == SESSION.contact_id


async def test_metadata_is_limited_to_8_kib_and_refused_reliably(running: Service) -> None:
    """Below the limit every call passes, above it none does: nothing in between is left to chance."""
    for _ in range(20):
        call = running.stub.MonitorContact(_VALID, timeout=5, metadata=(("x-filler", "x" * 7_000),))
        assert (await call).contact_id == SESSION.contact_id
        refused = running.stub.MonitorContact(_VALID, timeout=5, metadata=(("x-filler", "x" * 8_300),))
        assert await refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_connections_rotate_without_an_error() -> None:
    """With the shortest age, calls one after another see several connections and not one failure.

    A call that meets the farewell of its connection on the way was not seen by the server: gRPC repeats it by itself,
    without any retry policy, unless retries are switched off altogether (gRFC A6, transparent retries).
    """
    peers: set[str] = set()

    class Remembering(MonitorContactServiceServicer):
        async def MonitorContact(  # noqa: N802 - the contract's name
            self,
            request: MonitorContactRequest,
            context: "grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]",
        ) -> MonitorContactResponse:
            """Remember from which port the call came."""
            peers.add(context.peer())
            return MonitorContactResponse(contact_id=request.contact_id)

    settings = Settings(listen="127.0.0.1:0", max_connection_age_seconds=1)
    async with _running(settings, Remembering(), repeats_unseen=True) as channel:
        stub = MonitorContactServiceStub(channel)
        async with asyncio.timeout(_GENEROUS_SECONDS):
            while len(peers) < 3:
                assert (await stub.MonitorContact(_VALID, timeout=5)).contact_id == "c"


async def test_a_call_outlives_the_age_of_its_connection() -> None:
    """A connection that is due for rotation lets its calls finish first."""
    started, released = asyncio.Event(), asyncio.Event()
    peers: set[str] = set()

    class Slow(MonitorContactServiceServicer):
        async def MonitorContact(  # noqa: N802 - the contract's name
            self,
            request: MonitorContactRequest,
            context: "grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]",
        ) -> MonitorContactResponse:
            """Answer the slow call only after it was released."""
            peers.add(context.peer())
            if request.contact_id == "slow":
                started.set()
                await released.wait()
            return MonitorContactResponse(contact_id=request.contact_id)

    async with _running(Settings(listen="127.0.0.1:0", max_connection_age_seconds=1), Slow()) as channel:
        stub = MonitorContactServiceStub(channel)
        slow = asyncio.ensure_future(_echoed(stub, "slow"))
        async with asyncio.timeout(_GENEROUS_SECONDS):
            await started.wait()
            while len(peers) < 2:  # the slow call's connection takes no new calls after its age
                assert await _echoed(stub, "fast") == "fast"
        assert not slow.done()
        released.set()
        assert await slow == "slow"


async def test_at_most_a_hundred_calls_of_one_connection_are_in_the_server() -> None:
    """A rapid reset is bounded: never more than 100 at a time, and none of 150 callers that retry sees a failure.

    The 101st call waits in the client, but when many end at once gRPC's server refuses some that come in their place:
    49 of 150 were UNAVAILABLE without details (measured). The shipped client's retry policy covers that.
    """
    inside, all_in, released = 0, asyncio.Event(), asyncio.Event()
    most = 0

    class Counting(MonitorContactServiceServicer):
        async def MonitorContact(  # noqa: N802 - the contract's name
            self,
            request: MonitorContactRequest,
            context: "grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]",
        ) -> MonitorContactResponse:
            """Count who is inside."""
            del context
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            if inside == 100:
                all_in.set()
            await released.wait()
            inside -= 1
            return MonitorContactResponse(contact_id=request.contact_id)

    async with _running(Settings(listen="127.0.0.1:0"), Counting(), retry_policy=_RETRY_POLICY) as channel:
        stub = MonitorContactServiceStub(channel)
        calls = [stub.MonitorContact(_VALID, timeout=_GENEROUS_SECONDS) for _ in range(150)]
        async with asyncio.timeout(_GENEROUS_SECONDS):
            await all_in.wait()
            released.set()
            assert [(await call).contact_id for call in calls] == ["c"] * 150
    assert most == 100


class _Echo(MonitorContactServiceServicer):
    """Answers at once."""

    async def MonitorContact(  # noqa: N802 - the contract's name
        self,
        request: MonitorContactRequest,
        context: "grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]",
    ) -> MonitorContactResponse:
        """Return the contact's id."""
        del context
        return MonitorContactResponse(contact_id=request.contact_id)


@asynccontextmanager
async def _listening(
    settings: Settings, credentials: Callable[[], grpc.ServerCredentials] | None = None
) -> AsyncIterator[str]:
    """Yield the target of a server, which speaks TLS if it has credentials."""
    server = _bare_server(settings, _Echo())
    target = grpc_server.listen(server, settings.address, credentials)
    await server.start()
    try:
        yield str(target)
    finally:
        await server.stop(1)


def _server_credentials(authority: Authority) -> Callable[[], grpc.ServerCredentials]:
    leaf = authority.leaf(dns_names=["localhost"])
    return lambda: grpc.ssl_server_credentials([(leaf.key, leaf.certificate)])


async def test_with_credentials_the_port_speaks_tls_and_nothing_else() -> None:
    """Who trusts the CA is served; plain text is not."""
    authority = Authority()
    async with _listening(Settings(listen="127.0.0.1:0"), _server_credentials(authority)) as target:
        trusting = grpc.ssl_channel_credentials(authority.certificate)
        name = [("grpc.ssl_target_name_override", "localhost")]
        async with grpc.aio.secure_channel(target, trusting, name) as channel:
            assert await _echoed(MonitorContactServiceStub(channel), "c") == "c"
        async with grpc.aio.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
            call = MonitorContactServiceStub(channel).MonitorContact(_VALID, timeout=_GENEROUS_SECONDS)
            assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_with_credentials_a_name_is_listened_on_with_all_its_addresses() -> None:
    """`localhost` has two on most machines: one port for both, and each handshake succeeds."""
    authority = Authority()
    async with _listening(Settings(listen="localhost:0"), _server_credentials(authority)) as target:
        trusting = grpc.ssl_channel_credentials(authority.certificate)
        for host in ("localhost", "127.0.0.1"):
            options = [("grpc.ssl_target_name_override", "localhost")]
            address = f"{host}:{target.rpartition(':')[2]}"
            async with grpc.aio.secure_channel(address, trusting, options=options) as channel:
                await MonitorContactServiceStub(channel).MonitorContact(
                    MonitorContactRequest(), timeout=_GENEROUS_SECONDS
                )


async def test_a_taken_port_is_refused_with_credentials_too(running: Service) -> None:
    """By the same error."""
    with pytest.raises(PortTakenError, match="MONITOR_CONTACT_LISTEN"):
        grpc_server.listen(_bare_server(Settings()), parse_address(running.target), _server_credentials(Authority()))


async def test_the_connection_after_the_last_is_hung_up_on() -> None:
    """20 connections are served on, the 21st gets no answer; as soon as one leaves there is room for another."""
    async with _listening(Settings(listen="127.0.0.1:0", max_connections=20)) as target, AsyncExitStack() as held:
        connections = [await held.enter_async_context(raw_h2.connected(target)) for _ in range(20)]
        for connection in connections:
            assert (await connection.call()).grpc_status == 0
        async with raw_h2.connected(target) as refused:
            await refused.ended()
        for connection in connections:
            assert (await connection.call()).grpc_status == 0
        connections[0].abort()
        async with asyncio.timeout(_GENEROUS_SECONDS):
            while not await _is_served(target):
                pass


async def _is_served(target: str) -> bool:
    async with raw_h2.connected(target) as connection:
        try:
            return (await connection.call()).grpc_status == 0
        except ConnectionError:
            return False


async def test_who_connects_and_says_nothing_is_hung_up_on_within_seconds() -> None:
    """With TLS in the middle of the handshake, in plain text before HTTP/2 has begun; gRPC's default is two minutes."""
    settings = Settings(listen="127.0.0.1:0")
    async with _listening(settings) as plain, _listening(settings, _server_credentials(Authority())) as secure:
        async with asyncio.timeout(_GENEROUS_SECONDS):
            await asyncio.gather(*[_until_hung_up(target) for target in (plain, secure) * 10])


async def _until_hung_up(target: str) -> None:
    address = parse_address(target)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        await reader.read()  # to the end
    finally:
        writer.transport.abort()


async def _echoed(stub: "MonitorContactServiceAsyncStub", contact_id: str) -> str:
    response = await stub.MonitorContact(MonitorContactRequest(contact_id=contact_id), timeout=_GENEROUS_SECONDS)
    return response.contact_id


@asynccontextmanager
async def _running(
    settings: Settings,
    handler: MonitorContactServiceServicer,
    *,
    retry_policy: str = "",
    repeats_unseen: bool = False,
) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel to a server; `repeats_unseen`: as every channel by default, see the test that asks for it."""
    server = _bare_server(settings, handler)
    target = str(grpc_server.listen(server, settings.address))
    await server.start()
    options: list[tuple[str, str | int]] = [("grpc.use_local_subchannel_pool", 1)]
    if retry_policy:
        options.append(("grpc.service_config", retry_policy))
    elif not repeats_unseen:
        options.append(("grpc.enable_retries", 0))
    try:
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            yield channel
    finally:
        await server.stop(1)
