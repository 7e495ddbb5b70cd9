"""Every metric of a replica: its name, meaning, labels and buckets. docs/observability.md is checked against them.

Who counts is `metrics`, who reads what is so at present `metric_readings`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

PREFIX: Final = "monitor_contact_"

# OpenTelemetry's advice for calls, and on to the longest deadline by default, 60 s.
HANDLING_BUCKETS_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 30, 60,
)  # fmt: skip
# Half a second is the time between two tokens of Connect's own quota.
WAIT_BUCKETS_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 30, 60)
# Connect answers in about 150 ms; an attempt is given up after 3 s by default.
UPSTREAM_BUCKETS_SECONDS: Final = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5)
# A record on a good disk takes 0.3 ms (measured), an idle event loop is 0.2 ms late (measured).
SHORT_BUCKETS_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

_METHOD: Final = ("grpc_type", "grpc_service", "grpc_method")


class Instruments:
    """All that is counted when it happens. The names of gRPC's own are those of go-grpc-middleware."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, meaning, labels, buckets=buckets, registry=registry)

        self.started = counter("grpc_server_started_total", "Calls that have begun.", *_METHOD)
        self.handled = counter("grpc_server_handled_total", "Calls that have ended.", *_METHOD, "grpc_code")
        self.handling = histogram(
            "grpc_server_handling_seconds", "How long calls took.", HANDLING_BUCKETS_SECONDS, *_METHOD
        )
        self.outcomes = counter(
            PREFIX + "outcomes_total", "Calls by the reason of their end, and whose matter it is.", "reason", "class"
        )
        self.admissions = counter(
            PREFIX + "admissions_total",
            "Calls that asked for a turn, by what came of it: each counts once.",
            "caller",
            "result",
        )
        self.admission_wait = histogram(
            PREFIX + "admission_wait_seconds",
            "How long admitted calls waited for their first turn.",
            WAIT_BUCKETS_SECONDS,
        )
        self.upstream_calls = counter(
            PREFIX + "upstream_calls_total", "Requests sent to Connect, by what came of them.", "operation", "outcome"
        )
        self.upstream = histogram(
            PREFIX + "upstream_seconds", "How long Connect took to answer.", UPSTREAM_BUCKETS_SECONDS, "operation"
        )
        self.throttles = counter(PREFIX + "upstream_throttles_total", "Attempts that Connect refused for rate.")
        self.retries = counter(PREFIX + "retries_total", "Further attempts, by the reason of the failed one.", "cause")
        self.reloads = counter(PREFIX + "reloads_total", "Files whose change was noticed.", "what", "result")
        self.audit_append = histogram(
            PREFIX + "audit_append_seconds", "From a record to its being durable.", SHORT_BUCKETS_SECONDS, "stage"
        )
        self.loop_lag = histogram(
            PREFIX + "event_loop_lag_seconds", "How late the event loop runs what is due.", SHORT_BUCKETS_SECONDS
        )


class Reading(NamedTuple):
    """A gauge that is read when somebody scrapes."""

    meaning: str
    labels: tuple[str, ...] = ()


READINGS: Mapping[str, Reading] = MappingProxyType(
    {
        "quota_limit": Reading("Requests per second that Connect allows to all replicas, as configured."),
        "quota_rate": Reading("Present pace, requests per second: of all replicas if shared, else of one."),
        "quota_tokens": Reading("Requests that could be sent at once."),
        "quota_shared": Reading("1: the quota is kept as configured; 0: Redis is lost, safe share."),
        "admission_queue_length": Reading("Calls that wait for a turn."),
        "in_flight": Reading("Calls that wait or are under way."),
        "outage": Reading("1 while only probes are sent because Connect fails."),
        "draining": Reading("1 from the signal to stop on."),
        "retry_budget": Reading("Further attempts that successes have earned; at most 20."),
        "credentials_expiry_timestamp_seconds": Reading("When the AWS credentials end; absent if never."),
        "tls_not_after_timestamp_seconds": Reading("When a certificate in use ends.", ("file",)),
        "reload_success_timestamp_seconds": Reading(
            "When it was last read with success; at first the start.", ("what",)
        ),
        "build_info": Reading("Always 1.", ("version", "commit")),
        "config_info": Reading("Always 1; the hash of all settings, secrets masked.", ("sha256",)),
        "policy_info": Reading("Always 1; the hash of the policies in use.", ("sha256",)),
    }
)
