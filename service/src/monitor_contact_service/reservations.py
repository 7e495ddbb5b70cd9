"""The shared pacer: what Redis computes for all replicas, how it is asked and what it answers. Sends nothing itself.

The script is `core.pacing` over again, with its constants, in a state that outlives a change of clocks and settings:
tokens owed (taken or reserved, and not yet earned again) as of a moment of the server's clock. Two things are new: a
token can be reserved before its time has come, and a replica that joins says so.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from .core.pacing import CLIMB_PER_SECOND, CUT, LEAST_SHARE, Quota

# The script takes about 0.1 ms (measured, Redis 7.0.15): a server that needs longer than this is no help.
TIMEOUT_SECONDS: Final = 0.05

# The first line of the script: one of these. In microseconds, which a Lua number holds exactly.
NOW_FROM_SERVER: Final = "local t = redis.call('TIME'); local now = t[1] * 1000000 + t[2]\n"
# For virtual time: the moment stands behind the other arguments.
NOW_FROM_ARGUMENT: Final = "local now = tonumber(ARGV[#ARGV])\n"

# Lua's tostring loses digits of such moments, and a fraction returned as a number becomes whole: hence the formats.
BODY: Final = """\
local verb = ARGV[1]
local full, burst, replicas, pause = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local cut, climb, least = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local stored = redis.call('HMGET', KEYS[1], 'at', 'owed', 'burst', 'rate', 'share', 'hold')
local at, owed, burst_before = tonumber(stored[1] or ''), tonumber(stored[2] or ''), tonumber(stored[3] or '')
local rate, share, hold = tonumber(stored[4] or ''), tonumber(stored[5] or ''), tonumber(stored[6] or '')
if not at then  -- new or lost: what was sent before is not known, so one token
  at, owed, burst_before, rate, share, hold = now, burst - 1, burst, full, 1, now
end
if at > now then at, hold = now, hold - (at - now) end  -- the server's clock was set back: no time has passed
local function advance() rate = full * math.min(1, share + climb * math.max(0, now - hold) / 1e6) end
owed = math.max(0, owed - (now - at) / 1e6 * rate)
owed = math.max(0, owed + burst - burst_before)  -- as many tokens are left as before
advance()
if verb == 'throttled' then
  if now >= hold then share = math.max(least, rate / full * cut) end
  hold = math.max(hold, now + pause * 1e6)
  advance()
  owed = math.max(owed, burst)
elseif verb == 'join' then
  if now < hold then pause = 0 end
  owed = math.max(owed, burst - 1 + pause * rate)  -- one token is left, once the pause is over
  if pause > 0 then share, hold = rate / full, now + pause * 1e6 end
end
local function next_wait()  -- below 0: for how long a token has been there
  local held = math.max(0, hold - now) / 1e6
  local wait = math.max(owed / rate, held) - (burst - 1) / rate
  return held > 0 and math.max(held, wait) or wait
end
local wait, farthest, granted = next_wait(), (replicas + 0.5) / rate, 0
if verb == 'reserve' and wait <= farthest + 1e-6 then  -- the clock's resolution
  granted, owed = 1, math.max(owed, wait * rate) + 1
end
local following = next_wait()
local function exactly(number) return string.format('%.17g', number) end
redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now), 'owed', exactly(owed), 'burst', exactly(burst),
  'rate', exactly(rate), 'share', exactly(share), 'hold', string.format('%.0f', hold))
redis.call('PEXPIRE', KEYS[1], 86400000)  -- long after every debt is paid: idle and lost must not look alike
return {granted, string.format('%.0f', now), exactly(math.max(0, wait)), exactly(following),
  exactly(math.max(0, following - farthest)), exactly(rate), exactly(math.max(0, hold - now) / 1e6)}
"""


class ServerFaultError(Exception):
    """The server did not do its work, or it is not known whether it did. Its text says why, without any password."""


class Command(NamedTuple):
    """One run of the script: `BODY` behind one of the first lines, its KEYS and its ARGV."""

    keys: tuple[str, ...]
    arguments: tuple[str | float, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the script said, as of `server_microseconds` of the server's clock.

    `granted`: a slot is reserved, `wait_seconds` ahead; else that is where one would have been. `next_seconds`: until
    the slot after it, below 0 if that has been there for so long. `ask_again_seconds`: until a further reservation has
    a chance. `rate`: tokens per second. `hold_seconds`: what is left of a hold.
    """

    granted: bool
    server_microseconds: int
    wait_seconds: float
    next_seconds: float
    ask_again_seconds: float
    rate: float
    hold_seconds: float


class Reservations:
    """The commands for one quota.

    Args:
        scope: the key; see `quota_url.quota_scope`.
        quota: as this replica is configured; may be set anew.
        replicas: how many may hold a slot each. A slot farther ahead is not given, so that it is not late to change.
    """

    def __init__(self, scope: str, quota: Quota, replicas: int) -> None:
        self._scope = scope
        self.quota = quota
        self.replicas = replicas

    def reserve(self) -> Command:
        """Reserve the next slot, if it is at most replicas + 0.5 slots ahead."""
        return self._command("reserve", 0.0)

    def throttled(self, hold_seconds: float) -> Command:
        """Report a 429: nothing before the hold has passed, and a slower pace from then on."""
        return self._command("throttled", hold_seconds)

    def join(self, pause_seconds: float = 0.0) -> Command:
        """Report that this replica is new or back, and that what it sent meanwhile is not known: one token is left.

        Args:
            pause_seconds: how long nobody gets a slot, because others may still use their share. Not added to a hold
                that lasts: it is that of somebody who came back just before.
        """
        return self._command("join", pause_seconds)

    def _command(self, verb: str, pause_seconds: float) -> Command:
        rate = self.quota.pace
        burst = self.quota.depth
        numbers = (rate, burst, self.replicas, pause_seconds, CUT, CLIMB_PER_SECOND, LEAST_SHARE)
        return Command((self._scope,), (verb, *numbers))


def decode(answer: object) -> Answer:
    """Return what the script's answer means; texts may come as str or bytes.

    Raises:
        ValueError: no script of ours answers so.
    """
    if not isinstance(answer, list) or len(answer) != 7:  # noqa: PLR2004 - the script's return
        raise ValueError("the answer of Redis has another form")
    granted, microseconds, *numbers = cast("list[str]", answer)
    return Answer(bool(granted), int(microseconds), *map(float, numbers))
