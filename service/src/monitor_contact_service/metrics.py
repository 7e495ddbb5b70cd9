"""What a replica tells Prometheus: every name and bucket, and the listener that is scraped. Decides nothing.

`admission` tells of each event as it happens. What is so at present is read when somebody scrapes, in a thread of the
listener: from what reading does not change, and without a lock, so two numbers may be a moment apart.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .address import Address
from .admission import Admission
from .core.failures import Reason
from .exits import CannotStartError

PREFIX: Final = "monitor_contact_"
# Half a second is the time between two tokens of Connect's own quota, 60 s the longest deadline by default.
WAIT_BUCKETS_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 30, 60)


class QuotaReading(Protocol):
    """What is read of a quota (`quota`, `shared_quota`), from any thread."""

    @property
    def limit(self) -> float:
        """What Connect allows to all replicas together, as configured, in requests per second."""

    @property
    def shared(self) -> bool:
        """False while this replica keeps to its share because the store that replicas share is lost."""

    def rate(self) -> float:
        """Return the present pace in requests per second: of all replicas if they share it, else of this one."""

    def tokens(self) -> float:
        """Return how many requests could be sent at once."""


class Metrics:
    """All metrics of one replica, in a registry of their own; an `admission.AdmissionObserver`."""

    def __init__(self) -> None:
        # For the whole process: otherwise each counter has a twin `_created`.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        admissions = Counter(
            PREFIX + "admissions_total",
            "Calls that asked for a turn, by what came of it: each counts once.",
            ["result"],
            registry=self.registry,
        )
        # All at 0 from the start, or rate() misses the first of each.
        self._admitted = admissions.labels("admitted")
        self._shed = admissions.labels("shed")
        self._deadline_too_short = admissions.labels("deadline_too_short")
        self._abandoned = admissions.labels("abandoned")
        self._wait_seconds = Histogram(
            PREFIX + "admission_wait_seconds",
            "How long admitted calls waited for their first turn.",
            buckets=WAIT_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self._throttles = Counter(
            PREFIX + "upstream_throttles_total",
            "Attempts that Connect refused for rate.",
            registry=self.registry,
        )

    def watch(self, quota: QuotaReading, admission: Admission) -> None:
        """Let each scrape read these two."""
        self.registry.register(_Present(quota, admission))

    def admitted(self, wait_seconds: float) -> None:
        """Count a call that has got its first turn."""
        self._admitted.inc()
        self._wait_seconds.observe(wait_seconds)

    def refused(self, reason: Reason) -> None:
        """Count a call that got no turn."""
        (self._deadline_too_short if reason is Reason.DEADLINE_TOO_SHORT else self._shed).inc()

    def abandoned(self) -> None:
        """Count a call whose callers left before its first turn."""
        self._abandoned.inc()

    def throttled(self) -> None:
        """Count a 429."""
        self._throttles.inc()


class _Present(Collector):
    def __init__(self, quota: QuotaReading, admission: Admission) -> None:
        self._quota = quota
        self._admission = admission

    def collect(self) -> Iterator[GaugeMetricFamily]:
        quota, admission = self._quota, self._admission
        for name, meaning, value in (
            ("quota_limit", "Requests per second that Connect allows to all replicas, as configured.", quota.limit),
            ("quota_rate", "Present pace, requests per second: of all replicas if shared, else of one.", quota.rate()),
            ("quota_tokens", "Requests that could be sent at once.", quota.tokens()),
            ("quota_shared", "1: the quota is kept as configured; 0: Redis is lost, safe share.", quota.shared),
            ("admission_queue_length", "Calls that wait for a turn.", admission.turns.waiting),
            ("in_flight", "Calls that wait or are under way.", admission.in_flight),
            ("outage", "1 while only probes are sent because Connect fails.", admission.outage.reason is not None),
        ):
            yield GaugeMetricFamily(PREFIX + name, meaning, float(value))


@contextmanager
def served(metrics: Metrics, address: Address) -> Iterator[Address]:
    """Serve the metrics over plain HTTP, in threads of their own; yield the address with the port that it got.

    Raises:
        CannotStartError: the port is in use, or the host is not one of this machine's.
    """
    try:
        server, thread = start_http_server(address.port, address.host, metrics.registry)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host's name
        problem = f"cannot listen on {address}: another process does already, or the host is not of this machine"
        raise CannotStartError([f"{problem}; MONITOR_CONTACT_METRICS_LISTEN names another address"]) from error
    try:
        yield Address(address.host, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
