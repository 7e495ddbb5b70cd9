"""Traces calls with OpenTelemetry. Loaded only where traces are switched on; see `tracing`.

Names are those of OpenTelemetry's semantic conventions 1.45.0, as constants of our own: the Python package still has
older ones. Texts of exceptions never get into a span: they may hold what belongs to the audit record only.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from importlib.metadata import version
from threading import Thread
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .core.failures import Failure
from .core.wire import Answer
from .outcomes import CALLER_LEFT, OK, SUCCEEDED
from .reasons import TABLE
from .telemetry import exemplar_var, trace_id_var
from .tracing import Behaviour, RequestSpan, Tracer

Value = TypeVar("Value")

RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS_CODE: Final = "rpc.status_code"
ERROR_TYPE: Final = "error.type"
AWS_REQUEST_ID: Final = "aws.request_id"
HTTP_STATUS_CODE: Final = "http.response.status_code"
RESEND_COUNT: Final = "http.request.resend_count"
REASON: Final = "monitor_contact.reason"

# Of a server's span; all others are the caller's own matter (semantic conventions, gRPC).
_SERVER_ERRORS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_UNTRACED: Final = "/grpc."  # health and reflection
_TRACEPARENT: Final = "traceparent"
# Baggage is not carried on: it may hold anything.
_CONTEXT_KEYS: Final = frozenset({_TRACEPARENT, "tracestate"})
# The process waits so long for the collector at its end (choice; a batch takes some milliseconds).
FLUSH_SECONDS: Final = 3.0


class OpenTelemetryTracer:
    """Makes the spans of one provider.

    Args:
        provider: where spans go.
        flush_seconds: how long `close` waits for them.
    """

    def __init__(self, provider: TracerProvider, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._provider = provider
        self._flush_seconds = flush_seconds
        self._tracer = provider.get_tracer("monitor_contact_service")
        self._propagator = TraceContextTextMapPropagator()

    def call(self, path: str, behaviour: Behaviour) -> Behaviour:
        """Return the behaviour with a server span around each call, a child of the caller's; health has none."""
        if path.startswith(_UNTRACED):
            return behaviour
        method = path.removeprefix("/")
        attributes = {RPC_SYSTEM: "grpc", RPC_METHOD: method}

        async def traced(request: Any, context: Any) -> Any:
            parent = self._callers(context.invocation_metadata() or ())
            span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
            token = otel_context.attach(set_span_in_context(span, parent))
            _identify(span.get_span_context())
            code, reason = grpc.StatusCode.OK, SUCCEEDED
            try:
                return await behaviour(request, context)
            except Failure as failure:
                code, reason = TABLE[failure.reason].code, failure.reason
                raise
            except asyncio.CancelledError:
                code, reason = grpc.StatusCode.CANCELLED, CALLER_LEFT
                raise
            except grpc.aio.AbortError:
                code, reason = context.code(), ""
                raise
            finally:
                _end_call(span, code, reason)
                otel_context.detach(token)

        return traced

    def waiting(
        self, manager: AbstractAsyncContextManager[Value], *, enter: str, leave: str = ""
    ) -> AbstractAsyncContextManager[Value]:
        """Return the manager with its spans, children of the call that is at work."""
        return _Waiting(self, manager, enter, leave)

    def request(self, operation: str, headers: dict[str, str], attempt: int) -> RequestSpan:
        """Begin a client span, a child of the call that is at work. Connect gets `traceparent` and no `tracestate`."""
        name = f"Connect/{operation}"
        attributes: dict[str, str | int] = {RPC_SYSTEM: "aws-api", RPC_METHOD: name}
        if attempt > 1:
            attributes[RESEND_COUNT] = attempt - 1
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        of = span.get_span_context()
        if of.is_valid:
            headers[_TRACEPARENT] = f"00-{of.trace_id:032x}-{of.span_id:016x}-{of.trace_flags:02x}"
        return _Request(span)

    def start(self, name: str) -> Span:
        """Begin a span inside the service, a child of the call that is at work."""
        return self._tracer.start_span(name)

    async def close(self) -> None:
        """Send what is left; a collector that does not answer holds the process for `flush_seconds` only."""
        # A thread of its own: the SDK's flush takes no time-out, and asyncio waits for its own threads at the end.
        thread = Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, self._flush_seconds)

    def _callers(self, metadata: Iterable[tuple[str, str | bytes]]) -> Context:
        """Return the caller's context; an empty one, not that of this task, if it has none or a bad one."""
        carrier = {key: str(value) for key, value in metadata if key in _CONTEXT_KEYS}
        return self._propagator.extract(carrier)


class _Waiting(AbstractAsyncContextManager[Value], Generic[Value]):
    def __init__(
        self, tracer: OpenTelemetryTracer, manager: AbstractAsyncContextManager[Value], enter: str, leave: str
    ) -> None:
        self._tracer = tracer
        self._manager = manager
        self._enter = enter
        self._leave = leave

    async def __aenter__(self) -> Value:
        span = self._tracer.start(self._enter)
        with _ended(span):
            return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if not self._leave:
            return await self._manager.__aexit__(kind, error, traceback)
        with _ended(self._tracer.start(self._leave)):
            return await self._manager.__aexit__(kind, error, traceback)


class _Request:
    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, outcome: str | None, answer: Answer | None) -> None:
        """End the span; everything but a success is an error of a client."""
        if answer is not None:
            self._span.set_attribute(HTTP_STATUS_CODE, answer.status)
            if request_id := answer.headers.get("x-amzn-requestid"):
                self._span.set_attribute(AWS_REQUEST_ID, request_id)
        if outcome != OK:
            self._span.set_attribute(ERROR_TYPE, outcome or "bug")
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def exporting() -> Tracer:
    """Return a tracer that sends to a collector by OTLP over HTTP, as the SDK's OTEL_* variables say.

    Raises:
        ValueError: the SDK does not take one of them.
    """
    # Not at exit: the SDK would wait for half a minute there.
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))  # bounded: 2,048 spans by default, then dropped
    return OpenTelemetryTracer(provider)


def _resource() -> Resource:
    """Return what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, and our own name where they say none."""
    configured = Resource.create()
    own = Resource({SERVICE_VERSION: version("monitor-contact-service"), **configured.attributes})
    if str(configured.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        own = own.merge(Resource({SERVICE_NAME: "monitor-contact"}))
    return own


def _identify(of: SpanContext) -> None:
    """Let log lines, audit records and measurements name the trace."""
    if of.is_valid:
        trace_id = f"{of.trace_id:032x}"
        trace_id_var.set(trace_id)
        if of.trace_flags.sampled:
            exemplar_var.set({"trace_id": trace_id})


def _end_call(span: Span, code: grpc.StatusCode, reason: str) -> None:
    span.set_attribute(RPC_STATUS_CODE, code.name)
    span.set_attribute(REASON, reason)
    if code in _SERVER_ERRORS:
        span.set_attribute(ERROR_TYPE, code.name)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


@contextmanager
def _ended(span: Span) -> Iterator[None]:
    """End a span inside the service; a Failure marks it with its reason."""
    try:
        yield
    except Failure as failure:
        span.set_attribute(ERROR_TYPE, failure.reason)
        span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()
