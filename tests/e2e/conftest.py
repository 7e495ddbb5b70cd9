"""What the tests of running processes measure is told at the end of the run."""

import signal
from collections.abc import Callable, Iterator

import pytest

_measured: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def hear_interrupts() -> Iterator[None]:
    """A shell lets its background jobs ignore SIGINT, and children inherit that: the tests may run in one."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that takes one measured value for the summary of the run."""

    def note(value: str) -> None:
        _measured.append(f"{request.node.name}: {value}")

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was measured."""
    for line in _measured:
        terminalreporter.write_line(f"MEASURED: {line}")
