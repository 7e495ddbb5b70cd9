"""`outcomes`: every reason has a class and every failure of a request a name, so that nothing goes uncounted."""

import pytest
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.outcomes import (
    BAD_RESPONSE,
    CALLER_LEFT,
    CLASSES,
    CONNECT_ERROR,
    CREDENTIALS,
    SUCCEEDED,
    TIMEOUT,
    UPSTREAM_OUTCOMES,
    OutcomeClass,
    upstream_outcome,
)

BAD = {
    "INTERNAL",
    "INTERNAL_SERVICE",
    "CONNECT_UNREACHABLE",
    "CONNECT_BAD_RESPONSE",
    "SERVICE_CREDENTIALS",
    "AUDIT_UNAVAILABLE",
    "SHUTTING_DOWN",
}


def test_every_reason_has_a_class() -> None:
    """A reason that is added to the contract and not here fails this test: its calls would not be counted."""
    assert CLASSES.keys() == {*Reason, SUCCEEDED, CALLER_LEFT}


def test_the_error_budget_is_burnt_by_these_reasons_alone() -> None:
    """Alerts that page stand on it; what is not listed anywhere else is the caller's own matter."""
    of: dict[OutcomeClass, set[str]] = {outcome_class: set() for outcome_class in OutcomeClass}
    for reason, outcome_class in CLASSES.items():
        of[outcome_class].add(str(reason))
    assert of[OutcomeClass.BAD] == BAD
    assert of[OutcomeClass.SHED] == {"THROTTLED", "OVERLOADED", "DEADLINE_TOO_SHORT"}
    assert of[OutcomeClass.SETUP] == {"ACCESS_DENIED", "SERVICE_LINKED_ROLE_MISSING"}
    assert of[OutcomeClass.GOOD] == {SUCCEEDED}
    assert of[OutcomeClass.LEFT] == {CALLER_LEFT}


@pytest.mark.parametrize("reason", Reason)
def test_every_failure_of_a_request_to_connect_has_a_name(reason: Reason) -> None:
    """The label is one of those that are there from the start."""
    assert upstream_outcome(Failure(reason)) in UPSTREAM_OUTCOMES


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (Failure(Reason.CONNECT_UNREACHABLE, log_text="TimeoutError: no whole answer within 3.000 s"), TIMEOUT),
        (Failure(Reason.CONNECT_UNREACHABLE, log_text="HTTP 408 RequestTimeoutException: slow"), TIMEOUT),
        (Failure(Reason.CONNECT_UNREACHABLE, log_text="no whole answer: closed by the other side"), CONNECT_ERROR),
        (Failure(Reason.CONNECT_BAD_RESPONSE), BAD_RESPONSE),
        (Failure(Reason.SERVICE_CREDENTIALS), CREDENTIALS),
        (Failure(Reason.SERVICE_LINKED_ROLE_MISSING), "AccessDeniedException"),
        (Failure(Reason.RECORDING_DISABLED), "InvalidRequestException"),
        (Failure(Reason.THROTTLED), "ThrottlingException"),
    ],
)
def test_a_failed_request_is_named_by_connects_error_or_by_the_way_there(failure: Failure, outcome: str) -> None:
    """Narrower reasons of ours fall back to Connect's own error."""
    assert upstream_outcome(failure) == outcome
