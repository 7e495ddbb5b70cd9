"""One quota for several replicas: a token is a slot reserved in Redis; without it, each keeps to its safe share.

A replica holds one reservation at most and decides who uses it when its time has come, so a call that leaves costs
nothing, and slots go round robin between busy replicas. What Redis computes is the matter of `reservations`, how it is
reached of `redis_script`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Protocol, Self

from .core.pacing import Pacer, Quota
from .reservations import TIMEOUT_SECONDS, Answer, Command, Reservations, ServerFaultError
from .telemetry import fields

_log = logging.getLogger(__name__)

# How often a lost Redis is tried.
RETRY_SECONDS: Final = 1.0
# A Redis that comes back is seen by all replicas within one retry. Until then some still use their share, so it gives
# no slots. Costs two requests at 2/s; without it, the sum of both could reach nearly twice the quota.
SETTLE_SECONDS: Final = RETRY_SECONDS + 2 * TIMEOUT_SECONDS
# How late a slot may be used, as a part of the time between two: the bucket then holds half a token less than thought,
# and one is kept back (core.pacing). A slot that nobody used in time is forgotten: only a replica where nothing waits
# any more has such a slot, and to give it back would cost one more command for each.
LATE_PART: Final = 0.5


class ScriptServer(Protocol):
    """Runs the script of `reservations`."""

    async def run(self, command: Command) -> Answer:
        """Return what the script said. Raises ServerFaultError if that is not known."""

    async def close(self) -> None:
        """Close the connections."""


class SharedQuota:
    """The tokens of one replica, out of a quota that several share; a context manager around its use.

    Entering it asks Redis once, so that the log tells at the start whether the quota is shared. If Redis does not do
    its work, this replica goes on at `quota.share(replicas)` at once, and tries Redis again each second.

    `shared` tells which of the two holds; `on_shared_change` is called when it has changed.

    Args:
        server: runs the script; closed at the end.
        scope: the key in Redis; see `quota_url.quota_scope`.
        quota: what Connect allows to all replicas together.
        replicas: the most of them that ever run at the same time.
        clock: monotonic seconds.
        sleep: waits between two tries of a lost Redis.
    """

    def __init__(
        self,
        server: ScriptServer,
        *,
        scope: str,
        quota: Quota,
        replicas: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._server = server
        self._reservations = Reservations(scope, quota, replicas)
        self._clock = clock
        self._sleep = sleep
        # Shared: what Redis last said, for estimates. Lost: the pacer of this replica's share.
        self._pacer = Pacer(quota, clock())
        self._slot: float | None = None  # when the reserved slot comes
        self._taken: float | None = None  # the slot used last
        self._ask_at = clock()  # slots are too far ahead before this
        self._wanted = False
        self._hold_to_report: float | None = None
        self._talk: asyncio.Task[None] | None = None
        self.shared = True
        self.on_change: Callable[[], None] = _nobody_listens
        self.on_shared_change: Callable[[], None] = _nobody_listens

    async def __aenter__(self) -> Self:
        await self._send(self._reservations.join())
        if not self.shared:
            self._start_talk()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.wait([self._talk])
        await self._server.close()

    def wait_seconds(self) -> float:
        """Return the time until a token may be taken, or until it is worth asking again; infinity while Redis is asked.

        Asked only while something waits: it reserves the next slot.
        """
        now = self._clock()
        if not self.shared:
            return self._pacer.wait_seconds(now)
        if self._slot is not None and now > self._slot + LATE_PART / self._pacer.rate(now):
            self._slot = None
        if self._slot is not None:
            return max(0.0, self._slot - now)
        if self._ask_at > now:
            return self._ask_at - now
        self._wanted = True
        self._start_talk()
        return float("inf")

    def start_seconds(self, ahead: int) -> float:
        """Return the time until the token after `ahead` others of this replica, at the full pace of the quota."""
        now = self._clock()
        if self._slot is None:
            return self._pacer.start_seconds(ahead, now)
        return self._pacer.start_seconds(ahead - 1, now) if ahead else max(0.0, self._slot - now)

    def take(self) -> None:
        """Use the slot; the caller has just seen that `wait_seconds` is 0."""
        if self.shared:
            self._slot, self._taken = None, self._slot
        else:
            self._pacer.take(self._clock())

    def give_back(self) -> None:
        """Take back a token that was taken just now and not used."""
        if self.shared:
            self._slot, self._taken = self._taken, None
        else:
            self._pacer.give_back(self._clock())

    def throttled(self, hint_seconds: float | None) -> None:
        """Note a 429, for every replica, and how long Connect asks to wait (None if it does not).

        A slot that another replica has reserved already is still used: it hears of this at its next reservation.
        """
        now = self._clock()
        self._pacer.throttled(now, hint_seconds)
        if self.shared:
            self._slot = self._taken = None
            self._hold_to_report = self._pacer.hold_seconds(now)
            self._start_talk()

    @property
    def limit(self) -> float:
        """The configured quota of all replicas together, in requests per second."""
        return self._reservations.quota.rate

    def rate(self) -> float:
        """Return the present pace in requests per second, of all replicas or, if not shared, of this; only reads."""
        return self._pacer.rate(self._clock())

    def tokens(self) -> float:
        """Return how many tokens are left; if shared, Redis said so last and others may have taken some. Only reads."""
        return self._pacer.tokens(self._clock())

    def change(self, quota: Quota, replicas: int) -> None:
        """Follow a new configured quota from the next token on."""
        self._reservations.quota, self._reservations.replicas = quota, replicas
        self._pacer.change(quota if self.shared else quota.share(replicas), self._clock())
        self._ask_at = self._clock()
        self.on_change()

    def _start_talk(self) -> None:
        if self._talk is None or self._talk.done():
            self._talk = asyncio.get_running_loop().create_task(self._talk_to_redis())

    async def _talk_to_redis(self) -> None:
        """Send what there is to send, one command after the other; wait out the loss of Redis."""
        while True:
            if not self.shared:
                await self._come_back()
            elif self._hold_to_report is not None:
                hold, self._hold_to_report = self._hold_to_report, None
                await self._send(self._reservations.throttled(hold))
            elif self._wanted:
                await self._send(self._reservations.reserve())
                self._wanted = False
            else:
                return
            self.on_change()

    async def _send(self, command: Command) -> None:
        try:
            answer = await self._server.run(command)
        except ServerFaultError as error:
            self._lose(error)
        else:
            self._follow(answer)

    async def _come_back(self) -> None:
        answer = await self._first_answer()
        self._pacer = Pacer(self._reservations.quota, self._clock())
        self.shared = True
        self._follow(answer)
        _log.info("quota shared again", extra=fields(rate=self._reservations.quota.rate))
        self.on_shared_change()

    async def _first_answer(self) -> Answer:
        pause_seconds = 0.0
        while True:
            await self._sleep(RETRY_SECONDS)
            try:
                return await self._server.run(self._reservations.join(pause_seconds))
            except ServerFaultError:
                # No mere hiccup of this replica: the others have lost Redis too.
                pause_seconds = SETTLE_SECONDS

    def _follow(self, answer: Answer) -> None:
        if self._hold_to_report is not None:
            return  # the answer knows nothing of the 429 yet, and a slot may lie within the hold
        now = self._clock()
        # A token that has been there for a while is no longer the only one: the pacer counts on from its moment.
        since = now + min(0.0, answer.next_seconds)
        self._pacer.follow(since, wait_seconds=answer.next_seconds, rate=answer.rate, hold_seconds=answer.hold_seconds)
        self._ask_at = now + answer.ask_again_seconds
        if answer.granted:
            self._slot = now + answer.wait_seconds

    def _lose(self, error: ServerFaultError) -> None:
        now = self._clock()
        quota, replicas = self._reservations.quota, self._reservations.replicas
        rate, hold_seconds = self._pacer.rate(now) / replicas, self._pacer.hold_seconds(now)
        self._pacer = Pacer(quota.share(replicas), now)
        # No token at the start: the last slot may have been used just now.
        self._pacer.follow(now, wait_seconds=1 / rate, rate=rate, hold_seconds=hold_seconds)
        self._slot = self._taken = self._hold_to_report = None
        self.shared = False
        _log.warning(
            "quota not shared: Redis does not answer as it should, so this replica keeps to its share until it does",
            extra=fields(error=str(error), rate=quota.rate / replicas, replicas=replicas),
        )
        self.on_shared_change()


def _nobody_listens() -> None:
    pass
