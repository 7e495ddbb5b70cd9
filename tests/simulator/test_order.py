"""The order of the checks and every row of the table in docs/simulator.md."""

import json
from collections.abc import Callable
from uuid import UUID

import pytest
from monitor_contact_service.simulator import Quota, Simulator, Switches

from .support import LISTEN, LISTEN_AND_BARGE, Caller, FakeClock, Key, Reply, Wire, monitor_body, sign

INVALID_INPUT = "One or more of the input parameters are invalid"
BAD_STATE = "The contact or agent is not in the state that can be monitored"
NO_QUOTA = "Service quota has been exceeded"


class _Call:
    """A call with which everything is wrong; each method mends one thing."""

    def __init__(self, simulator: Simulator, clock: FakeClock) -> None:
        self.simulator, self.clock = simulator, clock
        self.path, self.secret, self.body, self.token = "/contact/listen", "wrong", b"{", "used"
        self.user_id = "nobody"
        simulator.switches = Switches(check_security_profile=True)
        simulator.set_quota("MonitorContact", Quota(rate=0, burst=0))
        self.change("instances", "main", service_linked_role=False)
        self.change("contacts", "call", channel="TASK", state="ENDED", agent_id=None)
        self.change("users", "pat", online=False, security_profile_ids=(self.profile("agent"),))

    def profile(self, name: str) -> str:
        return self.simulator.world.security_profiles[name].id

    def change(self, section: str, name: str, **facts: object) -> None:
        self.simulator.world = self.simulator.world.change(section, name, **facts)

    def compose(self, capabilities: list[str]) -> None:
        members = json.loads(monitor_body(self.simulator.world, user="pat", capabilities=capabilities))
        self.body = json.dumps({**members, "UserId": self.user_id, "ClientToken": self.token}).encode()

    def use(self, *, token: str | None = None, user: str | None = None) -> None:
        self.token = token or self.token
        self.user_id = self.simulator.world.users[user].id if user else self.user_id
        self.compose(["BARGE"])

    async def send(self) -> Reply:
        url = self.simulator.url + self.path
        async with await Wire.open(url) as wire:
            headers = sign("POST", url, self.body, key=Key(secret=self.secret), now=self.clock.now)
            wire.send("POST", self.path, self.body, headers)
            return await wire.receive()


_STEPS: tuple[tuple[Callable[[_Call], object], int, str, str], ...] = (  # mend, then status, error, start of the text
    (lambda _: None, 404, "UnknownOperationException", ""),
    (lambda call: setattr(call, "path", "/contact/monitor"), 403, "InvalidSignatureException", ""),
    (lambda call: setattr(call, "secret", "simulator-secret"), 429, "ThrottlingException", "Too Many Requests"),
    (
        lambda call: call.simulator.set_quota("MonitorContact", Quota(rate=1e6, burst=1e6)),
        429,
        "ThrottlingException",
        "",
    ),  # a bigger bucket is not a fuller one
    (lambda call: setattr(call.clock, "now", call.clock.now + 1), 400, "InvalidRequestException", INVALID_INPUT),
    (lambda call: call.use(), 409, "IdempotencyException", "An entity with the same name already exists"),
    (lambda call: call.use(token="new"), 404, "ResourceNotFoundException", "One or more of the request resources"),
    (lambda call: call.use(user="pat"), 403, "AccessDeniedException", "You do not have access to the agent. Contact"),
    (
        lambda call: call.change("instances", "main", service_linked_role=True),
        400,
        "InvalidRequestException",
        "MonitorContact is not supported for `TASK` contacts",
    ),
    (lambda call: call.change("contacts", "call", channel="VOICE"), 400, "InvalidRequestException", BAD_STATE),
    (
        lambda call: call.change("contacts", "call", state="CONNECTED"),
        400,
        "InvalidRequestException",
        "No AGENT participant found in the contact",
    ),
    (
        lambda call: call.change("contacts", "call", agent_id=call.simulator.world.users["ann"].id),
        400,
        "InvalidRequestException",
        "AllowedMonitorCapabilities must be provided and have `SILENT_MONITOR` value at the least",
    ),
    (lambda call: call.compose(LISTEN_AND_BARGE), 403, "AccessDeniedException", "Access denied"),
    (
        lambda call: call.change("users", "pat", security_profile_ids=(call.profile("supervisor"),)),
        400,
        "InvalidRequestException",
        "User's phone number is invalid",
    ),
    (
        lambda call: call.change("users", "pat", desk_phone="+12065550100"),
        402,
        "ServiceQuotaExceededException",
        NO_QUOTA,
    ),
    (lambda call: call.change("users", "pat", online=True), 200, "", ""),
)


async def test_checks_are_made_in_the_order_of_the_table(sim: Simulator, caller: Caller, clock: FakeClock) -> None:
    """Of a call with which everything is wrong, one thing is mended at a time: each answer is the next row's."""
    sim.world = sim.world.change("instances", "main", enhanced_contact_monitoring=True)
    assert (await caller.monitor(contact="chat", user="dora", token="used")).status == 200
    call = _Call(sim, clock)
    for mend, status, error, text in _STEPS:
        mend(call)
        reply = await call.send()
        said = "" if reply.status == 200 else reply.text
        assert (reply.status, reply.error, said[: len(text)]) == (status, error, text)


async def test_a_call_in_order_starts_a_session(sim: Simulator, caller: Caller, clock: FakeClock) -> None:
    """The answer names a new MONITOR contact, in the account's own ARN, and the session can be read back."""
    reply = await caller.monitor(capabilities=LISTEN_AND_BARGE)
    (session,) = sim.sessions
    new_id, instance = reply.document["ContactId"], sim.world.instances["main"]
    assert reply.status == 200
    assert UUID(new_id).version == 4
    assert new_id != session.contact_id
    assert reply.document["ContactArn"] == (
        f"arn:aws:connect:us-east-1:123456789012:instance/{instance.id}/contact/{new_id}"
    )
    assert UUID(reply.headers["x-amzn-requestid"]).version == 4
    assert reply.headers["content-type"] == "application/json"
    assert (session.id, session.contact_id, session.user_id, session.capabilities, session.started_at) == (
        new_id,
        sim.world.contacts["call"].id,
        sim.world.users["sue"].id,
        ("SILENT_MONITOR", "BARGE"),
        clock.now,
    )


@pytest.mark.parametrize(
    ("members", "status", "text"),
    [
        (
            {"instance": "unlinked", "contact": "unlinked-call", "user": "una"},
            403,
            "You do not have access to the agent. ",
        ),
        ({"instance": "plain"}, 404, "One or more of the request resources were not found"),
        ({"user": "polly"}, 404, "One or more of the request resources were not found"),
        ({"contact": "plain-call"}, 404, "One or more of the request resources were not found"),
        ({"contact": "task"}, 400, "MonitorContact is not supported for `TASK` contacts"),
        ({"contact": "email"}, 400, "MonitorContact is not supported for `EMAIL` contacts"),
        ({"contact": "ended"}, 400, BAD_STATE),
        ({"contact": "ringing"}, 400, BAD_STATE),
        ({"contact": "queued"}, 400, "No AGENT participant found in the contact"),
        ({"capabilities": []}, 400, "AllowedMonitorCapabilities must be provided"),
        ({"capabilities": ["BARGE"]}, 400, "AllowedMonitorCapabilities must be provided"),
        (
            {"instance": "plain", "contact": "plain-call", "user": "polly", "capabilities": LISTEN_AND_BARGE},
            400,
            "Monitoring failed, please enable multi party conferencing feature",
        ),
        (
            {"instance": "plain", "contact": "unrecorded-call", "user": "polly"},
            400,
            "Monitoring failed, please enable call recording",
        ),
        ({"user": "pat"}, 400, "User's phone number is invalid"),
        ({"user": "oscar"}, 402, NO_QUOTA),
        ({"user": "chris"}, 402, NO_QUOTA),
        ({"user": "sue"}, 200, ""),
        ({"user": "lee", "capabilities": LISTEN_AND_BARGE}, 200, ""),
        ({"user": "nora"}, 200, ""),
        ({"user": "dora"}, 200, ""),
        ({"contact": "on-hold"}, 200, ""),
        ({"contact": "chat", "user": "chris"}, 200, ""),
        ({"instance": "plain", "contact": "plain-call", "user": "polly", "capabilities": []}, 200, ""),
    ],
)
async def test_the_default_world_meets_every_answer_by_name(
    caller: Caller, members: dict[str, object], status: int, text: str
) -> None:
    """What the comments of the default world say of its people and contacts is so."""
    reply = await caller.monitor(**members)
    said = "" if reply.status == 200 else reply.text
    assert (reply.status, said[: len(text)]) == (status, text)


@pytest.mark.parametrize(
    ("user", "capabilities", "status"),
    [
        ("sue", LISTEN_AND_BARGE, 200),
        ("lee", LISTEN, 200),
        ("lee", LISTEN_AND_BARGE, 403),
        ("nora", LISTEN, 403),
    ],
)
async def test_security_profiles_count_when_switched_on(
    sim: Simulator, caller: Caller, user: str, capabilities: list[str], status: int
) -> None:
    """Listening needs ManagerListenIn, barging ManagerBargeIn as well."""
    sim.switches = Switches(check_security_profile=True)
    assert (await caller.monitor(user=user, capabilities=capabilities)).status == status


_VALID: dict[str, object] = {"InstanceId": "i", "ContactId": "c", "UserId": "u", "AllowedMonitorCapabilities": LISTEN}


@pytest.mark.parametrize(
    "members",
    [
        {"InstanceId": "é" * 100},
        {"ContactId": "🙂" * 256},
        {"UserId": "é" * 256},
        {"ClientToken": "🙂" * 500},
        {"ClientToken": None, "AllowedMonitorCapabilities": None},
        {"AllowedMonitorCapabilities": ["BARGE", "BARGE"]},
        {"Unknown": {"member": 1}},
    ],
)
async def test_input_at_its_limit_is_valid(caller: Caller, members: dict[str, object]) -> None:
    """Lengths count characters, unknown members are ignored: all of this fails only because nothing has such ids."""
    assert (await caller.post(json.dumps({**_VALID, **members}).encode())).status == 404


_INVALID: tuple[dict[str, object], ...] = (
    {"InstanceId": "é" * 101},
    {"ContactId": "🙂" * 257},
    {"UserId": "é" * 257},
    {"ClientToken": "🙂" * 501},
    {"InstanceId": ""},
    {"ContactId": None},
    {"UserId": 5},
    {"ClientToken": 5},
    {"AllowedMonitorCapabilities": "SILENT_MONITOR"},
    {"AllowedMonitorCapabilities": ["WHISPER"]},
    {"AllowedMonitorCapabilities": [[]]},
    {"AllowedMonitorCapabilities": ["SILENT_MONITOR", "BARGE", "BARGE"]},
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff",
        b"[" * 100_000,
        *(json.dumps(_VALID | wrong).encode() for wrong in _INVALID),
    ],
)
async def test_input_beyond_its_limit_is_refused(caller: Caller, body: bytes) -> None:
    """What is no JSON object, of a wrong type, too long, or unknown gets the 400 for input."""
    reply = await caller.post(body)
    assert (reply.status, reply.error, reply.text) == (400, "InvalidRequestException", INVALID_INPUT)


async def test_an_instance_arn_is_as_good_as_its_id(sim: Simulator, caller: Caller) -> None:
    """A whole ARN is short enough to be an InstanceId, and Connect takes it."""
    arn = sim.world.arn(sim.world.instances["main"].id)
    body = json.loads(monitor_body(sim.world)) | {"InstanceId": arn}
    assert (await caller.post(json.dumps(body).encode())).status == 200


@pytest.mark.parametrize(
    "target",
    ["/", "/contact", "/contact/monitor/", "/users/i", "/users/i/u/x", "/users/i/..", "/users/i/", "/instance/i/u"],
)
async def test_an_unknown_path_is_an_unknown_operation(sim: Simulator, caller: Caller, target: str) -> None:
    """404 before anything is signed or counted; dot segments lead to another path, as boto3's callers find out."""
    reply = await caller.get(target)
    assert (reply.status, reply.error) == (404, "UnknownOperationException")
    assert not sim.counts


async def test_a_body_beyond_a_megabyte_is_too_large(caller: Caller) -> None:
    """Connect's front end refuses what no call needs."""
    reply = await caller.post(b"x" * (1024 * 1024 + 1))
    assert (reply.status, reply.error) == (413, "RequestEntityTooLargeException")
