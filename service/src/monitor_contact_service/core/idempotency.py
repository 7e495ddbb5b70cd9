"""Decides which calls are the same action: the ClientToken that Connect sees, and what is remembered of successes.

Joining calls that run at the same time is the shell's: `idempotency`.
"""

from base64 import b32encode
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from .chance import COME_AGAIN_MIN_SECONDS
from .command import MonitorCommand, MonitoringSession
from .deadline import LEAST_USEFUL_SECONDS, too_short
from .failures import Failure, Reason, Violation
from .work import Work

# Names the scheme inside the hash. Another one would break idempotency in a rolling update: old and new replicas would
# derive different tokens for the same call.
_SCHEME: Final = b"monitor-contact/1"
_LENGTH_BYTES: Final = 4

# Repetitions come within seconds; ten minutes also cover a person who tries again (choice). After that, and on other
# replicas, the equal ClientToken makes Connect the judge.
KEEP_SECONDS: Final = 600.0
# At Connect's default quota (2 requests/s) ten minutes hold 1,200 successes; this covers a quota eight times as large.
MAX_ENTRIES: Final = 10_000

# A caller repeats one call after the other; a hundred at once are a fault, and each that leaves looks at all (choice).
MAX_JOINED: Final = 100

# A caller's id and the client_token that it chose: what makes two calls the same action.
Key = tuple[str, str]


def derive_client_token(caller: str, client_token: str) -> str:
    """Return the ClientToken for Connect: 52 characters of A-Z and 2-7, the same on every replica and after restarts.

    No other field of the request is in it, so that a token reused with other fields on another replica is refused by
    Connect and does not start a second session. Callers cannot collide: lengths go before texts, otherwise ("a", "bc")
    would equal ("ab", "c").

    Args:
        caller: the authenticated id, the same for all credentials of this caller. No lone surrogates.
        client_token: the caller's own, not empty. No lone surrogates; the wire format knows none.
    """
    digest = sha256(_SCHEME + _counted(caller) + _counted(client_token)).digest()
    return b32encode(digest).decode().rstrip("=")


def _counted(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


@dataclass(frozen=True, slots=True)
class Success:
    """A session that was started, what it was asked with, and until when it is remembered (monotonic seconds)."""

    command: MonitorCommand
    session: MonitoringSession
    until: float


class Successes:
    """What has succeeded lately, by key. Failures have no place here: a repetition must be able to succeed.

    When full, the entry that was used least recently goes. Using one does not lengthen its time.
    """

    def __init__(self, *, keep_seconds: float = KEEP_SECONDS, max_entries: int = MAX_ENTRIES) -> None:
        self._keep_seconds = keep_seconds
        self._max_entries = max_entries
        self._by_key: OrderedDict[Key, Success] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._by_key)

    def remember(self, key: Key, command: MonitorCommand, session: MonitoringSession, now: float) -> None:
        """Keep what `command` has started; `now` in monotonic seconds."""
        self._by_key[key] = Success(command, session, now + self._keep_seconds)
        self._by_key.move_to_end(key)
        while len(self._by_key) > self._max_entries or next(iter(self._by_key.values())).until <= now:
            self._by_key.popitem(last=False)

    def recall(self, key: Key, now: float) -> Success | None:
        """Return what this key has started, None if nothing is remembered; `now` in monotonic seconds."""
        success = self._by_key.get(key)
        if success is None:
            return None
        if success.until <= now:
            del self._by_key[key]
            return None
        self._by_key.move_to_end(key)
        return success


def require_same(first: MonitorCommand, again: MonitorCommand) -> None:
    """Let a repetition of `first` pass. Both have the same key, and so the same client_token.

    Raises:
        Failure: IDEMPOTENCY_MISMATCH if any other field differs.
    """
    if first != again:
        violation = Violation("client_token", "REUSED", "must not be used again with other fields")
        raise Failure(Reason.IDEMPOTENCY_MISMATCH, violations=(violation,))


def require_room(joined: int) -> None:
    """Let one more of identical calls at the same time pass, of which so many wait already.

    Raises:
        Failure: OVERLOADED if there are `MAX_JOINED`.
    """
    if joined >= MAX_JOINED:
        metadata = {"limit_name": "joined_calls", "limit": str(MAX_JOINED), "current": str(joined)}
        raise Failure(Reason.OVERLOADED, metadata=metadata, retry_after_seconds=COME_AGAIN_MIN_SECONDS)


def ran_out(work: Work) -> Failure:
    """Return the answer to a call whose own deadline has passed while `work` goes on for others."""
    if work.sent:
        return Failure(Reason.CONNECT_UNREACHABLE, outcome_unknown=True, log_text="the work goes on for other callers")
    return too_short(0, LEAST_USEFUL_SECONDS)
