"""The service, composed as `__main__` does, but with callers who say who they are: loopback has no authentication yet.

Usage: identified_server.py HOST:PORT. The caller's name is the header `x-caller`. For the benchmark only.
"""

import monitor_contact_service.engine  # noqa: F401 - before anything of gRPC

# isort: split

import asyncio
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from monitor_contact_service import server as grpc_server
from monitor_contact_service.access import OPEN_ACCESS, Access, CallerEntry
from monitor_contact_service.assembly import Outside, assemble, handler_of
from monitor_contact_service.authorization import AssumedSupervisors
from monitor_contact_service.aws import new_session
from monitor_contact_service.connect import Connect, open_http
from monitor_contact_service.core.caller import Authentication, Caller, Principal
from monitor_contact_service.credentials import Credentials
from monitor_contact_service.endpoint import resolve_endpoint
from monitor_contact_service.health import Health
from monitor_contact_service.metrics import Metrics
from monitor_contact_service.policy_files import demo_policies
from monitor_contact_service.quota import LocalQuota
from monitor_contact_service.settings import Settings

if TYPE_CHECKING:
    from monitor_contact_service.handler import Context

HEADER = "x-caller"


class _NamedCallers:
    """Believes callers who they say they are."""

    def caller(self, context: "Context") -> Caller:
        """Return the name that the caller gives itself."""
        name = next(str(value) for name, value in context.invocation_metadata() or () if name == HEADER)
        return Caller(Principal(name, Authentication.DNS))

    def change(self, access: Access) -> None:
        """Take no notice."""


class _Anybody(Access):
    """Everybody may what `anonymous` may."""

    def caller(self, principal_id: str) -> CallerEntry:
        """Return what `anonymous` is."""
        del principal_id
        return OPEN_ACCESS.callers["anonymous"]


class _Unrecorded:
    """Keeps no records: the disk is not what is measured."""

    def __init__(self) -> None:
        self.on_failed = self.on_recovered = lambda: None

    async def open(self) -> None:
        """Do nothing."""

    def append(self, record: Mapping[str, object]) -> "asyncio.Future[int]":
        """Take no notice."""
        del record
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_result(1)
        return done

    async def close(self) -> None:
        """Do nothing."""


async def serve(address: str) -> None:
    """Serve until SIGTERM."""
    settings = Settings(listen=address)
    endpoint = resolve_endpoint(new_session())
    credentials = Credentials(new_session, clock=time.monotonic)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with open_http(endpoint, max_connections=settings.max_in_flight) as http:
        await credentials.renew()
        outside = Outside(
            connect=Connect(endpoint=endpoint, credentials=credentials, http=http),
            tokens=LocalQuota(settings.quota, clock=time.monotonic),
            audit_log=_Unrecorded(),
            observer=Metrics(),
        )
        steps = assemble(settings, _Anybody(), demo_policies(), outside)
        steps = replace(steps, authenticator=_NamedCallers(), supervisors=AssumedSupervisors())
        health = Health([grpc_server.SERVICE])
        handler = handler_of(settings, steps, outside)
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
