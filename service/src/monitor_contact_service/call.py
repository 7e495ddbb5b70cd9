"""`monitor-contact call`: one call from the shell, the answer as JSON, the exit code by what to do about it.

For people and scripts; programs use the client library, which also repeats where that is safe.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final
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
from .call_checks import Answer, Pairs, WrongUsageError, check, too_large
from .core.failures import Reason
from .exits import EXIT_FAILED, CannotStartError
from .reasons import TABLE

EXIT_UNWRITTEN: Final = 8  # the next one after those of `reasons.Advice`

_TYPE_PREFIX: Final = "type.googleapis.com/google.rpc."

Trailers = Sequence[tuple[str, str | bytes]]


class UnwrittenAnswerError(CannotStartError):
    """The service has answered, and stdout did not take it."""

    exit_code: ClassVar[int] = EXIT_UNWRITTEN


def call(arguments: argparse.Namespace) -> int:
    """Call the service once, print the answer to stdout and return the exit code.

    Raises:
        WrongUsageError: an option cannot be right, a file cannot be read, no header can carry a text, or a token would
            travel unencrypted.
        UnwrittenAnswerError: stdout is full or gone. What was asked for may have begun.
    """
    check(arguments)
    request = MonitorContactRequest(
        instance_id=arguments.instance_id,
        contact_id=arguments.contact_id,
        user_id=arguments.user_id,
        allowed_monitor_capabilities=[f"MONITOR_CAPABILITY_{name}" for name in arguments.capability],
        client_token=arguments.client_token or str(uuid4()),
    )
    metadata = tuple(_metadata(arguments))
    with _channel(arguments) as channel:
        answer, exit_code = too_large(request, metadata) or _ask(channel, request, arguments.timeout, metadata)
    _write({"client_token": request.client_token, **answer})
    return exit_code


def _ask(channel: grpc.Channel, request: MonitorContactRequest, timeout_seconds: float, metadata: Pairs) -> Answer:
    try:
        stub = MonitorContactServiceStub(channel)
        response = stub.MonitorContact(request, timeout=timeout_seconds, metadata=metadata)
    except grpc.RpcError as error:
        return _refused(error)
    return {"contact_id": response.contact_id, "contact_arn": response.contact_arn}, 0


def _write(answer: Mapping[str, object]) -> None:
    try:
        sys.stdout.write(f"{json.dumps(answer, indent=2)}\n")
        sys.stdout.flush()
    except OSError as error:
        # Python flushes once more when it ends; that would fail too, with a text and an exit code (120) of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        problem = f"the answer could not be written to stdout ({error.strerror}); it is {json.dumps(answer)}"
        raise UnwrittenAnswerError([problem]) from error


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


def _metadata(arguments: argparse.Namespace) -> Iterator[tuple[str, str | bytes]]:
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


def _refused(error: Any) -> Answer:
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
