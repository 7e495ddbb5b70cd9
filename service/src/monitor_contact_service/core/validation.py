"""Step 2: a wire request becomes a `MonitorCommand`, or a Failure that names every violation.

botocore checks almost none of this (measured: it sends 101 characters, three capabilities, "WHISPER"), so whatever is
invalid ends here and costs no quota. What Connect alone can know (does the contact exist?) is left to Connect.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from monitor_contact.v1.monitor_contact_pb2 import MonitorCapability, MonitorContactRequest

from .command import Capability, MonitorCommand
from .failures import Failure, Reason, Violation

# Limits of the API page, in characters; a contract test holds them equal to botocore's service model.
INSTANCE_ID_MAX_CHARACTERS = 100
CONTACT_ID_MAX_CHARACTERS = 256
USER_ID_MAX_CHARACTERS = 256
CLIENT_TOKEN_MAX_CHARACTERS = 500
CAPABILITIES_MAX_ITEMS = 2

# A list can hold thousands of wrong items; error details must stay below 7 KiB (gRPC loses larger ones at random).
LIST_VIOLATIONS_MAX = 10

# In place of bytes that are no request, so that the steps before this one run all the same. Known by identity; who
# forgot to ask would meet an empty request, which is refused too.
UNDECODABLE: Final = MonitorContactRequest()

# Unicode's category Cc.
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")
# botocore leaves dot segments in URL paths, where they would name another API (measured).
_RESERVED_IDS = frozenset({".", ".."})

_SILENT = MonitorCapability.MONITOR_CAPABILITY_SILENT_MONITOR
_BARGE = MonitorCapability.MONITOR_CAPABILITY_BARGE
_KNOWN_CAPABILITIES = (_SILENT, _BARGE)
_CAPABILITIES_FIELD = "allowed_monitor_capabilities"
# All lists that are valid; no capabilities at all means listening only.
_CAPABILITIES: Mapping[tuple[int, ...], tuple[Capability, ...]] = MappingProxyType(
    {
        (): (Capability.SILENT_MONITOR,),
        (_SILENT,): (Capability.SILENT_MONITOR,),
        (_SILENT, _BARGE): (Capability.SILENT_MONITOR, Capability.BARGE),
        (_BARGE, _SILENT): (Capability.BARGE, Capability.SILENT_MONITOR),
    }
)


def parse(request: MonitorContactRequest) -> MonitorCommand:
    """Return the command that the request asks for. No capabilities at all means listening only.

    Raises:
        Failure: VALIDATION_FAILED with every violation; of the capabilities at most the first ten.
    """
    if request is UNDECODABLE:
        raise undecodable()
    instance_id, contact_id, user_id = request.instance_id, request.contact_id, request.user_id
    client_token = request.client_token
    capabilities = _CAPABILITIES.get(tuple(request.allowed_monitor_capabilities))
    if (
        capabilities is None
        or len(client_token) > CLIENT_TOKEN_MAX_CHARACTERS
        or not _is_identifier(instance_id, INSTANCE_ID_MAX_CHARACTERS)
        or not _is_identifier(contact_id, CONTACT_ID_MAX_CHARACTERS)
        or not _is_identifier(user_id, USER_ID_MAX_CHARACTERS)
    ):
        raise invalid(*_violations(request))
    return MonitorCommand(instance_id, contact_id, user_id, capabilities, client_token)


def _is_identifier(value: str, max_characters: int) -> bool:
    """Tell whether `_identifier` would find nothing."""
    if not 0 < len(value) <= max_characters or value in _RESERVED_IDS:
        return False
    return _CONTROL_CHARACTER.search(value) is None


def _violations(request: MonitorContactRequest) -> Iterator[Violation]:
    yield from _identifier(request.instance_id, "instance_id", INSTANCE_ID_MAX_CHARACTERS)
    yield from _identifier(request.contact_id, "contact_id", CONTACT_ID_MAX_CHARACTERS)
    yield from _identifier(request.user_id, "user_id", USER_ID_MAX_CHARACTERS)
    yield from _capabilities(request.allowed_monitor_capabilities)
    yield from _length(request.client_token, "client_token", CLIENT_TOKEN_MAX_CHARACTERS)


def undecodable() -> Failure:
    """Return the refusal of bytes that are not a MonitorContactRequest at all."""
    return invalid(Violation("", "UNDECODABLE", "must be a serialized monitor_contact.v1.MonitorContactRequest"))


def invalid(*violations: Violation) -> Failure:
    """Return VALIDATION_FAILED with these violations and their number."""
    return Failure(Reason.VALIDATION_FAILED, metadata={"violations": str(len(violations))}, violations=violations)


def _identifier(value: str, field: str, max_characters: int) -> Iterator[Violation]:
    if not value:
        yield Violation(field, "REQUIRED", f"must be set: 1 to {max_characters} characters")
    if value in _RESERVED_IDS:
        yield Violation(field, "RESERVED_ID", "must not be '.' or '..'")
    if _CONTROL_CHARACTER.search(value):
        yield Violation(field, "CONTROL_CHARACTER", "must not contain control characters")
    yield from _length(value, field, max_characters)


def _length(value: str, field: str, max_characters: int) -> Iterator[Violation]:
    if len(value) > max_characters:
        yield Violation(field, "TOO_LONG", f"must have at most {max_characters} characters")


def _capabilities(items: Sequence[int]) -> Iterator[Violation]:
    if len(items) > CAPABILITIES_MAX_ITEMS:
        yield Violation(_CAPABILITIES_FIELD, "TOO_MANY", f"must have at most {CAPABILITIES_MAX_ITEMS} items")
    if _BARGE in items and _SILENT not in items:
        yield Violation(
            _CAPABILITIES_FIELD,
            "BARGE_WITHOUT_SILENT_MONITOR",
            "must hold MONITOR_CAPABILITY_SILENT_MONITOR if it holds MONITOR_CAPABILITY_BARGE",
        )
    yield from _wrong_items(items)


def _wrong_items(items: Sequence[int]) -> Iterator[Violation]:
    seen: set[int] = set()
    found = 0
    for index, item in enumerate(items):
        field = f"{_CAPABILITIES_FIELD}[{index}]"
        if item not in _KNOWN_CAPABILITIES:
            known = "MONITOR_CAPABILITY_SILENT_MONITOR or MONITOR_CAPABILITY_BARGE"
            yield Violation(field, "UNKNOWN_VALUE", f"must be {known}")
        elif item in seen:
            yield Violation(field, "DUPLICATE", "must not repeat an earlier item")
        else:
            seen.add(item)
            continue
        found += 1
        if found == LIST_VIOLATIONS_MAX:
            return
