"""Builds the image without a daemon, and runs it the way a pod does: read-only root, numeric user, its own environment.

The base is made of Debian's packages and brought into the state of the official Python images.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.manifests import ROOT
from e2e.processes import Ended, Running, run, started

DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
REVISION: Final = "0123abc"
# In the image: a folder that is there in every Debian, for the volume of the audit.
VOLUME: Final = "/mnt"
# Made once for all runs of this checkout: it takes most of a minute.
_BASE_TAR: Final = ROOT / ".tools" / "image-base.tar"
_BASE, _IMAGE = "localhost/monitor-contact-base:test", "localhost/monitor-contact:test"
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
# What this machine's pip needs to reach its index, as variables and, in lower case, as lines of a configuration file.
_PIP_OPTIONS: Final = ("CERT", "INDEX_URL", "EXTRA_INDEX_URL", "TRUSTED_HOST", "DEFAULT_TIMEOUT")
# As python:slim: pip in /usr/local, which comes first on PATH, and no bytecode of the standard library.
_LIKE_OFFICIAL: Final = "python3 -m venv /usr/local && find /usr/lib/python3* -name __pycache__ -prune -exec rm -r {} +"


@dataclass(frozen=True, slots=True)
class Image:
    """What was built: its files, and the configuration that a container runtime reads."""

    root: Path
    config: Mapping[str, Any]

    @property
    def prefix(self) -> Path:
        """The service's virtual environment."""
        return self.root / "opt" / "monitor-contact"

    @property
    def packages(self) -> Path:
        """Where the service and all that it imports are installed."""
        (packages,) = self.prefix.glob("lib/python3*/site-packages")
        return packages

    @property
    def standard_library(self) -> Path:
        """The modules that come with Python."""
        (library,) = self.root.glob("usr/lib/python3.*")
        return library

    @asynccontextmanager
    async def serving(self, folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Running]:
        """Yield what the image starts by itself. `folder` is empty, to hang the root in."""
        arguments = self._arguments(folder, " ".join([*self.config["Entrypoint"], *self.config["Cmd"]]))
        async with started(*arguments, environment=self._with(environment), program="unshare") as running:
            yield running

    async def python(self, folder: Path, code: Path) -> Ended:
        """Run a file of Python code with the image's interpreter. `folder` is empty, to hang the root in."""
        arguments = self._arguments(folder, "python -", code)
        return await run(*arguments, environment=self._with({}), program="unshare")

    def _with(self, environment: Mapping[str, str]) -> dict[str, str]:
        return {**dict(variable.split("=", 1) for variable in self.config["Env"]), **environment}

    def _arguments(self, folder: Path, command: str, standard_input: Path = Path(os.devnull)) -> tuple[str, ...]:
        """Return the arguments of unshare that become the command, with its process id, in mounts of its own."""
        writable = f"mount -t tmpfs -o size=16m,mode=0700,uid={self.user} tmpfs {folder}"
        steps = (
            f"mount --bind {self.root} {folder}",
            f"mount --bind /dev {folder}/dev",
            f"mount -t proc proc {folder}/proc",
            f"{writable}/tmp",  # noqa: S108 - the pod's own
            f"{writable}{VOLUME}",
            f"mount -o remount,bind,ro {folder}",
            f"exec chroot --userspec={self.config['User']} {folder} {command} <{standard_input}",
        )
        return ("--mount", "sh", "-c", " && ".join(steps))

    @property
    def user(self) -> int:
        """The number of the user that the image names."""
        return int(self.config["User"].partition(":")[0])


@contextmanager
def built(buildah: str, mmdebstrap: str) -> Iterator[Image]:
    """Build the image of this checkout and yield it mounted. Needs root."""
    if not _BASE_TAR.exists():
        _make_base_tar(mmdebstrap)
    with tempfile.TemporaryDirectory(prefix="monitor-contact-image-") as folder:
        store = _Store(buildah, Path(folder))
        store.make_base()
        store.build()
        yield store.mounted()


def _make_base_tar(mmdebstrap: str) -> None:
    _BASE_TAR.parent.mkdir(exist_ok=True)
    made = _BASE_TAR.with_suffix(f".{os.getpid()}.tar")
    packages = "--include=python3,python3-venv,ca-certificates"
    _run(mmdebstrap, "--quiet", "--variant=minbase", packages, "bookworm", made)
    made.rename(_BASE_TAR)


class _Store:
    """Images and containers in a folder of their own: no other build sees them, and nothing is left of them."""

    def __init__(self, buildah: str, folder: Path) -> None:
        self._folder = folder
        # vfs: plain folders instead of mounts that somebody would have to take away again.
        self._buildah = (buildah, "--storage-driver=vfs", f"--root={folder}/root", f"--runroot={folder}/run")

    def make_base(self) -> None:
        """Make the base. What only this machine needs stands in its pip.conf, which no image inherits as a variable."""
        container = self._do("from", "scratch")
        self._do("add", "-q", container, _BASE_TAR, "/")
        pip_configuration = self._folder / "pip.conf"
        pip_configuration.write_text(_pip_configuration(), "utf-8")
        self._do("copy", "-q", container, pip_configuration, "/etc/pip.conf")
        if _CERTIFICATES.exists():
            self._do("copy", "-q", container, _CERTIFICATES, _CERTIFICATES)
        self._do("run", container, "--", "sh", "-c", _LIKE_OFFICIAL)
        self._do("commit", "-q", "--rm", container, _BASE)

    def build(self) -> None:
        """Build the image on the base."""
        arguments = (f"--build-arg=BASE={_BASE}", f"--build-arg=REVISION={REVISION}")
        self._do("bud", "-q", "--pull=never", *arguments, "-t", _IMAGE, "-f", DOCKERFILE, ROOT)

    def mounted(self) -> Image:
        """Return the image, with its files where they can be read."""
        container = self._do("from", "--pull=never", _IMAGE)
        inspected = json.loads(self._do("inspect", container))
        return Image(Path(self._do("mount", container)), inspected["OCIv1"]["config"])

    def _do(self, *arguments: str | Path) -> str:
        return _run(*self._buildah, *arguments)


def _pip_configuration() -> str:
    variables = ((option.lower().replace("_", "-"), os.environ.get(f"PIP_{option}")) for option in _PIP_OPTIONS)
    return "\n".join(["[global]", *(f"{option} = {value}" for option, value in variables if value), ""])


def _run(*command: str | Path) -> str:
    """Run a command to its end, and return what it said."""
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()
