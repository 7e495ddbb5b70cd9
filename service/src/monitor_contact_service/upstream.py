"""Times each request to Connect, and tells metrics and traces of it. Sends nothing: `connect` does."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Final, Protocol, Self

from .core.failures import Failure
from .core.wire import Answer, read_success
from .outcomes import CANCELLED, OK, upstream_outcome
from .tracing import NOT_TRACED, RequestSpan, Tracer

# Connect's name of the one operation that acts; those that read are `core.reads.Api`.
MONITOR_CONTACT: Final = "MonitorContact"


class UpstreamObserver(Protocol):
    """Is told of each request to Connect."""

    def upstream(self, operation: str, outcome: str, seconds: float) -> None:
        """Note one request: Connect's name of the operation, `outcomes.UPSTREAM_OUTCOMES`."""


class _Nobody:
    def upstream(self, operation: str, outcome: str, seconds: float) -> None:
        """Take no notice."""


class Upstream:
    """What is done around each request to Connect.

    Args:
        observer: is told.
        tracer: makes a span of each.
        clock: seconds.
    """

    def __init__(
        self,
        observer: UpstreamObserver,
        tracer: Tracer = NOT_TRACED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.observer = observer
        self.tracer = tracer
        self.clock = clock

    def request(self, operation: str, headers: dict[str, str], attempt: int = 1) -> "Request":
        """Return what to hold while one request is sent and answered.

        Args:
            operation: Connect's name.
            headers: signed already; the trace's own one is added, so that it is no part of the signature.
            attempt: from 1.
        """
        return Request(self, operation, self.tracer.request(operation, headers, attempt))


class Request:
    """One request, from before it is sent until its answer is understood."""

    __slots__ = ("_answer", "_began", "_operation", "_span", "_upstream")

    def __init__(self, upstream: Upstream, operation: str, span: RequestSpan) -> None:
        self._upstream = upstream
        self._operation = operation
        self._span = span
        self._answer: Answer | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = self._upstream.clock()
        return self

    def answered(self, answer: Answer) -> None:
        """Note the answer, whatever its status."""
        self._answer = answer

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        outcome = self._outcome(error)
        if outcome is not None:
            self._upstream.observer.upstream(self._operation, outcome, self._upstream.clock() - self._began)
        self._span.end(outcome, self._answer)

    def _outcome(self, error: BaseException | None) -> str | None:
        """Return the outcome; None if nothing was sent because of a bug."""
        if isinstance(error, Failure):
            return upstream_outcome(error)
        if error is not None:
            return CANCELLED if isinstance(error, asyncio.CancelledError) else None
        answer = self._answer
        if answer is None or HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return OK
        try:  # a read, whose answer is understood later on
            read_success(answer)
        except Failure as failure:
            return upstream_outcome(failure)
        return OK


# For tests and tools that count nothing.
UNOBSERVED = Upstream(_Nobody())
