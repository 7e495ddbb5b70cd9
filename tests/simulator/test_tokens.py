"""ClientToken idempotency over the wire: the same answer, the two conflicts, forgetting and expiry."""

import asyncio

from monitor_contact_service.simulator import Fault, Simulator, Switches

from .support import LISTEN_AND_BARGE, Caller, FakeClock, FakeSleep


async def test_the_same_token_gets_the_same_answer_whatever_has_changed(sim: Simulator, caller: Caller) -> None:
    """The token is looked at before the world: the supervisor's going offline changes nothing."""
    first = await caller.monitor(token="token")
    sim.world = sim.world.change("users", "sue", online=False)
    again = await caller.monitor(token="token")
    assert (again.status, again.document) == (200, first.document)
    assert again.headers["x-amzn-requestid"] != first.headers["x-amzn-requestid"]
    assert len(sim.sessions) == 1


async def test_any_other_parameter_is_a_conflict(caller: Caller) -> None:
    """Contact, user and capabilities each make another request of it."""
    await caller.monitor(token="token")
    for changed in ({"contact": "chat"}, {"user": "sam"}, {"capabilities": LISTEN_AND_BARGE}):
        reply = await caller.monitor(token="token", **changed)
        assert (reply.status, reply.text) == (409, "An entity with the same name already exists")


async def test_no_token_is_never_the_same_call(sim: Simulator, caller: Caller) -> None:
    """An empty token counts as none: each call acts for itself."""
    for token in (None, "", ""):
        assert (await caller.monitor(contact="chat", token=token)).status == 200
    assert len(sim.sessions) == 3


async def test_a_refused_call_forgets_its_token(sim: Simulator, caller: Caller) -> None:
    """What was refused may be tried again with the same token, even for something else."""
    assert (await caller.monitor(user="oscar", token="token")).status == 402
    sim.world = sim.world.change("users", "oscar", online=True)
    assert (await caller.monitor(user="oscar", token="token")).status == 200


async def test_a_token_lives_seven_days(sim: Simulator, caller: Caller, clock: FakeClock) -> None:
    """To the second; then it is a new one."""
    sim.switches = Switches(hard_limits=False)
    first = (await caller.monitor(token="token")).document
    clock.now += 7 * 24 * 3600 - 1
    assert (await caller.monitor(token="token")).document == first
    clock.now += 1
    assert (await caller.monitor(token="token")).document != first


async def test_a_call_in_flight_holds_its_token(sim: Simulator, caller: Caller, sleep: FakeSleep) -> None:
    """While the first call is under way, a second with its token is a conflict, whatever its parameters."""
    sim.inject(Fault("delay", delay_seconds=2, times=1))
    first = asyncio.create_task(caller.monitor(token="token"))
    await sleep.begun.wait()
    for members in ({}, {"contact": "chat"}):
        second = await caller.monitor(token="token", **members)
        assert (second.status, second.text) == (409, "Another request with same clientToken is in progress")
    sleep.over.set()
    assert (await first).status == 200
    assert (await caller.monitor(token="token")).document == (await first).document


async def test_a_caller_that_leaves_does_not_stop_the_call(sim: Simulator, caller: Caller, sleep: FakeSleep) -> None:
    """A time-out on the caller's side proves nothing: the session starts, and the retry gets its id."""
    sim.inject(Fault("delay", delay_seconds=5, times=1))
    async with await caller.open() as wire:
        caller.send_monitor(wire, token="token")
        await sleep.begun.wait()
    sleep.over.set()
    retried = await caller.monitor(token="token")
    assert retried.document["ContactId"] == sim.sessions[0].id
    assert len(sim.sessions) == 1


async def test_a_500_after_acting_keeps_the_token(sim: Simulator, caller: Caller) -> None:
    """The retry with the same token gets the id of the session that the failed call started."""
    sim.inject(Fault("error", error="InternalServiceException", act_first=True, times=1))
    assert (await caller.monitor(token="token")).status == 500
    (session,) = sim.sessions
    assert (await caller.monitor(token="token")).document["ContactId"] == session.id


async def test_latency_delays_every_call(sim: Simulator, caller: Caller, sleep: FakeSleep) -> None:
    """The switch holds each call in flight for as long, and a fault's delay comes on top."""
    sim.switches = Switches(latency_seconds=0.5)
    sim.inject(Fault("delay", delay_seconds=1, after=1))
    sleep.over.set()
    await caller.monitor()
    await caller.monitor(contact="chat")
    assert sleep.asked == [0.5, 1.5]
