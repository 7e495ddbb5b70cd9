"""Step 2: a wire request becomes a `MonitorCommand`, or a Failure that names every violation.

botocore checks almost none of this (measured: it sends 101 characters, three capabilities, "WHISPER"), so whatever is
invalid ends here and costs no quota. What Connect alone can know (does the contact exist?) is left to Connect.
"""

import re
from collections.abc import Iterator, Sequence

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

# Unicode's category Cc.
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")

_CAPABILITIES = {
    MonitorCapability.MONITOR_CAPABILITY_SILENT_MONITOR: Capability.SILENT_MONITOR,
    MonitorCapability.MONITOR_CAPABILITY_BARGE: Capability.BARGE,
}
_CAPABILITIES_FIELD = "allowed_monitor_capabilities"


def parse(request: MonitorContactRequest) -> MonitorCommand:
    """Return the command that the request asks for. No capabilities at all means listening only.

    Raises:
        Failure: VALIDATION_FAILED with every violation; of the capabilities at most the first ten.
    """
    violations = (
        *_identifier(request.instance_id, "instance_id", INSTANCE_ID_MAX_CHARACTERS),
        *_identifier(request.contact_id, "contact_id", CONTACT_ID_MAX_CHARACTERS),
        *_identifier(request.user_id, "user_id", USER_ID_MAX_CHARACTERS),
        *_capabilities(request.allowed_monitor_capabilities),
        *_length(request.client_token, "client_token", CLIENT_TOKEN_MAX_CHARACTERS),
    )
    if violations:
        raise invalid(*violations)
    capabilities = tuple(_CAPABILITIES[item] for item in request.allowed_monitor_capabilities)
    return MonitorCommand(
        instance_id=request.instance_id,
        contact_id=request.contact_id,
        user_id=request.user_id,
        capabilities=capabilities or (Capability.SILENT_MONITOR,),
        client_token=request.client_token,
    )


def undecodable() -> Failure:
    """Return the refusal of bytes that are not a MonitorContactRequest at all."""
    return invalid(Violation("", "UNDECODABLE", "must be a serialized monitor_contact.v1.MonitorContactRequest"))


def invalid(*violations: Violation) -> Failure:
    """Return VALIDATION_FAILED with these violations and their number."""
    return Failure(Reason.VALIDATION_FAILED, metadata={"violations": str(len(violations))}, violations=violations)


def _identifier(value: str, field: str, max_characters: int) -> Iterator[Violation]:
    if not value:
        yield Violation(field, "REQUIRED", f"must be set: 1 to {max_characters} characters")
    if value in {".", ".."}:
        # botocore leaves dot segments in URL paths, where they would name another API (measured).
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
    silent = MonitorCapability.MONITOR_CAPABILITY_SILENT_MONITOR
    if MonitorCapability.MONITOR_CAPABILITY_BARGE in items and silent not in items:
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
        if item not in _CAPABILITIES:
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
