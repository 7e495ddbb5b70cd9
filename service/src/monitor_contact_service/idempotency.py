"""Makes identical calls one action: joins those that run at the same time, answers repetitions from memory.

Runs each action as a task of its own, so that it outlives the caller that began it where that matters; what the action
does is the handler's. What counts as identical is decided in `core.idempotency`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .core.command import MonitorCommand, MonitoringSession
from .core.failures import Failure
from .core.idempotency import Key, Successes, ran_out, require_room, require_same
from .core.work import Work

_log = logging.getLogger(__name__)

# How long after its own deadline a call is answered while the work goes on for others: the work's own answer comes
# first where both are due, and half of the reply margin is left to send it.
GRACE_SECONDS = 0.01

Perform = Callable[[MonitorCommand, Work], Coroutine[Any, Any, MonitoringSession]]
_Waiter = asyncio.Future[MonitoringSession]


@dataclass(slots=True, eq=False)
class _Flight:
    """Work that is being done, and who waits for it.

    `waiters` holds each one's deadline. A single waiter has no timer, because the work keeps its deadline; with the
    second one, every waiter gets one.
    """

    key: Key
    command: MonitorCommand
    work: Work
    task: asyncio.Task[MonitoringSession]
    waiters: dict[_Waiter, float] = field(default_factory=dict)
    timers: dict[_Waiter, asyncio.TimerHandle] = field(default_factory=dict)


class Idempotency:
    """The calls under way in this process, and what it remembers.

    Args:
        clock: monotonic seconds.
        successes: what is remembered; by default ten minutes and 10,000 entries.
    """

    def __init__(self, *, clock: Callable[[], float], successes: Successes | None = None) -> None:
        self._clock = clock
        self._successes = Successes() if successes is None else successes
        self._flights: dict[Key, _Flight] = {}  # those that can be joined
        self._tasks: set[asyncio.Task[MonitoringSession]] = set()  # all; the event loop itself holds tasks weakly

    async def once(self, caller: str, command: MonitorCommand, deadline: float, perform: Perform) -> MonitoringSession:
        """Return the session of this action, from memory, from the same call under way, or from `perform`.

        Args:
            caller: the authenticated id.
            command: with an empty client_token it is an action of its own: not joined, not remembered.
            deadline: of this call, monotonic seconds.
            perform: does the work until `work.deadline`. It is cancelled if everybody leaves, unless it
                `must_be_finished`.

        Raises:
            Failure: IDEMPOTENCY_MISMATCH at once if the client_token is known with other fields, OVERLOADED if too many
                wait for the same; DEADLINE_TOO_SHORT if the deadline passes while the work goes on for others; else
                what `perform` raised, a copy for each call.
            RuntimeError: `perform` was cancelled by something else than its callers, which is a bug.
        """
        key = (caller, command.client_token)
        if command.client_token:
            success = self._successes.recall(key, self._clock())
            if success is not None:
                require_same(success.command, command)
                return success.session
        flight = self._flights.get(key)
        if flight is None:
            flight = self._start(key, command, deadline, perform)
            waiter = _wait(flight, deadline)
        else:
            require_same(flight.command, command)
            require_room(len(flight.waiters))
            waiter = self._join(flight, deadline)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._leave(flight, waiter)
            raise
        finally:
            del waiter  # a failure's traceback holds this frame; a frame that held the failure would be a cycle

    async def finish(self) -> None:
        """Wait until no work is left, abandoned work included; new calls meanwhile are waited for too."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, key: Key, command: MonitorCommand, deadline: float, perform: Perform) -> _Flight:
        work = Work(deadline)
        task = asyncio.get_running_loop().create_task(perform(command, work))
        flight = _Flight(key, command, work, task)
        self._tasks.add(task)
        if command.client_token:
            self._flights[key] = flight
        task.add_done_callback(partial(self._end, flight))
        return flight

    def _join(self, flight: _Flight, deadline: float) -> _Waiter:
        """Wait for work that others have begun, also for work that all of them have abandoned."""
        flight.work.abandoned = False
        flight.work.deadline = max(deadline, flight.work.deadline) if flight.waiters else deadline
        if not flight.timers:
            for first, first_deadline in flight.waiters.items():
                self._set_timer(flight, first, first_deadline)
        waiter = _wait(flight, deadline)
        self._set_timer(flight, waiter, deadline)
        return waiter

    def _set_timer(self, flight: _Flight, waiter: _Waiter, deadline: float) -> None:
        delay = deadline + GRACE_SECONDS - self._clock()
        flight.timers[waiter] = asyncio.get_running_loop().call_later(delay, self._run_out, flight, waiter)

    def _run_out(self, flight: _Flight, waiter: _Waiter) -> None:
        if not waiter.done():
            waiter.set_exception(ran_out(flight.work))
        self._leave(flight, waiter)

    def _leave(self, flight: _Flight, waiter: _Waiter) -> None:
        deadline = flight.waiters.pop(waiter, None)
        if deadline is None:
            return  # the work has ended in the same moment
        if waiter in flight.timers:
            flight.timers.pop(waiter).cancel()
        if flight.waiters:
            if deadline == flight.work.deadline:
                flight.work.deadline = max(flight.waiters.values())
        elif flight.work.must_be_finished:
            flight.work.abandoned = True  # its success has to be remembered
        else:
            self._forget(flight)  # at once: a new call must not join what is being cancelled
            flight.task.cancel()

    def _end(self, flight: _Flight, task: asyncio.Task[MonitoringSession]) -> None:
        """Give everybody who waits the result. Runs as the task's callback, so that the result is always fetched."""
        self._tasks.discard(task)
        self._forget(flight)
        for timer in flight.timers.values():
            timer.cancel()
        waiting = [waiter for waiter in flight.waiters if not waiter.done()]
        flight.timers.clear()
        flight.waiters.clear()
        error = _error(task)
        if error is None:
            session = task.result()
            if flight.command.client_token:
                self._successes.remember(flight.key, flight.command, session, self._clock())
            for waiter in waiting:
                waiter.set_result(session)
            return
        for waiter in waiting:
            waiter.set_exception(error.copy() if isinstance(error, Failure) else error)
        if not waiting and not task.cancelled() and not isinstance(error, Failure):
            _log.error("unexpected exception in abandoned work", exc_info=error)

    def _forget(self, flight: _Flight) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]


def _wait(flight: _Flight, deadline: float) -> _Waiter:
    waiter: _Waiter = asyncio.get_running_loop().create_future()
    flight.waiters[waiter] = deadline
    return waiter


def _error(task: asyncio.Task[MonitoringSession]) -> BaseException | None:
    """Return what the work raised. A cancellation while somebody waits is a bug: it must not look like theirs."""
    try:
        return task.exception()
    except asyncio.CancelledError as cancelled:
        error = RuntimeError("the work was cancelled while a caller waited for it")
        error.__cause__ = cancelled
        return error
