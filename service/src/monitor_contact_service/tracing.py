"""What the service traces, without OpenTelemetry: that is an extra, loaded only where traces are switched on.

While they are off, nothing is made on a call's path: its behaviour and its waits are handed back as they are.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, Protocol, TypeVar

from .core.wire import Answer
from .settings import ConfigurationError
from .variables import variable

Behaviour = Callable[[Any, Any], Awaitable[Any]]
Value = TypeVar("Value")

_NEEDS: Final = "needs OpenTelemetry: pip install 'monitor-contact-service[opentelemetry]'"


class RequestSpan(Protocol):
    """The span of one request to Connect."""

    def end(self, outcome: str | None, answer: Answer | None) -> None:
        """End it: `outcomes.UPSTREAM_OUTCOMES`, or None for a bug; the answer if there was one."""


class Tracer(Protocol):
    """Makes spans. Nothing in them names a contact, a user, an instance or a caller."""

    def call(self, path: str, behaviour: Behaviour) -> Behaviour:
        """Return a method's behaviour with a server span around each call. It raises Failure or AbortError only."""

    def waiting(
        self, manager: AbstractAsyncContextManager[Value], *, enter: str, leave: str = ""
    ) -> AbstractAsyncContextManager[Value]:
        """Return the manager with a span around entering it and, if that has a name, around leaving it."""

    def request(self, operation: str, headers: dict[str, str], attempt: int) -> RequestSpan:
        """Begin the span of a request to Connect and add its `traceparent` to the headers."""

    async def close(self) -> None:
        """Send what is left, for some seconds at most."""


class _NoSpan:
    def end(self, outcome: str | None, answer: Answer | None) -> None:
        """Do nothing."""


class _NotTraced:
    def call(self, path: str, behaviour: Behaviour) -> Behaviour:
        del path
        return behaviour

    def waiting(
        self, manager: AbstractAsyncContextManager[Value], *, enter: str, leave: str = ""
    ) -> AbstractAsyncContextManager[Value]:
        del enter, leave
        return manager

    def request(self, operation: str, headers: dict[str, str], attempt: int) -> RequestSpan:
        del operation, headers, attempt
        return _NO_SPAN

    async def close(self) -> None:
        """Do nothing."""


_NO_SPAN: Final = _NoSpan()
NOT_TRACED: Final = _NotTraced()


def open_tracer(traces: Literal["off", "otlp"]) -> Tracer:
    """Return the tracer that the setting asks for. How and where to is said by OTEL_* variables, which the SDK reads.

    Raises:
        ConfigurationError: the extra is not installed, or OTEL_* variables say what the SDK does not take.
    """
    if traces == "off":
        return NOT_TRACED
    try:
        from .opentelemetry_tracing import exporting  # noqa: PLC0415 - the extra is installed where it is used
    except ModuleNotFoundError as error:
        raise ConfigurationError([f"{variable('traces')}: {_NEEDS}"]) from error
    try:
        return exporting()
    except ValueError as error:
        raise ConfigurationError(
            [f"{variable('traces')}: OpenTelemetry refuses its OTEL_* variables: {error}"]
        ) from error
