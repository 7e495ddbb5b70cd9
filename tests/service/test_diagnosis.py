"""`diagnosis`: which of three limits it was, as far as a simulated Connect tells, and silence where it does not."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from fakes import FakeClock
from harness import connect_to
from monitor_contact_service.connect import Connect
from monitor_contact_service.core.asking import Asking
from monitor_contact_service.core.command import Capability, MonitorCommand
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.core.wire import encode
from monitor_contact_service.diagnosis import DENIED_SECONDS, Diagnosis
from monitor_contact_service.simulator import Fault, Simulator
from read_fakes import FakeReads, found, paced, script

_API = "GetCurrentUserData"
_LISTEN = (Capability.SILENT_MONITOR,)


@dataclass
class _Rig:
    simulator: Simulator
    connect: Connect
    clock: FakeClock
    diagnosis: Diagnosis

    def command(self, user: str, contact: str = "call") -> MonitorCommand:
        world = self.simulator.world
        ids = world.instances["main"].id, world.contacts[contact].id, world.users[user].id
        return MonitorCommand(*ids, _LISTEN, "")

    async def monitor(self, user: str, contact: str = "call") -> Failure | None:
        """Call Connect; return how it refuses."""
        command = self.command(user, contact)
        try:
            await self.connect.monitor_contact(
                encode(command, f"{user} {contact}"), timeout_seconds=5, attempt=1, max_attempts=1, invocation_id="i"
            )
        except Failure as failure:
            return failure
        return None

    async def cause(self, user: str, contact: str = "call", seconds: float = 10.0) -> str:
        """Have the service's own refusal explained."""
        failure = Failure(Reason.SERVICE_QUOTA_EXCEEDED, metadata={"aws_request_id": "r"})
        await self.diagnosis.explain(self.command(user, contact), failure, Asking("caller", self.clock() + seconds))
        assert failure.metadata["aws_request_id"] == "r"
        return failure.metadata["cause"]


@pytest.fixture
async def rig(simulator: Simulator) -> AsyncIterator[_Rig]:
    """A diagnosis in front of a simulator, by a clock that a test moves."""
    clock = FakeClock()
    async with connect_to(simulator.url) as connect:
        yield _Rig(simulator, connect, clock, Diagnosis(paced(connect, clock), clock=clock))


async def _refused(rig: _Rig, user: str, contact: str = "call") -> str:
    """Return the cause of a refusal that the simulated Connect gives."""
    failure = await rig.monitor(user, contact)
    assert failure is not None
    assert failure.reason is Reason.SERVICE_QUOTA_EXCEEDED
    await rig.diagnosis.explain(rig.command(user, contact), failure, Asking("caller", rig.clock() + 10))
    return failure.metadata["cause"]


async def test_a_supervisor_who_is_offline(rig: _Rig) -> None:
    """Connect has no data of who is not there."""
    assert await _refused(rig, "oscar") == "supervisor_offline"


async def test_a_supervisor_who_monitors_already(rig: _Rig) -> None:
    """The first session shows among the supervisor's contacts."""
    assert await rig.monitor("sue") is None
    assert await _refused(rig, "sue", "second-call") == "already_monitoring"


async def test_a_contact_that_is_full(rig: _Rig) -> None:
    """The third supervisor of a call is free, and so it must be the call."""
    assert [await rig.monitor(user) for user in ("sue", "sam")] == [None, None]
    assert await _refused(rig, "dora") == "contact_full"


@pytest.mark.parametrize("user", ["chris", "ann"])
async def test_what_cannot_be_told_is_not(rig: _Rig, user: str) -> None:
    """Who takes no calls, or is on one, may have been refused for that: no cause is named."""
    assert await rig.cause(user) == ""


async def test_it_asks_once(rig: _Rig) -> None:
    """One read for one refusal, also when it fails."""
    await rig.cause("oscar")
    assert rig.simulator.counts[_API] == 1
    rig.simulator.inject(Fault("error", api=_API, error="InternalServiceException"))
    assert await rig.cause("oscar") == ""
    assert rig.simulator.counts[_API] == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault("error", api=_API, error="ThrottlingException"),
        Fault("error", api=_API, error="ResourceNotFoundException"),
        Fault("error", api=_API, error="ExpiredTokenException"),
        Fault("error", api=_API, status=503),
        Fault("garbage", api=_API, garbage="html"),
        Fault("garbage", api=_API, garbage="no-contact-id"),
        Fault("close", api=_API),
    ],
    ids=lambda fault: fault.error or fault.garbage + str(fault.status),
)
async def test_whatever_goes_wrong_the_answer_stays(rig: _Rig, fault: Fault) -> None:
    """The refusal is as it was, without a cause; and the next one is asked about again."""
    rig.simulator.inject(fault)
    assert await rig.cause("oscar") == ""
    rig.simulator.clear_faults()
    rig.clock.advance(10)
    assert await rig.cause("oscar") == "supervisor_offline"


async def test_without_the_permission_it_is_silent(rig: _Rig) -> None:
    """And does not ask again for five minutes."""
    rig.simulator.inject(Fault("error", api=_API, error="AccessDeniedException"))
    for _ in range(3):
        assert await rig.cause("oscar") == ""
    assert rig.simulator.counts[_API] == 1
    rig.simulator.clear_faults()
    rig.clock.advance(DENIED_SECONDS - 1)
    assert await rig.cause("oscar") == ""
    rig.clock.advance(1)
    assert await rig.cause("oscar") == "supervisor_offline"


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.SERVICE_QUOTA_EXCEEDED])
async def test_other_failures_are_left_alone(rig: _Rig, reason: Reason) -> None:
    """Nothing is asked, nothing added."""
    failure = Failure(reason)
    await rig.diagnosis.explain(rig.command("oscar"), failure, Asking("caller", rig.clock() + 10))
    assert not failure.metadata
    assert not rig.simulator.counts[_API]


async def test_it_takes_only_time_that_is_there(rig: _Rig) -> None:
    """With less than an answer needs nothing is asked."""
    assert await rig.cause("oscar", seconds=0.2) == ""
    assert not rig.simulator.counts[_API]


async def test_it_takes_a_second_at_most_and_keeps_the_quota() -> None:
    """The caller waits: the time-out is a second, what is left before the deadline, or no turn at all."""
    clock = FakeClock()
    transport = FakeReads(clock, script(found({"UserDataList": []})))
    diagnosis = Diagnosis(paced(transport, clock, Quota(rate=0.5, burst=2)), clock=clock)
    command = MonitorCommand("i", "c", "u", _LISTEN, "")
    for seconds, cause in ((10.0, "supervisor_offline"), (10.0, "")):
        failure = Failure(Reason.SERVICE_QUOTA_EXCEEDED)
        await diagnosis.explain(command, failure, Asking("caller", clock() + seconds))
        assert failure.metadata == {"cause": cause}
    clock.advance(10)
    await diagnosis.explain(command, Failure(Reason.SERVICE_QUOTA_EXCEEDED), Asking("caller", clock() + 0.8))
    assert transport.timeouts == pytest.approx([1.0, 0.7])
