"""Decides whether settings fit together, and what looks wrong in them and may be right.

What each may be by itself stands beside it in `settings`.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from .address import parse_address
from .variables import variable

if TYPE_CHECKING:
    from .settings import Settings

# The end after the last record, one after the other: traces (`opentelemetry_tracing.FLUSH_SECONDS`), the audit
# (`CLOSE_SECONDS` of `audit_log` and `audit_postgresql`), and a second for listeners, connections and Redis, which wait
# for nobody (choice). An idle replica takes none of it.
_REST_SECONDS: Final = 3.0 + 5.0 + 1.0
# How long others may go on sending calls here: gRPC ends a connection up to 10 % after its age (gRFC A9), and new ones
# come until everybody has heard that this replica leaves (choice: Kubernetes names no bound).
_AGE_JITTER: Final = 1.1
_NEWS_SECONDS: Final = 5.0


def broken(settings: "Settings") -> Iterator[str]:
    """Yield a line for each rule that is broken, with the variable to change first."""
    for rule in _RULES:
        yield from rule(settings)


def doubtful(settings: "Settings") -> Iterator[str]:
    """Yield a line for each thing that works, but hardly as meant: for a warning."""
    needed = _AGE_JITTER * settings.max_connection_age_seconds + _NEWS_SECONDS
    # Whoever is on loopback goes on calling here, however long this waits.
    if settings.drain_seconds <= needed and not settings.address.is_loopback:
        yield (
            f"{variable('drain_seconds')} ({settings.drain_seconds:g}) should be more than {needed:g}: 1.1 x "
            f"{variable('max_connection_age_seconds')} ({settings.max_connection_age_seconds:g}) and "
            f"{_NEWS_SECONDS:g} until everybody has heard of the end; with less, restarts cut connections that are in "
            "use"
        )


def _deadlines_in_order(settings: "Settings") -> Iterator[str]:
    if settings.default_deadline_seconds > settings.max_deadline_seconds:
        yield (
            f"{variable('default_deadline_seconds')}: must be at most {variable('max_deadline_seconds')} "
            f"({settings.max_deadline_seconds:g})"
        )


def _drain_within_grace(settings: "Settings") -> Iterator[str]:
    # No attempt outlives the deadline of its call, also where nobody waits for it any more; its record does.
    reply_seconds = settings.stop_grace_seconds - settings.max_deadline_seconds
    after_seconds = max(reply_seconds, settings.audit_timeout_seconds) + _REST_SECONDS
    needed = settings.drain_seconds + settings.max_deadline_seconds + after_seconds
    if 0 < settings.termination_grace_seconds < needed:
        yield (
            f"{variable('termination_grace_seconds')}: must be at least {needed:g}: "
            f"{variable('drain_seconds')} ({settings.drain_seconds:g}), {variable('max_deadline_seconds')} "
            f"({settings.max_deadline_seconds:g}) and {after_seconds:g} for replies, records and traces; with less, "
            "calls or their records are cut off at every restart"
        )


def _ports_differ(settings: "Settings") -> Iterator[str]:
    ports: dict[int, str] = {}
    for field in ("listen", "health_listen", "metrics_listen"):
        text = getattr(settings, field)
        port = parse_address(text).port if text else 0
        if port and port in ports:
            yield f"{variable(field)}: must have another port than {ports[port]} ({port})"
        ports[port] = variable(field)


def _tls_is_whole(settings: "Settings") -> Iterator[str]:
    if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
        missing = "tls_key_file" if settings.tls_cert_file else "tls_cert_file"
        yield f"{variable(missing)}: must be set too: TLS needs a certificate and its key"
    elif settings.tls_client_ca_file and not settings.tls_cert_file:
        yield f"{variable('tls_cert_file')}: must be set too: clients' certificates come over TLS"


def _open_to_nobody_unknown(settings: "Settings") -> Iterator[str]:
    needed = ("tls_cert_file", "access_file", "policy_file")
    missing = [variable(field) for field in needed if not getattr(settings, field)]
    if missing and not settings.address.is_loopback:
        yield (
            f"{variable('listen')}: must be a loopback address such as 127.0.0.1:50051 without "
            f"{', '.join(missing)}: otherwise everybody on the network could listen in on customers"
        )


def _share_is_known(settings: "Settings") -> Iterator[str]:
    if settings.redis is not None and "quota_replicas" not in settings.model_fields_set:
        yield (
            f"{variable('quota_replicas')}: must be set beside {variable('quota_url')}={settings.redis}: the most "
            "replicas that ever run at the same time, rollouts included; while Redis is lost each keeps to that part "
            "of the quota"
        )


_RULES: Final[tuple[Callable[["Settings"], Iterator[str]], ...]] = (
    _deadlines_in_order,
    _drain_within_grace,
    _ports_differ,
    _tls_is_whole,
    _open_to_nobody_unknown,
    _share_is_known,
)
