"""Compares the service with a bare boto3 call and with gRPC servers over boto3: `run.py`, or `run.py --check`.

The call's path is the service without identity, policy, supervisor check and audit (`unguarded_server.py`): what boto3
does, too. The whole service is that with its defaults, two writes to the disk for each call included.

What is measured, and what the bars are, stands in docs/speed.md. Needs nginx, Linux and about a minute; ends by itself.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rounds import QUIET_SHARE, Figures, contestants, measure
from servers import NotReadyError

ROUNDS = 15
SECONDS = 120.0
PACKAGES = ("grpcio", "protobuf", "boto3", "httptools", "uvloop")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a figure of each round, and the one of bare boto3 that it is divided by."""

    title: str
    figure: str
    baseline: str


ROWS = (
    Row("bare boto3, one thread: CPU per call, µs", "boto3.cpu", "boto3.cpu"),
    Row("bare boto3, one thread: median, µs", "boto3.median", "boto3.median"),
    Row("bare boto3, one thread: calls/s", "boto3.rate", "boto3.rate"),
    Row("**the call's path, loaded: server CPU per call, µs**", "path.cpu", "boto3.cpu"),
    Row("the call's path, one call at a time: server CPU per call, µs", "stub.server_cpu", "boto3.cpu"),
    Row("**the call's path, shipped client, one call at a time: median, µs**", "client.median", "boto3.median"),
    Row("the call's path, gRPC's older engine in the caller too: median, µs", "older.median", "boto3.median"),
    Row("the call's path, plain stub, one call at a time: median, µs", "stub.median", "boto3.median"),
    Row("**the call's path, loaded, one process: calls/s**", "path.rate", "boto3.rate"),
    Row("the whole service, loaded: server CPU per call, µs", "ours.cpu", "boto3.cpu"),
    Row("the whole service, shipped client, one call at a time: median, µs", "whole.median", "boto3.median"),
    Row("the whole service, loaded, one process: calls/s", "ours.rate", "boto3.rate"),
    Row("sync gRPC server over boto3: server CPU per call, µs", "threads.cpu", "boto3.cpu"),
    Row("sync gRPC server over boto3: calls/s", "threads.rate", "boto3.rate"),
    Row("grpc.aio server over boto3 in threads: server CPU per call, µs", "aio.cpu", "boto3.cpu"),
    Row("grpc.aio server over boto3 in threads: calls/s", "aio.rate", "boto3.rate"),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold of the median over the rounds of `figure / baseline`."""

    title: str
    figure: str
    baseline: str
    limit: float
    at_least: bool = False

    def line(self, made: Sequence[Figures]) -> str:
        """Say what is wanted and what was found."""
        sign = "at least" if self.at_least else "at most"
        found = ratio(made, self.figure, self.baseline)
        return f"{'met   ' if self.met(made) else 'MISSED'}  {self.title}: {found:.2f}, wanted {sign} {self.limit}"

    def met(self, made: Sequence[Figures]) -> bool:
        """Tell whether it holds."""
        found = ratio(made, self.figure, self.baseline)
        return found >= self.limit if self.at_least else found <= self.limit


BARS = (
    Bar("the call's path: server CPU per call / bare boto3's", "path.cpu", "boto3.cpu", 0.8),
    Bar("the call's path: end-to-end median / bare boto3's", "client.median", "boto3.median", 1.1),
    Bar("the call's path: throughput / sync gRPC server's over boto3", "path.rate", "threads.rate", 2.5, at_least=True),
)


def main() -> int:
    """Measure, print the table, and return the exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the child processes are stopped then too
    try:
        with tempfile.TemporaryDirectory(prefix="monitor-contact-speed-") as folder, contestants(Path(folder)) as all_:
            made = measure(all_, rounds=arguments.rounds, seconds=arguments.seconds)
    except NotReadyError as error:
        sys.stderr.write(f"speed: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(made, indent=1))
    print(machine(made), *table(made), "", *(bar.line(made) for bar in BARS), sep="\n")
    missed = not all(bar.met(made) for bar in BARS)
    return 1 if arguments.check and missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how many, the quietest (default {ROUNDS})")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"no round after this (default {SECONDS:g})")
    parser.add_argument("--json", metavar="FILE", help="write the figures of each round too")
    return parser.parse_args()


def ratio(made: Sequence[Figures], figure: str, baseline: str) -> float:
    """Return the median over the rounds of one figure divided by another of the same round."""
    return statistics.median(figures[figure] / figures[baseline] for figures in made)


def table(made: Sequence[Figures]) -> list[str]:
    """Return the lines of a markdown table."""
    lines = ["| | min | median | max | / bare boto3 |", "|---|---:|---:|---:|---:|"]
    for row in ROWS:
        values = [figures[row.figure] for figures in made]
        cells = (min(values), statistics.median(values), max(values))
        numbers = " | ".join(f"{value:,.0f}" for value in cells)
        lines.append(f"| {row.title} | {numbers} | {ratio(made, row.figure, row.baseline):.2f} |")
    return lines


def machine(made: Sequence[Figures], generator_figure: str = "ours.generator") -> str:
    """Say on what it was measured, and how far to trust it."""
    others = [figures["others"] for figures in made]
    generator = statistics.median(figures[generator_figure] for figures in made)
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    weather = "quiet" if max(others) <= QUIET_SHARE else "NOT QUIET: the figures say little"
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"{packages}; {len(made)} rounds.\n"
        f"Other processes used {statistics.median(others):.0%} of the machine (at most {max(others):.0%}): {weather}. "
        f"The load generator used {generator:.0%} of one core.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
