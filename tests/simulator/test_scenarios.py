"""boto3's own client, unmodified, meets each of the simulator's answers as the exception or result it knows."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from monitor_contact_service.simulator import UNLIMITED, Fault, Quota, Simulator, Switches

from .support import LISTEN, LISTEN_AND_BARGE


@pytest.fixture(scope="module")
async def module_sim() -> AsyncIterator[Simulator]:
    """One simulator for the module, by the real clock that boto3 signs with: a client takes long to make."""
    async with Simulator() as running:
        yield running


@pytest.fixture(scope="module")
def client(module_sim: Simulator) -> Iterator[Any]:
    """boto3's client for Connect, with the simulator's environment and without retries."""
    environment = module_sim.environment
    connect = boto3.client(
        "connect",
        endpoint_url=environment["AWS_ENDPOINT_URL_CONNECT"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield connect
    connect.close()


@dataclass
class _Boto:
    """boto3's client in a thread, for things of the world by name."""

    sim: Simulator
    client: Any

    def names(self, **members: Any) -> dict[str, Any]:
        world = self.sim.world
        named = {"instance": "main", "contact": "call", "user": "sue", "capabilities": LISTEN} | members
        token = {"ClientToken": named["token"]} if "token" in named else {}
        return {
            "InstanceId": world.instances[named["instance"]].id,
            "ContactId": world.contacts[named["contact"]].id,
            "UserId": world.users[named["user"]].id,
            "AllowedMonitorCapabilities": named["capabilities"],
            **token,
        }

    async def monitor(self, **members: Any) -> Any:
        return await asyncio.to_thread(self.client.monitor_contact, **self.names(**members))

    async def read(self, operation: str, **arguments: str) -> Any:
        instance_id = self.sim.world.instances["main"].id
        return await asyncio.to_thread(getattr(self.client, operation), InstanceId=instance_id, **arguments)


@pytest.fixture
def boto(module_sim: Simulator, client: Any) -> _Boto:
    """boto3 and a simulator as at its start."""
    module_sim.reset()
    return _Boto(module_sim, client)


async def test_success(boto: _Boto) -> None:
    """A session starts; boto3's own ClientToken and headers are read back."""
    answer = await boto.monitor(capabilities=LISTEN_AND_BARGE)
    (session,), (call,) = boto.sim.sessions, boto.sim.calls("MonitorContact")
    assert (answer["ContactId"], answer["ContactArn"]) == (session.id, session.arn)
    assert answer["ResponseMetadata"]["RequestId"]
    assert call.client_token
    assert call.invocation_id
    assert call.sdk_request == "attempt=1; max=1"
    assert call.body["AllowedMonitorCapabilities"] == LISTEN_AND_BARGE


@pytest.mark.parametrize(
    ("members", "exception", "status", "text"),
    [
        ({"contact": "task"}, "InvalidRequestException", 400, "MonitorContact is not supported for `TASK` contacts"),
        ({"contact": "queued"}, "InvalidRequestException", 400, "No AGENT participant found in the contact"),
        ({"user": "polly"}, "ResourceNotFoundException", 404, "One or more of the request resources were not found"),
        ({"user": "oscar"}, "ServiceQuotaExceededException", 402, "Service quota has been exceeded"),
        (
            {"instance": "unlinked", "contact": "unlinked-call", "user": "una"},
            "AccessDeniedException",
            403,
            "You do not have access to the agent. Contact your admin to learn more.",
        ),
    ],
)
async def test_refusals_are_boto3s_modelled_exceptions(
    boto: _Boto, members: dict[str, str], exception: str, status: int, text: str
) -> None:
    """Each refusal of the rules arrives as the exception class of the model, with status, text and request id."""
    with pytest.raises(getattr(boto.client.exceptions, exception)) as caught:
        await boto.monitor(**members)
    response = caught.value.response
    assert response["Error"] == {"Code": exception, "Message": text}
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert response["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize("form", ["header", "header-suffix", "type", "type-namespace", "code"])
@pytest.mark.parametrize(
    "exception",
    [
        "AccessDeniedException",
        "IdempotencyException",
        "InternalServiceException",
        "InvalidRequestException",
        "ResourceNotFoundException",
        "ServiceQuotaExceededException",
        "ThrottlingException",
    ],
)
async def test_every_form_of_an_error_has_its_name(boto: _Boto, exception: str, form: Any) -> None:
    """All seven modelled exceptions are understood in every form in which a fault spells them."""
    boto.sim.inject(Fault("error", error=exception, message="text of the test", form=form, message_key="message"))
    with pytest.raises(getattr(boto.client.exceptions, exception)) as caught:
        await boto.monitor()
    assert caught.value.response["Error"]["Message"] == "text of the test"
    assert not boto.sim.sessions


async def test_the_sixth_call_at_once_is_throttled(boto: _Boto) -> None:
    """The quota's burst is five, and refused calls take nothing from it."""
    boto.sim.set_quota("MonitorContact", Quota(rate=0.001, burst=5))
    boto.sim.switches = Switches(hard_limits=False)
    for _ in range(5):
        await boto.monitor()
    with pytest.raises(boto.client.exceptions.ThrottlingException):
        await boto.monitor()
    assert (len(boto.sim.sessions), boto.sim.counts["MonitorContact"]) == (5, 6)


async def test_a_token_is_answered_alike(boto: _Boto) -> None:
    """The same token and parameters get the same ids and no second session; other parameters get a 409."""
    first = await boto.monitor(token="token")
    again = await boto.monitor(token="token")
    assert (first["ContactId"], len(boto.sim.sessions)) == (again["ContactId"], 1)
    with pytest.raises(boto.client.exceptions.IdempotencyException):
        await boto.monitor(token="token", contact="chat")


async def test_wrong_credentials_are_refused(boto: _Boto) -> None:
    """A key that is taken out of the world is one that AWS does not know."""
    boto.sim.world = boto.sim.world.change("access_keys", "AKIDSIMULATOR", id="ASIAOTHER", session_token="token")
    with pytest.raises(ClientError) as caught:
        await boto.monitor()
    assert caught.value.response["Error"]["Code"] == "UnrecognizedClientException"


async def test_boto3_reads_the_world(boto: _Boto) -> None:
    """The three describing reads give what the supervisor check needs, as boto3 understands it."""
    sue, world = boto.sim.world.users["sue"], boto.sim.world
    user = (await boto.read("describe_user", UserId=sue.id))["User"]
    profile_id = world.security_profiles["sales-supervisor"].id
    profile = (await boto.read("describe_security_profile", SecurityProfileId=profile_id))["SecurityProfile"]
    contact = (await boto.read("describe_contact", ContactId=world.contacts["ended"].id))["Contact"]
    assert tuple(user["SecurityProfileIds"]) == sue.security_profile_ids
    assert profile["AllowedAccessControlHierarchyGroupId"] == world.users["ann"].hierarchy[0]
    assert contact["AgentInfo"]["Id"] == world.users["ann"].id
    assert contact["DisconnectTimestamp"] > contact["InitiationTimestamp"]


async def test_boto3_pages_through_permissions(boto: _Boto) -> None:
    """boto3's paginator finds every name, though the page token holds all that is hard to put into a query."""
    boto.sim.set_quota("ListSecurityProfilePermissions", UNLIMITED)
    profile = boto.sim.world.security_profiles["supervisor"]
    pages = boto.client.get_paginator("list_security_profile_permissions").paginate(
        InstanceId=profile.instance_id, SecurityProfileId=profile.id
    )
    found = await asyncio.to_thread(lambda: [page["Permissions"] for page in pages])
    assert [len(page) for page in found] == [2, 2, 1]
    assert tuple(name for page in found for name in page) == profile.permissions
