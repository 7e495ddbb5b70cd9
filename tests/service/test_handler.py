"""`handler`: whatever a call is refused for, the audit has it, once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc.aio
import harness
import pytest
from audit_fakes import MemoryLog
from fakes import FakeClock, FakeTransport
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact_service.settings import Settings

if TYPE_CHECKING:
    Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

_METHOD = "/monitor_contact.v1.MonitorContactService/MonitorContact"
_VALID = MonitorContactRequest(
    instance_id=harness.INSTANCE_ID, contact_id=harness.CONTACT_ID, user_id=harness.USER_ID
).SerializeToString()


@dataclass(frozen=True, slots=True)
class Sent:
    """What a caller sends."""

    body: bytes = _VALID
    metadata: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 10.0


_REFUSED = {
    "metadata that may not be looked at": (Sent(metadata=(("x-monitor-ticket", "a"),) * 2), "VALIDATION_FAILED"),
    "too little time": (Sent(timeout_seconds=0.09), "DEADLINE_TOO_SHORT"),
    "a token where none are accepted": (Sent(metadata=(("authorization", "Bearer x"),)), "UNAUTHENTICATED"),
    "bytes that are no message": (Sent(body=b"\xff\xff"), "VALIDATION_FAILED"),
    "a field that is missing": (Sent(body=b""), "VALIDATION_FAILED"),
}


@pytest.mark.parametrize(("sent", "reason"), _REFUSED.values(), ids=_REFUSED)
async def test_a_refusal_is_recorded_once(sent: Sent, reason: str) -> None:
    """Even what the interceptor refuses, before any step of the request is made; and nothing is sent to Connect."""
    log, transport = MemoryLog(), FakeTransport(FakeClock())
    async with harness.serving(transport, audit_log=log) as service:
        call: Call = service.channel.unary_unary(_METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(sent.body, metadata=sent.metadata, timeout=sent.timeout_seconds)
    assert transport.sent == []
    (record,) = log.records
    trailers = dict(raised.value.trailing_metadata() or ())
    assert (record["stage"], record["error_reason"]) == ("denied", reason)
    assert record["id"] == trailers["x-request-id"]
    assert record["peer_ip"] == "127.0.0.1"


async def test_a_call_that_was_not_begun_is_not_counted_against_its_rate() -> None:
    """The audit is away for a moment: the repetition, a second later, is not above the rate of one a minute."""
    log, settings = MemoryLog(), Settings(**harness.UNPACED, caller_rate_per_minute=1)
    async with harness.serving(FakeTransport(FakeClock()), settings, audit_log=log) as service:
        call: Call = service.channel.unary_unary(_METHOD)
        log.failure = "away"
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call(_VALID, timeout=10.0)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        log.failure = ""
        await call(_VALID, timeout=10.0)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(_VALID, timeout=10.0)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_and_reflection_leave_no_record() -> None:
    """They do nothing to anybody; a probe with foreign metadata does not fill the disk."""
    log = MemoryLog()
    async with harness.serving(FakeTransport(FakeClock()), audit_log=log) as service:
        check: Call = service.channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.aio.AioRpcError):
            await check(b"", metadata=(("x-monitor-ticket", "a"),) * 2)
        await check(b"")
    assert log.records == []
