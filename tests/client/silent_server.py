"""A process with a server that never answers. Prints its target."""

import asyncio

import grpc.aio
from monitor_contact.v1 import monitor_contact_pb2 as pb
from monitor_contact.v1.monitor_contact_pb2_grpc import (
    MonitorContactServiceServicer,
    add_MonitorContactServiceServicer_to_server,
)


class Silent(MonitorContactServiceServicer):
    """Waits for its caller to give up."""

    async def MonitorContact(  # noqa: N802 - the contract's name
        self, request: pb.MonitorContactRequest, context: object
    ) -> pb.MonitorContactResponse:
        """Wait."""
        del request, context
        await asyncio.Event().wait()
        return pb.MonitorContactResponse()


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    add_MonitorContactServiceServicer_to_server(Silent(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)  # noqa: T201 - how the test learns it
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
