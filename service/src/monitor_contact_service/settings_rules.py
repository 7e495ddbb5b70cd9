"""Decides whether settings fit together. What each may be by itself stands beside it in `settings`."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from .address import parse_address
from .variables import variable

if TYPE_CHECKING:
    from .settings import Settings

# After the last answer: an attempt that nobody waits for any more and its record, then the audit's last checkpoint and
# the traces that are left (a sum of time-outs; an idle replica takes none of it).
_REST_SECONDS: Final = 7.0


def broken(settings: "Settings") -> Iterator[str]:
    """Yield a line for each rule that is broken, with the variable to change first."""
    for rule in _RULES:
        yield from rule(settings)


def _deadlines_in_order(settings: "Settings") -> Iterator[str]:
    if settings.default_deadline_seconds > settings.max_deadline_seconds:
        yield (
            f"{variable('default_deadline_seconds')}: must be at most {variable('max_deadline_seconds')} "
            f"({settings.max_deadline_seconds:g})"
        )


def _drain_within_grace(settings: "Settings") -> Iterator[str]:
    after_seconds = settings.stop_grace_seconds - settings.max_deadline_seconds + _REST_SECONDS
    needed = settings.drain_seconds + settings.max_deadline_seconds + after_seconds
    if 0 < settings.termination_grace_seconds < needed:
        yield (
            f"{variable('termination_grace_seconds')}: must be at least {needed:g}: "
            f"{variable('drain_seconds')} ({settings.drain_seconds:g}), {variable('max_deadline_seconds')} "
            f"({settings.max_deadline_seconds:g}) and {after_seconds:g} for replies and records; with less, calls are "
            "cut off at every restart"
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
