"""Counts calls as gRPC sees them, and whose matter their ends are. `interceptors` tells of each."""

from collections.abc import Iterator
from typing import Final

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2
from monitor_contact.v1 import monitor_contact_pb2
from prometheus_client import Counter

from .metric_definitions import Instruments
from .outcomes import CLASSES
from .telemetry import exemplar_var

# What stands for every method that is not served: its name is the caller's text.
OTHER: Final = "other"
_OWN_PACKAGE: Final = f"/{monitor_contact_pb2.DESCRIPTOR.package}."
_SERVICES: Final = (
    monitor_contact_pb2.DESCRIPTOR.services_by_name["MonitorContactService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
)

# As Go writes them, because the usual alerts match on it.
GO_CODES: Final = {
    code: "OK" if code is grpc.StatusCode.OK else code.name.title().replace("_", "").replace("Cancelled", "Canceled")
    for code in grpc.StatusCode
}


class MethodMetrics:
    """The counters of one method, resolved once."""

    __slots__ = ("_handled", "_handling", "_outcomes", "_started")

    def __init__(self, defined: Instruments, labels: tuple[str, str, str], outcomes: dict[str, Counter]) -> None:
        self._started = defined.started.labels(*labels)
        self._handled = {code: defined.handled.labels(*labels, name) for code, name in GO_CODES.items()}
        self._handling = defined.handling.labels(*labels)
        self._outcomes = outcomes

    def started(self) -> None:
        """Count a call that begins."""
        self._started.inc()

    def handled(self, code: grpc.StatusCode, reason: str, seconds: float) -> None:
        """Count a call that has ended; `reason` is one of `outcomes.CLASSES`, or "" where another service answers."""
        self._handled[code].inc()
        self._handling.observe(seconds, exemplar_var.get())
        outcome = self._outcomes.get(reason)
        if outcome is not None:
            outcome.inc()


class CallMetrics:
    """The counters of all methods."""

    def __init__(self, defined: Instruments) -> None:
        self._defined = defined
        self._outcomes = {
            reason: defined.outcomes.labels(reason, outcome_class) for reason, outcome_class in CLASSES.items()
        }
        self._methods = {path: self._made(path, kind) for path, kind in _paths()}
        self._other_started = defined.started.labels(OTHER, OTHER, OTHER)
        self._other_handled = defined.handled.labels(OTHER, OTHER, OTHER, GO_CODES[grpc.StatusCode.UNIMPLEMENTED])

    def method(self, path: str, kind: str) -> MethodMetrics:
        """Return the counters of a method that is served; `path` is /service/method, `kind` as in grpc_type."""
        if path not in self._methods:
            self._methods[path] = self._made(path, kind)
        return self._methods[path]

    def unknown_method(self) -> None:
        """Count a call to a method that is not served."""
        self._other_started.inc()
        self._other_handled.inc()

    def _made(self, path: str, kind: str) -> MethodMetrics:
        _, service, method = path.split("/")
        outcomes = self._outcomes if path.startswith(_OWN_PACKAGE) else {}
        return MethodMetrics(self._defined, (kind, service, method), outcomes)


def _paths() -> Iterator[tuple[str, str]]:
    """Yield path and kind of the methods that every server has."""
    for service in _SERVICES:
        for method in service.methods:
            yield _path(service, method), "server_stream" if method.server_streaming else "unary"


def _path(service: ServiceDescriptor, method: MethodDescriptor) -> str:
    return f"/{service.full_name}/{method.name}"
