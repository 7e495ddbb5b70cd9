"""An HTTP server for the metrics that nobody can make hold threads: a few at a time, each for a short time."""

import socket
from threading import BoundedSemaphore
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from .address import Address

# Choice: two Prometheus servers, a person and some room. Further connections are closed at once.
MAX_CONNECTIONS: Final = 8
# The longest silence of a client in the middle of its request (choice: Prometheus itself gives up after 10 s).
SILENCE_SECONDS: Final = 5.0


class _Quiet(WSGIRequestHandler):
    timeout = SILENCE_SECONDS  # of the socket: socketserver.StreamRequestHandler

    def log_message(self, *_: object) -> None:
        """Log nothing: what was asked for is the client's text."""


class MetricsServer(ThreadingWSGIServer):
    """Serves one registry, a thread for each of at most `MAX_CONNECTIONS` requests."""

    def __init__(self, *arguments: Any) -> None:
        self._places = BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a request, or close its connection if too many are under way."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Take no notice of clients that leave; by default their tracebacks go to stderr, around the log."""


def bind(registry: CollectorRegistry, address: Address) -> MetricsServer:
    """Return a server that listens and does not answer yet.

    Raises:
        OSError, UnicodeError: it cannot listen there.
    """
    family, _, _, _, (host, *_) = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    server_class: type[MetricsServer] = type("_Server", (MetricsServer,), {"address_family": family})
    return make_server(str(host), address.port, make_wsgi_app(registry), server_class, _Quiet)
