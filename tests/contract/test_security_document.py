"""docs/security.md can be trusted: its tests exist, its examples are accepted, its settings are settings."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from monitor_contact_service.access import read_access
from monitor_contact_service.core.reads import Api
from monitor_contact_service.settings import Settings
from monitor_contact_service.variables import variable

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")
THREATS = re.findall(r"(?m)^\| (T\d+) \| .+ \| .+ \| (.+) \|$", TEXT)
MOST_TESTS = 3


def blocks(language: str) -> Sequence[str]:
    """Return the document's examples in a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", TEXT)


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of the tests in a file, without importing it."""
    tree = ast.parse(path.read_text("utf-8"), path)
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def test_every_threat_stands_there_once() -> None:
    """T1 to T22, in their order."""
    assert [threat for threat, _ in THREATS] == [f"T{number}" for number in range(1, 23)]


@pytest.mark.parametrize(("threat", "cell"), THREATS, ids=[threat for threat, _ in THREATS])
def test_the_tests_of_a_threat_exist(threat: str, cell: str) -> None:
    """Each is a function of that name in that file: a renamed or deleted test fails here."""
    named = cell.split(", ")
    assert 1 <= len(named) <= MOST_TESTS, threat
    for each in named:
        match = re.fullmatch(r"`([a-z0-9_/]+\.py)::(test_\w+)`", each)
        assert match, f"{threat}: {each}"
        assert match[2] in names_in(ROOT / "tests" / match[1]), f"{threat}: {each}"


def test_the_access_files_are_accepted(tmp_path: Path) -> None:
    """Both are whole files: one for certificates, one for tokens, and neither for two."""
    files = []
    for number, text in enumerate(blocks("toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, encoding="utf-8")
        files.append(read_access(str(path)))
    identified = [(access.identifies_by_certificate, access.identifies_by_token) for access in files]
    assert identified == [(True, False), (False, True)]


def statements() -> Mapping[str, Mapping[str, Any]]:
    """Return the statements of the IAM policy by their names."""
    (policy,) = blocks("json")
    return {statement["Sid"]: statement for statement in json.loads(policy)["Statement"]}


def test_the_role_may_read_what_the_service_reads() -> None:
    """Every read but the one that the text calls optional, and nothing else."""
    optional = {Api.CURRENT_USER_DATA}
    assert "`connect:GetCurrentUserData`" in TEXT
    assert set(statements()["Check"]["Action"]) == {f"connect:{api}" for api in set(Api) - optional}


def test_the_first_role_cannot_barge() -> None:
    """A call without capabilities is refused too: ForAllValues alone would let it pass."""
    condition = statements()["Listen"]["Condition"]
    assert condition["Null"] == {"connect:MonitorCapabilities": "false"}
    assert condition["ForAllValues:StringEquals"] == {"connect:MonitorCapabilities": ["SILENT_MONITOR"]}


def test_every_setting_exists() -> None:
    """In full, or with the prefix left out after another one of the same line."""
    known = {variable(field) for field in Settings.model_fields}
    named = set(re.findall(r"`(MONITOR_CONTACT_[A-Z_]+)", TEXT))
    shortened = {f"MONITOR_CONTACT{name}" for name in re.findall(r"`(_[A-Z_]+)`", TEXT)}
    assert named
    assert named | shortened <= known
