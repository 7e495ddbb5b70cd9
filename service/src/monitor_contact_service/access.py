"""Reads the access file: which identities are accepted, which roles and tenants callers and instances have.

What a caller with these roles may do is the policy's matter (`authorization`).
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from .core.failures import Failure
from .core.identity import AcceptedNames, PeerCertificate, principal_of
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


def _possible(caller: str, info: ValidationInfo) -> str:
    """Refuse the id of a caller that nothing in the file identifies; not asked while what identifies is wrong."""
    known = {key: info.data[key] for key in ("trust_domains", "dns_names", "issuers") if key in info.data}
    if len(known) == 3 and not _can_identify(caller, **known):  # noqa: PLR2004 - all of them
        raise ValueError(
            "nothing here identifies such a caller; ids are spiffe://… of one of trust_domains, dns:name with "
            "dns_names = true, k8s:namespace:account or oidc:issuer#subject with such an issuer for callers, or "
            "anonymous"
        )
    return caller


class Access(_Strict):
    """The whole file. Without `instances` every instance is of the tenant "default"; with some, others are of none."""

    trust_domains: tuple[Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,255}$")], ...] = ()
    dns_names: bool = False
    issuers: tuple[Issuer, ...] = ()
    forwarded: Forwarded | None = None
    callers: Mapping[Annotated[str, AfterValidator(_possible)], CallerEntry] = Field(default_factory=dict)
    instances: Mapping[str, InstanceEntry] = Field(default_factory=dict)

    @field_validator("issuers")
    @classmethod
    def _tell_apart(cls, issuers: tuple[Issuer, ...], info: ValidationInfo) -> tuple[Issuer, ...]:
        keys = [(issuer.issuer, issuer.identifies) for issuer in issuers]
        of_callers = [issuer for issuer in issuers if issuer.identifies == "callers"]
        problems = []
        if len(set(keys)) != len(keys):
            problems.append("each issuer may stand once for callers and once for end-users")
        elif sum(issuer.tokens == "kubernetes" for issuer in of_callers) > 1:
            problems.append(
                'one issuer with tokens = "kubernetes" at most may identify callers: ids are k8s:namespace:account, '
                "without the cluster, so accounts of the same name in two clusters would be one caller"
            )
        if of_callers and (info.data.get("trust_domains") or info.data.get("dns_names")):
            problems.append(
                "trust_domains and dns_names let certificates identify callers: issuers that identify callers would "
                "never be asked; remove one of the two"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return issuers

    @field_validator("forwarded")
    @classmethod
    def _proxy_can_come(cls, forwarded: Forwarded | None, info: ValidationInfo) -> Forwarded | None:
        trust_domains, dns_names = info.data.get("trust_domains"), info.data.get("dns_names")
        if forwarded is None or trust_domains is None or dns_names is None:
            return forwarded
        if not trust_domains:
            raise ValueError("needs trust_domains: a proxy speaks for callers with SPIFFE IDs")
        if not _is_certified(forwarded.proxy, trust_domains, dns_names=dns_names):
            raise ValueError(
                "proxy: no certificate that is accepted here proves this id, so nothing that it forwards would be; it "
                "must be spiffe://… of one of trust_domains, or dns:name with dns_names = true"
            )
        return forwarded

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


def _can_identify(caller: str, *, trust_domains: tuple[str, ...], dns_names: bool, issuers: tuple[Issuer, ...]) -> bool:
    scheme, separator, rest = caller.partition(":")
    of_callers = [issuer for issuer in issuers if issuer.identifies == "callers"]
    match scheme:
        case "anonymous":
            return not separator
        case "k8s":
            return rest.count(":") == 1 and any(issuer.tokens == "kubernetes" for issuer in of_callers)
        case "oidc":
            named = rest.partition("#")[0]
            return any(issuer.tokens == "oidc" and issuer.issuer == named for issuer in of_callers)
    return _is_certified(caller, trust_domains, dns_names=dns_names)


def _is_certified(principal_id: str, trust_domains: tuple[str, ...], *, dns_names: bool) -> bool:
    """Return whether there can be a certificate that proves this id: one that has it is judged as a caller's is."""
    uris = (principal_id,) if principal_id.startswith("spiffe://") else ()
    names = (principal_id.removeprefix("dns:"),)
    certificate = PeerCertificate(uris, uris, names, not_after=0, sha256="")
    try:
        return principal_of(certificate, AcceptedNames(frozenset(trust_domains), dns_names)).id == principal_id
    except Failure:
        return False


# How pydantic marks a fault of a key, and the tables that are judged by what stands before them.
_KEY: Final = "[key]"
_JUDGED: Final = {"forwarded", "callers"}
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
    faults = error.errors(include_url=False, include_input=False)
    # A misspelt trust_domains, for example, would let every caller look impossible.
    misspelt = any(fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1 for fault in faults)
    for fault in faults:
        if misspelt and fault["type"] == "value_error" and fault["loc"][0] in _JUDGED:
            continue
        *parts, last = fault["loc"]
        parts = [*parts[:-1], repr(parts[-1])] if last == _KEY else [*parts, last]
        key = ".".join(str(part) for part in parts)
        for message in fault["msg"].removeprefix("Value error, ").splitlines():
            yield f"{path}: {key}: {message}"
