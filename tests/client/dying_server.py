"""A process with a server that dies when it is called: the end of a pod without a goodbye. Prints its target."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc
from monitor_contact.v1 import monitor_contact_pb2 as pb
from monitor_contact.v1.monitor_contact_pb2_grpc import (
    MonitorContactServiceServicer,
    add_MonitorContactServiceServicer_to_server,
)


class Dying(MonitorContactServiceServicer):
    """Ends the process at the first call."""

    def MonitorContact(self, request: pb.MonitorContactRequest, context: grpc.ServicerContext) -> NoReturn:  # noqa: ARG002, N802 - the contract's signature
        """Die."""
        os._exit(1)


if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    add_MonitorContactServiceServicer_to_server(Dying(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)  # noqa: T201 - how the test learns it
    server.wait_for_termination()
