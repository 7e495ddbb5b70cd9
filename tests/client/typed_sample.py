"""User code as mypy --strict and pyright must see it: checked by test_types.py, never run."""

from collections.abc import Iterable
from typing import assert_type

import grpc
from monitor_contact_client import (
    AsyncMonitorContactCalls,
    AsyncMonitorContactClient,
    Capability,
    ErrorReason,
    MonitorContactCalls,
    MonitorContactClient,
    MonitorContactError,
    MonitoringSession,
    RetryLater,
    Throttled,
    TlsOptions,
    ValidationFailed,
    Violation,
)
from monitor_contact_client.testing import AsyncFakeMonitorContactClient, FakeMonitorContactClient, RecordedCall


def blocking() -> MonitoringSession:
    """Use the blocking client with every option."""
    with MonitorContactClient(
        "service:443",
        tls=TlsOptions(root_certificates="ca.pem", client_certificate=b"", client_key=b""),
        bearer_token=lambda: "token",
        timeout_seconds=5,
        retries=False,
        user_agent="sample/1",
        channel_options=[("grpc.keepalive_time_ms", 60_000), ("grpc.ssl_target_name_override", "service")],
    ) as client:
        assert_type(client, MonitorContactClient)
        session = client.monitor_contact(
            instance_id="i",
            contact_id="c",
            user_id="u",
            capabilities={Capability.SILENT_MONITOR, Capability.BARGE},
            client_token="t",
            timeout_seconds=2,
            metadata=[("x-monitor-reason", "coaching"), ("x-raw-bin", b"\x00")],
        )
    assert_type(session, MonitoringSession)
    assert_type(session.contact_id, str)
    assert_type(session.contact_arn, str | None)
    assert_type(session.client_token, str)
    assert_type(session.request_id, str | None)
    return session


async def in_asyncio() -> MonitoringSession:
    """Use the asyncio client."""
    async with AsyncMonitorContactClient("localhost:50051") as client:
        assert_type(client, AsyncMonitorContactClient)
        return assert_type(
            await client.monitor_contact(instance_id="i", contact_id="c", user_id="u"), MonitoringSession
        )


def handled(client: MonitorContactCalls) -> float:
    """Handle errors by family and by class."""
    try:
        client.monitor_contact(instance_id="i", contact_id="c", user_id="u")
    except ValidationFailed as error:
        assert_type(error.violations, tuple[Violation, ...])
    except RetryLater as error:
        return assert_type(error.retry_after, float | None) or 1.0
    except MonitorContactError as error:
        assert_type(error.code, grpc.StatusCode)
        assert_type(error.reason, ErrorReason | None)
        assert_type(error.reason_text, str | None)
        assert_type(error.message, str)
        assert_type(error.metadata, dict[str, str])
        assert_type(error.request_id, str | None)
        assert_type(error.aws_request_id, str | None)
        assert_type(error.client_token, str | None)
    return 0.0


def interchangeable() -> Iterable[MonitorContactCalls | AsyncMonitorContactCalls]:
    """Real clients and fakes fit the same protocols, so their signatures are the same."""
    real: MonitorContactCalls = MonitorContactClient("localhost:50051")
    fake: MonitorContactCalls = FakeMonitorContactClient(Throttled(retry_after=0.5))
    real_async: AsyncMonitorContactCalls = AsyncMonitorContactClient("localhost:50051")
    fake_async: AsyncMonitorContactCalls = AsyncFakeMonitorContactClient()
    return real, fake, real_async, fake_async


def recorded(fake: FakeMonitorContactClient) -> str:
    """Look at what a fake wrote down."""
    assert_type(fake.calls, list[RecordedCall])
    assert_type(fake.calls[0].capabilities, tuple[Capability, ...])
    return fake.calls[0].client_token


def refused(client: MonitorContactCalls) -> None:
    """Must not pass: an unused ignore is an error of mypy --strict."""
    client.monitor_contact(instance_id="i", contact_id="c", user_id="u", capabilities=["BARGE"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    client.monitor_contact("i", "c", "u")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
