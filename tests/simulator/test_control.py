"""The control API and the read-back: what a test in another process can do and see."""

import json

import pytest
from monitor_contact_service.simulator import Simulator, default_world_text

from .support import Caller, Wire, monitor_body, sign


async def test_faults_are_set_and_cleared(caller: Caller) -> None:
    """A new list replaces the old one; the state tells how often each has struck."""
    await caller.control("PUT", "faults", b'[{"action": "error", "status": 500}]')
    state = await caller.control("PUT", "faults", b'{"action": "error", "status": 503, "after": 1}')
    assert state.document["faults"] == [{"action": "error", "api": "MonitorContact", "met": 0, "struck": 0}]
    assert [(await caller.monitor()).status for _ in range(2)] == [200, 503]
    assert (await caller.control("GET", "state")).document["faults"][0]["struck"] == 1
    assert (await caller.control("DELETE", "faults")).document["faults"] == []


async def test_the_state_tells_what_was_received(sim: Simulator, caller: Caller) -> None:
    """Every call is counted; of MonitorContact, body, token and headers are told, but no credential."""
    sdk = {"amz-sdk-request": "attempt=2; max=3", "amz-sdk-invocation-id": "invocation"}
    body, url = monitor_body(sim.world, token="token"), sim.url + "/contact/monitor"
    async with await Wire.open(url) as wire:
        wire.send("POST", "/contact/monitor", body, sign("POST", url, body) | sdk)
        await wire.receive()
    await caller.post(b"no json")
    await caller.get("/users/i/u")
    reply = await caller.control("GET", "state")
    first, second = reply.document["monitor_contacts"]
    assert reply.document["calls"] == {"MonitorContact": 2, "DescribeUser": 1}
    assert first == {
        "api": "MonitorContact",
        "at": first["at"],
        "target": "/contact/monitor",
        "body": json.loads(body),
        "client_token": "token",
        "authorization": True,
        **sdk,
        "status": 200,
        "error": None,
        "fault": None,
    }
    assert (second["body"], second["error"]) == (None, "InvalidRequestException")
    assert [session["id"] for session in reply.document["sessions"]] == [sim.sessions[0].id]
    assert b"Signature=" not in reply.body


async def test_an_unsigned_call_is_told_as_such(sim: Simulator, caller: Caller) -> None:
    """`authorization` is false for a call that carried none."""
    async with await caller.open() as wire:
        wire.send("POST", "/contact/monitor", b"{}", {"Host": "h"})
        assert (await wire.receive()).error == "MissingAuthenticationToken"
    assert (await caller.control("GET", "state")).document["monitor_contacts"][0]["authorization"] is False
    assert sim.counts["MonitorContact"] == 1


async def test_the_quota_is_cut_at_run_time(caller: Caller) -> None:
    """From now on, for one API; MonitorContact unless another is named."""
    state = await caller.control("PUT", "quota", b'{"rate": 0.5, "burst": 0}')
    assert state.document["quotas"]["MonitorContact"] == {"rate": 0.5, "burst": 0}
    assert (await caller.monitor()).status == 429
    await caller.control("PUT", "quota", b'{"api": "DescribeUser", "rate": 0, "burst": 0}')
    assert (await caller.get("/users/i/u")).status == 429


async def test_switches_are_set_at_run_time(caller: Caller) -> None:
    """Those that are named; the others stay."""
    await caller.control("PUT", "switches", b'{"check_security_profile": true}')
    switches = (await caller.control("PUT", "switches", b'{"latency_seconds": 0}')).document["switches"]
    assert switches["check_security_profile"] is True
    assert (await caller.monitor(user="nora")).status == 403


async def test_the_world_is_replaced_at_run_time(sim: Simulator, caller: Caller) -> None:
    """As TOML; sessions outlast it."""
    await caller.monitor()
    text = default_world_text().replace("online = false", "online = true")
    assert (await caller.control("PUT", "world", text.encode())).status == 200
    assert (await caller.monitor(user="oscar")).status == 200
    assert len(sim.sessions) == 2


async def test_sessions_are_ended(sim: Simulator, caller: Caller) -> None:
    """All of them, so that the next test finds its supervisors free."""
    await caller.monitor()
    assert (await caller.control("DELETE", "sessions")).document["sessions"] == []
    assert (await caller.monitor()).status == 200
    assert len(sim.sessions) == 1


async def test_reset_goes_back_to_the_start(caller: Caller) -> None:
    """World, quota, switches, faults, sessions, tokens and calls."""
    before = (await caller.control("GET", "state")).document
    await caller.monitor(token="token")
    for name, body in (("quota", b'{"rate": 1, "burst": 0}'), ("switches", b'{"hard_limits": false}')):
        await caller.control("PUT", name, body)
    await caller.control("PUT", "faults", b'{"action": "hang"}')
    assert (await caller.control("POST", "reset")).document == before
    assert (await caller.monitor(contact="chat", token="token")).status == 200


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("faults", b"{", "the body is not JSON: "),
        ("faults", b'[{"action": "explode"}]', "fault 1: action must be one of "),
        ("quota", b"[]", "the body must be a JSON object"),
        ("quota", b'{"rate": 1}', "a quota has two numbers, e.g. "),
        ("quota", b'{"rate": true, "burst": 1}', "a quota has two numbers, e.g. "),
        ("quota", b'{"rate": -1, "burst": 1}', "a quota cannot be negative"),
        ("quota", b'{"rate": NaN, "burst": 1}', "a number must be finite and below 1.8e308, not NaN"),
        ("quota", b'{"rate": 1e400, "burst": 1}', "a number must be finite and below 1.8e308, not 1e400"),
        ("quota", b'{"rate": 1' + b"0" * 400 + b', "burst": 1}', "a number must be finite and below 1.8e308, not 1000"),
        ("switches", b'{"latency_seconds": Infinity}', "a number must be finite and below 1.8e308, not Infinity"),
        ("faults", b'{"action": "delay", "delay_seconds": 1e400}', "a number must be finite and below 1.8e308, not 1e"),
        ("faults", b"{}", "faults must be a list of objects, each with an action, e.g. "),
        ("quota", b'{"api": "Monitor", "rate": 1, "burst": 1}', "no API is called 'Monitor'; there are MonitorContact"),
        ("quota", b'{"api": [], "rate": 1, "burst": 1}', "no API is called []"),
        ("switches", b'{"hard_limit": false}', "no switch is called 'hard_limit'; there are "),
        ("switches", b'{"hard_limits": 0}', "0 is no value for hard_limits"),
        ("switches", b'{"latency_seconds": true}', "True is no value for latency_seconds"),
        ("switches", b'{"latency_seconds": "1"}', "'1' is no value for latency_seconds"),
        ("switches", b'{"permissions_per_page": 0}', "0 is no value for permissions_per_page"),
        ("switches", b'{"close_idle_after_requests": 0}', "0 is no value for close_idle_after_requests"),
        ("world", b"\xff", "a world is TOML, in UTF-8"),
        ("world", b"account = 1", "world:1: "),
    ],
)
async def test_what_makes_no_sense_changes_nothing(caller: Caller, name: str, body: bytes, reason: str) -> None:
    """400 with the reason, and everything is as before."""
    before = (await caller.control("GET", "state")).document
    reply = await caller.control("PUT", name, body)
    assert reply.status == 400
    assert reply.document["error"].startswith(reason)
    assert (await caller.control("GET", "state")).document == before


async def test_an_unknown_control_lists_the_known_ones(caller: Caller) -> None:
    """A mistyped path or method says what there is."""
    reply = await caller.control("POST", "faults")
    assert reply.status == 404
    assert "PUT /_simulator/faults" in reply.document["error"]
