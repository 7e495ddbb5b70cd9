"""Reads the access file: which identities are accepted, which roles and tenants callers and instances have.

What a caller with these roles may do is the policy's matter (`authorization`).
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .settings import ConfigurationError

DEFAULT_TENANT: Final = "default"
# Of a Kubernetes projected token by default; one that lives longer is worth too much to whoever finds it (choice).
MAX_TOKEN_SECONDS: Final = 3600

_Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_Text = Annotated[str, Field(min_length=1, max_length=2048)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Issuer(_Strict):
    """Who issues tokens that are accepted, and what must be true of them."""

    issuer: Annotated[str, Field(pattern=r"^[^#\s]+$", max_length=512)]
    tokens: Literal["kubernetes", "oidc"] = "oidc"
    identifies: Literal["callers", "end-users"] = "callers"
    audience: _Text
    algorithms: Annotated[tuple[_Algorithm, ...], Field(min_length=1)] = ("RS256",)
    # A file, or an https URL (http on loopback), of a JSON Web Key Set.
    keys: _Text
    # What the server of the keys is trusted by, if not by a public CA: the cluster's CA for Kubernetes.
    keys_ca_file: str = ""
    # A token to show there: Kubernetes tells its keys to service accounts only.
    keys_token_file: str = ""
    types: Annotated[tuple[str, ...], Field(min_length=1)] = ("JWT", "at+jwt")
    max_lifetime_seconds: Annotated[int, Field(ge=60, le=86_400)] = MAX_TOKEN_SECONDS
    # The claim of an end user's token that holds the user's id in Connect.
    connect_user_claim: str = "connect_user_id"


class Forwarded(_Strict):
    """The one proxy whose `x-forwarded-client-cert` is believed: by its own TLS identity."""

    proxy: _Text


class CallerEntry(_Strict):
    """What a caller is."""

    roles: tuple[_Text, ...] = ()
    tenant: _Text = DEFAULT_TENANT
    # True lets this caller ask for another supervisor than the person whose token it shows.
    acts_for_others: bool = False


class InstanceEntry(_Strict):
    """What a Connect instance is."""

    tenant: _Text = DEFAULT_TENANT


class Access(_Strict):
    """The whole file. Without `instances` every instance is of the tenant "default"; with some, others are of none."""

    trust_domains: tuple[Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,255}$")], ...] = ()
    dns_names: bool = False
    issuers: tuple[Issuer, ...] = ()
    forwarded: Forwarded | None = None
    callers: Mapping[str, CallerEntry] = Field(default_factory=dict)
    instances: Mapping[str, InstanceEntry] = Field(default_factory=dict)

    @field_validator("issuers")
    @classmethod
    def _once(cls, issuers: tuple[Issuer, ...]) -> tuple[Issuer, ...]:
        keys = [(issuer.issuer, issuer.identifies) for issuer in issuers]
        if len(set(keys)) != len(keys):
            raise ValueError("each issuer may stand once for callers and once for end-users")
        return issuers

    @model_validator(mode="after")
    def _callers_can_come(self) -> "Access":
        if self.identifies_by_certificate and self.identifies_by_token:
            raise ValueError(
                "trust_domains and dns_names let certificates identify callers: issuers that identify callers would "
                "never be asked; remove one of the two"
            )
        impossible = sorted(caller for caller in self.callers if not self._can_identify(caller))
        if impossible:
            raise ValueError(
                f"callers.{impossible[0]!r}: nothing here identifies such a caller; ids are spiffe://… of one of "
                "trust_domains, dns:name with dns_names = true, k8s:namespace:account or oidc:issuer#subject with such "
                "an issuer for callers, or anonymous"
            )
        return self

    @property
    def identifies_by_token(self) -> bool:
        """Whether bearer tokens of callers are accepted."""
        return any(issuer.identifies == "callers" for issuer in self.issuers)

    @property
    def identifies_by_certificate(self) -> bool:
        """Whether certificates are accepted."""
        return bool(self.trust_domains) or self.dns_names

    def caller(self, principal_id: str) -> CallerEntry:
        """Return what a caller is; without roles and tenant for one that the file does not name."""
        return self.callers.get(principal_id, _NOBODY)

    def tenant_of(self, instance_id: str) -> str:
        """Return the tenant that an instance belongs to; "" for one that belongs to none."""
        if not self.instances:
            return DEFAULT_TENANT
        entry = self.instances.get(instance_id)
        return entry.tenant if entry else ""

    def _can_identify(self, caller: str) -> bool:
        scheme, _, rest = caller.partition(":")
        match scheme:
            case "anonymous":
                return not rest
            case "spiffe":
                return rest.startswith("//") and rest[2:].partition("/")[0] in self.trust_domains
            case "dns":
                return self.dns_names and bool(rest)
            case "k8s":
                return rest.count(":") == 1 and any(
                    issuer.tokens == "kubernetes" and issuer.identifies == "callers" for issuer in self.issuers
                )
            case "oidc":
                issuer_text = rest.partition("#")[0]
                return any(
                    issuer.tokens == "oidc" and issuer.identifies == "callers" and issuer.issuer == issuer_text
                    for issuer in self.issuers
                )
        return False


_NOBODY: Final = CallerEntry.model_construct(roles=(), tenant="", acts_for_others=False)
# What holds without a file: whoever reaches loopback, in the one tenant that there is.
OPEN_ACCESS: Final = Access(callers={"anonymous": CallerEntry(roles=("demo",))})


def read_access(path: str) -> Access:
    """Return what the file at `path` says.

    Raises:
        ConfigurationError: it cannot be read or is not such a file; each problem names file and key, or line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        document: dict[str, Any] = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError([f"{path}: {error.strerror}"]) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError([f"{path}: {error}"]) from error
    try:
        return Access.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(list(_problems(path, error))) from error


def _problems(path: str, error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in fault["loc"])
        yield f"{path}: {key + ': ' if key else ''}{fault['msg'].removeprefix('Value error, ')}"
