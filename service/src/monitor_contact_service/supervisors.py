"""Step 3, its second half: reads from Connect what the supervisor of a call may do there, and remembers it for a while.

What the answers mean decides `core.permissions`, how they are asked for and paced `read_quota`, how they are kept
`cached`. An answer that is too old is never used: without a new one the call fails with the read's own reason.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

from .cached import Cached, Known
from .core import reads
from .core.asking import Asking
from .core.command import MonitorCommand
from .core.failures import Failure, Reason
from .core.permissions import (
    BARGE_IN,
    LISTEN_IN,
    Agent,
    Profile,
    Rule,
    SupervisorFacts,
    User,
    facts_of,
    needs_agent,
    needs_tags,
    suffice,
)
from .core.wire import Answer
from .read_quota import PacedReads
from .telemetry import fields

_log = logging.getLogger(__name__)

# Choices, and the bound on how long a right that was taken away still works: by changing the user, or its profiles.
# DescribeUser has the quota of MonitorContact itself, so that a minute bounds it to 120 distinct supervisors at 2/s.
USER_SECONDS: Final = 60.0
PROFILE_SECONDS: Final = 300.0
# Whoever was just given the right does not want to wait (choice).
REFUSAL_SECONDS: Final = 5.0
# At most 500 names a page; AWS has far fewer than 5,000 (choice).
MAX_PAGES: Final = 10

_BOTH: Final = frozenset({LISTEN_IN, BARGE_IN})

Key = tuple[str, str]  # instance and user, or profile
Value = TypeVar("Value")


class _Found(NamedTuple):
    """Facts, when the oldest of what they are made of was read, and until when all of it may be believed."""

    facts: SupervisorFacts
    known_at: float
    until: float


class Supervisors:
    """What is known of supervisors.

    Args:
        paced: asks Connect.
        rule: what profiles are worth that are restricted by tag or hierarchy.
        clock: monotonic seconds.
        wall_clock: epoch seconds, for `checked_at`.
    """

    def __init__(
        self, paced: PacedReads, *, rule: Rule, clock: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        self._paced = paced
        self._rule = rule
        self._clock = clock
        self._wall_clock = wall_clock
        self._users = Cached(self._read_user, keep_seconds=USER_SECONDS, clock=clock, on_change=self._change)
        self._profiles = Cached(self._read_profile, keep_seconds=PROFILE_SECONDS, clock=clock, on_change=self._change)
        # What follows from the two, so that a hit takes 0.3 µs and not 5 to 11 (measured). Nothing in it outlives its
        # parts: it is emptied whenever one of them changes, and no entry is used after their time.
        self._ready: dict[Key, _Found] = {}
        self._changes = 0

    async def facts(self, command: MonitorCommand, asking: Asking) -> SupervisorFacts:
        """Return what Connect says of the command's user, in time for who asks.

        What does not suffice for the command is at most `REFUSAL_SECONDS` old. Suspends only if it has to ask.

        Raises:
            Failure: why Connect could not be asked; RESOURCE_NOT_FOUND if there is no such user (or contact, where the
                rule is `inside`); SERVICE_CREDENTIALS if this service may not ask.
        """
        ready = self._ready.get((command.instance_id, command.user_id))
        if ready is not None and self._clock() < ready.until and suffice(ready.facts, command.capabilities):
            return ready.facts
        found = await self._find(command, asking, math.inf)
        if suffice(found.facts, command.capabilities) or self._clock() - found.known_at <= REFUSAL_SECONDS:
            return found.facts
        return (await self._find(command, asking, REFUSAL_SECONDS)).facts

    async def _find(self, command: MonitorCommand, asking: Asking, max_age_seconds: float) -> "_Found":
        changes = self._changes
        user, known = await self._known(command, asking, max_age_seconds)
        profiles = [profile.value for profile in known]
        asks_agent = needs_agent(profiles, self._rule)
        agent = await self._agent(command, profiles, asking) if asks_agent else None
        known_at = min([user.at, *(profile.at for profile in known)])
        facts = facts_of(
            command.user_id,
            user.value,
            profiles,
            rule=self._rule,
            agent=agent,
            checked_at=self._wall_clock() - (self._clock() - known_at),
        )
        until = min([user.at + USER_SECONDS, *(profile.at + PROFILE_SECONDS for profile in known)])
        found = _Found(facts, known_at, until)
        if not asks_agent and changes == self._changes:  # else something newer may be known than what it is made of
            self._ready[command.instance_id, command.user_id] = found
        return found

    def _change(self) -> None:
        self._changes += 1
        self._ready.clear()

    async def _known(
        self, command: MonitorCommand, asking: Asking, max_age_seconds: float
    ) -> tuple[Known[User], Sequence[Known[Profile]]]:
        """Return the user and its profiles; no profile if one of them does not exist, so that nothing is granted.

        If it was taken from the user and deleted since, that shows when `facts` has the refusal read again.
        """
        user = await self._users.get((command.instance_id, command.user_id), asking, max_age_seconds)
        return user, await self._profiles_of(command.instance_id, user.value, asking, max_age_seconds)

    async def _profiles_of(
        self, instance_id: str, user: User, asking: Asking, max_age_seconds: float
    ) -> Sequence[Known[Profile]]:
        now = self._clock()
        keys = [(instance_id, profile_id) for profile_id in user.profile_ids]
        try:
            known = [self._profiles.peek(key, now, max_age_seconds) for key in keys]
            found = [profile for profile in known if profile is not None]
            if len(found) == len(keys):
                return found
            return await _together(*(self._profiles.get(key, asking, max_age_seconds) for key in keys))
        except Failure as failure:
            if failure.reason is Reason.RESOURCE_NOT_FOUND:
                return ()
            raise

    async def _agent(self, command: MonitorCommand, profiles: Sequence[Profile], asking: Asking) -> Agent | None:
        """Return who talks on the contact now: that changes, so it is not remembered."""
        request = reads.describe_contact(command.instance_id, command.contact_id)
        agent = await self._ask(request, reads.read_agent, asking)
        if agent is None or not needs_tags(profiles):
            return agent
        user = await self._users.get((command.instance_id, agent.user_id), asking)
        return replace(agent, tags=user.value.tags)

    async def _read_user(self, key: Key, asking: Asking) -> User:
        return await self._ask(reads.describe_user(*key), reads.read_user, asking)

    async def _read_profile(self, key: Key, asking: Asking) -> Profile:
        if self._rule == "allow":
            return Profile(await self._permissions(key, asking))
        request = reads.describe_profile(*key)
        restriction = await self._ask(request, reads.read_restriction, asking)
        return Profile(await self._permissions(key, asking), restriction)

    async def _permissions(self, key: Key, asking: Asking) -> frozenset[str]:
        """Return which of the two names a profile has."""
        found: frozenset[str] = frozenset()
        tokens = {""}
        page = reads.Page(found, "")
        for _ in range(MAX_PAGES):
            page = await self._ask(reads.list_permissions(*key, page.next_token), reads.read_page, asking)
            found |= page.permissions & _BOTH
            if not page.next_token or found == _BOTH:
                return found
            if page.next_token in tokens:
                break
            tokens.add(page.next_token)
        raise Failure(
            Reason.CONNECT_BAD_RESPONSE,
            metadata={"aws_error": "", "http_status": "200"},
            log_text="pages of permissions without an end",
        )

    async def _ask(self, request: reads.ReadRequest, understand: Callable[[Answer], Value], asking: Asking) -> Value:
        try:
            return await self._paced.ask(request, understand, asking)
        except Failure as failure:
            means = reads.not_the_callers(failure)
            if means is not failure:
                _log.error("the role of this service may not read", extra=fields(action=f"connect:{request.api}"))
            raise means from None


async def _together(*coroutines: Coroutine[Any, Any, Value]) -> list[Value]:
    """Run all at the same time; if one fails, end the others and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
