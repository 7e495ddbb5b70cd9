"""`supervisors`: what a supervisor may do, read from a simulated Connect over the real transport, and remembered."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from fakes import FakeClock
from harness import connect_to
from monitor_contact_service import simulator
from monitor_contact_service.core.asking import Asking
from monitor_contact_service.core.command import Capability, MonitorCommand
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.core.permissions import Rule, SupervisorFacts
from monitor_contact_service.core.reads import Api, ReadRequest
from monitor_contact_service.core.wire import Answer
from monitor_contact_service.read_quota import PacedReads
from monitor_contact_service.simulator import UNLIMITED, Fault, SecurityProfile, Simulator, World
from monitor_contact_service.supervisors import (
    MAX_PAGES,
    PROFILE_SECONDS,
    REFUSAL_SECONDS,
    USER_SECONDS,
    Supervisors,
)
from read_fakes import PLENTY, FakeReads, found, paced, script

_SECONDS = 30.0
_EPOCH = 1_800_000_000.0
_GUARDS = [Api.DESCRIBE_USER, Api.LIST_PERMISSIONS, Api.DESCRIBE_PROFILE]


@dataclass
class _Rig:
    """Supervisors in front of a simulator, by a clock that a test moves."""

    simulator: Simulator
    clock: FakeClock
    supervisors: Supervisors

    def command(self, user: str, *, contact: str = "call", barge: bool = False) -> MonitorCommand:
        world = self.simulator.world
        capabilities = (Capability.SILENT_MONITOR, Capability.BARGE) if barge else (Capability.SILENT_MONITOR,)
        user_id = world.users[user].id if user in world.users else user
        contact_id = world.contacts[contact].id if contact in world.contacts else contact
        return MonitorCommand(world.instances["main"].id, contact_id, user_id, capabilities, "")

    async def facts(self, user: str, *, contact: str = "call", barge: bool = False) -> SupervisorFacts:
        command = self.command(user, contact=contact, barge=barge)
        return await self.supervisors.facts(command, Asking("caller", self.clock() + _SECONDS))

    async def rights(self, user: str, *, contact: str = "call", barge: bool = False) -> tuple[bool, bool, bool]:
        facts = await self.facts(user, contact=contact, barge=barge)
        return facts.listen_in, facts.barge_in, facts.restricted

    async def failure(self, user: str, *, contact: str = "call") -> Failure:
        with pytest.raises(Failure) as caught:
            await self.facts(user, contact=contact)
        return caught.value

    def count(self, *apis: Api) -> int:
        return sum(self.simulator.counts.get(str(api), 0) for api in apis or Api)

    def grant(self, user: str, *profiles: str) -> None:
        """Give a user these profiles instead of its own."""
        world = self.simulator.world
        ids = tuple(world.security_profiles[name].id for name in profiles)
        self.simulator.world = world.change("users", user, security_profile_ids=ids)


def _add_profiles(world: World, *profiles: SecurityProfile) -> World:
    return replace(world, security_profiles={**world.security_profiles, **{one.name: one for one in profiles}})


def _profile(world: World, name: str, *permissions: str) -> SecurityProfile:
    return SecurityProfile(name, f"profile/{name}", world.instances["main"].id, permissions)


class _RunningClock(FakeClock):
    """The real time, for tests that wait for a turn; it can be moved forward like any other."""

    def __call__(self) -> float:
        """Return the present."""
        return self.now + time.monotonic()


@asynccontextmanager
async def _rig(rule: Rule = "deny", quota: Quota = PLENTY, clock: FakeClock | None = None) -> AsyncIterator[_Rig]:
    """Yield supervisors whose reads have `quota`, before a Connect that counts nothing."""
    clock = clock or FakeClock()
    async with Simulator(quotas={str(api): UNLIMITED for api in Api}) as running, connect_to(running.url) as connect:
        reads = paced(connect, clock, quota)
        yield _Rig(running, clock, Supervisors(reads, rule=rule, clock=clock, wall_clock=lambda: _EPOCH + clock()))


@pytest.fixture
async def rig() -> AsyncIterator[_Rig]:
    """Supervisors by the default rule."""
    async with _rig() as running:
        yield running


# ---- What they may do ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "listen_in", "barge_in"),
    [("sue", True, True), ("sam", True, True), ("lee", True, False), ("nora", False, False)],
)
async def test_permissions_are_those_of_the_profiles(rig: _Rig, user: str, *, listen_in: bool, barge_in: bool) -> None:
    """A supervisor, one of two profiles, one who only listens, and an agent: page 2 and 3 of the names count."""
    assert await rig.rights(user, barge=True) == (listen_in, barge_in, False)
    assert not rig.simulator.calls("MonitorContact")


async def test_the_facts_tell_where_they_come_from(rig: _Rig) -> None:
    """Profiles, and when Connect said so: the time of the reading, also when it is an older one."""
    first = await rig.facts("sue")
    world = rig.simulator.world
    assert first.profiles == (world.security_profiles["agent"].id, world.security_profiles["supervisor"].id)
    assert (first.user_id, first.checked_at) == (world.users["sue"].id, _EPOCH + 1000)
    rig.clock.advance(30)
    assert (await rig.facts("sue")).checked_at == first.checked_at


@pytest.mark.parametrize("position", [0, 5, 9])
async def test_each_of_ten_profiles_counts(rig: _Rig, position: int) -> None:
    """The right in the first, in the middle and in the tenth; each profile is read once."""
    world = rig.simulator.world
    profiles = [_profile(world, f"p{n}", "Other", *(("ManagerListenIn",) if n == position else ())) for n in range(10)]
    rig.simulator.world = _add_profiles(world, *profiles)
    rig.grant("nora", *(profile.name for profile in profiles))
    assert await rig.rights("nora") == (True, False, False)
    assert [rig.count(api) for api in _GUARDS] == [1, 10, 10]


async def test_no_page_is_read_that_cannot_change_anything(rig: _Rig) -> None:
    """Both names on the first page end the reading; the right to listen alone does not."""
    world = rig.simulator.world
    both = _profile(world, "both", "ManagerBargeIn", "ManagerListenIn", "a", "b", "c")
    one = _profile(world, "one", "ManagerListenIn", "a", "b", "c", "d")
    rig.simulator.world = _add_profiles(world, both, one)
    rig.grant("nora", "both")
    await rig.facts("nora")
    assert rig.count(Api.LIST_PERMISSIONS) == 1
    rig.grant("lee", "one")
    await rig.facts("lee")
    assert rig.count(Api.LIST_PERMISSIONS) == 1 + 3


async def test_odd_identifiers_are_found(rig: _Rig) -> None:
    """Whatever is in an id, it is one segment of the path."""
    rig.simulator.world = rig.simulator.world.change("users", "sue", id="a/b?c#%2e%2e é+&=")
    assert await rig.rights("sue") == (True, True, False)


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        pytest.param(MAX_PAGES, None, id="ten pages"),
        pytest.param(MAX_PAGES + 1, Reason.CONNECT_BAD_RESPONSE, id="eleven pages"),
    ],
)
async def test_pages_end(pages: int, reason: Reason | None) -> None:
    """A name on the last of ten pages, all others empty, is found; an eleventh page is not asked for."""
    listed = [found({"Permissions": [], "NextToken": str(number)}) for number in range(1, pages)]
    permissions = script(*listed, found({"Permissions": ["ManagerListenIn"]}))
    supervisors, clock, transport = _scripted(permissions)
    if reason is None:
        assert (await supervisors.facts(_COMMAND, Asking("caller", clock() + _SECONDS))).listen_in
    else:
        with pytest.raises(Failure) as caught:
            await supervisors.facts(_COMMAND, Asking("caller", clock() + _SECONDS))
        assert caught.value.reason is reason
    assert transport.counts[Api.LIST_PERMISSIONS] == MAX_PAGES


async def test_the_same_token_twice_is_no_answer() -> None:
    """It would go on for ever."""
    supervisors, clock, transport = _scripted(script(found({"Permissions": ["x"], "NextToken": "t"})))
    with pytest.raises(Failure) as caught:
        await supervisors.facts(_COMMAND, Asking("caller", clock() + _SECONDS))
    assert caught.value.reason is Reason.CONNECT_BAD_RESPONSE
    assert transport.counts[Api.LIST_PERMISSIONS] == 2


_COMMAND = MonitorCommand("i", "c", "u", (Capability.SILENT_MONITOR,), "")


def _scripted(
    permissions: Callable[[ReadRequest], Answer | Failure],
) -> tuple[Supervisors, FakeClock, FakeReads]:
    """Return supervisors of one profile, of which `permissions` tells."""

    def answer(request: ReadRequest) -> Answer | Failure:
        match request.api:
            case Api.DESCRIBE_USER:
                return found({"User": {"SecurityProfileIds": ["p"]}})
            case Api.DESCRIBE_PROFILE:
                return found({"SecurityProfile": {}})
        return permissions(request)

    clock = FakeClock()
    transport = FakeReads(clock, answer)
    return Supervisors(paced(transport, clock), rule="deny", clock=clock, wall_clock=clock), clock, transport


# ---- Restricted profiles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["tara", "ruth", "hal"])
async def test_restricted_supervisors_are_so_by_default(rig: _Rig, user: str) -> None:
    """By tag and by hierarchy, wherever the contact's agent is: nobody asks."""
    assert await rig.rights(user) == (True, True, True)
    assert rig.count(Api.DESCRIBE_CONTACT) == 0


@pytest.mark.parametrize(
    ("user", "inside", "users"), [("tara", True, 2), ("ruth", False, 2), ("hal", True, 1), ("sue", True, 1)]
)
async def test_inside_the_contacts_agent_decides(user: str, users: int, *, inside: bool) -> None:
    """Team blue and the groups below Sales hold ann, team red does not; her tags are read for a limit by tag only."""
    async with _rig("inside") as rig:
        assert await rig.rights(user) == ((True, True, False) if inside else (False, False, True))
        assert rig.count(Api.DESCRIBE_USER) == users
        assert rig.count(Api.DESCRIBE_CONTACT) == (user != "sue")


async def test_a_contact_without_an_agent_is_outside() -> None:
    """Nobody is there to be inside."""
    async with _rig("inside") as rig:
        assert await rig.rights("tara", contact="queued") == (False, False, True)


async def test_the_agent_is_who_talks_now() -> None:
    """A contact that was transferred out of the group is outside at once, although the supervisor is remembered."""
    async with _rig("inside") as rig:
        for _ in range(2):
            assert await rig.rights("hal") == (True, True, False)
        sam = rig.simulator.world.users["sam"].id
        rig.simulator.world = rig.simulator.world.change("contacts", "call", agent_id=sam)
        assert await rig.rights("hal") == (False, False, True)
        assert rig.count(Api.DESCRIBE_PROFILE) == 1


async def test_restrictions_are_not_even_read_where_they_are_allowed() -> None:
    """`allow` saves their quota."""
    async with _rig("allow") as rig:
        assert await rig.rights("ruth") == (True, True, False)
        assert rig.count(Api.DESCRIBE_PROFILE, Api.DESCRIBE_CONTACT) == 0


async def test_an_unknown_contact_is_not_found() -> None:
    """As Connect would say later."""
    async with _rig("inside") as rig:
        assert (await rig.failure("tara", contact="nowhere")).reason is Reason.RESOURCE_NOT_FOUND


# ---- What goes wrong -------------------------------------------------------------------------------------------------


_ERRORS = {
    "429": (Fault("error", error="ThrottlingException"), Reason.THROTTLED, 3),
    "400 by that name": (Fault("error", error="ThrottlingException", status=400), Reason.THROTTLED, 3),
    "403": (Fault("error", error="AccessDeniedException"), Reason.SERVICE_CREDENTIALS, 1),
    "403 in other words": (
        Fault("error", error="AccessDeniedException", message="You do not have access to the agent."),
        Reason.SERVICE_CREDENTIALS,
        1,
    ),
    "expired": (Fault("error", error="ExpiredTokenException"), Reason.SERVICE_CREDENTIALS, 2),
    "500": (Fault("error", error="InternalServiceException"), Reason.INTERNAL_SERVICE, 3),
    "503": (Fault("error", status=503), Reason.INTERNAL_SERVICE, 3),
    "400": (Fault("error", error="InvalidParameterException"), Reason.INVALID_REQUEST, 1),
    "closed": (Fault("close"), Reason.CONNECT_UNREACHABLE, 3),
    "307": (Fault("redirect"), Reason.CONNECT_BAD_RESPONSE, 1),
    "html": (Fault("garbage", garbage="html"), Reason.CONNECT_BAD_RESPONSE, 1),
    "{}": (Fault("garbage", garbage="no-contact-id"), Reason.CONNECT_BAD_RESPONSE, 1),
}


@pytest.mark.parametrize("api", [*_GUARDS, Api.DESCRIBE_CONTACT])
@pytest.mark.parametrize(("fault", "reason", "attempts"), _ERRORS.values(), ids=_ERRORS.keys())
async def test_a_failed_read_is_answered_by_its_own_row(api: Api, fault: Fault, reason: Reason, attempts: int) -> None:
    """Never as: not permitted. A denied one is our role's fault; what may pass is tried three times."""
    async with _rig("inside", clock=_RunningClock()) as rig:
        rig.simulator.inject(replace(fault, api=str(api)))
        failure = await rig.failure("hal")
        assert (failure.reason, failure.outcome_unknown, rig.count(api)) == (reason, False, attempts)


@pytest.mark.parametrize("api", [*_GUARDS, Api.DESCRIBE_CONTACT])
@pytest.mark.parametrize("error", ["ThrottlingException", "InternalServiceException", "ExpiredTokenException"])
async def test_what_passes_is_waited_for(api: Api, error: str) -> None:
    """One such answer of each read, and the facts are there all the same."""
    async with _rig("inside", clock=_RunningClock()) as rig:
        rig.simulator.inject(Fault("error", api=str(api), error=error, times=1))
        assert await rig.rights("hal") == (True, True, False)


async def test_a_failed_read_is_not_remembered(rig: _Rig) -> None:
    """The next call asks again."""
    rig.simulator.inject(Fault("error", api="ListSecurityProfilePermissions", error="InternalServiceException"))
    await rig.failure("sue")
    rig.simulator.clear_faults()
    assert await rig.rights("sue") == (True, True, False)


async def test_an_old_right_never_stands_in_for_a_failed_read(rig: _Rig) -> None:
    """Fail closed: when it cannot be read again, a right has ended with its time."""
    await rig.facts("sue")
    rig.simulator.inject(Fault("error", api="*", error="InternalServiceException"))
    rig.clock.advance(USER_SECONDS - 0.1)
    assert await rig.rights("sue") == (True, True, False)
    rig.clock.advance(0.2)
    assert (await rig.failure("sue")).reason is Reason.INTERNAL_SERVICE


async def test_an_unknown_user_is_not_found(rig: _Rig) -> None:
    """And asked for once in five seconds, however often it is named."""
    for _ in range(3):
        assert (await rig.failure("nobody")).reason is Reason.RESOURCE_NOT_FOUND
    assert rig.count() == 1
    rig.clock.advance(REFUSAL_SECONDS)
    await rig.failure("nobody")
    assert rig.count() == 2


async def test_a_user_of_another_instance_is_another(rig: _Rig) -> None:
    """What is known of a user id on one instance is not used on another."""
    await rig.facts("sue")
    world = rig.simulator.world
    elsewhere = replace(rig.command("sue"), instance_id=world.instances["plain"].id)
    with pytest.raises(Failure) as caught:
        await rig.supervisors.facts(elsewhere, Asking("caller", rig.clock() + _SECONDS))
    assert caught.value.reason is Reason.RESOURCE_NOT_FOUND


async def test_a_profile_that_is_gone_makes_the_user_be_read_again(rig: _Rig) -> None:
    """Replaced and deleted while the user was remembered: the new one counts at once."""
    await rig.facts("sam")
    rig.clock.advance(PROFILE_SECONDS - 40)
    await rig.facts("sue")  # of the profile that is known from sam
    rig.clock.advance(40)
    _delete(rig, "supervisor")
    rig.grant("sue", "listener")
    assert await rig.rights("sue") == (True, False, False)


async def test_a_profile_that_stays_gone_grants_nothing(rig: _Rig) -> None:
    """Nor do the others of that user; and the user is not read again and again."""
    _delete(rig, "supervisor")
    for _ in range(3):
        assert await rig.rights("sue") == (False, False, False)
    assert rig.count(Api.DESCRIBE_USER) == 1


def _delete(rig: _Rig, name: str) -> None:
    rig.simulator.world = rig.simulator.world.change("security_profiles", name, id=f"deleted/{name}")


async def test_an_error_of_ours_is_told_to_the_operator(rig: _Rig, caplog: pytest.LogCaptureFixture) -> None:
    """By the IAM action that the role lacks, without ids."""
    rig.simulator.inject(Fault("error", api="DescribeUser", error="AccessDeniedException"))
    with caplog.at_level("ERROR", logger="monitor_contact_service.supervisors"):
        await rig.failure("sue")
    (record,) = caplog.records
    assert record.__dict__["fields"] == {"action": "connect:DescribeUser"}


async def test_ten_cold_profiles_are_read_within_connects_quota() -> None:
    """By the clock and the count of a Connect that grants ten times the usual rate: nothing is refused."""
    quota = Quota(rate=20.0, burst=5)
    granted = {str(api): simulator.Quota(quota.rate, quota.burst) for api in Api}
    world = _ten_listeners(simulator.default_world())
    async with Simulator(world, quotas=granted) as running, connect_to(running.url) as connect:
        reads = PacedReads(
            connect,
            quota=quota,
            attempt_timeout_seconds=3.0,
            clock=time.monotonic,
            sleep=asyncio.sleep,
            draw=lambda: 0.5,
        )
        supervisors = Supervisors(reads, rule="deny", clock=time.monotonic, wall_clock=time.time)
        user = world.users["nora"]
        command = MonitorCommand(user.instance_id, "c", user.id, (Capability.SILENT_MONITOR,), "")
        assert (await supervisors.facts(command, Asking("caller", time.monotonic() + _SECONDS))).listen_in
        assert [call.status for call in running.calls()] == [200] * 21


def _ten_listeners(world: World) -> World:
    """Give nora ten profiles with the right to listen."""
    profiles = [_profile(world, f"p{number}", "ManagerListenIn") for number in range(10)]
    ids = tuple(profile.id for profile in profiles)
    return _add_profiles(world, *profiles).change("users", "nora", security_profile_ids=ids)


async def test_without_time_for_the_quota_it_is_no_refusal_of_the_supervisor() -> None:
    """Ten cold profiles do not fit into two seconds: OVERLOADED, and when to come again."""
    async with _rig(quota=Quota(rate=2.0, burst=5)) as rig:
        rig.simulator.world = _ten_listeners(rig.simulator.world)
        with pytest.raises(Failure) as caught:
            await rig.supervisors.facts(rig.command("nora"), Asking("caller", rig.clock() + 2.0))
        assert caught.value.reason is Reason.OVERLOADED
        assert caught.value.retry_after_seconds is not None


# ---- How long it is remembered ---------------------------------------------------------------------------------------


async def test_what_is_remembered_costs_no_read(rig: _Rig) -> None:
    """A second call within the time asks nothing, a second supervisor of the same profiles one read."""
    await rig.facts("sue")
    cold = rig.count()
    await rig.facts("sue", barge=True)
    assert rig.count() == cold
    await rig.facts("sam")
    assert rig.count() == cold + 1


async def test_a_profile_taken_from_a_user_ends_with_the_users_time(rig: _Rig) -> None:
    """Still a right just before a minute has passed, and no longer after it."""
    for _ in range(3):
        await rig.facts("sue")
    rig.grant("sue", "agent")
    rig.clock.advance(USER_SECONDS - 0.1)
    assert await rig.rights("sue") == (True, True, False)
    rig.clock.advance(0.1)
    assert await rig.rights("sue") == (False, False, False)


async def test_a_right_taken_from_a_profile_ends_with_the_profiles_time(rig: _Rig) -> None:
    """Five minutes, however often the user is read again meanwhile."""
    for _ in range(3):
        await rig.facts("sue")
    rig.simulator.world = rig.simulator.world.change("security_profiles", "supervisor", permissions=("Other",))
    for _ in range(4):
        rig.clock.advance(USER_SECONDS)
        assert await rig.rights("sue") == (True, True, False)
    rig.clock.advance(USER_SECONDS)
    assert await rig.rights("sue") == (False, False, False)


async def test_a_right_given_to_a_user_is_seen_after_seconds(rig: _Rig) -> None:
    """A refusal is at most five seconds old, and is not asked for again before."""
    assert await rig.rights("nora") == (False, False, False)
    cold = rig.count()
    rig.grant("nora", "supervisor")
    rig.clock.advance(REFUSAL_SECONDS)
    assert await rig.rights("nora") == (False, False, False)
    assert rig.count() == cold
    rig.clock.advance(0.1)
    assert await rig.rights("nora") == (True, True, False)


async def test_a_right_given_to_a_profile_is_seen_after_seconds(rig: _Rig) -> None:
    """The right to barge, for a supervisor who listens: asked for anew only where it is wanted."""
    assert await rig.rights("lee", barge=True) == (True, False, False)
    rig.simulator.world = rig.simulator.world.change(
        "security_profiles", "listener", permissions=("ManagerListenIn", "ManagerBargeIn")
    )
    rig.clock.advance(REFUSAL_SECONDS + 0.1)
    assert await rig.rights("lee") == (True, False, False)
    assert await rig.rights("lee", barge=True) == (True, True, False)


async def test_a_restriction_that_is_lifted_is_seen_after_seconds(rig: _Rig) -> None:
    """It is a refusal like others."""
    assert await rig.rights("tara") == (True, True, True)
    rig.simulator.world = rig.simulator.world.change(
        "security_profiles", "blue-team-supervisor", tag_restricted_resources=()
    )
    rig.clock.advance(REFUSAL_SECONDS + 0.1)
    assert await rig.rights("tara") == (True, True, False)


async def test_what_one_call_learns_counts_for_all(rig: _Rig) -> None:
    """A profile that is read again for somebody's refusal ends the right of everybody else who had it from there."""
    rig.grant("sam", "listener")
    assert await rig.rights("sam") == (True, False, False)
    assert await rig.rights("lee", barge=True) == (True, False, False)
    rig.simulator.world = rig.simulator.world.change("security_profiles", "listener", permissions=("Other",))
    rig.clock.advance(REFUSAL_SECONDS + 0.1)
    assert await rig.rights("sam") == (True, False, False)
    assert await rig.rights("lee", barge=True) == (False, False, False)
    assert await rig.rights("sam") == (False, False, False)


async def test_a_thousand_calls_at_once_read_once(rig: _Rig) -> None:
    """Cold, and for supervisors who share their profiles."""
    facts = await asyncio.gather(*(rig.facts(("sue", "sam")[number % 2]) for number in range(1000)))
    assert all(fact.listen_in for fact in facts)
    assert [rig.count(api) for api in _GUARDS] == [2, 1 + 3, 2]


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    """The reading that the first call began is not the first call's."""
    supervisors, clock, transport = _scripted(script(found({"Permissions": ["ManagerListenIn"]})))
    held = asyncio.Event()
    transport.hold = held.wait
    calls = [asyncio.create_task(supervisors.facts(_COMMAND, Asking("caller", clock() + _SECONDS))) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.wait([calls[0]])
    held.set()
    facts = await asyncio.gather(*calls[1:])
    assert [fact.listen_in for fact in facts] == [True, True]
    assert sum(transport.counts.values()) == 3


async def test_what_is_remembered_is_given_without_suspending(rig: _Rig) -> None:
    """A hit costs no turn of the event loop, neither the first nor those after it."""
    facts = await rig.facts("sue")
    for _ in range(3):
        with pytest.raises(StopIteration) as stopped:
            rig.supervisors.facts(rig.command("sue"), Asking("caller", rig.clock() + _SECONDS)).send(None)
        assert stopped.value.value == facts
