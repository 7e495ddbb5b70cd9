"""The callers that the benchmark drives: a child process that makes calls when told, and reports what they took.

Usage: callers.py boto3|client|stub|load TARGET [FOLDER]. Each line on stdin is a number of calls to make; each is
answered with one JSON line: `calls`, `seconds` (wall), `cpu_seconds` (of this process, all threads) and
`median_seconds` of a call. Ends with stdin. A process of its own, so that its CPU time is only that of the calls. With
a folder, stub and load speak mTLS: `ca.crt`, `client.crt` and `client.key` are in it.
"""

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import boto3
import grpc
import grpc.aio
import uvloop
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub
from monitor_contact_client import Capability, MonitorContactClient

if TYPE_CHECKING:  # the stub file names it, the generated module does not
    from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceAsyncStub

INSTANCE_ID = "10000000-0000-4000-8000-000000000001"
CONTACT_ID = "20000000-0000-4000-8000-000000000001"
USER_ID = "30000000-0000-4000-8000-000000000001"
# Loads come from so many supervisors, and each call is for another contact.
SUPERVISORS = 50
# Enough to keep a server busy without a queue that hides it.
IN_FLIGHT = 32
DEADLINE_SECONDS = 10.0

_numbers = itertools.count()


def main() -> None:
    """Make calls as told on stdin."""
    kind, target, *folders = sys.argv[1:]
    credentials = _credentials(Path(folders[0])) if folders else None
    if kind == "load":
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_load(target, credentials))
        return
    made: dict[str, Callable[[str], Callable[[], object]]] = {
        "boto3": _boto3_call,
        "client": _client_call,
        "stub": partial(_stub_call, credentials),
    }
    call = made[kind](target)
    for line in sys.stdin:
        cpu, started = time.process_time(), time.perf_counter()
        durations = [_timed(call) for _ in range(int(line))]
        _report(durations, time.perf_counter() - started, time.process_time() - cpu)


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _boto3_call(_: str) -> Callable[[], object]:
    """Return a bare boto3 call; the endpoint is in the environment."""
    client = boto3.client("connect")
    return lambda: client.monitor_contact(
        InstanceId=INSTANCE_ID, ContactId=CONTACT_ID, UserId=USER_ID, AllowedMonitorCapabilities=["SILENT_MONITOR"]
    )


def _client_call(target: str) -> Callable[[], object]:
    """Return a call of the shipped client, as a user writes it."""
    client = MonitorContactClient(target)
    return lambda: client.monitor_contact(
        instance_id=INSTANCE_ID, contact_id=CONTACT_ID, user_id=USER_ID, capabilities=[Capability.SILENT_MONITOR]
    )


def _stub_call(credentials: grpc.ChannelCredentials | None, target: str) -> Callable[[], object]:
    """Return a call of gRPC's generated stub, without what the shipped client adds."""
    channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
    stub = MonitorContactServiceStub(channel)
    return lambda: stub.MonitorContact(_request(), timeout=DEADLINE_SECONDS)


def _credentials(folder: Path) -> grpc.ChannelCredentials:
    ca, key, certificate = ((folder / name).read_bytes() for name in ("ca.crt", "client.key", "client.crt"))
    return grpc.ssl_channel_credentials(ca, key, certificate)


async def _load(target: str, credentials: grpc.ChannelCredentials | None) -> None:
    """Keep `IN_FLIGHT` calls under way: a plain stub, to cost little CPU beside the server."""
    secure = grpc.aio.secure_channel
    async with secure(target, credentials) if credentials else grpc.aio.insecure_channel(target) as channel:
        stub: MonitorContactServiceAsyncStub = MonitorContactServiceStub(channel)
        while line := await asyncio.to_thread(sys.stdin.readline):
            share = int(line) // IN_FLIGHT
            cpu, started = time.process_time(), time.perf_counter()
            workers = await asyncio.gather(*(_calls(stub, share) for _ in range(IN_FLIGHT)))
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
            _report([duration for worker in workers for duration in worker], seconds, cpu_seconds)


async def _calls(stub: "MonitorContactServiceAsyncStub", count: int) -> Sequence[float]:
    durations = []
    for _ in range(count):
        started = time.perf_counter()
        await stub.MonitorContact(_request(), timeout=DEADLINE_SECONDS)
        durations.append(time.perf_counter() - started)
    return durations


def _request() -> MonitorContactRequest:
    return MonitorContactRequest(
        instance_id=INSTANCE_ID,
        contact_id=str(uuid4()),
        user_id=f"{USER_ID[:-2]}{next(_numbers) % SUPERVISORS:02}",
        allowed_monitor_capabilities=["MONITOR_CAPABILITY_SILENT_MONITOR"],
        client_token=str(uuid4()),
    )


def _report(durations: Sequence[float], seconds: float, cpu_seconds: float) -> None:
    report = {
        "calls": len(durations),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "median_seconds": statistics.median(durations),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
