"""The Python blocks of the guide and of the README run as they stand, against a real server."""

import re
import subprocess
import sys
from pathlib import Path

import monitor_contact_client
import pytest

from client.scripted_server import serving

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "python-client.md"
README = ROOT / "clients" / "python" / "README.md"
BLOCKS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in (GUIDE, README)
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL), 1)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_block_runs(block: str) -> None:
    """Each block is a whole program; only the port is another."""
    with serving() as server:
        program = block.replace("localhost:50051", server.target)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stderr


def test_guide_names_every_exception_and_stays_short() -> None:
    """A class that the guide does not name is a class that nobody finds."""
    text = GUIDE.read_text("utf-8")
    exceptions = [name for name in monitor_contact_client.__all__ if _is_error(name)]
    assert [name for name in exceptions if f"`{name}`" not in text] == []
    assert len(text.splitlines()) <= 120
    assert len(README.read_text("utf-8").splitlines()) <= 40


def _is_error(name: str) -> bool:
    value = getattr(monitor_contact_client, name)
    return isinstance(value, type) and issubclass(value, monitor_contact_client.MonitorContactError)
