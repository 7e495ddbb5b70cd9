"""The promise to callers: limits, numbers, names, codes, retry help and metadata keys, in `golden.json`.

`buf breaking` sees no tightened limit, no changed code and no lost metadata key (measured), because these stand in the
contract's comments. They are parsed out of the descriptor set here and compared with the golden file, with botocore's
model of Connect and with the code.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel, StructureShape
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet
from monitor_contact_service.core import validation
from monitor_contact_service.core.failures import Reason
from monitor_contact_service.reasons import TABLE, Advice
from monitor_contact_service.status import DOMAIN

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
GOLDEN: Json = json.loads((Path(__file__).parent / "golden.json").read_text("utf-8"))
CONTRACT = "monitor_contact/v1/monitor_contact.proto"
PREFIX = "ERROR_REASON_"

BROKEN_PROMISE = """
The contract is not what tests/contract/golden.json says. That file is the promise to callers. What is new is added to
it in the same commit. What makes a request fail that succeeded before, or takes away what callers read, belongs into a
new version of the package (monitor_contact.v2), not here. After a change of the .proto run `make generate` first.
"""

# Numbers that descriptor.proto gives to the lists of a file and of a message: they make up a location's path.
MESSAGES, ENUMS, MEMBERS = 4, 5, 2


def _file() -> Any:  # FileDescriptorProto; its list of locations is typed loosely
    descriptors = FileDescriptorSet.FromString((ROOT / "proto/monitor_contact/v1/monitor_contact.binpb").read_bytes())
    return next(file for file in descriptors.file if file.name == CONTRACT)


FILE = _file()
COMMENTS = {tuple(place.path): str(place.leading_comments) for place in FILE.source_code_info.location}


def _field(field: FieldDescriptorProto, comment: str) -> Json:
    label, kind = FieldDescriptorProto.Label.Name(field.label), FieldDescriptorProto.Type.Name(field.type)
    facts: Json = {"number": field.number, "type": f"{label} {kind} {field.type_name}".strip()}
    presence = re.match(r" *(Required|Optional|Always set)\.", comment)
    if presence:
        facts["presence"] = presence[1]
    limit = re.search(r"(?:(\d+) to|[Aa]t most)\s+(\d+)\s+(characters|items)", comment)
    if limit:
        facts |= {f"min_{limit[3]}": int(limit[1])} if limit[1] else {}
        facts |= {f"max_{limit[3]}": int(limit[2])}
    return facts


def _message(message: DescriptorProto, path: tuple[int, ...]) -> Json:
    return {field.name: _field(field, COMMENTS[*path, MEMBERS, index]) for index, field in enumerate(message.field)}


def _reason(comment: str) -> Json:
    """Return what one reason promises. Its comment ends with `Code: X. Retry: text.` and its ErrorInfo as JSON."""
    text, _, example = comment.partition("{")
    promise = re.search(r"Code: ([A-Z_]+)\. Retry: (.+)\.\s*$", text, re.DOTALL)
    assert promise, f"no 'Code: X. Retry: Y.' in {comment!r}"
    shown = json.loads("{" + example)
    return {
        "code": promise[1],
        "retry": " ".join(promise[2].split()),
        "error_info": f"{shown['domain']}/{shown['reason']}",
        "metadata_keys": sorted(shown["metadata"]),
        "details": re.findall(r"[Ww]ith google\.rpc\.(\w+)", text),
    }


def _reasons(enum: EnumDescriptorProto, index: int) -> Json:
    return {
        value.name.removeprefix(PREFIX): _reason(COMMENTS[ENUMS, index, MEMBERS, place])
        for place, value in enumerate(enum.value)
        if value.number
    }


def contract() -> Json:
    """Return the whole promise as the contract states it, in the shape of golden.json."""
    enums = {enum.name: {value.name: value.number for value in enum.value} for enum in FILE.enum_type}
    (reasons,) = (_reasons(enum, index) for index, enum in enumerate(FILE.enum_type) if enum.name == "ErrorReason")
    return {
        "methods": {
            f"{FILE.package}.{service.name}/{method.name}": [method.input_type, method.output_type]
            for service in FILE.service
            for method in service.method
        },
        "messages": {
            message.name: _message(message, (MESSAGES, index)) for index, message in enumerate(FILE.message_type)
        },
        "enums": enums,
        "reasons": reasons,
    }


def differences(golden: object, found: object, path: str = "") -> Iterator[str]:
    """Yield one line for each leaf that is not the same."""
    if isinstance(golden, dict) and isinstance(found, dict):
        for key in [*golden, *(key for key in found if key not in golden)]:
            yield from differences(golden.get(key, "absent"), found.get(key, "absent"), f"{path}.{key}".lstrip("."))
    elif golden != found:
        yield f"  {path}: promised {golden!r}, now {found!r}"


def test_the_contract_keeps_what_the_golden_file_promises() -> None:
    """A limit, number, code, retry help or metadata key cannot change unseen."""
    changed = list(differences(GOLDEN, contract()))

    assert not changed, "\n".join((BROKEN_PROMISE, *changed))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("messages", "MonitorContactRequest", "contact_id", "max_characters"), 100),
        (("reasons", "THROTTLED", "code"), "UNAVAILABLE"),
        (("reasons", "THROTTLED", "metadata_keys"), ["attempts"]),
        (("enums", "MonitorCapability", "MONITOR_CAPABILITY_BARGE"), 3),
    ],
)
def test_a_changed_promise_is_named_with_both_values(path: tuple[str, ...], value: object) -> None:
    """The message tells where, what was promised and what is there now."""
    changed: Json = json.loads(json.dumps(GOLDEN))
    *parents, last = path
    place = changed
    for parent in parents:
        place = place[parent]
    promised, place[last] = place[last], value

    assert list(differences(GOLDEN, changed)) == [f"  {'.'.join(path)}: promised {promised!r}, now {value!r}"]


def _connect_limits(shape: StructureShape, *, with_minimum: bool) -> Json:
    limits: Json = {}
    for name, member in shape.members.items():
        unit = "items" if member.type_name == "list" else "characters"
        found = {f"{bound}_{unit}": member.metadata[bound] for bound in ("min", "max") if bound in member.metadata}
        if with_minimum:
            found["presence"] = "Required" if name in shape.required_members else "Optional"
        limits[_snake(name)] = found
    return limits


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _promised(message: str, *keys: str) -> Json:
    return {
        name: {key: value for key, value in facts.items() if key.startswith(keys)}
        for name, facts in GOLDEN["messages"][message].items()
    }


def test_the_limits_are_those_of_connects_own_model() -> None:
    """Nothing that Connect would take is refused, and nothing is let through that it would not take."""
    model = ServiceModel(Loader().load_service_model("connect", "service-2"), "connect")
    operation = model.operation_model("MonitorContact")
    assert operation.input_shape
    assert operation.output_shape

    request = _connect_limits(operation.input_shape, with_minimum=True)
    response = _connect_limits(operation.output_shape, with_minimum=False)

    assert _promised("MonitorContactRequest", "min_", "max_", "presence") == request
    assert _promised("MonitorContactResponse", "min_", "max_") == response


def test_the_service_enforces_the_promised_limits() -> None:
    """The constants of `core.validation` are the numbers of the contract."""
    request = GOLDEN["messages"]["MonitorContactRequest"]

    assert request["instance_id"]["max_characters"] == validation.INSTANCE_ID_MAX_CHARACTERS
    assert request["contact_id"]["max_characters"] == validation.CONTACT_ID_MAX_CHARACTERS
    assert request["user_id"]["max_characters"] == validation.USER_ID_MAX_CHARACTERS
    assert request["client_token"]["max_characters"] == validation.CLIENT_TOKEN_MAX_CHARACTERS
    assert request["allowed_monitor_capabilities"]["max_items"] == validation.CAPABILITIES_MAX_ITEMS


def test_every_reason_of_the_contract_has_a_row_and_no_row_lacks_a_reason() -> None:
    """Contract, `core.failures` and `status` hold the same reasons."""
    promised = set(GOLDEN["reasons"])

    assert {str(reason) for reason in Reason} == promised
    assert {str(reason) for reason in TABLE} == promised


@pytest.mark.parametrize("reason", sorted(TABLE), ids=str)
def test_a_reason_is_answered_as_its_comment_says(reason: Reason) -> None:
    """Code, metadata keys, retry help and QuotaFailure of the service are those of the contract's comment."""
    row, promise = TABLE[reason], GOLDEN["reasons"][str(reason)]

    assert promise["error_info"] == f"{DOMAIN}/{reason}"
    assert row.code.name == promise["code"]
    assert sorted(row.metadata_keys) == promise["metadata_keys"]
    assert (row.advice is Advice.RETRY_LATER) == promise["retry"].startswith("after RetryInfo")
    assert bool(row.quota) == ("QuotaFailure" in promise["details"])


@pytest.mark.parametrize("reason", sorted(GOLDEN["reasons"]))
def test_a_reason_follows_the_rules_of_error_info(reason: str) -> None:
    """AIP-193: at most 63 characters of UPPER_SNAKE_CASE, keys at most 64 of lower case."""
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]", reason)
    for key in GOLDEN["reasons"][reason]["metadata_keys"]:
        assert re.fullmatch(r"[a-z][a-z0-9_]{1,63}", key)
