"""The servers that ours is compared with: the same contract, each request handed to one shared boto3 client.

Usage: boto3_server.py threads|aio HOST:PORT. What most people would write first; no retries, no validation, no log.
"""

import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import grpc
import grpc.aio
import uvloop
from botocore.config import Config
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import (
    MonitorContactServiceServicer,
    add_MonitorContactServiceServicer_to_server,
)

if TYPE_CHECKING:
    from mypy_boto3_connect.client import ConnectClient

# As in gRPC's own examples. It matters little: 1, 2, 4, 8, 16 and 32 threads made 450 to 570 calls/s (measured).
THREADS = 10


def new_client() -> "ConnectClient":
    """Return a client whose pool has a connection for every thread."""
    return boto3.client("connect", config=Config(max_pool_connections=THREADS))


def monitor_contact(client: "ConnectClient", request: MonitorContactRequest) -> MonitorContactResponse:
    """Make one boto3 call."""
    answer = client.monitor_contact(
        InstanceId=request.instance_id,
        ContactId=request.contact_id,
        UserId=request.user_id,
        AllowedMonitorCapabilities=["SILENT_MONITOR"],
        ClientToken=request.client_token,
    )
    return MonitorContactResponse(contact_id=answer["ContactId"], contact_arn=answer["ContactArn"])


class Threads(MonitorContactServiceServicer):
    """A synchronous handler, run by the server's threads."""

    def __init__(self) -> None:
        self._client = new_client()

    def MonitorContact(self, request: MonitorContactRequest, context: Any) -> MonitorContactResponse:  # noqa: ARG002, N802
        """Answer one call."""
        return monitor_contact(self._client, request)


class Aio(MonitorContactServiceServicer):
    """An asyncio handler that hands boto3's blocking call to a thread."""

    def __init__(self) -> None:
        self._client = new_client()
        self._threads = ThreadPoolExecutor(THREADS)

    async def MonitorContact(self, request: MonitorContactRequest, context: Any) -> MonitorContactResponse:  # noqa: ARG002, N802
        """Answer one call."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, monitor_contact, self._client, request)


def serve_threads(address: str) -> None:
    """Serve until SIGTERM."""
    server = grpc.server(ThreadPoolExecutor(THREADS))
    add_MonitorContactServiceServicer_to_server(Threads(), server)
    server.add_insecure_port(address)
    server.start()
    signal.sigwait({signal.SIGTERM})
    server.stop(0).wait()


async def serve_aio(address: str) -> None:
    """Serve until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = grpc.aio.server()
    add_MonitorContactServiceServicer_to_server(Aio(), server)
    server.add_insecure_port(address)
    await server.start()
    await stopped.wait()
    await server.stop(0)


def main() -> None:
    """Run one of the two."""
    kind, address = sys.argv[1:]
    if kind == "threads":
        # Blocked before gRPC makes its threads, so that none of them takes the signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        serve_threads(address)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_aio(address))


if __name__ == "__main__":
    main()
