"""The hard limits on sessions, which no quota request raises: docs/simulator.md, check 10."""

import pytest
from monitor_contact_service.simulator import UNLIMITED, Simulator, Switches

from .support import LISTEN, LISTEN_AND_BARGE, Caller

_SUPERVISORS = ("sue", "sam", "lee", "nora", "dora", "tara")


@pytest.mark.parametrize(
    ("channel", "enhanced", "limit"), [("VOICE", True, 2), ("VOICE", False, 5), ("CHAT", True, 5), ("CHAT", False, 5)]
)
async def test_a_contact_takes_so_many_supervisors(
    sim: Simulator, caller: Caller, channel: str, limit: int, *, enhanced: bool
) -> None:
    """Two on a call with enhanced monitoring, else five; five on a chat. The next one gets 402."""
    sim.set_quota("MonitorContact", UNLIMITED)
    sim.world = sim.world.change(
        "instances", "main", enhanced_contact_monitoring=enhanced, enhanced_chat_monitoring=enhanced
    ).change("contacts", "call", channel=channel)
    capabilities = LISTEN_AND_BARGE if enhanced else LISTEN
    statuses = [(await caller.monitor(user=user, capabilities=capabilities)).status for user in _SUPERVISORS]
    assert statuses == [200] * limit + [402] * (len(_SUPERVISORS) - limit)


async def test_a_supervisor_listens_to_one_call(sim: Simulator, caller: Caller) -> None:
    """A second call gets 402 until the first session ends; a chat beside it is another matter."""
    assert (await caller.monitor()).status == 200
    assert (await caller.monitor(contact="second-call")).status == 402
    assert (await caller.monitor(contact="chat")).status == 200
    sim.end_session(sim.sessions[0].id)
    assert (await caller.monitor(contact="second-call")).status == 200


async def test_a_supervisor_has_the_chats_of_the_routing_profile(sim: Simulator, caller: Caller) -> None:
    """As many chats at once as the routing profile says; none of them means 402."""
    sim.world = sim.world.change("contacts", "call", channel="CHAT")
    assert (await caller.monitor(contact="chat", user="chris")).status == 200
    assert (await caller.monitor(contact="call", user="chris")).status == 402
    sim.world = sim.world.change("users", "sue", concurrent_chats=0)
    assert (await caller.monitor(contact="chat")).status == 402


async def test_limits_can_be_switched_off(sim: Simulator, caller: Caller) -> None:
    """For load tests on one contact; a supervisor who is offline is still refused."""
    sim.switches = Switches(hard_limits=False)
    assert [(await caller.monitor()).status for _ in range(4)] == [200] * 4
    assert (await caller.monitor(user="oscar")).status == 402


def test_a_session_that_does_not_exist_cannot_end(sim: Simulator) -> None:
    """A mistyped id is an error, not a silent nothing."""
    with pytest.raises(KeyError):
        sim.end_session("nobody")
