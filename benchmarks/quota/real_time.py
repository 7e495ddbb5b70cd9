"""Herd and hog in real time: real boto3 clients, and the service with its own client, against the simulator over HTTP.

Every contestant has a simulator of its own, with a full bucket. A success takes as long as in virtual time, a 429 only
some milliseconds: so adaptive mode learns of it sooner, and fewer of its first calls are refused.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import real_clients
from arrivals import HOG
from contest import SERVICE

HERE = Path(__file__).parent
HOST = "127.0.0.1"
# As `upstream` models it: 150 ms of work, and the way there and back.
SUCCESS_SECONDS = 0.21
START_SECONDS = 60.0
STOP_SECONDS = 10.0
# They mostly wait, so several at once disturb each other little.
AT_ONCE = 3
SCENARIOS = ("herd", "hog")
CONTESTANTS = (*real_clients.MODES, SERVICE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a scenario in real time. Seconds are None where no call says any.

    Args:
        calls: made by those who are counted: everybody in the herd, the light callers beside the hog.
        succeeded: how many of them within their deadline.
        attempts: that reached Connect, everybody's.
        refused: attempts that were answered by a 429.
        median_seconds: of the successes of those who are counted.
        last_seconds: when the last of them succeeded.
        refusal_seconds: median time until a call failed, everybody's.
    """

    scenario: str
    contestant: str
    calls: int
    succeeded: int
    attempts: int
    refused: int
    median_seconds: float | None
    last_seconds: float | None
    refusal_seconds: float | None


def play_all() -> Sequence[Outcome]:
    """Play all contestants in both scenarios; takes minutes."""
    wanted = [(scenario, contestant) for scenario in SCENARIOS for contestant in CONTESTANTS]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda pair: play(*pair), wanted))


def play(scenario: str, contestant: str) -> Outcome:
    """Play one contestant in one scenario.

    Raises:
        RuntimeError: a process did not start or ended early; its output says why.
    """
    with ExitStack() as stack:
        upstream = stack.enter_context(_simulator())
        target = stack.enter_context(_service(scenario, upstream)) if contestant == SERVICE else ""
        command = [sys.executable, str(HERE / "real_clients.py"), scenario, contestant, target]
        said = subprocess.run(command, env=_environment(upstream), check=True, stdout=subprocess.PIPE).stdout
        state = _control(upstream, "GET", "state")
    return _outcome(scenario, contestant, json.loads(said), state)


def _outcome(scenario: str, contestant: str, rows: Sequence[Sequence[Any]], state: Mapping[str, Any]) -> Outcome:
    calls = list(zip(rows, real_clients.calls_of(scenario), strict=True))
    counted = [(row, call) for row, call in calls if call.caller != HOG]
    waits = sorted(
        seconds for (_, succeeded, seconds), call in counted if succeeded and seconds <= call.deadline_seconds
    )
    failed = sorted(seconds for (_, succeeded, seconds), _ in calls if succeeded is False)
    attempts, sessions = state["calls"]["MonitorContact"], len(state["sessions"])
    return Outcome(
        scenario,
        contestant,
        len(counted),
        len(waits),
        attempts,
        attempts - sessions,
        _median(waits),
        waits[-1] if waits else None,
        _median(failed),
    )


def _median(ordered: Sequence[float]) -> float | None:
    return ordered[len(ordered) // 2] if ordered else None


@contextmanager
def _simulator() -> Iterator[str]:
    port = _free_port()
    url = f"http://{HOST}:{port}"
    with _running("-m", "monitor_contact_service", "simulate", "--listen", f"{HOST}:{port}", port=port):
        _control(url, "PUT", "switches", {"hard_limits": False, "latency_seconds": SUCCESS_SECONDS})
        yield url


@contextmanager
def _service(scenario: str, upstream: str) -> Iterator[str]:
    """Run `monitor-contact serve` for the herd; for the hog, the server that knows its callers."""
    port = _free_port()
    address = f"{HOST}:{port}"
    identified = [str(HERE / "identified_server.py"), address]
    command = identified if scenario == "hog" else ["-m", "monitor_contact_service", "serve"]
    # On loopback all callers of `serve` are one, and this one may have more waiting than a single caller should.
    ours = {
        "MONITOR_CONTACT_LISTEN": address,
        "MONITOR_CONTACT_DRAIN_SECONDS": "0",
        "MONITOR_CONTACT_QUEUE_PER_CALLER": "256" if scenario == "herd" else "64",
    }
    with _running(*command, port=port, environment={**_environment(upstream), **ours}):
        yield address


@contextmanager
def _running(*command: str, port: int, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, *command], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(upstream: str) -> Mapping[str, str]:
    """Return the environment in which every contestant calls `upstream` with the simulator's credentials."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MONITOR_CONTACT_"))}
    return inherited | {
        "AWS_ACCESS_KEY_ID": "AKIDSIMULATOR",
        "AWS_SECRET_ACCESS_KEY": "simulator-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL_CONNECT": upstream,
    }


def _control(url: str, method: str, name: str, document: object = None) -> Mapping[str, Any]:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"{url}/_simulator/{name}", data=body, method=method)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:  # noqa: S310 - loopback
        state: Mapping[str, Any] = json.load(answer)
        return state
