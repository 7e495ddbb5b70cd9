"""`interceptors`: every unary call of a real server ends with a typed answer, an id and a log line."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub, add_HealthServicer_to_server
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import (
    MonitorContactServiceServicer,
    add_MonitorContactServiceServicer_to_server,
)
from monitor_contact_service import server as grpc_server
from monitor_contact_service.core import validation
from monitor_contact_service.core.failures import Failure, Reason, Violation
from monitor_contact_service.health import Health
from monitor_contact_service.interceptors import CallGuard, MethodObserver
from monitor_contact_service.reasons import TABLE
from monitor_contact_service.reflection import Reflection
from monitor_contact_service.settings import Settings
from monitor_contact_service.telemetry import JsonFormatter, caller_var

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]

_METHOD: Final = "/monitor_contact.v1.MonitorContactService/MonitorContact"
_SECRET: Final = "arn:aws:secret"
_GENEROUS_SECONDS: Final = 20.0  # a test that would hang for ever ends

Behaviour = Callable[[MonitorContactRequest, "Context"], Awaitable[MonitorContactResponse]]


class _Handler(MonitorContactServiceServicer):
    """Does what the test says."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = _echo

    async def MonitorContact(  # noqa: N802 - the contract's name
        self, request: MonitorContactRequest, context: "Context"
    ) -> MonitorContactResponse:
        """Behave."""
        return await self.behaviour(request, context)


async def _echo(request: MonitorContactRequest, context: "Context") -> MonitorContactResponse:
    """Answer whatever can be read; the service's own handler has `validation.parse` look."""
    del context
    if request is validation.UNDECODABLE:
        raise validation.undecodable()
    return MonitorContactResponse(contact_id=request.contact_id)


@asynccontextmanager
async def _running() -> AsyncIterator[tuple[_Handler, grpc.aio.Channel]]:
    handler = _Handler()
    settings = Settings(listen="127.0.0.1:0")
    server = grpc_server.build(settings, handler=handler, health=Health([grpc_server.SERVICE]), reflection=None)
    target = str(grpc_server.listen(server, settings.address))
    await server.start()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    try:
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            yield handler, channel
    finally:
        await server.stop(1)


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[tuple[_Handler, grpc.aio.Channel]]:
    """One server for the module; each test sets the behaviour."""
    async with _running() as running:
        yield running


@pytest.fixture
def channel(server: tuple[_Handler, grpc.aio.Channel]) -> grpc.aio.Channel:
    """To the server."""
    return server[1]


@pytest.fixture
def handler(server: tuple[_Handler, grpc.aio.Channel]) -> Iterator[_Handler]:
    """The handler behind the interceptor, for `behaviour` to be set."""
    yield server[0]
    server[0].behaviour = _echo


class _Lines(logging.Handler):
    """The log as JSON, and a signal for the line that a test waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.entries: list[dict[str, Any]] = []
        self._arrived = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.entries.append(json.loads(self.format(record)))
        self._arrived.set()

    async def event(self, name: str) -> dict[str, Any]:
        """Return the first line of this event, as soon as it is there."""
        async with asyncio.timeout(_GENEROUS_SECONDS):
            while True:
                found = [entry for entry in self.entries if entry["event"] == name]
                if found:
                    return found[0]
                self._arrived.clear()
                await self._arrived.wait()


@pytest.fixture
def log() -> Iterator[_Lines]:
    """What the service logs from INFO on."""
    lines, logger = _Lines(), logging.getLogger("monitor_contact_service")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(lines)
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(level)


def _raw_call(
    channel: grpc.aio.Channel, raw: bytes, *, method: str = _METHOD, timeout: float | None = _GENEROUS_SECONDS
) -> "grpc.aio.UnaryUnaryCall[bytes, bytes]":
    multi_callable: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return multi_callable(raw, timeout=timeout)


async def _refused(channel: grpc.aio.Channel, raw: bytes = b"", method: str = _METHOD) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _raw_call(channel, raw, method=method)
    return raised.value


def _trailers(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    return dict(error.trailing_metadata())


def _details(error: grpc.aio.AioRpcError) -> dict[type[Message], Message]:
    serialized = _trailers(error)["grpc-status-details-bin"]
    assert isinstance(serialized, bytes)
    details: dict[type[Message], Message] = {}
    for packed in Status.FromString(serialized).details:
        for detail_type in (ErrorInfo, BadRequest, RequestInfo):
            detail = detail_type()
            if packed.Unpack(detail):
                details[detail_type] = detail
    return details


def _info(error: grpc.aio.AioRpcError) -> ErrorInfo:
    info = _details(error)[ErrorInfo]
    assert isinstance(info, ErrorInfo)
    return info


def _request_id(error: grpc.aio.AioRpcError) -> str:
    detail = _details(error)[RequestInfo]
    assert isinstance(detail, RequestInfo)
    return detail.request_id


async def test_a_success_carries_its_request_id_as_a_trailer(
    handler: _Handler, channel: grpc.aio.Channel, log: _Lines
) -> None:
    """Not as initial metadata, which would end the client's retries; the log line has the same id."""
    del handler
    request = MonitorContactRequest(contact_id="c")
    call = _raw_call(channel, request.SerializeToString())
    assert MonitorContactResponse.FromString(await call).contact_id == "c"
    request_id = dict(await call.trailing_metadata())["x-request-id"]
    assert len(request_id) == 32
    assert "x-request-id" not in dict(await call.initial_metadata())
    line = await log.event("call")
    assert (line["request_id"], line["method"], line["code"], line["reason"]) == (request_id, _METHOD, "OK", "OK")


async def test_every_call_has_an_id_of_its_own(handler: _Handler, channel: grpc.aio.Channel) -> None:
    """Also calls at the same time."""
    del handler
    calls = [_raw_call(channel, b"") for _ in range(20)]
    await asyncio.gather(*calls)
    assert len({dict(await call.trailing_metadata())["x-request-id"] for call in calls}) == 20


async def test_the_text_of_an_exception_stays_in_the_log(
    handler: _Handler, channel: grpc.aio.Channel, log: _Lines
) -> None:
    """INTERNAL without a word of the exception; one id in the answer, in its trailer and beside the traceback."""

    async def behaviour(_: MonitorContactRequest, __: "Context") -> MonitorContactResponse:
        raise RuntimeError(_SECRET)

    handler.behaviour = behaviour
    error = await _refused(channel)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == TABLE[Reason.INTERNAL].message
    assert not any(_SECRET in str(value) for pair in error.trailing_metadata() for value in pair)
    request_id = _request_id(error)
    assert _info(error).reason == "INTERNAL"
    assert dict(_info(error).metadata) == {"correlation_id": request_id}
    assert _trailers(error)["x-request-id"] == request_id
    assert _trailers(error)["grpc-retry-pushback-ms"] == "-1"
    line = await log.event("unexpected exception")
    assert line["request_id"] == request_id
    assert f"RuntimeError: {_SECRET}" in line["exception"]
    assert (await log.event("call"))["reason"] == "INTERNAL"


async def test_an_inner_task_that_was_cancelled_is_a_bug_and_answered(
    handler: _Handler, channel: grpc.aio.Channel, log: _Lines
) -> None:
    """The call itself was not cancelled: without the guard its caller would wait for ever."""

    async def behaviour(_: MonitorContactRequest, __: "Context") -> MonitorContactResponse:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        inner.cancel()
        await inner
        return MonitorContactResponse()

    handler.behaviour = behaviour
    error = await _refused(channel)
    assert (error.code(), _info(error).reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "CancelledError" in (await log.event("unexpected exception"))["exception"]


@pytest.mark.parametrize("reason", Reason)
async def test_a_failure_leaves_as_its_row(
    handler: _Handler, channel: grpc.aio.Channel, log: _Lines, reason: Reason
) -> None:
    """Code, message and ErrorInfo of the table, whichever step raised it; the log names the reason."""

    async def behaviour(_: MonitorContactRequest, __: "Context") -> MonitorContactResponse:
        raise Failure(reason, log_text=_SECRET)

    handler.behaviour = behaviour
    error = await _refused(channel)
    row = TABLE[reason]
    assert (error.code(), error.details()) == (row.code, row.message)
    assert (_info(error).reason, set(_info(error).metadata)) == (reason, set(row.metadata_keys))
    assert _request_id(error) == _trailers(error)["x-request-id"]
    line = await log.event("call")
    assert (line["code"], line["reason"], line["request_id"]) == (row.code.name, reason, _request_id(error))


async def test_a_wait_that_does_not_fit_the_callers_deadline_is_a_veto(
    handler: _Handler, channel: grpc.aio.Channel
) -> None:
    """The guard asks gRPC for the time left: a pushback past it would make the client sleep through its deadline."""

    async def behaviour(_: MonitorContactRequest, __: "Context") -> MonitorContactResponse:
        raise Failure(Reason.THROTTLED, retry_after_seconds=_GENEROUS_SECONDS * 2)

    handler.behaviour = behaviour
    assert _trailers(await _refused(channel))["grpc-retry-pushback-ms"] == "-1"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _raw_call(channel, b"", timeout=None)
    assert _trailers(raised.value)["grpc-retry-pushback-ms"] == "40000"


async def test_a_hundred_violations_arrive_without_losing_the_reason(
    handler: _Handler, channel: grpc.aio.Channel
) -> None:
    """Details that gRPC would lose at random are reduced: every answer has its ErrorInfo."""

    async def behaviour(_: MonitorContactRequest, __: "Context") -> MonitorContactResponse:
        violations = tuple(Violation(f"f[{index}]", "TOO_LONG", "d" * 300) for index in range(100))
        raise Failure(Reason.VALIDATION_FAILED, violations=violations)

    handler.behaviour = behaviour
    for _ in range(50):
        error = await _refused(channel)
        assert (error.code(), _info(error).reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff\xff\xff", id="no protobuf"),
        pytest.param(b"\x0a\xff\x01a", id="length past the end"),
        pytest.param(b"\x0a\x02\xc3\x28", id="bad UTF-8"),
        pytest.param(b"\x0a", id="cut"),
        pytest.param(b"\x0b", id="group without an end"),
        pytest.param(b"\x0a\x7f" + _SECRET.encode(), id="text"),
    ],
)
async def test_bytes_that_are_no_request_are_refused_typed(
    handler: _Handler, channel: grpc.aio.Channel, log: _Lines, raw: bytes
) -> None:
    """INVALID_ARGUMENT with an ErrorInfo and a violation, nothing of the decoder's text; our handler is asked first.

    Who calls is its first step, and its refusals are recorded.
    """
    asked: list[bool] = []

    async def behaviour(request: MonitorContactRequest, context: "Context") -> MonitorContactResponse:
        asked.append(request is validation.UNDECODABLE)
        return await _echo(request, context)

    handler.behaviour = behaviour
    error = await _refused(channel, raw)
    assert asked == [True]
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (_info(error).reason, dict(_info(error).metadata)) == ("VALIDATION_FAILED", {"violations": "1"})
    bad_request = _details(error)[BadRequest]
    assert isinstance(bad_request, BadRequest)
    assert [violation.reason for violation in bad_request.field_violations] == ["UNDECODABLE"]
    assert (await log.event("call"))["reason"] == "VALIDATION_FAILED"


async def test_an_empty_request_is_not_taken_for_undecodable_bytes(
    handler: _Handler, channel: grpc.aio.Channel
) -> None:
    """Equal to the stand-in and yet another: no bytes at all are a request without fields."""
    del handler
    assert MonitorContactResponse.FromString(await _raw_call(channel, b"")) == MonitorContactResponse()


@pytest.mark.parametrize("method", ["Check", "List"])
async def test_health_is_spared_bytes_that_are_no_request(channel: grpc.aio.Channel, log: _Lines, method: str) -> None:
    """It knows nothing of the stand-in, so the guard refuses in its place; nothing is called a bug."""
    error = await _refused(channel, b"\xff\xff\xff", f"/grpc.health.v1.Health/{method}")
    assert (error.code(), _info(error).reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    assert log.entries == []


@hypothesis_settings(deadline=None, max_examples=200)
@given(raw=st.binary(max_size=300))
@example(raw=b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(raw=b"\xfa\x01\x03abc")
async def test_random_bytes_are_answered_or_refused_typed(
    server: tuple[_Handler, grpc.aio.Channel], raw: bytes
) -> None:
    """Whatever is sent: a response, or a refusal with a reason."""
    try:
        await _raw_call(server[1], raw)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017 - both ends are right
        assert _info(error).reason == "VALIDATION_FAILED"  # noqa: PT017 - same


async def test_what_another_servicer_aborts_passes_untouched(channel: grpc.aio.Channel, log: _Lines) -> None:
    """Health answers NOT_FOUND by itself: no details are added and nothing is called a bug."""
    logging.getLogger("monitor_contact_service").setLevel(logging.DEBUG)
    stub = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Check(HealthCheckRequest(service="nobody"), timeout=_GENEROUS_SECONDS)
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.NOT_FOUND, "unknown service")
    assert "grpc-status-details-bin" not in _trailers(raised.value)
    line = await log.event("call")
    assert (line["level"], line["method"], line["code"]) == ("debug", "/grpc.health.v1.Health/Check", "NOT_FOUND")
    assert [entry["event"] for entry in log.entries] == ["call"]


async def test_a_handlers_own_abort_passes_untouched(handler: _Handler, channel: grpc.aio.Channel) -> None:
    """An abort raises an Exception: a bare catch-all would overwrite the typed answer."""

    async def behaviour(_: MonitorContactRequest, context: "Context") -> MonitorContactResponse:
        await context.abort(grpc.StatusCode.DATA_LOSS, "as it is")

    handler.behaviour = behaviour
    error = await _refused(channel)
    assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "as it is")


@pytest.mark.parametrize(
    "method", ["/monitor_contact.v1.MonitorContactService/Unknown", "/unknown.Service/MonitorContact", "/x"]
)
async def test_an_unknown_method_keeps_grpcs_own_answer(channel: grpc.aio.Channel, method: str) -> None:
    """UNIMPLEMENTED without details: no reason of the contract is defined for it."""
    error = await _refused(channel, method=method)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "grpc-status-details-bin" not in _trailers(error)


async def test_a_caller_that_leaves_is_logged_as_cancelled(
    handler: _Handler, channel: grpc.aio.Channel, log: _Lines
) -> None:
    """The handler is cancelled, nothing is called a bug, and the log has one line for the call."""
    started = asyncio.Event()

    async def behaviour(_: MonitorContactRequest, __: "Context") -> MonitorContactResponse:
        started.set()
        await asyncio.Event().wait()
        return MonitorContactResponse()

    handler.behaviour = behaviour
    call = asyncio.ensure_future(_refused(channel))
    await started.wait()
    call.cancel()
    await asyncio.wait([call])
    assert (await log.event("call"))["code"] == "CANCELLED"
    assert [entry["event"] for entry in log.entries] == ["call"]


async def test_a_caller_whose_deadline_passes_is_logged_as_cancelled(
    handler: _Handler, channel: grpc.aio.Channel, log: _Lines
) -> None:
    """The client's own timer ends the call with a bare DEADLINE_EXCEEDED; the handler does not go on."""

    async def behaviour(_: MonitorContactRequest, __: "Context") -> MonitorContactResponse:
        await asyncio.Event().wait()
        return MonitorContactResponse()

    handler.behaviour = behaviour
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _raw_call(channel, b"", timeout=0.1)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await log.event("call"))["code"] == "CANCELLED"


# ---- Caller and counts -----------------------------------------------------------------------------------------------


async def test_the_line_of_a_call_names_the_caller_that_was_identified(
    handler: _Handler, channel: grpc.aio.Channel, log: _Lines
) -> None:
    """In the words that the handler has for it; where nobody was identified, nobody is named."""

    async def behaviour(request: MonitorContactRequest, context: "Context") -> MonitorContactResponse:
        if request.contact_id:
            caller_var.set("spiffe://corp.example/desk")
        return await _echo(request, context)

    handler.behaviour = behaviour
    await _raw_call(channel, MonitorContactRequest(contact_id="c").SerializeToString())
    assert (await log.event("call"))["caller"] == "spiffe://corp.example/desk"
    log.entries.clear()
    await _raw_call(channel, b"")
    assert "caller" not in await log.event("call")


async def test_the_line_of_a_call_has_the_documented_fields(
    handler: _Handler, channel: grpc.aio.Channel, log: _Lines
) -> None:
    """And no other: whatever is added has to be looked at for what it tells of callers."""
    del handler
    await _raw_call(channel, MonitorContactRequest(contact_id="c").SerializeToString())
    fields = {"ts", "level", "event", "request_id", "method", "code", "reason", "duration_ms"}
    assert (await log.event("call")).keys() == fields


@dataclass
class _Counts:
    """Remembers what the guard tells: the ends of calls as (path, kind, code, reason), and what began."""

    begun: list[str] = field(default_factory=list)
    ended: list[tuple[str, str, str, str]] = field(default_factory=list)
    unknown: int = 0

    def method(self, path: str, kind: str) -> MethodObserver:
        """Return the observer of a method."""
        return _Method(self, path.rpartition("/")[2], kind)

    def unknown_method(self) -> None:
        """Count it."""
        self.unknown += 1


@dataclass
class _Method:
    """Tells its counts."""

    counts: _Counts
    name: str
    kind: str

    def started(self) -> None:
        """Remember it."""
        self.counts.begun.append(self.name)

    def handled(self, code: grpc.StatusCode, reason: str, seconds: float) -> None:
        """Remember it."""
        assert 0 <= seconds < _GENEROUS_SECONDS
        self.counts.ended.append((self.name, self.kind, code.name, reason))


class _BrokenHealth(Health):
    """Fails while it streams."""

    async def Watch(  # noqa: N802 - the contract's name
        self, request: HealthCheckRequest, context: Any
    ) -> AsyncIterator[Any]:
        """Send what there is, then fail or abort."""
        async for response in super().Watch(request, context):
            yield response
            if request.service == "abort":
                await context.abort(grpc.StatusCode.DATA_LOSS, "as it is")
            if request.service == "bug":
                raise RuntimeError(_SECRET)


@asynccontextmanager
async def _counting() -> AsyncIterator[tuple[_Counts, _Handler, Health, grpc.aio.Channel]]:
    counts, handler, health, settings = _Counts(), _Handler(), _BrokenHealth([]), Settings(listen="127.0.0.1:0")
    reflection = Reflection(grpc_server.services())
    server = grpc.aio.server(interceptors=(CallGuard(counts),))
    add_MonitorContactServiceServicer_to_server(handler, server)
    add_HealthServicer_to_server(health, server)  # type: ignore[no-untyped-call]  # generated
    server.add_generic_rpc_handlers(reflection.handlers())
    target = str(grpc_server.listen(server, settings.address))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(target) as channel:
            yield counts, handler, health, channel
    finally:
        health.end_watches()
        reflection.end_streams()
        await server.stop(1)


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(_GENEROUS_SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def test_unary_calls_are_told_with_their_code_and_reason() -> None:
    """A success, a refusal, a bug, bytes that are no request, health's own refusal and a method that nobody serves."""

    async def behaviour(request: MonitorContactRequest, context: "Context") -> MonitorContactResponse:
        if request.contact_id == "bug":
            raise RuntimeError(_SECRET)
        if request.contact_id == "failure":
            raise Failure(Reason.OVERLOADED)
        return await _echo(request, context)

    async with _counting() as (counts, handler, _, channel):
        handler.behaviour = behaviour
        await _raw_call(channel, b"")
        for contact_id in ("failure", "bug"):
            await _refused(channel, MonitorContactRequest(contact_id=contact_id).SerializeToString())
        await _refused(channel, b"\xff\xff\xff")
        await _refused(channel, HealthCheckRequest(service="x").SerializeToString(), "/grpc.health.v1.Health/Check")
        await _refused(channel, b"", "/no.Such/Method")
    assert counts.ended == [
        ("MonitorContact", "unary", "OK", "OK"),
        ("MonitorContact", "unary", "RESOURCE_EXHAUSTED", "OVERLOADED"),
        ("MonitorContact", "unary", "INTERNAL", "INTERNAL"),
        ("MonitorContact", "unary", "INVALID_ARGUMENT", "VALIDATION_FAILED"),
        ("Check", "unary", "NOT_FOUND", ""),
    ]
    assert counts.begun == [name for name, *_ in counts.ended]
    assert counts.unknown == 1


async def test_a_call_that_is_left_is_told_as_such() -> None:
    """Once, and with a reason of its own."""

    async def behaviour(_: MonitorContactRequest, __: "Context") -> MonitorContactResponse:
        await asyncio.Event().wait()
        return MonitorContactResponse()

    async with _counting() as (counts, handler, _, channel):
        handler.behaviour = behaviour
        call = _raw_call(channel, b"")
        await _until(lambda: counts.begun)
        call.cancel()
        await _until(lambda: counts.ended)
    assert counts.ended == [("MonitorContact", "unary", "CANCELLED", "CALLER_LEFT")]


async def test_streams_are_told_when_they_end() -> None:
    """A watch that its client leaves, one that the server ends, one that fails, one that aborts."""
    async with _counting() as (counts, _, health, channel):
        stub = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
        left = stub.Watch(HealthCheckRequest(service="liveness"))
        assert (await left.read()).status
        assert counts.ended == []
        left.cancel()
        await _until(lambda: counts.ended)
        for service in ("bug", "abort"):
            with pytest.raises(grpc.aio.AioRpcError):
                _ = [response async for response in stub.Watch(HealthCheckRequest(service=service))]
        ended = stub.Watch(HealthCheckRequest(service="liveness"))
        assert (await ended.read()).status
        health.end_watches()
        assert await ended.read() is grpc.aio.EOF
        await _until(lambda: len(counts.ended) == 4)
    assert [code for _, _, code, _ in counts.ended] == ["CANCELLED", "UNKNOWN", "DATA_LOSS", "OK"]
    assert {(name, kind, reason) for name, kind, _, reason in counts.ended} == {("Watch", "server_stream", "")}
    assert counts.begun == ["Watch"] * 4


async def test_a_conversation_is_told_when_it_ends() -> None:
    """Reflection: requests and answers both are streams."""
    async with _counting() as (counts, _, _, channel):
        stub = ServerReflectionStub(channel)  # type: ignore[no-untyped-call]  # generated
        talk = stub.ServerReflectionInfo()
        await talk.write(ServerReflectionRequest(list_services=""))
        assert (await talk.read()).list_services_response.service
        await talk.done_writing()
        assert await talk.read() is grpc.aio.EOF
        await _until(lambda: counts.ended)
    assert counts.ended == [("ServerReflectionInfo", "bidi_stream", "OK", "")]


async def test_a_stream_that_is_left_leaves_nothing_open() -> None:
    """The servicer's own generator ends with the call: what it waits for would keep it in memory otherwise."""
    async with _counting() as (counts, _, _, channel):
        stub = ServerReflectionStub(channel)  # type: ignore[no-untyped-call]  # generated
        talk = stub.ServerReflectionInfo()
        await talk.write(ServerReflectionRequest(list_services=""))
        await talk.read()
        waiting = {task for task in asyncio.all_tasks() if "Event.wait" in repr(task.get_coro())}
        assert waiting
        talk.cancel()
        await _until(lambda: counts.ended)
        await _until(lambda: all(task.done() for task in waiting))
    assert counts.ended == [("ServerReflectionInfo", "bidi_stream", "CANCELLED", "")]
