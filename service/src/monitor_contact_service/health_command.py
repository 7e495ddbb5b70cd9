"""`monitor-contact health`: asks a running service how it is, for people and exec probes, and answers by exit code.

Always in plain text: it is meant for the health port. Loads gRPC and the health contract only, so that a probe is fast.
"""

import argparse
import sys
from typing import ClassVar, Final

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from .address import Address, parse_address
from .exits import EXIT_FAILED, EXIT_USAGE, CannotStartError

# Choice: a service that cannot say in 5 s how it is, is not well. Probes have a time-out of their own.
_TIMEOUT_SECONDS: Final = 5.0
_PLAIN_TO_TLS: Final = "is this the health port? it speaks plain text, the API may speak TLS"
_HEALTH_PORT: Final = 8081  # of the manifests, and what `cli` asks by default
_NO_HEALTH_PORT: Final = (
    "this port is there only if MONITOR_CONTACT_HEALTH_LISTEN is set; "
    "a service without TLS answers at its own: monitor-contact health 127.0.0.1:50051"
)


class WrongAddressError(CannotStartError):
    """What was typed is no address."""

    exit_code: ClassVar[int] = EXIT_USAGE


def health(arguments: argparse.Namespace) -> int:
    """Print the status of one name to stdout and return 0 for SERVING, 1 for every other; why goes to stderr.

    Raises:
        WrongAddressError: the address is not host:port.
    """
    try:
        address = parse_address(arguments.address)
    except ValueError as error:
        raise WrongAddressError([f"{arguments.address}: {error}"]) from error
    try:
        status = _ask(address, arguments.service)
    except grpc.RpcError as error:
        status = _explain(error, address, arguments.service)
    sys.stdout.write(f"{status}\n")
    return 0 if status == "SERVING" else EXIT_FAILED


def _ask(address: Address, service: str) -> str:
    # Else http_proxy takes the question off this machine, and the answer would be the proxy's.
    options = (("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0))
    with grpc.insecure_channel(str(address), options) as channel:
        stub = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
        response = stub.Check(HealthCheckRequest(service=service), timeout=_TIMEOUT_SECONDS)
    return HealthCheckResponse.ServingStatus.Name(response.status)


def _explain(error: grpc.RpcError, address: Address, service: str) -> str:
    """Return the word for a question without a status, and say on stderr why there is none."""
    code = error.code()
    if code is grpc.StatusCode.NOT_FOUND:
        word, reason = "SERVICE_UNKNOWN", f'{address} knows no service "{service}"'
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        word, reason = "UNKNOWN", f"{address} has no grpc.health.v1.Health"
    else:
        hint = _NO_HEALTH_PORT if address.port == _HEALTH_PORT else _PLAIN_TO_TLS
        word, reason = "UNREACHABLE", f"{address}: {code.name} {error.details()}; {hint}"
    sys.stderr.write(f"monitor-contact: {reason}\n")
    return word
