"""Reads the settings: from the environment, and from the file that it names; every fault is reported at once.

Only variables with the prefix MONITOR_CONTACT_ are read here. What each may be decides `settings`.
"""

import difflib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import ValidationError

from .settings import ConfigurationError, Settings
from .variables import PREFIX, variable


def read_settings() -> Settings:
    """Return the settings that the environment, and the file that it names, ask for.

    Raises:
        ConfigurationError: with every problem, unknown variables of our prefix included.
    """
    problems: list[str] = []
    in_environment = {name.upper(): value for name, value in os.environ.items()}
    from_file = _read_file(in_environment.get(variable("settings_file"), ""), problems)
    problems.extend(_unknown({**from_file, **os.environ}))
    overrides: dict[str, Any] = {
        field: from_file[variable(field)]
        for field in Settings.model_fields
        if variable(field) in from_file.keys() - in_environment.keys()
    }
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        problems.extend(_messages(error))
    else:
        if not problems:
            return settings
    raise ConfigurationError(problems)


def state_directory() -> Path:
    """Return where this service may keep files: systemd's word for it, else that of the XDG base directories."""
    if directory := os.environ.get("STATE_DIRECTORY"):
        return Path(directory.partition(":")[0])
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state_home) / "monitor-contact"


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
        # Half a name is more telling than one that looks alike.
        near = [setting for setting in known if setting.startswith(f"{name.upper()}_")]
        near = near or difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.6)
        yield f"{name}: is not a setting" + (f"; did you mean {near[0]}?" if near else "")


def _messages(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        message = fault["msg"].removeprefix("Value error, ")
        if fault["loc"]:
            yield f"{variable(str(fault['loc'][0]))}: {message}"
        else:
            yield from message.splitlines()  # of `settings_rules`
