"""How settings are called in the environment."""

from typing import Final

PREFIX: Final = "MONITOR_CONTACT_"


def variable(field: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    return PREFIX + field.upper()
