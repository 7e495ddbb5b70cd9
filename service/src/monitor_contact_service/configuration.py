"""Reads all that a replica is configured with, files included, and reports every fault of it at once.

`serve` and `check-config` begin here. What each part may be is decided where it is used.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .access import OPEN_ACCESS, Access, read_access
from .aws import new_barge_session, new_session
from .core.policy import Policies
from .credentials import Credentials
from .endpoint import Endpoint, resolve_endpoint
from .environment import WrongSettingsError, read_settings, state_directory
from .keys import KeySets
from .policy_files import LoadedPolicies, demo_policies, load_policies
from .settings import ConfigurationError, Settings
from .tls import ServerTls, TlsFiles
from .variables import variable

Value = TypeVar("Value")

# The extra of this distribution that each optional library belongs to.
_EXTRAS = {"redis": "redis", "psycopg": "postgresql", "opentelemetry": "opentelemetry"}
# Where libpq finds no server without asking the network: the folder of its socket.
_NOWHERE: Final = "/nonexistent"


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
    try:
        settings = read_settings()
    except WrongSettingsError as error:
        problems.extend(error.problems)
        _checked(lambda: resolve_endpoint(new_session(), allow_host=None), problems)
        _checked(credentials.require_configured, problems)
        _read_files(error.named, problems)
        raise ConfigurationError(problems) from error
    endpoint = _checked(lambda: resolve_endpoint(new_session(), settings.allow_endpoint), problems)
    _checked(credentials.require_configured, problems)
    _require_extras(settings, problems)
    files = _read_files(settings, problems)
    if files.access is not None:
        problems.extend(_unfit(files.access, settings))
    audit_file = Path(settings.audit_file or state_directory() / "audit.jsonl")
    if not settings.audit_file and settings.audit_database is None:
        _checked(lambda: _require_writable(audit_file), problems)
    if files.access is None or files.keys is None or endpoint is None or problems:
        raise ConfigurationError(problems)
    return Configuration(
        settings=settings,
        access=files.access,
        loaded=files.loaded,
        policies=files.loaded.policies if files.loaded else demo_policies(),
        audit_file=audit_file,
        tls=files.tls,
        keys=files.keys,
        audit_key=files.audit_key,
        endpoint=endpoint,
        credentials=credentials,
        barge_credentials=_barge_credentials(settings.barge_role_arn),
    )


def read_checked_access(settings: Settings) -> Access:
    """Return the access file's content, checked against the other settings; what holds without one if there is none.

    Raises:
        ConfigurationError: it is wrong, or identifies nobody that could come.
    """
    access = _access(settings)
    if problems := list(_unfit(access, settings)):
        raise ConfigurationError(problems)
    return access


class _Files(NamedTuple):
    """What the files hold that settings name; None for one that is wrong, or not named."""

    access: Access | None
    keys: KeySets | None
    loaded: LoadedPolicies | None
    tls: ServerTls | None
    audit_key: Ed25519PrivateKey | None


def _read_files(settings: Settings, problems: list[str]) -> _Files:
    """Read all files that are named, each for itself: whether they fit to other settings is not looked at."""
    access = _checked(lambda: _access(settings), problems)
    keys = _checked(lambda: KeySets(access.issuers), problems) if access else None
    loaded = _checked(lambda: load_policies(settings.policy_file), problems) if settings.policy_file else None
    has_tls = settings.tls_cert_file and settings.tls_key_file
    tls = _checked(lambda: _tls(settings), problems) if has_tls else None
    if settings.audit_file:
        _checked(lambda: _require_writable(Path(settings.audit_file)), problems)
    if (url := settings.audit_database) is not None and find_spec("psycopg") is not None:
        _checked(lambda: _require_readable(url), problems)
    audit_key = _checked(lambda: _audit_key(settings.audit_key_file), problems) if settings.audit_key_file else None
    return _Files(access, keys, loaded, tls, audit_key)


def _access(settings: Settings) -> Access:
    return read_access(settings.access_file) if settings.access_file else OPEN_ACCESS


def _unfit(access: Access, settings: Settings) -> Iterator[str]:
    """Yield a line for each other setting that an access file, if there is one, does not fit to."""
    if access.identifies_by_certificate and not settings.tls_client_ca_file:
        yield f"{variable('tls_client_ca_file')}: must be set: trust_domains and dns_names need it"
    if not settings.address.is_loopback and not (access.identifies_by_certificate or access.identifies_by_token):
        yield (
            f"{settings.access_file}: must have trust_domains, dns_names or issuers for callers: "
            f"{variable('listen')} is not loopback, and nobody could be identified"
        )


def _tls(settings: Settings) -> ServerTls:
    return ServerTls(TlsFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file))


def _require_writable(path: Path) -> None:
    """Refuse a file of the audit that could not be written. `serve` opens it, and says then what else is wrong."""
    there = path if path.exists() else next(folder for folder in path.absolute().parents if folder.exists())
    usable = there.is_file() if there == path else there.is_dir()
    if not usable or not os.access(there, os.W_OK):
        raise ConfigurationError([f"{variable('audit')}: {path}: must be a file that can be written, or made"])


def _require_readable(url: str) -> None:
    """Refuse a URL that libpq does not take. libpq judges values only where it connects: so it does, to nowhere."""
    from psycopg import Error  # noqa: PLC0415 - the extra `postgresql` is installed where it is used
    from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415 - likewise
    from psycopg.pq import ConnStatus, PGconn  # noqa: PLC0415 - likewise

    wanted = f"{variable('audit')}: must be postgresql://user@host/database, with parameters as libpq documents them"
    try:
        parameters = conninfo_to_dict(url)
    except Error as error:  # its text quotes the URL, with the password
        raise ConfigurationError([wanted]) from error
    if not parameters.get("host") and not parameters.get("hostaddr"):
        return  # where it is stands in libpq's own variables or files, and as many ports perhaps
    hosts = str(parameters.pop("hostaddr", "") or parameters.pop("host", "")).split(",")
    parameters["host"] = ",".join(_NOWHERE for _ in hosts)  # of several ports there must be as many
    parameters["gssencmode"] = _without_kerberos(str(parameters.get("gssencmode") or "disable"))
    connection = PGconn.connect_start(make_conninfo("", **parameters).encode())
    said = connection.error_message.decode(errors="replace").partition("\n")[0]
    refused = connection.status == ConnStatus.BAD and _NOWHERE not in said
    connection.finish()
    if refused:
        said = re.sub(r'".*?"', "…", said)  # a password with an @ in it may have become a value of something else
        raise ConfigurationError([f"{wanted}: {said}"])


def _without_kerberos(mode: str) -> str:
    """Return a mode that a socket of this machine can have, or the given one if it is none that libpq knows."""
    return "disable" if mode in {"require", "prefer"} else mode


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
