"""The monitoring sessions that were started: who listens to what, and whether one more fits.

Decides check 10 of docs/simulator.md. The limits are hard ones of AWS's "feature specifications". A session ends
only when a test says so: Connect ends it in the supervisor's CCP or with the conversation, neither of which exist here.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from .world import Contact, Instance, User

VOICE_ENHANCED_LIMIT = 2  # two silent, or one silent and one barged
VOICE_PLAIN_LIMIT = 5  # listen only
CHAT_LIMIT = 5  # of which one barged
VOICE_PER_SUPERVISOR = 1  # amazon-connect-streams #293


@dataclass(frozen=True, slots=True)
class Session:
    """One supervisor put into monitoring of one contact. `id` and `arn` are those of the new MONITOR contact."""

    id: str
    arn: str
    instance_id: str
    contact_id: str
    user_id: str
    channel: str
    capabilities: tuple[str, ...]
    started_at: float


class Sessions:
    """Every running session, found by contact and by supervisor without a search."""

    def __init__(self) -> None:
        self._all: dict[str, Session] = {}
        self._by_contact: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._by_supervisor: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def add(self, session: Session) -> None:
        """Count a session that was just started."""
        self._all[session.id] = session
        self._by_contact[session.instance_id, session.contact_id].add(session.id)
        self._by_supervisor[session.instance_id, session.user_id, session.channel].add(session.id)

    def end(self, session_id: str) -> None:
        """End a session, as the supervisor would in the CCP. KeyError: there is no such session."""
        session = self._all.pop(session_id)
        self._by_contact[session.instance_id, session.contact_id].discard(session_id)
        self._by_supervisor[session.instance_id, session.user_id, session.channel].discard(session_id)

    def supervisor_has_room(self, user: User, channel: str) -> bool:
        """Say whether the supervisor is online, routed for the channel, and has a session of it to spare."""
        limit = VOICE_PER_SUPERVISOR if channel == "VOICE" else user.concurrent_chats
        routed = user.voice or channel != "VOICE"
        running = len(self._by_supervisor[user.instance_id, user.id, channel])
        return user.online and routed and running < limit

    def contact_has_room(self, contact: Contact, instance: Instance) -> bool:
        """Say whether one more supervisor may listen to the contact."""
        if contact.channel != "VOICE":
            limit = CHAT_LIMIT
        else:
            limit = VOICE_ENHANCED_LIMIT if instance.enhanced_contact_monitoring else VOICE_PLAIN_LIMIT
        return len(self._by_contact[contact.instance_id, contact.id]) < limit
