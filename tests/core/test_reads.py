"""`core.reads`: what is asked, and what is understood of anything that comes back."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_contact_service.core import reads
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.permissions import Agent, Restriction, User
from monitor_contact_service.core.reads import Api, Page, Presence, ReadRequest
from monitor_contact_service.core.wire import ANSWER_MAX_BYTES, Answer

_UNDERSTAND: dict[str, Callable[[Answer], object]] = {
    "user": reads.read_user,
    "page": reads.read_page,
    "restriction": reads.read_restriction,
    "agent": reads.read_agent,
    "presence": reads.read_presence,
}


def _answer(document: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, headers, json.dumps(document).encode())


def _failure(understand: Callable[[Answer], object], answer: Answer) -> Failure:
    with pytest.raises(Failure) as caught:
        understand(answer)
    return caught.value


# ---- What is asked ---------------------------------------------------------------------------------------------------


def test_every_read_has_its_path() -> None:
    """Those of Connect's API reference."""
    assert reads.describe_user("i", "u") == ReadRequest(Api.DESCRIBE_USER, "/users/i/u")
    assert reads.describe_profile("i", "p") == ReadRequest(Api.DESCRIBE_PROFILE, "/security-profiles/i/p")
    assert reads.describe_contact("i", "c") == ReadRequest(Api.DESCRIBE_CONTACT, "/contacts/i/c")
    assert reads.list_permissions("i", "p") == ReadRequest(
        Api.LIST_PERMISSIONS, "/security-profiles-permissions/i/p?maxResults=1000"
    )
    assert reads.current_user_data("i", "u") == ReadRequest(
        Api.CURRENT_USER_DATA, "/metrics/userdata/i", b'{"Filters": {"Agents": ["u"]}}'
    )


@pytest.mark.parametrize(
    ("identifier", "segment"),
    [
        ("a/b", "a%2Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("%2e%2e", "%252e%252e"),
        ("é", "%C3%A9"),
        ("...", "..."),
        ("A-z0.9_~", "A-z0.9_~"),
        ("arn:aws:connect", "arn%3Aaws%3Aconnect"),
        (" +&=;", "%20%2B%26%3D%3B"),
    ],
)
def test_identifiers_are_one_segment_each(identifier: str, segment: str) -> None:
    """Everything but unreserved characters is encoded, once."""
    assert reads.describe_user(identifier, identifier).target == f"/users/{segment}/{segment}"


def test_a_page_token_is_encoded_once() -> None:
    """Every character that clients get wrong in a query."""
    target = reads.list_permissions("i", "p", "a+b/==&x y").target
    assert target == "/security-profiles-permissions/i/p?nextToken=a%2Bb%2F%3D%3D%26x%20y&maxResults=1000"


@pytest.mark.parametrize("identifier", [".", "..", ""])
@pytest.mark.parametrize(
    "ask", [reads.describe_user, reads.list_permissions, reads.describe_profile, reads.describe_contact]
)
def test_dot_segments_are_never_asked_for(ask: Callable[[str, str], ReadRequest], identifier: str) -> None:
    """Validation refuses them; if they came this far they would name another API."""
    for ids in ((identifier, "x"), ("x", identifier)):
        with pytest.raises(ValueError, match="dot segment"):
            ask(*ids)


@given(st.text(min_size=1).filter(lambda text: text.isprintable() and text not in {".", ".."}))
def test_no_identifier_changes_the_path(identifier: str) -> None:
    """Whatever an id holds, the path has three segments of harmless characters."""
    target = reads.describe_user(identifier, identifier).target
    assert target.count("/") == 3
    assert target.isascii()
    assert not set(target) & set("?#&= \\")


# ---- What is understood ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "understood"),
    [
        ({"SecurityProfileIds": ["p"]}, User(("p",))),
        (
            {"SecurityProfileIds": ["p", "q"], "Tags": {"a": "b"}, "HierarchyGroupId": "g"},
            User(("p", "q"), {"a": "b"}, "g"),
        ),
        ({"SecurityProfileIds": ["p"], "Tags": None, "HierarchyGroupId": None, "More": 1}, User(("p",))),
    ],
)
def test_a_user_is_read(user: object, understood: User) -> None:
    """Tags and group may be missing."""
    assert reads.read_user(_answer({"User": user})) == understood


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"User": None},
        {"User": []},
        {"User": {}},
        {"User": {"SecurityProfileIds": []}},
        {"User": {"SecurityProfileIds": "p"}},
        {"User": {"SecurityProfileIds": [5]}},
        {"User": {"SecurityProfileIds": ["p", ".."]}},
        {"User": {"SecurityProfileIds": ["p", ""]}},
        {"User": {"SecurityProfileIds": ["\ud800"]}},
        {"User": {"SecurityProfileIds": ["p"], "Tags": ["a"]}},
        {"User": {"SecurityProfileIds": ["p"], "Tags": {"a": 5}}},
        {"User": {"SecurityProfileIds": ["p"], "HierarchyGroupId": 5}},
    ],
)
def test_a_user_that_makes_no_sense_is_no_user(document: object) -> None:
    """A user always has a profile, and an id that leads elsewhere is not asked for."""
    assert _failure(reads.read_user, _answer(document)).reason is Reason.CONNECT_BAD_RESPONSE


@pytest.mark.parametrize(
    ("document", "page"),
    [
        ({"Permissions": ["a", "b"], "NextToken": "t"}, Page(frozenset("ab"), "t")),
        ({"Permissions": ["a"]}, Page(frozenset("a"), "")),
        ({"Permissions": [], "NextToken": "t"}, Page(frozenset(), "t")),
        ({"Permissions": [], "NextToken": None}, Page(frozenset(), "")),
    ],
)
def test_a_page_is_read(document: object, page: Page) -> None:
    """An empty one too."""
    assert reads.read_page(_answer(document)) == page


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"Permissions": None},
        {"Permissions": [5]},
        {"Permissions": {}},
        {"Permissions": [], "NextToken": 5},
        {"Permissions": [], "NextToken": "\udfff"},
    ],
)
def test_a_page_that_makes_no_sense_is_not_an_empty_one(document: object) -> None:
    """A proxy's page must not read as: no permission."""
    assert _failure(reads.read_page, _answer(document)).reason is Reason.CONNECT_BAD_RESPONSE


@pytest.mark.parametrize(
    ("profile", "restriction"),
    [
        ({}, None),
        ({"TagRestrictedResources": [], "HierarchyRestrictedResources": None}, None),
        ({"TagRestrictedResources": ["Queue"], "AllowedAccessControlTags": {"a": "b"}}, None),
        ({"AllowedAccessControlTags": {"a": "b"}, "AllowedAccessControlHierarchyGroupId": "g"}, None),
        ({"GranularAccessControlConfiguration": {"DataTableAccessControlConfiguration": {}}}, None),
        (
            {"TagRestrictedResources": ["Queue", "User"], "AllowedAccessControlTags": {"a": "b"}},
            Restriction(tags={"a": "b"}),
        ),
        ({"TagRestrictedResources": ["USER"]}, Restriction(tags={})),
        (
            {"HierarchyRestrictedResources": ["User"], "AllowedAccessControlHierarchyGroupId": "g"},
            Restriction(group_id="g"),
        ),
        ({"HierarchyRestrictedResources": ["User"]}, Restriction(group_id="")),
        (
            {
                "TagRestrictedResources": ["User"],
                "AllowedAccessControlTags": {"a": "b"},
                "HierarchyRestrictedResources": ["User"],
            },
            Restriction({"a": "b"}, ""),
        ),
    ],
)
def test_restrictions_are_read(profile: object, restriction: Restriction | None) -> None:
    """Only those on users count; one that is named in another spelling counts too."""
    assert reads.read_restriction(_answer({"SecurityProfile": profile})) == restriction


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"SecurityProfile": "p"},
        {"SecurityProfile": {"TagRestrictedResources": "User"}},
        {"SecurityProfile": {"HierarchyRestrictedResources": [1]}},
        {"SecurityProfile": {"TagRestrictedResources": ["User"], "AllowedAccessControlTags": ["a"]}},
        {"SecurityProfile": {"HierarchyRestrictedResources": ["User"], "AllowedAccessControlHierarchyGroupId": 1}},
    ],
)
def test_a_restriction_that_cannot_be_read_is_not_none(document: object) -> None:
    """It must not pass for an unrestricted profile."""
    assert _failure(reads.read_restriction, _answer(document)).reason is Reason.CONNECT_BAD_RESPONSE


@pytest.mark.parametrize(
    ("contact", "agent"),
    [
        ({}, None),
        ({"AgentInfo": None}, None),
        ({"AgentInfo": {"Id": "a"}}, Agent("a")),
        ({"AgentInfo": {"Id": "a", "HierarchyGroups": {}}}, Agent("a")),
        (
            {
                "AgentInfo": {
                    "Id": "a",
                    "HierarchyGroups": {
                        "Level1": {"Arn": "arn:x/agent-group/one"},
                        "Level5": {"Arn": "five"},
                        "Level2": {"Arn": ""},
                    },
                }
            },
            Agent("a", frozenset({"one", "five"})),
        ),
    ],
)
def test_the_agent_is_read(contact: object, agent: Agent | None) -> None:
    """Groups by the last segment of their ARNs, on any of five levels."""
    assert reads.read_agent(_answer({"Contact": contact})) == agent


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"Contact": {"AgentInfo": "a"}},
        {"Contact": {"AgentInfo": {}}},
        {"Contact": {"AgentInfo": {"Id": ".."}}},
        {"Contact": {"AgentInfo": {"Id": "a", "HierarchyGroups": []}}},
        {"Contact": {"AgentInfo": {"Id": "a", "HierarchyGroups": {"Level1": "x"}}}},
    ],
)
def test_an_agent_that_makes_no_sense_is_no_agent(document: object) -> None:
    """Nor is it: nobody."""
    assert _failure(reads.read_agent, _answer(document)).reason is Reason.CONNECT_BAD_RESPONSE


def _contact(method: str, state: str = "CONNECTED") -> dict[str, str]:
    return {"InitiationMethod": method, "AgentContactState": state}


@pytest.mark.parametrize(
    ("entries", "presence"),
    [
        ([], Presence(offline=True)),
        ([{"Status": {"StatusName": "Offline"}}], Presence(offline=True)),
        ([{}], Presence(offline=False)),
        (
            [{"Status": {"StatusName": "Lunch"}, "MaxSlotsByChannel": {"VOICE": 1}}],
            Presence(offline=False, takes_calls=True),
        ),
        ([{"MaxSlotsByChannel": {"CHAT": 3}}], Presence(offline=False)),
        ([{"MaxSlotsByChannel": {"VOICE": 0}}], Presence(offline=False)),
        ([{"MaxSlotsByChannel": {"VOICE": "1"}}], Presence(offline=False)),
        ([{"Contacts": [_contact("MONITOR")]}], Presence(offline=False, monitoring=True)),
        ([{"Contacts": [_contact("MONITOR", "ENDED"), _contact("INBOUND", "MISSED")]}], Presence(offline=False)),
        ([{"Contacts": [_contact("INBOUND", "CONNECTED_ONHOLD")]}], Presence(offline=False, busy=True)),
        (
            [{"Contacts": [_contact("INBOUND"), _contact("MONITOR")]}],
            Presence(offline=False, monitoring=True, busy=True),
        ),
    ],
)
def test_presence_is_read(entries: object, presence: Presence) -> None:
    """No entry or the status of that name is offline; only live contacts count."""
    assert reads.read_presence(_answer({"UserDataList": entries})) == presence


@pytest.mark.parametrize(
    "document", [{}, {"UserDataList": None}, {"UserDataList": ["x"]}, {"UserDataList": [{"Contacts": [1]}]}]
)
def test_presence_that_makes_no_sense_is_not_offline(document: object) -> None:
    """A proxy's page must not read as: nobody there."""
    assert _failure(reads.read_presence, _answer(document)).reason is Reason.CONNECT_BAD_RESPONSE


@pytest.mark.parametrize("understand", _UNDERSTAND.values(), ids=_UNDERSTAND.keys())
@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("ThrottlingException", 429, Reason.THROTTLED),
        ("AccessDeniedException", 403, Reason.ACCESS_DENIED),
        ("ResourceNotFoundException", 404, Reason.RESOURCE_NOT_FOUND),
        ("InvalidParameterException", 400, Reason.INVALID_REQUEST),
        ("InternalServiceException", 500, Reason.INTERNAL_SERVICE),
        ("ExpiredTokenException", 403, Reason.SERVICE_CREDENTIALS),
        ("", 302, Reason.CONNECT_BAD_RESPONSE),
        ("", 503, Reason.INTERNAL_SERVICE),
    ],
)
def test_errors_are_those_of_any_answer(
    understand: Callable[[Answer], object], name: str, status: int, reason: Reason
) -> None:
    """By name, then by status; nothing has been changed, and what AWS says of ids is not logged."""
    answer = Answer(status, {"x-amzn-errortype": name}, b'{"Message": "user u-1 of arn:aws:connect: no"}')
    failure = _failure(understand, answer)
    assert (failure.reason, failure.outcome_unknown) == (reason, False)
    assert failure.log_text == f"HTTP {status} {name}"


@pytest.mark.parametrize("understand", _UNDERSTAND.values(), ids=_UNDERSTAND.keys())
@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"5", b"\xff", b"x" * (ANSWER_MAX_BYTES + 1)])
def test_a_success_that_is_no_object_is_an_error(understand: Callable[[Answer], object], body: bytes) -> None:
    """For every read, and with a known outcome: it changed nothing."""
    failure = _failure(understand, Answer(200, {}, body))
    assert (failure.reason, failure.outcome_unknown) == (Reason.CONNECT_BAD_RESPONSE, False)


@pytest.mark.parametrize("reason", Reason)
def test_a_denied_read_is_the_services_fault(reason: Reason) -> None:
    """AccessDenied on a read is about our role, whatever its text; everything else keeps its row."""
    failure = Failure(reason, metadata={"aws_request_id": "r"}, log_text="said")
    means = reads.not_the_callers(failure)
    if reason in {Reason.ACCESS_DENIED, Reason.SERVICE_LINKED_ROLE_MISSING}:
        assert (means.reason, means.metadata, means.log_text) == (Reason.SERVICE_CREDENTIALS, failure.metadata, "said")
    else:
        assert means is failure
