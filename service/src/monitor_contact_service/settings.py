"""Everything that an operator can set, as one frozen `Settings`, and what each setting may be.

Where the values come from is the matter of `environment`; AWS's own settings keep AWS's names and are `aws`'.
docs/configuration.md and the README's table are checked against the fields below.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .address import Address, parse_address
from .core.chance import Limits
from .core.pacing import Quota
from .exits import EXIT_USAGE, CannotStartError
from .quota_url import RedisAddress, parse_quota_url

PREFIX = "MONITOR_CONTACT_"


class ConfigurationError(CannotStartError):
    """The configuration is wrong."""

    exit_code = EXIT_USAGE


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
