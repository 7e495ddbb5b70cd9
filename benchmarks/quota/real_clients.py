"""Real clients in real time: a child process that makes the calls of a scenario, a thread for each, and reports.

Usage: real_clients.py herd|hog CONTESTANT TARGET. Prints one JSON list with a row for each call: caller, whether it
succeeded, and the seconds it took; both null if it still waited at the end. boto3's client is the real one.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import arrivals
import boto3
from arrivals import Call
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from monitor_contact_client import MonitorContactClient, MonitorContactError

if TYPE_CHECKING:
    from mypy_boto3_connect.client import ConnectClient

INSTANCE_ID = "10000000-0000-4000-8000-000000000001"
CONTACT_ID = "20000000-0000-4000-8000-000000000001"
USER_ID = "30000000-0000-4000-8000-000000000001"

HOG_SECONDS = 60.0
# Time for the last calls to be answered, late answers included.
PATIENCE_SECONDS = 15.0
THREADS = 2000

Mode = Literal["legacy", "standard", "adaptive"]
# By contestant: boto3's retry mode and whether all callers share one client.
MODES: Mapping[str, tuple[Mode, bool]] = MappingProxyType(
    {
        "legacy": ("legacy", False),
        "standard, own clients": ("standard", False),
        "standard, one client": ("standard", True),
        "adaptive, own clients": ("adaptive", False),
        "adaptive, one client": ("adaptive", True),
    }
)

Caller = Callable[[Call], bool]


def calls_of(scenario: str) -> Sequence[Call]:
    """Return the calls of a scenario: those of the first seed in virtual time, the hog's for a minute."""
    if scenario == "herd":
        return arrivals.herd(100, 60.0, 0.05)(0)
    return [call for call in arrivals.hog(20.0, 9, 0.1)(0) if call.at < HOG_SECONDS]


def boto3_caller(contestant: str, calls: Sequence[Call]) -> Caller:
    """Return what makes a call with boto3; all clients exist before the first call."""
    mode, shared = MODES[contestant]
    names = {""} if shared else {call.caller for call in calls}
    # As many connections as threads: no call waits for another's connection.
    config = Config(retries={"mode": mode}, max_pool_connections=THREADS)
    session = boto3.Session()
    clients: Mapping[str, ConnectClient] = {name: session.client("connect", config=config) for name in names}

    def make(call: Call) -> bool:
        try:
            clients["" if shared else call.caller].monitor_contact(
                InstanceId=INSTANCE_ID,
                ContactId=CONTACT_ID,
                UserId=USER_ID,
                AllowedMonitorCapabilities=["SILENT_MONITOR"],
            )
        except (BotoCoreError, ClientError):
            return False
        return True

    return make


def service_caller(target: str) -> Caller:
    """Return what makes a call with the shipped client, as a user writes it."""
    client = MonitorContactClient(target)

    def make(call: Call) -> bool:
        try:
            client.monitor_contact(
                instance_id=INSTANCE_ID,
                contact_id=CONTACT_ID,
                user_id=USER_ID,
                timeout_seconds=call.deadline_seconds,
                metadata=(("x-caller", call.caller),),
            )
        except MonitorContactError:
            return False
        return True

    return make


def make_all(calls: Sequence[Call], make: Caller) -> Sequence[tuple[str, bool | None, float | None]]:
    """Make each call at its time in a thread of its own and return what became of it."""
    ended: dict[Call, tuple[bool, float]] = {}

    def one(call: Call) -> None:
        began = time.monotonic()
        succeeded = make(call)
        ended[call] = (succeeded, time.monotonic() - began)

    started = time.monotonic()
    threads = []
    for call in calls:
        time.sleep(max(0.0, started + call.at - time.monotonic()))
        threads.append(threading.Thread(target=one, args=(call,), daemon=True))
        threads[-1].start()
    until = started + calls[-1].deadline + PATIENCE_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return [(call.caller, *ended.get(call, (None, None))) for call in calls]


def main() -> None:
    """Make the calls and report."""
    scenario, contestant, target = sys.argv[1:]
    calls = calls_of(scenario)
    make = boto3_caller(contestant, calls) if contestant in MODES else service_caller(target)
    json.dump(make_all(calls, make), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # threads that still wait would keep the process alive


if __name__ == "__main__":
    main()
