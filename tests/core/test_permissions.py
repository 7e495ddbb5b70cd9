"""`core.permissions`: from users, profiles and agents to facts."""

from itertools import product

import pytest
from monitor_contact_service.core.command import Capability
from monitor_contact_service.core.permissions import (
    BARGE_IN,
    LISTEN_IN,
    Agent,
    Profile,
    Restriction,
    Rule,
    SupervisorFacts,
    User,
    facts_of,
    needs_agent,
    needs_tags,
    suffice,
)

_RULES: tuple[Rule, ...] = ("deny", "inside", "allow")
_LISTEN = (Capability.SILENT_MONITOR,)
_LISTEN_AND_BARGE = (Capability.SILENT_MONITOR, Capability.BARGE)
_BOTH = (LISTEN_IN, BARGE_IN)

_BLUE = Restriction(tags={"Team": "blue"})
_ANN = Agent("ann", frozenset({"sales", "north"}), {"Team": "blue", "Site": "Bonn"})
_BOB = Agent("bob", frozenset({"support"}), {"Team": "red"})


def _facts(
    *profiles: Profile, rule: Rule = "deny", agent: Agent | None = None, group_id: str = ""
) -> tuple[bool, bool, bool]:
    facts = facts_of("sue", User(("p",), group_id=group_id), profiles, rule=rule, agent=agent)
    return facts.listen_in, facts.barge_in, facts.restricted


@pytest.mark.parametrize("rule", _RULES)
@pytest.mark.parametrize(
    ("permissions", "listen_in", "barge_in"),
    [
        (((),), False, False),
        (((LISTEN_IN,),), True, False),
        (((BARGE_IN,),), False, True),
        ((_BOTH,), True, True),
        (((LISTEN_IN,), (BARGE_IN,)), True, True),
        (((), ("Other",), (LISTEN_IN,)), True, False),
        ((("RealTimeContactMonitoring", "ManagerSilentMonitor", "managerlistenin", "ManagerListenIn "),), False, False),
    ],
)
def test_permissions_of_all_profiles_add_up(
    rule: Rule, permissions: tuple[tuple[str, ...], ...], *, listen_in: bool, barge_in: bool
) -> None:
    """The exact two names count, in whichever profile they stand; names that only look alike do not."""
    assert _facts(*map(Profile, permissions), rule=rule) == (listen_in, barge_in, False)


def test_the_facts_name_what_they_come_from() -> None:
    """User, profiles and time go into the audit record."""
    user = User(("one", "two"))
    facts = facts_of("sue", user, (Profile(_BOTH), Profile(())), rule="deny", checked_at=12.5)
    assert facts == SupervisorFacts("sue", True, True, False, ("one", "two"), 12.5)  # noqa: FBT003 - positional as the dataclass is


@pytest.mark.parametrize("restriction", [_BLUE, Restriction(group_id="sales"), Restriction(group_id="")])
@pytest.mark.parametrize("others", [(), (Profile(_BOTH),)])
def test_a_restricted_profile_denies_by_default(restriction: Restriction, others: tuple[Profile, ...]) -> None:
    """Even beside one without a limit, and whether or not it grants anything itself."""
    assert _facts(*others, Profile(_BOTH, restriction), agent=_ANN) == (True, True, True)
    assert _facts(*others, Profile((), restriction), agent=_ANN)[2] is True


def test_restrictions_can_be_allowed() -> None:
    """`allow` takes the profile for what it grants, wherever the contact is."""
    assert _facts(Profile(_BOTH, _BLUE), rule="allow", agent=_BOB) == (True, True, False)


@pytest.mark.parametrize(
    ("restriction", "inside"),
    [
        (_BLUE, True),
        (Restriction(tags={"Team": "blue", "Site": "Bonn"}), True),
        (Restriction(tags={"Team": "red"}), False),
        (Restriction(tags={"Team": "Blue"}), False),
        (Restriction(tags={"Team": "blue", "Site": "Ulm"}), False),
        (Restriction(tags={"team": "blue"}), False),
        (Restriction(tags={}), False),
        (Restriction(group_id="sales"), True),
        (Restriction(group_id="north"), True),
        (Restriction(group_id="south"), False),
        (Restriction(tags={"Team": "blue"}, group_id="north"), True),
        (Restriction(tags={"Team": "blue"}, group_id="south"), False),
        (Restriction(tags={"Team": "red"}, group_id="north"), False),
    ],
)
def test_inside_all_limits_of_a_profile_must_match(restriction: Restriction, *, inside: bool) -> None:
    """Every tag, exactly, and the group or one below it; a limit that names no tags lets nobody in."""
    expected = (True, True, False) if inside else (False, False, True)
    assert _facts(Profile(_BOTH, restriction), rule="inside", agent=_ANN) == expected


@pytest.mark.parametrize(("group_id", "inside"), [("sales", True), ("north", True), ("south", False), ("", False)])
def test_without_a_group_of_its_own_a_profile_means_the_supervisors(group_id: str, *, inside: bool) -> None:
    """A supervisor in no group is above nobody."""
    restricted = Profile(_BOTH, Restriction(group_id=""))
    assert _facts(restricted, rule="inside", agent=_ANN, group_id=group_id)[0] is inside


def test_a_contact_without_an_agent_is_outside() -> None:
    """There is nobody whom a limit could match."""
    assert _facts(Profile(_BOTH, _BLUE), rule="inside") == (False, False, True)


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        pytest.param(
            (Profile(_BOTH, _BLUE), Profile(_BOTH, Restriction(tags={"Team": "red"}))),
            (True, True, False),
            id="one of two",
        ),
        pytest.param((Profile(_BOTH), Profile(_BOTH, _BLUE)), (True, True, False), id="beside an unrestricted one"),
        pytest.param((Profile((LISTEN_IN,)), Profile((BARGE_IN,), _BLUE)), (True, False, False), id="barge is outside"),
        pytest.param(
            (Profile((BARGE_IN,)), Profile((LISTEN_IN,), _BLUE)), (False, True, True), id="listening is outside"
        ),
        pytest.param((Profile(()), Profile(_BOTH, _BLUE)), (False, False, True), id="unrestricted without a right"),
        pytest.param((Profile(()), Profile((), _BLUE)), (False, False, False), id="no right anywhere"),
    ],
)
def test_a_profile_counts_for_its_own_permissions_only(
    profiles: tuple[Profile, ...], expected: tuple[bool, bool, bool]
) -> None:
    """An unrestricted profile lifts no limit of others, as it does in the console: that would widen their rights."""
    assert _facts(*profiles, rule="inside", agent=_BOB) == expected


def test_inside_lies_between_deny_and_allow() -> None:
    """Over every pair of small profiles: what `deny` permits `inside` permits, and that `allow`."""
    kinds = [Profile(names, limit) for names in ((), (LISTEN_IN,), _BOTH) for limit in (None, _BLUE)]
    for pair, agent in product(product(kinds, repeat=2), (_ANN, _BOB, None)):
        deny, inside, allow = (
            [
                suffice(facts_of("s", User(("p",)), pair, rule=rule, agent=agent), asked)
                for asked in (_LISTEN, _LISTEN_AND_BARGE)
            ]
            for rule in _RULES
        )
        assert all(
            not narrow or wide for narrow, wide in (*zip(deny, inside, strict=True), *zip(inside, allow, strict=True))
        )


@pytest.mark.parametrize(
    ("listen_in", "barge_in", "restricted", "listen", "barge"),
    [
        (True, True, False, True, True),
        (True, False, False, True, False),
        (False, True, False, False, False),
        (True, True, True, False, False),
    ],
)
def test_what_suffices(*, listen_in: bool, barge_in: bool, restricted: bool, listen: bool, barge: bool) -> None:
    """Barging takes both rights, a restriction takes all."""
    facts = SupervisorFacts("sue", listen_in, barge_in, restricted)
    assert (suffice(facts, _LISTEN), suffice(facts, _LISTEN_AND_BARGE)) == (listen, barge)


def test_the_agent_is_asked_for_only_where_it_matters() -> None:
    """A restriction, and a rule that looks at it; its tags only for a restriction by tag."""
    plain, blue, sales = Profile(_BOTH), Profile(_BOTH, _BLUE), Profile(_BOTH, Restriction(group_id="sales"))
    assert [needs_agent((plain, blue), rule) for rule in _RULES] == [False, True, False]
    assert not needs_agent((plain,), "inside")
    assert [needs_tags((plain, profile)) for profile in (plain, blue, sales)] == [False, True, False]
