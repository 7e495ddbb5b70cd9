"""`core.fairness`: how the work for one item grows with the queue, in comparisons and not in time."""

import math

import pytest
from monitor_contact_service.core.fairness import FairQueue

LENGTHS = (100, 1_000, 10_000)
# Each of up to four binary searches halves what is left, and looks at a deadline twice: are they equal, which is less.
COMPARISONS_PER_HALVING = 8


class _Deadline(float):
    """A deadline that counts how often one is compared."""

    compared = 0

    def __lt__(self, other: float) -> bool:
        _Deadline.compared += 1
        return float.__lt__(self, other)

    def __gt__(self, other: float) -> bool:
        _Deadline.compared += 1
        return float.__gt__(self, other)

    def __eq__(self, other: object) -> bool:
        _Deadline.compared += 1
        return float.__eq__(self, other)

    __hash__ = float.__hash__


def _long_queue(length: int, callers: int) -> FairQueue[int]:
    """Return a queue of one long round, in which deadlines decide over every place."""
    queue: FairQueue[int] = FairQueue(weights={}, round_length=length)
    for number in range(length):
        queue.push(f"caller-{number % callers}", _Deadline(2 * number), number)
    _Deadline.compared = 0
    return queue


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("waiting_per_caller", [1, 10, 100])
def test_an_item_is_placed_with_a_logarithmic_number_of_comparisons(length: int, waiting_per_caller: int) -> None:
    """Counting what is ahead of a new item and adding it halve the queue: they do not walk through it."""
    callers = length // waiting_per_caller
    for caller, deadline in (
        ("new", length),  # in the middle of all
        ("new too", -1),  # before all
        ("caller-0", 2 * length),  # after all, its caller's own among them
    ):
        queue = _long_queue(length, callers)
        most = COMPARISONS_PER_HALVING * math.ceil(math.log2(length))
        queue.ahead(caller, _Deadline(deadline))
        assert 0 < _Deadline.compared <= most
        _Deadline.compared = 0
        queue.push(caller, _Deadline(deadline), -1)
        assert 0 < _Deadline.compared <= most


@pytest.mark.parametrize("length", LENGTHS)
def test_leaving_costs_the_same_however_many_of_a_caller_stay(length: int) -> None:
    """All items of one caller are removed, the first one first, and none of those behind is looked at in between."""
    queue: FairQueue[int] = FairQueue(weights={}, round_length=length)
    tickets = [queue.push("a", _Deadline(number), number) for number in range(length)]
    _Deadline.compared = 0
    for ticket in tickets:
        queue.remove(ticket)
    assert 0 < _Deadline.compared <= length * COMPARISONS_PER_HALVING * math.ceil(math.log2(length))
    assert len(queue) == 0
