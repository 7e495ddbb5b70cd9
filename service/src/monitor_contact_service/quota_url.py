"""Reads where the quota is kept: in this process, or in a Redis that all replicas share. Connects to nothing."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

_DEFAULT_PORT: Final = 6379
_DATABASE: Final = re.compile(r"/?(\d{0,5})", re.ASCII)
_EXPECTED: Final = (
    "must be memory:// (a quota of this process alone), redis://host:6379/0 or, with TLS, rediss://host:6379/0; "
    "user name and password percent-encoded, as in rediss://user:password@host:6379/0"
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis or Valkey is and how to log in. Printing it shows no password."""

    host: str
    port: int
    database: int
    tls: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"


def parse_quota_url(text: str) -> RedisAddress | None:
    """Return the Redis that `text` names, or None for `memory://`.

    Options in the URL are refused: the client's own could switch off the check of certificates.

    Raises:
        ValueError: it has none of the known forms; the message shows them and nothing of `text`, which may hold a
            password.
    """
    if text == "memory://":
        return None
    try:
        parts = urlsplit(text)
        port = _DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        raise ValueError(_EXPECTED) from None  # its own message quotes the text
    database = _DATABASE.fullmatch(parts.path)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or port == 0 or database is None:
        raise ValueError(_EXPECTED)
    if parts.query or parts.fragment:
        raise ValueError(f"takes no options after ? or #; {_EXPECTED}")
    return RedisAddress(
        host=parts.hostname,
        port=port,
        database=int(database[1] or 0),
        tls=parts.scheme == "rediss",
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def quota_scope(name: str, region: str) -> str:
    """Return the key under which replicas share the quota of one operation in one account and Region.

    Args:
        name: the account's number, or whatever the operator calls it.
        region: AWS Region, e.g. `eu-central-1`.
    """
    # What stands in braces decides the slot in a Redis Cluster: further keys of the same quota would be together.
    return f"monitor-contact:{{{name}:{region}}}:MonitorContact"
