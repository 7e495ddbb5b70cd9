"""One call: what is sent, what comes back, tokens, deadlines, cancellation, closing."""

import asyncio
import re
import threading
import time
import uuid
from functools import partial
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import grpc
import grpc_testing  # type: ignore[import-untyped]
import pytest
from monitor_contact.v1 import monitor_contact_pb2 as pb
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub
from monitor_contact_client import (
    AsyncMonitorContactClient,
    CallCancelled,
    Capability,
    DeadlineExceeded,
    FixRequest,
    Metadata,
    MonitorContactClient,
    MonitorContactError,
    MonitoringSession,
    RequestTooLarge,
    TlsOptions,
)
from monitor_contact_client.testing import AsyncFakeMonitorContactClient, FakeMonitorContactClient

from client.scripted_server import hang, serving, succeed
from client.twins import APART, ClientOptions, Kind, connected, twin


async def test_session_and_request_as_the_contract_has_them(kind: Kind) -> None:
    """Each argument lands in its field, and each field of the answer in its attribute."""
    with serving() as server:
        async with connected(kind, server.target) as client:
            session = await client.call(
                instance_id="i",
                contact_id="c",
                user_id="u",
                capabilities=[Capability.SILENT_MONITOR, Capability.BARGE],
                client_token="token",
                metadata=[("traceparent", "00-1-2-01")],
            )
    assert session == MonitoringSession("session-1", "arn:session-1", "token", "request-1")
    (seen,) = server.seen
    assert seen.request == pb.MonitorContactRequest(
        instance_id="i",
        contact_id="c",
        user_id="u",
        allowed_monitor_capabilities=[pb.MONITOR_CAPABILITY_SILENT_MONITOR, pb.MONITOR_CAPABILITY_BARGE],
        client_token="token",
    )
    assert seen.metadata["traceparent"] == "00-1-2-01"
    assert not {key for key in seen.metadata if key.startswith("x-")}


async def test_absent_arn_and_request_id_are_none(kind: Kind) -> None:
    """What the server does not send is None, never an empty text."""
    with serving(succeed(contact_arn="", request_id="")) as server:
        async with connected(kind, server.target) as client:
            session = await client.call()
    assert (session.contact_arn, session.request_id) == (None, None)


@pytest.mark.parametrize("given", [None, ""])
async def test_absent_token_becomes_a_uuid4_of_its_own_for_each_call(kind: Kind, given: str | None) -> None:
    """Absent and empty are the same: one new UUID4 for each call, sent and given back."""
    with serving() as server:
        async with connected(kind, server.target) as client:
            tokens = [(await client.call(client_token=given)).client_token for _ in range(2)]
    assert [seen.request.client_token for seen in server.seen] == tokens
    assert {uuid.UUID(token).version for token in tokens} == {4}
    assert len(set(tokens)) == 2


async def test_explicit_token_is_untouched(kind: Kind) -> None:
    """The caller's token travels as it is, whatever it looks like."""
    token = " Já-7 🎧 "
    with serving() as server:
        async with connected(kind, server.target) as client:
            session = await client.call(client_token=token)
    assert session.client_token == server.seen[0].request.client_token == token


async def test_deadline_of_the_client_holds_unless_the_call_names_one(kind: Kind) -> None:
    """The server sees the deadline of the call, else the client's, else 10 seconds."""
    with serving() as server:
        async with connected(kind, server.target) as client:
            await client.call()
        async with connected(kind, server.target, timeout_seconds=3.0) as client:
            await client.call()
            await client.call(timeout_seconds=5.0)
    left = [seen.time_left or 0.0 for seen in server.seen]
    assert left == [pytest.approx(seconds, abs=0.9) for seconds in (10.0, 3.0, 5.0)]


async def test_silent_server_ends_at_the_deadline_with_the_token(kind: Kind) -> None:
    """No answer in time: a typed error close to the deadline that still knows the token."""
    with serving(hang(2.0)) as server:
        async with connected(kind, server.target) as client:
            begin = time.monotonic()
            with pytest.raises(DeadlineExceeded) as caught:
                await client.call(timeout_seconds=0.3)
            took = time.monotonic() - begin
    assert 0.25 < took < 0.8
    assert caught.value.client_token == server.seen[0].request.client_token
    assert caught.value.reason is None


@pytest.mark.parametrize("seconds", [0, 0.0, -1.0, float("nan"), float("inf"), 1_000_000.1, 1e300, 10**400])
async def test_impossible_timeouts_are_refused_before_anything_is_sent(kind: Kind, seconds: float) -> None:
    """A timeout is a positive number of seconds that gRPC can count, for the client and for the call."""
    with pytest.raises(ValueError, match="timeout_seconds"):
        twin(kind, "127.0.0.1:1", timeout_seconds=seconds)
    async with connected(kind, "127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="timeout_seconds"):
            await client.call(timeout_seconds=seconds)


async def test_request_over_16_kib_is_typed_and_never_sent(kind: Kind) -> None:
    """One byte over is refused here; at the limit it goes out."""
    fixed = pb.MonitorContactRequest(instance_id="i", contact_id="c", user_id="u", client_token="x" * 16_000).ByteSize()
    fits = "x" * (16_000 + 16_384 - fixed)
    with serving() as server:
        async with connected(kind, server.target) as client:
            await client.call(instance_id="i", contact_id="c", user_id="u", client_token=fits)
            with pytest.raises(RequestTooLarge) as caught:
                await client.call(instance_id="i", contact_id="c", user_id="u", client_token=fits + "x")
    assert isinstance(caught.value, FixRequest)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.client_token == fits + "x"
    assert [len(seen.request.SerializeToString()) for seen in server.seen] == [16_384]


async def test_the_longest_timeout_is_one_that_grpc_keeps(kind: Kind) -> None:
    """With 1,000,000 s a call is answered; from some more on gRPC would end it at once."""
    with serving() as server:
        async with connected(kind, server.target, timeout_seconds=1_000_000) as client:
            await client.call()
    assert len(server.seen) == 1


async def test_metadata_of_more_than_the_service_accepts_is_typed_and_never_sent(kind: Kind) -> None:
    """One byte over 7 KiB is refused here; at the limit it goes out, with the bearer token counted."""
    token = "t" * (1_000 - len("authorizationBearer ") - 32)
    fits = "v" * (7_168 - 1_000 - len("x-a") - 32)
    with serving() as server:
        async with connected(kind, server.target, bearer_token=token) as client:
            await client.call(metadata=[("x-a", fits)])
            with pytest.raises(RequestTooLarge, match="7169 bytes, the service accepts 7168") as caught:
                await client.call(metadata=[("x-a", fits + "v")], client_token="mine")
    assert caught.value.client_token == "mine"
    assert len(server.seen) == 1


class _Wrong(NamedTuple):
    """Arguments that the types forbid, the error, and how it begins."""

    arguments: dict[str, Any]
    error: type[Exception]
    message: str


_WRONG = [
    _Wrong({"user_id": uuid.UUID(int=1)}, TypeError, "user_id must be a str, not UUID"),
    _Wrong({"contact_id": 3}, TypeError, "contact_id must be a str, not int"),
    _Wrong({"instance_id": None}, TypeError, "instance_id must be a str, not NoneType"),
    _Wrong({"instance_id": b"i"}, TypeError, "instance_id must be a str, not bytes"),
    _Wrong({"client_token": uuid.UUID(int=1)}, TypeError, "client_token must be a str, not UUID"),
    _Wrong({"client_token": b""}, TypeError, "client_token must be a str, not bytes"),
    _Wrong({"user_id": "\ud800"}, ValueError, "user_id must be text that UTF-8 can carry"),
    _Wrong({"client_token": "\ud800"}, ValueError, "client_token must be text that UTF-8 can carry"),
    _Wrong(
        {"capabilities": Capability.BARGE}, TypeError, "capabilities takes members of Capability in a list, not <Cap"
    ),
    _Wrong({"capabilities": None}, TypeError, "capabilities takes members of Capability in a list, not None"),
    _Wrong(
        {"metadata": {"traceparent": "geheim"}}, TypeError, "metadata must be pairs such as [('traceparent', '…')], not"
    ),
    _Wrong({"metadata": None}, TypeError, "metadata must be pairs such as "),
    _Wrong({"metadata": "geheim"}, TypeError, "metadata[0] must be a pair of a str and a str or bytes"),
    _Wrong({"metadata": ["ab"]}, TypeError, "metadata[0] must be a pair"),
    _Wrong({"metadata": [("x-a", "b"), ("geheim",)]}, TypeError, "metadata[1] must be a pair"),
    _Wrong({"metadata": [("x-a", 5)]}, TypeError, "metadata[0] must be a pair"),
    _Wrong({"metadata": [(5, "geheim")]}, TypeError, "metadata[0] must be a pair"),
    _Wrong({"timeout_seconds": "5"}, TypeError, "timeout_seconds must be a number of seconds, not str"),
    _Wrong({"reason": 5}, TypeError, "reason must be a str, not int"),
    _Wrong({"ticket": b""}, TypeError, "ticket must be a str, not bytes"),
    _Wrong({"end_user_token": b"geheim"}, TypeError, "end_user_token must be a str, not bytes"),
]


@pytest.mark.parametrize("client", ["blocking", "asyncio", "blocking fake", "asyncio fake"])
@pytest.mark.parametrize("wrong", _WRONG, ids=lambda wrong: wrong.message)
async def test_a_wrong_argument_is_named_before_anything_is_sent(client: str, wrong: _Wrong) -> None:
    """With what would be right and without its value; the fakes refuse it as the clients do."""
    arguments = {"instance_id": "i", "contact_id": "c", "user_id": "u", **wrong.arguments}

    async def called() -> None:
        if client.startswith("blocking"):
            blocking = FakeMonitorContactClient() if "fake" in client else MonitorContactClient("127.0.0.1:1")
            blocking.monitor_contact(**arguments)
        else:
            asynchronous = AsyncFakeMonitorContactClient() if "fake" in client else AsyncMonitorContactClient("[::1]:1")
            async with asynchronous as opened:
                await opened.monitor_contact(**arguments)

    with pytest.raises(wrong.error, match=f"^{re.escape(wrong.message)}") as caught:
        await called()
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["BARGE", ["MONITOR_CAPABILITY_BARGE"], [0], [3], [None]])
async def test_capabilities_are_members_of_the_enum(kind: Kind, wrong: list[Capability]) -> None:
    """Texts and unknown numbers are a fault of the calling code, said at once."""
    async with connected(kind, "127.0.0.1:1") as client:
        with pytest.raises(TypeError, match="members of Capability"):
            await client.call(capabilities=wrong)


@pytest.mark.parametrize(
    "pair",
    [("Upper", "x"), ("x y", "x"), ("x", "line\nbreak"), ("x", "é"), ("x", b"raw"), ("x-bin", "text"), ("", "x")],
)
async def test_metadata_that_grpc_would_refuse_is_refused_without_showing_values(
    kind: Kind, pair: tuple[str, str | bytes]
) -> None:
    """GRPC's own error prints all metadata, the bearer token too; ours names the key only."""
    async with connected(kind, "127.0.0.1:1", bearer_token="geheim") as client:
        with pytest.raises(ValueError, match="metadata key") as caught:
            await client.call(metadata=[("x-ok", "fine"), pair])
    assert "geheim" not in str(caught.value)


class _Origin(TypedDict, total=False):
    """Who wants it and why, as a call takes it."""

    reason: str | None
    ticket: str | None
    end_user_token: str | None
    metadata: Metadata


async def _tell(kind: Kind, target: str, origin: _Origin, **options: Unpack[ClientOptions]) -> None:
    """Make one call with either client."""
    options["channel_options"] = [APART]
    if kind == "blocking":
        with MonitorContactClient(target, **options) as client:
            await asyncio.to_thread(
                lambda: client.monitor_contact(instance_id="i", contact_id="c", user_id="u", **origin)
            )
        return
    async with AsyncMonitorContactClient(target, **options) as client_async:
        await client_async.monitor_contact(instance_id="i", contact_id="c", user_id="u", **origin)


async def test_reason_ticket_and_end_user_travel_beside_the_request(kind: Kind) -> None:
    """Each under its key, once, and as given: the longest reason, every printable character."""
    printable = "".join(map(chr, range(0x20, 0x7F)))
    with serving() as server:
        await _tell(kind, server.target, _Origin(reason="r" * 256, ticket=printable, end_user_token="a.b.c"))
        await _tell(kind, server.target, _Origin(ticket="QA-1", metadata=[("x-monitor-reason", "coaching")]))
    full, mixed = ({key: value for key, value in seen.metadata.items() if key[:2] == "x-"} for seen in server.seen)
    assert full == {"x-monitor-reason": "r" * 256, "x-monitor-ticket": printable, "x-end-user-token": "a.b.c"}
    assert mixed == {"x-monitor-reason": "coaching", "x-monitor-ticket": "QA-1"}


async def test_what_is_not_told_is_not_sent(kind: Kind) -> None:
    """Absent and empty are the same for reason and ticket."""
    with serving() as server:
        await _tell(kind, server.target, _Origin())
        await _tell(kind, server.target, _Origin(reason="", ticket="", end_user_token=None))
    assert [key for seen in server.seen for key in seen.metadata if key.startswith("x-")] == []


@pytest.mark.parametrize("argument", ["reason", "ticket", "end_user_token"])
@pytest.mark.parametrize("bad", ["geheim\n", "geheim\x00", "\x1bgeheim", "geheim é", "\x7fgeheim"])
async def test_text_that_no_header_can_carry_is_refused_by_its_arguments_name(
    kind: Kind, argument: Literal["reason", "ticket", "end_user_token"], bad: str
) -> None:
    """Before anything is sent, and without a word of it."""
    origin: _Origin = {}
    origin[argument] = bad
    with pytest.raises(ValueError, match=f"^{argument} ") as caught:
        await _tell(kind, "127.0.0.1:1", origin)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        (_Origin(reason="r" * 257), "reason must have at most 256"),
        (_Origin(ticket="t" * 257), "ticket must have at most 256"),
        (_Origin(end_user_token=""), "end_user_token is empty"),
        (_Origin(end_user_token="two words"), "end_user_token is empty or has spaces"),
        (_Origin(reason="a", metadata=[("x-monitor-reason", "b")]), "'x-monitor-reason' is given twice"),
        (_Origin(ticket="a", metadata=[("x-monitor-ticket", "a")]), "'x-monitor-ticket' is given twice"),
        (_Origin(metadata=[("x-monitor-ticket", "a")] * 2), "'x-monitor-ticket' is given twice"),
        (_Origin(metadata=[("x-end-user-token", "geheim")]), "give end_user_token to the call"),
    ],
)
async def test_what_the_service_would_refuse_is_refused_at_once(kind: Kind, origin: _Origin, message: str) -> None:
    """Too long, empty, or said twice."""
    with pytest.raises(ValueError, match=message) as caught:
        await _tell(kind, "127.0.0.1:1", origin)
    assert "geheim" not in str(caught.value)


async def test_an_end_users_token_never_leaves_this_machine_in_plaintext(kind: Kind) -> None:
    """Not even where the network is said to encrypt: the same rule as for the bearer token."""
    with pytest.raises(ValueError, match="end_user_token is never sent unencrypted") as caught:
        await _tell(kind, "192.0.2.1:443", _Origin(end_user_token="geheim"), insecure=True)
    assert "geheim" not in str(caught.value)


async def test_an_end_users_token_travels_encrypted(kind: Kind) -> None:
    """With TLS any target may have it: here it fails later, at a machine that is not there."""
    with pytest.raises(MonitorContactError):
        await _tell(kind, "192.0.2.1:443", _Origin(end_user_token="t"), tls=TlsOptions(), timeout_seconds=0.05)


def test_the_fakes_write_down_who_wants_it_and_why() -> None:
    """As the clients would send it, and refused where they would refuse; a token is in no repr."""
    fake = FakeMonitorContactClient()
    call = partial(fake.monitor_contact, instance_id="i", contact_id="c", user_id="u")
    call()
    call(reason="coaching", ticket="QA-1", end_user_token="geheim", metadata=[("x-a", "b")])
    told = [(each.reason, each.ticket, each.end_user_token, each.metadata) for each in fake.calls]
    assert told == [(None, None, None, ()), ("coaching", "QA-1", "geheim", (("x-a", "b"),))]
    assert "geheim" not in repr(fake.calls)
    with pytest.raises(ValueError, match="reason"):
        call(reason="é")
    with pytest.raises(ValueError, match="given twice"):
        call(reason="a", metadata=iter([("x-monitor-reason", "b")]))
    assert len(fake.calls) == 2


async def test_the_asyncio_fake_writes_it_down_too() -> None:
    """Every argument is handed on."""
    fake = AsyncFakeMonitorContactClient()
    call = partial(fake.monitor_contact, instance_id="i", contact_id="c", user_id="u")
    await call(reason="coaching", ticket="QA-1", end_user_token="t")
    assert [(each.reason, each.ticket, each.end_user_token) for each in fake.calls] == [("coaching", "QA-1", "t")]


async def test_close_twice_is_fine_and_use_after_close_says_so(kind: Kind) -> None:
    """A closed client stays closed, opened before or not."""
    with serving() as server:
        for used in (True, False):
            client = twin(kind, server.target)
            if used:
                await client.call()
            await client.close()
            await client.close()
            with pytest.raises(RuntimeError, match="this client is closed: make a new one"):
                await client.call()


async def test_close_during_a_call_ends_it_typed(kind: Kind) -> None:
    """The call under way ends as CallCancelled, also in asyncio, where gRPC alone raises a stray CancelledError."""
    with serving(hang(5.0)) as server:
        client = twin(kind, server.target)
        call = asyncio.create_task(client.call())
        assert await asyncio.to_thread(server.called.wait, 5.0)
        await client.close()
        with pytest.raises(CallCancelled) as caught:
            await call
    assert caught.value.client_token == server.seen[0].request.client_token


async def test_cancelled_task_stays_cancelled() -> None:
    """A task's own cancellation is never turned into anything else, and the server hears of it."""
    with serving(hang(5.0)) as server:
        async with AsyncMonitorContactClient(server.target) as client:
            call = asyncio.create_task(client.monitor_contact(instance_id="i", contact_id="c", user_id="u"))
            assert await asyncio.to_thread(server.called.wait, 5.0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
    assert call.cancelled()


async def test_asyncio_timeout_around_a_call_is_a_timeout_error() -> None:
    """`asyncio.timeout` works as everywhere else; `timeout_seconds` is the better way."""
    with serving(hang(5.0)) as server:
        async with AsyncMonitorContactClient(server.target) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.monitor_contact(instance_id="i", contact_id="c", user_id="u")


def test_asyncio_client_can_be_made_outside_a_loop() -> None:
    """Only the channel needs the running loop; it is made in `async with` or at the first call."""
    AsyncMonitorContactClient("127.0.0.1:1")


def test_context_manager_closes_the_blocking_client() -> None:
    """`with` opens and closes."""
    with serving() as server:
        with MonitorContactClient(server.target) as client:
            client.monitor_contact(instance_id="i", contact_id="c", user_id="u")
        with pytest.raises(RuntimeError):
            client.monitor_contact(instance_id="i", contact_id="c", user_id="u")


async def test_context_manager_closes_the_asyncio_client() -> None:
    """`async with` opens and closes."""
    with serving() as server:
        async with AsyncMonitorContactClient(server.target) as client:
            await client.monitor_contact(instance_id="i", contact_id="c", user_id="u")
        with pytest.raises(RuntimeError):
            await client.monitor_contact(instance_id="i", contact_id="c", user_id="u")


def test_threads_share_one_channel() -> None:
    """The first calls of many threads at once make one channel, not one each."""
    with serving() as server, MonitorContactClient(server.target, channel_options=[APART]) as client:
        barrier = threading.Barrier(16)

        def first_call() -> None:
            barrier.wait()
            client.monitor_contact(instance_id="i", contact_id="c", user_id="u")

        threads = [threading.Thread(target=first_call) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.seen) == 16
    assert len({seen.peer for seen in server.seen}) == 1


def _on_testing_channel() -> tuple[MonitorContactClient, grpc_testing.Channel]:
    channel = grpc_testing.channel(pb.DESCRIPTOR.services_by_name.values(), grpc_testing.strict_real_time())
    client = MonitorContactClient("127.0.0.1:1")
    client._stub = MonitorContactServiceStub(channel)
    return client, channel


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE])
def test_blocking_client_on_the_testing_channel(code: grpc.StatusCode) -> None:
    """Without any transport: request, metadata and answer of the blocking client through grpcio-testing."""
    client, channel = _on_testing_channel()
    outcome: list[MonitoringSession | MonitorContactError] = []

    def call() -> None:
        try:
            outcome.append(client.monitor_contact(instance_id="i", contact_id="c", user_id="u", client_token="t"))
        except MonitorContactError as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    method = pb.DESCRIPTOR.services_by_name["MonitorContactService"].methods_by_name["MonitorContact"]
    _, request, rpc = channel.take_unary_unary(method)
    rpc.send_initial_metadata(())
    rpc.terminate(pb.MonitorContactResponse(contact_id="s"), (("x-request-id", "r"),), code, "because")
    thread.join(10)
    assert request == pb.MonitorContactRequest(instance_id="i", contact_id="c", user_id="u", client_token="t")
    (result,) = outcome
    assert (result.request_id, result.client_token) == ("r", "t")
    if isinstance(result, MonitorContactError):
        assert (result.code, result.message) == (code, "because")
