"""The image, built for real without a daemon, and run on a read-only root as the user that it names."""

import os
import re
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deploy.image import DOCKERFILE, REVISION, VOLUME, Image, built
from deploy.manifests import ROOT
from e2e.answers import calling
from e2e.processes import WITHIN_SECONDS, Running, ServiceProcess, free_port
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from monitor_contact_service.simulator import Simulator

TEXT = DOCKERFILE.read_text("utf-8")
USER = 65532
UNCHECKED = "that the image builds, starts and answers"
# To SERVING, in seconds of CPU, which busy neighbours hardly change: no more of them than the issue allows in all.
START_CPU_MOST_SECONDS = 1.5
MEMORY_MOST_MB = 110
# PEP 552: valid by its source's hash, and nobody has to check that.
UNCHECKED_HASH = b"\x01\x00\x00\x00"
PROBE_NAMES = ("liveness", "readiness", "")


def test_the_base_is_pinned_and_the_user_a_number() -> None:
    """What linters miss behind an argument: a digest; and Kubernetes cannot tell whether a user's name is root."""
    assert re.search(r"^ARG BASE=\S+:\S+@sha256:[0-9a-f]{64}$", TEXT, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert re.search(rf"^USER {USER}:{USER}$", TEXT, re.MULTILINE)


def test_the_process_gets_the_signal_to_stop() -> None:
    """Exec form: a shell as process 1 would keep SIGTERM to itself."""
    assert re.search(r'^ENTRYPOINT \["monitor-contact"\]$', TEXT, re.MULTILINE)
    assert re.search(r'^CMD \["serve"\]$', TEXT, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", TEXT, re.MULTILINE)


def test_every_file_from_an_index_is_checked_by_its_hash() -> None:
    """Each installation either checks hashes or asks no index; a build in isolation would fetch what it likes."""
    commands = re.findall(r"/pip [^&]*", TEXT.replace("\\\n", " "))
    assert len([command for command in commands if " install " in command]) == 3
    for command in commands:
        words = set(command.split())
        assert {"--no-deps"} < words
        assert {"--require-hashes", "--only-binary"} < words or words & {"--no-index", "--no-build-isolation"}, command


def test_the_label_is_of_this_version() -> None:
    """What an image says of itself unless told is what the project says."""
    version = tomllib.loads((ROOT / "service" / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert re.search(rf"^ARG VERSION={re.escape(version)}$", TEXT, re.MULTILINE)


def test_only_what_is_named_can_get_into_the_build() -> None:
    """The list begins by excluding everything, and what it then names exists."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    first, *others = lines
    assert first == "*"
    named = {line.removeprefix("!") for line in others if line.startswith("!")}
    assert all((ROOT / name).exists() for name in named)
    assert set(others) - {f"!{name}" for name in named} == {"**/__pycache__"}


def test_the_linter_has_no_complaint(require_tool: Callable[[str, str], str]) -> None:
    """Hadolint, and the shell linter in it, find nothing, and nothing tells them to look away."""
    hadolint = require_tool("hadolint", "deploy/Dockerfile against hadolint's rules")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "hadolint ignore" not in TEXT


@pytest.fixture(scope="module")
def image(require_tool: Callable[[str, str], str]) -> Iterator[Image]:
    """The image of this checkout."""
    buildah, mmdebstrap = (require_tool(tool, UNCHECKED) for tool in ("buildah", "mmdebstrap"))
    if os.geteuid() != 0:
        pytest.skip(f"building without a daemon needs root: {UNCHECKED} stays unchecked")
    with built(buildah, mmdebstrap) as image:
        yield image


@pytest.mark.slow
def test_it_says_what_it_is_and_nothing_of_where_it_was_built(image: Image) -> None:
    """Labels, ports, user and command are what a runtime reads; no variable of pip or of this machine is left."""
    labels, variables = image.config["Labels"], image.config["Env"]
    assert labels["org.opencontainers.image.revision"] == REVISION
    assert (image.packages / "monitor_contact_service" / "commit.txt").read_text("utf-8").strip() == REVISION
    assert image.config["User"] == f"{USER}:{USER}"
    assert image.config["StopSignal"] == "SIGTERM"
    assert set(image.config["ExposedPorts"]) == {"8443/tcp", "8081/tcp", "9090/tcp"}
    names = {variable.partition("=")[0] for variable in variables}
    assert names == {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER"}


@pytest.mark.slow
def test_nothing_but_the_service_is_inside(image: Image) -> None:
    """No pip, not even the base's; no build backend, no stage's folder, no test of ours, no C source."""
    installed = {path.name.partition("-")[0] for path in image.packages.iterdir()}
    assert {"monitor_contact", "monitor_contact_service", "psycopg", "redis", "opentelemetry"} <= installed
    assert not installed & {"pip", "setuptools", "wheel", "hatchling", "pytest", "ruff", "mypy", "grpc_tools", "uv"}
    assert "monitor_contact_client" not in installed
    assert list((image.root / "usr/local").rglob("python3"))  # the base is like the official ones
    assert not [path for path in (image.root / "usr/local").rglob("pip*") if "pip" in path.name]
    assert not [name for name in ("src", "build", "work") if (image.root / name).exists()]
    ours = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    files = [path for path in image.prefix.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in {".c", ".cpp", ".rs", ".a"} or path.name in ours]


@pytest.mark.slow
def test_no_start_compiles_anything(image: Image) -> None:
    """Every module, also of the standard library, has its bytecode, valid whatever the time stamps of a layer say."""
    tag = "cpython-" + image.packages.parent.name.removeprefix("python").replace(".", "")
    for folder in (image.packages, image.standard_library):
        sources = list(folder.rglob("*.py"))
        assert len(sources) > 100
        for source in sources:
            compiled = source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"
            assert compiled.read_bytes()[4:8] == UNCHECKED_HASH, source


@pytest.mark.slow
async def test_botocore_has_what_the_service_calls_and_no_more(image: Image, tmp_path: Path) -> None:
    """Connect, and everything that hands out credentials: their clients can be made, offline; others cannot."""
    code = tmp_path / "code.py"
    code.write_text(
        "import botocore.session, botocore.exceptions\n"
        "session = botocore.session.get_session()\n"
        "for name in ('connect', 'sts', 'sso', 'sso-oidc', 'signin'):\n"
        "    print(session.create_client(name, region_name='eu-central-1').meta.endpoint_url)\n"
        "print(len(session.get_component('credential_provider').providers) > 5)\n"
        "try:\n"
        "    session.create_client('s3', region_name='eu-central-1')\n"
        "except botocore.exceptions.UnknownServiceError:\n"
        "    print('no s3')\n",
        "utf-8",
    )
    (tmp_path / "root").mkdir()
    ended = await image.python(tmp_path / "root", code)
    assert (ended.exit_code, ended.err) == (0, "")
    *endpoints, providers, refused = ended.out.splitlines()
    assert [endpoint.split(".")[0] for endpoint in endpoints] == [
        "https://connect",
        "https://sts",
        "https://portal",
        "https://oidc",
        "https://signin",
    ]
    assert (providers, refused) == ("True", "no s3")


def _status(running: Running) -> dict[str, str]:
    lines = Path(f"/proc/{running.pid}/status").read_text("utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _cpu_seconds(running: Running) -> float:
    """Return what the process has used so far, in user and in system mode."""
    _, _, numbers = Path(f"/proc/{running.pid}/stat").read_text("utf-8").rpartition(") ")
    user, system = numbers.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _writable(running: Running) -> set[str]:
    """Return the mount points of plain files that may be written to."""
    lines = Path(f"/proc/{running.pid}/mounts").read_text("utf-8").splitlines()
    mounts = [line.split() for line in lines]
    return {point for _, point, kind, options, *_ in mounts if "rw" in options.split(",") and kind != "proc"}


@pytest.mark.slow
async def test_it_serves_on_a_read_only_root(
    image: Image, simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a user of no name, with a volume for the audit to write to: probes, a call, no warning; soon, and small."""
    health, target = (f"127.0.0.1:{free_port()}" for _ in range(2))
    environment = {
        **simulator.environment,
        "MONITOR_CONTACT_LISTEN": target,
        "MONITOR_CONTACT_HEALTH_LISTEN": health,
        "MONITOR_CONTACT_METRICS_LISTEN": "127.0.0.1:0",
        "MONITOR_CONTACT_AUDIT": f"{VOLUME}/audit.jsonl",
        "MONITOR_CONTACT_DRAIN_SECONDS": "0",
    }
    began = time.monotonic()
    async with image.serving(tmp_path, environment) as running, calling(health) as prober, calling(target) as caller:
        await ServiceProcess(running, target).serving()
        start_seconds, start_cpu_seconds = time.monotonic() - began, _cpu_seconds(running)
        for name in PROBE_NAMES:
            answer = await prober.health.Check(HealthCheckRequest(service=name), timeout=WITHIN_SECONDS)
            assert answer.status == HealthCheckResponse.SERVING, name
        assert (await caller.ask(timeout=WITHIN_SECONDS)).reason == "OK"
        status, writable = _status(running), _writable(running)
        running.signal(15)
        assert await running.ended() == 0
        unusual = [line for line in running.err.lines if '"level": "info"' not in line]
    memory_mb = int(status["VmRSS"].split()[0]) * 1024 / 1e6
    size_mb, root_mb = (_megabytes(folder) for folder in (image.prefix, image.root))
    with capsys.disabled():
        print(  # noqa: T201 - what was measured is told, also when the test passes
            f"\nMEASURED: SERVING after {start_seconds:.2f} s and {start_cpu_seconds:.2f} s of CPU, {memory_mb:.0f} MB "
            f"after a call; {size_mb:.0f} MB of files, {root_mb:.0f} MB with Debian's base"
        )
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(USER)}
    assert not int(status["CapEff"], 16)
    assert writable <= {"/tmp", VOLUME, "/dev"}  # noqa: S108 - the pod's own
    assert not unusual
    assert start_cpu_seconds < START_CPU_MOST_SECONDS
    assert memory_mb < MEMORY_MOST_MB


def _megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1024**2
