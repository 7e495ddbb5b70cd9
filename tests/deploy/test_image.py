"""The image, built for real without a daemon, and run on a read-only root as the user that it names."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from e2e.processes import free_port
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from monitor_contact_service.simulator import Simulator

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text("utf-8")
# Made of Debian's packages, once for all runs of this checkout.
BASE_TAR = ROOT / ".tools" / "image-base.tar"
ENVIRONMENT = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
USER = 65532
PREFIX = "/opt/monitor-contact"
START_SECONDS = 30.0
# The bounds; start is measured and told, and held to three times as much: machines are noisy.
START_MOST_SECONDS, MEMORY_MOST_MB = 4.5, 110


def test_the_base_is_pinned_and_the_user_a_number() -> None:
    """What linters miss behind an argument: a digest; and Kubernetes cannot tell whether a user's name is root."""
    assert re.search(r"^ARG BASE=\S+:\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert re.search(rf"^USER {USER}:{USER}$", DOCKERFILE, re.MULTILINE)


def test_the_process_gets_the_signal_to_stop() -> None:
    """Exec form: a shell as process 1 would keep SIGTERM to itself."""
    assert re.search(r'^ENTRYPOINT \["monitor-contact"\]$', DOCKERFILE, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", DOCKERFILE, re.MULTILINE)


def test_only_what_is_named_can_get_into_the_build() -> None:
    """The list begins by excluding everything."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert all(line.startswith(("!", "**/__pycache__")) for line in lines[1:])


def _run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def root(require_tool: Callable[[str, str], str]) -> Iterator[Path]:
    """The mounted root of the image, built from this checkout."""
    buildah = require_tool("buildah", "that the image builds, starts and answers")
    mmdebstrap = require_tool("mmdebstrap", "that the image builds, starts and answers")
    if os.geteuid() != 0:
        pytest.skip("building without a daemon needs root: the image stays unchecked")
    if not BASE_TAR.exists():
        BASE_TAR.parent.mkdir(exist_ok=True)
        made = BASE_TAR.with_suffix(".part.tar")
        _run(
            mmdebstrap,
            "--quiet",
            "--variant=minbase",
            "--include=python3,python3-venv,ca-certificates",
            "bookworm",
            made,
        )
        made.rename(BASE_TAR)
    base, image = "localhost/monitor-contact-base:test", "localhost/monitor-contact:test"
    container = _run(buildah, "from", "scratch")
    _run(buildah, "add", "-q", container, BASE_TAR, "/")
    # What pip needs on this machine, and on no other: its own CAs and settings.
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    if Path(certificates).exists():
        _run(buildah, "copy", "-q", container, certificates, certificates)
    for name, value in os.environ.items():
        if name in {"PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT"}:
            _run(buildah, "config", "--env", f"{name}={value}", container)
    _run(buildah, "commit", "-q", container, base)
    _run(buildah, "rm", container)
    revision = ("--build-arg", "REVISION=0123abc")
    _run(buildah, "bud", "-q", "--pull=never", "--build-arg", f"BASE={base}", *revision, "-t", image,
         "-f", ROOT / "deploy/Dockerfile", ROOT)  # fmt: skip
    running = _run(buildah, "from", "--pull=never", image)
    try:
        yield Path(_run(buildah, "mount", running))
    finally:
        _run(buildah, "rm", running)
        _run(buildah, "rmi", image, base)


@pytest.mark.slow
def test_nothing_but_the_service_is_inside(root: Path) -> None:
    """No pip, no build backend, no tests; every module is compiled, not to be checked against its source's time."""
    packages = next((root / PREFIX.lstrip("/") / "lib").glob("python3*")) / "site-packages"
    names = {path.name for path in packages.iterdir()}
    assert not names & {"pip", "setuptools", "wheel", "hatchling", "pytest", "ruff", "mypy", "monitor_contact_client"}
    assert not list((packages / "monitor_contact_service").rglob("test_*.py"))
    services = {path.name for path in (packages / "botocore" / "data").iterdir() if path.is_dir()}
    assert {"connect", "sts", "sso", "sso-oidc"} <= services
    assert len(services) < 10
    assert (packages / "monitor_contact_service" / "commit.txt").read_text("utf-8") == "0123abc\n"
    sources = list((packages / "monitor_contact_service").rglob("*.py"))
    assert sources
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00", source  # PEP 552: by hash, unchecked


@dataclass(frozen=True, slots=True)
class _Started:
    process: subprocess.Popen[str]
    health: str
    seconds: float


@contextmanager
def _serving(root: Path, folder: Path, url: str) -> Iterator[_Started]:
    """Yield the service of the image once it is SERVING: read-only root, its own user, one folder to write to."""
    health = f"127.0.0.1:{free_port()}"
    inside, state = folder / "root", folder / "state"
    inside.mkdir()
    state.mkdir()
    os.chown(state, USER, USER)
    variables = {
        "PATH": f"{PREFIX}/bin:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIDSIMULATOR",
        "AWS_SECRET_ACCESS_KEY": "simulator-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_CONNECT": url,
        "MONITOR_CONTACT_LISTEN": "127.0.0.1:0",
        "MONITOR_CONTACT_HEALTH_LISTEN": health,
        "MONITOR_CONTACT_AUDIT": "/mnt/audit.jsonl",
        "MONITOR_CONTACT_DRAIN_SECONDS": "0",
    }
    script = (
        f"mount --bind {root} {inside} && mount --bind {state} {inside}/mnt && mount -o remount,bind,ro {inside} && "
        f"exec chroot --userspec={USER}:{USER} {inside} /usr/bin/env -i "
        + " ".join(f"{name}={value}" for name, value in variables.items())
        + " monitor-contact serve"
    )
    began = time.monotonic()
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        with grpc.insecure_channel(health) as channel:
            grpc.channel_ready_future(channel).result(START_SECONDS)
            stub = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
            watch = stub.Watch(HealthCheckRequest(service="readiness"), timeout=START_SECONDS)
            next(answer for answer in watch if answer.status == HealthCheckResponse.SERVING)
            watch.cancel()
        yield _Started(process, health, time.monotonic() - began)
    finally:
        process.terminate()
        process.communicate()


def _status(process_id: int) -> dict[str, str]:
    lines = Path(f"/proc/{process_id}/status").read_text("utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.slow
async def test_it_serves_on_a_read_only_root(root: Path, simulator: Simulator, tmp_path: Path) -> None:
    """As a user of no name, with nothing to write to but the audit's volume; without a warning; soon, and small."""
    with _serving(root, tmp_path, simulator.url) as started:
        status = _status(started.process.pid)
        memory_mb = int(status["VmRSS"].split()[0]) / 1024
        assert set(status["Uid"].split()) == {str(USER)}
        started.process.terminate()
        _, said = started.process.communicate(timeout=30)
    assert started.process.returncode == 0
    assert '"level": "warning"' not in said.replace('":"', '": "')
    assert '"level": "error"' not in said.replace('":"', '": "')
    size_mb = _run("du", "-sm", root / PREFIX.lstrip("/")).split()[0]
    print(f"MEASURED: SERVING after {started.seconds:.2f} s, {memory_mb:.0f} MB, {size_mb} MB of files")  # noqa: T201
    assert started.seconds < START_MOST_SECONDS
    assert memory_mb < MEMORY_MOST_MB
