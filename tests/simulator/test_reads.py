"""The four reads on the wire: what each tells, its pages, its errors."""

from urllib.parse import quote

import pytest
from monitor_contact_service.simulator import Simulator, Switches
from monitor_contact_service.simulator.reads import page_token

from .support import Caller


def _profile_path(sim: Simulator, name: str = "supervisor") -> str:
    profile = sim.world.security_profiles[name]
    return f"/security-profiles-permissions/{profile.instance_id}/{profile.id}"


async def test_a_user_is_described(sim: Simulator, caller: Caller) -> None:
    """Profiles, tags, the lowest group of the hierarchy, and the desk phone of one who has it."""
    ann, pat = sim.world.users["ann"], sim.world.users["pat"]
    described = (await caller.get(f"/users/{ann.instance_id}/{ann.id}")).document["User"]
    assert described["Arn"].endswith(f":instance/{ann.instance_id}/agent/{ann.id}")
    assert described["SecurityProfileIds"] == [sim.world.security_profiles["agent"].id]
    assert described["Tags"] == {"Team": "blue"}
    assert described["HierarchyGroupId"] == ann.hierarchy[-1]
    assert described["PhoneConfig"] == {"PhoneType": "SOFT_PHONE"}
    phone = (await caller.get(f"/users/{pat.instance_id}/{pat.id}")).document["User"]["PhoneConfig"]
    assert phone == {"PhoneType": "DESK_PHONE", "DeskPhoneNumber": "0123-456"}


async def test_a_profile_is_described_with_its_restrictions(sim: Simulator, caller: Caller) -> None:
    """By tag and by hierarchy; an unrestricted profile has empty lists."""
    documents = {}
    for name in ("supervisor", "red-team-supervisor", "sales-supervisor"):
        profile = sim.world.security_profiles[name]
        reply = await caller.get(f"/security-profiles/{profile.instance_id}/{profile.id}")
        documents[name] = reply.document["SecurityProfile"]
    plain, red, sales = documents.values()
    assert (plain["TagRestrictedResources"], plain["HierarchyRestrictedResources"]) == ([], [])
    assert (red["TagRestrictedResources"], red["AllowedAccessControlTags"]) == (["User"], {"Team": "red"})
    assert sales["HierarchyRestrictedResources"] == ["User"]
    assert sales["AllowedAccessControlHierarchyGroupId"] == sim.world.users["ann"].hierarchy[0]


async def test_a_contact_is_described_with_its_agent(sim: Simulator, caller: Caller) -> None:
    """The agent's groups from level one down, as ARNs; no agent and no end where there is none."""
    call, queued, ann = sim.world.contacts["call"], sim.world.contacts["queued"], sim.world.users["ann"]
    described = (await caller.get(f"/contacts/{call.instance_id}/{call.id}")).document["Contact"]
    levels = described["AgentInfo"]["HierarchyGroups"]
    assert (described["Channel"], described["AgentInfo"]["Id"]) == ("VOICE", ann.id)
    assert tuple(levels[level]["Arn"].rpartition("/")[2] for level in ("Level1", "Level2")) == ann.hierarchy
    assert "DisconnectTimestamp" not in described
    waiting = (await caller.get(f"/contacts/{queued.instance_id}/{queued.id}")).document["Contact"]
    assert "AgentInfo" not in waiting


async def test_permissions_come_in_pages(sim: Simulator, caller: Caller) -> None:
    """Two names a page by default, and a page's token leads to the next."""
    names: list[str] = []
    query: str | None = "?maxResults=1000"
    pages = 0
    while query is not None:
        page = (await caller.get(_profile_path(sim) + query)).document
        names += page["Permissions"]
        pages += 1
        query = f"?maxResults=1000&nextToken={quote(page['NextToken'], safe='')}" if "NextToken" in page else None
    assert pages == 3
    assert tuple(names) == sim.world.security_profiles["supervisor"].permissions


async def test_a_page_is_as_long_as_asked_and_allowed(sim: Simulator, caller: Caller) -> None:
    """The smaller of maxResults and the switch."""
    assert len((await caller.get(_profile_path(sim) + "?maxResults=1")).document["Permissions"]) == 1
    sim.switches = Switches(permissions_per_page=500)
    assert len((await caller.get(_profile_path(sim))).document["Permissions"]) == 5


@pytest.mark.parametrize(
    "query",
    [
        "maxResults=0",
        "maxResults=1001",
        "maxResults=x",
        "maxResults=",
        "nextToken=",
        "nextToken=other",
        "nextToken=a%2Bb",
    ],
)
async def test_a_wrong_page_is_an_invalid_parameter(sim: Simulator, caller: Caller, query: str) -> None:
    """The reads' own exception, not MonitorContact's."""
    reply = await caller.get(f"{_profile_path(sim)}?{query}")
    assert (reply.status, reply.error) == (400, "InvalidParameterException")


def test_a_page_token_holds_what_clients_get_wrong() -> None:
    """A client that does not encode its query exactly once loses the token."""
    assert set("+/=& ") <= set(page_token(2))


@pytest.mark.parametrize("kind", ["users", "contacts", "security-profiles", "security-profiles-permissions"])
async def test_what_does_not_exist_is_not_found(sim: Simulator, caller: Caller, kind: str) -> None:
    """An unknown thing and an unknown instance give 404, an instance id beyond its limit 400."""
    instance_id = sim.world.instances["main"].id
    assert (await caller.get(f"/{kind}/{instance_id}/a%2Fb")).error == "ResourceNotFoundException"
    assert (await caller.get(f"/{kind}/nowhere/x")).error == "ResourceNotFoundException"
    assert (await caller.get(f"/{kind}/{'i' * 101}/x")).error == "InvalidParameterException"


async def test_an_encoded_id_is_decoded_once(sim: Simulator, caller: Caller) -> None:
    """An id with a slash, unicode and a percent sign is found by its encoded path."""
    odd = "a/é%2F.."
    sim.world = sim.world.change("users", "sue", id=odd)
    reply = await caller.get(f"/users/{sim.world.instances['main'].id}/{quote(odd, safe='')}")
    assert reply.document["User"]["Id"] == odd
