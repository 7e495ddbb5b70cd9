"""`tracing`: one trace joins the caller, the service and Connect; nothing in it says who listened to whom."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio
import pytest
from aiohttp import web
from audit_fakes import MemoryLog
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from harness import CONTACT_ID, INSTANCE_ID, USER_ID, Service, connect_to, serving
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact_service import tracing
from monitor_contact_service.metrics import Metrics
from monitor_contact_service.opentelemetry_tracing import OpenTelemetryTracer, exporting
from monitor_contact_service.settings import ConfigurationError
from monitor_contact_service.simulator import UNLIMITED, Fault, Simulator
from monitor_contact_service.telemetry import configure_logging
from monitor_contact_service.tracing import NOT_TRACED, open_tracer
from monitor_contact_service.upstream import UNOBSERVED, Upstream
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from prometheus_client.openmetrics.exposition import generate_latest

METHOD: Final = "monitor_contact.v1.MonitorContactService/MonitorContact"
REQUEST: Final = MonitorContactRequest(
    instance_id=INSTANCE_ID, contact_id=CONTACT_ID, user_id=USER_ID, client_token="canary-token"
)
TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID: Final = "b7ad6b7169203331"
TRACEPARENT: Final = f"00-{TRACE_ID}-{PARENT_ID}-01"
IN_A_TRACE: Final = {"traceparent": TRACEPARENT}
NO_METADATA: Final[Mapping[str, str]] = {}
GENEROUS_SECONDS: Final = 30.0  # a test that would hang for ever ends

Attributes = Mapping[str, Any]


@dataclass
class Traced:
    """A service whose spans are kept, before a simulator."""

    service: Service
    simulator: Simulator
    exporter: InMemorySpanExporter
    metrics: Metrics
    audit_log: MemoryLog

    async def call(
        self, metadata: Mapping[str, str] = NO_METADATA, request: MonitorContactRequest = REQUEST
    ) -> grpc.StatusCode:
        """Call and return the code."""
        call = self.service.stub.MonitorContact(request, timeout=GENEROUS_SECONDS, metadata=tuple(metadata.items()))
        return await call.code()

    async def spans(self, name: str | None = None, count: int = 1) -> list[ReadableSpan]:
        """Return the ended spans of this name, or all, as soon as there are so many."""
        async with asyncio.timeout(GENEROUS_SECONDS):
            while True:
                ended = [span for span in self.exporter.get_finished_spans() if name in {None, span.name}]
                if len(ended) >= count:
                    return ended
                await asyncio.sleep(0)


async def _no_wait(_: float) -> None:
    """Let no time pass between attempts."""


@asynccontextmanager
async def _traced(*, reads: bool = False) -> AsyncIterator[Traced]:
    exporter, metrics, audit_log = InMemorySpanExporter(), Metrics(), MemoryLog()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = OpenTelemetryTracer(provider)
    async with Simulator() as simulator:
        simulator.set_quota("MonitorContact", UNLIMITED)
        async with (
            connect_to(simulator.url, upstream=Upstream(metrics, tracer)) as connect,
            serving(
                connect,
                metrics=metrics,
                tracer=tracer,
                sleep=_no_wait,
                audit_log=audit_log,
                reads=reads,
            ) as service,
        ):
            yield Traced(service, simulator, exporter, metrics, audit_log)


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    """The service without reads of the supervisor's permissions."""
    async with _traced() as running:
        yield running


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service writes, as it does when it runs."""
    root, own = logging.getLogger(), logging.getLogger("monitor_contact_service")
    before = root.level, own.level, root.handlers[:]
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    yield stream
    root.setLevel(before[0])
    own.setLevel(before[1])
    root.handlers[:] = before[2]


def _lines(log: io.StringIO) -> list[dict[str, Any]]:
    logging.getLogger().handlers[0].flush()
    return [json.loads(line) for line in log.getvalue().splitlines()]


def _openmetrics(metrics: Metrics) -> str:
    page: bytes = generate_latest(metrics.registry)  # type: ignore[no-untyped-call]
    return page.decode()


def _attributes(span: ReadableSpan) -> Attributes:
    return dict(span.attributes or {})


def _context(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def _id(span: ReadableSpan) -> str:
    return f"{_context(span).span_id:016x}"


def _trace_id(span: ReadableSpan) -> str:
    return f"{_context(span).trace_id:032x}"


def _parent_id(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent else ""


# ---- One trace -------------------------------------------------------------------------------------------------------


async def test_a_trace_joins_caller_service_and_attempts(traced: Traced) -> None:
    """The caller's span is the parent of ours, ours of all that the call did, each attempt's that of Connect."""
    traced.simulator.inject(Fault("error", error="ThrottlingException", times=1))
    assert await traced.call(IN_A_TRACE) is grpc.StatusCode.OK
    spans = await traced.spans(count=6)
    [server] = [span for span in spans if span.kind is SpanKind.SERVER]
    assert (server.name, _trace_id(server), _parent_id(server)) == (METHOD, TRACE_ID, PARENT_ID)
    assert [span.name for span in spans] == [
        "audit intent",
        "admission",
        "Connect/MonitorContact",
        "Connect/MonitorContact",
        "audit outcome",
        METHOD,
    ]
    assert {(_trace_id(span), _parent_id(span)) for span in spans if span is not server} == {(TRACE_ID, _id(server))}
    sent = [call.headers["traceparent"] for call in traced.simulator.calls("MonitorContact")]
    assert sent == [f"00-{TRACE_ID}-{_id(span)}-01" for span in spans if span.kind is SpanKind.CLIENT]


async def test_reads_of_the_supervisors_permissions_are_in_the_trace() -> None:
    """They spend the caller's time as the action does."""
    async with _traced(reads=True) as traced:
        assert await traced.call(IN_A_TRACE) is grpc.StatusCode.OK
        [user] = await traced.spans("Connect/DescribeUser")
        [call] = traced.simulator.calls("DescribeUser")
    assert call.headers["traceparent"] == f"00-{TRACE_ID}-{_id(user)}-01"
    assert _attributes(user)["aws.request_id"]


async def test_the_trace_is_no_part_of_the_signature(traced: Traced) -> None:
    """Connect takes the call as it takes one without; only `traceparent` is added."""
    said = {**IN_A_TRACE, "tracestate": "vendor=canary", "baggage": "who=canary"}
    assert await traced.call(said) is grpc.StatusCode.OK
    [call] = traced.simulator.calls("MonitorContact")
    assert "traceparent" in call.headers
    assert "traceparent" not in call.headers["authorization"]
    assert "canary-token" not in str(call.headers)
    assert "vendor" not in str(call.headers)
    assert not {"tracestate", "baggage"} & call.headers.keys()


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{'0' * 32}-{PARENT_ID}-01", TRACEPARENT + "-x"])
async def test_without_a_callers_context_a_trace_begins_here(traced: Traced, traceparent: str) -> None:
    """Also with a bad one; never with that of a call before."""
    assert await traced.call(IN_A_TRACE) is grpc.StatusCode.OK
    traced.exporter.clear()
    await traced.call({"traceparent": traceparent} if traceparent else {}, MonitorContactRequest())
    [server] = await traced.spans(METHOD)
    assert server.parent is None
    assert _trace_id(server) != TRACE_ID


async def test_a_call_that_joins_another_has_its_own_server_span(traced: Traced) -> None:
    """The action stands once, below the call that began it."""
    traced.simulator.inject(Fault("delay", delay_seconds=0.2, times=1))
    codes = await asyncio.gather(traced.call(), traced.call())
    assert set(codes) == {grpc.StatusCode.OK}
    servers = await traced.spans(METHOD, count=2)
    [attempt] = await traced.spans("Connect/MonitorContact")
    assert [_parent_id(attempt)] == [_id(server) for server in servers if _trace_id(server) == _trace_id(attempt)]


async def test_what_is_not_sampled_is_passed_on_and_not_kept(traced: Traced, log: io.StringIO) -> None:
    """The caller decides: no span here, the flag on to Connect, the id in the log all the same, no exemplar."""
    await traced.call({"traceparent": TRACEPARENT[:-2] + "00"})
    [call] = traced.simulator.calls("MonitorContact")
    assert call.headers["traceparent"].startswith(f"00-{TRACE_ID}-")
    assert call.headers["traceparent"].endswith("-00")
    assert traced.exporter.get_finished_spans() == ()
    assert [line["trace_id"] for line in _lines(log) if line["event"] == "call"] == [TRACE_ID]
    assert TRACE_ID not in _openmetrics(traced.metrics)


async def test_log_audit_and_metrics_name_the_trace(traced: Traced, log: io.StringIO) -> None:
    """From a slow bucket to its trace, from the trace to the lines and the record of the call."""
    traced.simulator.inject(Fault("error", error="ThrottlingException", times=1))
    await traced.call(IN_A_TRACE)
    of_the_call = [line for line in _lines(log) if "request_id" in line]
    assert [line["event"] for line in of_the_call] == ["attempt failed", "call"]
    assert {line["trace_id"] for line in of_the_call} == {TRACE_ID}
    assert [record["trace_id"] for record in traced.audit_log.records if record["stage"] == "intent"] == [TRACE_ID]
    assert f'# {{trace_id="{TRACE_ID}"}}' in _openmetrics(traced.metrics)


async def test_a_line_outside_a_trace_names_none(service: Service, log: io.StringIO) -> None:
    """Traces are off: the key is absent, whatever the caller sends."""
    await service.stub.MonitorContact(REQUEST, metadata=(("traceparent", TRACEPARENT),))
    [line] = [line for line in _lines(log) if line["event"] == "call"]
    assert "trace_id" not in line


# ---- What a span says ------------------------------------------------------------------------------------------------


async def test_spans_have_the_names_of_the_conventions(traced: Traced) -> None:
    """And no others: each one here is in docs/observability.md."""
    traced.simulator.inject(Fault("error", error="ThrottlingException", times=1))
    await traced.call()
    [server] = await traced.spans(METHOD)
    assert _attributes(server) == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.status_code": "OK",
        "monitor_contact.reason": "OK",
    }
    assert server.status.status_code is StatusCode.UNSET
    refused, answered = await traced.spans("Connect/MonitorContact", count=2)
    request_ids = [_attributes(span)["aws.request_id"] for span in (refused, answered)]
    assert len({*request_ids, ""}) == 3
    common = {"rpc.system.name": "aws-api", "rpc.method": "Connect/MonitorContact"}
    assert _attributes(refused) == common | {
        "aws.request_id": request_ids[0],
        "http.response.status_code": 429,
        "error.type": "ThrottlingException",
    }
    assert _attributes(answered) == common | {
        "aws.request_id": request_ids[1],
        "http.response.status_code": 200,
        "http.request.resend_count": 1,
    }
    assert (refused.status.status_code, answered.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)


async def test_a_fault_of_ours_is_an_error_and_a_callers_is_not(traced: Traced) -> None:
    """By the conventions for servers: INVALID_ARGUMENT is the caller's own matter, UNAVAILABLE is not."""
    assert await traced.call(request=MonitorContactRequest()) is grpc.StatusCode.INVALID_ARGUMENT
    traced.audit_log.failure = "full"
    assert await traced.call() is grpc.StatusCode.UNAVAILABLE
    callers, ours = await traced.spans(METHOD, count=2)
    assert (callers.status.status_code, ours.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert _attributes(callers)["monitor_contact.reason"] == "VALIDATION_FAILED"
    assert "error.type" not in _attributes(callers)
    assert (_attributes(ours)["rpc.status_code"], _attributes(ours)["error.type"]) == ("UNAVAILABLE", "UNAVAILABLE")
    [append] = await traced.spans("audit intent")
    assert _attributes(append) == {"error.type": "AUDIT_UNAVAILABLE"}
    assert append.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("fault", "error_type", "status"),
    [(Fault("close", times=1), "connect_error", None), (Fault("garbage", times=1), "bad_response", 200)],
)
async def test_an_attempt_without_a_good_answer_says_why(
    traced: Traced, fault: Fault, error_type: str, status: int | None
) -> None:
    """The status is there if there was one."""
    traced.simulator.inject(fault)
    await traced.call()
    [first, *_] = await traced.spans("Connect/MonitorContact")
    assert _attributes(first)["error.type"] == error_type
    assert _attributes(first).get("http.response.status_code") == status


async def test_a_caller_that_leaves_ends_its_span(traced: Traced) -> None:
    """As CANCELLED, and not as an error; the attempt that is under way ends later, as what it was."""
    traced.simulator.inject(Fault("delay", delay_seconds=0.3, times=1))
    call = traced.service.stub.MonitorContact(REQUEST, timeout=GENEROUS_SECONDS)
    await traced.spans("admission")
    call.cancel()
    [server] = await traced.spans(METHOD)
    assert _attributes(server)["rpc.status_code"] == "CANCELLED"
    assert _attributes(server)["monitor_contact.reason"] == "CALLER_LEFT"
    assert server.status.status_code is StatusCode.UNSET
    [attempt] = await traced.spans("Connect/MonitorContact")
    assert attempt.status.status_code is StatusCode.UNSET


async def test_health_is_not_traced(traced: Traced) -> None:
    """A probe every few seconds would drown the calls."""
    stub = HealthStub(traced.service.channel)  # type: ignore[no-untyped-call]  # generated
    await stub.Check(HealthCheckRequest(), metadata=(("traceparent", TRACEPARENT),))
    await traced.call()
    assert not [span.name for span in await traced.spans(METHOD) if "Health" in span.name]
    assert {span.name for span in traced.exporter.get_finished_spans() if span.kind is SpanKind.SERVER} == {METHOD}


async def test_no_span_says_who_listened_to_whom(traced: Traced) -> None:
    """Neither identifiers, nor ticket and reason, nor an exception's text, nor what Connect said."""
    canaries = (INSTANCE_ID, CONTACT_ID, USER_ID, "canary")
    said = {"x-monitor-reason": "canary", "x-monitor-ticket": "canary", "tracestate": "a=canary"}
    for fault in (
        Fault("error", error="AccessDeniedException", message=f"canary {USER_ID}", times=1),
        Fault("error", error="InternalServiceException", message="canary", times=1),
    ):
        traced.simulator.inject(fault)
        await traced.call(said)
    traced.audit_log.failure = "canary"
    await traced.call(said)
    spans = await traced.spans(METHOD, count=3)
    for span in traced.exporter.get_finished_spans():
        text = " ".join([span.name, str(span.attributes), str(span.events), str(span.status.description)])
        assert not [canary for canary in canaries if canary in text]
        assert span.events == ()
    assert len(spans) == 3


# ---- On and off ------------------------------------------------------------------------------------------------------


def test_while_traces_are_off_opentelemetry_is_not_loaded() -> None:
    """Not by the whole service: it is an extra, and it costs memory and time at the start."""
    program = """
import sys
import monitor_contact_service.__main__
from monitor_contact_service.tracing import open_tracer
open_tracer("off")
sys.exit(any(name.split(".")[0] == "opentelemetry" for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


async def test_while_traces_are_off_nothing_is_made_on_a_calls_path() -> None:
    """Behaviours and waits come back as they are, and no header is added."""

    async def behaviour(request: object, context: object) -> None:
        """Do nothing."""

    wait = asyncio.timeout(None)
    headers: dict[str, str] = {}
    tracer = open_tracer("off")
    assert tracer is NOT_TRACED
    assert tracer.call("/a/b", behaviour) is behaviour
    assert tracer.waiting(wait, enter="x") is wait
    with UNOBSERVED.request("MonitorContact", headers) as request:
        assert request is not None
    assert headers == {}
    await tracer.close()


def test_without_the_extra_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the service does not start: whoever switches traces on wants to have them."""
    monkeypatch.setitem(sys.modules, "monitor_contact_service.opentelemetry_tracing", None)
    monkeypatch.delattr("monitor_contact_service.opentelemetry_tracing", raising=False)
    with pytest.raises(ConfigurationError) as raised:
        open_tracer("otlp")
    [problem] = raised.value.problems
    assert problem.startswith("MONITOR_CONTACT_TRACES: ")
    assert "monitor-contact-service[opentelemetry]" in problem


def test_what_opentelemetry_does_not_take_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own variables keep their own names and are judged by the SDK."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with pytest.raises(ConfigurationError) as raised:
        tracing.open_tracer("otlp")
    assert "OTEL_*" in raised.value.problems[0]


@asynccontextmanager
async def _collector(*, answers: bool = True) -> AsyncIterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """Yield the address of a collector, and what it was sent."""
    received: list[ExportTraceServiceRequest] = []
    never = asyncio.Event()

    async def take(request: web.BaseRequest) -> web.Response:
        received.append(ExportTraceServiceRequest.FromString(await request.read()))
        if not answers:
            await never.wait()
        assert request.path == "/v1/traces"
        return web.Response()

    server = web.Server(take)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", received
    finally:
        never.set()
        listening.close()
        await server.shutdown()


async def test_spans_reach_a_collector_by_the_sdks_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait are sent at the end. By default the service's name is its own."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests")
    async with _collector() as (url, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        tracer = open_tracer("otlp")
        tracer.request("MonitorContact", {}, 1).end("ok", None)
        await tracer.close()
    [sent] = received
    [resource] = sent.resource_spans
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert attributes["service.name"] == "monitor-contact"
    assert attributes["service.version"] == "0.1.0"
    assert attributes["deployment.environment.name"] == "tests"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["Connect/MonitorContact"]


async def test_an_operators_name_of_the_service_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SERVICE_NAME, as everywhere."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "listening")
    tracer = exporting()
    assert isinstance(tracer, OpenTelemetryTracer)
    assert tracer._provider.resource.attributes["service.name"] == "listening"
    await tracer.close()


async def test_a_collector_that_does_not_answer_holds_nobody_up() -> None:
    """The end of the service waits for so long and goes on. By itself the SDK would wait ten times as long."""
    async with _collector(answers=False) as (url, received):
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            tracer = exporting()
        assert isinstance(tracer, OpenTelemetryTracer)
        tracer._flush_seconds = 0.2
        tracer.request("MonitorContact", {}, 1).end("ok", None)
        async with asyncio.timeout(5):  # of the SDK's 10 s for a request and 30 s for its end
            await tracer.close()
        assert len(received) <= 1


async def test_a_tracer_that_the_sdk_switches_off_makes_no_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED: calls go on, Connect gets no header that would name a trace of zeros."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracer, headers = OpenTelemetryTracer(TracerProvider(shutdown_on_exit=False)), dict[str, str]()
    async with Simulator() as simulator:
        async with (
            connect_to(simulator.url, upstream=Upstream(Metrics(), tracer)) as connect,
            serving(connect, tracer=tracer) as service,
        ):
            await service.stub.MonitorContact(REQUEST)
        [call] = simulator.calls("MonitorContact")
    tracer.request("MonitorContact", headers, 1).end(None, None)
    assert "traceparent" not in call.headers
    assert headers == {}
