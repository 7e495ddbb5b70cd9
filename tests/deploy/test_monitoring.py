"""Alerts and dashboard: correct by Prometheus' own tool, about metrics that a running server has, and explained."""

import itertools
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml
from certificates import Authority
from e2e.processes import serve, simulate
from prometheus_client.parser import text_string_to_metric_families

RequireTool = Callable[[str, str], str]

ROOT: Final = Path(__file__).resolve().parents[2]
MONITORING: Final = ROOT / "deploy" / "monitoring"
RULES: Final = MONITORING / "rules.yaml"
RULE_TESTS: Final = (MONITORING / "rules_test.yaml", MONITORING / "rules_days_test.yaml")
RUNBOOK: Final = ROOT / "docs" / "operations.md"
DASHBOARD: Final[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))

GROUPS: Final = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
EVERY_RULE: Final[list[dict[str, Any]]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS: Final = {rule["alert"]: rule for rule in EVERY_RULE if "alert" in rule}
RECORDED: Final[dict[str, str]] = {rule["record"]: rule["expr"] for rule in EVERY_RULE if "record" in rule}

# Of kube-state-metrics: not on our page.
FOREIGN: Final = {"kube_pod_container_status_restarts_total"}
# What Prometheus and the PodMonitor add to each series.
OF_THE_TARGET: Final = {"namespace", "job", "pod"}


# ---- Rules -----------------------------------------------------------------------------------------------------------


def _promtool(tool: str, *arguments: str | Path) -> None:
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(require_tool: RequireTool) -> None:
    """Every expression and every template parses; no rule stands there twice."""
    _promtool(require_tool("promtool", "the alerts"), "check", "rules", RULES)


@pytest.mark.parametrize("tests", RULE_TESTS, ids=lambda path: path.stem)
def test_the_alerts_fire_when_they_should_and_only_then(require_tool: RequireTool, tests: Path) -> None:
    """What the alerts make of faults, of thin traffic and of none stands in the files of promtool's own tests."""
    _promtool(require_tool("promtool", "when alerts fire"), "test", "rules", tests)


def test_what_is_recorded_differs_by_its_window_only() -> None:
    """A wrong class in one of five windows would show in no alert: the other window of its pair covers for it."""
    expressions_by_family: dict[str, set[str]] = {}
    for name, expression in RECORDED.items():
        if of_window := re.fullmatch(r"(.*:increase)(\w+)", name):
            family, window = of_window.groups()
            assert f"[{window}]" in expression
            expressions_by_family.setdefault(family, set()).add(expression.replace(f"[{window}]", "[window]"))
    assert expressions_by_family
    assert all(len(expressions) == 1 for expressions in expressions_by_family.values()), expressions_by_family


def test_each_alert_is_tested_both_ways() -> None:
    """It fires in one of promtool's tests, and is silent in another. Those compare all alerts that fire at once."""
    checks: list[list[str]] = []
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for check in test["promql_expr_test"]:
                assert re.search(r"\bALERTS\b", check["expr"]), check
                checks.append([sample["labels"] for sample in check["exp_samples"]])
    for alert in ALERTS:
        firing = [any(f'"{alert}"' in labels for labels in check) for check in checks]
        assert any(firing), alert
        assert not all(firing), alert


def test_an_idle_service_in_order_raises_nothing() -> None:
    """The first of promtool's tests has a series of every metric that alerts read, and no alert, not even pending."""
    idle = yaml.safe_load(RULE_TESTS[0].read_text("utf-8"))["tests"][0]
    series = {each["series"].partition("{")[0] for each in idle["input_series"]}
    read = {selector.metric for rule in EVERY_RULE for selector in selectors(rule["expr"])}
    assert read - RECORDED.keys() == series
    assert [(check["expr"], check["exp_samples"]) for check in idle["promql_expr_test"]] == [
        ("group by (alertname, severity) (ALERTS)", [])
    ]


@pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    """Each leads to a section of the runbook that says what it looks like, what it means and what to do."""
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert page.startswith("https://")
    assert page.endswith(f"/{RUNBOOK.relative_to(ROOT)}")
    section = _sections()[anchor]
    assert f"`{alert['alert']}`" in section
    for part in ("*Looks like:*", "*Means:*", "*Do:*"):
        assert section.count(part) == 1, part


def test_the_runbook_names_every_alert_and_no_other() -> None:
    """Nobody looks for an alert that is not there."""
    named = set(re.findall(r"`(MonitorContact[A-Z]\w+)`", RUNBOOK.read_text("utf-8")))
    assert named == set(ALERTS)


def _sections() -> dict[str, str]:
    """Return the text of each section of the runbook by its anchor."""
    parts = re.split(r"(?m)^#+ (.+)$", RUNBOOK.read_text("utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"): text
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_the_operator_gets_the_same_rules(tmp_path: Path) -> None:
    """prometheusrule.yaml is what generate.sh makes of rules.yaml."""
    for name in ("rules.yaml", "generate.sh"):
        (tmp_path / name).write_bytes((MONITORING / name).read_bytes())
    subprocess.run(["/bin/sh", tmp_path / "generate.sh"], check=True, timeout=60)
    made = (tmp_path / "prometheusrule.yaml").read_text("utf-8")
    assert (MONITORING / "prometheusrule.yaml").read_text("utf-8") == made
    assert yaml.safe_load(made)["spec"] == {"groups": GROUPS}


# ---- Dashboard -------------------------------------------------------------------------------------------------------

PANELS: Final = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """Yield every expression of the dashboard as Prometheus gets it."""
    for panel in PANELS:
        for target in panel["targets"]:
            expression = re.sub(r"\$__(rate_interval|range)\b", "5m", target["expr"])
            yield re.sub(r"\$\w+", ".*", expression)


def test_prometheus_takes_the_dashboards_expressions(require_tool: RequireTool, tmp_path: Path) -> None:
    """Each is wrapped as a rule, with what Grafana puts in."""
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions())]
    assert "$" not in json.dumps(rules)
    file = tmp_path / "dashboard.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    _promtool(require_tool("promtool", "the expressions of the dashboard"), "check", "rules", file)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """It has an identity, asks which Prometheus to read, and every panel and every number in it says what it is."""
    assert DASHBOARD["uid"] == "monitor-contact"
    assert DASHBOARD["schemaVersion"] >= 39
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["datasource"] == chosen, panel["title"]
        assert panel["description"], panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
        for target in panel["targets"]:
            assert target["datasource"] == chosen, panel["title"]
            assert target["legendFormat"], panel["title"]
            assert set(re.findall(r"\$([a-z]\w*)", target["expr"])) <= variables.keys(), panel["title"]
            assert 'namespace=~"$namespace"' in target["expr"], panel["title"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_dashboard_has_its_rows_and_nothing_overlaps() -> None:
    """Rows from what callers see down to the process; Grafana would move panels that lie on each other."""
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        "Calls by class", "Latency", "Quota and wait", "Callers", "Upstream", "Saturation", "Audit", "Process",
    ]  # fmt: skip
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns = range(place["x"], place["x"] + place["w"])
        cells = set(itertools.product(columns, range(place["y"], place["y"] + place["h"])))
        assert not cells & taken, panel["title"]
        taken |= cells


# ---- What they read is there -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Selector:
    """One metric in an expression; `matchers` are label, operator and value."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_:][\w:]*|\d[\w.]*|[=!]~|!=|\S')
_WORDS: Final = {"and", "or", "unless", "offset", "bool"}
_AGGREGATIONS: Final = {"sum", "min", "max", "count", "avg", "group"}
_CLAUSES: Final = {"by", "without", "on", "ignoring"}


def selectors(expression: str) -> Iterator[Selector]:
    """Yield the metrics of a PromQL expression that promtool has accepted; strings are in double quotes."""
    tokens = _TOKEN.findall(expression)
    position = 0
    while position < len(tokens):
        token, following = tokens[position], tokens[position + 1 :]
        position += 1
        if token in _CLAUSES:
            position += following.index(")") + 1
        elif not re.fullmatch(r"[A-Za-z_:][\w:]*", token) or token in _WORDS | _AGGREGATIONS or following[:1] == ["("]:
            continue
        elif following[:1] == ["{"]:
            inside = following[1 : following.index("}")]
            position += len(inside) + 2
            parts = [part for part in inside if part != ","]
            matchers = zip(parts[::3], parts[1::3], (value.strip('"') for value in parts[2::3]), strict=True)
            yield Selector(token, tuple(matchers))
        else:
            yield Selector(token, ())


def grouping(expression: str) -> set[str]:
    """Return the labels that an expression keeps or compares by."""
    clauses = re.findall(rf"\b(?:{'|'.join(_CLAUSES)})\s*\(([^)]*)\)", expression)
    return {label.strip() for clause in clauses for label in clause.split(",")}


def test_selectors_of_an_expression_are_found() -> None:
    """What the next test stands on: metrics with and without matchers, and no function, clause or word of PromQL."""
    expression = 'sum by (le, job) (rate(a_total{x="1", y=~"p|q"}[5m] offset 1h)) / on (job) max(b:c) and time() > 5'
    assert list(selectors(expression)) == [
        Selector("a_total", (("x", "=", "1"), ("y", "=~", "p|q"))),
        Selector("b:c", ()),
    ]
    assert grouping(expression) == {"le", "job"}


Series = dict[str, list[dict[str, str]]]


async def _page_of_a_running_server(folder: Path) -> Series:
    """Return the labels of every series by name, of a server that has all that can have a metric."""
    certificate, key = Authority().leaf(dns_names=["localhost"]).write(folder)
    (folder / "credentials.json").write_text(
        json.dumps(
            {
                "Version": 1,
                "AccessKeyId": "AKIDSIMULATOR",
                "SecretAccessKey": "simulator-secret",
                "SessionToken": "",
                "Expiration": "2099-01-01T00:00:00Z",
            }
        )
    )
    (folder / "aws").write_text(f"[default]\ncredential_process = /bin/cat {folder}/credentials.json\n")
    async with simulate() as simulator:
        environment = {
            "AWS_ENDPOINT_URL_CONNECT": simulator.url,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(folder / "aws"),
            "MONITOR_CONTACT_METRICS_LISTEN": "127.0.0.1:0",
            "MONITOR_CONTACT_AUDIT": str(folder / "audit.jsonl"),
            "MONITOR_CONTACT_TLS_CERT_FILE": str(certificate),
            "MONITOR_CONTACT_TLS_KEY_FILE": str(key),
        }
        async with serve(environment) as service:
            await service.serving()
            served = await service.running.logged("metrics served")
            async with aiohttp.request("GET", f"http://{served['address']}/metrics") as response:
                text = await response.text()
    series: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, []).append(sample.labels)
    return series


async def test_all_that_is_read_is_on_a_running_servers_page(tmp_path: Path) -> None:
    """Every metric of rules and dashboard, and every value of a label that they ask for, before the first call."""
    page = await _page_of_a_running_server(tmp_path)
    read = [*(rule["expr"] for rule in EVERY_RULE), *expressions()]
    problems = [problem for expression in read for problem in _not_there(expression, page)]
    assert not problems, "\n".join(sorted(set(problems)))


def _not_there(expression: str, page: Series) -> Iterable[str]:
    known = set(OF_THE_TARGET)
    for selector in _not_recorded(expression):
        series = page.get(selector.metric, [])
        if not series:
            yield f"{selector.metric} is not on the page"
        known |= {label for labels in series for label in labels}
        for label, operator, value in selector.matchers:
            for wanted in value.split("|") if "~" in operator else [value]:
                if label not in OF_THE_TARGET and not any(labels.get(label) == wanted for labels in series):
                    yield f"no series {selector.metric}{{{label}={wanted!r}}} on the page"
    yield from (f"no series has the label {label}: {expression}" for label in grouping(expression) - known)


def _not_recorded(expression: str) -> Iterator[Selector]:
    """Yield what an expression reads, by way of recorded rules too, but for other exporters' metrics."""
    for selector in selectors(expression):
        if selector.metric in RECORDED:
            yield from _not_recorded(RECORDED[selector.metric])
        elif selector.metric not in FOREIGN:
            yield selector
