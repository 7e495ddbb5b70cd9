"""Starts what is measured, and what stands for Connect, as child processes, and reads the CPU time of each.

The stand-in for Connect is nginx with fixed answers: it costs a few microseconds of CPU a call, so that the figures are
those of the callers. Every process is stopped by its own id, whatever happens. Linux only: its kernel tells the CPU
time.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

HERE = Path(__file__).parent
HOST = "127.0.0.1"
# Under valgrind everything takes fifty times as long.
START_SECONDS = 200.0
STOP_SECONDS = 30.0
_NOTHING: Mapping[str, str] = MappingProxyType({})

CONTACT_ARN = (
    "arn:aws:connect:us-east-1:111122223333:instance/10000000-0000-4000-8000-000000000001"
    "/contact/40000000-0000-4000-8000-000000000001"
)
ANSWER = f'{{"ContactId":"40000000-0000-4000-8000-000000000001","ContactArn":"{CONTACT_ARN}"}}'
# What the supervisor check reads: one profile, without a restriction, with the right to listen.
USER = '{"User":{"SecurityProfileIds":["50000000-0000-4000-8000-000000000001"]}}'
PERMISSIONS = '{"Permissions":["BasicAgentAccess","ManagerListenIn"]}'
PROFILE = '{"SecurityProfile":{"Id":"50000000-0000-4000-8000-000000000001"}}'

# keepalive_requests: never close a connection within a run. access_log off: nothing is written per call.
NGINX_CONF = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_timeout 600s;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen {host}:{port};
    default_type application/json;
    add_header x-amzn-RequestId 00000000-0000-4000-8000-000000000000;
    location / {{ return 200 '{answer}'; }}
    location /users/ {{ return 200 '{user}'; }}
    location /security-profiles-permissions/ {{ return 200 '{permissions}'; }}
    location /security-profiles/ {{ return 200 '{profile}'; }}
  }}
}}
"""


class NotReadyError(Exception):
    """A process ended, or did not listen in time; the message has the end of what it said."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def aws_environment(upstream: str) -> Mapping[str, str]:
    """Return the environment in which every contestant calls `upstream` with the same made-up credentials."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MONITOR_CONTACT_"))}
    return inherited | {
        "AWS_ACCESS_KEY_ID": "AKIDBENCHMARK",
        "AWS_SECRET_ACCESS_KEY": "benchmark-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL_CONNECT": upstream,
    }


@contextmanager
def nginx(folder: Path) -> Iterator[tuple[str, int]]:
    """Run nginx; yield its URL and process id.

    Raises:
        NotReadyError: it is not installed or does not start.
    """
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise NotReadyError("nginx is not installed: apt-get install nginx (it need not run as a service)")
    port = free_port()
    conf = folder / "nginx.conf"
    answers = {"answer": ANSWER, "user": USER, "permissions": PERMISSIONS, "profile": PROFILE}
    conf.write_text(NGINX_CONF.format(folder=folder, host=HOST, port=port, **answers))
    command = [program, "-p", str(folder), "-c", str(conf)]
    with _running(command, os.environ, port, folder / "nginx.log") as process_id:
        yield f"http://{HOST}:{port}", process_id


@contextmanager
def our_service(
    upstream: str,
    folder: Path,
    prefix: Sequence[str] = (),
    *,
    name: str = "service",
    program: Sequence[str] = ("-m", "monitor_contact_service", "serve"),
    variables: Mapping[str, str] = _NOTHING,
) -> Iterator[tuple[str, int]]:
    """Run `monitor-contact serve` unpaced, else with its defaults, under `prefix`; yield its target and process id.

    Args:
        upstream: the URL of what stands for Connect.
        folder: for its log and its audit.
        prefix: a command that runs it.
        name: of its files in the folder.
        program: Python's arguments; another one that is configured in the same way.
        variables: more of its environment.
    """
    port = free_port()
    command = [*prefix, sys.executable, *program]
    # Quotas that are never used up: pacing runs and holds nothing back. The drain comes after the measurement.
    ours = {
        "MONITOR_CONTACT_LISTEN": f"{HOST}:{port}",
        "MONITOR_CONTACT_DRAIN_SECONDS": "0",
        "MONITOR_CONTACT_QUOTA_RATE": "50000",
        "MONITOR_CONTACT_QUOTA_BURST": "50000",
        "MONITOR_CONTACT_READ_QUOTA_RATE": "50000",
        "MONITOR_CONTACT_READ_QUOTA_BURST": "50000",
        "MONITOR_CONTACT_AUDIT": str(folder / name / "audit.jsonl"),
    }
    environment = {**aws_environment(upstream), **ours, **variables}
    with _running(command, environment, port, folder / f"{name}.log") as process_id:
        yield f"{HOST}:{port}", process_id


@contextmanager
def unguarded_service(upstream: str, folder: Path, *, name: str = "unguarded") -> Iterator[tuple[str, int]]:
    """Run unguarded_server.py in the same way; see there."""
    program = (str(HERE / "unguarded_server.py"), "serve")
    with our_service(upstream, folder, name=name, program=program) as running:
        yield running


@contextmanager
def boto3_server(kind: str, upstream: str, folder: Path, prefix: Sequence[str] = ()) -> Iterator[tuple[str, int]]:
    """Run boto3_server.py, `kind` threads or aio, under `prefix`; yield its target and process id."""
    port = free_port()
    command = [*prefix, sys.executable, str(HERE / "boto3_server.py"), kind, f"{HOST}:{port}"]
    with _running(command, aws_environment(upstream), port, folder / f"boto3_{kind}.log") as process_id:
        yield f"{HOST}:{port}", process_id


@contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str], port: int, log: Path) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        _wait_for(process, port, log)
        yield process.pid
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End this one process: politely, then not."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-2000:]
    raise NotReadyError(f"{process.args!r} does not listen on port {port}:\n{said}")


def cpu_seconds(process_id: int) -> float:
    """Return the CPU time that a process has used so far: user and system, all its threads."""
    # What clock_getcpuclockid(3) returns for a process; /proc/PID/stat counts in steps of 10 ms only.
    return time.clock_gettime((~process_id << 3) | 2)


def cpu_seconds_of_others(own: Collection[int]) -> Mapping[int, float]:
    """Return the CPU time that each process of this machine has used so far, but for these."""
    # /proc/stat would be simpler, but counts in ticks and so misses what wakes and sleeps between two.
    seconds = {}
    for process_id in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        if process_id not in own:
            with suppress(OSError):  # it has ended
                seconds[process_id] = cpu_seconds(process_id)
    return seconds
