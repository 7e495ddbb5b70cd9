"""`monitor-contact call`: one call from the shell, the answer as JSON, the exit code by what to do about it.

For people and scripts; programs use the client library, which also repeats where that is safe.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import grpc
from google.protobuf.json_format import Error as JsonError
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Error as ProtobufError
from google.rpc import error_details_pb2  # noqa: F401 - registers the details for decoding
from google.rpc.status_pb2 import Status
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub

from .address import parse_address
from .core.failures import Reason
from .exits import EXIT_FAILED, EXIT_USAGE, CannotStartError
from .reasons import TABLE

_TYPE_PREFIX: Final = "type.googleapis.com/google.rpc."

Trailers = Sequence[tuple[str, str | bytes]]


class WrongUsageError(CannotStartError):
    """What was typed cannot be sent."""

    exit_code = EXIT_USAGE


def call(arguments: argparse.Namespace) -> int:
    """Call the service once, print the answer to stdout and return the exit code.

    Raises:
        WrongUsageError: a file cannot be read, no header can carry a text, or a token would travel unencrypted.
    """
    client_token = arguments.client_token or str(uuid4())
    request = MonitorContactRequest(
        instance_id=arguments.instance_id,
        contact_id=arguments.contact_id,
        user_id=arguments.user_id,
        allowed_monitor_capabilities=[f"MONITOR_CAPABILITY_{name}" for name in arguments.capability],
        client_token=client_token,
    )
    metadata = tuple(_metadata(arguments))
    with _channel(arguments) as channel:
        try:
            stub = MonitorContactServiceStub(channel)
            response = stub.MonitorContact(request, timeout=arguments.timeout, metadata=metadata)
        except grpc.RpcError as error:
            answer, exit_code = _refused(error)
        else:
            answer, exit_code = {"contact_id": response.contact_id, "contact_arn": response.contact_arn}, 0
    json.dump({"client_token": client_token, **answer}, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return exit_code


def _channel(arguments: argparse.Namespace) -> grpc.Channel:
    """Return the channel: encrypted if any option of TLS is given."""
    options: list[tuple[str, int]] = [("grpc.enable_retries", 0)]
    if _is_loopback(arguments.target):
        options.append(("grpc.enable_http_proxy", 0))  # else http_proxy takes even loopback off this machine
    if bool(arguments.tls_cert) != bool(arguments.tls_key):
        raise WrongUsageError(["--tls-cert and --tls-key belong together: give both or neither"])
    if arguments.tls_ca or arguments.tls_cert:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_pem("--tls-ca", arguments.tls_ca),
            private_key=_pem("--tls-key", arguments.tls_key),
            certificate_chain=_pem("--tls-cert", arguments.tls_cert),
        )
        return grpc.secure_channel(arguments.target, credentials, options)
    if (arguments.token_file or arguments.end_user_token_file) and not _is_loopback(arguments.target):
        problem = f"{arguments.target} may not get a token unencrypted: give --tls-ca, or a target on loopback"
        raise WrongUsageError([problem])
    return grpc.insecure_channel(arguments.target, options)


def _is_loopback(target: str) -> bool:
    try:
        return parse_address(target).is_loopback
    except ValueError:
        return False


def _metadata(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield who asks, for whom and why. gRPC's own error for a bad text would print all of them, tokens too."""
    if arguments.token_file:
        yield "authorization", f"Bearer {_token('--token-file', arguments.token_file)}"
    if arguments.end_user_token_file:
        yield "x-end-user-token", _token("--end-user-token-file", arguments.end_user_token_file)
    for option, text in (("reason", arguments.reason), ("ticket", arguments.ticket)):
        if not (text.isascii() and text.isprintable()):
            raise WrongUsageError([f"--{option}: must have only printable ASCII characters"])
        if text:
            yield f"x-monitor-{option}", text


def _token(option: str, file: str) -> str:
    token = _content(option, file).strip().decode("ascii", "replace")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise WrongUsageError([f"{option} {file}: must hold one token: printable ASCII characters without a space"])
    return token


def _pem(option: str, file: str) -> bytes | None:
    if not file:
        return None
    content = _content(option, file)
    if b"-----BEGIN" not in content:
        raise WrongUsageError([f"{option} {file}: must be a PEM file, with a line -----BEGIN …-----"])
    return content


def _content(option: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise WrongUsageError([f"{option} {file}: {error.strerror}"]) from error


def _refused(error: Any) -> tuple[dict[str, object], int]:
    """Return what a refusal says, and the exit code. `error` is a grpc.RpcError that is also a grpc.Call."""
    details = _details(error.trailing_metadata() or ())
    answer: dict[str, object] = {"code": error.code().name, "message": error.details(), **details}
    reason = str(answer.get("reason"))
    known = reason in Reason.__members__
    return answer, TABLE[Reason(reason)].advice.value if known else EXIT_FAILED


def _details(trailers: Trailers) -> dict[str, object]:
    by_type = {detail.get("@type", "").removeprefix(_TYPE_PREFIX): detail for detail in _readable(trailers)}
    info = by_type.get("ErrorInfo", {})
    found = {
        "reason": info.get("reason"),
        "metadata": info.get("metadata"),
        "violations": by_type.get("BadRequest", {}).get("fieldViolations"),
        "retry_after": by_type.get("RetryInfo", {}).get("retryDelay"),
        "request_id": by_type.get("RequestInfo", {}).get("requestId"),
    }
    return {key: value for key, value in found.items() if value}


def _readable(trailers: Trailers) -> Iterator[dict[str, Any]]:
    """Yield the details that can be read: another server than ours may answer, with anything."""
    serialized = dict(trailers).get("grpc-status-details-bin", b"")
    try:
        packed_details = Status.FromString(serialized if isinstance(serialized, bytes) else b"").details
    except ProtobufError:
        return
    for packed in packed_details:
        try:
            yield MessageToDict(packed)
        except (ProtobufError, JsonError, TypeError, ValueError):  # TypeError: of an unknown type
            continue
