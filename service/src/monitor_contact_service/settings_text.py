"""Settings as text for people: nothing of it is secret."""

from collections.abc import Iterator

from pydantic import SecretStr

from .settings import Settings
from .variables import variable


def default_text(field: str) -> str:
    """Return the default of a field of `Settings` as its variable would have it: no default is a secret."""
    default = Settings.model_fields[field].default
    return str(default.get_secret_value() if isinstance(default, SecretStr) else default)


def printable(settings: Settings) -> Iterator[str]:
    """Yield every setting as NAME=value, without the passwords that URLs may hold."""
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if name == "quota_url":
            value = settings.redis or "memory://"
        elif name == "audit":
            value = without_password(settings.audit.get_secret_value())
        yield f"{variable(name)}={value}"


def without_password(url: str) -> str:
    """Return a URL, or a path, without what could be secret in it: user information and query."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if separator else url
