"""The environment becomes one frozen `Settings`, read once; every fault of a bad environment is reported at once.

Only variables with the prefix MONITOR_CONTACT_ are read here; AWS's own keep AWS's names and are `aws`' matter.
docs/configuration.md and the README's table are checked against the fields below.
"""

import difflib
import ipaddress
import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .exits import EXIT_USAGE, CannotStartError

PREFIX = "MONITOR_CONTACT_"


class ConfigurationError(CannotStartError):
    """The configuration is wrong."""

    exit_code = EXIT_USAGE


class Address(NamedTuple):
    """A host, IPv6 without its brackets, and a port; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True for `localhost` and every loopback IP address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address that `host:port` or `[ipv6]:port` names.

    Raises:
        ValueError: it does not have that form.
    """
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        separator = ""  # an IPv6 address without brackets
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - TCP
        raise ValueError("must be host:port or [ipv6]:port, for example 127.0.0.1:50051")
    return Address(host, int(port))


class Settings(BaseSettings):
    """Everything that an operator can set. The description of each field is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    listen: str = Field(default="127.0.0.1:50051", description="host:port of the gRPC listener; loopback only for now")
    default_deadline_seconds: float = Field(default=10, gt=0.12, le=60, description="for calls that set no deadline")
    max_deadline_seconds: float = Field(
        default=60, gt=0.12, le=300, description="the longest that any call is worked on"
    )
    attempt_timeout_seconds: float = Field(
        default=3, ge=0.1, le=60, description="the longest that one HTTP call may take"
    )
    max_in_flight: int = Field(
        default=256, ge=1, le=10_000, description="calls worked on at the same time; more: OVERLOADED"
    )
    drain_seconds: float = Field(
        default=40, ge=0, le=600, description="how long to go on serving after SIGTERM, so that clients can leave first"
    )
    max_connection_age_seconds: float = Field(
        default=30, ge=1, le=86_400, description="clients are asked to reconnect after this; draining must last longer"
    )
    reflection: Literal["auto", "on", "off"] = Field(
        default="auto", description="gRPC server reflection; auto: on while listening on loopback"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    log_format: Literal["json", "text"] = Field(default="json", description="json: one object a line; text: for people")

    @field_validator("listen")
    @classmethod
    def _loopback_only(cls, value: str) -> str:
        if not parse_address(value).is_loopback:
            raise ValueError(
                "must be a loopback address such as 127.0.0.1:50051: the service cannot identify its callers yet, so "
                "any other address would let everybody on the network listen in on customers"
            )
        return value

    @model_validator(mode="after")
    def _deadlines_in_order(self) -> "Settings":
        if self.default_deadline_seconds > self.max_deadline_seconds:
            raise ValueError(
                f"{PREFIX}DEFAULT_DEADLINE_SECONDS: must be at most {PREFIX}MAX_DEADLINE_SECONDS "
                f"({self.max_deadline_seconds:g})"
            )
        return self

    @property
    def address(self) -> Address:
        """Where to listen."""
        return parse_address(self.listen)

    @property
    def serves_reflection(self) -> bool:
        """Whether reflection is registered."""
        return self.reflection == "on" or (self.reflection == "auto" and self.address.is_loopback)

    @property
    def stop_grace_seconds(self) -> float:
        """How long calls in flight may go on after the drain: the longest accepted deadline and time for the reply."""
        return self.max_deadline_seconds + 2


def read_settings() -> Settings:
    """Return the settings that the environment asks for.

    Raises:
        ConfigurationError: with every problem, unknown variables of our prefix included.
    """
    problems = list(_unknown())
    try:
        settings = Settings()
    except ValidationError as error:
        problems.extend(_messages(error))
    else:
        if not problems:
            return settings
    raise ConfigurationError(problems)


def variable(field: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    return PREFIX + field.upper()


def _unknown() -> Iterator[str]:
    known = [variable(field) for field in Settings.model_fields]
    for name, value in sorted(os.environ.items()):
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        if value.startswith("tcp://"):
            # Kubernetes injects such variables for a Service named monitor-contact.
            yield f"{name}: is not a setting; set enableServiceLinks: false in the pod"
            continue
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.6)
        yield f"{name}: is not a setting" + (f"; did you mean {near[0]}?" if near else "")


def _messages(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        message = fault["msg"].removeprefix("Value error, ")
        yield f"{variable(str(fault['loc'][0]))}: {message}" if fault["loc"] else message
