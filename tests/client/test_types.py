"""What holds for the package as files: users' types, the generated twin, dependency floors, what it imports."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from monitor_contact_client import AsyncMonitorContactClient, MonitorContactClient
from monitor_contact_client.testing import AsyncFakeMonitorContactClient, FakeMonitorContactClient

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "python"
PACKAGE = CLIENT / "src" / "monitor_contact_client"
SAMPLE = Path(__file__).with_name("typed_sample.py")


def run(*arguments: str, cwd: Path = ROOT) -> None:
    """Run a module of this interpreter; what it says shows if it fails."""
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_blocking_client_is_what_the_generator_makes() -> None:
    """`_sync.py` is never edited: `generate_sync.py --check` agrees."""
    run(str(CLIENT / "generate_sync.py"), "--check")
    assert "do not edit" in (PACKAGE / "_sync.py").read_text("utf-8").splitlines()[0]


def test_twins_and_fakes_have_one_signature() -> None:
    """A parameter added to one of the four is missed here before a user misses it."""
    signatures = {
        str(inspect.signature(each.monitor_contact)).replace(" ", "")
        for each in (
            MonitorContactClient,
            AsyncMonitorContactClient,
            FakeMonitorContactClient,
            AsyncFakeMonitorContactClient,
        )
    }
    assert len(signatures) == 1
    assert inspect.signature(MonitorContactClient) == inspect.signature(AsyncMonitorContactClient)


def test_sample_passes_mypy_strict(tmp_path: Path) -> None:
    """User code sees the types, with mypy's own strict settings and none of this repository's."""
    run("-m", "mypy", "--strict", f"--config-file={tmp_path / 'none.ini'}", str(SAMPLE), cwd=_empty_config(tmp_path))


def _empty_config(folder: Path) -> Path:
    (folder / "none.ini").write_text("[mypy]\n", "utf-8")
    return folder


def test_sample_passes_pyright(require_tool: Callable[[str, str], str]) -> None:
    """The same for pyright, which runs on node."""
    require_tool("node", "the types of the client under pyright")
    run("-m", "pyright", "--pythonpath", sys.executable, str(SAMPLE))


def test_lowest_constraints_are_the_floors_of_the_wheels() -> None:
    """`constraints-lowest.txt` pins exactly the lower bounds that the two pyproject files declare."""
    declared = [
        requirement
        for project in (ROOT / "proto", CLIENT)
        for requirement in tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    ]
    floors = {found[0] for each in declared if (found := re.findall(r"^([\w-]+)>=([\d.]+)", each))}
    text = (CLIENT / "constraints-lowest.txt").read_text("utf-8")
    assert set(re.findall(r"^([\w-]+)==([\d.]+)", text, re.MULTILINE)) == floors


def test_client_never_imports_the_service() -> None:
    """Service and client depend on the contract, never on each other."""
    for file in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("monitor_contact_service") for name in names), file


def test_import_is_light() -> None:
    """`import monitor_contact_client` loads no HTTP client, no AWS and no google-api-core."""
    heavy = ("requests", "urllib3", "aiohttp", "boto3", "botocore", "google.api_core", "monitor_contact_service")
    run("-c", f"import sys, monitor_contact_client; assert not set({heavy}) & set(sys.modules)")
