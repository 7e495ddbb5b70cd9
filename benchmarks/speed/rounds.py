"""Measures all contestants in short rounds, one after the other in each, so that all meet the same weather.

A machine is never quiet for long: each round also knows how much CPU time others used meanwhile, and what a contestant
took is compared with what bare boto3 took in the same round.
"""

import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import servers

# Calls of one measurement: a round lasts about two seconds.
SINGLE_CALLS = 200
LOAD_CALLS = {"path": 640, "ours": 640, "threads": 320, "aio": 320}
# Who calls one at a time, and which server.
SINGLE = {"client": "path", "older": "path", "stub": "path", "whole": "ours"}
WARM_UP_ROUNDS = 2
# Neighbours cost more than the time they take: they empty the caches. Up to this part of the machine is tolerated.
QUIET_SHARE = 0.05
QUIET_SAMPLE_SECONDS = 0.3

# gRPC's I/O engine before 1.80 in the caller as well; see docs/python-client.md.
OLDER_ENGINE: Mapping[str, str] = {"GRPC_EXPERIMENTS": "-event_engine_client"}

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """What a caller says of its calls; see callers.py."""

    calls: int
    seconds: float
    cpu_seconds: float
    median_seconds: float


class Caller:
    """A callers.py that makes calls when asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process_id = process.pid
        self._process = process

    def make(self, calls: int) -> Report:
        """Make that many calls.

        Raises:
            NotReadyError: the caller has ended; what it said is on stderr.
        """
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write(f"{calls}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the next line says what that means
        line = self._process.stdout.readline()
        if not line:
            raise servers.NotReadyError(f"{self._process.args!r} ended")
        return Report(**json.loads(line))


class Contest(ABC):
    """What is measured in rounds.

    Args:
        process_ids: of all that takes part; whatever else runs are others.
    """

    def __init__(self, process_ids: Collection[int]) -> None:
        self._process_ids = {os.getpid(), *process_ids}

    def round(self) -> Figures:
        """Measure each contestant once; `others` is the part of the machine that other processes took meanwhile."""
        with self.watching_others() as others:
            figures = self.measured()
        return {**figures, **others}

    @abstractmethod
    def measured(self) -> Figures:
        """Measure each contestant once."""

    @contextmanager
    def watching_others(self) -> Iterator[dict[str, float]]:
        """Yield what holds, after the body, the part of the machine that other processes took meanwhile: `others`."""
        found: dict[str, float] = {}
        started, before = time.monotonic(), servers.cpu_seconds_of_others(self._process_ids)
        yield found
        after = servers.cpu_seconds_of_others(self._process_ids)
        used = sum(seconds - before.get(process_id, 0.0) for process_id, seconds in after.items())
        found["others"] = used / (time.monotonic() - started) / (os.cpu_count() or 1)


class Contestants(Contest):
    """All running processes.

    Args:
        callers: the one that calls by itself (`boto3`), those of SINGLE, and one load generator for each server.
        server_ids: process id of each server.
        nginx_id: that of the stand-in for Connect.
    """

    def __init__(self, callers: Mapping[str, Caller], server_ids: Mapping[str, int], nginx_id: int) -> None:
        super().__init__({nginx_id, *server_ids.values(), *(caller.process_id for caller in callers.values())})
        self._callers = callers
        self._server_ids = server_ids

    def measured(self) -> Figures:
        """Measure each contestant once. Times are in microseconds, CPU time per call, rates in calls a second."""
        figures = self._bare()
        for name, server in SINGLE.items():
            figures |= self._single(name, server)
        for server in self._server_ids:
            figures |= self._loaded(server)
        return figures

    def _bare(self) -> dict[str, float]:
        report = self._callers["boto3"].make(SINGLE_CALLS)
        return {
            "boto3.cpu": report.cpu_seconds / report.calls * 1e6,
            "boto3.median": report.median_seconds * 1e6,
            "boto3.rate": report.calls / report.seconds,
        }

    def _single(self, caller: str, server: str) -> Figures:
        before = servers.cpu_seconds(self._server_ids[server])
        report = self._callers[caller].make(SINGLE_CALLS)
        used = servers.cpu_seconds(self._server_ids[server]) - before
        return {
            f"{caller}.median": report.median_seconds * 1e6,
            f"{caller}.cpu": report.cpu_seconds / report.calls * 1e6,
            f"{caller}.server_cpu": used / report.calls * 1e6,
        }

    def _loaded(self, server: str) -> Figures:
        before = servers.cpu_seconds(self._server_ids[server])
        report = self._callers[server].make(LOAD_CALLS[server])
        used = servers.cpu_seconds(self._server_ids[server]) - before
        return {
            f"{server}.cpu": used / report.calls * 1e6,
            f"{server}.rate": report.calls / report.seconds,
            f"{server}.generator": report.cpu_seconds / report.seconds,
        }


@contextmanager
def contestants(folder: Path) -> Iterator[Contestants]:
    """Start everything, and stop everything at the end."""
    with ExitStack() as stack:
        upstream, nginx_id = stack.enter_context(servers.nginx(folder))
        started = {
            "path": stack.enter_context(servers.unguarded_service(upstream, folder)),
            "ours": stack.enter_context(servers.our_service(upstream, folder)),
            "threads": stack.enter_context(servers.boto3_server("threads", upstream, folder)),
            "aio": stack.enter_context(servers.boto3_server("aio", upstream, folder)),
        }
        wanted = {"boto3": ("boto3", "")}
        wanted |= {
            name: ("stub" if name == "stub" else "client", started[server][0]) for name, server in SINGLE.items()
        }
        wanted |= {name: ("load", target) for name, (target, _) in started.items()}
        callers = {
            name: stack.enter_context(caller([kind, target], upstream, OLDER_ENGINE if name == "older" else {}))
            for name, (kind, target) in wanted.items()
        }
        yield Contestants(callers, {name: process_id for name, (_, process_id) in started.items()}, nginx_id)


@contextmanager
def caller(arguments: Sequence[str], upstream: str, variables: Mapping[str, str]) -> Iterator[Caller]:
    """Run a callers.py with these arguments, and with these variables in its environment."""
    command = [sys.executable, str(servers.HERE / "callers.py"), *arguments]
    environment = {**servers.aws_environment(upstream), **variables}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Caller(process)
    finally:
        servers.stop(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def measure(running: Contest, *, rounds: int, seconds: float) -> Sequence[Figures]:
    """Return that many quiet rounds; the quietest of those made if the time ends before there are enough.

    Args:
        running: what to measure.
        rounds: quiet rounds wanted.
        seconds: when to make no further round.
    """
    until = time.monotonic() + seconds
    for _ in range(WARM_UP_ROUNDS):
        running.round()
    made: list[Figures] = []
    quietest: Sequence[Figures] = ()
    while time.monotonic() < until or not made:
        _wait_for_quiet(running, until)
        made.append(running.round())
        quietest = sorted(made, key=lambda figures: figures["others"])[:rounds]
        if len(quietest) == rounds and quietest[-1]["others"] <= QUIET_SHARE:
            break
    return quietest


def _wait_for_quiet(running: Contest, until: float) -> None:
    """Return when nobody else works on this machine, or at `until`."""
    while time.monotonic() < until:
        with running.watching_others() as found:
            time.sleep(QUIET_SAMPLE_SECONDS)
        if found["others"] <= QUIET_SHARE:
            return
