"""docs/policy.md's way to the first permitted call, walked as it is written: openssl, the settings, the call."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest
from e2e.processes import COMMAND, ServiceProcess, free_port, run, simulate, started

_DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
_SECTION: Final = (_DOCS / "policy.md").read_text("utf-8").partition("## From an empty file")[2].partition("\n## ")[0]
_PORT: Final = "8443"


def _blocks(language: str) -> list[str]:
    """Return the section's examples in a language, without the indent of the list that they stand in."""
    blocks = re.findall(rf"```{language}\n(.*?)```", _SECTION, re.DOTALL)
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in blocks]


def _settings(block: str) -> Mapping[str, str]:
    """Return what the lines before `monitor-contact serve` export."""
    *exports, last = block.strip().splitlines()
    assert last == "monitor-contact serve"
    words = [shlex.split(line) for line in exports]
    assert {line[0] for line in words} == {"export"}
    pairs = [word.partition("=") for line in words for word in line[1:]]
    return {name: value for name, _, value in pairs}


def _same_each_time(answer: Mapping[str, str]) -> Mapping[str, str]:
    """Return the answer without what is made anew for each call."""
    made = answer["contact_id"]
    return {name: value.replace(made, "…") for name, value in answer.items() if name != "client_token"}


async def test_the_walk_through_ends_with_a_permitted_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_tool: Callable[[str, str], str]
) -> None:
    """With the example files and certificates made there, the call prints what stands there; without a ticket not."""
    require_tool("openssl", "the walk-through of docs/policy.md")
    shutil.copytree(_DOCS / "examples", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)  # of the commands too
    certificates, settings, call = _blocks("sh")
    (expected,) = map(json.loads, _blocks("json"))
    made = await run("-e", "-c", certificates, program="/bin/sh")
    assert made.exit_code == 0, made.err
    port = str(free_port())
    ours = _settings(settings.replace(_PORT, port))
    path = f"{COMMAND.parent}:{os.environ.get('PATH', os.defpath)}"

    async with simulate() as simulator, started("serve", environment={**simulator.environment, **ours}) as running:
        await ServiceProcess(running, "").serving()
        script = call.replace(_PORT, port)
        called = await run("-c", script, program="/bin/sh", environment={"PATH": path})
        denied = await run("-c", script.replace("--ticket COACH-17", ""), program="/bin/sh", environment={"PATH": path})

    assert called.exit_code == 0, called.out
    answer = json.loads(called.out)
    assert list(answer) == list(expected)
    assert _same_each_time(answer) == _same_each_time(expected)
    assert json.loads(denied.out)["reason"] == "CALLER_NOT_PERMITTED"
