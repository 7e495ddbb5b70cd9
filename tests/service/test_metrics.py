"""`metrics` and what it is made of: what Prometheus reads of a replica, from the first scrape on, over real HTTP."""

import asyncio
import re
import socket
import struct
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import grpc.aio
import pytest
from audit_fakes import MemoryLog
from fakes import FakeClock, FakeTransport, ReadableTokens
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from harness import CONTACT_ID, INSTANCE_ID, USER_ID, Service, connect_to, serving
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact_service import build
from monitor_contact_service.address import Address
from monitor_contact_service.build import build_info, config_info
from monitor_contact_service.call_metrics import GO_CODES
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.outage import Outage
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.core.reads import Api
from monitor_contact_service.exits import EXIT_FAILED, CannotStartError
from monitor_contact_service.loop_lag import INTERVAL_SECONDS, measure_loop_lag
from monitor_contact_service.metric_definitions import READINGS
from monitor_contact_service.metrics import Metrics, served
from monitor_contact_service.outcomes import CLASSES, UPSTREAM_OUTCOMES
from monitor_contact_service.quota import LocalQuota
from monitor_contact_service.settings import Settings
from monitor_contact_service.simulator import UNLIMITED, Fault, Simulator
from monitor_contact_service.telemetry import exemplar_var
from monitor_contact_service.upstream import Upstream
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

if TYPE_CHECKING:
    from monitor_contact_service.simulator.journal import ReceivedCall

LOOPBACK: Final = Address("127.0.0.1", 0)
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
REQUEST: Final = MonitorContactRequest(instance_id=INSTANCE_ID, contact_id=CONTACT_ID, user_id=USER_ID)
DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "observability.md"
SERVICE: Final = "monitor_contact.v1.MonitorContactService"
HEALTH: Final = "grpc.health.v1.Health"
# A token at the start, the next one after 50 s.
SLOW: Final = Quota(rate=0.02, burst=1)
RESULTS: Final = ("admitted", "shed", "deadline_too_short", "abandoned")
GENEROUS_SECONDS: Final = 30.0  # a test that would hang for ever ends

# The exposition sorts labels by name; pages here have them as they were defined.
LABELS: Final = (
    *("grpc_type", "grpc_service", "grpc_method", "grpc_code", "reason", "class", "caller", "what", "result"),
    *("operation", "outcome", "cause", "stage", "file", "version", "commit", "sha256", "le"),
)
# The name of a sample without our prefix, and the values of its labels -> its value.
Page = Mapping[str, float]
Scrape = Callable[[], Awaitable[Page]]


async def _text(address: Address, accept: str = "text/plain") -> str:
    async with aiohttp.request("GET", f"http://{address}/metrics", headers={"accept": accept}) as response:
        assert response.status == 200
        return await response.text()


async def _page(address: Address) -> Page:
    samples = (sample for family in text_string_to_metric_families(await _text(address)) for sample in family.samples)
    return {
        " ".join([sample.name.removeprefix("monitor_contact_"), *_values(sample.labels)]): sample.value
        for sample in samples
    }


def _values(labels: Mapping[str, str]) -> Iterator[str]:
    return (labels[label] for label in sorted(labels, key=LABELS.index))


@asynccontextmanager
async def _measured(
    tokens: LocalQuota | ReadableTokens,
    *script: Failure,
    outage: Outage | None = None,
    caller_of: Callable[[Any], str] | None = None,
    metrics: Metrics | None = None,
    audit_log: MemoryLog | None = None,
) -> AsyncIterator[tuple[Service, Scrape]]:
    """Yield the service, before a Connect that fails as the script says, and a function that scrapes its metrics."""
    metrics, transport = metrics or Metrics(), FakeTransport(FakeClock(), script)
    async with serving(
        transport,
        tokens=tokens,
        outage=outage,
        metrics=metrics,
        sleep=_no_wait,
        caller_of=caller_of,
        audit_log=audit_log,
    ) as service:
        metrics.watch(tokens, service.admission)
        with served(metrics, LOOPBACK) as address:
            yield service, lambda: _page(address)


async def _no_wait(_: float) -> None:
    """Let no time pass between attempts."""


async def _code(service: Service, timeout_seconds: float = 60.0, caller: str = "") -> grpc.StatusCode:
    metadata = (("x-caller", caller),) if caller else ()
    call = service.stub.MonitorContact(REQUEST, timeout=timeout_seconds, metadata=metadata)
    return await call.code()


async def _once(scrape: Scrape, name: str, value: float) -> Page:
    """Scrape until a sample has this value, and return that page."""
    async with asyncio.timeout(GENEROUS_SECONDS):
        while (page := await scrape())[name] != value:
            pass
    return page


def _watched(metrics: Metrics) -> Metrics:
    """Let a scrape read all that `__main__` has it read, without a service."""
    metrics.watch_value("draining", lambda: False)
    metrics.watch_value("retry_budget", lambda: 20.0)
    metrics.watch_value("credentials_expiry_timestamp_seconds", lambda: 1.8e9)
    metrics.watch_value("tls_not_after_timestamp_seconds", lambda: 1.9e9, file="cert")
    metrics.watch_info("build_info", build_info)
    metrics.watch_info("config_info", lambda: config_info(Settings()))
    metrics.watch_info("policy_info", lambda: {"sha256": "ab" * 32})
    return metrics


# ---- What is there ---------------------------------------------------------------------------------------------------


def _histogram(name: str, bounds: str, *labels: str) -> Iterator[str]:
    yield from (" ".join([f"{name}_bucket", *labels, bound]) for bound in (*bounds.split(), "+Inf"))
    yield from (" ".join([name + suffix, *labels]) for suffix in ("_count", "_sum"))


_SHORT: Final = "0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0"
_HANDLING: Final = "0.005 0.01 0.025 0.05 0.075 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 30.0 60.0"
_OPERATIONS: Final = ("MonitorContact", *Api)
_METHODS: Final = (
    f"unary {SERVICE} MonitorContact",
    *(
        f"{kind} {HEALTH} {method}"
        for kind, method in (("unary", "Check"), ("unary", "List"), ("server_stream", "Watch"))
    ),
)


def _counted_from_the_start() -> Iterator[str]:
    for method in (*_METHODS, "other other other"):
        yield f"grpc_server_started_total {method}"
    for method in _METHODS:
        yield from (f"grpc_server_handled_total {method} {code}" for code in GO_CODES.values())
        yield from _histogram("grpc_server_handling_seconds", _HANDLING, *method.split())
    yield "grpc_server_handled_total other other other Unimplemented"
    yield from (f"outcomes_total {reason} {outcome_class}" for reason, outcome_class in CLASSES.items())
    for caller in ("spiffe://corp.example/desk", "other"):
        yield from (f"admissions_total {caller} {result}" for result in RESULTS)
    yield from _histogram("admission_wait_seconds", "0.01 0.05 0.1 0.25 0.5 1.0 1.5 2.0 3.0 5.0 10.0 20.0 30.0 60.0")
    for operation in _OPERATIONS:
        yield from (f"upstream_calls_total {operation} {outcome}" for outcome in UPSTREAM_OUTCOMES)
        bounds = "0.025 0.05 0.1 0.15 0.2 0.3 0.5 0.75 1.0 1.5 2.0 3.0 5.0"
        yield from _histogram("upstream_seconds", bounds, operation)
    yield "upstream_throttles_total"
    causes = ("INTERNAL_SERVICE", "CONNECT_UNREACHABLE", "THROTTLED", "SERVICE_CREDENTIALS", "IDEMPOTENCY_CONFLICT")
    yield from (f"retries_total {cause}" for cause in causes)
    for what in ("tls", "policy", "access", "quota", "keys"):
        yield from (f"reloads_total {what} {result}" for result in ("success", "failure"))
    for stage in ("intent", "outcome", "denied", "repeated", "policy"):
        yield from _histogram("audit_append_seconds", _SHORT, stage)
    yield from _histogram("event_loop_lag_seconds", _SHORT)


async def test_every_series_is_there_from_the_start() -> None:
    """rate() misses the first event of a series that appears with it; so all begin at 0, and nothing else is shown."""
    tokens, metrics = (
        LocalQuota(Quota(rate=6.0, burst=9), replicas=3, clock=FakeClock()),
        Metrics(wall_clock=FakeClock()),
    )
    metrics.know_callers(["spiffe://corp.example/desk"])
    async with _measured(tokens, metrics=metrics) as (_, scrape):
        page = await scrape()
    read = {
        "quota_limit": 6.0,
        "quota_rate": pytest.approx(0.995 * 6.0 / 3),
        "quota_tokens": pytest.approx(1.0),
        "quota_shared": 1.0,
        "admission_queue_length": 0.0,
        "in_flight": 0.0,
        "outage": 0.0,
        **{f"reload_success_timestamp_seconds {what}": 1000.0 for what in ("tls", "policy", "access", "quota", "keys")},
    }
    assert page == dict.fromkeys(_counted_from_the_start(), 0.0) | read


async def test_the_documented_metrics_are_those_that_are_served() -> None:
    """Name, labels and type of each metric on the page stand in docs/observability.md, and no other."""
    metrics, tokens = _watched(Metrics()), ReadableTokens()
    async with _measured(tokens, metrics=metrics):
        with served(metrics, LOOPBACK) as address:
            text = await _text(address)
    shown = set()
    for family in text_string_to_metric_families(text):
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        name = family.name + ("_total" if family.type == "counter" else "")
        shown.add((name, ", ".join(labels), family.type))
    rows = re.findall(r"(?m)^\| `(\w+)`(?:\{([\w, ]+)\})? \| (counter|gauge|histogram) \|", DOCUMENT.read_text("utf-8"))
    assert sorted((name, ", ".join(sorted(labels.split(", "))), kind) for name, labels, kind in rows) == sorted(shown)
    assert {name.removeprefix("monitor_contact_") for name, _, kind in shown if kind == "gauge"} == READINGS.keys()


async def test_openmetrics_is_served_to_who_asks_for_it() -> None:
    """Prometheus asks for that format first; its exposition has an end that tells a whole page from a torn one."""
    with served(Metrics(), LOOPBACK) as address:
        assert (await _text(address, accept=OPENMETRICS)).endswith("# EOF\n")


async def test_promtool_finds_nothing_to_criticise(require_tool: Callable[[str, str], str]) -> None:
    """Names, help texts and types are as Prometheus' own linter wants them."""
    promtool = require_tool("promtool", "the form of the metrics")
    metrics = _watched(Metrics())
    with served(metrics, LOOPBACK) as address:
        page = await _text(address)
    linter = await asyncio.create_subprocess_exec(promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    said, _ = await linter.communicate(page.encode())
    assert (linter.returncode, said) == (0, b"")


def test_codes_are_written_as_go_writes_them() -> None:
    """The usual alerts match on `Unavailable` and `Internal`; Go has Canceled with one l."""
    names = (
        "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied "
        "ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss "
        "Unauthenticated"
    )
    in_order = sorted(grpc.StatusCode, key=lambda code: code.value[0])
    assert [GO_CODES[code] for code in in_order] == names.split()


# ---- Calls -----------------------------------------------------------------------------------------------------------


async def test_calls_are_counted_to_the_call() -> None:
    """Known calls with known ends: gRPC's counters, the histogram and the outcomes agree with the caller."""
    script = (Failure(Reason.RESOURCE_NOT_FOUND), Failure(Reason.CONNECT_BAD_RESPONSE))
    async with _measured(ReadableTokens(), *script) as (service, scrape):
        codes = [await _code(service) for _ in range(5)]
        bad = service.stub.MonitorContact(MonitorContactRequest(), timeout=GENEROUS_SECONDS)
        codes.append(await bad.code())
        page = await scrape()
    method = f"unary {SERVICE} MonitorContact"
    handled = {
        name.rpartition(" ")[2]: value
        for name, value in page.items()
        if name.startswith(f"grpc_server_handled_total {method}") and value
    }
    assert handled == {GO_CODES[code]: codes.count(code) for code in set(codes)}
    assert handled == {"OK": 3, "NotFound": 1, "Internal": 1, "InvalidArgument": 1}
    assert page[f"grpc_server_started_total {method}"] == 6
    assert page[f"grpc_server_handling_seconds_count {method}"] == 6
    assert {name: value for name, value in page.items() if name.startswith("outcomes_total") and value} == {
        "outcomes_total OK good": 3,
        "outcomes_total RESOURCE_NOT_FOUND caller": 1,
        "outcomes_total CONNECT_BAD_RESPONSE bad": 1,
        "outcomes_total VALIDATION_FAILED caller": 1,
    }


async def test_health_and_unknown_methods_are_counted_apart_from_outcomes() -> None:
    """An unknown method is `other`, whatever it is called: its name is the caller's text."""
    async with _measured(ReadableTokens()) as (service, scrape):
        await HealthStub(service.channel).Check(HealthCheckRequest())  # type: ignore[no-untyped-call]  # generated
        for method in ("/no.Such/Method", f"/{SERVICE}/Nothing"):
            unknown: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = service.channel.unary_unary(method)
            with pytest.raises(grpc.aio.AioRpcError):
                await unknown(b"")
        page = await scrape()
    assert page[f"grpc_server_handled_total unary {HEALTH} Check OK"] == 1
    assert page["grpc_server_started_total other other other"] == 2
    assert page["grpc_server_handled_total other other other Unimplemented"] == 2
    assert not any(value for name, value in page.items() if name.startswith("outcomes_total"))
    assert not any("Nothing" in name or "no.Such" in name for name in page)


async def test_a_caller_that_leaves_counts_as_left() -> None:
    """Neither good nor bad: its call is Canceled, whatever it had waited for."""
    async with _measured(LocalQuota(SLOW, clock=asyncio.get_running_loop().time)) as (service, scrape):
        assert await _code(service) is grpc.StatusCode.OK
        call = service.stub.MonitorContact(REQUEST, timeout=60)
        await _once(scrape, "admission_queue_length", 1)
        call.cancel()
        page = await _once(scrape, "outcomes_total CALLER_LEFT left", 1)
    assert page[f"grpc_server_handled_total unary {SERVICE} MonitorContact Canceled"] == 1


async def test_an_example_of_a_trace_stands_in_openmetrics_only() -> None:
    """It leads from a slow bucket to a call. The old text format has no place for it."""
    metrics, trace_id = Metrics(), "0af7651916cd43dd8448eb211c80319c"
    token = exemplar_var.set({"trace_id": trace_id})
    metrics.calls.method(f"/{SERVICE}/MonitorContact", "unary").handled(grpc.StatusCode.OK, "OK", 0.2)
    exemplar_var.reset(token)
    metrics.calls.method(f"/{SERVICE}/MonitorContact", "unary").handled(grpc.StatusCode.OK, "OK", 3.0)
    with served(metrics, LOOPBACK) as address:
        pages = [await _text(address), await _text(address, accept=OPENMETRICS)]
    assert trace_id not in pages[0]
    [line] = [line for line in pages[1].splitlines() if trace_id in line]
    assert 'le="0.25"' in line
    assert f'# {{trace_id="{trace_id}"}} 0.2' in line


# ---- Callers and the quota -------------------------------------------------------------------------------------------


async def test_a_herd_is_counted_to_the_call() -> None:
    """One token now, the next in 50 s: of ten calls one goes, one waits, eight are refused; then the one goes too."""
    tokens = LocalQuota(SLOW, clock=asyncio.get_running_loop().time)
    async with _measured(tokens) as (service, scrape):
        assert await _code(service) is grpc.StatusCode.OK
        waiting = asyncio.ensure_future(_code(service))
        refused = await asyncio.gather(*(_code(service, 10) for _ in range(8)))
        assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        during = await _once(scrape, "admission_queue_length", 1)
        tokens.change(Quota(rate=50.0, burst=50), 1)
        assert await waiting is grpc.StatusCode.OK
        after = await _once(scrape, "in_flight", 0)
    assert (during["in_flight"], during["quota_limit"]) == (1, 0.02)
    assert during["quota_tokens"] < 1
    assert (during["admissions_total other admitted"], during["admissions_total other shed"]) == (1, 8)
    assert during["outcomes_total OVERLOADED shed"] == 8
    assert (after["admission_queue_length"], after["quota_limit"]) == (0, 50)
    assert (after["admissions_total other admitted"], after["admissions_total other shed"]) == (2, 8)
    assert after["admission_wait_seconds_count"] == after["admission_wait_seconds_bucket +Inf"] == 2


def _claimed(context: Any) -> str:
    return str(dict(context.invocation_metadata() or ())["x-caller"])


async def test_only_configured_callers_have_a_name() -> None:
    """Whoever can make up identities could otherwise fill Prometheus. A reload adds names, and takes none away."""
    metrics = Metrics()
    metrics.know_callers(["desk"])
    async with _measured(ReadableTokens(), caller_of=_claimed, metrics=metrics) as (service, scrape):
        for caller in ("desk", "desk", "stranger-1", "stranger-2"):
            await _code(service, caller=caller)
        metrics.know_callers(["night"])
        for caller in ("desk", "night"):
            await _code(service, caller=caller)
        page = await scrape()
    assert {name: value for name, value in page.items() if name.startswith("admissions_total") and value} == {
        "admissions_total desk admitted": 3,
        "admissions_total night admitted": 1,
        "admissions_total other admitted": 2,
    }


async def test_a_caller_that_leaves_while_it_waits_is_counted_as_such() -> None:
    """Not as refused: nobody said no to it."""
    async with _measured(LocalQuota(SLOW, clock=asyncio.get_running_loop().time)) as (service, scrape):
        assert await _code(service) is grpc.StatusCode.OK
        call = service.stub.MonitorContact(REQUEST, timeout=60)
        await _once(scrape, "admission_queue_length", 1)
        call.cancel()
        page = await _once(scrape, "in_flight", 0)
    assert (page["admissions_total other abandoned"], page["admissions_total other shed"]) == (1, 0)


async def test_a_lost_shared_quota_shows_until_it_is_back() -> None:
    """1, then 0 with the pace of the safe share beside the whole quota as configured, then 1 again."""
    tokens, seen = ReadableTokens(), []
    async with _measured(tokens) as (_, scrape):
        for shared in (True, False, True):
            tokens.shared = shared
            page = await scrape()
            seen.append((page["quota_shared"], page["quota_limit"], page["quota_rate"]))
    assert seen == [(1, 2, 2), (0, 2, pytest.approx(2 / 3)), (1, 2, 2)]


# ---- Connect, audit, reloads -----------------------------------------------------------------------------------------


async def test_429s_are_counted_and_are_no_outage() -> None:
    """A call that succeeds at its second attempt is one admission, one 429, one retry."""
    async with _measured(ReadableTokens(), Failure(Reason.THROTTLED), outage=Outage(failures_to_open=1)) as (
        service,
        scrape,
    ):
        assert await _code(service) is grpc.StatusCode.OK
        page = await scrape()
    assert (page["upstream_throttles_total"], page["admissions_total other admitted"], page["outage"]) == (1, 1, 0)
    assert (page["retries_total THROTTLED"], page["outcomes_total OK good"]) == (1, 1)


async def test_an_outage_shows_while_only_probes_are_sent() -> None:
    """Calls that cannot outlast the next probe count as shed; with the first success the outage is over."""
    outage = Outage(failures_to_open=1)
    async with _measured(ReadableTokens(), Failure(Reason.INTERNAL_SERVICE), outage=outage) as (service, scrape):
        assert await _code(service, 0.3) is grpc.StatusCode.UNAVAILABLE
        assert await _code(service, 0.3) is grpc.StatusCode.UNAVAILABLE
        during = await scrape()
        outage.succeeded()
        after = await scrape()
    admitted, shed = during["admissions_total other admitted"], during["admissions_total other shed"]
    assert (during["outage"], admitted, shed) == (1, 1, 1)
    assert after["outage"] == 0


def _by_outcome(calls: "list[ReceivedCall]") -> dict[str, int]:
    outcomes = [f"{call.api} {call.error or 'ok'}" for call in calls]
    return {outcome: outcomes.count(outcome) for outcome in outcomes}


async def test_requests_to_connect_are_counted_as_connect_counts_them() -> None:
    """Actions and reads, by operation and by Connect's own error, equal to the simulator's journal."""
    metrics = Metrics()
    async with Simulator() as simulator:
        for api in _OPERATIONS:
            simulator.set_quota(api, UNLIMITED)
        async with (
            connect_to(simulator.url, upstream=Upstream(metrics)) as connect,
            serving(connect, metrics=metrics, sleep=_no_wait, reads=True) as service,
        ):
            simulator.inject(
                Fault("error", error="ThrottlingException", times=2),
                Fault("error", error="ThrottlingException", api="DescribeUser", times=1),
            )
            assert await _code(service) is grpc.StatusCode.OK
            simulator.inject(Fault("error", error="InternalServiceException", times=1))
            assert await _code(service) is grpc.StatusCode.RESOURCE_EXHAUSTED  # already monitoring
        journal = _by_outcome(simulator.calls())
    with served(metrics, LOOPBACK) as address:
        page = await _page(address)
    counted = {
        name.removeprefix("upstream_calls_total "): value
        for name, value in page.items()
        if name.startswith("upstream_calls_total ") and value
    }
    assert counted == journal
    assert counted["MonitorContact ThrottlingException"] == 2
    assert counted["DescribeUser ThrottlingException"] == 1
    assert counted["MonitorContact ServiceQuotaExceededException"] == 1
    assert page["upstream_throttles_total"] == 2
    assert page["upstream_seconds_count MonitorContact"] == sum(
        value for name, value in journal.items() if name.startswith("MonitorContact ")
    )


@pytest.mark.parametrize(
    ("error", "counted"), [(asyncio.CancelledError(), {"DescribeUser cancelled": 1.0}), (ValueError("a bug"), {})]
)
async def test_a_request_that_ends_without_an_answer(error: BaseException, counted: Mapping[str, float]) -> None:
    """One that is cancelled has been sent; a bug of ours before sending is no request. Neither error is swallowed."""
    metrics = Metrics()
    with pytest.raises(type(error)), Upstream(metrics).request(Api.DESCRIBE_USER, {}):
        raise error
    with served(metrics, LOOPBACK) as address:
        page = await _page(address)
    assert {
        name.removeprefix("upstream_calls_total "): value
        for name, value in page.items()
        if name.startswith("upstream_calls_total ") and value
    } == counted


async def test_records_of_the_audit_are_timed_by_stage() -> None:
    """Only those that became durable: how long it took to lose one says nothing."""
    log = MemoryLog()
    async with _measured(ReadableTokens(), audit_log=log) as (service, scrape):
        assert await _code(service) is grpc.StatusCode.OK
        before = await scrape()
        log.hold = True
        lost = asyncio.ensure_future(_code(service))
        async with asyncio.timeout(GENEROUS_SECONDS):
            while True:
                await asyncio.sleep(0)
                if len(log.records) > 2:
                    break
        log.settle("the disk is gone")
        assert await lost is grpc.StatusCode.UNAVAILABLE
        after = await scrape()
    stages = {stage: before[f"audit_append_seconds_count {stage}"] for stage in ("intent", "outcome", "denied")}
    assert stages == {"intent": 1, "outcome": 1, "denied": 0}
    assert {stage: after[f"audit_append_seconds_count {stage}"] for stage in stages} == stages
    assert after["outcomes_total AUDIT_UNAVAILABLE bad"] == 1


async def test_a_reload_is_counted_and_a_good_one_dated() -> None:
    """The alert fires while the last one failed; the start counts as the first that succeeded."""
    clock = FakeClock()
    metrics = Metrics(wall_clock=clock)
    clock.advance(60)
    metrics.reloaded("policy", ok=True)
    clock.advance(60)
    metrics.reloaded("policy", ok=False)
    with served(metrics, LOOPBACK) as address:
        page = await _page(address)
    assert (page["reloads_total policy success"], page["reloads_total policy failure"]) == (1, 1)
    assert page["reload_success_timestamp_seconds policy"] == 1060
    assert page["reload_success_timestamp_seconds tls"] == 1000


async def test_what_is_not_there_is_not_shown() -> None:
    """Credentials that never end have no end: 0 would page somebody. Changed labels leave no old series behind."""
    metrics, expires_at, policy = Metrics(), [1.8e9, None], ["a", "b"]
    metrics.watch_value("credentials_expiry_timestamp_seconds", lambda: expires_at[0])
    metrics.watch_info("policy_info", lambda: {"sha256": policy[0]})
    with served(metrics, LOOPBACK) as address:
        before = await _page(address)
        del expires_at[0], policy[0]
        after = await _page(address)
    assert before["credentials_expiry_timestamp_seconds"] == 1.8e9
    assert "policy_info a" in before
    assert "credentials_expiry_timestamp_seconds" not in after
    assert "policy_info a" not in after
    assert after["policy_info b"] == 1


def test_only_defined_gauges_can_be_watched() -> None:
    """A misspelt name fails at the start of the service, not as a hole in a dashboard."""
    with pytest.raises(KeyError):
        Metrics().watch_value("in_fligth", lambda: 0.0)


# ---- Build, settings, event loop -------------------------------------------------------------------------------------


def test_the_commit_is_what_the_image_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A checkout says "unknown": it may be anything."""
    assert build_info()["commit"] == "unknown"
    (tmp_path / "commit.txt").write_text("0123abc\n", "utf-8")
    monkeypatch.setattr(build, "files", lambda _: tmp_path)
    assert build_info() == {"version": "0.1.0", "commit": "0123abc"}


def test_the_hash_of_the_settings_tells_every_difference_but_secrets() -> None:
    """Two replicas with different settings differ; a changed password is nobody's to see."""
    default = config_info(Settings())
    assert config_info(Settings(quota_rate=3)) != default
    urls = [SecretStr(f"postgresql://user:{password}@host/db") for password in ("one", "two")]
    with_password = [Settings(audit=url) for url in urls]
    assert config_info(with_password[0]) == config_info(with_password[1])
    assert re.fullmatch(r"[0-9a-f]{64}", default["sha256"])


async def test_a_late_event_loop_shows() -> None:
    """Told each time; a timer that fires early is no negative lag."""
    clock, lates, seen = FakeClock(), iter([0.0, 0.25, -0.001]), list[float]()

    async def sleep(seconds: float) -> None:
        late = next(lates, None)
        if late is None:
            raise asyncio.CancelledError
        clock.advance(seconds + late)

    with pytest.raises(asyncio.CancelledError):
        await measure_loop_lag(seen.append, clock=clock, sleep=sleep)
    assert seen == pytest.approx([0.0, 0.25, 0.0])
    assert clock() == pytest.approx(1000 + 3 * INTERVAL_SECONDS + 0.249)
    metrics = Metrics()
    for lag in seen:
        metrics.lagged(lag)
    with served(metrics, LOOPBACK) as address:
        page = await _page(address)
    assert (page["event_loop_lag_seconds_bucket 0.0001"], page["event_loop_lag_seconds_bucket +Inf"]) == (2, 3)


# ---- Where it is served ----------------------------------------------------------------------------------------------


async def test_nothing_listens_any_more_afterwards() -> None:
    """Neither a socket nor a thread is left behind."""
    with served(Metrics(), LOOPBACK) as address:
        assert await _text(address)
    with pytest.raises(aiohttp.ClientConnectionError):
        await _text(address)


async def test_a_flood_of_connections_holds_eight_threads_and_no_more() -> None:
    """Further ones are closed at once; as soon as one of the eight has gone, the next is served."""
    with served(Metrics(), LOOPBACK) as address:
        silent = [await asyncio.open_connection(*address) for _ in range(8)]
        async with asyncio.timeout(GENEROUS_SECONDS):
            reader, writer = await asyncio.open_connection(*address)
            assert await reader.read() == b""
            writer.close()
            for _, each in silent:
                each.close()
            while True:
                try:
                    assert await _text(address)
                except aiohttp.ClientConnectionError:
                    continue  # the threads have not yet seen that their clients are gone
                break


async def test_a_silent_client_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word, or in the middle of one."""
    monkeypatch.setattr("monitor_contact_service.metrics_server._Quiet.timeout", 0.05)
    with served(Metrics(), LOOPBACK) as address:
        for said in (b"", b"GET /metrics HTTP/1.1\r\nHost: x"):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(said)
            async with asyncio.timeout(GENEROUS_SECONDS):
                assert await reader.read() == b""
            writer.close()


async def test_what_clients_do_is_written_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither their requests, nor nonsense, nor that they leave: standard error is the log's, one line an event."""
    with served(Metrics(), LOOPBACK) as address:
        assert await _text(address)
        for said in (b"\x16\x03\x01 nonsense\r\n\r\n", b"GET /metrics HTTP/1.1\r\n", b""):
            with socket.create_connection(address, timeout=GENEROUS_SECONDS) as client:
                client.sendall(said)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes with a reset
        assert await _text(address)
    assert capfd.readouterr() == ("", "")


async def test_an_ipv6_address_is_listened_on() -> None:
    """The brackets belong to the setting, not to the host."""
    try:
        with served(Metrics(), Address("::1", 0)) as address:
            assert str(address) == f"[::1]:{address.port}"
            assert await _text(address)
    except CannotStartError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no-such-host.invalid", "a..b"])
def test_where_it_cannot_listen_the_setting_is_named(host: str) -> None:
    """A taken port, an address of another machine, a name that nobody has or can have: exit code 1 and what to set."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = Address(host, other.getsockname()[1])
        with pytest.raises(CannotStartError) as raised, served(Metrics(), address):
            raise AssertionError("it listens")
    assert raised.value.exit_code == EXIT_FAILED
    [problem] = raised.value.problems
    assert problem.startswith(f"cannot listen on {address}: ")
    assert "MONITOR_CONTACT_METRICS_LISTEN" in problem
