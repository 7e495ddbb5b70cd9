"""Everything that an operator can set, as one frozen `Settings`, and what each setting may be.

Where the values come from is the matter of `environment`, whether they fit together of `settings_rules`; AWS's own
settings keep AWS's names and are `aws`'.
docs/configuration.md and the README's table are checked against the fields below.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from . import settings_rules
from .address import Address, is_ip_address, parse_address
from .core.chance import Limits
from .core.pacing import Quota
from .exits import EXIT_USAGE, CannotStartError
from .quota_url import RedisAddress, parse_quota_url
from .variables import PREFIX
from .weights import parse_weights

# Of what comes before the port in a URL.
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_DATABASE_SCHEMES: Final = frozenset({"postgresql", "postgres"})


class ConfigurationError(CannotStartError):
    """The configuration is wrong."""

    exit_code = EXIT_USAGE


class Settings(BaseSettings):
    """Everything that an operator can set. The description of each field is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    listen: str = Field(
        default="127.0.0.1:50051",
        description="host:port of the gRPC listener; other than loopback only with TLS, an access file and a policy",
    )
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
    termination_grace_seconds: float = Field(
        default=0,
        ge=0,
        le=3_600,
        description="how long after SIGTERM whoever stops the process kills it (terminationGracePeriodSeconds, "
        "TimeoutStopSec): the drain and all after it must fit in; 0: not known",
    )
    reflection: Literal["auto", "on", "off"] = Field(
        default="auto", description="gRPC server reflection; auto: on while listening on loopback"
    )
    health_listen: str = Field(
        default="",
        description="host:port of a second gRPC listener with health only, in plain text, for probes; empty: nowhere",
    )
    metrics_listen: str = Field(
        default="",
        description="host:port where Prometheus reads the metrics, over plain HTTP; empty: nowhere. They name no "
        "contact, user or caller",
    )
    tls_cert_file: str = Field(
        default="", description="PEM file of the certificate, with its chain; TLS needs it and TLS_KEY_FILE"
    )
    tls_key_file: str = Field(default="", description="PEM file of the certificate's private key, without a password")
    tls_client_ca_file: str = Field(
        default="", description="PEM file of the CAs of clients; with it every client must show a certificate (mTLS)"
    )
    access_file: str = Field(
        default="", description="TOML file of accepted identities, roles and tenants: docs/security.md; SIGHUP reads it"
    )
    policy_file: str = Field(
        default="",
        description="Cedar file of what callers may do: docs/policy.md; read again by SIGHUP and when it changes. "
        "Empty: on loopback everything, elsewhere the service does not start",
    )
    policy_timezone: str = Field(default="UTC", description="IANA zone of the hours and weekdays that policies see")
    supervisor_check: Literal["enforce", "warn", "off"] = Field(
        default="enforce",
        description="whether the supervisor's own permissions in Connect decide (enforce), are only logged (warn), or "
        "are not asked for (off)",
    )
    restricted_supervisors: Literal["deny", "inside", "allow"] = Field(
        default="deny",
        description="supervisors whose security profiles are limited by tag or hierarchy: deny; inside: only contacts "
        "of agents inside; allow: as if not limited",
    )
    read_quota_rate: float = Field(
        default=2, gt=0, le=100_000, allow_inf_nan=False, description="Connect's quota of each read API, requests/s"
    )
    read_quota_burst: int = Field(default=5, ge=1, le=100_000, description="Connect's quota of each read API, burst")
    diagnosis: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: after SERVICE_QUOTA_EXCEEDED ask GetCurrentUserData which limit it was, where IAM permits",
    )
    barge_role_arn: str = Field(
        default="",
        pattern=r"^(arn:[a-z-]+:iam::\d{12}:role/\S+)?$",
        description="IAM role that is assumed for calls with BARGE only, so that no fault turns silent into barge",
    )
    allow_endpoint: str = Field(
        default="",
        description="host of a Connect endpoint that is neither AWS's nor on loopback and may get signed calls",
    )
    audit: SecretStr = Field(
        default=SecretStr(""),
        description="where calls are recorded: a file, or postgresql://…; empty: audit.jsonl in $STATE_DIRECTORY, else "
        "in monitor-contact/ under $XDG_STATE_HOME or ~/.local/state",
    )
    audit_key_file: str = Field(
        default="", description="PEM file of an Ed25519 private key that signs the audit's checkpoints"
    )
    audit_rotate_bytes: int = Field(
        default=64 * 1024 * 1024, ge=65_536, le=2**40, description="an audit file of this size is closed"
    )
    audit_rotate_seconds: float = Field(
        default=86_400, ge=60, le=10**8, description="an audit file of this age is closed"
    )
    audit_timeout_seconds: float = Field(
        default=2, ge=0.01, le=60, description="the longest that a call waits for its record to be durable"
    )
    max_connections: int = Field(default=1_000, ge=1, le=1_000_000, description="connections of clients at one time")
    caller_rate_per_minute: int = Field(
        default=0, ge=0, le=1_000_000, description="calls of one caller per minute; 0: as many as the quota allows"
    )
    supervisor_rate_per_minute: int = Field(
        default=0, ge=0, le=1_000_000, description="calls for one supervisor per minute; 0: no limit of its own"
    )
    traces: Literal["off", "otlp"] = Field(
        default="off",
        description="otlp: send OpenTelemetry traces; where to and how much say OpenTelemetry's own OTEL_* variables",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto",
        description="json: one object a line; text: for people; auto: text on a terminal, otherwise json",
    )
    settings_file: str = Field(
        default="",
        description="a file of lines NAME=value with any of these variables; the environment wins. SIGHUP reads it "
        "again: rate, burst, weights and limits of the queue change without a restart",
    )

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        parse_address(value)
        return value

    @field_validator("metrics_listen", "health_listen")
    @classmethod
    def _address_or_nothing(cls, value: str) -> str:
        if value:
            parse_address(value)
        return value

    @field_validator("allow_endpoint")
    @classmethod
    def _host_or_nothing(cls, value: str) -> str:
        if value and not _HOST_NAME.fullmatch(value) and not is_ip_address(value):
            raise ValueError("must be a host alone, without scheme, port and path, for example connect.example")
        return value

    @field_validator("policy_timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("must be an IANA time zone, for example Europe/Berlin") from error
        return value

    @field_validator("audit")
    @classmethod
    def _file_or_database(cls, value: SecretStr) -> SecretStr:
        scheme, separator, _ = value.get_secret_value().partition("://")
        if separator and scheme not in _DATABASE_SCHEMES:
            raise ValueError("must be the path of a file, or postgresql://user@host/database")
        return value

    @field_validator("quota_url")
    @classmethod
    def _known_store(cls, value: SecretStr) -> SecretStr:
        parse_quota_url(value.get_secret_value())
        return value

    @field_validator("weights")
    @classmethod
    def _readable_weights(cls, value: str) -> str:
        parse_weights(value)
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        if problems := list(settings_rules.broken(self)):
            raise ValueError("\n".join(problems))
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
    def health_address(self) -> Address | None:
        """Where health is served in plain text; None for nowhere."""
        return parse_address(self.health_listen) if self.health_listen else None

    @property
    def audit_database(self) -> str | None:
        """The URL of the database that records calls; None for a file. It may hold a password."""
        text = self.audit.get_secret_value()
        return text if "://" in text else None

    @property
    def audit_file(self) -> str:
        """The file that records calls; "" for the one in the state directory, or for a database."""
        return "" if self.audit_database else self.audit.get_secret_value()

    @property
    def read_quota(self) -> Quota:
        """What Connect allows of each read."""
        return Quota(self.read_quota_rate, self.read_quota_burst)

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
        return parse_weights(self.weights)

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
