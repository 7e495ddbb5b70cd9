"""The fakes that this package ships for its users' tests behave as the clients do, without gRPC."""

import asyncio
import uuid
from collections.abc import Iterable

import pytest
from monitor_contact_client import (
    Capability,
    Metadata,
    MonitorContactError,
    MonitoringSession,
    RequestTooLarge,
    RetryLater,
    Throttled,
)
from monitor_contact_client.testing import AsyncFakeMonitorContactClient, FakeMonitorContactClient, RecordedCall

from client.twins import Kind


class Fake:
    """Either fake behind one blocking face."""

    def __init__(self, kind: Kind, *answers: MonitoringSession | MonitorContactError) -> None:
        self.fake = (
            FakeMonitorContactClient(*answers) if kind == "blocking" else AsyncFakeMonitorContactClient(*answers)
        )

    def call(
        self,
        *,
        capabilities: Iterable[Capability] = (),
        client_token: str | None = None,
        timeout_seconds: float | None = None,
        metadata: Metadata = (),
    ) -> MonitoringSession:
        """Make a call."""
        answer = self.fake.monitor_contact(
            instance_id="i",
            contact_id="c",
            user_id="u",
            capabilities=capabilities,
            client_token=client_token,
            timeout_seconds=timeout_seconds,
            metadata=metadata,
        )
        return answer if isinstance(answer, MonitoringSession) else asyncio.run(answer)


def test_fake_answers_from_its_script_and_then_succeeds(kind: Kind) -> None:
    """Sessions and exceptions in order; afterwards each call gets a session of its own."""
    scripted = MonitoringSession("s", "arn", "t", "r")
    fake = Fake(kind, Throttled(retry_after=0.5), scripted)
    with pytest.raises(RetryLater) as caught:
        fake.call(client_token="mine")
    assert (caught.value.retry_after, caught.value.client_token) == (0.5, "mine")
    assert fake.call() is scripted
    assert fake.call().contact_id != fake.call().contact_id


def test_fake_writes_calls_down(kind: Kind) -> None:
    """Every argument, as the service would see it."""
    fake = Fake(kind)
    session = fake.call(capabilities=[Capability.SILENT_MONITOR], timeout_seconds=2.0, metadata=[("x-a", "b")])
    assert fake.fake.calls == [
        RecordedCall("i", "c", "u", (Capability.SILENT_MONITOR,), session.client_token, 2.0, (("x-a", "b"),))
    ]
    assert uuid.UUID(session.client_token).version == 4


def test_scripted_exception_is_never_changed(kind: Kind) -> None:
    """One exception object may stand in many scripts."""
    error = Throttled()
    fake = Fake(kind, error, error)
    for token in ("one", "two"):
        with pytest.raises(Throttled) as caught:
            fake.call(client_token=token)
        assert caught.value.client_token == token
    assert error.client_token is None


def test_fake_refuses_what_a_client_refuses(kind: Kind) -> None:
    """Faults of the calling code show in its tests; refused calls are not recorded."""
    fake = Fake(kind)
    with pytest.raises(TypeError):
        fake.call(capabilities=["BARGE"])  # type: ignore[list-item]
    with pytest.raises(RequestTooLarge):
        fake.call(client_token="x" * 20_000)
    with pytest.raises(RequestTooLarge):
        fake.call(metadata=[("x-a", "v" * 8_000)])
    with pytest.raises(ValueError, match="timeout_seconds"):
        fake.call(timeout_seconds=0)
    with pytest.raises(ValueError, match="metadata key"):
        fake.call(metadata=[("Upper", "x")])
    assert fake.fake.calls == []


def test_blocking_fake_closes() -> None:
    """`with` closes it; a closed fake refuses calls as a client does."""
    with FakeMonitorContactClient() as fake:
        pass
    assert fake.closed
    with pytest.raises(RuntimeError, match="closed"):
        fake.monitor_contact(instance_id="i", contact_id="c", user_id="u")


async def test_asyncio_fake_closes() -> None:
    """`async with` closes it."""
    async with AsyncFakeMonitorContactClient() as fake:
        pass
    assert fake.closed
    with pytest.raises(RuntimeError, match="closed"):
        await fake.monitor_contact(instance_id="i", contact_id="c", user_id="u")
