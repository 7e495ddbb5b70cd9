"""Counts the instructions of a call in user space, under valgrind: a figure that no neighbour can change.

Not part of `make bench`: it needs valgrind and about four minutes. What a call costs is the difference between a run of
many calls and one of few, so that starting up does not count. Leaves out the kernel's part; good to about 3 %.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import servers

FEW, MANY = 96, 416
# Credentials and connections come after the port.
SETTLE_SECONDS = 5.0


def main() -> int:
    """Print a table."""
    with tempfile.TemporaryDirectory(prefix="monitor-contact-speed-") as name, servers.nginx(Path(name)) as (up, _):
        folder = Path(name)
        bare = _per_call(partial(_boto3, up, folder))
        print("| | million instructions per call | / bare boto3 |\n|---|---:|---:|")
        print(f"| bare boto3 | {bare / 1e6:.2f} | 1.00 |")
        for kind, title in (("ours", "service"), ("threads", "sync gRPC server over boto3")):
            count = _per_call(partial(_server, kind, up, folder))
            print(f"| {title} | {count / 1e6:.2f} | {count / bare:.2f} |")
    return 0


def _per_call(run: Callable[[int], int]) -> float:
    few = run(FEW)
    return (run(MANY) - few) / (MANY - FEW)


def _boto3(upstream: str, folder: Path, calls: int) -> int:
    prefix, log = _valgrind(folder)
    _call([*prefix, sys.executable], "boto3", "", upstream, calls)
    return _instructions(log)


def _server(kind: str, upstream: str, folder: Path, calls: int) -> int:
    prefix, log = _valgrind(folder)
    if kind == "ours":
        running = servers.our_service(upstream, folder, prefix)
    else:
        running = servers.boto3_server(kind, upstream, folder, prefix)
    with running as (target, _):
        time.sleep(SETTLE_SECONDS)
        _call([sys.executable], "load", target, upstream, calls)
    return _instructions(log)


def _call(python: Sequence[str], kind: str, target: str, upstream: str, calls: int) -> None:
    command = [*python, str(servers.HERE / "callers.py"), kind, target]
    environment = servers.aws_environment(upstream)
    subprocess.run(command, env=environment, input=f"{calls}\n".encode(), stdout=subprocess.DEVNULL, check=True)


def _valgrind(folder: Path) -> tuple[Sequence[str], Path]:
    log = folder / "valgrind.log"
    tool = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", f"--log-file={log}")
    # The same order of dicts and sets in every run.
    return ("env", "PYTHONHASHSEED=0", *tool), log


def _instructions(log: Path) -> int:
    found = re.search(r"I\s+refs:\s+([\d,]+)", log.read_text())
    if found is None:
        raise servers.NotReadyError(log.read_text())
    return int(found[1].replace(",", ""))


if __name__ == "__main__":
    sys.exit(main())
