"""What is the same for every RPC: its request id, its log line, and that every failure leaves as a typed answer.

Decides nothing: a `Failure` becomes its row in `status`, anything else is a bug and becomes INTERNAL, the text of which
goes to the log only. Streaming methods (health, reflection) pass untouched.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from . import status
from .core import validation
from .core.failures import Failure, Reason
from .telemetry import fields, request_id_var

_log = logging.getLogger(__name__)

_UNDECODABLE: Final = object()

Behaviour = Callable[[Any, Any], Awaitable[Any]]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]


class CallGuard(grpc.aio.ServerInterceptor):
    """Wraps each unary method once; grpc.aio by itself would send exception texts to the caller (measured)."""

    def __init__(self) -> None:
        self._guarded: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return the method's handler, guarded; gRPC's own UNIMPLEMENTED for an unknown method."""
        method = handler_call_details.method
        if method in self._guarded:
            return self._guarded[method]
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        self._guarded[method] = guarded = grpc.unary_unary_rpc_method_handler(
            _guard(method, handler.unary_unary),
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )
        return guarded


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Let undecodable bytes reach the guard: otherwise gRPC answers UNKNOWN with the decoder's text (measured)."""

    def decode(raw: bytes) -> Any:
        try:
            return deserialize(raw) if deserialize else raw
        except (DecodeError, ValueError):
            return _UNDECODABLE

    return decode


def _guard(method: str, behaviour: Behaviour) -> Behaviour:
    level = logging.DEBUG if method.startswith("/grpc.") else logging.INFO

    async def answer(request: Any, context: Any) -> Message:
        request_id = uuid4().hex
        request_id_var.set(request_id)
        started = time.monotonic()

        def log(code: str, reason: str, level: int = level) -> None:
            duration_ms = round((time.monotonic() - started) * 1000, 3)
            _log.log(level, "call", extra=fields(method=method, code=code, reason=reason, duration_ms=duration_ms))

        # A trailer, because initial metadata would commit the call and end the client's retries (gRFC A6, measured).
        context.set_trailing_metadata((("x-request-id", request_id),))
        try:
            response: Message = await _call(behaviour, request, context)
        except grpc.aio.AbortError:
            log(context.code().name, "")  # health answers by itself
            raise
        except asyncio.CancelledError:
            log("CANCELLED", "")  # the caller left or its deadline passed
            raise
        except Failure as failure:
            refusal = status.refusal(failure, request_id=request_id, time_left=context.time_remaining())
            log(refusal.code.name, failure.reason)
            await context.abort(refusal.code, refusal.message, refusal.trailers)
            raise AssertionError("abort returned") from failure
        # In the event loop's next turn, when gRPC has the answer: the caller does not wait for the log (100 µs when
        # calls come one at a time, measured).
        asyncio.get_running_loop().call_soon(log, "OK", "OK")
        return response

    return answer


async def _call(behaviour: Behaviour, request: Any, context: Any) -> Message:
    """Return the method's response; whatever it raises besides is made a Failure here."""
    if request is _UNDECODABLE:
        raise validation.undecodable()
    try:
        response: Message = await behaviour(request, context)
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
    return response


def _bug() -> Failure:
    _log.exception("unexpected exception")
    return Failure(Reason.INTERNAL, metadata={"correlation_id": request_id_var.get()})
