"""Fixtures for all tests, and the loud word about tools that are not on this machine."""

from monitor_contact_service import engine  # noqa: F401 - before anything of gRPC: as the service's own process

# isort: split

import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from harness import Service, connect_to, serving
from monitor_contact_service.simulator import UNLIMITED, Simulator

_ROOT = Path(__file__).resolve().parent.parent
_absent: dict[str, str] = {}


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str, str], str]:
    """Return a function: the path of a tool, or a skip that says what stays unchecked.

    Tools named in the variable REQUIRE_TOOLS (comma-separated; set in CI) fail the test instead.
    """
    required = os.environ.get("REQUIRE_TOOLS", "").split(",")
    path = os.pathsep.join([str(_ROOT / ".tools" / "bin"), os.environ.get("PATH", ""), "/usr/sbin"])

    def find(tool: str, unchecked: str) -> str:
        found = shutil.which(tool, path=path)
        if found:
            return found
        if tool in required:
            pytest.fail(f"{tool} is required here (REQUIRE_TOOLS) and not installed")
        _absent[tool] = unchecked
        pytest.skip(f"{tool} is not installed: {unchecked} stays unchecked")

    return find


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeat, where nobody can miss it, what was not checked."""
    for tool, unchecked in _absent.items():
        terminalreporter.write_line(f"NOT CHECKED: {unchecked} (install {tool})", yellow=True, bold=True)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A simulator with the default world and without its quota."""
    async with Simulator() as running:
        running.set_quota("MonitorContact", UNLIMITED)
        yield running


@pytest.fixture
async def service(simulator: Simulator) -> AsyncIterator[Service]:
    """The service in this process in front of `simulator`."""
    async with connect_to(simulator.url) as connect, serving(connect) as running:
        yield running
