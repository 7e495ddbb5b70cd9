"""Decides when Connect counts as failing altogether, and when to try whether it is back. Sends and queues nothing.

Five failures in a row open an outage. From then on one attempt at a time is sent, a probe; any success, of a probe or
of an attempt that was still on its way, closes it. A 429 or a refusal by name is no failure: Connect is alive.
"""

import math
from typing import Final

from .failures import Reason

# Starting values, simulated: five failures in a row are rare at 20 % of failing calls (0.03 %) and quick in an outage.
FAILURES_TO_OPEN: Final = 5
# Between the end of one probe and the next; each +-20 %, so that replicas do not probe together.
FIRST_PROBE_SECONDS: Final = 0.5
PROBE_GROWTH: Final = 1.6
LAST_PROBE_SECONDS: Final = 1.0
PROBE_JITTER: Final = 0.2


class Outage:
    """Counts failures; told the time. Seconds throughout.

    Args:
        failures_to_open: how many in a row.
    """

    def __init__(self, failures_to_open: int = FAILURES_TO_OPEN) -> None:
        self._failures_to_open = failures_to_open
        self.reason: Reason | None = None  # of the failure that opened it; None: no outage
        self._failures = 0
        self._interval = FIRST_PROBE_SECONDS
        self._probe_at = -math.inf
        self._probing = False

    def wait_seconds(self, now: float) -> float:
        """Return how long nothing may be sent: 0 without an outage, infinity while a probe is on its way."""
        if self.reason is None:
            return 0.0
        return math.inf if self._probing else max(0.0, self._probe_at - now)

    def probe_seconds(self, now: float) -> float:
        """Return the time until the next probe at the earliest, for what must outlast it; 0 without an outage."""
        if self.reason is None:
            return 0.0
        return self._interval if self._probing else max(0.0, self._probe_at - now)

    def sent(self) -> bool:
        """Note that an attempt leaves; return whether it is a probe."""
        self._probing = self.reason is not None
        return self._probing

    def not_sent(self) -> None:
        """Note that the probe that was to leave has not: the next attempt is one, at once."""
        self._probing = False

    def succeeded(self) -> bool:
        """Note an answer of a living Connect; return whether that ended an outage."""
        ended = self.reason is not None
        self.reason = None
        self._failures = 0
        self._probing = False
        return ended

    def failed(self, reason: Reason, now: float, draw: float, *, probe: bool) -> None:
        """Note a failure, whose attempt was a probe or not; `draw` is uniform in [0, 1)."""
        self._failures += 1
        if self.reason is None:
            if self._failures < self._failures_to_open:
                return
            self.reason = reason
            self._interval = FIRST_PROBE_SECONDS
        elif not probe:
            return  # sent before the outage was known: says nothing new
        else:
            self._interval = min(LAST_PROBE_SECONDS, self._interval * PROBE_GROWTH)
        self._schedule(now, draw)

    def undecided(self, now: float, draw: float) -> None:
        """Note that a probe ended without telling anything: throttled, or its caller left."""
        if self.reason is not None:
            self._schedule(now, draw)

    def _schedule(self, now: float, draw: float) -> None:
        self._probing = False
        self._probe_at = now + self._interval * (1 + PROBE_JITTER * (2 * draw - 1))
