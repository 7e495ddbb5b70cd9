"""Steps 4 and 7: an action is tried only once its intent is durable, and answered only once its outcome is.

Whatever the end, an intent gets one outcome; refused calls are recorded too. What a record holds is decided in
`core.record`, how it becomes durable is the log's matter: `audit_log` or `audit_postgresql`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, Protocol, Self

from .audit_denials import Denials
from .core import record
from .core.command import MonitoringSession
from .core.failures import Failure, Reason
from .core.record import Entry, Result
from .core.work import Work
from .telemetry import fields

_log = logging.getLogger(__name__)

# A replica whose disk hangs recovers within this or not at all; another one takes the repetition (choice).
RETRY_SECONDS: Final = 1.0


class AuditError(Exception):
    """A record did not become durable, and perhaps none will. The text is for the log."""


class AuditLog(Protocol):
    """Makes records durable, in order.

    `on_failed` is called on the event loop when it can record no more actions, `on_recovered` when it can again.
    """

    on_failed: Callable[[], None]
    on_recovered: Callable[[], None]

    async def open(self) -> None:
        """Begin; settle what the last process left open. Raises ConfigurationError if it cannot work at all."""

    def append(self, record: Mapping[str, object]) -> "asyncio.Future[int]":
        """Queue a record; the future has its seq once it is durable, or AuditError. Raises AuditError at once, too."""

    async def close(self) -> None:
        """Make durable what is queued, and end."""


class AuditObserver(Protocol):
    """Is told how long records take."""

    def appended(self, stage: str, seconds: float) -> None:
        """Note that a record of this stage has become durable."""


class Audit:
    """What the steps record of their calls.

    Args:
        log: where to.
        code_of: the name of the gRPC code of a reason.
        timeout_seconds: the longest that a call waits for a record.
        clock: monotonic seconds, the one of deadlines.
        observer: is told how long records take; None for nobody.
    """

    def __init__(
        self,
        log: AuditLog,
        *,
        code_of: Callable[[Reason], str],
        timeout_seconds: float,
        clock: Callable[[], float],
        observer: AuditObserver | None = None,
    ) -> None:
        self._records = log
        self._observer = observer
        self.code_of = code_of
        self.clock = clock
        self._timeout_seconds = timeout_seconds
        self._denials = Denials(self._offer, code_of)
        self._overdue = 0

    def action(self, entry: Entry, work: Work) -> "Action":
        """Return the action of `work`; entering it records the intent, leaving it the outcome."""
        return Action(self, entry, work)

    def denied(self, entry: Entry, failure: Failure) -> None:
        """Record a call that was refused before its action. Waits for nothing; of a flood only the number is kept."""
        self._denials.add(entry, failure)

    async def repeated(self, entry: Entry, session: MonitoringSession, of: str) -> None:
        """Record a call that gets the session of an earlier identical action, whose request id is `of`.

        Raises:
            Failure: AUDIT_UNAVAILABLE; the caller has its session from a repetition.
        """
        future = self._append(record.repeated(entry, session, of))
        await self._wait(future, self._timeout_seconds)
        _seq_of(future)

    def policy(self, record_id: str, event: str, sha256: str) -> None:
        """Record that a policy file was taken into use (`policy.loaded`) or refused (`policy.rejected`)."""
        self.queue(record.policy(record_id, event=event, sha256=sha256))

    def flush(self) -> None:
        """Queue the denials that are still being counted; for the end, before the log is closed."""
        if lost := self._denials.flush():
            _log.error("audit denials lost", extra=fields(calls=lost))

    async def begin(self, entry: Entry, work: Work) -> int:
        """Return the seq of the durable intent. Raises what `Action` says."""
        began = self.clock()
        if self._overdue:
            raise _unavailable("an earlier record is overdue")
        future = self._append(record.intent(entry))
        close = partial(self._close_late, entry, began)
        try:
            await self._wait(future, min(self._timeout_seconds, work.deadline - began))
        except asyncio.CancelledError:
            future.add_done_callback(partial(close, Result.DROPPED, "CANCELLED"))
            raise
        if not future.done():
            self._note_overdue(future, self.clock() - began)
            future.add_done_callback(partial(close, Result.NOT_SENT, self.code_of(Reason.AUDIT_UNAVAILABLE)))
        return _seq_of(future)

    async def end(self, outcome: record.Record, *, wait: bool) -> None:
        """Record an outcome and, with `wait`, return only once it is durable. Raises nothing: the answer stands."""
        future = self.queue(outcome)
        if future is None or not wait:
            return
        await self._wait(future, self._timeout_seconds)
        if not future.done():
            _log.error("audit outcome overdue", extra=fields(audit_id=outcome["id"]))
            self._note_overdue(future, self._timeout_seconds)

    def queue(self, members: record.Record) -> "asyncio.Future[int] | None":
        """Append a record that no answer depends on; log what becomes of it if it is not written."""
        try:
            future = self._observed(members)
        except AuditError as error:
            _log_lost(members, error)
            return None
        future.add_done_callback(partial(_log_if_lost, members))
        return future

    def _offer(self, members: record.Record) -> bool:
        """Append a record that can wait; return whether the log has taken it. What becomes of it then is logged."""
        try:
            self._observed(members).add_done_callback(partial(_log_if_lost, members))
        except AuditError:
            return False
        return True

    def _append(self, members: record.Record) -> "asyncio.Future[int]":
        try:
            return self._observed(members)
        except AuditError as error:
            raise _unavailable(str(error)) from error

    def _observed(self, members: record.Record) -> "asyncio.Future[int]":
        future = self._records.append(members)
        if self._observer is not None:
            future.add_done_callback(partial(_tell, self._observer, str(members["stage"]), self.clock, self.clock()))
        return future

    @staticmethod
    async def _wait(future: "asyncio.Future[int]", seconds: float) -> None:
        """Wait until the future is done, but not longer; it goes on if this is cancelled: its record does, too.

        By hand, because asyncio.wait_for and shield cost 20 µs (measured), twice a call.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        release = partial(_release, waiter)
        future.add_done_callback(release)
        timer = loop.call_later(max(0.0, seconds), release, future)
        try:
            await waiter
        finally:
            timer.cancel()

    def _close_late(self, entry: Entry, began: float, result: Result, code: str, intent: "asyncio.Future[int]") -> None:
        """Give an intent that nobody waits for any more its outcome, if it has become durable after all."""
        if not intent.cancelled() and intent.exception() is None:
            duration_us = self.duration_us(began)
            self.queue(record.ended(entry, intent.result(), result, code, duration_us))

    def duration_us(self, began: float) -> int:
        """Return the whole microseconds since an instant of the clock."""
        return round((self.clock() - began) * 1e6)

    def _note_overdue(self, future: "asyncio.Future[int]", waited_seconds: float) -> None:
        """Refuse further actions at once while a record is overdue: each would wait as long for nothing."""
        if waited_seconds < self._timeout_seconds:
            return  # it was the call's own deadline that passed
        self._overdue += 1
        future.add_done_callback(self._not_overdue)
        if self._overdue == 1:
            _log.error("audit overdue", extra=fields(timeout_seconds=self._timeout_seconds))
            self._records.on_failed()

    def _not_overdue(self, future: "asyncio.Future[int]") -> None:
        self._overdue -= 1
        if not self._overdue and not future.cancelled() and future.exception() is None:
            self._records.on_recovered()


class Action(AbstractAsyncContextManager["Action"]):
    """One action, from its durable intent to its outcome.

    Entering it raises Failure AUDIT_UNAVAILABLE if the intent is not durable in time: nothing may be sent then. Leaving
    it waits until the outcome is durable, as long as the time-out says, but not if the work was cancelled.
    """

    __slots__ = ("_audit", "_began", "_entry", "_failure", "_intent_seq", "_session", "_work")

    def __init__(self, audit: Audit, entry: Entry, work: Work) -> None:
        self._audit = audit
        self._entry = entry
        self._work = work
        self._session: MonitoringSession | None = None
        self._failure: Failure | None = None
        self._intent_seq = 0
        self._began = 0.0

    async def __aenter__(self) -> Self:
        self._began = self._audit.clock()
        self._intent_seq = await self._audit.begin(self._entry, self._work)
        self._entry.begun = True
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        await self._audit.end(self._outcome(error), wait=not isinstance(error, asyncio.CancelledError))

    def succeeded(self, session: MonitoringSession) -> None:
        """Note that Connect has started this session."""
        self._session = session
        self._work.succeeded = True

    def failed(self, failure: Failure) -> None:
        """Note how it failed, while something is still done about it: who leaves meanwhile does not change that."""
        self._failure = failure

    def _outcome(self, error: BaseException | None) -> record.Record:
        entry, seq, work = self._entry, self._intent_seq, self._work
        duration_us = self._audit.duration_us(self._began)
        if self._session is not None:
            return record.succeeded(entry, seq, self._session, duration_us)
        failure = error if isinstance(error, Failure) else self._failure
        if failure is not None:
            code = self._audit.code_of(failure.reason)
            return record.failed(entry, seq, failure, sent=work.sent, code=code, duration_us=duration_us)
        if isinstance(error, asyncio.CancelledError):
            result = Result.UNKNOWN if work.unknown else Result.DROPPED
            return record.ended(entry, seq, result, "CANCELLED", duration_us)
        code = self._audit.code_of(Reason.INTERNAL)
        return record.ended(entry, seq, Result.UNKNOWN if work.unknown else Result.NOT_SENT, code, duration_us)


def _tell(
    observer: AuditObserver, stage: str, clock: Callable[[], float], began: float, future: "asyncio.Future[int]"
) -> None:
    if not future.cancelled() and future.exception() is None:
        observer.appended(stage, clock() - began)


def _release(waiter: "asyncio.Future[None]", _: object) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _seq_of(future: "asyncio.Future[int]") -> int:
    """Return the seq of a durable record, or raise the refusal."""
    if not future.done():
        raise _unavailable("the record is not durable in time")
    try:
        return future.result()
    except AuditError as error:
        raise _unavailable(str(error)) from error


def _unavailable(why: str) -> Failure:
    return Failure(Reason.AUDIT_UNAVAILABLE, retry_after_seconds=RETRY_SECONDS, log_text=why)


def _log_if_lost(members: record.Record, future: "asyncio.Future[int]") -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        _log_lost(members, error)


def _log_lost(members: record.Record, error: BaseException) -> None:
    _log.error("audit record lost", extra=fields(audit_id=members["id"], stage=members["stage"], error=str(error)))
