"""The one composer: configuration -> collaborators -> server -> run until signalled -> drain; also of the simulator."""

from . import engine  # noqa: F401 - before anything of gRPC

# isort: split

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import grpc.aio

from . import server as grpc_server
from .admission import Admission
from .assembly import Outside, assemble, handler_of
from .audit import AuditLog
from .audit_log import FileLog
from .audit_writer import Checkpoints, Rotation
from .build import build_info, config_info
from .cli import main
from .configuration import Configuration, read_configuration
from .connect import Connect, open_http
from .handler import Steps
from .health import Health, Readiness
from .interceptors import CallGuard
from .keys import KeySets
from .loop_lag import measure_loop_lag
from .metrics import Metrics, served
from .policy_reload import PolicyReload
from .publishing import Publisher
from .quota import LocalQuota
from .quota_url import quota_scope
from .reflection import Reflection
from .reloading import Reloading
from .request_id import new_request_id
from .running import run, stop_signal
from .settings import Settings
from .settings_rules import doubtful
from .settings_text import printable
from .shared_quota import SharedQuota
from .telemetry import configure_logging, fields
from .tls import ServerTls
from .tokens import TokenVerifier
from .tracing import open_tracer
from .upstream import Upstream

_log = logging.getLogger("monitor_contact_service")


def serve(_: argparse.Namespace) -> int:
    """Run the service until it is signalled."""
    configuration = read_configuration()
    configure_logging(configuration.settings.log_level, configuration.settings.log_format)
    for doubt in doubtful(configuration.settings):
        _log.warning("doubtful setting", extra=fields(doubt=doubt))
    run(_serve(configuration))
    return 0


def check_config(_: argparse.Namespace) -> int:
    """Report every problem of the configuration, or what `serve` would use."""
    configuration = read_configuration()
    endpoint = configuration.endpoint
    sys.stderr.writelines(f"monitor-contact: warning: {doubt}\n" for doubt in doubtful(configuration.settings))
    lines = list(printable(configuration.settings))
    lines.append(f"Connect is {endpoint.url}, Region {endpoint.region}; AWS credentials are configured")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


async def _serve(configuration: Configuration) -> None:
    settings, endpoint, access = configuration.settings, configuration.endpoint, configuration.access
    stopped = stop_signal()
    health = Health([grpc_server.SERVICE])
    readiness = Readiness(health, ("credentials", "token_keys", "audit"))
    metrics, tracer = Metrics(), open_tracer(settings.traces)
    async with (
        open_http(endpoint, max_connections=settings.max_in_flight) as http,
        _tokens(settings, endpoint.region) as tokens,
        _audit_log(configuration, readiness) as audit_log,
        AsyncExitStack() as listeners,
    ):
        connect = Connect(
            endpoint=endpoint,
            credentials=configuration.credentials,
            barge_credentials=configuration.barge_credentials,
            http=http,
            upstream=Upstream(metrics, tracer),
        )
        verifier = TokenVerifier(access.issuers, keys=configuration.keys)
        outside = Outside(
            connect=connect,
            tokens=tokens,
            audit_log=audit_log,
            verifier=verifier,
            observer=metrics,
            tracer=tracer,
            caller_name=metrics.caller_name,
        )
        steps = assemble(settings, access, configuration.policies, outside)
        followed = _followed(configuration, steps, metrics)
        reloading = Reloading(
            settings,
            tokens=tokens,
            steps=steps,
            keys=configuration.keys,
            verifier=verifier,
            followed=[each.reload for each in followed],
            on_reload=metrics.reloaded,
            on_access=lambda new: metrics.know_callers(new.callers),
        )
        _watch(metrics, configuration, tokens, steps, health)
        metrics.watch_info("config_info", lambda: config_info(reloading.settings))
        reflection = Reflection(grpc_server.services()) if settings.serves_reflection else None
        handler = handler_of(settings, steps, outside)
        guard = CallGuard(metrics.calls, tracer, handler.refused)
        server = grpc_server.build(settings, handler=handler, health=health, reflection=reflection, guard=guard)
        if settings.metrics_address is not None:
            metrics_address = listeners.enter_context(served(metrics, settings.metrics_address))
            _log.info("metrics served", extra=fields(address=str(metrics_address)))
        await listeners.enter_async_context(_health_beside(settings, health))
        tls = configuration.tls
        address = grpc_server.listen(server, settings.address, tls.credentials if tls else None)
        await server.start()
        health.set_alive()
        _log.info(
            "listening",
            extra=fields(address=str(address), tls=tls is not None, connect=endpoint.url, region=endpoint.region),
        )
        _follow_quota(tokens, health)
        steps.audit.policy(new_request_id(), "policy.loaded", steps.authorization.policies.sha256)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading.hang_up)
        async with asyncio.TaskGroup() as background:
            tasks = [
                background.create_task(work)
                for work in (
                    configuration.credentials.keep_fresh(partial(readiness.report, "credentials")),
                    connect.keep_warm(),
                    measure_loop_lag(metrics.lagged),
                    _keep_keys(configuration.keys, readiness, metrics),
                    *(each.keep_fresh() for each in followed),
                )
            ]
            if configuration.barge_credentials is not None:
                tasks.append(background.create_task(configuration.barge_credentials.keep_fresh(_nobody_waits)))
            await stopped.wait()
            await _drain(settings, server, health, steps.admission, reflection)
            # stop() does not wait for work that outlives its callers (measured).
            await steps.idempotency.finish()
            steps.audit.flush()
            for task in tasks:
                task.cancel()
        await tracer.close()


@asynccontextmanager
async def _tokens(settings: Settings, region: str) -> AsyncIterator[LocalQuota | SharedQuota]:
    """Yield the quota: shared by all replicas if a Redis is configured, otherwise this replica's part of it."""
    if settings.redis is None:
        yield LocalQuota(settings.quota, replicas=settings.quota_replicas, clock=time.monotonic)
        return
    from .redis_script import RedisScript  # noqa: PLC0415 - the extra `redis` is installed where it is used

    async with SharedQuota(
        RedisScript(settings.redis),
        scope=quota_scope(settings.quota_name, region),
        quota=settings.quota,
        replicas=settings.quota_replicas,
        clock=time.monotonic,
    ) as shared:
        yield shared


@asynccontextmanager
async def _audit_log(configuration: Configuration, readiness: Readiness) -> AsyncIterator[AuditLog]:
    """Yield where calls are recorded, open; readiness follows whether it can record."""
    settings, checkpoints = configuration.settings, Checkpoints(key=configuration.audit_key)
    publisher = Publisher(-1 if sys.__stdout__ is None else sys.__stdout__.fileno())
    log: AuditLog
    if settings.audit_database is None:
        rotation = Rotation(settings.audit_rotate_bytes, settings.audit_rotate_seconds)
        log = FileLog(configuration.audit_file, rotation=rotation, checkpoints=checkpoints, publish=publisher.publish)
    else:
        from .audit_postgresql import PostgresqlLog  # noqa: PLC0415 - the extra `postgresql`, likewise

        log = PostgresqlLog(settings.audit_database, checkpoints=checkpoints, publish=publisher.publish)
    lost = asyncio.Event()
    log.on_failed = lost.set  # a database may be out of reach for now
    await log.open()
    log.on_failed = partial(readiness.report, "audit", met=False)
    log.on_recovered = partial(readiness.report, "audit", met=True)
    readiness.report("audit", met=not lost.is_set())
    try:
        yield log
    finally:
        await log.close()
        await asyncio.to_thread(publisher.close)


def _watch(
    metrics: Metrics, configuration: Configuration, tokens: LocalQuota | SharedQuota, steps: Steps, health: Health
) -> None:
    """Let each scrape read what is so at present."""
    metrics.know_callers(configuration.access.callers)
    metrics.watch(tokens, steps.admission)
    metrics.watch_value("draining", lambda: health.draining)
    metrics.watch_value("retry_budget", lambda: steps.attempts.retry_budget)
    metrics.watch_value("credentials_expiry_timestamp_seconds", lambda: configuration.credentials.expires_at)
    if (tls := configuration.tls) is not None:
        metrics.watch_value("tls_not_after_timestamp_seconds", lambda: tls.not_after, file="cert")
    metrics.watch_info("build_info", build_info)
    metrics.watch_info("policy_info", lambda: {"sha256": steps.authorization.policies.sha256})


def _follow_quota(tokens: LocalQuota | SharedQuota, health: Health) -> None:
    if isinstance(tokens, SharedQuota):
        tokens.on_shared_change = lambda: health.set_quota(tokens.shared)
    health.set_quota(tokens.shared)


def _followed(configuration: Configuration, steps: Steps, metrics: Metrics) -> Sequence[PolicyReload | ServerTls]:
    """Return what follows its files, with everybody told who has to know."""
    followed: list[PolicyReload | ServerTls] = []

    def on_policy(sha256: str, accepted: bool) -> None:  # noqa: FBT001 - the callback's only flag
        metrics.reloaded("policy", accepted)
        steps.audit.policy(new_request_id(), "policy.loaded" if accepted else "policy.rejected", sha256)

    if configuration.loaded is not None:
        use = partial(steps.authorization.change, None)
        policies = PolicyReload(configuration.settings.policy_file, configuration.loaded, use=use)
        policies.on_change = on_policy
        followed.append(policies)
    if configuration.tls is not None:
        configuration.tls.on_reload = partial(metrics.reloaded, "tls")
        followed.append(configuration.tls)
    return followed


async def _keep_keys(keys: KeySets, readiness: Readiness, metrics: Metrics) -> None:
    """Keep the keys of issuers fresh for ever, and tell whether all have been read."""

    def on_change() -> None:
        readiness.report("token_keys", keys.ready)
        metrics.reloaded("keys", not keys.failing)

    keys.on_change = on_change
    readiness.report("token_keys", keys.ready)
    await keys.keep_fresh()


@asynccontextmanager
async def _health_beside(settings: Settings, health: Health) -> AsyncIterator[None]:
    """Serve health a second time, in plain text for probes, if configured."""
    if settings.health_address is None:
        yield
        return
    server = grpc_server.build_health(health)
    address = grpc_server.listen(server, settings.health_address, field="health_listen")
    await server.start()
    _log.info("health served", extra=fields(address=str(address)))
    try:
        yield
    finally:
        await server.stop(None)


def _nobody_waits(_: bool) -> None:  # noqa: FBT001 - as told by `Credentials`
    """Calls with BARGE alone need these credentials: the replica is ready without."""


async def _drain(
    settings: Settings, server: grpc.aio.Server, health: Health, admission: Admission, reflection: Reflection | None
) -> None:
    """Let clients leave, then let the calls in flight finish. The order was measured: no call is lost."""
    _log.info("draining", extra=fields(seconds=settings.drain_seconds))
    health.drain()
    await asyncio.sleep(settings.drain_seconds)
    admission.close()
    # No await between ending the streams and stop(): an open stream makes stop() last its whole grace.
    health.end_watches()
    if reflection is not None:
        reflection.end_streams()
    await server.stop(settings.stop_grace_seconds)
    _log.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
