"""What is the same for every RPC: its request id, trace, count and log line, limits of its metadata, a typed failure.

Decides nothing: a `Failure` becomes its row in `status`, anything else is a bug and becomes INTERNAL, the text of which
goes to the log only. Bytes that are no message reach our own methods as `validation.UNDECODABLE`, because who calls is
asked first; health, which asks nobody, is spared them. Streaming methods (health, reflection) are counted and otherwise
untouched.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from . import status
from .core import metadata, validation
from .core.failures import Failure, Reason
from .outcomes import CALLER_LEFT, SUCCEEDED
from .request_id import new_request_id
from .telemetry import caller_var, fields, request_id_var
from .tracing import NOT_TRACED, Tracer

_log = logging.getLogger(__name__)

_GRPCS_OWN: Final = "/grpc."  # health and reflection

Behaviour = Callable[[Any, Any], Awaitable[Any]]
Refused = Callable[[Any, Failure], None]  # the call's context, and why
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]


class MethodObserver(Protocol):
    """Is told of the calls of one method."""

    def started(self) -> None:
        """Note that one begins."""

    def handled(self, code: grpc.StatusCode, reason: str, seconds: float) -> None:
        """Note that one has ended; `reason` is one of `outcomes.CLASSES`, "" where gRPC's own services answer."""


class CallObserver(Protocol):
    """Is told of all calls."""

    def method(self, path: str, kind: str) -> MethodObserver:
        """Return who is told of a method; `path` is /service/method, `kind` unary, server_stream or bidi_stream."""

    def unknown_method(self) -> None:
        """Note a call to a method that is not served."""


class _Nobody:
    """Is told and takes no notice, as any method's observer too."""

    def method(self, path: str, kind: str) -> MethodObserver:
        del path, kind
        return self

    def unknown_method(self) -> None:
        """Do nothing."""

    def started(self) -> None:
        """Do nothing."""

    def handled(self, code: grpc.StatusCode, reason: str, seconds: float) -> None:
        """Do nothing."""


def _nobody_records(context: Any, failure: Failure) -> None:
    del context, failure


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps each method once; grpc.aio by itself would send exception texts to the caller (measured).

    Args:
        observer: is told of each call.
        tracer: makes a span of each.
        refused: is told of a call of our own methods that is refused for its metadata: no method hears of it.
    """

    def __init__(
        self,
        observer: CallObserver | None = None,
        tracer: Tracer = NOT_TRACED,
        refused: Refused = _nobody_records,
    ) -> None:
        self._observer: CallObserver = observer or _Nobody()
        self._tracer = tracer
        self._refused = refused
        self._guarded: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return the method's handler, guarded; gRPC's own UNIMPLEMENTED for an unknown method."""
        method = handler_call_details.method
        if method in self._guarded:
            return self._guarded[method]
        handler = await continuation(handler_call_details)
        if handler is None:
            self._observer.unknown_method()
            return None
        self._guarded[method] = guarded = self._wrap(method, handler)
        return guarded

    def _wrap(self, method: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> "grpc.RpcMethodHandler[Any, Any]":
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._guard(method, handler.unary_unary),
                request_deserializer=_tolerant(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _counted(handler.unary_stream, self._observer.method(method, "server_stream")),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _counted(handler.stream_stream, self._observer.method(method, "bidi_stream")),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        return handler

    def _guard(self, method: str, behaviour: Behaviour) -> Behaviour:
        level, refused = logging.INFO, self._refused
        if method.startswith(_GRPCS_OWN):
            level, refused, behaviour = logging.DEBUG, _nobody_records, _spared(behaviour)
        behaviour = self._tracer.call(method, partial(_call, behaviour))
        observer = self._observer.method(method, "unary")

        async def answer(request: Any, context: Any) -> Message:
            request_id = new_request_id()
            request_id_var.set(request_id)
            started = time.monotonic()
            observer.started()

            def ended(code: grpc.StatusCode, reason: str, rule: str = "") -> None:
                seconds = time.monotonic() - started
                observer.handled(code, reason, seconds)
                _log_call(level, method, code, reason, rule, seconds)

            # A trailer: initial metadata would commit the call and end the client's retries (gRFC A6, measured).
            context.set_trailing_metadata((("x-request-id", request_id),))
            try:
                _check_metadata(context, refused)
                response: Message = await behaviour(request, context)
            except grpc.aio.AbortError:
                ended(context.code(), "")  # health answers by itself
                raise
            except asyncio.CancelledError:
                ended(grpc.StatusCode.CANCELLED, CALLER_LEFT)  # or its deadline passed
                raise
            except Failure as failure:
                refusal = status.refusal(failure, request_id=request_id, time_left=context.time_remaining())
                # Which rule was broken helps operators, and callers not: they are told the same whatever it was.
                ended(
                    refusal.code, failure.reason, failure.log_text if failure.reason is Reason.UNAUTHENTICATED else ""
                )
                await context.abort(refusal.code, refusal.message, refusal.trailers)
                raise AssertionError("abort returned") from failure
            # In the event loop's next turn, when gRPC has the answer: the caller does not wait for the log (100 µs when
            # calls come one at a time, measured).
            asyncio.get_running_loop().call_soon(ended, grpc.StatusCode.OK, SUCCEEDED)
            return response

        return answer


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Let undecodable bytes pass: otherwise gRPC answers UNKNOWN with the decoder's text (measured)."""

    def decode(raw: bytes) -> Any:
        try:
            return deserialize(raw) if deserialize else raw
        except (DecodeError, ValueError):
            return validation.UNDECODABLE

    return decode


def _check_metadata(context: Any, refused: Refused) -> None:
    try:
        metadata.check(context.invocation_metadata())
    except Failure as failure:
        refused(context, failure)
        raise


def _log_call(level: int, method: str, code: grpc.StatusCode, reason: str, rule: str, seconds: float) -> None:
    said: dict[str, object] = {"method": method, "code": code.name, "reason": reason}
    if rule:
        said["rule"] = rule
    said["duration_ms"] = round(seconds * 1000, 3)
    if caller := caller_var.get():
        said["caller"] = caller
    _log.log(level, "call", extra=fields(**said))


def _spared(behaviour: Behaviour) -> Behaviour:
    """Refuse undecodable bytes in place of a method that knows nothing of them."""

    async def answer(request: Any, context: Any) -> Any:
        if request is validation.UNDECODABLE:
            raise validation.undecodable()
        return await behaviour(request, context)

    return answer


async def _call(behaviour: Behaviour, request: Any, context: Any) -> Any:
    """Return the method's response; whatever it raises besides is made a Failure here."""
    try:
        return await behaviour(request, context)
    except (Failure, grpc.aio.AbortError):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # An inner task was cancelled, not the call: without an answer the caller would hang (measured).
        raise _bug() from error
    except Exception as error:
        raise _bug() from error


def _bug() -> Failure:
    _log.exception("unexpected exception")
    return Failure(Reason.INTERNAL, metadata={"correlation_id": request_id_var.get()})


def _counted(behaviour: Callable[[Any, Any], Any], observer: MethodObserver) -> Behaviour:
    """Count the calls of a method that answers with a stream.

    As a coroutine that writes, not as a generator: gRPC cancels the former where it stands, and drops the latter.
    """

    async def answer(request: Any, context: Any) -> None:
        started = time.monotonic()
        observer.started()
        code = grpc.StatusCode.UNKNOWN  # gRPC's answer to an exception
        try:
            async for response in behaviour(request, context):
                await context.write(response)
            code = grpc.StatusCode.OK
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            code = context.code()
            raise
        finally:
            observer.handled(code, "", time.monotonic() - started)

    return answer
