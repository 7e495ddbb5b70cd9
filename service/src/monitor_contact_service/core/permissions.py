"""What a supervisor may do according to Connect's own security profiles: decides the facts that policies ask for.

Told everything: what the reads say of the user, its profiles and the contact's agent. Whether the facts are enough is
the policy's to say. Restrictions by tag and by hierarchy group limit whom a supervisor sees in Connect's console;
MonitorContact's API page names no such check, so without this one it would widen the right.
GranularAccessControlConfiguration is not looked at: in Connect's model it is about data tables only.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from .command import Capability

# The names of AWS's "List of security profile permissions": listening, and beside it barging.
LISTEN_IN: Final = "ManagerListenIn"
BARGE_IN: Final = "ManagerBargeIn"

Rule = Literal["deny", "inside", "allow"]
"""What a restricted profile is worth: nothing, what it is worth in the console, or as much as an unrestricted one."""


@dataclass(frozen=True, slots=True)
class SupervisorFacts:
    """What the reads of Connect say of one user.

    Attributes:
        user_id: the Connect user.
        listen_in: one of its profiles has `ManagerListenIn`.
        barge_in: one of its profiles has `ManagerBargeIn`.
        restricted: a profile limits it to users of some tags or hierarchy group, and the contact is not inside.
        profiles: ids of its security profiles.
        checked_at: when Connect said so, in epoch seconds; 0 if Connect was not asked.
    """

    user_id: str
    listen_in: bool
    barge_in: bool
    restricted: bool
    profiles: tuple[str, ...] = ()
    checked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class User:
    """A user as Connect describes it. `group_id` is that of its own hierarchy group, "" without one."""

    profile_ids: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    group_id: str = ""


@dataclass(frozen=True, slots=True)
class Restriction:
    """To whom a profile is limited.

    Attributes:
        tags: all that a user must have; None without a limit by tag.
        group_id: the hierarchy group that a user must be in or below; "" for the supervisor's own (a choice: AWS does
            not say), None without a limit by hierarchy.
    """

    tags: Mapping[str, str] | None = None
    group_id: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A security profile. `permissions` may leave out all but the two names that count; `restriction` may be None."""

    permissions: Collection[str]
    restriction: Restriction | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    """Who talks on a contact: the user, its hierarchy groups from the top to its own, and its tags."""

    user_id: str
    group_ids: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)


def needs_agent(profiles: Sequence[Profile], rule: Rule) -> bool:
    """Return whether the facts depend on the contact's agent."""
    return rule == "inside" and any(profile.restriction is not None for profile in profiles)


def needs_tags(profiles: Sequence[Profile]) -> bool:
    """Return whether they depend on the agent's tags."""
    return any(profile.restriction is not None and profile.restriction.tags is not None for profile in profiles)


def facts_of(
    user_id: str,
    user: User,
    profiles: Sequence[Profile],
    *,
    rule: Rule,
    agent: Agent | None = None,
    checked_at: float = 0.0,
) -> SupervisorFacts:
    """Return the facts of a user; raises nothing.

    `deny`: all profiles count, and one that is restricted makes the supervisor so. `allow`: all count, none is.
    `inside`: as in the console (AWS "Tag-based access control", "Hierarchy-based access control"), all limits of a
    profile must match the agent, and one profile that matches is enough; but a profile gives only the permissions that
    it holds itself. In the console one without restriction lifts the limits of all the others: here it lifts them for
    its own permissions only, so that an unrestricted profile without any right to monitor widens nothing.

    Args:
        user_id: the supervisor's.
        user: what Connect says of it.
        profiles: all of its profiles, in the order of `user.profile_ids`.
        rule: what restricted profiles are worth.
        agent: who talks on the contact; None if nobody does, or if `needs_agent` is False.
        checked_at: for the facts.
    """
    counting = profiles
    restricted = rule == "deny" and any(profile.restriction is not None for profile in profiles)
    if needs_agent(profiles, rule):
        counting = [profile for profile in profiles if _is_inside(profile.restriction, user, agent)]
        restricted = _grants(profiles, LISTEN_IN) and not _grants(counting, LISTEN_IN)
    return SupervisorFacts(
        user_id,
        _grants(counting, LISTEN_IN),
        _grants(counting, BARGE_IN),
        restricted,
        user.profile_ids,
        checked_at,
    )


def suffice(facts: SupervisorFacts, capabilities: Collection[Capability]) -> bool:
    """Return whether Connect's own permissions are enough for what is asked. Policies may ask for more."""
    may_barge = facts.barge_in or Capability.BARGE not in capabilities
    return facts.listen_in and may_barge and not facts.restricted


def _grants(profiles: Sequence[Profile], permission: str) -> bool:
    return any(permission in profile.permissions for profile in profiles)


def _is_inside(restriction: Restriction | None, user: User, agent: Agent | None) -> bool:
    if restriction is None:
        return True
    if agent is None:
        return False
    if restriction.tags is not None and not (restriction.tags and restriction.tags.items() <= agent.tags.items()):
        return False  # also where no tags are named: nobody has all of none
    return restriction.group_id is None or (restriction.group_id or user.group_id) in agent.group_ids
