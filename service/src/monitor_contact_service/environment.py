"""Reads the settings: from the environment, and from the file that it names; every fault is reported at once.

Only variables with the prefix MONITOR_CONTACT_ are read here. What each may be decides `settings`.
"""

import difflib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

from dotenv.parser import parse_stream
from pydantic import SecretStr, ValidationError

from .settings import ConfigurationError, Settings
from .variables import PREFIX, variable

# All of them name files, and are taken as they are written.
_FILES: Final = ("access_file", "policy_file", "tls_cert_file", "tls_key_file", "tls_client_ca_file", "audit_key_file")


class WrongSettingsError(ConfigurationError):
    """Settings are wrong; `named` has the files that they name all the same, to find out what is wrong with those.

    All else of `named` is a default: it says nothing about what was asked for.
    """

    def __init__(self, problems: Sequence[str], named: Settings) -> None:
        super().__init__(problems)
        self.named = named


def read_settings() -> Settings:
    """Return the settings that the environment, and the file that it names, ask for.

    Raises:
        WrongSettingsError: with every problem, unknown variables of our prefix included.
    """
    problems: list[str] = []
    wrong: set[str] = set()
    in_environment = {name.upper(): value for name, value in os.environ.items()}
    from_file = _read_file(in_environment.get(variable("settings_file"), ""), problems)
    overrides: dict[str, Any] = {
        field: from_file[variable(field)]
        for field in Settings.model_fields
        if variable(field) in from_file.keys() - in_environment.keys()
    }
    file_is_whole = not problems
    problems.extend(_unknown({**from_file, **os.environ}))
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        # What does not fit together may do so with what stands in lines that could not be read.
        problems.extend(_messages(error, between=file_is_whole))
        wrong = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}
    else:
        if not problems:
            return settings
    raise WrongSettingsError(problems, _named({**from_file, **in_environment}, wrong))


def state_directory() -> Path:
    """Return where this service may keep files: systemd's word for it, else that of the XDG base directories."""
    if directory := os.environ.get("STATE_DIRECTORY"):
        return Path(directory.partition(":")[0])
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state_home) / "monitor-contact"


def _named(variables: Mapping[str, str], wrong: AbstractSet[str]) -> Settings:
    """Return defaults with the files of `variables` (names in upper case), without those settings that are wrong."""
    named: dict[str, Any] = {field: variables.get(variable(field), "") for field in _FILES}
    if "audit" not in wrong:
        named["audit"] = SecretStr(variables.get(variable("audit"), ""))
    return Settings.model_construct(**named)


def _read_file(path: str, problems: list[str]) -> Mapping[str, str]:
    """Return the variables of a file, names in upper case; each line that is none of NAME=value is a problem."""
    values: dict[str, str] = {}
    if not path:
        return values
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        problems.append(f"{variable('settings_file')}: {path}: {error.strerror}")
        return values
    except UnicodeDecodeError:
        problems.append(f"{variable('settings_file')}: {path}: is not UTF-8 text")
        return values
    for line in parse_stream(io.StringIO(text)):
        if line.error or (line.key is not None and line.value is None):
            problems.append(f"{path}, line {line.original.line}: must be NAME=value")
        elif line.key is not None and not line.key.upper().startswith(PREFIX):
            problems.append(f"{path}, line {line.original.line}: only {PREFIX}… variables are read here")
        elif line.key is not None and line.key.upper() == variable("settings_file") and line.value != path:
            problems.append(f"{path}, line {line.original.line}: {line.key}: must be set in the environment")
        elif line.key is not None and line.value is not None:
            values[line.key.upper()] = line.value
    return values


def _unknown(variables: Mapping[str, str]) -> Iterator[str]:
    known = [variable(field) for field in Settings.model_fields]
    for name, value in sorted(variables.items()):
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        if value.startswith("tcp://"):
            # Kubernetes injects such variables for a Service named monitor-contact.
            yield f"{name}: is not a setting; set enableServiceLinks: false in the pod"
            continue
        # Half a name is more telling than one that looks alike. The prefix, long as it is, would make all look alike.
        half = name.upper().removeprefix(PREFIX)
        near = [field for field in Settings.model_fields if field.startswith(f"{half.lower()}_")]
        near = near or difflib.get_close_matches(half.lower(), Settings.model_fields, n=1, cutoff=0.6)
        yield f"{name}: is not a setting" + (f"; did you mean {variable(near[0])}?" if near else "")


def _messages(error: ValidationError, *, between: bool) -> Iterator[str]:
    """Yield what is wrong with settings and, with `between`, what does not fit together."""
    for fault in error.errors(include_url=False, include_input=False):
        message = fault["msg"].removeprefix("Value error, ")
        if fault["loc"]:
            yield f"{variable(str(fault['loc'][0]))}: {message}"
        elif between:
            yield from message.splitlines()  # of `settings_rules`
