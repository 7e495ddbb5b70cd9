"""The environment becomes one frozen `Settings`, read once; every fault of a bad environment is reported at once.

Only variables with the prefix MONITOR_CONTACT_ are read here; AWS's own keep AWS's names and are `aws`' matter.
docs/configuration.md and the README's table are checked against the fields below.
"""

import difflib
import io
import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .core.chance import Limits
from .core.pacing import Quota
from .exits import EXIT_USAGE, CannotStartError
from .quota_url import RedisAddress, parse_quota_url

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
    quota_rate: float = Field(
        default=2, gt=0, le=100_000, allow_inf_nan=False, description="Connect's MonitorContact quota, requests/s"
    )
    quota_burst: int = Field(default=5, ge=1, le=100_000, description="Connect's MonitorContact quota, burst")
    quota_url: SecretStr = Field(
        default=SecretStr("memory://"),
        description="where the quota is kept: memory:// (each replica paces its share by itself) or, for all replicas "
        "together, redis://host:6379/0 or rediss://…",
    )
    quota_replicas: int = Field(
        default=1,
        ge=1,
        le=1_000,
        description="the most replicas that ever run at the same time, rollouts included: without Redis, or while it "
        "is lost, each paces to this part of the quota",
    )
    quota_name: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="which account's quota it is, in the key in Redis; all replicas of one account share it by Region",
    )
    queue_per_caller: int = Field(
        default=64, ge=1, le=100_000, description="waiting calls of one caller; more: OVERLOADED"
    )
    queue_total: int = Field(
        default=256, ge=1, le=100_000, description="waiting calls of all callers; more: OVERLOADED"
    )
    weights: str = Field(default="", description="shares of callers that differ from 1, as caller=weight,caller=weight")
    max_in_flight: int = Field(
        default=512, ge=1, le=100_000, description="calls that wait or are under way; more: OVERLOADED"
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
    metrics_listen: str = Field(
        default="",
        description="host:port where Prometheus reads the metrics, over plain HTTP; empty: nowhere. They name no "
        "contact, user or caller",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    log_format: Literal["json", "text"] = Field(default="json", description="json: one object a line; text: for people")
    settings_file: str = Field(
        default="",
        description="a file of lines NAME=value with any of these variables; the environment wins. SIGHUP reads it "
        "again: rate, burst, weights and limits of the queue change without a restart",
    )

    @field_validator("listen")
    @classmethod
    def _loopback_only(cls, value: str) -> str:
        if not parse_address(value).is_loopback:
            raise ValueError(
                "must be a loopback address such as 127.0.0.1:50051: the service cannot identify its callers yet, so "
                "any other address would let everybody on the network listen in on customers"
            )
        return value

    @field_validator("metrics_listen")
    @classmethod
    def _address_or_nothing(cls, value: str) -> str:
        if value:
            parse_address(value)
        return value

    @field_validator("quota_url")
    @classmethod
    def _known_store(cls, value: SecretStr) -> SecretStr:
        parse_quota_url(value.get_secret_value())
        return value

    @field_validator("weights")
    @classmethod
    def _readable_weights(cls, value: str) -> str:
        _weights(value)
        return value

    @model_validator(mode="after")
    def _deadlines_in_order(self) -> "Settings":
        if self.default_deadline_seconds > self.max_deadline_seconds:
            raise ValueError(
                f"{PREFIX}DEFAULT_DEADLINE_SECONDS: must be at most {PREFIX}MAX_DEADLINE_SECONDS "
                f"({self.max_deadline_seconds:g})"
            )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> "Settings":
        if self.metrics_address is not None and self.metrics_address.port == self.address.port != 0:
            raise ValueError(
                f"{PREFIX}METRICS_LISTEN: must have another port than {PREFIX}LISTEN ({self.address.port})"
            )
        return self

    @model_validator(mode="after")
    def _share_is_known(self) -> "Settings":
        if self.redis is not None and "quota_replicas" not in self.model_fields_set:
            raise ValueError(
                f"{PREFIX}QUOTA_REPLICAS: must be set beside {PREFIX}QUOTA_URL={self.redis}: the most replicas that "
                "ever run at the same time, rollouts included; while Redis is lost each keeps to that part of the quota"
            )
        return self

    @property
    def address(self) -> Address:
        """Where to listen."""
        return parse_address(self.listen)

    @property
    def metrics_address(self) -> Address | None:
        """Where the metrics are served; None for nowhere."""
        return parse_address(self.metrics_listen) if self.metrics_listen else None

    @property
    def quota(self) -> Quota:
        """What Connect allows to all replicas together."""
        return Quota(self.quota_rate, self.quota_burst)

    @property
    def redis(self) -> RedisAddress | None:
        """Where the quota is shared; None for a quota of this process."""
        return parse_quota_url(self.quota_url.get_secret_value())

    @property
    def caller_weights(self) -> Mapping[str, float]:
        """Weights of the callers that have one of their own."""
        return _weights(self.weights)

    @property
    def limits(self) -> Limits:
        """How many calls may wait or be under way."""
        return Limits(per_caller=self.queue_per_caller, total=self.queue_total, in_flight=self.max_in_flight)

    @property
    def serves_reflection(self) -> bool:
        """Whether reflection is registered."""
        return self.reflection == "on" or (self.reflection == "auto" and self.address.is_loopback)

    @property
    def stop_grace_seconds(self) -> float:
        """How long calls in flight may go on after the drain: the longest accepted deadline and time for the reply."""
        return self.max_deadline_seconds + 2


# What SIGHUP changes; everything else needs a restart.
RELOADABLE = frozenset(
    {"quota_rate", "quota_burst", "quota_replicas", "queue_per_caller", "queue_total", "weights", "max_in_flight"}
)


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


def variable(field: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    return PREFIX + field.upper()


def default_text(field: str) -> str:
    """Return the default of a field of `Settings` as its variable would have it: no default is a secret."""
    default = Settings.model_fields[field].default
    return str(default.get_secret_value() if isinstance(default, SecretStr) else default)


def printable(settings: Settings) -> Iterator[str]:
    """Yield every setting as NAME=value, without the password that the quota's URL may hold."""
    for name in Settings.model_fields:
        value = (settings.redis or "memory://") if name == "quota_url" else getattr(settings, name)
        yield f"{variable(name)}={value}"


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


def _weights(text: str) -> Mapping[str, float]:
    """Return the weights that `caller=weight,caller=weight` names.

    Raises:
        ValueError: it has another form, a weight is not between 0.01 and 100, or a caller stands there twice.
    """
    weights: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        caller, separator, number = (each.strip() for each in part.rpartition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not separator or not caller or not 0.01 <= weight <= 100 or caller in weights:  # noqa: PLR2004 - see above
            raise ValueError(
                "must be caller=weight,caller=weight with each caller once and weights from 0.01 to 100, for example "
                "spiffe://corp.example/qa-desk=2,spiffe://corp.example/batch=0.5"
            )
        weights[caller] = weight
    return weights


def _unknown(variables: Mapping[str, str]) -> Iterator[str]:
    known = [variable(field) for field in Settings.model_fields]
    for name, value in sorted(variables.items()):
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
