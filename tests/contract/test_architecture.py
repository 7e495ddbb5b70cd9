"""Rules of the design that no type checker sees: a pure core, steps side by side, one reader of the environment."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "service" / "src" / "monitor_contact_service"
TESTS = ROOT / "tests"
CORE_MODULES = sorted(
    ".".join(path.relative_to(SERVICE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in SERVICE.glob("core/**/*.py")
)
SHELL_MODULES = sorted(path.stem for path in SERVICE.glob("*.py") if path.stem not in {"__init__", "__main__"})

# Which library the pure core may not load, not even through another module.
IMPURE = ("grpc", "asyncio", "boto3", "botocore", "aiohttp", "httptools")

# The steps of `handler` (with the queue of the fifth and the transport of the sixth), and who may import whom.
STEPS = {
    "authentication",
    "authorization",
    "supervisors",
    "audit",
    "idempotency",
    "admission",
    "turns",
    "attempts",
    "connect",
}
MAY_IMPORT = {("admission", "turns"), ("attempts", "connect"), ("supervisors", "connect")}

# Who may touch the environment. AWS's own variables are read by boto3; `engine` sets a default for gRPC.
READS_ENVIRONMENT = {"environment.py", "aws.py", "endpoint.py", "engine.py"}

# Who may know that there is a simulator: those who offer `monitor-contact simulate`.
KNOWS_SIMULATOR = {"simulate_command.py", "cli.py"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every imported name in full; relative ones begin with their dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield source
            yield from (f"{source.rstrip('.')}.{alias.name}" for alias in node.names)


def parsed(*folders: Path) -> Iterator[tuple[Path, ast.AST]]:
    """Yield every Python file below the folders with its syntax tree."""
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            yield path, ast.parse(path.read_text("utf-8"), path)


def own_imports(tree: ast.AST) -> set[str]:
    """Return the modules of the service's top folder that a module in that folder imports."""
    names = (name.removeprefix("monitor_contact_service").removeprefix(".") for name in imports(tree))
    return {name.split(".")[0] for name in names}


def test_the_core_loads_nothing_that_does_io() -> None:
    """Importing every core module loads no event loop, no gRPC, no AWS, no HTTP, and no module of the shell."""
    program = f"""
import importlib, sys
for module in {CORE_MODULES!r}:
    importlib.import_module(module)
    impure = [name for name in sys.modules if name in {IMPURE!r}]
    shell = [name for name in sys.modules if name.startswith("monitor_contact_service.")
             and not name.startswith("monitor_contact_service.core")]
    if impure or shell:
        sys.exit(f"{{module}} loads {{impure + shell}}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert CORE_MODULES
    assert done.returncode == 0, done.stderr


def findings(code: str, filename: Path) -> str:
    """Return what ruff says of banned imports in `code` if it stood in `filename`."""
    command = ["-m", "ruff", "check", "--select=TID251", "--output-format=concise", f"--stdin-filename={filename}", "-"]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, input=code, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("module", [*IMPURE, "os", "time", "random", "logging"])
@pytest.mark.parametrize("form", ["import {}", "import {} as other", "from {} import something"])
def test_ruff_refuses_an_impure_import_in_the_core_only(module: str, form: str) -> None:
    """The rule is on in core/ and off in the shell: a second negated pattern would switch it off everywhere."""
    code = form.format(module) + "\n"

    assert "TID251" in findings(code, SERVICE / "core" / "retry.py")
    assert "TID251" not in findings(code, SERVICE / "attempts.py")


def test_the_core_imports_nothing_of_the_shell() -> None:
    """Not even inside a function or for type checkers, where the subprocess above would not see it."""
    shell = {f"..{module}" for module in SHELL_MODULES} | {f"monitor_contact_service.{name}" for name in SHELL_MODULES}

    for path, tree in parsed(SERVICE / "core"):
        assert not shell & set(imports(tree)), path


def test_steps_do_not_import_each_other() -> None:
    """The handler calls every step: a star, not a chain. Only the attempts know the transport."""
    for path, tree in parsed(SERVICE):
        if path.parent != SERVICE or path.stem not in STEPS:
            continue
        others = {(path.stem, name) for name in own_imports(tree) & STEPS - {path.stem}}
        assert others <= MAY_IMPORT, path


def test_nothing_in_the_request_path_knows_the_simulator() -> None:
    """The stand-in for Connect can be deleted without touching the service."""
    for path, tree in parsed(SERVICE):
        if path.parent == SERVICE and path.name not in KNOWS_SIMULATOR:
            assert "simulator" not in own_imports(tree), path


def _reads_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb"}
    if isinstance(node, ast.Attribute):
        return node.attr in names and isinstance(node.value, ast.Name) and node.value.id == "os"
    return isinstance(node, ast.ImportFrom) and node.module == "os" and any(name.name in names for name in node.names)


def test_the_environment_is_read_in_one_place() -> None:
    """Everybody else gets the frozen `Settings`."""
    for path, tree in parsed(SERVICE):
        if str(path.relative_to(SERVICE)) not in READS_ENVIRONMENT:
            lines = [getattr(node, "lineno", 0) for node in ast.walk(tree) if _reads_environment(node)]
            assert not lines, f"{path} reads the environment in lines {lines}"


def test_tests_use_no_mock_library() -> None:
    """Hand-written fakes behave; mocks agree with whatever they are told."""
    for path, tree in parsed(TESTS):
        used = {name.split(".")[0] for name in imports(tree)} & {"mock", "pytest_mock", "unittest"}
        assert not used, path


def _sleeps(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield calls of time.sleep, and of asyncio.sleep with a constant other than zero."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        delay = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if called == "time.sleep" or (called in {"asyncio.sleep", "sleep"} and delay):
            yield node


def test_tests_do_not_wait_by_the_clock() -> None:
    """A test waits for an event, never for a time; a time that is the subject is marked `# not a wait: reason`."""
    waits = []
    for path, tree in parsed(TESTS):
        lines = path.read_text("utf-8").splitlines()
        for call in _sleeps(tree):
            text = " ".join(lines[call.lineno - 1 : call.end_lineno])
            if "# not a wait: " not in text:
                waits.append(f"{path.relative_to(ROOT)}:{call.lineno}: {text.strip()}")

    assert not waits, "\n".join(waits)
