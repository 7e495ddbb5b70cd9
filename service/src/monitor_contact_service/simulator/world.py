"""The small world that the stand-in plays: one account and Region with access keys, instances, people and contacts.

Holds facts as frozen dataclasses and finds them by the ids that requests carry. `worldfile` reads them from a file;
what the facts mean for a call is decided in `rules` and `reads`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

CHANNELS = ("VOICE", "CHAT", "TASK", "EMAIL")
CONTACT_STATES = (  # Connect's ContactState; only the two CONNECTED ones can be monitored
    "INCOMING",
    "PENDING",
    "CONNECTING",
    "CONNECTED",
    "CONNECTED_ONHOLD",
    "MISSED",
    "ERROR",
    "ENDED",
    "REJECTED",
)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A pair of AWS credentials. With a session token it is a temporary one; `expires_at` is in epoch seconds."""

    id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """A Connect instance and the settings on which monitoring depends."""

    name: str
    id: str
    service_linked_role: bool = True
    enhanced_contact_monitoring: bool = True
    enhanced_chat_monitoring: bool = True


@dataclass(frozen=True, slots=True)
class SecurityProfile:
    """A named set of permissions, which may be limited to users of some tags or of one hierarchy group."""

    name: str
    id: str
    instance_id: str
    permissions: tuple[str, ...] = ()
    tag_restricted_resources: tuple[str, ...] = ()
    access_control_tags: Mapping[str, str] = field(default_factory=dict)
    hierarchy_restricted_resources: tuple[str, ...] = ()
    hierarchy_group: str | None = None


@dataclass(frozen=True, slots=True)
class User:
    """An agent or a supervisor: Connect knows no difference but the security profiles.

    `hierarchy` holds the group ids from level one downwards, at most five. `concurrent_chats` is the routing profile's;
    zero means that chats are not routed to the user. `desk_phone` is None for a softphone, and may be malformed.
    """

    name: str
    id: str
    instance_id: str
    security_profile_ids: tuple[str, ...]
    online: bool = True
    voice: bool = True
    concurrent_chats: int = 3
    desk_phone: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    hierarchy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contact:
    """A conversation. `agent_id` is None while nobody serves it; `recording` means agent and customer both."""

    name: str
    id: str
    instance_id: str
    channel: str = "VOICE"
    state: str = "CONNECTED"
    agent_id: str | None = None
    recording: bool = True


@dataclass(frozen=True, slots=True)
class World:
    """Everything the stand-in knows at its start, by name. Immutable: `change` gives another world."""

    account: str
    region: str
    access_keys: Mapping[str, AccessKey]
    instances: Mapping[str, Instance]
    security_profiles: Mapping[str, SecurityProfile]
    users: Mapping[str, User]
    contacts: Mapping[str, Contact]
    _by_id: dict[tuple[str, ...], Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for instance in self.instances.values():
            self._by_id["instance", instance.id] = instance
            # A caller may give the whole ARN, which is short enough to pass as an id (connect.md 3).
            self._by_id["instance", self.arn(instance.id)] = instance
        for kind, section in (
            ("profile", self.security_profiles),
            ("user", self.users),
            ("contact", self.contacts),
        ):
            for thing in section.values():
                self._by_id[kind, thing.instance_id, thing.id] = thing

    def find_instance(self, instance_id: str) -> Instance | None:
        """Find an instance by its id or its ARN."""
        found: Instance | None = self._by_id.get(("instance", instance_id))
        return found

    def find_profile(self, instance: Instance, profile_id: str) -> SecurityProfile | None:
        """Find a security profile of an instance."""
        found: SecurityProfile | None = self._by_id.get(("profile", instance.id, profile_id))
        return found

    def find_user(self, instance: Instance, user_id: str) -> User | None:
        """Find a user of an instance."""
        found: User | None = self._by_id.get(("user", instance.id, user_id))
        return found

    def find_contact(self, instance: Instance, contact_id: str) -> Contact | None:
        """Find a contact of an instance."""
        found: Contact | None = self._by_id.get(("contact", instance.id, contact_id))
        return found

    def arn(self, instance_id: str, *path: str) -> str:
        """Build an ARN of the instance or of something in it, such as ("contact", id) or ("agent", id)."""
        partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(
            self.region.rpartition("-")[0].rpartition("-")[0], "aws"
        )
        return "/".join((f"arn:{partition}:connect:{self.region}:{self.account}:instance/{instance_id}", *path))

    def change(self, section: str, name: str, /, **facts: Any) -> "World":
        """Return the world with some facts of one thing changed, e.g. `change("users", "oscar", online=True)`.

        KeyError: no such name. TypeError: no such fact.
        """
        things: Mapping[str, Any] = getattr(self, section)
        changed = {**things, name: replace(things[name], **facts)}
        return replace(self, **{section: changed})  # type: ignore[arg-type]  # one mapping for another of its kind
