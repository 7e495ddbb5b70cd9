"""The checks of a MonitorContact call from its body to the limits, in the order of docs/simulator.md.

Decides checks 4 and 6 to 10; pure. The order is a choice (AWS's is unknown) and stands once, in `CHECKS`. Signature,
quota and ClientToken, checks 2, 3 and 5, are decided in `signature`, `buckets` and `tokens`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from . import answers
from .answers import Refusal
from .sessions import Sessions
from .switches import Switches
from .world import Contact, Instance, User, World

SILENT_MONITOR, BARGE = "SILENT_MONITOR", "BARGE"
_CAPABILITIES = (SILENT_MONITOR, BARGE)
LISTEN_PERMISSION, BARGE_PERMISSION = "ManagerListenIn", "ManagerBargeIn"
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")

# Longest values, in characters and in members, from botocore's service model.
CAPABILITIES_LIMIT = 2
INSTANCE_ID_LIMIT, CONTACT_ID_LIMIT, USER_ID_LIMIT, CLIENT_TOKEN_LIMIT = 100, 256, 256, 500


class MonitorRequest(NamedTuple):
    """A well-formed request body. Two requests are the same to a ClientToken when these are equal."""

    instance_id: str
    contact_id: str
    user_id: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Situation:
    """A request whose ids were found, with all that the later checks look at."""

    request: MonitorRequest
    world: World
    instance: Instance
    contact: Contact
    user: User
    sessions: Sessions
    switches: Switches

    @property
    def enhanced(self) -> bool:
        """Whether the instance has multi-party monitoring for the contact's channel."""
        if self.contact.channel == "VOICE":
            return self.instance.enhanced_contact_monitoring
        return self.instance.enhanced_chat_monitoring


def parse(body: bytes) -> tuple[MonitorRequest, str | None] | Refusal:
    """Check 4: JSON, types, lengths, known capabilities. Returns the request and its ClientToken, None if absent.

    Unknown members are ignored, as AWS ignores them; an empty ClientToken counts as none, a null list as an empty one.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # not UTF-8 is a ValueError; brackets without end
        return answers.INVALID_INPUT
    if not isinstance(document, dict):
        return answers.INVALID_INPUT
    instance_id, contact_id, user_id = document.get("InstanceId"), document.get("ContactId"), document.get("UserId")
    capabilities = _absent_as(document.get("AllowedMonitorCapabilities"), [])
    token = _absent_as(document.get("ClientToken"), "")
    if not (
        _is_text(instance_id, 1, INSTANCE_ID_LIMIT)
        and _is_text(contact_id, 1, CONTACT_ID_LIMIT)
        and _is_text(user_id, 1, USER_ID_LIMIT)
        and _is_text(token, 0, CLIENT_TOKEN_LIMIT)
        and _are_capabilities(capabilities)
    ):
        return answers.INVALID_INPUT
    return MonitorRequest(instance_id, contact_id, user_id, tuple(capabilities)), token or None


def _absent_as(value: Any, default: Any) -> Any:
    return default if value is None else value


def _is_text(value: object, shortest: int, longest: int) -> TypeGuard[str]:
    # Length counts Unicode scalar values (Smithy's length trait), which is what len does.
    return isinstance(value, str) and shortest <= len(value) <= longest


def _are_capabilities(value: object) -> bool:
    # Compared one by one: what a client sends may be unhashable.
    return isinstance(value, list) and len(value) <= CAPABILITIES_LIMIT and all(item in _CAPABILITIES for item in value)


def judge(request: MonitorRequest, world: World, sessions: Sessions, switches: Switches) -> Situation | Refusal:
    """Checks 6 to 10. Returns the situation in which monitoring may begin, or the first refusal in order."""
    instance = world.find_instance(request.instance_id)
    if instance is None:
        return answers.NOT_FOUND
    contact = world.find_contact(instance, request.contact_id)
    user = world.find_user(instance, request.user_id)
    if contact is None or user is None:
        return answers.NOT_FOUND
    situation = Situation(request, world, instance, contact, user, sessions, switches)
    for check in CHECKS:
        if refusal := check(situation):
            return refusal
    return situation


def _service_linked_role(situation: Situation) -> Refusal | None:
    return None if situation.instance.service_linked_role else answers.NO_SERVICE_LINKED_ROLE


def _channel(situation: Situation) -> Refusal | None:
    channel = situation.contact.channel
    # Email: no statement of AWS was found; treated as unsupported, like a task.
    return None if channel in {"VOICE", "CHAT"} else answers.unsupported_channel(channel)


def _contact_live(situation: Situation) -> Refusal | None:
    over = situation.contact.state in {"ENDED", "ERROR", "MISSED", "REJECTED"}
    return answers.BAD_STATE if over else None


def _agent_connected(situation: Situation) -> Refusal | None:
    if situation.contact.agent_id is None:
        return answers.NO_AGENT
    return None if situation.contact.state in {"CONNECTED", "CONNECTED_ONHOLD"} else answers.BAD_STATE


def _capabilities(situation: Situation) -> Refusal | None:
    asked = situation.request.capabilities
    if situation.enhanced:
        return None if SILENT_MONITOR in asked else answers.NO_CAPABILITIES
    if BARGE in asked:
        return answers.NO_MULTI_PARTY
    return None if situation.contact.recording else answers.NO_RECORDING


def _security_profile(situation: Situation) -> Refusal | None:
    if not situation.switches.check_security_profile:
        return None
    profiles = (
        situation.world.find_profile(situation.instance, profile_id)
        for profile_id in situation.user.security_profile_ids
    )
    held = {permission for profile in profiles if profile for permission in profile.permissions}
    needed = {LISTEN_PERMISSION, BARGE_PERMISSION} if BARGE in situation.request.capabilities else {LISTEN_PERMISSION}
    return None if needed <= held else answers.NO_PERMISSION


def _desk_phone(situation: Situation) -> Refusal | None:
    number = situation.user.desk_phone
    return None if number is None or _E164.fullmatch(number) else answers.BAD_PHONE_NUMBER


def _limits(situation: Situation) -> Refusal | None:
    sessions, contact, user = situation.sessions, situation.contact, situation.user
    if not situation.switches.hard_limits:
        return None if user.online else answers.LIMIT_REACHED
    room = sessions.supervisor_has_room(user, contact.channel) and sessions.contact_has_room(
        contact, situation.instance
    )
    return None if room else answers.LIMIT_REACHED


CHECKS: tuple[Callable[[Situation], Refusal | None], ...] = (
    _service_linked_role,  # 6, after the ids
    _channel,  # 7
    _contact_live,
    _agent_connected,
    _capabilities,  # 8
    _security_profile,  # 9
    _desk_phone,
    _limits,  # 10
)
