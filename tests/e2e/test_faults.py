"""What goes wrong with Connect and on the way there, one fault at a time: the answer, the metrics, the alerts.

The table in docs/operations.md says what comes of each fault and is what these tests read; here is only how each is
made. Which alerts fire is told by Prometheus' own code: promtool evaluates the rules over the counters of the page.
"""

import json
import re
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import pytest
import yaml
from certificates import SERVER_AUTH, Authority
from e2e.answers import calling, valid
from e2e.processes import free_port, serve
from monitor_contact_service.simulator import UNLIMITED, Fault, Simulator
from prometheus_client.parser import text_string_to_metric_families
from raw_http import RawHttp, Reply, Then

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy" / "monitoring" / "rules.yaml"
DOCUMENT: Final = ROOT / "docs" / "operations.md"

PREFIX: Final = "monitor_contact_"
KEYS: Final = {
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "AKIDSIMULATOR",
    "AWS_SECRET_ACCESS_KEY": "simulator-secret",
}
# The service ends each call by itself in this time, so that no answer hangs on the client's own deadline.
DEADLINE_SECONDS: Final = 3
DEADLINES: Final = {
    "MONITOR_CONTACT_DEFAULT_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
    "MONITOR_CONTACT_MAX_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
}
# A pause of the machine must not look like a slow answer: the client waits longer than any answer takes.
CLIENT_TIMEOUT_SECONDS: Final = 60

RequireTool = Callable[[str, str], str]
Upstream = Callable[[], AbstractAsyncContextManager[Mapping[str, str]]]


# ---- How each fault is made ------------------------------------------------------------------------------------------


def _connect(*faults: Fault, **settings: str) -> Upstream:
    """A Connect with these faults. Without its own quota, and without the check of the supervisor unless told."""

    @asynccontextmanager
    async def upstream() -> AsyncIterator[Mapping[str, str]]:
        async with Simulator(quotas={"MonitorContact": UNLIMITED}) as simulator:
            for fault in faults:
                simulator.inject(fault)
            yield {**simulator.environment, "MONITOR_CONTACT_SUPERVISOR_CHECK": "off", **settings}

    return upstream


def _raw(answer: Reply, *, tls: Callable[[], ssl.SSLContext] | None = None) -> Upstream:
    """Something in Connect's place that does this to every request."""

    @asynccontextmanager
    async def upstream() -> AsyncIterator[Mapping[str, str]]:
        async with RawHttp([answer], tls=tls() if tls else None) as server:
            yield _environment(server.url)

    return upstream


@asynccontextmanager
async def _nobody() -> AsyncIterator[Mapping[str, str]]:
    yield _environment(f"http://127.0.0.1:{free_port()}")


def _environment(url: str) -> Mapping[str, str]:
    return {**KEYS, "AWS_ENDPOINT_URL_CONNECT": url, "MONITOR_CONTACT_SUPERVISOR_CHECK": "off"}


def _of_an_unknown_authority() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = Authority("nobody trusts it").leaf(dns_names=["localhost"], usages=[SERVER_AUTH])
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*leaf.write(Path(folder)))
    return context


_NOT_MONITORABLE: Final = "The contact is not in the state that can be monitored."
_NO_ROLE: Final = "You do not have access to the agent"

FAULTS: Final[Mapping[str, Upstream]] = {
    "one 500, then all is well": _connect(Fault("error", error="InternalServiceException", times=1)),
    "500 to every request": _connect(Fault("error", error="InternalServiceException")),
    "a load balancer's bare 503": _connect(Fault("garbage", garbage="html", status=503)),
    "one 429, then all is well": _connect(Fault("error", error="ThrottlingException", times=1)),
    "429 to every request": _connect(Fault("error", error="ThrottlingException")),
    "Connect denies access": _connect(Fault("error", error="AccessDeniedException")),
    "the instance has no service-linked role": _connect(
        Fault("error", error="AccessDeniedException", message=_NO_ROLE)
    ),
    "the session token has expired": _connect(Fault("error", error="ExpiredTokenException")),
    "Connect rejects the signature: key or clock": _connect(Fault("error", error="InvalidSignatureException")),
    "the contact does not exist": _connect(Fault("error", error="ResourceNotFoundException")),
    "the contact has ended": _connect(Fault("error", error="InvalidRequestException", message=_NOT_MONITORABLE)),
    "the contact has all its supervisors": _connect(Fault("error", error="ServiceQuotaExceededException")),
    "a proxy's page in place of the answer": _connect(Fault("garbage", garbage="html", status=200)),
    "a redirect": _connect(Fault("redirect")),
    "half of an answer, then the end": _connect(Fault("truncate")),
    "Connect takes more than a second": _connect(Fault("delay", delay_seconds=1.2)),
    "the role lacks a permission to read": _connect(
        Fault("error", api="DescribeUser", error="AccessDeniedException"), MONITOR_CONTACT_SUPERVISOR_CHECK="enforce"
    ),
    "nobody listens": _nobody,
    "no answer at all": _raw(Reply(b"", Then.HANG)),
    "half of an answer, then silence": _raw(Reply(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"Cont', Then.HANG)),
    "the connection is reset": _raw(Reply(b"", Then.RESET)),
    "the connection is closed": _raw(Reply(b"", Then.CLOSE)),
    "another protocol answers": _raw(Reply(b"SSH-2.0-OpenSSH_9.2\r\n", Then.CLOSE)),
    "a certificate of an unknown authority": _raw(Reply(b""), tls=_of_an_unknown_authority),
}


# ---- What comes of it, by the document -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `upstream`: outcomes of the requests to MonitorContact; `moves`: what else is counted."""

    fault: str
    reason: str
    code: str
    outcome_class: str
    upstream: frozenset[str]
    moves: frozenset[str]
    alerts: frozenset[str]


def _table() -> Iterator[Row]:
    section = DOCUMENT.read_text("utf-8").partition("\n## Faults\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if cells := re.fullmatch(r"\| (?!fault|-)(.*) \|", line):
            fault, reason, code, outcome_class, *lists = cells[1].split(" | ")
            names = (frozenset(re.findall(r"`(.*?)`", each)) for each in lists)
            yield Row(fault, reason.strip("`"), code, outcome_class, *names)


ROWS: Final = {row.fault: row for row in _table()}


def test_the_document_lists_24_faults() -> None:
    """Those of its table are those that are made here."""
    assert ROWS.keys() == FAULTS.keys()
    assert len(ROWS) == 24


# ---- The test --------------------------------------------------------------------------------------------------------

Page = dict[str, float]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_answered_counted_and_told_as_the_document_says(
    require_tool: RequireTool, tmp_path: Path, fault: str
) -> None:
    """One call meets the fault; if there is one each minute for half an hour, exactly these alerts fire."""
    row = ROWS[fault]
    before, after, answered = await _one_call(FAULTS[fault], tmp_path)
    assert answered == (row.reason, row.code)

    moved = {name for name, value in after.items() if value != before.get(name, 0) and name.startswith(PREFIX)}
    assert _of("outcomes_total", moved) == {f'class="{row.outcome_class}",reason="{row.reason}"'}
    to_connect = _of("upstream_calls_total", moved)
    assert {labels for labels in to_connect if 'operation="MonitorContact"' in labels} == {
        f'operation="MonitorContact",outcome="{outcome}"' for outcome in row.upstream
    }
    counted = ("retries_total", "upstream_throttles_total", "outage")
    others = {f"{name}{{{labels}}}" if labels else name for name in counted for labels in _of(name, moved)}
    others |= {
        f"upstream_calls_total{{{labels}}}"
        for labels in to_connect
        if "MonitorContact" not in labels and '"ok"' not in labels
    }
    assert others == row.moves

    promtool = require_tool("promtool", "which alerts fire at which fault")
    _fires(promtool, tmp_path, before, after, {f"MonitorContact{alert}" for alert in row.alerts})


async def _one_call(fault: Upstream, folder: Path) -> tuple[Page, Page, tuple[str, str]]:
    """Return the page of metrics before and after a call that meets the fault, and its reason and code."""
    async with fault() as upstream:
        environment = {
            **upstream,
            **DEADLINES,
            "MONITOR_CONTACT_METRICS_LISTEN": "127.0.0.1:0",
            "MONITOR_CONTACT_AUDIT": str(folder / "audit.jsonl"),
        }
        async with serve(environment) as service, calling(service.target) as caller:
            await service.serving()
            served = await service.running.logged("metrics served")
            before = await _scrape(served["address"])
            answer = await caller.ask(valid(), timeout=CLIENT_TIMEOUT_SECONDS)
            after = await _scrape(served["address"])
    return before, after, (answer.reason, answer.code.name)


async def _scrape(address: str) -> Page:
    async with aiohttp.request("GET", f"http://{address}/metrics") as response:
        text = await response.text()
    return {
        sample.name + _labels(sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _labels(labels: Mapping[str, str]) -> str:
    inside = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items()))
    return f"{{{inside}}}" if inside else ""


def _of(name: str, series: set[str]) -> set[str]:
    """Return the labels of those series that have this name."""
    full = PREFIX + name
    return {each.removeprefix(full).strip("{}") for each in series if each.partition("{")[0] == full}


def _fires(promtool: str, folder: Path, before: Page, after: Page, alerts: set[str]) -> None:
    """Let an hour be as before, and then the same come of a call each minute; these alerts fire, and no other."""
    series = [
        {"series": name, "values": f"{before.get(name, 0)!r}x60 {after[name]!r}{_growth(name, before, after)}x30"}
        for name in after
        if name.startswith((PREFIX, "grpc_server_"))
    ]
    firing = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)]
    test = {
        "interval": "1m",
        "input_series": series,
        "promql_expr_test": [
            {"expr": "group by (alertname) (ALERTS)", "eval_time": "60m", "exp_samples": []},
            {"expr": 'group by (alertname) (ALERTS{alertstate="firing"})', "eval_time": "90m", "exp_samples": firing},
        ],
    }
    file = folder / "alerts_test.yaml"
    tests = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        # What the others read comes first, as in the file; promtool takes groups in any order otherwise.
        "group_eval_order": [group["name"] for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]],
        "tests": [test],
    }
    file.write_text(yaml.safe_dump(tests))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def _growth(name: str, before: Page, after: Page) -> str:
    """Return how a counter goes on each minute; what is not one stays as it is."""
    counted = name.partition("{")[0].endswith(("_total", "_count", "_bucket", "_sum"))
    return f"+{after[name] - before.get(name, 0)!r}" if counted else ""
