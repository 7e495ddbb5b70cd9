"""Retries are gRPC's own, steered by the server: attempts counted and timed at a real server."""

import itertools
import time
import uuid

import grpc
import pytest
from monitor_contact_client import (
    CallCancelled,
    ErrorReason,
    InternalService,
    MonitorContactError,
    ServiceUnavailable,
    Throttled,
    ValidationFailed,
)

from client.scripted_server import Step, abort, error_info, refuse, refuse_for, serving, succeed
from client.twins import Kind, connected

UNAVAILABLE, EXHAUSTED, CANCELLED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
)


async def attempts(kind: Kind, *steps: Step, retries: bool = True) -> tuple[list[float], MonitorContactError | None]:
    """Make one call; return when each attempt came, in seconds, and how the call failed."""
    with serving(*steps) as server:
        async with connected(kind, server.target, retries=retries) as client:
            try:
                await client.call()
            except MonitorContactError as error:
                return [seen.at for seen in server.seen], error
            return [seen.at for seen in server.seen], None


@pytest.mark.parametrize("pushback_ms", [50, 300])
async def test_gaps_are_at_least_the_pushback(kind: Kind, pushback_ms: int) -> None:
    """The server's wait is kept to, and the call succeeds without its caller noticing."""
    throttled = refuse_for(ErrorReason.THROTTLED, EXHAUSTED, pushback_ms)
    times, error = await attempts(kind, throttled, throttled, succeed())
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert error is None
    assert len(gaps) == 2
    assert all(pushback_ms / 1000 - 0.002 <= gap < pushback_ms / 1000 + 0.5 for gap in gaps), gaps


@pytest.mark.parametrize("code", [UNAVAILABLE, EXHAUSTED, CANCELLED])
async def test_veto_means_one_attempt(kind: Kind, code: grpc.StatusCode) -> None:
    """Pushback -1: no repetition, even with a code of the retry policy."""
    times, error = await attempts(kind, refuse(code, pushback_ms=-1))
    assert len(times) == 1
    assert error is not None
    assert error.code is code


@pytest.mark.parametrize("code", [UNAVAILABLE, EXHAUSTED, CANCELLED])
async def test_failing_server_gets_three_attempts(kind: Kind, code: grpc.StatusCode) -> None:
    """The service config is understood: a misspelt name in it would silently mean one attempt."""
    times, error = await attempts(kind, abort(code))
    assert len(times) == 3
    assert error is not None
    assert error.code is code


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code not in {UNAVAILABLE, EXHAUSTED, CANCELLED, grpc.StatusCode.OK}]
)
async def test_other_codes_get_one_attempt(kind: Kind, code: grpc.StatusCode) -> None:
    """Nothing else is ever repeated."""
    times, error = await attempts(kind, abort(code))
    assert len(times) == 1
    assert error is not None
    assert error.code is code


async def test_retries_can_be_turned_off(kind: Kind) -> None:
    """`retries=False`: one attempt, the error says when to come again."""
    times, error = await attempts(kind, refuse_for(ErrorReason.THROTTLED, EXHAUSTED, 250), retries=False)
    assert len(times) == 1
    assert isinstance(error, Throttled)
    assert error.retry_after == 0.25


async def test_one_token_over_all_attempts(kind: Kind) -> None:
    """The UUID4 is made once, before the first attempt; result and exception know it."""
    with serving(abort(UNAVAILABLE)) as server:
        async with connected(kind, server.target) as client:
            with pytest.raises(ServiceUnavailable) as caught:
                await client.call()
    tokens = {seen.request.client_token for seen in server.seen}
    assert len(server.seen) == 3
    assert tokens == {caught.value.client_token}
    assert uuid.UUID(caught.value.client_token).version == 4


async def test_explicit_token_over_all_attempts(kind: Kind) -> None:
    """The caller's token is on every attempt, and on the session."""
    with serving(abort(UNAVAILABLE), abort(CANCELLED), succeed()) as server:
        async with connected(kind, server.target) as client:
            session = await client.call(client_token="mine")
    assert [seen.request.client_token for seen in server.seen] == ["mine"] * 3
    assert session.client_token == "mine"


async def test_attempts_share_one_deadline(kind: Kind) -> None:
    """Each attempt carries what is left of the deadline, so all of them together keep it."""
    with serving(refuse_for(ErrorReason.INTERNAL_SERVICE, UNAVAILABLE, 400)) as server:
        async with connected(kind, server.target) as client:
            begin = time.monotonic()
            with pytest.raises(InternalService):
                await client.call(timeout_seconds=2.0)
            took = time.monotonic() - begin
    left = [seen.time_left or 0.0 for seen in server.seen]
    assert len(left) == 3
    assert all(earlier - later > 0.3 for earlier, later in itertools.pairwise(left)), left
    assert took < 2.0


async def test_vetoes_between_successes_do_not_use_up_the_retry_budget(kind: Kind) -> None:
    """After 60 pairs of veto and success a failure is still repeated: with a ratio of 1 it is not (1.0 it must be)."""
    vetoed = refuse(EXHAUSTED, "no", [error_info("SERVICE_QUOTA_EXCEEDED")])
    with serving(*[vetoed, succeed()] * 60, abort(UNAVAILABLE), succeed()) as server:
        async with connected(kind, server.target) as client:
            for _ in range(60):
                with pytest.raises(MonitorContactError):
                    await client.call()
                await client.call()
            await client.call()
    assert len(server.seen) == 122


async def test_refused_request_is_not_repeated_by_the_client(kind: Kind) -> None:
    """A refusal for the content reaches the caller after one attempt, typed."""
    times, error = await attempts(kind, refuse_for(ErrorReason.VALIDATION_FAILED, grpc.StatusCode.INVALID_ARGUMENT))
    assert len(times) == 1
    assert isinstance(error, ValidationFailed)


async def test_stopped_server_ends_typed(kind: Kind) -> None:
    """CANCELLED by a server without details is a CallCancelled, in asyncio no CancelledError."""
    _, error = await attempts(kind, abort(CANCELLED), retries=False)
    assert isinstance(error, CallCancelled)
