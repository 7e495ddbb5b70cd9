"""No call carries a capability that the policy and Connect's own permissions do not allow: a property of any call.

The oracle is plain Python and knows nothing of Cedar: what each role may do, and what the supervisor's profiles hold.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from fakes import FakeClock, FakeTransport
from harness import CONTACT_ID, INSTANCE_ID, UNPACED, Service, serving
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact_service.access import Access, CallerEntry
from monitor_contact_service.core.policy import compile_policies
from monitor_contact_service.core.reads import Api, ReadRequest
from monitor_contact_service.core.wire import Answer
from monitor_contact_service.policy_files import foundation
from monitor_contact_service.settings import Settings
from read_fakes import found

_POLICY: Final = """
@id("listen") permit (
  principal in MonitorContact::Role::"listen", action == MonitorContact::Action::"SilentMonitor", resource
);
@id("barge") permit (
  principal in MonitorContact::Role::"barge", action == MonitorContact::Action::"Barge", resource
);
"""
_LISTEN: Final = frozenset({"SILENT_MONITOR"})
_BARGE: Final = frozenset({"BARGE"})
# The actions of each role, as the policy says.
_OF_ROLE: Final[Mapping[str, frozenset[str]]] = {"listen": _LISTEN, "barge": _BARGE, "clerk": frozenset()}
# What a caller can ask for that is valid, by the contract's numbers.
_ASKED: Final[Mapping[tuple[int, ...], frozenset[str]]] = {
    (): _LISTEN,
    (1,): _LISTEN,
    (1, 2): _LISTEN | _BARGE,
    (2, 1): _LISTEN | _BARGE,
}
# A profile is written as the letters of what it holds: L to listen in, B to barge in, R for a restriction by tag.
_PERMISSIONS: Final[Mapping[str, str]] = {"L": "ManagerListenIn", "B": "ManagerBargeIn"}


@dataclass
class _Connect(FakeTransport):
    """Takes every call, and knows users whose ids say which profiles they have: `user.LB.R` has two."""

    reads: list[Api] = field(default_factory=list)

    async def read(self, request: ReadRequest, *, timeout_seconds: float) -> Answer:
        """Answer from the ids alone."""
        del timeout_seconds
        self.reads.append(request.api)
        last = request.target.partition("?")[0].rpartition("/")[2]
        match request.api:
            case Api.DESCRIBE_USER:
                return found({"User": {"SecurityProfileIds": last.split(".")[1:]}})
            case Api.LIST_PERMISSIONS:
                return found({"Permissions": [name for letter, name in _PERMISSIONS.items() if letter in last]})
            case Api.DESCRIBE_PROFILE:
                return found({"SecurityProfile": {"TagRestrictedResources": ["User"] if "R" in last else []}})
            case _:
                raise AssertionError(request)


@pytest.fixture(scope="module")
async def rig() -> AsyncIterator[tuple[Service, _Connect]]:
    """A service whose callers say who they are: their ids are the names of their roles, joined by `+`."""
    combinations = ["", "listen", "barge", "clerk", "listen+barge", "listen+clerk", "barge+clerk", "listen+barge+clerk"]
    entries = {roles: CallerEntry(roles=tuple(filter(None, roles.split("+")))) for roles in combinations}
    connect = _Connect(FakeClock())
    async with serving(
        connect,
        Settings(**UNPACED, read_quota_rate=50_000, read_quota_burst=50_000),
        caller_of=_roles_of,
        access=Access.model_construct(callers=entries),
        policies=compile_policies(_POLICY, "policy.cedar", foundation()),
        reads=True,
    ) as service:
        yield service, connect


def _roles_of(context: Any) -> str:
    return str(dict(context.invocation_metadata())["x-roles"])


def _permitted(roles: Sequence[str], profiles: Sequence[str]) -> frozenset[str]:
    """Return what a caller with these roles may have a supervisor with these profiles do."""
    by_role = frozenset[str]().union(*(_OF_ROLE[role] for role in roles))
    held = set("".join(profiles))
    if "R" in held or "L" not in held or not by_role >= _LISTEN:
        return frozenset()
    return by_role if "B" in held else by_role - _BARGE


_roles = st.lists(st.sampled_from(list(_OF_ROLE)), unique=True).map(lambda drawn: [r for r in _OF_ROLE if r in drawn])
# Half of all lists hold both rights and no restriction: otherwise hardly any call is permitted.
_profiles = st.one_of(
    st.lists(st.sampled_from(["A", "AL", "AB", "ALB", "ALBR", "AR"]), min_size=1, max_size=10),
    st.lists(st.sampled_from(["A", "AL", "ALB"]), min_size=1, max_size=3),
)
_capabilities = st.one_of(st.sampled_from(list(_ASKED)), st.lists(st.integers(0, 4), max_size=3).map(tuple))


@hypothesis_settings(deadline=None, max_examples=100)
@given(roles=_roles, profiles=_profiles, capabilities=_capabilities)
async def test_what_is_sent_was_asked_for_and_permitted(
    rig: tuple[Service, _Connect], roles: list[str], profiles: list[str], capabilities: tuple[int, ...]
) -> None:
    """Exactly the calls whose every capability is permitted reach Connect, with these capabilities and no other."""
    service, connect = rig
    connect.sent.clear()
    asked, permitted = _ASKED.get(capabilities), _permitted(roles, profiles)
    request = MonitorContactRequest(
        instance_id=INSTANCE_ID,
        contact_id=CONTACT_ID,
        user_id=".".join(["user", *profiles]),
        allowed_monitor_capabilities=capabilities,  # type: ignore[arg-type]  # numbers, valid or not
    )
    code = await _call(service, request, "+".join(roles))
    sent = [frozenset(json.loads(each.body)["AllowedMonitorCapabilities"]) for each in connect.sent]
    assert all(each <= permitted for each in sent)
    if asked is None:
        assert (code, sent) == (grpc.StatusCode.INVALID_ARGUMENT, [])
    elif asked <= permitted:
        assert (code, sent) == (grpc.StatusCode.OK, [asked])
        assert [each.barge for each in connect.sent] == [asked > _LISTEN], "a barge has a role in IAM of its own"
    else:
        assert (code, sent) == (grpc.StatusCode.PERMISSION_DENIED, [])


async def test_who_is_denied_by_the_policy_learns_nothing_of_connect(rig: tuple[Service, _Connect]) -> None:
    """No read is made for a caller whom the policy refuses, so nobody can find out who exists, or use up the quota."""
    service, connect = rig
    connect.reads.clear()
    request = MonitorContactRequest(instance_id=INSTANCE_ID, contact_id=CONTACT_ID, user_id="unread.ALBQ")
    assert await _call(service, request, "clerk") is grpc.StatusCode.PERMISSION_DENIED
    assert connect.reads == []
    assert await _call(service, request, "listen") is grpc.StatusCode.OK
    assert set(connect.reads) == {Api.DESCRIBE_USER, Api.LIST_PERMISSIONS, Api.DESCRIBE_PROFILE}


async def _call(service: Service, request: MonitorContactRequest, roles: str) -> grpc.StatusCode:
    try:
        await service.stub.MonitorContact(request, metadata=(("x-roles", roles),), timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
