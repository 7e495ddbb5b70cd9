"""Reads all that a replica is configured with, files included, and reports every fault of it at once.

`serve` and `check-config` begin here. What each part may be is decided where it is used.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .access import OPEN_ACCESS, Access, read_access
from .aws import new_barge_session, new_session
from .core.policy import Policies
from .credentials import Credentials
from .endpoint import Endpoint, resolve_endpoint
from .environment import read_settings, state_directory
from .keys import KeySets
from .policy_files import LoadedPolicies, demo_policies, load_policies
from .settings import ConfigurationError, Settings
from .tls import ServerTls, TlsFiles
from .variables import variable

Value = TypeVar("Value")

# The extra of this distribution that each optional library belongs to.
_EXTRAS = {"redis": "redis", "psycopg": "postgresql", "opentelemetry": "opentelemetry"}


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a replica runs with.

    Attributes:
        settings: the environment's, and those of the file that it names.
        access: who is who.
        loaded: the policies of the operator's file; None for the built-in ones.
        policies: what decides: these, or the built-in ones.
        audit_file: what calls are recorded in, unless a database is configured.
        tls: None for plain text, on loopback.
        keys: of the issuers of tokens.
        audit_key: signs checkpoints; None for none.
        endpoint: Connect.
        credentials: what to call it with.
        barge_credentials: what to call it with for BARGE, if another role.
    """

    settings: Settings
    access: Access
    loaded: LoadedPolicies | None
    policies: Policies
    audit_file: Path
    tls: ServerTls | None
    keys: KeySets
    audit_key: Ed25519PrivateKey | None
    endpoint: Endpoint
    credentials: Credentials
    barge_credentials: Credentials | None


def read_configuration() -> Configuration:
    """Return what the environment asks for.

    Raises:
        ConfigurationError: with every problem of our settings, of the files that they name, and of AWS's configuration.
    """
    problems: list[str] = []
    credentials = Credentials(new_session, clock=time.monotonic)
    settings = _checked(read_settings, problems)
    if settings is None:
        _checked(lambda: resolve_endpoint(new_session(), allow_host=None), problems)
        _checked(credentials.require_configured, problems)
        raise ConfigurationError(problems)
    endpoint = _checked(lambda: resolve_endpoint(new_session(), settings.allow_endpoint), problems)
    _checked(credentials.require_configured, problems)
    _require_extras(settings, problems)
    access = _checked(lambda: read_checked_access(settings), problems)
    loaded = _checked(lambda: load_policies(settings.policy_file), problems) if settings.policy_file else None
    tls = _checked(lambda: _tls(settings), problems) if settings.tls_cert_file else None
    audit_file = Path(settings.audit_file or state_directory() / "audit.jsonl")
    if settings.audit_database is None:
        _checked(lambda: _require_writable(audit_file), problems)
    audit_key = _checked(lambda: _audit_key(settings.audit_key_file), problems) if settings.audit_key_file else None
    keys = _checked(lambda: KeySets(access.issuers), problems) if access else None
    if access is None or keys is None or endpoint is None or problems:
        raise ConfigurationError(problems)
    return Configuration(
        settings=settings,
        access=access,
        loaded=loaded,
        policies=loaded.policies if loaded else demo_policies(),
        audit_file=audit_file,
        tls=tls,
        keys=keys,
        audit_key=audit_key,
        endpoint=endpoint,
        credentials=credentials,
        barge_credentials=_barge_credentials(settings.barge_role_arn),
    )


def read_checked_access(settings: Settings) -> Access:
    """Return the access file's content, checked against the other settings; what holds without one if there is none.

    Raises:
        ConfigurationError: it is wrong, or identifies nobody that could come.
    """
    if not settings.access_file:
        return OPEN_ACCESS
    access = read_access(settings.access_file)
    problems = []
    if access.identifies_by_certificate and not settings.tls_client_ca_file:
        problems.append(f"{variable('tls_client_ca_file')}: must be set: trust_domains and dns_names need it")
    if not settings.address.is_loopback and not (access.identifies_by_certificate or access.identifies_by_token):
        problems.append(
            f"{settings.access_file}: must have trust_domains, dns_names or issuers for callers: "
            f"{variable('listen')} is not loopback, and nobody could be identified"
        )
    if problems:
        raise ConfigurationError(problems)
    return access


def _tls(settings: Settings) -> ServerTls:
    return ServerTls(TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file))


def _require_writable(path: Path) -> None:
    """Refuse a file of the audit that could not be written. `serve` opens it, and says then what else is wrong."""
    there = path if path.exists() else next(folder for folder in path.absolute().parents if folder.exists())
    usable = there.is_file() if there == path else there.is_dir()
    if not usable or not os.access(there, os.W_OK):
        raise ConfigurationError([f"{variable('audit')}: {path}: must be a file that can be written, or made"])


def _audit_key(path: str) -> Ed25519PrivateKey:
    wanted = f"{variable('audit_key_file')}: {path}: must be a PEM file of an Ed25519 private key without a password"
    try:
        key = load_pem_private_key(Path(path).read_bytes(), password=None)
    except OSError as error:
        raise ConfigurationError([f"{variable('audit_key_file')}: {path}: {error.strerror}"]) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError([wanted]) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError([wanted])
    return key


def _barge_credentials(role_arn: str) -> Credentials | None:
    return Credentials(lambda: new_barge_session(role_arn), clock=time.monotonic) if role_arn else None


def _require_extras(settings: Settings, problems: list[str]) -> None:
    needed = {
        "quota_url": settings.redis and "redis",
        "audit": settings.audit_database and "psycopg",
        "traces": settings.traces == "otlp" and "opentelemetry",
    }
    for field, library in needed.items():
        if library and find_spec(library) is None:
            extra = _EXTRAS[library]
            problems.append(f"{variable(field)}: needs another library: pip install 'monitor-contact-service[{extra}]'")


def _checked(read: Callable[[], Value], problems: list[str]) -> Value | None:
    try:
        return read()
    except ConfigurationError as error:
        problems.extend(error.problems)
        return None
