"""The service, composed as `__main__` does, but with callers who say who they are: loopback has no authentication yet.

Usage: identified_server.py HOST:PORT. The caller's name is the header `x-caller`. For the benchmark only.
"""

import monitor_contact_service.engine  # noqa: F401 - before anything of gRPC

# isort: split

import asyncio
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

import service_model
from monitor_contact_service import server as grpc_server
from monitor_contact_service.aws import Credentials, new_session, resolve_endpoint
from monitor_contact_service.connect import Connect, open_http
from monitor_contact_service.handler import Deadlines, MonitorContactHandler
from monitor_contact_service.health import Health
from monitor_contact_service.idempotency import Idempotency
from monitor_contact_service.quota import LocalQuota
from monitor_contact_service.settings import Settings

if TYPE_CHECKING:
    from monitor_contact_service.handler import Context

HEADER = "x-caller"


def caller_of(context: "Context") -> str:
    """Return the name that the caller gives itself."""
    return next(str(value) for name, value in context.invocation_metadata() or () if name == HEADER)


async def serve(address: str) -> None:
    """Serve until SIGTERM."""
    settings = Settings(listen=address)
    endpoint = resolve_endpoint(new_session())
    credentials = Credentials(new_session, clock=time.monotonic)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with open_http(endpoint, max_connections=settings.max_in_flight) as http:
        await credentials.renew()
        connect = Connect(endpoint=endpoint, credentials=credentials, http=http)
        tokens = LocalQuota(settings.quota, clock=time.monotonic)
        admission, attempts = service_model.compose(tokens, connect, time.monotonic, random.Random())  # noqa: S311 - no secret
        handler = MonitorContactHandler(
            caller_of=caller_of,
            deadlines=Deadlines(settings.default_deadline_seconds, settings.max_deadline_seconds),
            idempotency=Idempotency(clock=time.monotonic),
            admission=admission,
            attempts=attempts,
            clock=time.monotonic,
        )
        health = Health([grpc_server.SERVICE])
        server = grpc_server.build(settings, handler=handler, health=health, reflection=None)
        grpc_server.listen(server, settings.address)
        await server.start()
        health.set_alive()
        health.set_ready(True)
        await stopped.wait()
        health.end_watches()
        await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
