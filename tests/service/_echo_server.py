"""A process with the real server and its limits in front of a handler that only validates. Prints its target."""

from monitor_contact_service import engine  # noqa: F401 - the service's engine, before anything of gRPC

# isort: split

from typing import TYPE_CHECKING

import uvloop
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceServicer
from monitor_contact_service import server as grpc_server
from monitor_contact_service.core import validation
from monitor_contact_service.health import Health
from monitor_contact_service.settings import Settings

if TYPE_CHECKING:
    import grpc.aio


class Echo(MonitorContactServiceServicer):
    """Answers with the contact's id."""

    async def MonitorContact(  # noqa: N802 - the contract's name
        self,
        request: MonitorContactRequest,
        context: "grpc.aio.ServicerContext[MonitorContactRequest, MonitorContactResponse]",
    ) -> MonitorContactResponse:
        """Validate as the service's handler does."""
        del context
        command = validation.parse(request)
        return MonitorContactResponse(contact_id=command.contact_id)


async def main() -> None:
    """Serve until killed."""
    settings = Settings(listen="127.0.0.1:0")
    server = grpc_server.build(settings, handler=Echo(), health=Health([grpc_server.SERVICE]), reflection=None)
    target = grpc_server.listen(server, settings.address)
    await server.start()
    print(target, flush=True)  # noqa: T201 - how the test learns it
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
