"""Decides whose turn it is: start-time fair queueing in rounds; leaves limits, time and expiry to its user.

Each caller has a queue, in order of deadline; what was throttled comes back to its head. Each item has a start tag:
where its caller's earlier services end, in virtual time, in which one service takes 1 / weight. Virtual time is cut
into rounds. Next comes, of all callers' heads, the one with the smallest (round of its start tag, deadline, arrival
number). With it its round has begun, and what arrives later starts in that round at the earliest: nobody saves up
credit by being idle. Before all rounds comes a head that is urgent, within the bounds of `RESCUE_QUEUE` and
`RESCUE_ROUNDS`.

What waits keeps its start tags whatever other callers do, so each item has a key that puts the whole queue into one
sorted list. Behind an item that came back to its head, a queue competes with the latest deadline up to each item: that
running maximum stands in the key, not the item's own deadline.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")

# Virtual time is counted in whole units, so that sums are exact. The least common multiple of 1 to 16, so that usual
# weights divide it.
SERVICE_UNITS = 720_720
# A round is what a caller of weight 1 may send in it. Simulated with 1, 4 and 8: 20 callers at 1.8/s in all, half with
# 2 s deadlines, of which .984, .990 and .993 are kept; a light caller beside one at 20/s waits 0.6, 1.4 and 2.5 s.
ROUND_LENGTH = 4
# So many callers' services of the present round are remembered, or a stream of ever new callers would fill the memory:
# alone they never end the round. Whoever is forgotten may start again in this round, after 1,024 others were served.
REMEMBERED_CALLERS = 1_024
# An urgent head is rescued only while its caller has at most so many waiting, and at most so many rounds before its
# turn. Simulated, 20 callers at 1.8/s in all with 10 s deadlines: .995 are kept without rescue, .999 with it. Without
# the bound of rounds, a caller that always keeps a few short deadlines waiting would take the whole quota.
RESCUE_QUEUE = 3
RESCUE_ROUNDS = 2


class _Key(NamedTuple):
    """The place of an item in the order of service; deadline and arrival are those of the running maximum."""

    round: int
    deadline: float
    arrival: int
    start: int


@dataclass(slots=True, eq=False)
class Ticket(Generic[Item]):
    """One item that waits, or waited, in a queue; `arrival`, `returned` and `key` are the queue's own."""

    caller: str
    deadline: float
    item: Item
    arrival: int
    returned: bool
    key: _Key = field(init=False)
    waiting: bool = True

    @property
    def rank(self) -> tuple[float, int]:
        """Place among its caller's items: first what came back, the last one first, then by deadline."""
        return (-math.inf, -self.arrival) if self.returned else (self.deadline, self.arrival)


_KEY = attrgetter("key")
_RANK = attrgetter("rank")
_URGENCY = attrgetter("deadline", "arrival")


class FairQueue(Generic[Item]):
    """The waiting items of all callers, in fair order. Adding and taking the next are O(log n) and one memmove.

    Adding an item before others of its caller, removing or moving one also places anew what the caller has behind it;
    after a removal that waits until somebody asks for the order, so that many callers may leave at once.

    Args:
        weights: share of each caller relative to the others, > 0; 1.0 for a caller that is not in it.
        round_length: services of a caller of weight 1 in a round, >= 1.
    """

    def __init__(self, *, weights: Mapping[str, float], round_length: int = ROUND_LENGTH) -> None:
        self._costs = _costs(weights)
        self._round_units = round_length * SERVICE_UNITS
        self._order: list[Ticket[Item]] = []
        self._queues: dict[str, list[Ticket[Item]]] = {}
        # The heads of the queues that are short enough for rescue, the most urgent first.
        self._heads: list[Ticket[Item]] = []
        # Whose items, from which position on, still have the places that they had before others were removed. Removing
        # each of 10,000 items of one caller took over 40 s when all behind it were placed anew each time (measured).
        self._outdated: dict[str, int] = {}
        self._round = 0
        # Where each caller's last service ended, if that is after the beginning of the round; longest ago first.
        self._finish: dict[str, int] = {}
        self._latest_finish = 0
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Ticket[Item]]:
        """Return all that wait now, in order of service without rescue; the queue may change meanwhile."""
        self._place_anew()
        return iter(self._order.copy())

    def waiting(self, caller: str) -> int:
        """Return how many items of this caller wait."""
        return len(self._queues.get(caller, ()))

    def ahead(self, caller: str, deadline: float) -> int:
        """Return how many would come out before an item that is pushed now, if nothing else arrives or is rescued."""
        queue = self._queues.get(caller, [])
        return self._ahead(caller, deadline, bisect_left(queue, (deadline, self._arrivals), key=_RANK))

    def ahead_at_head(self, caller: str, deadline: float) -> int:
        """Return the same for an item that is pushed to the front now."""
        return self._ahead(caller, deadline, 0)

    def push(self, caller: str, deadline: float, item: Item) -> Ticket[Item]:
        """Add an item to its caller's others; `deadline` on any clock, as long as it is always the same."""
        return self._push(caller, deadline, item, returned=False)

    def push_front(self, caller: str, deadline: float, item: Item) -> Ticket[Item]:
        """Add an item before its caller's others, which start one service later. What it cost before stays paid."""
        return self._push(caller, deadline, item, returned=True)

    def pop(self, urgent_before: float = -math.inf) -> Ticket[Item]:
        """Take out what comes next and charge its caller one service. Raises IndexError if nothing waits.

        Of the heads with a deadline before `urgent_before` that may be rescued, the one with the earliest comes first
        of all. It begins no round of its own: the round is that of the first in order, whether that is served or not.
        """
        self._place_anew()
        first = self._order[0]
        self._begin(first.key.round)
        ticket = self._to_rescue(urgent_before) or first
        self._charge(ticket)
        if ticket.returned:  # what waited for its later deadline competes by its own from now on
            self._leave(ticket)
        else:  # the others keep their places
            self._take_out(ticket, self._queues[ticket.caller], 0)
        self._left(ticket)
        return ticket

    def remove(self, ticket: Ticket[Item]) -> None:
        """Take out an item at no cost to its caller; nothing happens if it is out already."""
        if ticket.waiting:
            queue = self._queues[ticket.caller]
            position = bisect_left(queue, ticket.rank, key=_RANK)
            self._take_out(ticket, queue, position)
            self._outdated[ticket.caller] = min(position, self._outdated.get(ticket.caller, position))
            self._left(ticket)

    def move(self, ticket: Ticket[Item], deadline: float) -> None:
        """Give an item another deadline; nothing happens if it is out already."""
        if ticket.waiting:
            self._place_anew()
            self._leave(ticket)
            ticket.deadline = deadline
            self._enter(ticket)

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """Replace all weights; what was served keeps its cost, what waits gets its new place."""
        self._costs = _costs(weights)
        for queue in self._queues.values():
            self._replace(queue, 0, queue.copy())

    def _push(self, caller: str, deadline: float, item: Item, *, returned: bool) -> Ticket[Item]:
        self._place_anew()
        ticket = Ticket(caller, deadline, item, self._arrivals, returned)
        self._arrivals += 1
        self._enter(ticket)
        return ticket

    def _ahead(self, caller: str, deadline: float, position: int) -> int:
        self._place_anew()
        queue = self._queues.get(caller, [])
        key = self._key(caller, deadline, self._arrivals, queue[position - 1] if position else None)
        overtaken = bisect_left(queue, key, key=_KEY) - position  # its caller's own with earlier deadlines, at the head
        return self._place(key) - overtaken

    def _to_rescue(self, urgent_before: float) -> Ticket[Item] | None:
        for head in self._heads:
            if head.deadline >= urgent_before:
                break
            if head.key.round <= self._round + RESCUE_ROUNDS:
                return head
        return None

    def _place(self, key: _Key) -> int:
        return bisect_left(self._order, key, key=_KEY)

    def _key(self, caller: str, deadline: float, arrival: int, before: Ticket[Item] | None) -> _Key:
        """Return the key of an item that stands behind `before` in its caller's queue, or at its head."""
        if before is None:
            start = max(self._round * self._round_units, self._finish.get(caller, 0))
            return _Key(start // self._round_units, deadline, arrival, start)
        start = before.key.start + self._cost(caller)
        round_ = start // self._round_units
        if round_ == before.key.round:
            deadline, arrival = max((deadline, arrival), (before.key.deadline, before.key.arrival))
        return _Key(round_, deadline, arrival, start)

    def _enter(self, ticket: Ticket[Item]) -> None:
        queue = self._queues.setdefault(ticket.caller, [])
        position = bisect_left(queue, ticket.rank, key=_RANK)
        self._replace(queue, position, [ticket, *queue[position:]])

    def _leave(self, ticket: Ticket[Item]) -> None:
        queue = self._queues[ticket.caller]
        position = bisect_left(queue, ticket.rank, key=_RANK)
        self._replace(queue, position, queue[position + 1 :])

    def _take_out(self, ticket: Ticket[Item], queue: list[Ticket[Item]], position: int) -> None:
        """Take an item out of its queue, where it has this position, and of the order; all others stay in place."""
        self._unlist_head(queue)
        del self._order[self._place(ticket.key)], queue[position]
        self._list_head(queue)

    def _place_anew(self) -> None:
        """Let what stood behind removed items move up."""
        for caller, position in self._outdated.items():
            queue = self._queues[caller]
            self._replace(queue, position, queue[position:])
        self._outdated.clear()

    def _replace(self, queue: list[Ticket[Item]], position: int, tail: list[Ticket[Item]]) -> None:
        """Let `tail` stand in a queue from a position on, and in its places in the order."""
        self._unlist_head(queue)
        for ticket in queue[position:]:  # all out before the first goes in: an old and a new key may be equal
            del self._order[self._place(ticket.key)]
        queue[position:] = tail
        before = queue[position - 1] if position else None
        for ticket in tail:
            ticket.key = self._key(ticket.caller, ticket.deadline, ticket.arrival, before)
            insort(self._order, ticket, key=_KEY)
            before = ticket
        self._list_head(queue)

    def _unlist_head(self, queue: list[Ticket[Item]]) -> None:
        if 0 < len(queue) <= RESCUE_QUEUE:
            del self._heads[bisect_left(self._heads, _URGENCY(queue[0]), key=_URGENCY)]

    def _list_head(self, queue: list[Ticket[Item]]) -> None:
        if 0 < len(queue) <= RESCUE_QUEUE:
            insort(self._heads, queue[0], key=_URGENCY)

    def _cost(self, caller: str) -> int:
        return self._costs.get(caller, SERVICE_UNITS)

    def _charge(self, ticket: Ticket[Item]) -> None:
        finish = ticket.key.start + self._cost(ticket.caller)
        self._finish.pop(ticket.caller, None)  # to the end of the dict, where the latest stand
        self._finish[ticket.caller] = finish
        if len(self._finish) > REMEMBERED_CALLERS:
            del self._finish[next(iter(self._finish))]
        self._latest_finish = max(self._latest_finish, finish)

    def _left(self, ticket: Ticket[Item]) -> None:
        ticket.waiting = False
        if not self._queues[ticket.caller]:
            del self._queues[ticket.caller]
            self._outdated.pop(ticket.caller, None)
        if not self._order:
            self._begin(self._latest_finish // self._round_units)

    def _begin(self, round_: int) -> None:
        """Let a round begin, if it has not yet, and forget whoever owes nothing in it: as new, it starts there too."""
        if round_ == self._round:
            return
        self._round = round_
        beginning = round_ * self._round_units
        self._finish = {caller: finish for caller, finish in self._finish.items() if finish > beginning}


def _costs(weights: Mapping[str, float]) -> dict[str, int]:
    """Rounded up, so that nobody gets more than round length x weight (rounded up) in a round."""
    return {caller: math.ceil(SERVICE_UNITS / weight) for caller, weight in weights.items()}
