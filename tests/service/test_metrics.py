"""`metrics`: what Prometheus reads of a replica, from the first scrape on, over real HTTP."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from fakes import FakeClock, FakeTransport, ReadableTokens
from harness import CONTACT_ID, INSTANCE_ID, USER_ID, Service, serving
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact_service.address import Address
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.outage import Outage
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.exits import EXIT_FAILED, CannotStartError
from monitor_contact_service.metrics import Metrics, served
from monitor_contact_service.quota import LocalQuota
from prometheus_client.parser import text_string_to_metric_families

LOOPBACK = Address("127.0.0.1", 0)
REQUEST = MonitorContactRequest(instance_id=INSTANCE_ID, contact_id=CONTACT_ID, user_id=USER_ID)
BUCKETS = ("0.01", "0.05", "0.1", "0.25", "0.5", "1.0", "1.5", "2.0", "3.0", "5.0", "10.0", "20.0", "30.0", "60.0")
OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
# A token at the start, the next one after 50 s.
SLOW = Quota(rate=0.02, burst=1)

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
        " ".join([sample.name.removeprefix("monitor_contact_"), *sample.labels.values()]): sample.value
        for sample in samples
    }


@asynccontextmanager
async def _measured(
    tokens: LocalQuota | ReadableTokens, *script: Failure, outage: Outage | None = None
) -> AsyncIterator[tuple[Service, Scrape]]:
    """Yield the service, before a Connect that fails as the script says, and a function that scrapes its metrics."""
    metrics, transport = Metrics(), FakeTransport(FakeClock(), script)
    async with serving(transport, tokens=tokens, outage=outage, observer=metrics, sleep=_no_wait) as service:
        metrics.watch(tokens, service.admission)
        with served(metrics, LOOPBACK) as address:
            yield service, lambda: _page(address)


async def _no_wait(_: float) -> None:
    """Let no time pass between attempts."""


async def _code(service: Service, timeout_seconds: float = 60.0) -> grpc.StatusCode:
    call = service.stub.MonitorContact(REQUEST, timeout=timeout_seconds)
    return await call.code()


async def _once(scrape: Scrape, name: str, value: float) -> Page:
    """Scrape until a sample has this value, and return that page."""
    async with asyncio.timeout(30):
        while (page := await scrape())[name] != value:
            pass
    return page


# ---- What is there ---------------------------------------------------------------------------------------------------


async def test_every_series_is_there_from_the_start() -> None:
    """rate() misses the first event of a series that appears with it; so all begin at 0, and nothing else is shown."""
    tokens = LocalQuota(Quota(rate=6.0, burst=9), replicas=3, clock=FakeClock())
    async with _measured(tokens) as (_, scrape):
        page = await scrape()
    counters = [f"admissions_total {result}" for result in ("admitted", "shed", "deadline_too_short", "abandoned")]
    buckets = [f"admission_wait_seconds_bucket {bound}" for bound in (*BUCKETS, "+Inf")]
    others = ["admission_wait_seconds_count", "admission_wait_seconds_sum", "upstream_throttles_total"]
    assert page == {
        **dict.fromkeys([*counters, *buckets, *others], 0.0),
        "quota_limit": 6.0,
        "quota_rate": pytest.approx(0.995 * 6.0 / 3),
        "quota_tokens": pytest.approx(1.0),
        "quota_shared": 1.0,
        "admission_queue_length": 0.0,
        "in_flight": 0.0,
        "outage": 0.0,
    }


async def test_the_documented_metrics_are_those_that_are_served() -> None:
    """Name and type of each metric on the page stand in docs/operations.md, and no other."""
    metrics, tokens = Metrics(), ReadableTokens()
    async with serving(FakeTransport(FakeClock()), tokens=tokens, observer=metrics) as service:
        metrics.watch(tokens, service.admission)
        with served(metrics, LOOPBACK) as address:
            shown = re.findall(r"(?m)^# TYPE (\w+) (\w+)$", await _text(address))
    assert sorted(re.findall(r"(?m)^\| `(\w+)`\S* \| (\w+) \|", OPERATIONS.read_text("utf-8"))) == sorted(shown)


async def test_openmetrics_is_served_to_who_asks_for_it() -> None:
    """Prometheus asks for that format first; its exposition has an end that tells a whole page from a torn one."""
    with served(Metrics(), LOOPBACK) as address:
        assert (await _text(address, accept="application/openmetrics-text; version=1.0.0")).endswith("# EOF\n")


# ---- What moves ------------------------------------------------------------------------------------------------------


async def test_a_herd_is_counted_to_the_call() -> None:
    """One token now, the next in 50 s: of ten calls one goes, one waits, eight are refused; then the one goes too."""
    tokens = LocalQuota(SLOW, clock=time.monotonic)
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
    assert (during["admissions_total admitted"], during["admissions_total shed"]) == (1, 8)
    assert (after["admission_queue_length"], after["quota_limit"]) == (0, 50)
    assert (after["admissions_total admitted"], after["admissions_total shed"]) == (2, 8)
    assert after["admission_wait_seconds_count"] == after["admission_wait_seconds_bucket +Inf"] == 2


async def test_a_caller_that_leaves_while_it_waits_is_counted_as_such() -> None:
    """Not as refused: nobody said no to it."""
    async with _measured(LocalQuota(SLOW, clock=time.monotonic)) as (service, scrape):
        assert await _code(service) is grpc.StatusCode.OK
        call = service.stub.MonitorContact(REQUEST, timeout=60)
        await _once(scrape, "admission_queue_length", 1)
        call.cancel()
        page = await _once(scrape, "in_flight", 0)
    assert (page["admissions_total abandoned"], page["admissions_total shed"]) == (1, 0)


async def test_a_lost_shared_quota_shows_until_it_is_back() -> None:
    """1, then 0 with the pace of the safe share beside the whole quota as configured, then 1 again."""
    tokens, seen = ReadableTokens(), []
    async with _measured(tokens) as (_, scrape):
        for shared in (True, False, True):
            tokens.shared = shared
            page = await scrape()
            seen.append((page["quota_shared"], page["quota_limit"], page["quota_rate"]))
    assert seen == [(1, 2, 2), (0, 2, pytest.approx(2 / 3)), (1, 2, 2)]


async def test_429s_are_counted_and_are_no_outage() -> None:
    """A call that succeeds at its second attempt is one admission, one 429."""
    async with _measured(ReadableTokens(), Failure(Reason.THROTTLED), outage=Outage(failures_to_open=1)) as (
        service,
        scrape,
    ):
        assert await _code(service) is grpc.StatusCode.OK
        page = await scrape()
    assert (page["upstream_throttles_total"], page["admissions_total admitted"], page["outage"]) == (1, 1, 0)


async def test_an_outage_shows_while_only_probes_are_sent() -> None:
    """Calls that cannot outlast the next probe count as shed; with the first success the outage is over."""
    outage = Outage(failures_to_open=1)
    async with _measured(ReadableTokens(), Failure(Reason.INTERNAL_SERVICE), outage=outage) as (service, scrape):
        assert await _code(service, 0.3) is grpc.StatusCode.UNAVAILABLE
        assert await _code(service, 0.3) is grpc.StatusCode.UNAVAILABLE
        during = await scrape()
        outage.succeeded()
        after = await scrape()
    assert (during["outage"], during["admissions_total admitted"], during["admissions_total shed"]) == (1, 1, 1)
    assert after["outage"] == 0


# ---- Where it is served ----------------------------------------------------------------------------------------------


async def test_nothing_listens_any_more_afterwards() -> None:
    """Neither a socket nor a thread is left behind."""
    with served(Metrics(), LOOPBACK) as address:
        assert await _text(address)
    with pytest.raises(aiohttp.ClientConnectionError):
        await _text(address)


def test_an_ipv6_address_is_listened_on() -> None:
    """The brackets belong to the setting, not to the host."""
    if not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    with served(Metrics(), Address("::1", 0)) as address, socket.create_connection(address, timeout=10):
        assert str(address) == f"[::1]:{address.port}"


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
