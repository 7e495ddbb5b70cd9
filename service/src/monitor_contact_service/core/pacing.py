"""Decides when the next request may leave, so that Connect's quota is used up and not overrun.

A GCRA pacer that is told the time. It slows down on 429s, because others may use the same quota, and climbs back by
itself. Who gets the token is decided elsewhere, and nothing here waits.
"""

import math
from dataclasses import dataclass

# All constants are simulated: a token bucket of 2/s and burst 5, a refused call free, Poisson arrivals, 10 s deadlines.
#
# Calls that leave evenly spaced can arrive closer together: one token of the burst is kept back for that, which covers
# differences of half a second. What is left of the rate covers clocks that run differently. Success at 1.8/s, and 429s:
# 0.98 x .9967, 0; 0.99 x .9982, 0; 0.995 x .9986, 0. With the whole burst, 1.00 x: .002 of all attempts.
RATE_SHARE = 0.995
BURST_KEPT_BACK = 1
# One 429 cuts the pace deeply and it climbs quickly: a 429 costs little, a pace below a quota that is back costs calls.
# Quota halved from 100 to 200 s, 1.6/s offered: success of the calls that came during; after; 429s per attempt (240
# seeds, standard error .004; .001); and 429s per attempt at 4/s with the quota halved for ever:
#   x 0.65, +4 %/s:  .685; .995; .033;  .13      (taken)
#   x 0.85, +2 %/s:  .685; .989; .044;  .16
#   x 0.85, +4 %/s:  .689; .995; .066;  .23
#   x 0.75, +3 %/s:  .684; .993; .037;  .14
#   x 0.65, +5 %/s:  .682; .995; .039;  .15
# "During" is what the quota itself leaves. Climbs that accelerate, or rest at the pace of the last 429, are no better.
# The price: at 1.6/s with deadlines of 2 s beside another user of 0.3/s, success .931 (x 0.85, +2 %/s: .947).
CUT = 0.65
CLIMB_PER_SECOND = 0.04
# A quota that others use up entirely is still probed: at 2/s, once in two seconds.
LEAST_SHARE = 0.25
# A refused request learns no sooner than this whether tokens came back: the time that 2/s take for one.
HOLD_LEAST_SECONDS = 0.5
# A longer hint is not believed: it would outlast most deadlines (smithy's retries bound a server's hint to 5 s more).
HOLD_MOST_SECONDS = 5.5

# Monotonic seconds of a machine that is up for years are this exact: a wait below it is rounding.
_ROUNDING_SECONDS = 1e-7


@dataclass(frozen=True, slots=True)
class Quota:
    """What Connect allows: `rate` in requests per second (> 0), and at least `burst` (>= 1) of them at once."""

    rate: float
    burst: int

    @property
    def pace(self) -> float:
        """The requests per second that are made of it."""
        return RATE_SHARE * self.rate

    @property
    def depth(self) -> int:
        """The tokens that are saved up at most."""
        return max(1, self.burst - BURST_KEPT_BACK)

    def share(self, replicas: int) -> "Quota":
        """Return the part that each of so many replicas may use by itself without all together exceeding the whole."""
        return Quota(self.rate / replicas, max(1, self.burst // replicas))


class Pacer:
    """Gives tokens: never more than 0.995 x rate x time + max(1, burst - 1) in any window, and fewer after 429s.

    The state is GCRA's theoretical arrival time: `tat - now` is what has been taken and not yet earned again. The pace
    is brought up to `now` by each call; the time since the call before counts at the old pace, which is never too much.
    `rate` and `tokens` only read: they may be called from another thread, and are then a moment old at worst.

    Args:
        quota: as configured.
        now: monotonic seconds, as in every method; it must not go back.
    """

    def __init__(self, quota: Quota, now: float) -> None:
        self._quota = quota
        self._cut_share = 1.0  # of the configured pace, as the last 429 left it
        self._hold_until = now
        self._rate = self._quota.pace
        # One token only: what was sent before the process started is not known.
        self._tat = now + (self._quota.depth - 1) / self._rate

    @property
    def quota(self) -> Quota:
        """The quota as configured now."""
        return self._quota

    def rate(self, now: float) -> float:
        """Return the present pace in requests per second: 0.995 x the quota's rate, or less after a 429."""
        climbed = CLIMB_PER_SECOND * max(0.0, now - self._hold_until)
        return self._quota.pace * min(1.0, self._cut_share + climbed)

    def tokens(self, now: float) -> float:
        """Return how many tokens are left, as a fraction; a hold is not counted."""
        return max(0.0, self._quota.depth - max(0.0, self._tat - now) * self._rate)

    def wait_seconds(self, now: float) -> float:
        """Return the time until a token may be taken, 0 if that is now. A hold is counted."""
        return self.start_seconds(0, now)

    def start_seconds(self, ahead: int, now: float) -> float:
        """Return the time until the token after `ahead` others, if each is taken as soon as it is there.

        At the present pace: later if a 429 comes, sooner while the pace climbs. A hold is counted.
        """
        self._advance(now)
        earliest = max(now, self._hold_until)
        wait = max(earliest, max(self._tat, earliest) + (ahead + 1 - self._quota.depth) / self._rate) - now
        return wait if wait > _ROUNDING_SECONDS else 0.0

    def take(self, now: float) -> None:
        """Take a token; the caller has seen that `wait_seconds` is 0."""
        self._advance(now)
        self._tat = max(self._tat, now) + 1 / self._rate

    def hold_seconds(self, now: float) -> float:
        """Return what is left of the hold after a 429, 0 if there is none."""
        return max(0.0, self._hold_until - now)

    def give_back(self, now: float) -> None:
        """Take back a token that was taken just now and not used."""
        self._advance(now)
        self._tat -= 1 / self._rate

    def throttled(self, now: float, hint_seconds: float | None) -> None:
        """Note a 429: no token is left, none comes before the hold ends, and the pace is cut once per hold.

        Args:
            now: when the answer came.
            hint_seconds: how long Connect asks to wait, None if it does not; anything but a positive number is ignored.
        """
        self._advance(now)
        if now >= self._hold_until:
            self._cut_share = max(LEAST_SHARE, self._rate / self._quota.pace * CUT)
        self._hold_until = max(self._hold_until, now + _hold_seconds(hint_seconds))
        self._advance(now)
        self._tat = max(self._tat, now + self._quota.depth / self._rate)

    def change(self, quota: Quota, now: float) -> None:
        """Follow a new configured quota from the next token on. A pace that was cut stays so in proportion."""
        # A larger burst has to be earned: nothing says that Connect's bucket is full to its new brim.
        tokens = self.tokens(now)
        self._quota = quota
        self._advance(now)
        self._tat = now + max(0.0, self._quota.depth - tokens) / self._rate

    def follow(self, now: float, *, wait_seconds: float, rate: float, hold_seconds: float) -> None:
        """Go on from what another pacer of the same quota reported, so that this one can estimate for it.

        Args:
            now: when that was so, by this pacer's clock.
            wait_seconds: until the other's next token; at 0 it is taken to have one and no more.
            rate: its present pace in requests per second; beyond this quota's pace it is cut to that.
            hold_seconds: what is left of its hold, 0 if there is none.
        """
        self._cut_share = min(1.0, max(LEAST_SHARE, rate / self._quota.pace))
        self._hold_until = now + max(0.0, hold_seconds)
        self._advance(now)
        self._tat = now + max(0.0, wait_seconds) + (self._quota.depth - 1) / self._rate

    def _advance(self, now: float) -> None:
        """Bring the pace up to `now`; what has been taken and not earned again stays the same number of tokens."""
        rate = self.rate(now)
        if rate != self._rate:
            self._tat = now + max(0.0, self._tat - now) * self._rate / rate
            self._rate = rate


def _hold_seconds(hint_seconds: float | None) -> float:
    if hint_seconds is None or not math.isfinite(hint_seconds):
        return HOLD_LEAST_SECONDS
    return min(HOLD_MOST_SECONDS, max(HOLD_LEAST_SECONDS, hint_seconds))
