"""Installs each wheel of dist/ into an empty environment and uses it there, with no source of this checkout in sight.

Usage: tools/check_wheels.py [DIST]. Versions of dependencies are those of requirements.lock; what a wheel forgets to
ask for is therefore missing. uv is used if the variable UV names it, else pip. Ends with 1 at the first fault.
"""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Imports every module of the package argv[1] but those that follow, from the environment alone, warnings being errors.
IMPORT_ALL = """
import importlib, pkgutil, sys
name, *left_out = sys.argv[1:]
package = importlib.import_module(name)
assert package.__file__.startswith(sys.prefix), package.__file__
for module in pkgutil.walk_packages(package.__path__, name + "."):
    if not module.name.endswith("__main__") and module.name not in left_out:
        importlib.import_module(module.name)
"""


@dataclass(frozen=True, slots=True)
class Wheel:
    """What one wheel is expected to hold and to do.

    Args:
        extra: installed after the rest was seen to work without it.
        extra_modules: those that need it.
    """

    distribution: str
    package: str
    files: Sequence[str]
    needs: Sequence[str] = ()
    commands: Sequence[Sequence[str]] = ()
    extra: str = ""
    extra_modules: Sequence[str] = ()


V1 = "monitor_contact/v1/monitor_contact"
WHEELS = (
    Wheel(
        "monitor_contact_proto",
        "monitor_contact",
        ("monitor_contact/py.typed", f"{V1}.proto", f"{V1}.binpb", f"{V1}_pb2.pyi", f"{V1}_pb2_grpc.pyi"),
    ),
    Wheel(
        "monitor_contact_client",
        "monitor_contact_client",
        ("monitor_contact_client/py.typed", "monitor_contact_client/_sync.py"),
        needs=("monitor_contact_proto",),
    ),
    Wheel(
        "monitor_contact_service",
        "monitor_contact_service",
        (
            "monitor_contact_service/py.typed",
            "monitor_contact_service/simulator/default_world.toml",
            "monitor_contact_service/policies/schema.cedarschema",
            "monitor_contact_service/policies/invariants.cedar",
            "monitor_contact_service/policies/demo.cedar",
            "monitor_contact_service/audit_schema.sql",
        ),
        needs=("monitor_contact_proto",),
        commands=(("monitor-contact", "--version"), ("monitor-contact", "simulate", "--print-world")),
        extra="redis,postgresql,opentelemetry",
        extra_modules=(
            "monitor_contact_service.redis_script",
            "monitor_contact_service.audit_database",
            "monitor_contact_service.audit_postgresql",
            "monitor_contact_service.opentelemetry_tracing",
        ),
    ),
)


class WheelError(Exception):
    """A wheel is not what it should be."""


def main(arguments: Sequence[str]) -> int:
    """Check every wheel; return the exit code."""
    dist = Path(arguments[0] if arguments else ROOT / "dist").resolve()
    try:
        for wheel in WHEELS:
            _check(wheel, dist)
            sys.stdout.write(f"{wheel.distribution}: installs alone, imports, holds what it should\n")
    except WheelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _check(wheel: Wheel, dist: Path) -> None:
    _check_files(wheel, _file(dist, wheel.distribution))
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        files = [str(_file(dist, name)) for name in (*wheel.needs, wheel.distribution)]
        _install(environment, files)
        _import(environment, wheel.package, *wheel.extra_modules)
        for name, *options in wheel.commands:
            _run(environment / "bin" / name, *options)
        if wheel.extra:
            _install(environment, [*files[:-1], f"{files[-1]}[{wheel.extra}]"])
            _import(environment, wheel.package)


def _import(environment: Path, *arguments: str) -> None:
    _run(environment / "bin" / "python", "-I", "-W", "error", "-c", IMPORT_ALL, *arguments)


def _file(dist: Path, distribution: str) -> Path:
    found = sorted(dist.glob(f"{distribution}-*.whl"))
    if len(found) != 1:
        raise WheelError(f"{len(found)} wheels of {distribution} in {dist}: run `make wheels`")
    return found[0]


def _check_files(wheel: Wheel, file: Path) -> None:
    names = set(zipfile.ZipFile(file).namelist())
    missing = sorted(set(wheel.files) - names)
    strange = sorted(name for name in names if not re.match(rf"{wheel.package}/|{wheel.distribution}-[^/]+/", name))
    if missing or strange:
        raise WheelError(f"{file.name}: missing {missing}, should not be there {strange}")


def _install(environment: Path, wheels: Sequence[str]) -> None:
    constraints = environment.with_name("constraints.txt")
    constraints.write_text("".join(f"{line}\n" for line in _locked_versions()), "utf-8")
    uv, python = os.environ.get("UV"), environment / "bin" / "python"
    if uv:
        _run(uv, "venv", "-q", "--allow-existing", "--python", sys.executable, environment)
        _run(uv, "pip", "install", "-q", "--python", python, "-c", constraints, *wheels)
    else:
        _run(sys.executable, "-m", "venv", environment)
        _run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", constraints, *wheels)


def _locked_versions() -> Iterator[str]:
    for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines():
        if "==" in line:
            yield line.removesuffix("\\").strip()


def _run(*command: str | Path) -> None:
    """Run outside the checkout, without the variables that could lead back into it."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=tempfile.gettempdir(),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise WheelError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
