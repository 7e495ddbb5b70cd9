"""What may be chosen where AWS documents nothing, each choice one named switch: docs/simulator.md."""

from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """How the stand-in behaves. The defaults are those of docs/simulator.md."""

    check_security_profile: bool = False
    """Refuse a supervisor without ManagerListenIn, or ManagerBargeIn for BARGE. Off: as seen in aws/aws-sdk#622."""
    refused_calls_free: bool = True
    """A call refused for the quota takes no token. Off: it takes one, down to minus the burst."""
    hard_limits: bool = True
    """Keep the limits on sessions for each contact and supervisor. Off: for load tests on few contacts."""
    token_lifetime_seconds: float = 7 * 24 * 3600
    """How long a ClientToken is answered with its first answer. AWS says 7 days for kindred APIs."""
    signature_window_seconds: float = 5 * 60
    """How far a request's time may be from ours, either way."""
    permissions_per_page: int = 2
    """Names on one page of ListSecurityProfilePermissions. AWS: up to 500; few, so that paging is always met."""
    latency_seconds: float = 0.0
    """How long every call is in flight before it takes effect."""
    close_idle_after_requests: int | None = None
    """Close a kept-alive connection, unannounced, after so many answers."""

    def change(self, choices: dict[str, Any]) -> "Switches":
        """Return the switches with some of them changed. ValueError: an unknown name, or a value of wrong type."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in choices.items():
            if name not in known:
                raise ValueError(f"no switch is called {name!r}; there are {', '.join(known)}")
            if not _fits(name, value):
                raise ValueError(f"{value!r} is no value for {name}")
        return replace(self, **choices)


def _fits(name: str, value: object) -> bool:
    if name in {"check_security_profile", "refused_calls_free", "hard_limits"}:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if name == "close_idle_after_requests":
        return value is None or (isinstance(value, int) and value >= 1)
    if name == "permissions_per_page":
        return isinstance(value, int) and value >= 1
    return isinstance(value, int | float) and value >= 0
