"""Writes what the documentation takes from the code: docs/errors.md, docs/configuration.md, the README's settings.

`make generate` runs it; CI and a test fail if that leaves a difference.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from monitor_contact_service.core.failures import Reason
from monitor_contact_service.reasons import TABLE, Advice
from monitor_contact_service.settings import Settings
from monitor_contact_service.settings_text import default_text
from monitor_contact_service.variables import variable
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
_DESCRIPTORS = ROOT / "proto/monitor_contact/v1/monitor_contact.binpb"
_ENUM_FIELD, _VALUE_FIELD = 5, 2  # field numbers of FileDescriptorProto.enum_type and EnumDescriptorProto.value
# What most operators set; all of it stands in docs/configuration.md.
_README_SETTINGS = (
    "listen",
    "tls_cert_file",
    "tls_client_ca_file",
    "access_file",
    "policy_file",
    "supervisor_check",
    "audit",
    "quota_rate",
    "quota_url",
    "quota_replicas",
    "health_listen",
    "metrics_listen",
)
_README_MARKS = ("<!-- settings: written by make generate -->\n", "<!-- end of settings -->\n")

_ADVICE = {
    Advice.FIX_REQUEST: "Change the request; the same one will fail again.",
    Advice.ASK_PERMISSION: "Somebody has to grant a permission.",
    Advice.CHANGE_STATE: "Something in Connect has to change first: the contact, the supervisor or the instance.",
    Advice.RETRY_LATER: "Repeat later, with the same client_token; RetryInfo says when.",
    Advice.TELL_OPERATOR: "Tell the operators of this service, with the request id.",
}


def documents() -> dict[Path, str]:
    """Return each file that is written from the code, with its whole text."""
    readme = ROOT / "README.md"
    return {
        ROOT / "docs/errors.md": "\n".join(_errors()) + "\n",
        ROOT / "docs/configuration.md": "\n".join(_configuration()) + "\n",
        readme: _with_settings(readme.read_text()),
    }


def _errors() -> Iterator[str]:
    comments = _reason_comments()
    yield "# Errors"
    yield ""
    yield "Written by `make generate` from the service's own table and the comments of the contract. Do not edit."
    yield ""
    yield "Every answer other than OK carries one `google.rpc.ErrorInfo` (domain `monitor-contact`) with one of these"
    yield "reasons, and `google.rpc.RequestInfo` with the request id that is in the service's log."
    yield "`monitor-contact call` ends with the exit code of the family; the Python client has an exception class for"
    yield "each reason and each family."
    for advice in Advice:
        reasons = [reason for reason in Reason if TABLE[reason].advice is advice]
        family = "".join(part.capitalize() for part in advice.name.split("_"))
        yield from ("", f"## {family} (exit code {advice.value})", "", _ADVICE[advice], "")
        yield "| reason | gRPC code | ErrorInfo metadata | meaning |"
        yield "|---|---|---|---|"
        for reason in reasons:
            row = TABLE[reason]
            keys = ", ".join(f"`{key}`" for key in row.metadata_keys) or "none"
            yield f"| `{reason}` | {row.code.name} | {keys} | {comments[reason]} |"


def _reason_comments() -> dict[Reason, str]:
    """Return what the contract says of each reason, up to its code and example."""
    file = FileDescriptorSet.FromString(_DESCRIPTORS.read_bytes()).file
    (contract,) = (each for each in file if each.package == "monitor_contact.v1")
    (number,) = (index for index, enum in enumerate(contract.enum_type) if enum.name == "ErrorReason")
    names = [value.name for value in contract.enum_type[number].value]
    comments = {}
    for location in contract.source_code_info.location:
        if list(location.path[:3]) == [_ENUM_FIELD, number, _VALUE_FIELD] and len(location.path) == 4:  # noqa: PLR2004
            name = names[location.path[3]].removeprefix("ERROR_REASON_")
            if name in Reason.__members__:
                comments[Reason(name)] = " ".join(location.leading_comments.partition("Code:")[0].split())
    return comments


def _configuration() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield "Written by `make generate` from the service's settings. Do not edit."
    yield ""
    yield "`monitor-contact check-config` reports every problem at once, without listening. Unknown variables with the"
    yield "prefix `MONITOR_CONTACT_` are refused. AWS is configured by AWS's own names, as for every SDK: `AWS_REGION`,"
    yield "`AWS_PROFILE`, `AWS_ACCESS_KEY_ID`, web identity and container credentials, `AWS_ENDPOINT_URL_CONNECT`,"
    yield "`AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT`, `AWS_CA_BUNDLE`, `HTTPS_PROXY`."
    yield ""
    yield "| variable | default | values | meaning |"
    yield "|---|---|---|---|"
    for name, field in Settings.model_fields.items():
        yield f"| `{variable(name)}` | `{default_text(name)}` | {_values(field)} | {field.description} |"


def _values(field: FieldInfo) -> str:
    """Return what a setting may be, where that is one of some words or a number within bounds; otherwise nothing."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(field.annotation))
    bounds = []
    for each in field.metadata:
        match each:
            case Ge(ge=least):
                bounds.append(f"{least:,} to")
            case Gt(gt=below):
                bounds.append(f"above {below:,}, at most")
            case Le(le=most):
                bounds.append(f"{most:,}")
    return " ".join(bounds)


def _settings_table(fields: Iterable[str]) -> Iterator[str]:
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for name in fields:
        description = Settings.model_fields[name].description
        yield f"| `{variable(name)}` | `{default_text(name)}` | {description} |"


def _with_settings(readme: str) -> str:
    before, begin, rest = readme.partition(_README_MARKS[0])
    _, end, after = rest.partition(_README_MARKS[1])
    return (
        before + begin + "\n".join(_settings_table(_README_SETTINGS)) + "\n" + end + after if begin and end else readme
    )


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text)
    sys.exit(0)
