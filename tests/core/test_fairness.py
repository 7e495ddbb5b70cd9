"""`core.fairness`: whose turn it is, against a reference that executes the rules literally."""

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.fairness import (
    REMEMBERED_CALLERS,
    RESCUE_QUEUE,
    RESCUE_ROUNDS,
    FairQueue,
    Ticket,
)

CALLERS = ("a", "b", "c", "d")
WEIGHTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)

# Few different deadlines, so that equal ones are common.
_deadlines = st.integers(min_value=0, max_value=6).map(float)
_callers = st.sampled_from(CALLERS)
_weights = st.dictionaries(_callers, st.sampled_from(WEIGHTS))
_rounds = st.sampled_from([1, 2, 4])
_pushes = st.lists(st.tuples(_callers, _deadlines), max_size=40)


@dataclass(eq=False)
class _Waiting:
    deadline: float
    arrival: int
    item: int
    returned: bool


class _Literal:
    """The rules, one by one: virtual time V, per caller F (end of its last service) and S (start tag of its head)."""

    def __init__(self, weights: Mapping[str, float], round_length: int) -> None:
        self.weights = weights
        self.q = round_length
        self.v = Fraction(0)
        self.f: dict[str, Fraction] = {}
        self.s: dict[str, Fraction] = {}
        self.queues: dict[str, list[_Waiting]] = {}
        self.arrivals = 0

    def push(self, caller: str, deadline: float, item: int, *, front: bool = False) -> None:
        queue = self.queues.setdefault(caller, [])
        if not queue:
            self._start(caller)
        queue.append(_Waiting(deadline, self.arrivals, item, front))
        self.arrivals += 1

    def head(self, caller: str) -> _Waiting:
        returned = [waiting for waiting in self.queues[caller] if waiting.returned]
        if returned:
            return returned[-1]
        return min(self.queues[caller], key=lambda waiting: (waiting.deadline, waiting.arrival))

    def round(self, caller: str) -> int:
        return math.floor(self.s[caller] / self.q)

    def urgency(self, caller: str) -> tuple[float, int]:
        return (self.head(caller).deadline, self.head(caller).arrival)

    def pop(self, urgent_before: float) -> int:
        first = min(self.queues, key=lambda caller: (self.round(caller), self.urgency(caller)))
        rescued = [
            caller
            for caller, queue in self.queues.items()
            if self.head(caller).deadline < urgent_before
            and len(queue) <= RESCUE_QUEUE
            and self.round(caller) <= self.round(first) + RESCUE_ROUNDS
        ]
        self.v = max(self.v, self.s[first])
        caller = min(rescued, key=self.urgency) if rescued else first
        served = self.head(caller)
        self.queues[caller].remove(served)
        self.f[caller] = self.s[caller] + 1 / Fraction(self.weights.get(caller, 1.0))
        if self.queues[caller]:
            self._start(caller)
        self._left(caller)
        return served.item

    def remove(self, caller: str, item: int) -> None:
        self.queues[caller].remove(self._find(caller, item))
        self._left(caller)

    def move(self, caller: str, item: int, deadline: float) -> None:
        self._find(caller, item).deadline = deadline

    def _find(self, caller: str, item: int) -> _Waiting:
        return next(waiting for waiting in self.queues[caller] if waiting.item == item)

    def _start(self, caller: str) -> None:
        self.s[caller] = max(Fraction(self.v // self.q * self.q), self.f.get(caller, Fraction(0)))

    def _left(self, caller: str) -> None:
        if not self.queues[caller]:
            del self.queues[caller], self.s[caller]
        if not self.queues:
            self.v = max((self.v, *self.f.values()))
        beginning = self.v // self.q * self.q
        self.f = {c: finish for c, finish in self.f.items() if c in self.queues or finish > beginning}


class _Both:
    """A FairQueue and its reference, which get the same operations; items are numbers."""

    def __init__(self, weights: Mapping[str, float], round_length: int) -> None:
        self.queue: FairQueue[int] = FairQueue(weights=weights, round_length=round_length)
        self.literal = _Literal(weights, round_length)
        self.tickets: list[Ticket[int]] = []
        self.pushed = 0

    def apply(self, operation: str, caller: str, deadline: float, pick: int) -> None:
        if operation == "push":
            self.push(caller, deadline)
        elif operation == "push_front":
            self.push(caller, deadline, front=True)
        elif not self.tickets:
            return
        elif operation == "pop":
            self.pop(urgent_before=deadline)
        elif operation == "remove":
            ticket = self.tickets.pop(pick % len(self.tickets))
            self.queue.remove(ticket)
            self.literal.remove(ticket.caller, ticket.item)
        else:
            ticket = self.tickets[pick % len(self.tickets)]
            self.queue.move(ticket, deadline)
            self.literal.move(ticket.caller, ticket.item, deadline)

    def push(self, caller: str, deadline: float, *, front: bool = False) -> Ticket[int]:
        push = self.queue.push_front if front else self.queue.push
        ticket = push(caller, deadline, self.pushed)
        self.literal.push(caller, deadline, self.pushed, front=front)
        self.tickets.append(ticket)
        self.pushed += 1
        return ticket

    def pop(self, urgent_before: float = -math.inf) -> Ticket[int]:
        ticket = self.queue.pop(urgent_before)
        assert ticket.item == self.literal.pop(urgent_before)
        assert not ticket.waiting
        self.tickets.remove(ticket)
        return ticket

    def drain(self, urgent_before: float = -math.inf) -> list[Ticket[int]]:
        return [self.pop(urgent_before) for _ in range(len(self.queue))]


_operations = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "push", "push_front", "pop", "pop", "remove", "move"]),
        _callers,
        _deadlines,
        st.integers(min_value=0, max_value=100),
    ),
    max_size=60,
)
_both = st.builds(_Both, _weights, _rounds)


@settings(deadline=None, max_examples=400)
@given(both=_both, operations=_operations)
def test_the_order_is_that_of_the_rules(both: _Both, operations: list[tuple[str, str, float, int]]) -> None:
    """After any pushes, returns, removals, moves and pops: the order of the rules, nothing lost and nothing doubled."""
    for operation in operations:
        both.apply(*operation)
        assert len(both.queue) == len(both.tickets)
        for caller in CALLERS:
            assert both.queue.waiting(caller) == len(both.literal.queues.get(caller, ()))
    foreseen = list(both.queue)
    assert set(foreseen) == set(both.tickets)
    assert all(ticket.waiting for ticket in foreseen)
    assert both.drain() == foreseen
    assert len(both.queue) == 0


@settings(deadline=None, max_examples=200)
@given(both=_both, before=_operations, weights=_weights, after=_operations)
def test_new_weights_hold_for_what_waits_and_what_comes(
    both: _Both,
    before: list[tuple[str, str, float, int]],
    weights: dict[str, float],
    after: list[tuple[str, str, float, int]],
) -> None:
    """From the next service on, the order is that of the rules with the new weights; what was served stays paid."""
    for operation in before:
        both.apply(*operation)
    both.queue.reweigh(weights)
    both.literal.weights = weights
    for operation in after:
        both.apply(*operation)
    both.drain()


@settings(deadline=None, max_examples=400)
@given(both=_both, operations=_operations, caller=_callers, deadline=_deadlines, front=st.booleans())
def test_what_is_ahead_is_counted_exactly(
    both: _Both,
    operations: list[tuple[str, str, float, int]],
    caller: str,
    deadline: float,
    front: bool,  # noqa: FBT001 - drawn
) -> None:
    """As many come out before a new item as `ahead`, or `ahead_at_head` for a returning one, has said."""
    for operation in operations:
        both.apply(*operation)
    count = both.queue.ahead_at_head if front else both.queue.ahead
    ahead = count(caller, deadline)
    ticket = both.push(caller, deadline, front=front)
    assert both.drain().index(ticket) == ahead


@settings(deadline=None, max_examples=200)
@given(both=_both, operations=_operations, urgent_before=_deadlines)
def test_all_that_are_urgent_are_rescued_by_the_rules(
    both: _Both, operations: list[tuple[str, str, float, int]], urgent_before: float
) -> None:
    """To the last item, rescue takes whom the rules say, and nothing is lost or doubled."""
    for operation in operations:
        both.apply(*operation)
    waiting = set(both.tickets)
    assert set(both.drain(urgent_before)) == waiting
    assert not both.queue._heads


def test_a_callers_items_come_out_by_deadline() -> None:
    """A short deadline does not wait for the long ones that its caller sent before; of equal ones the older leads."""
    queue: FairQueue[str] = FairQueue(weights={})
    for item, deadline in (("late", 9.0), ("early", 1.0), ("also late", 9.0), ("between", 5.0)):
        queue.push("a", deadline, item)
    assert queue.ahead("a", 1.0) == 1
    assert queue.ahead("a", 9.0) == 4
    assert [queue.pop().item for _ in range(4)] == ["early", "between", "late", "also late"]


def test_a_new_deadline_is_a_new_place_among_the_callers_own() -> None:
    """What several callers wait for moves back when it may take longer, and forward when it must be sooner."""
    queue: FairQueue[str] = FairQueue(weights={})
    first, _, third = (queue.push("a", deadline, str(deadline)) for deadline in (1.0, 2.0, 3.0))
    queue.move(first, 9.0)
    queue.move(third, 0.0)
    assert [queue.pop().item for _ in range(3)] == ["3.0", "2.0", "1.0"]


def test_an_item_waits_for_the_later_deadline_of_what_came_back_before_it() -> None:
    """An early deadline behind a late one that came back is no better than the late one: it is not the head."""
    queue: FairQueue[str] = FairQueue(weights={})
    queue.push_front("a", 9.0, "late")
    queue.push("b", 5.0, "between")
    assert queue.ahead("a", 1.0) == 2
    queue.push("a", 1.0, "early")
    assert [queue.pop().item for _ in range(3)] == ["between", "late", "early"]


def test_the_last_to_come_back_is_the_first_of_its_caller() -> None:
    """Whatever their deadlines, and also when these change: several that come back stand before all others."""
    queue: FairQueue[str] = FairQueue(weights={})
    queue.push("a", 0.0, "waited")
    queue.push_front("a", 1.0, "back first")
    back_last = queue.push_front("a", 5.0, "back last")
    queue.move(back_last, 9.0)
    assert [queue.pop().item for _ in range(3)] == ["back last", "back first", "waited"]


def _behind(rounds: int, waiting: int) -> FairQueue[str]:
    """Return a queue in which the head of "a", deadline 1.0, is so many rounds of one service behind that of "b"."""
    queue: FairQueue[str] = FairQueue(weights={}, round_length=1)
    for _ in range(rounds):
        queue.push("a", 0.0, "before")
    queue.push("b", 9.0, "b")
    for _ in range(rounds):
        assert queue.pop(urgent_before=0.5).caller == "a"
    for _ in range(waiting):
        queue.push("a", 1.0, "a")
    return queue


def test_an_urgent_head_is_rescued() -> None:
    """It comes before a round that began earlier, if its deadline is before the horizon; not if it is just at it."""
    assert _behind(rounds=1, waiting=1).pop().caller == "b"
    assert _behind(rounds=1, waiting=1).pop(urgent_before=1.0).caller == "b"
    assert _behind(rounds=1, waiting=1).pop(urgent_before=1.1).caller == "a"


def test_who_has_more_than_three_waiting_is_not_rescued() -> None:
    """Rescue is for light callers: one whose queue is longer is late by its own doing."""
    assert _behind(rounds=1, waiting=RESCUE_QUEUE).pop(urgent_before=5.0).caller == "a"
    assert _behind(rounds=1, waiting=RESCUE_QUEUE + 1).pop(urgent_before=5.0).caller == "b"


def test_nobody_is_rescued_from_more_than_two_rounds_ahead() -> None:
    """The third service in advance is the last: then the caller waits until the others have had theirs."""
    assert _behind(rounds=RESCUE_ROUNDS, waiting=1).pop(urgent_before=5.0).caller == "a"
    queue = _behind(rounds=RESCUE_ROUNDS, waiting=2)
    assert [queue.pop(urgent_before=5.0).caller for _ in range(3)] == ["a", "b", "a"]


def test_of_several_urgent_heads_the_most_urgent_is_rescued() -> None:
    """By deadline, then by arrival; and not by round."""
    queue = _behind(rounds=2, waiting=1)
    for caller, deadline in (("c", 3.0), ("d", 1.0), ("e", 3.0)):
        queue.push(caller, deadline, caller)
    assert [queue.pop(urgent_before=5.0).caller for _ in range(5)] == ["a", "d", "c", "e", "b"]


def test_rescue_does_not_stop_the_rounds() -> None:
    """While all that wait are urgent, and so all are rescued, whoever comes new still has saved up nothing."""
    queue: FairQueue[None] = FairQueue(weights={})
    served = Counter[str]()
    for turn in range(1_000):
        if turn == 900:
            served.clear()
            for _ in range(100):
                queue.push("new", 2_000.0, None)
        for caller in ("a", "b"):
            while queue.waiting(caller) < RESCUE_QUEUE:
                queue.push(caller, float(turn), None)
        served[queue.pop(urgent_before=1_000.0).caller] += 1
    fair = 100 / 3
    assert all(abs(count - fair) <= _lead(1.0, 4) for count in served.values())


def test_a_returning_item_is_its_callers_next_and_pays_again() -> None:
    """With a round of one service: the returned item starts in its caller's next round, before the caller's others."""
    queue: FairQueue[str] = FairQueue(weights={}, round_length=1)
    for item in ("a1", "a2"):
        queue.push("a", 0.0, item)
    for item in ("b1", "b2", "b3"):
        queue.push("b", 1.0, item)
    throttled = queue.pop()
    queue.push_front(throttled.caller, throttled.deadline, throttled.item)
    assert [queue.pop().item for _ in range(5)] == ["b1", "a1", "b2", "a2", "b3"]


def test_nothing_comes_out_of_an_empty_queue() -> None:
    """IndexError instead of a next, urgent or not."""
    queue: FairQueue[str] = FairQueue(weights={})
    assert list(queue) == []
    with pytest.raises(IndexError):
        queue.pop(urgent_before=math.inf)


def test_what_is_out_already_is_neither_removed_nor_moved() -> None:
    """A caller that leaves just after its turn changes nothing for the others."""
    queue: FairQueue[str] = FairQueue(weights={})
    out = queue.push("a", 1.0, "out")
    queue.pop()
    waiting = queue.push("a", 1.0, "waiting")
    queue.remove(out)
    queue.move(out, 5.0)
    assert out.deadline == 1.0
    assert list(queue) == [waiting]


def test_the_queue_may_change_while_it_is_walked_through() -> None:
    """Whoever drops all that wait walks over a copy."""
    queue: FairQueue[int] = FairQueue(weights={})
    for number in range(10):
        queue.push(CALLERS[number % 4], 1.0, number)
    for ticket in queue:
        queue.remove(ticket)
    assert len(queue) == 0


def _state(queue: FairQueue[int]) -> tuple[object, ...]:
    """Return all that decides over future order, and the order of what waits."""
    keys = [(ticket.item, ticket.key) for ticket in queue]
    heads = [ticket.item for ticket in queue._heads]
    return (queue._round, queue._finish, queue._latest_finish, set(queue._queues), keys, heads)


@settings(deadline=None, max_examples=200)
@given(operations=_operations, weights=_weights, round_length=_rounds, ghosts=_pushes, data=st.data())
def test_a_cancelled_item_costs_nothing(
    operations: list[tuple[str, str, float, int]],
    weights: dict[str, float],
    round_length: int,
    ghosts: list[tuple[str, float]],
    data: st.DataObject,
) -> None:
    """Items of any callers that are pushed and removed, in any order, leave the queue as if they had never come."""
    both = _Both(weights, round_length)
    for operation in operations:
        both.apply(*operation)
    before = _state(both.queue)
    tickets = [both.queue.push(caller, deadline, -1) for caller, deadline in ghosts]
    for ticket in data.draw(st.permutations(tickets)):
        both.queue.remove(ticket)
        assert not ticket.waiting
    assert _state(both.queue) == before
    both.drain()


@settings(deadline=None, max_examples=200)
@given(
    both=_both,
    operations=_operations,
    ghosts=st.lists(st.tuples(st.integers(min_value=0, max_value=60), _deadlines), max_size=20),
)
def test_a_caller_that_only_cancels_is_never_noticed(
    both: _Both, operations: list[tuple[str, str, float, int]], ghosts: list[tuple[int, float]]
) -> None:
    """Services of the others go on, and what leaves before or at its own turn changes nothing in their order."""
    tickets: list[Ticket[int]] = []
    for step, operation in enumerate(operations):
        # Never urgent: at a turn by rescue it could not be seen that it is next, and so not leave.
        tickets += [both.queue.push("ghost", 6.0 + deadline, -1) for at, deadline in ghosts if at == step]
        for first in both.queue:
            if first.caller != "ghost":
                break
            both.queue.remove(first)
        # The last one that waits besides ends a busy time, which the reference would not see while a ghost waits.
        if len(both.tickets) == 1:
            for ticket in tickets:
                both.queue.remove(ticket)
        both.apply(*operation)
    for ticket in tickets:
        both.queue.remove(ticket)
    both.drain()


def _most(weight: float, round_length: int, rounds: int = 1) -> int:
    """Return the most services of one caller in so many rounds: start tags stand 1 / weight apart."""
    return math.ceil(Fraction(weight) * round_length * rounds)


def _lead(weight: float, round_length: int) -> int:
    """Return the most services that rescue can give in advance: those of the present round and two further ones."""
    return _most(weight, round_length, 1 + RESCUE_ROUNDS)


@settings(deadline=None, max_examples=200)
@given(
    both=_both,
    operations=_operations,
    hogs=st.lists(st.tuples(_callers, _deadlines), min_size=1, max_size=20),
    urgent_before=st.sampled_from([-math.inf, 3.0, 7.0]),
)
def test_a_single_item_waits_few_rounds_of_the_others_at_most(
    both: _Both,
    operations: list[tuple[str, str, float, int]],
    hogs: list[tuple[str, float]],
    urgent_before: float,
) -> None:
    """Whatever others have queued and still queue: before it each gets one round at most, three if it is rescued."""
    for operation in operations:
        both.apply(*operation)
    single = both.push("single", 99.0)
    bound = _most if urgent_before == -math.inf else _lead
    for turn in range(400):
        for caller, deadline in hogs:
            if urgent_before == -math.inf or both.queue.waiting(caller) < RESCUE_QUEUE:
                both.push(caller, deadline)
        served = both.pop(urgent_before)
        if served is single:
            break
        assert turn < sum(bound(both.literal.weights.get(caller, 1.0), both.literal.q) for caller in CALLERS)
    assert not single.waiting


@settings(deadline=None, max_examples=200)
@given(both=_both, operations=_operations, caller=_callers, deadline=_deadlines)
def test_an_item_waits_for_the_rounds_up_to_its_own_at_most(
    both: _Both, operations: list[tuple[str, str, float, int]], caller: str, deadline: float
) -> None:
    """Before any item: of each other caller, what fits into the rounds from the present one to the item's own."""
    for operation in operations:
        both.apply(*operation)
    present = math.floor(both.literal.v / both.literal.q)
    ticket = both.push(caller, deadline)
    rounds = ticket.key.round - present + 1
    drained = both.drain()
    before = Counter(other.caller for other in drained[: drained.index(ticket)])
    for other in set(CALLERS) - {caller}:
        assert before[other] <= _most(both.literal.weights.get(other, 1.0), both.literal.q, rounds)


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(min_value=0), length=_rounds, heavy=st.sampled_from([1.5, 2.0, 3.0]))
def test_callers_that_always_wait_are_served_by_weight(seed: int, length: int, heavy: float) -> None:
    """After any number of services the shares are those of the weights, give or take a round, with any deadlines."""
    draw = random.Random(seed)  # noqa: S311 - no secrets here
    queue: FairQueue[None] = FairQueue(weights={"heavy": heavy}, round_length=length)
    served = Counter[str]()
    for caller in ("heavy", "light"):
        for _ in range(3):
            queue.push(caller, draw.random(), None)
    for _ in range(500):
        caller = queue.pop().caller
        served[caller] += 1
        queue.push(caller, draw.random(), None)
        assert abs(served["heavy"] / heavy - served["light"]) <= length + 1
    assert served["heavy"] / served["light"] == pytest.approx(heavy, rel=0.05)


@pytest.mark.parametrize("weight", [0.001, 0.3, 0.7, 1.1, math.pi, 17.0, 100.0])
def test_no_weight_gives_more_than_its_part_of_a_round(weight: float) -> None:
    """Weights that do not divide the unit of virtual time are rounded down: never one service more in a round."""
    queue: FairQueue[None] = FairQueue(weights={"weighty": weight})
    queue.push("other", 1.0, None)
    for _ in range(5_000):
        queue.push("weighty", 0.0, None)
    assert queue.ahead("other", 1.0) == _most(weight, 4) + 1


def test_a_weight_of_two_is_two_to_one() -> None:
    """Of 300 services, 200 go to the caller of weight 2 and 100 to the one without a weight."""
    queue: FairQueue[None] = FairQueue(weights={"heavy": 2.0})
    for _ in range(300):
        queue.push("heavy", 1.0, None)
        queue.push("light", 1.0, None)
    served = Counter(queue.pop().caller for _ in range(300))
    assert served == {"heavy": 200, "light": 100}


@settings(deadline=None, max_examples=200)
@given(
    weights=_weights, length=_rounds, pushes=_pushes, lies=st.lists(_deadlines, min_size=40, max_size=40), liar=_callers
)
def test_a_lie_about_the_deadline_gains_a_round_at_most(
    weights: dict[str, float], length: int, pushes: list[tuple[str, float]], lies: list[float], liar: str
) -> None:
    """Whatever deadlines a caller claims: before any item of another it gets one round's services more at most."""
    orders = []
    for claims in (None, lies):
        queue: FairQueue[int] = FairQueue(weights=weights, round_length=length)
        for number, (caller, deadline) in enumerate(pushes):
            queue.push(caller, claims[number] if claims and caller == liar else deadline, number)
        orders.append([queue.pop() for _ in pushes])
    honest, lying = ([ticket.item for ticket in order if ticket.caller != liar] for order in orders)
    assert honest == lying
    for number in honest:
        before_honest, before_lying = (_before(order, number, liar) for order in orders)
        assert abs(before_lying - before_honest) <= _most(weights.get(liar, 1.0), length)


def _before(order: list[Ticket[int]], item: int, caller: str) -> int:
    """Return how many of the caller's items come before this item."""
    place = next(place for place, ticket in enumerate(order) if ticket.item == item)
    return sum(ticket.caller == caller for ticket in order[:place])


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_a_liar_gains_its_round_and_no_share(weight: float) -> None:
    """The bound is met: a caller that always claims the earliest deadline is its round ahead, then and ever after."""
    queue: FairQueue[None] = FairQueue(weights={"liar": weight})
    served = Counter[str]()
    for caller, deadline in (("liar", 0.0), ("honest", 1.0)):
        for _ in range(2):
            queue.push(caller, deadline, None)
    gains = []
    for _ in range(300):
        caller = queue.pop().caller
        served[caller] += 1
        queue.push(caller, 0.0 if caller == "liar" else 1.0, None)
        gains.append(served["liar"] - served["honest"] * weight)
    assert max(gains) == 4 * weight
    assert min(gains) >= 0


class _ClosedLoop:
    """A liar with up to 3 urgent items beside honest callers of which something always waits."""

    def __init__(self, weights: Mapping[str, float], length: int) -> None:
        self.queue: FairQueue[None] = FairQueue(weights=weights, round_length=length)
        self.served = Counter[str]()

    def turn(self, liars: int, honest: Mapping[str, tuple[int, float]]) -> str:
        """Serve the next, after the liar and all honest callers (deadline) have filled up to so many waiting."""
        for caller, (waiting, deadline) in {"liar": (liars, 0.0), **honest}.items():
            for _ in range(waiting - self.queue.waiting(caller)):
                self.queue.push(caller, deadline, None)
        caller = self.queue.pop(urgent_before=3.0).caller
        self.served[caller] += 1
        return caller


@settings(deadline=None, max_examples=200)
@given(
    weights=st.dictionaries(st.sampled_from(["liar", "a", "b"]), st.sampled_from(WEIGHTS)),
    length=_rounds,
    turns=st.lists(
        st.tuples(
            st.integers(min_value=0, max_value=RESCUE_QUEUE),
            st.tuples(st.integers(min_value=1, max_value=6), _deadlines),
            st.tuples(st.integers(min_value=1, max_value=6), _deadlines),
        ),
        max_size=300,
    ),
)
def test_who_always_is_urgent_gains_three_rounds_at_most(
    weights: dict[str, float], length: int, turns: list[tuple[int, tuple[int, float], tuple[int, float]]]
) -> None:
    """Per weight, a liar is never further than that before a caller that always waits: the lead does not add up."""
    loop = _ClosedLoop(weights, length)
    for liars, a, b in turns:
        loop.turn(liars, {"a": a, "b": b})
        weight = Fraction(weights.get("liar", 1.0))
        for honest in ("a", "b"):
            turns_of_honest = loop.served[honest] / Fraction(weights.get(honest, 1.0))
            # The liar's services start 1 / weight apart, so the last may begin just before the end of the last round.
            assert loop.served["liar"] / weight < turns_of_honest + length * (1 + RESCUE_ROUNDS) + 1 / weight


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_a_liar_that_is_rescued_gains_three_rounds_and_no_share(weight: float) -> None:
    """The bound is met: at once, and ever after; over 3,000 services the share is that of the weights."""
    loop = _ClosedLoop({"liar": weight}, 4)
    gains = []
    for _ in range(3_000):
        loop.turn(RESCUE_QUEUE, {"honest": (5, 9.0)})
        gains.append(loop.served["liar"] - loop.served["honest"] * weight)
    assert max(gains) == max(gains[-100:]) == _lead(weight, 4) == 12 * weight
    assert min(gains) >= 0


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_a_rescue_is_charged(weight: float) -> None:
    """Whoever was rescued up to the bound waits until the others have had as many, by weight."""
    loop = _ClosedLoop({"liar": weight}, 4)
    lead = [loop.turn(RESCUE_QUEUE, {"honest": (5, 9.0)}) for _ in range(_lead(weight, 4))]
    assert set(lead) == {"liar"}
    assert {loop.turn(0, {"honest": (5, 9.0)}) for _ in range(4)} == {"honest"}
    loop.turn(RESCUE_QUEUE, {"honest": (5, 9.0)})
    assert loop.served["liar"] == _lead(weight, 4) + 1


def test_being_idle_saves_up_nothing() -> None:
    """After a hundred services of another, a caller gets what is left of the present round, and then its share."""
    queue: FairQueue[None] = FairQueue(weights={})
    for _ in range(120):
        queue.push("busy", 1.0, None)
    for _ in range(100):
        queue.pop()
    for _ in range(20):
        queue.push("late", 0.0, None)
    assert [ticket.caller for ticket in queue][:20] == ["late"] * 4 + (["late"] * 4 + ["busy"] * 4) * 2


def test_one_caller_after_another_leaves_few_traces() -> None:
    """Twenty thousand callers, with and without somebody else who waits: never more than 1,024 are remembered."""
    queue: FairQueue[None] = FairQueue(weights={})
    for number in range(10_000):
        queue.push(f"alone-{number}", 1.0, None)
        queue.pop()
        assert len(queue._finish) <= REMEMBERED_CALLERS
    for number in range(10_000):
        queue.push(f"overlapping-{number}", 1.0, None)
        queue.push(f"overlapping-{number + 1}", 1.0, None)
        queue.pop()
        assert len(queue._finish) <= REMEMBERED_CALLERS
    while len(queue):
        queue.pop()
    assert not queue._queues
    assert not queue._order


def test_a_new_round_forgets_who_owes_nothing() -> None:
    """When a round ends, only those are remembered whose services reach into the next."""
    queue: FairQueue[None] = FairQueue(weights={"slow": 0.1}, round_length=2)
    for caller in ("once", "twice", "twice", "slow", "hog", "hog", "hog"):
        queue.push(caller, 1.0, None)
    assert [queue.pop().caller for _ in range(6)] == ["once", "twice", "twice", "slow", "hog", "hog"]
    assert set(queue._finish) == {"once", "twice", "slow", "hog"}
    queue.push("slow", 1.0, None)
    assert queue.pop().caller == "hog"
    assert set(queue._finish) == {"slow", "hog"}


def test_the_longest_ago_is_forgotten_first() -> None:
    """A caller that used up its round may start again in it only after 1,024 others were served."""
    queue: FairQueue[None] = FairQueue(weights={}, round_length=1)
    queue.push("hog", 0.0, None)
    queue.push("other-0", 1.0, None)
    assert queue.pop().caller == "hog"
    for number in range(REMEMBERED_CALLERS):
        queue.push(f"other-{number + 1}", 1.0, None)
        assert queue.ahead("hog", 0.0) == 2
        queue.pop()
    assert queue.ahead("hog", 0.0) == 0


def test_who_was_served_again_is_not_the_longest_ago() -> None:
    """What counts is a caller's last service: the one that uses up its round slowly is not forgiven the sooner."""
    queue: FairQueue[None] = FairQueue(weights={}, round_length=2)
    queue.push("hog", 0.0, None)
    queue.push("other-0", 1.0, None)
    queue.pop()
    for number in range(REMEMBERED_CALLERS):
        if number == 500:
            queue.push("hog", 0.0, None)
            assert queue.pop().caller == "hog"
        queue.push(f"other-{number + 1}", 1.0, None)
        queue.pop()
    assert queue.ahead("hog", 0.0) == 1
