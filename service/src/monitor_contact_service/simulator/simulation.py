"""The simulation behind the socket: requests come in, answers and faults come out, and all of it can be read back.

Joins the stand-in with faults, waiting and the journal; knows asyncio, but no HTTP server (`server`). What a call gets
is decided in `standin`, what a fault makes of it in `faults`.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate

from . import answers
from .answers import Answer, Refusal
from .buckets import Quota
from .faults import UNANSWERED, Fault, FaultBook
from .journal import Journal, ReceivedCall
from .sessions import Session
from .signature import SignedRequest
from .standin import Call, Pending, StandIn, route
from .switches import Switches
from .world import World


class Simulation:
    """One simulated account: may be changed at any time, and remembers what happened. See `Simulator` for arguments."""

    def __init__(
        self,
        world: World,
        *,
        switches: Switches,
        quotas: Mapping[str, Quota],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        seed: int,
        log: Callable[[str], object] | None,
    ) -> None:
        self._initial = (world, switches, dict(quotas), seed)
        self._clock, self._sleep, self._log = clock, sleep, log
        self._acting: set[asyncio.Task[Answer | Refusal]] = set()
        self.reset()

    def reset(self) -> None:
        """Go back to the start: world, switches, quotas; no calls, sessions, tokens or faults."""
        world, switches, quotas, seed = self._initial
        self._standin = StandIn(world, switches, quotas, new_id=lambda: str(uuid.uuid4()))
        self._journal = Journal()
        self._faults = FaultBook(random.Random(seed).random)  # noqa: S311 - chance for tests, repeatable on purpose

    # ---- what it plays: may be changed at any time ----

    @property
    def world(self) -> World:
        """The world as it is now. Sessions outlast a change of it."""
        return self._standin.world

    @world.setter
    def world(self, world: World) -> None:
        self._standin.world = world

    @property
    def switches(self) -> Switches:
        """The switches in force."""
        return self._standin.switches

    @switches.setter
    def switches(self, switches: Switches) -> None:
        self._standin.switches = switches

    @property
    def quotas(self) -> Mapping[str, Quota]:
        """The quota in force for each API."""
        return self._standin.buckets.quotas

    def set_quota(self, api: str, quota: Quota) -> None:
        """Give an API another quota from now on. KeyError: there is no such API."""
        self._standin.buckets.change(api, quota, self._clock())

    @property
    def faults(self) -> FaultBook:
        """The faults in force, with how often each has struck."""
        return self._faults

    def inject(self, *faults: Fault) -> None:
        """Put faults behind those in force."""
        self._faults.add(faults)

    def clear_faults(self) -> None:
        """Take all faults away."""
        self._faults.clear()

    # ---- what happened ----

    def calls(self, api: str | None = None) -> list[ReceivedCall]:
        """Return the calls received, those refused and struck by faults included, oldest first."""
        return self._journal.calls(api)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many calls each API received; an API that received none may be absent."""
        return self._journal.counts

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The monitoring sessions that run, oldest first."""
        return tuple(self._standin.sessions)

    def end_session(self, session_id: str) -> None:
        """End a session, as the supervisor would. KeyError: there is none of this id."""
        self._standin.sessions.end(session_id)

    # ---- a call's way ----

    async def answer(self, request: SignedRequest) -> tuple[Answer, Fault | None]:
        """Return the answer to a request, with the fault by which it is to be spoiled on its way."""
        call = route(request)
        if call is None:
            return self._dress(answers.encode(answers.UNKNOWN_OPERATION)), None
        received = self._journal.note(call, self._clock())
        fault = self._faults.strike(call.api)
        answer = await self._answer(call, fault, received)
        if self._log:
            self._log(received.line())
        return answer, fault

    async def drop_calls_in_flight(self) -> None:
        """Cancel what has begun and waits to take effect."""
        for task in self._acting:
            task.cancel()
        await asyncio.gather(*self._acting, return_exceptions=True)

    async def _answer(self, call: Call, fault: Fault | None, received: ReceivedCall) -> Answer:
        if fault is None:
            return self._dress(self._note(await self._act(call), received))
        received.fault, right = fault.action, None
        if fault.acts:
            right = self._note(await self._act(call, fault), received)
        elif fault.delay_seconds:
            await self._sleep(fault.delay_seconds)
        answer = fault.spoil(call.request.target, right)
        received.status = None if fault.action in UNANSWERED else answer.status
        received.error = fault.error or received.error
        return answer if fault.action == "answer" else self._dress(answer, fault.skew_seconds)

    async def _act(self, call: Call, fault: Fault | None = None) -> Answer | Refusal:
        """Let the call be checked and take effect; the caller's leaving does not stop what has begun."""
        standin, delay = self._standin, self.switches.latency_seconds
        if fault is not None:
            delay += fault.delay_seconds
        begun = standin.begin(call, self._clock(), fault.skew_seconds if fault else 0.0)
        if not isinstance(begun, Pending):
            return begun
        if not delay:
            return standin.finish(begun, self._clock())
        task = asyncio.create_task(self._finish_later(standin, begun, delay))
        self._acting.add(task)
        task.add_done_callback(self._acting.discard)
        return await asyncio.shield(task)

    async def _finish_later(self, standin: StandIn, begun: Pending, delay: float) -> Answer | Refusal:
        await self._sleep(delay)
        return standin.finish(begun, self._clock())

    @staticmethod
    def _note(outcome: Answer | Refusal, received: ReceivedCall) -> Answer:
        received.status = outcome.status
        if isinstance(outcome, Refusal):
            received.error = outcome.error
            return answers.encode(outcome)
        return outcome

    def _dress(self, answer: Answer, skew_seconds: float = 0.0) -> Answer:
        """Add the headers that every answer of Connect has; what the answer says itself stands."""
        date = formatdate(self._clock() + skew_seconds, usegmt=True)
        return Answer(
            answer.status, {"x-amzn-RequestId": str(uuid.uuid4()), "Date": date, **answer.headers}, answer.body
        )
