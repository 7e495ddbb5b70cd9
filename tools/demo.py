"""`make demo` and `make run`: the real path on one machine, with the simulator in Amazon Connect's place.

Starts `monitor-contact simulate` and `monitor-contact serve`, then either makes a few calls with the Python client and
ends (`make demo`), or prints how to call and stays until Ctrl-C (`make run`).
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from monitor_contact_client import Capability, MonitorContactClient, MonitorContactError

# Ids of the simulator's default world; `monitor-contact simulate --print-world` shows all of it.
INSTANCE = "10000000-0000-4000-8000-000000000001"
UNLINKED_INSTANCE = "10000000-0000-4000-8000-000000000003"
CALL, CHAT, TASK, ENDED = (f"20000000-0000-4000-8000-{number:012x}" for number in (1, 2, 4, 6))
UNLINKED_CALL = "20000000-0000-4000-8000-00000000000c"
SUE, SAM, LEE, NORA, OSCAR, UNA = (f"30000000-0000-4000-8000-{number:012x}" for number in (1, 3, 4, 5, 6, 15))
ONE_ACTION = "sue-listens-1"
LISTEN, LISTEN_AND_BARGE = (Capability.SILENT_MONITOR,), (Capability.SILENT_MONITOR, Capability.BARGE)
START_SECONDS = 30.0
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scene:
    """One call of the demonstration, or several at the same moment, and what is made to go wrong before."""

    title: str
    contact_id: str
    user_id: str
    instance_id: str = INSTANCE
    capabilities: Sequence[Capability] = LISTEN
    client_token: str | None = None
    timeout_seconds: float = 10.0
    faults: Sequence[Json] = field(default_factory=tuple)
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, and after how many seconds."""

    lines: Sequence[str]
    started: bool
    seconds: float


SCENES = (
    Scene("Supervisor sue may listen to a call, and may barge in: her permissions are read once, then remembered", CALL,
          SUE, capabilities=LISTEN_AND_BARGE, client_token=ONE_ACTION),
    Scene("The same once more with the same client_token: the same session, answered from memory", CALL, SUE,
          capabilities=LISTEN_AND_BARGE, client_token=ONE_ACTION),
    Scene("Eight at the same moment; Connect allows 2 a second, so the service spreads them: none is throttled", CALL,
          SUE, calls=8),
    Scene("Connect throttles, fails, and drops the connection; the service repeats with one ClientToken", CALL, SAM,
          faults=({"action": "error", "error": "ThrottlingException", "times": 1},
                  {"action": "error", "error": "InternalServiceException", "times": 1},
                  {"action": "reset", "times": 1})),
    Scene("A request that breaks the contract: every violation at once, nothing is sent", CALL, "..",
          capabilities=(Capability.BARGE,)),
    Scene("A contact that does not exist", "20000000-0000-4000-8000-0000000000ff", SUE),
    Scene("A contact that is over", ENDED, SAM),
    Scene("A task: not a channel to listen to", TASK, SAM),
    Scene("A supervisor who is offline", CALL, OSCAR),
    Scene("An agent without any monitoring permission, whom Connect would let listen: nothing is sent", CALL, NORA),
    Scene("A supervisor who may listen, and asks for barge", CALL, LEE, capabilities=LISTEN_AND_BARGE),
    Scene("Connect says that the supervisor's security profile lacks the permission", CHAT, SAM,
          faults=({"action": "error", "error": "AccessDeniedException", "times": 1},)),
    Scene("An instance without its service-linked role", UNLINKED_CALL, UNA, instance_id=UNLINKED_INSTANCE),
    Scene("Connect throttles for longer than the caller wants to wait", CHAT, SAM, timeout_seconds=1.0,
          faults=({"action": "error", "error": "ThrottlingException"},)),
    Scene("A caller that gives 50 ms", CHAT, SAM, timeout_seconds=0.05),
)  # fmt: skip


def main() -> int:
    """Run the demonstration, or stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stay", action="store_true", help="leave simulator and service running until Ctrl-C")
    parser.add_argument("--connect", metavar="HOST:PORT", help="of the simulator (default: a free port, --stay: 4570)")
    parser.add_argument("--listen", metavar="HOST:PORT", help="of the service (default: a free port, --stay: 50051)")
    chosen = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the child processes are stopped then too
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)
    connect = chosen.connect or f"127.0.0.1:{4570 if chosen.stay else 0}"
    listen = chosen.listen or f"127.0.0.1:{50051 if chosen.stay else 0}"
    with TemporaryDirectory(prefix="monitor-contact-demo-") as folder:
        audit = Path(folder) / "audit.jsonl"
        with (
            _simulator(connect) as (simulator, aws),
            _service(listen, aws, audit, echo=chosen.stay) as (service, target),
        ):
            if chosen.stay:
                with suppress(KeyboardInterrupt):
                    _invite(target, aws["AWS_ENDPOINT_URL_CONNECT"], audit)
                    _stay(simulator, service)
                return 0
            _play(target, aws["AWS_ENDPOINT_URL_CONNECT"])
        _show_audit(audit)
    _say("Leave it running and call it yourself: make run")
    return 0


def _play(target: str, connect: str) -> None:
    _say(f"A simulated Amazon Connect runs at {connect}, the service at {target}.\n")
    with MonitorContactClient(target) as client:
        started = sum(_perform(number, scene, client, connect) for number, scene in enumerate(SCENES, 1))
    refused = sum(scene.calls for scene in SCENES) - started
    _say(f"{started} calls put a supervisor into monitoring, {refused} were refused with a reason.")
    _say("From the first 429 on the service was slower for a while: others may use the same quota.")


def _show_audit(audit: Path) -> None:
    """Print what the record of the demonstration holds, and have the command verify it."""
    stages = Counter(json.loads(line)["stage"] for line in audit.read_text().splitlines())
    told = ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items()))
    _say(f"\nEach call was written down before and after: {told}. monitor-contact audit verify says:")
    command = [sys.executable, "-m", "monitor_contact_service", "audit", "verify", str(audit)]
    _say(subprocess.run(command, env=_environment({}), capture_output=True, text=True, check=True).stdout)


def _perform(number: int, scene: Scene, client: MonitorContactClient, connect: str) -> int:
    """Make the calls of a scene, print what happened, and return how many have started monitoring."""
    _control(connect, "PUT", "faults", list(scene.faults))
    # Eight at once need more supervisors than the small simulated world has: here one may listen more than once.
    _control(connect, "PUT", "switches", {"hard_limits": scene.calls == 1})
    before = _attempts(connect)
    with ThreadPoolExecutor(scene.calls) as threads:
        outcomes = list(threads.map(lambda _: _call(scene, client), range(scene.calls)))
    attempts = _attempts(connect) - before
    _say(f"{number:2}. {scene.title}")
    for line in (
        *_told(outcomes),
        f"calls to Connect: {attempts}; {max(outcome.seconds for outcome in outcomes) * 1000:.0f} ms",
    ):
        _say(f"      {line}")
    _say("")
    if scene.calls > 1:
        _control(connect, "POST", "reset")
    return sum(outcome.started for outcome in outcomes)


def _call(scene: Scene, client: MonitorContactClient) -> Outcome:
    begun = time.monotonic()
    try:
        session = client.monitor_contact(
            instance_id=scene.instance_id,
            contact_id=scene.contact_id,
            user_id=scene.user_id,
            capabilities=scene.capabilities,
            client_token=scene.client_token,
            timeout_seconds=scene.timeout_seconds,
        )
    except MonitorContactError as error:
        return Outcome(_refusal(error), started=False, seconds=time.monotonic() - begun)
    lines = [f"OK: monitoring has started as contact {session.contact_id}"]
    return Outcome(lines, started=True, seconds=time.monotonic() - begun)


def _told(outcomes: Sequence[Outcome]) -> Sequence[str]:
    """Return what to say: all about a single call; of several, when each was answered, and who was refused."""
    if len(outcomes) == 1:
        return outcomes[0].lines
    seconds = ", ".join(f"{outcome.seconds:.1f}" for outcome in sorted(outcomes, key=lambda each: each.seconds))
    refused = [line for outcome in outcomes if not outcome.started for line in outcome.lines]
    return [f"{sum(outcome.started for outcome in outcomes)} OK, answered after {seconds} s", *refused]


def _refusal(error: MonitorContactError) -> list[str]:
    family = type(error).__mro__[1].__name__
    lines = [f"{error.reason_text} ({error.code.name}): {error.message}"]
    lines += [f"  {violation.field}: {violation.description}" for violation in error.violations]
    wait = "" if error.retry_after is None else f", repeat after {error.retry_after:.1f} s"
    return [*lines, f"in Python: {type(error).__name__}, of the family {family}{wait}"]


def _invite(target: str, connect: str, audit: Path) -> None:
    """Print what can be pasted into another shell, unindented, because Python's lines are refused otherwise."""
    # Every paste shall start monitoring: by Connect's own limits sue would listen to one call at a time.
    _control(connect, "PUT", "switches", {"hard_limits": False})
    request = json.dumps({"instance_id": INSTANCE, "contact_id": CALL, "user_id": SUE})
    _say(
        f"""\
The service runs at {target}, a simulated Amazon Connect behind it at {connect}.
Below this text you see the service's log. Paste any of these into another shell in this folder; Ctrl-C ends both.

# With this project's own command:
.venv/bin/monitor-contact call --target {target} --instance-id {INSTANCE} --contact-id {CALL} --user-id {SUE}
.venv/bin/monitor-contact health {target}

# With grpcurl:
grpcurl -plaintext {target} describe monitor_contact.v1.MonitorContactService
grpcurl -plaintext -d '{request}' \\
  {target} monitor_contact.v1.MonitorContactService/MonitorContact

# With Python, in .venv/bin/python:
from monitor_contact_client import MonitorContactClient
with MonitorContactClient("{target}") as client:
    print(client.monitor_contact(
        instance_id="{INSTANCE}",
        contact_id="{CALL}",
        user_id="{SUE}",
    ))

# What was recorded; the end of the file is room for more, filled with NUL:
tr -d '\\0' < {audit}
.venv/bin/monitor-contact audit verify {audit}
"""
    )


def _stay(*children: "_Child") -> None:
    """Do nothing until Ctrl-C; a child that ends by itself ends this process too."""
    while True:
        for child in children:
            if child.has_ended:
                child.give_up()
        time.sleep(0.2)


class _Child:
    """One of the project's commands in a process of its own, read from all the time: a full pipe would stop it."""

    def __init__(self, arguments: Sequence[str], process: subprocess.Popen[str], *, echo: bool) -> None:
        self._name = f"monitor-contact {arguments[0]}"
        self._process = process
        self._stream: Iterable[str] = process.stdout or process.stderr or ()
        self._echo = echo
        self._last: deque[str] = deque(maxlen=20)
        self._reader = Thread(target=lambda: deque(self._read(), maxlen=0), daemon=True)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def starting(self) -> Iterator[str]:
        """Yield its lines for as long as the caller wants to see them; if it ends instead, give up."""
        yield from self._read()
        self.give_up()

    def started(self) -> None:
        """Go on reading, unseen by anybody unless `echo`."""
        self._reader.start()

    def give_up(self) -> None:
        """End this process with a sentence, and with what the child said last unless that was seen already."""
        exit_code = self._process.wait()
        if self._reader.ident is not None:
            self._reader.join()
        said = "" if self._echo else "".join(f"\n  {line}" for line in self._last)
        sys.exit(f"{self._name} ended by itself, with exit code {exit_code}{said and '; it said last:'}{said}")

    def stop(self) -> None:
        """End the process and wait for its end."""
        self._process.terminate()
        self._process.wait()

    def _read(self) -> Iterator[str]:
        for line in self._stream:
            self._last.append(line.rstrip())
            if self._echo:
                with suppress(OSError):  # a closed terminal
                    sys.stderr.write(line)
                    sys.stderr.flush()
            yield line.rstrip()


@contextmanager
def _simulator(listen: str) -> Iterator[tuple[_Child, Mapping[str, str]]]:
    """Yield a running simulator, and the environment that points an AWS client at it."""
    arguments = ["simulate", "--listen", listen]
    with _child(arguments, {}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as simulator:
        aws: dict[str, str] = {}
        for line in simulator.starting():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                aws[name] = value
            if "AWS_SECRET_ACCESS_KEY" in aws:
                break
        simulator.started()
        yield simulator, aws


@contextmanager
def _service(listen: str, aws: Mapping[str, str], audit: Path, *, echo: bool) -> Iterator[tuple[_Child, str]]:
    """Yield a service, and its target, once it is ready for calls."""
    environment = {
        **aws,
        "MONITOR_CONTACT_LISTEN": listen,
        "MONITOR_CONTACT_AUDIT": str(audit),
        "MONITOR_CONTACT_DRAIN_SECONDS": "0",
        "MONITOR_CONTACT_LOG_FORMAT": "text",
    }
    # Its stdout has a copy of each checkpoint, for those who ship logs.
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with _child(["serve"], environment, echo=echo, **streams) as service:
        target = ""
        for line in service.starting():
            if listening := re.search(r" listening address=(\S+) ", line):
                target = listening[1]
            # Its own word: at the same address another service could answer for it.
            if re.search(r" health names=.*'readiness'.* status=SERVING", line):
                break
        service.started()
        yield service, target


@contextmanager
def _child(
    arguments: Sequence[str], environment: Mapping[str, str], *, stdout: int, stderr: int, echo: bool = False
) -> Iterator[_Child]:
    command = [sys.executable, "-m", "monitor_contact_service", *arguments]
    process = subprocess.Popen(command, env=_environment(environment), stdout=stdout, stderr=stderr, text=True)
    child = _Child(arguments, process, echo=echo)
    try:
        yield child
    finally:
        child.stop()


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a child: the demonstration is the same whatever this machine is set up for."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("MONITOR_CONTACT_", "AWS_")) and not name.lower().endswith("_proxy")
    }
    return {**inherited, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **own}


def _attempts(connect: str) -> int:
    calls: int = _control(connect, "GET", "state")["calls"].get("MonitorContact", 0)
    return calls


def _control(connect: str, method: str, path: str, document: object = None) -> Json:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"{connect}/_simulator/{path}", body, method=method)  # noqa: S310 - our own http URL
    with _NO_PROXY.open(request, timeout=START_SECONDS) as response:
        answer: Json = json.load(response)
    return answer


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
