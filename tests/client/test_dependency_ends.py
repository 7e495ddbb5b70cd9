"""The client's wheels at both ends of their dependencies, on every Python from 3.11 that is on this machine.

Each case installs the wheels into an empty environment (with uv where present, else pip) and makes real calls from
there. Needs the package index. An interpreter that is not there is a skip that says so.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from client.scripted_server import error_info, refuse, serving, succeed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("dependency_ends_script.py")
LOWEST = ROOT / "clients" / "python" / "constraints-lowest.txt"
EXPECTED = {(3, 11), (3, 12), (3, 13)}  # a machine without one of these gets told so
FLOOR = (3, 11)


def _folders() -> list[Path]:
    """List where interpreters are looked for: PATH, pyenv, and uv's own."""
    home = Path.home()
    managed = (*(home / ".pyenv" / "versions").glob("*/bin"), *(home / ".local/share/uv/python").glob("*/bin"))
    return [*(Path(each) for each in os.get_exec_path()), *sorted(managed)]


def _candidates() -> Iterator[tuple[tuple[int, int], Path]]:
    """Find commands named python3.N, N from 11: (3, N) and path. Some may not run, as pyenv's shims do not."""
    for folder in _folders():
        for path in folder.glob("python3.*") if folder.is_dir() else ():
            if (found := re.fullmatch(r"python3\.(\d+)", path.name)) and (3, int(found[1])) >= FLOOR:
                yield (3, int(found[1])), path


VERSIONS = sorted(EXPECTED | {version for version, _ in _candidates()})


def interpreter(version: tuple[int, int]) -> Path:
    """Return a released, GIL-built interpreter of the version that runs, or skip loudly."""
    probe = (
        "import sys, sysconfig; print(*sys.version_info[:2], sys.version_info.releaselevel, "
        "sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"
    )
    for found, path in _candidates():
        if found == version:
            done = subprocess.run([path, "-I", "-c", probe], capture_output=True, text=True, check=False)
            if done.stdout.split() == [*map(str, version), "final", "0"]:
                return path
    name = ".".join(map(str, version))
    pytest.skip(f"PYTHON {name} IS MISSING on this machine: the client was NOT tested on it; install it (pyenv, uv)")


def run(*command: str | Path) -> str:
    """Run a command; return what it printed, or fail with all that it said."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """Build the wheels of contract and client, once."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in (ROOT / "proto", ROOT / "clients" / "python"):
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, project)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    """Serve success and refusal by turns, with this environment's own grpcio."""
    violation = {"field": "instance_id", "reason": "REQUIRED", "description": "1 to 100 characters"}
    details = (
        error_info("VALIDATION_FAILED", violations="1"),
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.RequestInfo(request_id="request-1"),
    )
    refusal = refuse(grpc.StatusCode.INVALID_ARGUMENT, "no", details)
    with serving(*[succeed(), refusal] * 200) as server:
        yield server.target


def install(python: Path, folder: Path, what: Iterable[str | Path]) -> Path:
    """Make an empty environment of the interpreter, install, and return the environment's interpreter."""
    inside = folder / "bin" / "python"
    uv = shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)
    if uv:
        run(uv, "venv", "--quiet", "--python", python, folder)
        run(uv, "pip", "install", "--quiet", "--python", inside, *what)
    else:
        run(python, "-I", "-m", "venv", folder)
        run(inside, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what)
    return inside


@pytest.mark.parametrize("end", ["lowest", "newest"])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: ".".join(map(str, version)))
def test_installed_client_calls_a_real_server(
    version: tuple[int, int], end: str, wheels: Sequence[Path], target: str, tmp_path: Path
) -> None:
    """Blocking and asyncio, success and typed error, with every warning an error."""
    constraints: tuple[str | Path, ...] = ("--constraint", LOWEST) if end == "lowest" else ()
    python = install(interpreter(version), tmp_path / "environment", (*constraints, *wheels))
    report = json.loads(run(python, "-I", "-W", "error", SCRIPT, target))
    assert report.pop("place").startswith(str(tmp_path))
    assert report.pop("python").startswith(".".join(map(str, version)))
    if end == "lowest":
        assert report == dict(re.findall(r"^([\w-]+)==(.+)$", LOWEST.read_text("utf-8"), re.MULTILINE))
