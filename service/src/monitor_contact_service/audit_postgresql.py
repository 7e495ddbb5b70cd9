"""The audit in PostgreSQL: takes records on the event loop and commits all that wait at once, in one transaction.

Each process writes a chain of its own, like a file of its own. When the database is lost, actions are refused until it
is back; what was under way is then found there or written again, never twice. SQL is the matter of `audit_database`.
"""

import asyncio
import logging
import math
import os
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from .audit import AuditError
from .audit_database import AuditSession, DatabaseFaultError
from .audit_unsettled import NotOursError, Seq, Unsettled
from .audit_writer import Checkpoints
from .core import record
from .core.retry import Backoff
from .settings import ConfigurationError
from .telemetry import fields
from .variables import variable

_log = logging.getLogger(__name__)

# Bounds the transaction: 1,000 records take 25 ms (measured).
BATCH_RECORDS: Final = 1_000
# Outcomes and refusals of an outage wait in memory, 1 to 2 KB each (choice). Half of the room is the outcomes' alone: a
# refusal that is not taken is counted, an outcome would be lost.
MAX_WAITING: Final = 20_000
MAX_OTHERS_WAITING: Final = MAX_WAITING // 2
# An idle session that has died is noticed this soon (choice).
PING_SECONDS: Final = 2.0
# A writer without a session for this long is taken for dead: longer than others need to come back (choice).
RECOVERY_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 5.0
_BACKOFF: Final = Backoff(base_seconds=0.1, cap_seconds=2.0)
# A call waits for these before it acts or answers; while the database is lost it would wait in vain.
_AWAITED: Final = frozenset({"intent", "repeated"})


def _nothing() -> None:
    pass


def _utc_now() -> datetime:
    return datetime.now(UTC)


class PostgresqlLog:
    """An `audit.AuditLog` in a PostgreSQL database.

    Args:
        url: postgresql://…, as libpq reads it; may hold a password.
        checkpoints: how often they are written, and signed by what.
        publish: gets each checkpoint's line once it is durable: standard output, for example.
        utc_now: the time of records.
        clock: monotonic seconds.
        random_bytes: so many random bytes.
        draw: uniform in [0, 1), for the waits between attempts to connect.
        recovery_seconds: how long a writer must be without a session until its open intents are closed.
    """

    def __init__(
        self,
        url: str,
        *,
        checkpoints: Checkpoints,
        publish: Callable[[str], None],
        utc_now: Callable[[], datetime] = _utc_now,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = os.urandom,
        draw: Callable[[], float] = random.random,
        recovery_seconds: float = RECOVERY_SECONDS,
    ) -> None:
        self.on_failed: Callable[[], None] = _nothing
        self.on_recovered: Callable[[], None] = _nothing
        self._url = url
        self._publish = publish
        self._clock = clock
        self._draw = draw
        self._recovery_seconds = recovery_seconds
        self._chain = Unsettled(checkpoints, utc_now=utc_now, clock=clock, random_bytes=random_bytes)
        self._queue: deque[tuple[Mapping[str, object], Seq]] = deque()
        self._wake = asyncio.Event()
        self._session: AuditSession | None = None
        self._lost = ""  # why there is no session
        self._failure = ""  # why nothing more is written
        self._close_by = math.inf
        self._recover_at = 0.0
        self._gone: set[str] = set()  # chains that had no writer at the last look

    @property
    def chain(self) -> str:
        """The name of this process's chain, as in its records."""
        return self._chain.name

    async def open(self) -> None:
        """Begin the chain. If the database cannot be reached, `on_failed` is called and it is tried on.

        Raises:
            ConfigurationError: the database was reached, and refuses for a reason that does not pass by itself.
        """
        try:
            await self._begin_session()
        except DatabaseFaultError as fault:
            if fault.remedy:
                await self._end_session()
                raise ConfigurationError([f"{variable('audit')}: {fault}; {fault.remedy}"]) from fault
            await self._lose(fault)
        self._worker = asyncio.create_task(self._work())

    def append(self, record: Mapping[str, object]) -> Seq:
        """Queue a record; the future has its seq once it is durable.

        Raises:
            AuditError: nothing is written any more; or the database is lost, and the record is one that calls wait for.
        """
        if self._failure:
            raise AuditError(self._failure)
        if self._lost and record["stage"] in _AWAITED:
            raise AuditError(self._lost)
        room = MAX_WAITING if record["stage"] == "outcome" else MAX_OTHERS_WAITING
        if len(self._queue) >= room:
            raise AuditError(f"{room} records wait already")
        future: Seq = asyncio.get_running_loop().create_future()
        self._queue.append((record, future))
        self._wake.set()
        return future

    async def close(self) -> None:
        """Commit what is queued and a last checkpoint, and end; after 5 s the database is given up."""
        self._failure = self._failure or "the audit is closed"
        self._close_by = self._clock() + CLOSE_SECONDS
        self._wake.set()
        done, _ = await asyncio.wait({self._worker}, timeout=CLOSE_SECONDS)
        if not done:
            _log.error("audit not closed", extra=fields(waited_seconds=CLOSE_SECONDS))
            await self._give_up()
        self._fail_waiting()

    async def _give_up(self) -> None:
        """End the worker; a call of psycopg is ended by cutting the line, see `AuditSession.cut`."""
        self._close_by = self._clock()
        if self._session is not None:
            self._session.cut()
        else:
            self._worker.cancel()
        await asyncio.wait({self._worker})

    async def _work(self) -> None:
        """Write until the end; begin the session again whenever it is lost."""
        attempt = 0
        while not self._is_over:
            try:
                if self._session is None:
                    attempt += 1
                    await asyncio.sleep(_BACKOFF.wait_seconds(attempt, self._draw()))
                    await self._begin_session()
                    attempt = 0
                else:
                    await self._write_next(self._session)
            except DatabaseFaultError as fault:
                await self._lose(fault)
            except NotOursError as error:
                await self._break(str(error))
                return
        await self._end_session()

    @property
    def _is_closing(self) -> bool:
        return self._close_by < math.inf

    @property
    def _is_over(self) -> bool:
        written = not self._queue and not self._chain.lines and not self._chain.since_checkpoint
        return self._is_closing and (written or self._clock() >= self._close_by)

    async def _begin_session(self) -> None:
        """Begin a session, find out how far the last one came, and write the rest, or else a checkpoint.

        What was found counts as durable only after a commit of this session: one that ended while it waited for a
        standby leaves records that only this server has.
        """
        session = await AuditSession.begin(self._url, self._chain.name)
        self._session = session
        self._chain.found(await session.last_seq())
        if not self._chain.unwritten()[1]:
            self._chain.add_checkpoint()
        await self._commit(session)
        self._gone = set()
        self._recover_at = self._clock()
        if self._lost:
            self._lost = ""
            _log.info("audit database is back")
            self.on_recovered()

    async def _write_next(self, session: AuditSession) -> None:
        """Wait until there is something to do, and do it."""
        await self._wait_for_records()
        for _ in range(min(len(self._queue), BATCH_RECORDS)):
            self._chain.add(*self._queue.popleft())
        if self._clock() >= self._recover_at:
            await self._recover(session)
        if self._chain.seconds_to_checkpoint() == 0 or (self._is_closing and self._chain.since_checkpoint):
            self._chain.add_checkpoint()
        if self._chain.lines:
            await self._commit(session)
        else:
            await session.ping()

    async def _wait_for_records(self) -> None:
        """Return when there are some, or after `PING_SECONDS` at most, or when something else is due."""
        if self._queue or self._is_closing:
            return
        due_seconds = min(self._chain.seconds_to_checkpoint(), self._recover_at - self._clock(), PING_SECONDS)
        self._wake.clear()
        timer = asyncio.get_running_loop().call_later(max(0.0, due_seconds), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _commit(self, session: AuditSession) -> None:
        """Make durable what is not known to be, and tell who waits for it."""
        first_seq, lines = self._chain.unwritten()
        await session.insert(first_seq, lines)
        for line in self._chain.settle():
            if line.future is not None and not line.future.done():
                line.future.set_result(line.seq)
            if line.is_checkpoint:
                self._tell_published(line.text)

    async def _recover(self, session: AuditSession) -> None:
        """Close the intents of writers that were gone at the last look and still are; after a while, look again."""
        orphans = await session.orphans()
        for orphan in orphans:
            if orphan.chain in self._gone:
                self._chain.add(record.recovered(orphan.id, orphan.seq) | {"of_chain": orphan.chain})
        self._gone = {orphan.chain for orphan in orphans}
        self._recover_at = self._clock() + self._recovery_seconds

    async def _lose(self, fault: DatabaseFaultError) -> None:
        await self._end_session()
        if not self._lost:
            self._lost = f"the database is lost: {fault}"
            _log.error("audit database lost", extra=fields(error=str(fault)))
            self.on_failed()

    async def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _break(self, why: str) -> None:
        """End for good: only a new process, with a new chain, can go on."""
        self._failure = why
        await self._lose(DatabaseFaultError(why))
        _log.critical("audit failed", extra=fields(error=why))
        self._fail_waiting()

    def _fail_waiting(self) -> None:
        futures = [line.future for line in self._chain.lines] + [future for _, future in self._queue]
        self._chain.lines.clear()
        self._queue.clear()
        for future in futures:
            if future is not None and not future.done():
                future.set_exception(AuditError(self._failure))

    def _tell_published(self, line: str) -> None:
        """Repeat a checkpoint where they are published; the audit itself does not depend on it."""
        try:
            self._publish(line)
        except (OSError, ValueError) as error:
            _log.warning("checkpoint not published", extra=fields(error=str(error)))
