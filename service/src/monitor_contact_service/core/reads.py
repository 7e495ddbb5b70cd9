"""The wire format of the reads around MonitorContact: what is asked of Connect, and what is understood of its answers.

Sends and signs nothing; `connect` does. The forms are those of Connect's model (botocore 1.44.5): ids are path segments
in which everything but `A-Za-z0-9-._~` is percent-encoded. `core.permissions` says what the answers mean, errors are
read by `core.wire`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import quote

from . import wire
from .failures import Failure, Reason
from .permissions import Agent, Restriction, User
from .wire import Answer

# The most that the API takes; a page holds at most 500 names.
_MAX_RESULTS: Final = 1000
# An agent hierarchy's (AWS feature specifications).
_LEVELS: Final = 5
_RESTRICTED_RESOURCE: Final = "user"
_LIVE_STATES: Final = frozenset({"INCOMING", "PENDING", "CONNECTING", "CONNECTED", "CONNECTED_ONHOLD"})


class Api(StrEnum):
    """The reads, by Connect's own names. Each has a quota of its own."""

    DESCRIBE_USER = "DescribeUser"
    LIST_PERMISSIONS = "ListSecurityProfilePermissions"
    DESCRIBE_PROFILE = "DescribeSecurityProfile"
    DESCRIBE_CONTACT = "DescribeContact"
    CURRENT_USER_DATA = "GetCurrentUserData"


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What is sent. `target` is path and query as they stand in the request line; without a `body` it is a GET."""

    api: Api
    target: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a profile's permissions. `next_token` is "" on the last page."""

    permissions: frozenset[str]
    next_token: str


@dataclass(frozen=True, slots=True)
class Presence:
    """What a user is doing now, as far as GetCurrentUserData tells.

    Attributes:
        offline: it has no entry, or its status has the name that Connect gives to the one of type offline.
        monitoring: a live contact of it was begun by MonitorContact.
        busy: it has any other live contact.
        takes_calls: its routing profile has a slot for voice.
    """

    offline: bool
    monitoring: bool = False
    busy: bool = False
    takes_calls: bool = False


# ---- What is asked ---------------------------------------------------------------------------------------------------


def describe_user(instance_id: str, user_id: str) -> ReadRequest:
    """Ask for a user's profiles, tags and hierarchy group. ValueError: an id is `.` or `..`, as below."""
    return ReadRequest(Api.DESCRIBE_USER, _path("users", instance_id, user_id))


def list_permissions(instance_id: str, profile_id: str, next_token: str = "") -> ReadRequest:
    """Ask for one page of a profile's permissions, the first one without a token."""
    path = _path("security-profiles-permissions", instance_id, profile_id)
    # The order is boto3's for the arguments InstanceId, SecurityProfileId, NextToken, MaxResults.
    token = f"nextToken={quote(next_token, safe='')}&" if next_token else ""
    return ReadRequest(Api.LIST_PERMISSIONS, f"{path}?{token}maxResults={_MAX_RESULTS}")


def describe_profile(instance_id: str, profile_id: str) -> ReadRequest:
    """Ask to whom a profile is limited."""
    return ReadRequest(Api.DESCRIBE_PROFILE, _path("security-profiles", instance_id, profile_id))


def describe_contact(instance_id: str, contact_id: str) -> ReadRequest:
    """Ask who talks on a contact."""
    return ReadRequest(Api.DESCRIBE_CONTACT, _path("contacts", instance_id, contact_id))


def current_user_data(instance_id: str, user_id: str) -> ReadRequest:
    """Ask what a user is doing now."""
    body = json.dumps({"Filters": {"Agents": [user_id]}}).encode()
    return ReadRequest(Api.CURRENT_USER_DATA, _path("metrics", "userdata", instance_id), body)


def _path(*segments: str) -> str:
    if not {".", "..", ""}.isdisjoint(segments):
        # Validation has refused them: signed and sent, they would name another API.
        raise ValueError("an identifier is a dot segment or empty")
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


# ---- What is understood ----------------------------------------------------------------------------------------------


def read_user(answer: Answer) -> User:
    """Return the user. All of these raise Failure: what Connect said instead, or CONNECT_BAD_RESPONSE."""
    user = _Members(answer).within("User")
    profile_ids = user.texts("SecurityProfileIds")
    if not profile_ids or not {".", "..", ""}.isdisjoint(profile_ids):
        raise user.unusable("SecurityProfileIds")
    return User(profile_ids, user.tags("Tags"), user.text("HierarchyGroupId"))


def read_page(answer: Answer) -> Page:
    """Return the page; one without any permission may have others behind it."""
    members = _Members(answer)
    members.require("Permissions")
    return Page(frozenset(members.texts("Permissions")), members.text("NextToken"))


def read_restriction(answer: Answer) -> Restriction | None:
    """Return to whom a profile is limited, None for one without a limit on users."""
    profile = _Members(answer).within("SecurityProfile")
    by_tag = profile.names_users("TagRestrictedResources")
    by_hierarchy = profile.names_users("HierarchyRestrictedResources")
    if not by_tag and not by_hierarchy:
        return None
    return Restriction(
        profile.tags("AllowedAccessControlTags") if by_tag else None,
        profile.text("AllowedAccessControlHierarchyGroupId") if by_hierarchy else None,
    )


def read_agent(answer: Answer) -> Agent | None:
    """Return who talks on a contact, without tags; None if nobody does."""
    contact = _Members(answer).within("Contact")
    if not contact.has("AgentInfo"):
        return None
    agent = contact.within("AgentInfo")
    user_id = agent.text("Id")
    if user_id in {"", ".", ".."}:
        raise agent.unusable("Id")
    groups = agent.within("HierarchyGroups") if agent.has("HierarchyGroups") else None
    levels = [f"Level{level}" for level in range(1, _LEVELS + 1)]
    arns = [groups.within(level).text("Arn") for level in levels if groups.has(level)] if groups else []
    return Agent(user_id, frozenset(arn.rpartition("/")[2] for arn in arns) - {""})


def read_presence(answer: Answer) -> Presence:
    """Return what the one user that was asked for is doing."""
    members = _Members(answer)
    members.require("UserDataList")
    entries = members.objects("UserDataList")
    if not entries:
        return Presence(offline=True)
    user = entries[0]
    status = user.within("Status").text("StatusName") if user.has("Status") else ""
    live = [contact for contact in user.objects("Contacts") if contact.text("AgentContactState") in _LIVE_STATES]
    begun_by = [contact.text("InitiationMethod") for contact in live]
    slots = user.within("MaxSlotsByChannel").get("VOICE") if user.has("MaxSlotsByChannel") else 0
    return Presence(
        # Neither the model nor this answer has a status' type: only its name, which an administrator may change.
        offline=status.casefold() == "offline",
        monitoring="MONITOR" in begun_by,
        busy=any(method != "MONITOR" for method in begun_by),
        takes_calls=isinstance(slots, int) and slots > 0,
    )


def not_the_callers(failure: Failure) -> Failure:
    """Return what a failed read means to a caller: where access is denied, it is this service's role that lacks it."""
    if failure.reason in {Reason.ACCESS_DENIED, Reason.SERVICE_LINKED_ROLE_MISSING}:
        return Failure(Reason.SERVICE_CREDENTIALS, metadata=failure.metadata, log_text=failure.log_text)
    return failure


class _Members:
    """The members of an object in an answer. What is absent or null is empty; what is of another type is an error."""

    def __init__(self, answer: Answer, members: Mapping[str, object] | None = None) -> None:
        self._answer = answer
        self._members = _success(answer) if members is None else members

    def get(self, key: str) -> object:
        return self._members.get(key)

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def require(self, key: str) -> None:
        """Let nobody take something else, such as a proxy's page, for an answer that says: none."""
        if not self.has(key):
            raise self.unusable(key)

    def within(self, key: str) -> "_Members":
        value = self.get(key)
        if not isinstance(value, dict):
            raise self.unusable(key)
        return _Members(self._answer, value)

    def objects(self, key: str) -> "list[_Members]":
        value = self.get(key) if self.has(key) else []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.unusable(key)
        return [_Members(self._answer, item) for item in value]

    def text(self, key: str) -> str:
        value = self.get(key) if self.has(key) else ""
        if not _is_text(value):
            raise self.unusable(key)
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.get(key) if self.has(key) else []
        if not isinstance(value, list) or not all(_is_text(item) for item in value):
            raise self.unusable(key)
        return tuple(value)

    def tags(self, key: str) -> dict[str, str]:
        value = self.get(key) if self.has(key) else {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.unusable(key)
        return value

    def names_users(self, key: str) -> bool:
        # AWS writes `User`; another spelling must not lift a limit.
        return any(name.casefold() == _RESTRICTED_RESOURCE for name in self.texts(key))

    def unusable(self, key: str) -> Failure:
        return _changing_nothing(wire.bad_response(self._answer, f"a successful answer without a usable {key}"))


def _is_text(value: object) -> bool:
    """Return whether it is a string that a request could carry back: half a character could not."""
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value


def _success(answer: Answer) -> Mapping[str, object]:
    try:
        return wire.read_success(answer)
    except Failure as failure:
        # AWS' text repeats what was read: only status and name go to the log.
        failure.log_text = failure.log_text.partition(": ")[0]
        raise _changing_nothing(failure) from None


def _changing_nothing(failure: Failure) -> Failure:
    failure.outcome_unknown = False
    return failure
