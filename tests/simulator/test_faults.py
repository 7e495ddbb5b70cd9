"""Each fault does on a raw socket what it says, to the calls that it says."""

import asyncio
import json

import pytest
from monitor_contact_service.simulator import ACTIONS, GARBAGE, UNLIMITED, Fault, FaultError, Quota, Simulator, Switches
from monitor_contact_service.simulator.answers import STATUS_BY_ERROR
from monitor_contact_service.simulator.faults import parse_faults

from .support import Caller, FakeSleep

# ---- which calls ----


async def _statuses(caller: Caller, count: int) -> list[int]:
    return [(await caller.monitor()).status for _ in range(count)]


@pytest.fixture(autouse=True)
def _no_limits(sim: Simulator) -> None:
    sim.set_quota("MonitorContact", UNLIMITED)
    sim.switches = Switches(hard_limits=False)


async def test_a_fault_strikes_for_ever_until_cleared(sim: Simulator, caller: Caller) -> None:
    """Without `times` every call is struck."""
    sim.inject(Fault("error", status=500))
    assert await _statuses(caller, 3) == [500, 500, 500]
    sim.clear_faults()
    assert await _statuses(caller, 1) == [200]


async def test_a_fault_waits_and_stops(sim: Simulator, caller: Caller) -> None:
    """`after` lets calls pass, `times` ends it."""
    sim.inject(Fault("error", status=500, after=2, times=2))
    assert await _statuses(caller, 6) == [200, 200, 500, 500, 200, 200]


async def test_faults_strike_in_order(sim: Simulator, caller: Caller) -> None:
    """One fault a call, the first that applies: a script of what goes wrong."""
    sim.inject(Fault("error", error="ThrottlingException", times=2), Fault("error", status=503, times=1))
    assert await _statuses(caller, 4) == [429, 429, 503, 200]


async def test_a_fault_is_for_one_api_or_for_all(sim: Simulator, caller: Caller) -> None:
    """MonitorContact by default; other calls neither meet it nor use it up."""
    sim.inject(Fault("error", api="DescribeUser", status=500, times=1), Fault("error", api="*", status=502, after=2))
    path = f"/users/{sim.world.instances['main'].id}/{sim.world.users['sue'].id}"
    statuses = [(await caller.monitor()).status, (await caller.get(path)).status, (await caller.get(path)).status]
    assert statuses == [200, 500, 502]


async def test_chance_is_repeatable(sim: Simulator, caller: Caller) -> None:
    """A fault with a probability strikes the same calls again after a reset: the draws are seeded."""
    runs = []
    for _ in range(2):
        sim.reset()
        sim.set_quota("MonitorContact", UNLIMITED)
        sim.switches = Switches(hard_limits=False)
        sim.inject(Fault("error", status=500, probability=0.5))
        runs.append(await _statuses(caller, 20))
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}


# ---- errors ----


@pytest.mark.parametrize(("error", "status"), STATUS_BY_ERROR.items())
async def test_every_error_of_connect_is_there_by_name(sim: Simulator, caller: Caller, error: str, status: int) -> None:
    """Name alone gives the usual status; a request id is on it, and nothing was started or taken from the quota."""
    sim.inject(Fault("error", error=error))
    sim.set_quota("MonitorContact", Quota(0, 0))
    reply = await caller.monitor()
    assert (reply.status, reply.error) == (status, error)
    assert reply.text
    assert reply.headers["x-amzn-requestid"]
    assert not sim.sessions


@pytest.mark.parametrize(
    ("fault", "error", "body"),
    [
        (Fault("error", error="Throttling", message="m"), "Throttling", {"Message": "m"}),
        (
            Fault("error", error="Throttling", message="m", form="header-suffix"),
            "Throttling:http://internal.amazon.com/coral/com.amazonaws.connect/",
            {"Message": "m"},
        ),
        (Fault("error", error="Throttling", message="m", form="type"), "", {"__type": "Throttling", "Message": "m"}),
        (
            Fault("error", error="Throttling", message="m", form="type-namespace", message_key="message"),
            "",
            {"__type": "com.amazonaws.connect#Throttling", "message": "m"},
        ),
        (Fault("error", error="Throttling", message="", form="code"), "", {"code": "Throttling", "Message": ""}),
    ],
)
async def test_an_error_is_spelled_as_asked(
    sim: Simulator, caller: Caller, fault: Fault, error: str, body: dict[str, str]
) -> None:
    """Header, header with suffix, `__type` with and without namespace, `code`; `Message` or `message`."""
    sim.inject(fault)
    reply = await caller.monitor()
    assert (reply.error, reply.document) == (error, body)


@pytest.mark.parametrize(
    "fault", [Fault("error", status=429), Fault("error", error="ThrottlingException", form="bare")]
)
async def test_a_bare_status_has_no_name(sim: Simulator, caller: Caller, fault: Fault) -> None:
    """A status with an empty body, as a proxy sends it."""
    sim.inject(fault)
    reply = await caller.monitor()
    assert (reply.status, reply.error, reply.body) == (429, "", b"")


async def test_a_fault_may_add_headers(sim: Simulator, caller: Caller) -> None:
    """Such as Retry-After, of which AWS documents nothing."""
    sim.inject(Fault("error", status=429, headers={"Retry-After": "3", "x-amzn-RequestId": "mine"}))
    headers = (await caller.monitor()).headers
    assert (headers["retry-after"], headers["x-amzn-requestid"]) == ("3", "mine")


# ---- answers that make no sense ----


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_comes_as_it_is(sim: Simulator, caller: Caller, kind: str) -> None:
    """Every kind, with status 200 unless another is asked for; nothing is started."""
    sim.inject(Fault("garbage", garbage=kind, times=1), Fault("garbage", garbage=kind, status=503))
    first, second = await caller.monitor(), await caller.monitor()
    content_type, body = GARBAGE[kind]
    assert (first.status, second.status) == (200, 503)
    assert (first.headers["content-type"], first.body) == (content_type, body)
    assert not sim.sessions


async def test_garbage_may_hide_a_session(sim: Simulator, caller: Caller) -> None:
    """Acting first, the session starts though its id never arrives."""
    sim.inject(Fault("garbage", garbage="no-contact-id", act_first=True))
    assert (await caller.monitor()).document == {}
    assert len(sim.sessions) == 1


async def test_an_answer_may_be_made_by_hand(sim: Simulator, caller: Caller) -> None:
    """Status, headers and bytes are the test's own; no request id is added."""
    sim.inject(Fault("answer", status=418, headers={"Content-Type": "x/y", "x-amzn-errortype": ""}, body=b"\x00\xff"))
    reply = await caller.monitor()
    assert (reply.status, reply.headers["content-type"], reply.body) == (418, "x/y", b"\x00\xff")
    assert "x-amzn-requestid" not in reply.headers


async def test_a_redirect_leads_to_the_same_place(sim: Simulator, caller: Caller) -> None:
    """A client that follows it shows by a second call."""
    sim.inject(Fault("redirect", times=1))
    reply = await caller.monitor()
    assert (reply.status, reply.headers["location"], sim.counts["MonitorContact"]) == (307, "/contact/monitor", 1)


# ---- connections ----


@pytest.mark.parametrize("act_first", [False, True])
async def test_close_ends_the_connection_before_or_after_acting(
    sim: Simulator, caller: Caller, *, act_first: bool
) -> None:
    """Not a byte is answered; whether the session started is the fault's to say."""
    sim.inject(Fault("close", act_first=act_first))
    async with await caller.open() as wire:
        caller.send_monitor(wire)
        assert await wire.rest() == b""
    assert len(sim.sessions) == int(act_first)
    assert sim.calls()[0].status is None


async def test_reset_is_a_reset(sim: Simulator, caller: Caller) -> None:
    """The other side sees RST, not an orderly end."""
    sim.inject(Fault("reset"))
    async with await caller.open() as wire:
        caller.send_monitor(wire)
        with pytest.raises(ConnectionResetError):
            await wire.rest()


async def test_truncate_announces_more_than_it_sends(sim: Simulator, caller: Caller) -> None:
    """The answer is the right one, and half of it is missing."""
    sim.inject(Fault("truncate"))
    async with await caller.open() as wire:
        caller.send_monitor(wire)
        head, _, body = (await wire.rest()).partition(b"\r\n\r\n")
    announced = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body.startswith(b'{"ContactId": "' + sim.sessions[0].id.encode())
    assert len(body) == announced // 2


@pytest.mark.parametrize("act_first", [False, True])
async def test_hang_never_answers(sim: Simulator, caller: Caller, *, act_first: bool) -> None:
    """The connection stays open and silent until the caller gives up, and the simulator closes without waiting."""
    sim.inject(Fault("hang", act_first=act_first, times=1))
    async with await caller.open() as wire:
        caller.send_monitor(wire)
        assert await wire.waits()
        assert (await caller.monitor(contact="chat")).status == 200
        assert len(sim.sessions) == 1 + int(act_first)
        await sim.close()
        assert await wire.rest() == b""


async def test_delay_comes_with_any_action(sim: Simulator, caller: Caller, sleep: FakeSleep) -> None:
    """An error may be late too; while it waits, nothing is answered."""
    sim.inject(Fault("error", status=500, delay_seconds=2.5))
    async with await caller.open() as wire:
        caller.send_monitor(wire)
        await sleep.begun.wait()
        assert await wire.waits()
    assert sleep.asked == [2.5]


async def test_closing_drops_a_delayed_call(sim: Simulator, caller: Caller, sleep: FakeSleep) -> None:
    """What waits to take effect when the simulator closes never does."""
    sim.inject(Fault("delay", delay_seconds=60))
    async with await caller.open() as wire:
        caller.send_monitor(wire)
        await sleep.begun.wait()
        await sim.close()
        assert await wire.rest() == b""
    assert not sim.sessions


@pytest.mark.parametrize(("skew", "text"), [(400, "Signature expired: "), (-400, "Signature not yet current: ")])
async def test_skew_judges_by_another_clock(sim: Simulator, caller: Caller, skew: float, text: str) -> None:
    """The signature's time is wrong by the skewed clock, which the Date header shows."""
    sim.inject(Fault("skew", skew_seconds=skew, times=1))
    reply = await caller.monitor()
    assert (reply.status, reply.error) == (403, "InvalidSignatureException")
    assert reply.text.startswith(text)
    assert reply.headers["date"] != (await caller.monitor()).headers["date"]


async def test_a_kept_connection_goes_stale_unannounced(sim: Simulator, caller: Caller) -> None:
    """After so many answers the connection ends, and no header said that it would."""
    sim.switches = Switches(hard_limits=False, close_idle_after_requests=2)
    async with await caller.open() as wire:
        for _ in range(2):
            caller.send_monitor(wire)
            reply = await wire.receive()
            assert (reply.status, "connection" in reply.headers) == (200, False)
        assert await wire.rest() == b""


async def test_a_connection_is_kept_otherwise(caller: Caller) -> None:
    """HTTP/1.1 keep-alive, as Connect's."""
    async with await caller.open() as wire:
        for _ in range(3):
            caller.send_monitor(wire)
            assert (await wire.receive()).status == 200
        assert await wire.waits()


async def test_a_body_that_ends_early_is_no_call(sim: Simulator, caller: Caller) -> None:
    """A caller that leaves in the middle of its request does no harm and is not counted."""
    async with await caller.open() as wire:
        wire.write(b"POST /contact/monitor HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{")
    assert (await caller.monitor()).status == 200
    assert sim.counts["MonitorContact"] == 1


# ---- written down ----


def test_faults_are_read_from_json() -> None:
    """Every field under its own name; one object is a list of one; a body as text or base64."""
    document = [
        {"action": "error", "api": "*", "error": "SlowDown", "status": 503, "times": 2, "after": 1, "probability": 0.5},
        {"action": "answer", "body": "é", "headers": {"A": "b"}},
        {"action": "answer", "body_base64": "AP8="},
    ]
    assert parse_faults(json.loads(json.dumps(document))) == [
        Fault("error", api="*", error="SlowDown", status=503, times=2, after=1, probability=0.5),
        Fault("answer", body="é".encode(), headers={"A": "b"}),
        Fault("answer", body=b"\x00\xff"),
    ]
    assert parse_faults({"action": "hang"}) == [Fault("hang")]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("hang", "must be an object with an action"),
        ({}, "must be an object with an action"),
        ({"action": "explode"}, f"action must be one of {', '.join(ACTIONS)}"),
        ({"action": "hang", "api": "Monitor"}, "api must be one of MonitorContact, DescribeUser"),
        ({"action": "hang", "tims": 1}, "unknown key 'tims'; there are action, api, times"),
        ({"action": "hang", "times": 0}, "times must be at least 1"),
        ({"action": "hang", "times": True}, "times cannot be True"),
        ({"action": "hang", "times": "2"}, "times cannot be '2'"),
        ({"action": "hang", "probability": 1.5}, "probability must be from 0 to 1"),
        ({"action": "hang", "delay_seconds": -1}, "after and delay_seconds cannot be negative"),
        ({"action": "error", "error": "Unheard"}, "Unheard is no error of Connect; give its status too"),
        ({"action": "error"}, 'the action "error" needs error or status'),
        ({"action": "error", "error": ""}, 'the action "error" needs error or status'),
        ({"action": "delay"}, 'the action "delay" needs delay_seconds above 0'),
        ({"action": "delay", "delay_seconds": 0}, 'the action "delay" needs delay_seconds above 0'),
        ({"action": "skew"}, 'the action "skew" needs skew_seconds other than 0'),
        ({"action": "hang", "garbage": "html"}, 'garbage needs the action "garbage"'),
        ({"action": "hang", "garbage": "empty"}, 'garbage needs the action "garbage"'),
        ({"action": "hang", "form": "bare"}, 'form needs the action "error"'),
        ({"action": "hang", "form": "header"}, 'form needs the action "error"'),
        ({"action": "close", "message": "m"}, 'message needs the action "error"'),
        ({"action": "close", "message_key": "message"}, 'message_key needs the action "error"'),
        ({"action": "hang", "status": 503}, 'status needs the action "error" or "garbage" or "answer" or "redirect"'),
        ({"action": "hang", "body_base64": ""}, 'body needs the action "answer"'),
        ({"action": "error", "form": "loud"}, "form must be one of header"),
        ({"action": "error", "message_key": "text"}, "message_key must be one of Message, message"),
        ({"action": "error", "status": 99}, "status must be from 200 to 599"),
        ({"action": "garbage", "garbage": "x"}, "garbage must be one of html"),
        ({"action": "hang", "error": "SlowDown"}, 'error needs the action "error"'),
        ({"action": "hang", "body": "x"}, 'body needs the action "answer"'),
        ({"action": "hang", "skew_seconds": 5}, 'skew_seconds needs the action "skew"'),
        ({"action": "answer", "body_base64": "?"}, "body_base64 is not base64"),
        ({"action": "answer", "headers": {"a": 1}}, "headers must be texts"),
        ({"action": "answer", "headers": {"a": "b\r\nc"}}, "headers cannot hold line breaks"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(item: object, reason: str) -> None:
    """The text says in which fault of the list, and what would be right."""
    with pytest.raises(FaultError) as caught:
        parse_faults([{"action": "hang"}, item])
    assert str(caught.value).startswith(f"fault 2: {reason}")


@pytest.mark.parametrize("document", [{}, "hang", 5, None])
def test_what_are_no_faults_is_told_what_they_are(document: object) -> None:
    """A list of objects, with an example; there is no first fault to speak of."""
    with pytest.raises(FaultError, match=r"^faults must be a list of objects, each with an action, e.g. "):
        parse_faults(document)


def test_a_fault_in_python_names_what_it_misses_too() -> None:
    """`Fault` itself refuses what JSON may not say."""
    with pytest.raises(FaultError, match="needs error or status"):
        Fault("error")
    with pytest.raises(FaultError, match="needs delay_seconds"):
        Fault("delay")
    with pytest.raises(FaultError, match="form needs the action"):
        Fault("hang", form="bare")


async def test_an_unknown_error_may_be_given_with_its_status(sim: Simulator, caller: Caller) -> None:
    """For names that AWS may invent tomorrow."""
    sim.inject(Fault("error", error="TomorrowException", status=400))
    reply = await asyncio.wait_for(caller.monitor(), 5)
    assert (reply.status, reply.error, reply.text) == (400, "TomorrowException", "TomorrowException")
