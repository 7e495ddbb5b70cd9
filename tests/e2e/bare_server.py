"""A process with a gRPC server that only lets its callers wait, to see what that costs. Prints its target."""

from monitor_contact_service import engine  # noqa: F401 - the service's engine, before anything of gRPC

# isort: split

import asyncio

import grpc
import grpc.aio
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import (
    MonitorContactServiceServicer,
    add_MonitorContactServiceServicer_to_server,
)

PLACES = 10_000
# As the service's: without the last two gRPC cancels calls at random.
OPTIONS = (
    ("grpc.max_concurrent_streams", 100),
    ("grpc.server.max_pending_requests", 2**31 - 1),
    ("grpc.server.max_pending_requests_hard_limit", 2**31 - 1),
)


class Waiting(MonitorContactServiceServicer):
    """Lets as many callers wait as there are places and refuses the next."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(PLACES)

    async def MonitorContact(  # noqa: N802 - the contract's name
        self,
        request: MonitorContactRequest,  # noqa: ARG002 - the service holds it too
        context: "grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]",
    ) -> MonitorContactResponse:
        """Wait until the caller leaves."""
        if self._places.locked():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED)
        async with self._places:
            await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server(options=OPTIONS)
    add_MonitorContactServiceServicer_to_server(Waiting(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)  # noqa: T201 - how the test learns it
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
