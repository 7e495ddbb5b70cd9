"""What a caller got instead of a session, taken apart: for tests that look at every detail of a refusal."""

from collections.abc import Awaitable
from dataclasses import dataclass

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RequestInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status

_DETAIL_TYPES = (BadRequest, ErrorInfo, QuotaFailure, RequestInfo, ResourceInfo, RetryInfo)


@dataclass(frozen=True, slots=True)
class Refused:
    """A non-OK answer. `details` are by type name; `wire` is every byte of it as text, to search for leaks."""

    code: grpc.StatusCode
    message: str
    status: Status
    details: dict[str, Message]
    pushback_ms: int
    request_id: str
    wire: str

    @property
    def error_info(self) -> ErrorInfo:
        """The one ErrorInfo."""
        detail = self.details["ErrorInfo"]
        assert isinstance(detail, ErrorInfo)
        return detail

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the ErrorInfo."""
        return dict(self.error_info.metadata)

    @property
    def retry_delay_ms(self) -> int | None:
        """What RetryInfo says, in milliseconds; None without one."""
        detail = self.details.get("RetryInfo")
        return detail.retry_delay.ToMilliseconds() if isinstance(detail, RetryInfo) else None

    @property
    def violations(self) -> list[tuple[str, str]]:
        """Field and reason of every violation of the BadRequest."""
        detail = self.details.get("BadRequest")
        assert isinstance(detail, BadRequest)
        return [(violation.field, violation.reason) for violation in detail.field_violations]


async def refused(call: Awaitable[object]) -> Refused:
    """Await a call that must be refused; two details of one type, or one of an unknown type, fail the test."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    trailers = {str(key): value for key, value in error.trailing_metadata()}
    raw = trailers["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    status = Status.FromString(raw)
    details = dict(map(_unpacked, status.details))
    assert len(details) == len(status.details), "two details of one type"
    texts = [raw.decode("latin-1"), str(status), str(error.details())]
    return Refused(
        code=error.code(),
        message=str(error.details()),
        status=status,
        details=details,
        pushback_ms=int(trailers["grpc-retry-pushback-ms"]),
        request_id=str(trailers["x-request-id"]),
        wire="\n".join([*texts, *(f"{key}: {value!r}" for key, value in trailers.items())]),
    )


def _unpacked(packed: Message) -> tuple[str, Message]:
    for detail_type in _DETAIL_TYPES:
        detail = detail_type()
        if packed.Unpack(detail):  # type: ignore[attr-defined]  # Any's own method, absent from its base
            return detail_type.__name__, detail
    raise AssertionError(f"an unknown detail: {packed}")
