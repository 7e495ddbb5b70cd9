"""GetCurrentUserData on the wire: who is there, with which contacts, and what is refused."""

import asyncio
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from monitor_contact_service.simulator import Simulator, World

from .support import Caller, Reply


async def _ask(caller: Caller, sim: Simulator, *users: str, **members: object) -> Reply:
    ids = [sim.world.users[user].id if user in sim.world.users else user for user in users]
    return await caller.ask_presence(json.dumps({"Filters": {"Agents": ids}, **members}).encode())


def _names(world: World, reply: Reply) -> list[str]:
    by_id = {user.id: name for name, user in world.users.items()}
    return [by_id[entry["User"]["Id"]] for entry in reply.document["UserDataList"]]


async def test_who_is_offline_or_unknown_has_no_entry(sim: Simulator, caller: Caller) -> None:
    """Ids, and ARNs, of those who are there."""
    arn = sim.world.arn(sim.world.instances["main"].id, "agent", sim.world.users["lee"].id)
    reply = await _ask(caller, sim, "sue", "oscar", "nobody", arn)
    assert _names(sim.world, reply) == ["sue", "lee"]
    assert reply.document["ApproximateTotalCount"] == 2


async def test_a_monitoring_session_is_a_contact_of_its_supervisor(sim: Simulator, caller: Caller) -> None:
    """By the id of the session, begun by MONITOR, in a slot of its channel."""
    await caller.monitor()
    (entry,) = (await _ask(caller, sim, "sue")).document["UserDataList"]
    assert entry["Contacts"] == [
        {
            "ContactId": sim.sessions[0].id,
            "Channel": "VOICE",
            "InitiationMethod": "MONITOR",
            "AgentContactState": "CONNECTED",
        }
    ]
    assert entry["MaxSlotsByChannel"] == {"VOICE": 1, "CHAT": 3}
    assert entry["ActiveSlotsByChannel"] == {"VOICE": 1, "CHAT": 0}
    assert entry["AvailableSlotsByChannel"] == {"VOICE": 0, "CHAT": 3}
    (other,) = (await _ask(caller, sim, "sam")).document["UserDataList"]
    assert other["Contacts"] == []


async def test_an_agent_has_the_live_contacts(sim: Simulator, caller: Caller) -> None:
    """With their states; those that are over are gone."""
    (entry,) = (await _ask(caller, sim, "ann")).document["UserDataList"]
    states = {contact["ContactId"]: contact["AgentContactState"] for contact in entry["Contacts"]}
    assert states[sim.world.contacts["on-hold"].id] == "CONNECTED_ONHOLD"
    assert sim.world.contacts["ended"].id not in states
    assert {contact["InitiationMethod"] for contact in entry["Contacts"]} == {"INBOUND"}
    assert entry["AvailableSlotsByChannel"]["VOICE"] == 0


async def test_a_routing_profile_without_voice_has_no_slot_for_it(sim: Simulator, caller: Caller) -> None:
    """The channel is left out."""
    (entry,) = (await _ask(caller, sim, "chris")).document["UserDataList"]
    assert entry["MaxSlotsByChannel"] == {"CHAT": 1}


async def test_users_come_in_pages(sim: Simulator, caller: Caller) -> None:
    """As many as asked for, then a token for the rest."""
    first = await _ask(caller, sim, "sue", "sam", "lee", MaxResults=2)
    rest = await _ask(caller, sim, "sue", "sam", "lee", MaxResults=2, NextToken=first.document["NextToken"])
    assert [_names(sim.world, reply) for reply in (first, rest)] == [["sue", "sam"], ["lee"]]
    assert "NextToken" not in rest.document


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"Filters": {}}',
        b'{"Filters": {"Agents": []}}',
        b'{"Filters": {"Agents": "a"}}',
        b'{"Filters": {"Agents": [5]}}',
        b'{"Filters": {"Queues": ["a"]}}',
        b'{"Filters": {"Agents": ["a"], "Queues": ["a"]}}',
        b'{"Filters": {"Agents": ["a"]}, "MaxResults": 0}',
        b'{"Filters": {"Agents": ["a"]}, "MaxResults": 101}',
        b'{"Filters": {"Agents": ["a"]}, "MaxResults": true}',
        b'{"Filters": {"Agents": ["a"]}, "NextToken": "x"}',
        b'{"Filters": {"Agents": ["a"]}, "NextToken": 5}',
        json.dumps({"Filters": {"Agents": ["a"] * 101}}).encode(),
    ],
)
async def test_a_wrong_question_is_an_invalid_parameter(caller: Caller, body: bytes) -> None:
    """The reads' own exception; other filters than users are not played."""
    reply = await caller.ask_presence(body)
    assert (reply.status, reply.error) == (400, "InvalidParameterException")


async def test_an_unknown_instance_is_not_found(caller: Caller) -> None:
    """An id beyond its limit is invalid, as for the other reads."""
    body = b'{"Filters": {"Agents": ["a"]}}'
    assert (await caller.ask_presence(body, "nowhere")).error == "ResourceNotFoundException"
    assert (await caller.ask_presence(body, "i" * 101)).error == "InvalidParameterException"


async def test_boto3_reads_it(sim: Simulator) -> None:
    """Its own client, unmodified; by the real clock, which it signs with."""
    async with Simulator() as running:
        environment = running.environment
        client: Any = await asyncio.to_thread(
            boto3.client,
            "connect",
            endpoint_url=running.url,
            region_name=environment["AWS_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}),
        )
        user = sim.world.users["sue"]
        answer = await asyncio.to_thread(
            client.get_current_user_data, InstanceId=user.instance_id, Filters={"Agents": [user.id]}
        )
        client.close()
        assert answer["UserDataList"][0]["User"]["Id"] == user.id
        assert running.counts["GetCurrentUserData"] == 1


async def test_it_has_a_quota_of_its_own(sim: Simulator, caller: Caller) -> None:
    """Five at once, and none of MonitorContact's."""
    replies = [await _ask(caller, sim, "sue") for _ in range(6)]
    assert [reply.status for reply in replies] == [200] * 5 + [429]
    assert (await caller.monitor()).status == 200
