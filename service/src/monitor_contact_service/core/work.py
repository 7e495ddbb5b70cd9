"""One piece of work that one or several identical calls wait for: its deadline and how far it has come. Plain state.

`idempotency` sets the deadline and `abandoned`, `attempts` sets `sending` and `unknown`, `audit` sets `succeeded`,
`admission` listens to `on_moved`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def _nobody_listens() -> None:
    pass


class Work:
    """What the steps between joining and Connect share about one action.

    Attributes:
        sent: True from the first attempt on.
        unknown: an attempt was begun, and Connect has not said what became of it: a session may have started.
        succeeded: a session has started; what is left is to write that down.
        abandoned: everybody left; the attempt on its way is finished and no further one is made.
        on_moved: called after the deadline has changed; `admission` sets it while the work waits in its queue.
    """

    __slots__ = ("_deadline", "_sending", "abandoned", "on_moved", "sent", "succeeded", "unknown")

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._sending = False
        self.sent = False
        self.unknown = False
        self.succeeded = False
        self.abandoned = False
        self.on_moved: Callable[[], None] = _nobody_listens

    @property
    def deadline(self) -> float:
        """The latest deadline of those who still wait, on the monotonic clock, seconds."""
        return self._deadline

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        if deadline != self._deadline:
            self._deadline = deadline
            self.on_moved()

    @property
    def sending(self) -> bool:
        """True while an attempt is on its way to Connect: it cannot be called back."""
        return self._sending

    @sending.setter
    def sending(self, sending: bool) -> None:
        self._sending = sending
        if sending:
            self.sent = self.unknown = True

    @property
    def must_be_finished(self) -> bool:
        """True while the work may take effect, or has and is not written down: even if nobody waits for it any more."""
        return self._sending or self.succeeded
