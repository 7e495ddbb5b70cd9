"""The four reads that guard monitoring: DescribeUser, the two of security profiles, DescribeContact.

Decides what each answers for the world as it is; pure. Only the members that the supervisor check uses, and what
identifies the thing, are filled in.
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from .answers import INVALID_READ, NOT_FOUND, Answer, Refusal, succeed
from .rules import INSTANCE_ID_LIMIT
from .switches import Switches
from .world import Instance, World

MAX_RESULTS = 1000
# Contacts have no history here; any plausible moments do, in epoch seconds (2026-01-01T00:00:00Z, ten minutes later).
STARTED_AT, ENDED_AT = 1767225600, 1767226200

Document = dict[str, object]


def read(
    api: str, instance_id: str, resource_id: str, query: str, world: World, switches: Switches
) -> Answer | Refusal:
    """Answer one read. instance_id and resource_id are decoded path segments, query is as sent."""
    if not 1 <= len(instance_id) <= INSTANCE_ID_LIMIT:
        return INVALID_READ
    instance = world.find_instance(instance_id)
    if instance is None:
        return NOT_FOUND
    if api == "ListSecurityProfilePermissions":
        return _list_permissions(world, instance, resource_id, dict(parse_qsl(query, keep_blank_values=True)), switches)
    document = _DESCRIBE[api](world, instance, resource_id)
    return NOT_FOUND if document is None else succeed(document)


def _describe_user(world: World, instance: Instance, user_id: str) -> Document | None:
    user = world.find_user(instance, user_id)
    if user is None:
        return None
    phone: Document = {"PhoneType": "SOFT_PHONE"}
    if user.desk_phone is not None:
        phone = {"PhoneType": "DESK_PHONE", "DeskPhoneNumber": user.desk_phone}
    described: Document = {
        "Id": user.id,
        "Arn": world.arn(instance.id, "agent", user.id),
        "Username": user.name,
        "PhoneConfig": phone,
        "SecurityProfileIds": list(user.security_profile_ids),
        "Tags": dict(user.tags),
    }
    if user.hierarchy:
        described["HierarchyGroupId"] = user.hierarchy[-1]
    return {"User": described}


def _describe_profile(world: World, instance: Instance, profile_id: str) -> Document | None:
    profile = world.find_profile(instance, profile_id)
    if profile is None:
        return None
    described: Document = {
        "Id": profile.id,
        "OrganizationResourceId": instance.id,
        "Arn": world.arn(instance.id, "security-profile", profile.id),
        "SecurityProfileName": profile.name,
        "TagRestrictedResources": list(profile.tag_restricted_resources),
        "AllowedAccessControlTags": dict(profile.access_control_tags),
        "HierarchyRestrictedResources": list(profile.hierarchy_restricted_resources),
    }
    if profile.hierarchy_group is not None:
        described["AllowedAccessControlHierarchyGroupId"] = profile.hierarchy_group
    return {"SecurityProfile": described}


def _describe_contact(world: World, instance: Instance, contact_id: str) -> Document | None:
    contact = world.find_contact(instance, contact_id)
    if contact is None:
        return None
    described: Document = {
        "Id": contact.id,
        "Arn": world.arn(instance.id, "contact", contact.id),
        "InitiationMethod": "INBOUND",
        "Channel": contact.channel,
        "InitiationTimestamp": STARTED_AT,
    }
    if contact.state == "ENDED":
        described["DisconnectTimestamp"] = ENDED_AT
    agent = None if contact.agent_id is None else world.find_user(instance, contact.agent_id)
    if agent is not None:
        groups = {
            f"Level{level}": {"Arn": world.arn(instance.id, "agent-group", group)}
            for level, group in enumerate(agent.hierarchy, start=1)
        }
        described["AgentInfo"] = {"Id": agent.id, **({"HierarchyGroups": groups} if groups else {})}
    return {"Contact": described}


_DESCRIBE: Mapping[str, Callable[[World, Instance, str], Document | None]] = {
    "DescribeUser": _describe_user,
    "DescribeSecurityProfile": _describe_profile,
    "DescribeContact": _describe_contact,
}


def _list_permissions(
    world: World, instance: Instance, profile_id: str, query: Mapping[str, str], switches: Switches
) -> Answer | Refusal:
    page_size = _page_size(query.get("maxResults"), switches.permissions_per_page)
    start = page_start(query.get("nextToken"))
    if page_size is None or start is None:
        return INVALID_READ
    profile = world.find_profile(instance, profile_id)
    if profile is None:
        return NOT_FOUND
    end = start + page_size
    document: Document = {"Permissions": list(profile.permissions[start:end])}
    if end < len(profile.permissions):
        document["NextToken"] = page_token(end)
    return succeed(document)


def _page_size(max_results: str | None, per_page: int) -> int | None:
    if max_results is None:
        return per_page
    if not re.fullmatch(r"[0-9]{1,4}", max_results) or not 1 <= int(max_results) <= MAX_RESULTS:
        return None
    return min(int(max_results), per_page)


def page_token(start: int) -> str:
    """Return the NextToken of the page that begins at this name.

    It holds every character that clients get wrong in a query: `+`, `/`, `=`, `&`, a blank (connect.md 2, traps).
    """
    return f"a+b/==&x y{start}"


def page_start(token: str | None) -> int | None:
    """Return the first name of the page that a NextToken leads to. None: nobody gave out such a token."""
    if token is None:
        return 0
    digits = token.removeprefix(page_token(0).removesuffix("0"))
    return int(digits) if re.fullmatch(r"[0-9]{1,6}", digits) and page_token(int(digits)) == token else None
