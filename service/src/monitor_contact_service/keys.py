"""Keeps the issuers' keys: reads their JSON Web Key Sets again and again, beside the event loop.

Which keys of a set count is decided by `jwks`; how one is read by `key_sources`. An issuer that cannot be reached
loses nothing for an hour; then its tokens are refused, because a key that it has taken back must not count for ever.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from . import key_sources
from .access import Issuer
from .jwks import VerificationKey, read_key_set
from .key_sources import Document, Source, UnreadableError
from .settings import ConfigurationError
from .telemetry import fields

_log = logging.getLogger(__name__)

# All are choices. URLs are read every four to five minutes, so that replicas do not ask together; after a failure
# sooner. Files are small: by content, because mounted ones change by a swap of a link above them.
URL_SECONDS: Final = 300.0
RETRY_SECONDS: Final = 10.0
FILE_SECONDS: Final = 5.0
# How long keys count after they were last seen at their source; a token that is remembered, a minute longer at most.
KEPT_SECONDS: Final = 3_600.0
# A token may name a key that its issuer has made since; or one that somebody made up, so not for each such token.
UNKNOWN_KEY_SECONDS: Final = 30.0
# How often it is looked what is due.
POLL_SECONDS: Final = 1.0


_NOTHING: Final = Document(b"")


@dataclass(slots=True)
class _Held:
    """A source and what is known from it; times in monotonic seconds."""

    source: Source
    document: Document = _NOTHING
    keys: Mapping[str, VerificationKey] = field(default_factory=dict)
    seen_at: float = -math.inf
    tried_at: float = -math.inf
    due: float = -math.inf
    # What was logged of the last failure; None if the last try succeeded.
    problem: tuple[str, str] | None = None

    def is_fresh(self, now: float) -> bool:
        return now - self.seen_at <= KEPT_SECONDS


class KeySets:
    """The keys of all issuers, each source once.

    Files are read here and now, URLs by the first `refresh`.

    Args:
        issuers: whose keys to keep; `change` replaces them.
        clock: monotonic seconds.
        draw: uniform in [0, 1).

    Attributes:
        version: changes whenever a key is new or gone.
        on_change: is told after each `refresh` that read something: `ready` and `failing` may be others.

    Raises:
        ConfigurationError: a line for each file without a usable key, and each URL that is not to be used.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.version = 0
        self.on_change: Callable[[], None] = lambda: None
        self._clock = clock
        self._draw = draw
        self._was_ready = False
        self._held: Mapping[Source, _Held] = {}
        self.change(issuers)

    @property
    def ready(self) -> bool:
        """Whether the keys of all issuers have been there once; stays so, whatever is changed or lost later."""
        # One issuer's outage, or a new issuer that nobody reaches, must not take every replica out.
        self._was_ready = self._was_ready or all(held.keys for held in self._held.values())
        return self._was_ready

    @property
    def failing(self) -> bool:
        """Whether a source could not be read when last tried."""
        return any(held.problem for held in self._held.values())

    def key(self, issuer: Issuer, key_id: str) -> VerificationKey | None:
        """Return the issuer's key of that `kid`, or None: then its source is read again soon, for calls to come."""
        held = self._held.get(_source(issuer))
        if held is None:
            return None
        now = self._clock()
        key = held.keys.get(key_id) if held.is_fresh(now) else None
        if key is None:
            held.due = min(held.due, held.tried_at + UNKNOWN_KEY_SECONDS)
        return key

    def change(self, issuers: Iterable[Issuer]) -> None:
        """Follow other issuers, all of it at once. What is known of sources that stay is kept.

        Raises:
            ConfigurationError: as the constructor does; nothing has changed then.
        """
        held: dict[Source, _Held] = {}
        problems: list[str] = []
        for number, issuer in enumerate(issuers):
            source = _source(issuer)
            if source not in held:
                held[source] = self._held.get(source) or _Held(source)
                problems += (f"access file: issuers.{number}.{problem}" for problem in self._begin(held[source]))
        if problems:
            raise ConfigurationError(problems)
        self._held = held
        self.version += 1

    async def keep_fresh(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Read what is due, for ever."""
        while True:
            await self.refresh()
            await sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Read every source that is due. What cannot be read is logged once and tried again soon."""
        now = self._clock()
        due = [held for held in self._held.values() if held.due <= now]
        if due:
            await asyncio.gather(*(self._refresh(held) for held in due))
            self.on_change()

    def _begin(self, held: _Held) -> Iterator[str]:
        """Read a file that is new here; yield what is wrong with a source, whatever may come from it."""
        yield from held.source.problems()
        if not held.keys and not held.source.is_url:
            try:
                self._take(held, key_sources.read(held.source))
            except (UnreadableError, ValueError) as error:
                yield f"keys: {held.source.location}: {error}; must be a readable JSON Web Key Set"

    async def _refresh(self, held: _Held) -> None:
        held.tried_at = self._clock()
        try:
            self._take(held, await asyncio.to_thread(key_sources.read, held.source, held.document.etag))
        except (UnreadableError, ValueError) as error:
            self._failed(held, str(error))

    def _take(self, held: _Held, document: Document | None) -> None:
        """Use what was read; None is what is known already. Raises ValueError if there is nothing to use."""
        if document is not None and document.content != held.document.content:
            key_set = read_key_set(document.content)
            held.keys = key_set.keys
            self.version += 1
            _log.info("keys read", extra=fields(source=held.source.location, count=len(key_set.keys)))
            if key_set.ignored:
                _log.warning("keys ignored", extra=fields(source=held.source.location, ignored=key_set.ignored))
        held.document = document or held.document
        held.seen_at = self._clock()
        held.due = held.seen_at + (self._jittered(URL_SECONDS) if held.source.is_url else FILE_SECONDS)
        if held.problem:
            held.problem = None
            _log.info("keys can be read again", extra=fields(source=held.source.location))

    def _failed(self, held: _Held, error: str) -> None:
        now = self._clock()
        held.due = now + self._jittered(RETRY_SECONDS)
        event = "keys not read: the old ones hold" if held.is_fresh(now) else "keys not read: tokens are refused"
        if held.problem != (event, error):
            held.problem = event, error
            _log.warning(event, extra=fields(source=held.source.location, error=error))

    def _jittered(self, seconds: float) -> float:
        return seconds * (0.8 + 0.2 * self._draw())


def _source(issuer: Issuer) -> Source:
    return Source(issuer.keys, issuer.keys_ca_file, issuer.keys_token_file)
