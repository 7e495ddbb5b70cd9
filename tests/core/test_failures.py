"""`core.failures`: a Failure is an exception that everything Python does with exceptions works on."""

import copy
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from monitor_contact_service.core.failures import Failure, Reason, Violation


def _full() -> Failure:
    return Failure(
        Reason.THROTTLED,
        metadata={"aws_request_id": "r"},
        retry_after_seconds=1.5,
        violations=(Violation("f", "R", "d"),),
        outcome_unknown=True,
        log_text="said",
    )


def test_a_failure_of_a_reason_alone_claims_nothing_else() -> None:
    """The defaults: no metadata, no time to come again, no violations, a known outcome."""
    failure = Failure(Reason.OVERLOADED)
    assert failure.reason is Reason.OVERLOADED
    assert failure.metadata == {}
    assert failure.retry_after_seconds is None
    assert failure.violations == ()
    assert not failure.outcome_unknown
    assert not failure.log_text


def test_failures_do_not_share_their_metadata() -> None:
    """Adding to one failure's metadata changes neither another failure nor the mapping that it was made from."""
    given = {"key": "value"}
    first, second = Failure(Reason.THROTTLED, metadata=given), Failure(Reason.THROTTLED)
    first.metadata["attempts"] = "1"
    assert given == {"key": "value"}
    assert second.metadata == {}


def test_a_failure_passes_through_a_context_manager() -> None:
    """Python sets __traceback__ on the way: a frozen exception would break here."""

    @contextmanager
    def manager() -> Iterator[None]:
        yield

    with pytest.raises(Failure) as raised, manager():
        raise _full()
    assert raised.value.reason is Reason.THROTTLED


async def test_a_failure_passes_through_an_async_context_manager() -> None:
    """The place that admission holds is such a manager."""

    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        yield

    with pytest.raises(Failure) as raised:
        async with manager():
            raise _full()
    assert raised.value.reason is Reason.THROTTLED


def test_a_failure_can_be_hashed_and_noted() -> None:
    """The traceback module keeps exceptions in a set, and frameworks add notes to them."""
    failure = _full()
    failure.add_note("seen")
    assert len({failure, failure, _full()}) == 2
    assert failure.__notes__ == ["seen"]


@pytest.mark.parametrize(
    ("failure", "text"),
    [(Failure(Reason.THROTTLED), "THROTTLED"), (Failure(Reason.THROTTLED, log_text="HTTP 429"), "THROTTLED: HTTP 429")],
)
def test_the_text_of_a_failure_names_its_reason(failure: Failure, text: str) -> None:
    """A traceback in the log says which failure it was, and what Connect said if it said something."""
    assert str(failure) == text


@pytest.mark.parametrize("clone", [lambda failure: pickle.loads(pickle.dumps(failure)), copy.copy])  # noqa: S301 - own bytes
def test_a_failure_survives_pickling_and_copying(clone: Callable[[Failure], object]) -> None:
    """Every field comes back: a test runner with several processes sends exceptions so."""
    original = _full()
    copied = clone(original)
    assert isinstance(copied, Failure)
    assert vars(copied) == vars(original)
    assert str(copied) == str(original)


def test_a_copy_for_another_caller_shares_nothing_that_can_change() -> None:
    """Every field is equal; what is done to one of the two afterwards does not show in the other."""
    original = _full()
    copied = original.copy()
    assert vars(copied) == vars(original)
    copied.metadata["attempts"] = "1"
    copied.add_note("seen")
    assert original.metadata == {"aws_request_id": "r"}
    assert not hasattr(original, "__notes__")


def test_reasons_are_their_own_names() -> None:
    """ErrorInfo carries the name; name and value are the same text."""
    assert all(reason.name == reason.value for reason in Reason)
