"""Counts what a replica tells Prometheus, and serves it. Decides nothing but that labels stay few.

Whoever does something tells of it as it happens; each of those modules has a Protocol for it. All series are there at 0
from the start, or rate() would miss the first event of each. Names and buckets stand in `metric_definitions`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, disable_created_metrics

from .address import Address
from .admission import Admission
from .call_metrics import CallMetrics
from .core.failures import Reason
from .core.reads import Api
from .core.retry import REPEATED
from .exits import CannotStartError
from .metric_definitions import Instruments
from .metric_readings import Readings
from .metrics_server import bind
from .outcomes import UPSTREAM_OUTCOMES
from .telemetry import caller_var
from .upstream import MONITOR_CONTACT

# How long the listener may take to notice that it should stop; socketserver by itself looks twice a second.
STOP_SECONDS: Final = 0.1
# What stands for every caller that the access file does not name.
OTHER: Final = "other"

_ADMISSION_RESULTS: Final = ("admitted", "shed", "deadline_too_short", "abandoned")
# Those of `core.retry` that are worth a repetition.
_RELOADED: Final = ("tls", "policy", "access", "quota", "keys")
# Of the records that calls and reloads append; checkpoints and recovery are the log's own.
_AUDIT_STAGES: Final = ("intent", "outcome", "denied", "repeated", "policy")


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
    """All metrics of one replica, in a registry of their own.

    Attributes:
        calls: what `interceptors` tell of; the rest is told to this object itself.
    """

    def __init__(self, *, wall_clock: Callable[[], float] = time.time) -> None:
        # For the whole process: otherwise each counter has a twin `_created`.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        defined = Instruments(self.registry)
        self.calls = CallMetrics(defined)
        self._readings = Readings()
        self.registry.register(self._readings)
        self._wall_clock = wall_clock
        self._admissions = {OTHER: {result: defined.admissions.labels(OTHER, result) for result in _ADMISSION_RESULTS}}
        self._new_admissions = defined.admissions
        self._admission_wait = defined.admission_wait
        operations = (MONITOR_CONTACT, *Api)
        self._upstream = {operation: defined.upstream.labels(operation) for operation in operations}
        self._upstream_calls = {
            (operation, outcome): defined.upstream_calls.labels(operation, outcome)
            for operation in operations
            for outcome in UPSTREAM_OUTCOMES
        }
        self._throttles = defined.throttles
        self._retries = {reason: defined.retries.labels(reason) for reason in REPEATED}
        self._reloads = {
            (what, ok): defined.reloads.labels(what, "success" if ok else "failure")
            for what in _RELOADED
            for ok in (True, False)
        }
        self._reloaded_at = dict.fromkeys(_RELOADED, wall_clock())
        for what in _RELOADED:
            read = partial(self._reloaded_at.__getitem__, what)
            self.watch_value("reload_success_timestamp_seconds", read, what=what)
        self._audit_append = {stage: defined.audit_append.labels(stage) for stage in _AUDIT_STAGES}
        self._loop_lag = defined.loop_lag

    # ---- What is read at each scrape ---------------------------------------------------------------------------------

    def watch(self, quota: QuotaReading, admission: Admission) -> None:
        """Let each scrape read these two."""
        self.watch_value("quota_limit", lambda: quota.limit)
        self.watch_value("quota_rate", quota.rate)
        self.watch_value("quota_tokens", quota.tokens)
        self.watch_value("quota_shared", lambda: quota.shared)
        self.watch_value("admission_queue_length", lambda: admission.turns.waiting)
        self.watch_value("in_flight", lambda: admission.in_flight)
        self.watch_value("outage", lambda: admission.outage.reason is not None)

    def watch_value(self, name: str, read: Callable[[], float | None], **labels: str) -> None:
        """Let each scrape read a gauge of `metric_definitions.READINGS`; None shows nothing. Any thread may read it."""
        self._readings.add(name, read, lambda: labels)

    def watch_info(self, name: str, read: Callable[[], Mapping[str, str]]) -> None:
        """Let each scrape read the labels of a gauge that is always 1."""
        self._readings.add(name, lambda: 1.0, read)

    # ---- What is told as it happens ----------------------------------------------------------------------------------

    def know_callers(self, configured: Iterable[str]) -> None:
        """Let these callers have series of their own. Those that are not configured any more keep theirs."""
        for caller in configured:
            if caller not in self._admissions:
                self._admissions[caller] = {
                    result: self._new_admissions.labels(caller, result) for result in _ADMISSION_RESULTS
                }

    def caller_name(self, principal_id: str) -> str:
        """Return the id if it is a configured one, else "other": for `telemetry.caller_var`."""
        return principal_id if principal_id in self._admissions else OTHER

    def admitted(self, wait_seconds: float) -> None:
        """Count a call that has got its first turn."""
        self._count_admission("admitted")
        self._admission_wait.observe(wait_seconds)

    def refused(self, reason: Reason) -> None:
        """Count a call that got no turn."""
        self._count_admission("deadline_too_short" if reason is Reason.DEADLINE_TOO_SHORT else "shed")

    def abandoned(self) -> None:
        """Count a call whose callers left before its first turn."""
        self._count_admission("abandoned")

    def throttled(self) -> None:
        """Count a 429 to MonitorContact."""
        self._throttles.inc()

    def retried(self, cause: Reason) -> None:
        """Count a further attempt after one that failed for this reason."""
        self._retries[cause].inc()

    def upstream(self, operation: str, outcome: str, seconds: float) -> None:
        """Count a request to Connect. Both names are those of `core.reads.Api` and `outcomes`."""
        self._upstream_calls[operation, outcome].inc()
        self._upstream[operation].observe(seconds)

    def appended(self, stage: str, seconds: float) -> None:
        """Note how long an audit record took to become durable."""
        self._audit_append[stage].observe(seconds)

    def reloaded(self, what: str, ok: bool) -> None:  # noqa: FBT001 - the one thing that is told of it
        """Count a change of tls, policy, access, quota or keys that was taken into use, or refused."""
        self._reloads[what, ok].inc()
        if ok:
            self._reloaded_at[what] = self._wall_clock()

    def lagged(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._loop_lag.observe(seconds)

    def _count_admission(self, result: str) -> None:
        # Admission runs in a task that the call began: what the handler has set there holds here.
        self._admissions[caller_var.get() or OTHER][result].inc()


@contextmanager
def served(metrics: Metrics, address: Address) -> Iterator[Address]:
    """Serve the metrics over plain HTTP, in threads of their own; yield the address with the port that it got.

    Raises:
        CannotStartError: the port is in use, or the host is not one of this machine's.
    """
    try:
        server = bind(metrics.registry, address)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host's name
        problem = f"cannot listen on {address}: another process does already, or the host is not of this machine"
        raise CannotStartError([f"{problem}; MONITOR_CONTACT_METRICS_LISTEN names another address"]) from error
    thread = Thread(target=server.serve_forever, args=(STOP_SECONDS,), name="metrics", daemon=True)
    thread.start()
    try:
        yield Address(address.host, server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
