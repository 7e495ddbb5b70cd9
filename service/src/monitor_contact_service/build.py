"""Says which build runs, and with which settings, so that replicas can be compared from outside."""

from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files

from .settings import Settings
from .settings_text import printable


def build_info() -> Mapping[str, str]:
    """Return version and commit. The image's build writes the latter into a file of the package; else "unknown"."""
    commit = files(__package__) / "commit.txt"
    return {
        "version": version("monitor-contact-service"),
        "commit": commit.read_text("utf-8").strip() if commit.is_file() else "unknown",
    }


def config_info(settings: Settings) -> Mapping[str, str]:
    """Return the hash of all settings, without what is secret in them."""
    return {"sha256": sha256("\n".join(printable(settings)).encode()).hexdigest()}
