"""The quota of a single replica: its own pacer, read by a clock. What is shared between replicas stands elsewhere."""

from collections.abc import Callable
from typing import Final

from .core.pacing import Pacer, Quota


class LocalQuota:
    """The tokens of one pacer that nobody else takes from.

    Args:
        quota: what Connect allows to all replicas together.
        replicas: the most of them that ever run; this one takes its part.
        clock: monotonic seconds.
    """

    # There is no store to lose.
    shared: Final = True

    def __init__(self, quota: Quota, *, replicas: int = 1, clock: Callable[[], float]) -> None:
        self.limit = quota.rate  # of all replicas together, as configured
        self._clock = clock
        self._pacer = Pacer(quota.share(replicas), clock())
        self.on_change: Callable[[], None] = _nobody_listens

    def wait_seconds(self) -> float:
        """Return the time until a token may be taken, 0 if that is now."""
        return self._pacer.wait_seconds(self._clock())

    def start_seconds(self, ahead: int) -> float:
        """Return the time until the token after `ahead` others, at the present pace."""
        return self._pacer.start_seconds(ahead, self._clock())

    def take(self) -> None:
        """Take a token; the caller has just seen that `wait_seconds` is 0."""
        self._pacer.take(self._clock())

    def give_back(self) -> None:
        """Take back a token that was taken just now and not used."""
        self._pacer.give_back(self._clock())

    def throttled(self, hint_seconds: float | None) -> None:
        """Note a 429, and how long Connect asks to wait (None if it does not)."""
        self._pacer.throttled(self._clock(), hint_seconds)

    def rate(self) -> float:
        """Return the present pace of this replica in requests per second; only reads."""
        return self._pacer.rate(self._clock())

    def tokens(self) -> float:
        """Return how many tokens are left; only reads."""
        return self._pacer.tokens(self._clock())

    def change(self, quota: Quota, replicas: int) -> None:
        """Follow a new configured quota from the next token on."""
        self.limit = quota.rate
        self._pacer.change(quota.share(replicas), self._clock())
        self.on_change()


def _nobody_listens() -> None:
    pass
