"""GetCurrentUserData: what users are doing now. Decides what is told of whom; pure.

Users who are offline are left out, as are ids that nobody has (choices: AWS says only "active user data"). Of the
filters only `Agents` is played: nothing here has queues or routing profiles. Members of no use here are missing.
"""

import json
from collections.abc import Iterator

from .answers import INVALID_READ, NOT_FOUND, Answer, Refusal, succeed
from .reads import Document, page_start, page_token
from .rules import INSTANCE_ID_LIMIT
from .sessions import Sessions
from .world import Instance, User, World

AGENTS_LIMIT = 100
MAX_RESULTS = 100
_OVER = {"MISSED", "ERROR", "ENDED", "REJECTED"}


def current_user_data(instance_id: str, body: bytes, world: World, sessions: Sessions) -> Answer | Refusal:
    """Answer for the users that the body names. instance_id is the decoded path segment."""
    asked = _parse(body)
    if asked is None or not 1 <= len(instance_id) <= INSTANCE_ID_LIMIT:
        return INVALID_READ
    instance = world.find_instance(instance_id)
    if instance is None:
        return NOT_FOUND
    agents, start, size = asked
    found = (
        world.find_user(instance, agent) or world.find_user(instance, agent.rpartition("/")[2]) for agent in agents
    )
    online = [user for user in found if user is not None and user.online]
    page: Document = {
        "UserDataList": [_describe(world, instance, user, sessions) for user in online[start : start + size]],
        "ApproximateTotalCount": len(online),
    }
    if start + size < len(online):
        page["NextToken"] = page_token(start + size)
    return succeed(page)


def _parse(body: bytes) -> tuple[list[str], int, int] | None:
    """Return ids or ARNs of users, the first of those found that the page shows, and how many it may show."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    filters = document.get("Filters") if isinstance(document, dict) else None
    agents = filters.get("Agents") if isinstance(filters, dict) and set(filters) == {"Agents"} else None
    if not isinstance(agents, list) or not all(isinstance(agent, str) for agent in agents):
        return None
    token, size = document.get("NextToken"), document.get("MaxResults", MAX_RESULTS)
    start = page_start(token) if token is None or isinstance(token, str) else None
    sized = isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= MAX_RESULTS
    if start is None or not sized or not 1 <= len(agents) <= AGENTS_LIMIT:
        return None
    return agents, start, size


def _describe(world: World, instance: Instance, user: User, sessions: Sessions) -> Document:
    contacts = [*_own_contacts(world, user), *_monitored(sessions, user)]
    slots = {"VOICE": 1 if user.voice else 0, "CHAT": user.concurrent_chats}
    most = {channel: slot for channel, slot in slots.items() if slot}
    active = {channel: sum(contact["Channel"] == channel for contact in contacts) for channel in most}
    return {
        "User": {"Id": user.id, "Arn": world.arn(instance.id, "agent", user.id)},
        "Status": {"StatusName": "Available"},
        "MaxSlotsByChannel": most,
        "ActiveSlotsByChannel": active,
        "AvailableSlotsByChannel": {channel: max(0, most[channel] - active[channel]) for channel in most},
        "Contacts": contacts,
    }


def _own_contacts(world: World, user: User) -> Iterator[Document]:
    for contact in world.contacts.values():
        if (contact.instance_id, contact.agent_id) == (user.instance_id, user.id) and contact.state not in _OVER:
            yield {
                "ContactId": contact.id,
                "Channel": contact.channel,
                "InitiationMethod": "INBOUND",
                "AgentContactState": contact.state,
            }


def _monitored(sessions: Sessions, user: User) -> Iterator[Document]:
    for session in sessions:
        if (session.instance_id, session.user_id) == (user.instance_id, user.id):
            yield {
                "ContactId": session.id,
                "Channel": session.channel,
                "InitiationMethod": "MONITOR",
                "AgentContactState": "CONNECTED",
            }
