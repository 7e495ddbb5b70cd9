"""Request quotas: one token bucket for each API of the world's account and Region.

Decides whether a call is within its quota at a given time. Source of the figures: docs/simulator.md (AWS
"service quotas"); that a refused call is free is a choice, as AWS does not say.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """What an API allows: `rate` calls a second on average, at most `burst` at once. Zero burst allows nothing."""

    rate: float
    burst: float

    def __post_init__(self) -> None:
        if not (self.rate >= 0 and self.burst >= 0):  # said so that NaN is refused too
            raise ValueError(f"a quota cannot be negative: rate {self.rate}, burst {self.burst}")


DEFAULT_QUOTAS: Mapping[str, Quota] = {
    "MonitorContact": Quota(rate=2, burst=5),
    "DescribeUser": Quota(rate=2, burst=5),
    "ListSecurityProfilePermissions": Quota(rate=2, burst=5),
    "DescribeSecurityProfile": Quota(rate=2, burst=5),
    "DescribeContact": Quota(rate=10, burst=15),
    "GetCurrentUserData": Quota(rate=2, burst=5),
}

UNLIMITED = Quota(rate=1e9, burst=1e9)


class Bucket:
    """A token bucket that is told the time. It starts full; a clock that goes back adds nothing."""

    def __init__(self, quota: Quota, now: float) -> None:
        self._quota = quota
        self._tokens = quota.burst
        self._filled_at = now

    def take(self, now: float, *, refused_calls_free: bool) -> bool:
        """Take one token. A refused call takes one too, down to minus the burst, unless refused calls are free."""
        self._fill(now)
        admitted = self._tokens >= 1
        if admitted:
            self._tokens -= 1
        elif not refused_calls_free:
            # Without a floor, a busy caller would be locked out for good.
            self._tokens = max(self._tokens - 1, -self._quota.burst)
        return admitted

    def change(self, quota: Quota, now: float) -> None:
        """Apply another quota from now on: tokens above the new burst are lost, none are given."""
        self._fill(now)
        self._quota = quota
        self._tokens = min(self._tokens, quota.burst)

    def _fill(self, now: float) -> None:
        if now > self._filled_at:
            self._tokens = min(self._quota.burst, self._tokens + (now - self._filled_at) * self._quota.rate)
            self._filled_at = now


class Buckets:
    """The buckets of one account and Region, by API. A bucket comes into being, full, with its API's first call."""

    def __init__(self, quotas: Mapping[str, Quota]) -> None:
        self._quotas = dict(DEFAULT_QUOTAS) | dict(quotas)
        self._buckets: dict[str, Bucket] = {}

    @property
    def quotas(self) -> Mapping[str, Quota]:
        """The quota in force for each API."""
        return self._quotas

    def take(self, api: str, now: float, *, refused_calls_free: bool) -> bool:
        """Say whether this call of this API is within the quota, and count it."""
        bucket = self._buckets.get(api)
        if bucket is None:
            bucket = self._buckets[api] = Bucket(self._quotas[api], now)
        return bucket.take(now, refused_calls_free=refused_calls_free)

    def change(self, api: str, quota: Quota, now: float) -> None:
        """Give an API another quota, as AWS does on request, or takes away. KeyError: an API that does not exist."""
        if api not in self._quotas:
            raise KeyError(api)
        self._quotas[api] = quota
        if api in self._buckets:
            self._buckets[api].change(quota, now)
