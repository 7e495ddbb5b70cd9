"""`monitor-contact call`: one call from the shell, the answer as JSON, the exit code by what to do about it.

For people and scripts; programs use the client library, which also repeats where that is safe.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2  # noqa: F401 - registers the details for decoding
from google.rpc.status_pb2 import Status
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact.v1.monitor_contact_pb2_grpc import MonitorContactServiceStub

from .core.failures import Reason
from .exits import EXIT_FAILED
from .reasons import TABLE

_TYPE_PREFIX = "type.googleapis.com/google.rpc."


def call(arguments: argparse.Namespace) -> int:
    """Call the service once, print the answer to stdout and return the exit code."""
    client_token = arguments.client_token or str(uuid4())
    request = MonitorContactRequest(
        instance_id=arguments.instance_id,
        contact_id=arguments.contact_id,
        user_id=arguments.user_id,
        allowed_monitor_capabilities=[f"MONITOR_CAPABILITY_{name}" for name in arguments.capability],
        client_token=client_token,
    )
    with grpc.insecure_channel(arguments.target, options=[("grpc.enable_retries", 0)]) as channel:
        try:
            response = MonitorContactServiceStub(channel).MonitorContact(request, timeout=arguments.timeout)
        except grpc.RpcError as error:
            answer, exit_code = _refused(error)
        else:
            answer, exit_code = {"contact_id": response.contact_id, "contact_arn": response.contact_arn}, 0
    json.dump({"client_token": client_token, **answer}, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return exit_code


def _refused(error: Any) -> tuple[dict[str, object], int]:
    """Return what a refusal says, and the exit code. `error` is a grpc.RpcError that is also a grpc.Call."""
    details = _details(dict(error.trailing_metadata() or ()))
    answer: dict[str, object] = {"code": error.code().name, "message": error.details(), **details}
    reason = str(answer.get("reason"))
    known = reason in Reason.__members__
    return answer, TABLE[Reason(reason)].advice.value if known else EXIT_FAILED


def _details(trailers: Mapping[str, str | bytes]) -> dict[str, object]:
    serialized = trailers.get("grpc-status-details-bin", b"")
    details = MessageToDict(Status.FromString(serialized if isinstance(serialized, bytes) else b""))
    by_type = {detail["@type"].removeprefix(_TYPE_PREFIX): detail for detail in details.get("details", ())}
    info = by_type.get("ErrorInfo", {})
    found = {
        "reason": info.get("reason"),
        "metadata": info.get("metadata"),
        "violations": by_type.get("BadRequest", {}).get("fieldViolations"),
        "retry_after": by_type.get("RetryInfo", {}).get("retryDelay"),
        "request_id": by_type.get("RequestInfo", {}).get("requestId"),
    }
    return {key: value for key, value in found.items() if value}
