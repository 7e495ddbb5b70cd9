"""Every row of the error tables end to end: gRPC client, service, HTTP, simulated Connect, and all the way back.

What is expected stands here once more, in full, on purpose: nothing of it is taken from the code's own table.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc.aio
import pytest
from botocore.credentials import ReadOnlyCredentials
from fakes import FakeCredentials, FreeTokens
from google.rpc.error_details_pb2 import QuotaFailure, RequestInfo
from harness import UNPACED, Service, connect_to, serving
from monitor_contact.v1.monitor_contact_pb2 import MonitorCapability, MonitorContactRequest, MonitorContactResponse
from monitor_contact_service.core.caller import ANONYMOUS
from monitor_contact_service.core.failures import Reason
from monitor_contact_service.core.idempotency import derive_client_token
from monitor_contact_service.core.outage import FAILURES_TO_OPEN, Outage
from monitor_contact_service.core.retry import MAX_ATTEMPTS
from monitor_contact_service.quota import LocalQuota
from monitor_contact_service.settings import Settings
from monitor_contact_service.simulator import GARBAGE, UNLIMITED, Fault, Quota, ReceivedCall, Simulator, default_world
from monitor_contact_service.turns import TokenSource

from ._refused import Refused, refused

_WORLD = default_world()
_CODE = grpc.StatusCode
# Longer than the six attempts' waits together: the tests do not wait them, but what does not fit is not tried.
_DEADLINE_SECONDS = 30.0
_LISTEN = (MonitorCapability.MONITOR_CAPABILITY_SILENT_MONITOR,)
_LISTEN_AND_BARGE = (*_LISTEN, MonitorCapability.MONITOR_CAPABILITY_BARGE)
# In the texts of injected faults: must never come out at the other end.
_AWS_SECRET = "User: arn:aws:sts::123456789012:assumed-role/secret-role/i-0abc is not authorized to perform: x"

NOT_YET = {
    Reason.UNAUTHENTICATED,
    Reason.CALLER_NOT_PERMITTED,
    Reason.SUPERVISOR_NOT_PERMITTED,
    Reason.AUDIT_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Expected:
    """How a reason is answered: what of it is the same whatever the cause."""

    code: grpc.StatusCode
    metadata_keys: tuple[str, ...] = ("aws_request_id",)
    quota_failure: bool = False
    retry_info: bool = False
    bad_request: bool = False
    attempts: int = 1


EXPECTED = {
    Reason.ACCESS_DENIED: Expected(_CODE.PERMISSION_DENIED),
    Reason.SERVICE_LINKED_ROLE_MISSING: Expected(_CODE.PERMISSION_DENIED),
    Reason.IDEMPOTENCY_CONFLICT: Expected(_CODE.ABORTED),
    Reason.INTERNAL_SERVICE: Expected(
        _CODE.UNAVAILABLE, ("attempts", "aws_request_id"), retry_info=True, attempts=MAX_ATTEMPTS
    ),
    Reason.INVALID_REQUEST: Expected(_CODE.INVALID_ARGUMENT),
    Reason.CONTACT_NOT_MONITORABLE: Expected(_CODE.FAILED_PRECONDITION),
    Reason.NO_AGENT_PARTICIPANT: Expected(_CODE.FAILED_PRECONDITION),
    Reason.UNSUPPORTED_CHANNEL: Expected(_CODE.FAILED_PRECONDITION),
    Reason.RECORDING_DISABLED: Expected(_CODE.FAILED_PRECONDITION),
    Reason.MULTI_PARTY_DISABLED: Expected(_CODE.FAILED_PRECONDITION),
    Reason.CAPABILITIES_REQUIRED: Expected(_CODE.FAILED_PRECONDITION),
    Reason.USER_PHONE_NUMBER_INVALID: Expected(_CODE.FAILED_PRECONDITION),
    Reason.RESOURCE_NOT_FOUND: Expected(_CODE.NOT_FOUND, ("aws_request_id", "resource")),
    Reason.SERVICE_QUOTA_EXCEEDED: Expected(_CODE.RESOURCE_EXHAUSTED, ("aws_request_id", "cause"), quota_failure=True),
    Reason.THROTTLED: Expected(
        _CODE.RESOURCE_EXHAUSTED,
        ("attempts", "aws_request_id"),
        quota_failure=True,
        retry_info=True,
        attempts=MAX_ATTEMPTS,
    ),
    Reason.SERVICE_CREDENTIALS: Expected(_CODE.UNAVAILABLE, attempts=2),
    Reason.CONNECT_UNREACHABLE: Expected(
        _CODE.UNAVAILABLE, ("attempts", "aws_request_id"), retry_info=True, attempts=MAX_ATTEMPTS
    ),
    Reason.CONNECT_BAD_RESPONSE: Expected(_CODE.INTERNAL, ("aws_error", "aws_request_id", "http_status")),
    Reason.VALIDATION_FAILED: Expected(_CODE.INVALID_ARGUMENT, ("violations",), bad_request=True, attempts=0),
    Reason.IDEMPOTENCY_MISMATCH: Expected(_CODE.INVALID_ARGUMENT, (), bad_request=True, attempts=0),
    Reason.DEADLINE_TOO_SHORT: Expected(_CODE.DEADLINE_EXCEEDED, ("time_left_ms", "time_needed_ms"), attempts=0),
    Reason.OVERLOADED: Expected(
        _CODE.RESOURCE_EXHAUSTED, ("current", "limit", "limit_name"), quota_failure=True, retry_info=True, attempts=0
    ),
    Reason.SHUTTING_DOWN: Expected(_CODE.UNAVAILABLE, (), retry_info=True, attempts=0),
    Reason.INTERNAL: Expected(_CODE.INTERNAL, ("correlation_id",), attempts=0),
}


def ask(
    contact: str = "call",
    user: str = "sue",
    *,
    instance: str = "main",
    capabilities: Sequence[MonitorCapability] = _LISTEN,
    token: str = "the-callers-own-token",
) -> MonitorContactRequest:
    """Return a request by the names of the simulator's default world; an unknown name is taken for an id."""
    return MonitorContactRequest(
        instance_id=_WORLD.instances[instance].id if instance in _WORLD.instances else instance,
        contact_id=_WORLD.contacts[contact].id if contact in _WORLD.contacts else contact,
        user_id=_WORLD.users[user].id if user in _WORLD.users else user,
        allowed_monitor_capabilities=capabilities,
        client_token=token,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One cause and the reason that it must come out as. Its id in the test report is `cause`."""

    cause: str
    reason: Reason
    request: MonitorContactRequest
    before: tuple[MonitorContactRequest, ...] = ()
    faults: tuple[Fault, ...] = ()
    attempts: int | None = None
    retry_info: bool | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    quota: Quota = UNLIMITED
    check_security_profile: bool = False
    credentials: tuple[str, str, str | None] | None = ("AKIDSIMULATOR", "simulator-secret", None)
    attempt_timeout_seconds: float = 3


def natural(cause: str, reason: Reason, *before: MonitorContactRequest, request: MonitorContactRequest) -> Row:
    """Return a row of the simulator's default world, as it is."""
    return Row(cause, reason, request, before=before)


def injected(reason: Reason, *faults: Fault, cause: str = "", token: str = "the-callers-own-token") -> Row:
    """Return a row of faults on a request that would succeed otherwise."""
    fault = faults[0]
    named = cause or " ".join(map(str, filter(None, (fault.action, fault.status, fault.error))))
    return Row(named, reason, ask(token=token), faults=faults)


def error(name: str | None = None, status: int | None = None, message: str | None = _AWS_SECRET) -> Fault:
    """Return a fault that Connect names so, for ever."""
    return Fault("error", error=name, status=status, message=message)


NATURAL = [
    Row(
        "supervisor without permission",
        Reason.ACCESS_DENIED,
        ask(user="nora"),
        check_security_profile=True,
    ),
    Row(
        "supervisor who may listen only asks to barge",
        Reason.ACCESS_DENIED,
        ask(user="lee", capabilities=_LISTEN_AND_BARGE),
        check_security_profile=True,
    ),
    natural(
        "no service-linked role",
        Reason.SERVICE_LINKED_ROLE_MISSING,
        request=ask("unlinked-call", "una", instance="unlinked"),
    ),
    natural("token with other fields", Reason.IDEMPOTENCY_MISMATCH, ask(), request=ask(user="sam")),
    natural("ended contact", Reason.CONTACT_NOT_MONITORABLE, request=ask("ended")),
    natural("ringing contact", Reason.CONTACT_NOT_MONITORABLE, request=ask("ringing")),
    natural("queued contact", Reason.NO_AGENT_PARTICIPANT, request=ask("queued")),
    natural("task", Reason.UNSUPPORTED_CHANNEL, request=ask("task")),
    natural("email", Reason.UNSUPPORTED_CHANNEL, request=ask("email")),
    natural("call not recorded", Reason.RECORDING_DISABLED, request=ask("unrecorded-call", "polly", instance="plain")),
    natural(
        "barge on a plain instance",
        Reason.MULTI_PARTY_DISABLED,
        request=ask("plain-call", "polly", instance="plain", capabilities=_LISTEN_AND_BARGE),
    ),
    natural("desk phone not E.164", Reason.USER_PHONE_NUMBER_INVALID, request=ask(user="pat")),
    natural("unknown instance", Reason.RESOURCE_NOT_FOUND, request=ask(instance="no-such-instance")),
    natural("unknown contact", Reason.RESOURCE_NOT_FOUND, request=ask("no-such-contact")),
    natural("unknown user", Reason.RESOURCE_NOT_FOUND, request=ask(user="no-such-user-\N{SNOWMAN}")),
    natural("another instance's contact", Reason.RESOURCE_NOT_FOUND, request=ask("plain-call")),
    natural("supervisor offline", Reason.SERVICE_QUOTA_EXCEEDED, request=ask(user="oscar")),
    natural(
        "supervisor already monitoring",
        Reason.SERVICE_QUOTA_EXCEEDED,
        ask(token="first"),
        request=ask("second-call"),
    ),
    natural(
        "contact full",
        Reason.SERVICE_QUOTA_EXCEEDED,
        ask(token="first"),
        ask(user="sam", token="second"),
        request=ask(user="dora"),
    ),
    Row("quota used up", Reason.THROTTLED, ask(), quota=Quota(rate=0, burst=0)),
    Row("quota used up, no token", Reason.THROTTLED, ask(token=""), quota=Quota(rate=0, burst=0)),
    Row(
        "expired credentials",
        Reason.SERVICE_CREDENTIALS,
        ask(),
        credentials=("ASIAEXPIRED", "simulator-expired-secret", "simulator-expired-session-token"),
    ),
    Row(
        "wrong session token",
        Reason.SERVICE_CREDENTIALS,
        ask(),
        credentials=("ASIASIMULATOR", "simulator-temporary-secret", "wrong"),
    ),
    Row("unknown access key", Reason.SERVICE_CREDENTIALS, ask(), credentials=("AKIDNOBODY", "wrong", None)),
    Row("wrong secret key", Reason.SERVICE_CREDENTIALS, ask(), credentials=("AKIDSIMULATOR", "wrong", None)),
    Row("no credentials", Reason.SERVICE_CREDENTIALS, ask(), credentials=None, attempts=0),
    injected(Reason.SERVICE_CREDENTIALS, Fault("skew", skew_seconds=3600), cause="clock an hour slow"),
    injected(Reason.SERVICE_CREDENTIALS, Fault("skew", skew_seconds=-3600), cause="clock an hour fast"),
]

INVALID_REQUEST_TEXTS = [
    ("something new", Reason.INVALID_REQUEST),
    ("Monitoring failed, please enable call recording", Reason.RECORDING_DISABLED),
    ("Monitoring failed, please enable multi-party conferencing feature.", Reason.MULTI_PARTY_DISABLED),
    ("User\N{RIGHT SINGLE QUOTATION MARK}s phone number is invalid", Reason.USER_PHONE_NUMBER_INVALID),
    ("the contact or agent is  not in the state that can be MONITORED", Reason.CONTACT_NOT_MONITORABLE),
    ("No `AGENT` participant found in the contact", Reason.NO_AGENT_PARTICIPANT),
    ("MonitorContact is not supported for TASK contacts", Reason.UNSUPPORTED_CHANNEL),
    (
        "AllowedMonitorCapabilities must be provided and have `SILENT_MONITOR` value at the least",
        Reason.CAPABILITIES_REQUIRED,
    ),
]

NAMES = {
    Reason.ACCESS_DENIED: ("AccessDeniedException", "NotAuthorized"),
    Reason.INVALID_REQUEST: (
        "InvalidRequestException",
        "InvalidParameterException",
        "ValidationError",
        "ValidationException",
    ),
    Reason.RESOURCE_NOT_FOUND: ("ResourceNotFoundException", "UserNotFoundException", "ContactNotFoundException"),
    Reason.SERVICE_QUOTA_EXCEEDED: ("ServiceQuotaExceededException",),
    Reason.IDEMPOTENCY_CONFLICT: ("IdempotencyException",),
    Reason.THROTTLED: (
        "ThrottlingException",
        "TooManyRequestsException",
        "Throttling",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "LimitExceededException",
        "BandwidthLimitExceeded",
        "ProvisionedThroughputExceededException",
        "PriorRequestNotComplete",
        "TransactionInProgressException",
        "SlowDown",
        "EC2ThrottledException",
    ),
    Reason.INTERNAL_SERVICE: ("InternalServiceException", "InternalFailure", "ServiceUnavailable"),
    Reason.SERVICE_CREDENTIALS: (
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "IncompleteSignature",
        "OptInRequired",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "AuthFailure",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "ExpiredToken",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
    ),
    Reason.CONNECT_UNREACHABLE: ("RequestTimeoutException", "RequestAbortedException"),
    Reason.CONNECT_BAD_RESPONSE: (
        "UnknownOperationException",
        "MalformedHttpRequestException",
        "RequestEntityTooLargeException",
        "InvalidActiveRegionException",
    ),
}


def _injected() -> Iterator[Row]:
    for reason, names in NAMES.items():
        for name in names:
            row = injected(reason, error(name))
            yield replace(row, metadata=(("aws_error", name),)) if reason is Reason.CONNECT_BAD_RESPONSE else row
    for text, reason in INVALID_REQUEST_TEXTS:
        yield injected(reason, error("InvalidRequestException", message=text), cause=f"text: {text}")
    role_text = "You don't have it. You do not have access to the agent."
    yield injected(
        Reason.SERVICE_LINKED_ROLE_MISSING,
        error("AccessDeniedException", message=role_text),
        cause="text: " + role_text,
    )
    # Another status than usual changes nothing where there is a name.
    yield injected(Reason.THROTTLED, error("ThrottlingException", 400))
    yield injected(Reason.ACCESS_DENIED, error("AccessDeniedException", 400))
    yield injected(Reason.SERVICE_CREDENTIALS, error("InvalidSignatureException", 400))
    yield injected(Reason.INTERNAL_SERVICE, error("InternalServiceException", 400))
    # Without a name the status decides, and only where it cannot be a proxy's own.
    yield injected(Reason.THROTTLED, error(status=429))
    for status in (500, 502, 503, 504):
        yield injected(Reason.INTERNAL_SERVICE, error(status=status))
    for status in (301, 302, 304, 400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 418, 501, 505):
        row = injected(Reason.CONNECT_BAD_RESPONSE, error(status=status))
        yield replace(row, metadata=(("aws_error", ""), ("http_status", str(status))))
    yield injected(Reason.CONNECT_BAD_RESPONSE, error("SomethingNewException", 400))
    yield injected(Reason.INTERNAL_SERVICE, error("SomethingNewException", 503))
    yield injected(Reason.THROTTLED, error("SomethingNewException", 429))
    yield injected(Reason.CONNECT_BAD_RESPONSE, Fault("redirect"), cause="redirect")
    for kind in sorted(set(GARBAGE) - {"wrong-content-type"}):
        yield injected(Reason.CONNECT_BAD_RESPONSE, Fault("garbage", garbage=kind), cause=f"garbage {kind}")
    yield injected(Reason.INTERNAL_SERVICE, Fault("garbage", garbage="html", status=503), cause="503 in HTML")
    yield injected(Reason.THROTTLED, Fault("garbage", garbage="html", status=429), cause="429 in HTML")
    yield injected(Reason.CONNECT_BAD_RESPONSE, Fault("garbage", garbage="html", status=403), cause="403 in HTML")
    yield injected(Reason.CONNECT_UNREACHABLE, Fault("close"))
    yield injected(Reason.CONNECT_UNREACHABLE, Fault("reset"))
    yield injected(Reason.CONNECT_UNREACHABLE, Fault("truncate"))
    yield injected(Reason.CONNECT_UNREACHABLE, Fault("close", act_first=True), cause="close after acting")
    hang = injected(Reason.CONNECT_UNREACHABLE, Fault("hang"))
    yield replace(hang, attempt_timeout_seconds=0.4)
    # Ambiguous, and the caller's repetition would have another token: no time to come again is named.
    lost = injected(Reason.CONNECT_UNREACHABLE, Fault("close"), cause="close, no token", token="")
    yield replace(lost, retry_info=False)
    failed = injected(Reason.INTERNAL_SERVICE, error(status=500), cause="error 500, no token", token="")
    yield replace(failed, retry_info=False)


ROWS = [*NATURAL, *_injected()]


async def _no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


def _no_outage() -> Outage:
    """Return an outage that no test opens: then every row has its six attempts, one after the other."""
    return Outage(failures_to_open=1000)


@asynccontextmanager
async def _upstream(
    row: Row, *, tokens: TokenSource | None = None
) -> AsyncIterator[tuple[Service, Simulator, FakeCredentials]]:
    """Yield everything that a row needs, with what must happen before already done. The quota holds nobody back."""
    async with Simulator() as simulator:
        simulator.set_quota("MonitorContact", row.quota)
        simulator.switches = simulator.switches.change({"check_security_profile": row.check_security_profile})
        credentials = FakeCredentials(*row.credentials) if row.credentials else FakeCredentials()
        if row.credentials is None:
            credentials.current = None
        settings = Settings(**UNPACED, attempt_timeout_seconds=row.attempt_timeout_seconds)
        async with (
            connect_to(simulator.url, credentials) as connect,
            serving(connect, settings, sleep=_no_wait, tokens=tokens or FreeTokens(), outage=_no_outage()) as service,
        ):
            for request in row.before:
                await service.stub.MonitorContact(request, timeout=_DEADLINE_SECONDS)
            simulator.inject(*row.faults)
            yield service, simulator, credentials


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.reason}: {row.cause}")
async def test_every_cause_is_answered_with_its_row(row: Row) -> None:
    """Code, reason, metadata keys, details, pushback and the number of attempts are those of the table."""
    expected = EXPECTED[row.reason]
    attempts = expected.attempts if row.attempts is None else row.attempts
    async with _upstream(row) as (service, simulator, credentials):
        answer = await refused(service.stub.MonitorContact(row.request, timeout=_DEADLINE_SECONDS))
        calls = simulator.calls("MonitorContact")[len(row.before) :]

    _assert_row(answer, row.reason, retry_info=row.retry_info)
    for key, value in row.metadata:
        assert answer.metadata[key] == value
    if "attempts" in expected.metadata_keys:
        assert answer.metadata["attempts"] == str(attempts)
    assert len(calls) == attempts
    assert credentials.renewals == (1 if row.reason is Reason.SERVICE_CREDENTIALS else 0)
    _assert_one_call_in_all_attempts(calls, row.request)
    _assert_nothing_leaks(answer, row)


def _assert_row(answer: Refused, reason: Reason, *, retry_info: bool | None = None, fits: bool = True) -> None:
    """Compare with the table. `fits`: a repetition after the time that is named would still be in time."""
    expected = EXPECTED[reason]
    assert answer.error_info.reason == reason
    assert answer.error_info.domain == "monitor-contact"
    assert answer.code is expected.code
    assert (answer.status.code, answer.status.message) == (expected.code.value[0], answer.message)
    assert sorted(answer.metadata) == sorted(expected.metadata_keys)

    hinted = expected.retry_info if retry_info is None else retry_info
    details = {"ErrorInfo", "RequestInfo"}
    details |= {"RetryInfo"} if hinted else set()
    details |= {"QuotaFailure"} if expected.quota_failure else set()
    details |= {"BadRequest"} if expected.bad_request else set()
    assert set(answer.details) == details
    request_info = answer.details["RequestInfo"]
    assert isinstance(request_info, RequestInfo)
    assert request_info.request_id == answer.request_id != ""
    if expected.quota_failure:
        quota_failure = answer.details["QuotaFailure"]
        assert isinstance(quota_failure, QuotaFailure)
        assert [violation.subject for violation in quota_failure.violations] == ["monitor-contact"]
    # The pushback is RetryInfo's time, or says that a retry is pointless.
    assert answer.pushback_ms == (answer.retry_delay_ms if hinted and fits else -1)


def _assert_one_call_in_all_attempts(calls: Sequence[ReceivedCall], request: MonitorContactRequest) -> None:
    if not calls:
        return
    (token,) = {call.client_token for call in calls}
    (invocation_id,) = {call.invocation_id for call in calls}
    assert str(uuid.UUID(invocation_id)) == invocation_id
    derived = derive_client_token(ANONYMOUS.id, request.client_token)
    assert token == (derived if request.client_token else invocation_id)
    assert [call.sdk_request for call in calls] == [
        f"attempt={number}; max={MAX_ATTEMPTS}" for number in range(1, len(calls) + 1)
    ]
    assert len({call.call.request.body for call in calls}) == 1


def _assert_nothing_leaks(answer: Refused, row: Row) -> None:
    request = row.request
    ids = [request.instance_id, request.contact_id, request.user_id, request.client_token]
    texts = [fault.message or "" for fault in row.faults]
    secrets = [part or "" for part in row.credentials or ()]
    for secret in (*ids, *texts, *secrets, "arn:", "secret-role", "AKID", "127.0.0.1", "Traceback", "aiohttp"):
        assert not secret or secret not in answer.wire


# ---- What the table cannot say in one line ---------------------------------------------------------------------------


async def test_a_fault_that_passes_is_never_seen_by_the_caller() -> None:
    """Throttling, a 500, a lost connection and expired credentials: one call, one ClientToken, one session."""
    faults = (
        Fault("error", error="ThrottlingException", times=1),
        Fault("error", status=503, times=1),
        Fault("close", act_first=True, times=1),
        Fault("error", error="ExpiredTokenException", times=1),
    )
    row = Row("", Reason.INTERNAL, ask(), faults=faults)
    async with _upstream(row) as (service, simulator, credentials):
        response: MonitorContactResponse = await service.stub.MonitorContact(row.request, timeout=_DEADLINE_SECONDS)
        calls, sessions = simulator.calls("MonitorContact"), simulator.sessions
    assert len(calls) == len(faults) + 1
    assert credentials.renewals == 1
    _assert_one_call_in_all_attempts(calls, row.request)
    # The lost answer had acted: with the same token the repetition gets the same session.
    assert [session.id for session in sessions] == [response.contact_id]


@pytest.mark.parametrize("name", ["Retry-After", "x-amz-retry-after"])
async def test_what_connect_says_of_the_wait_reaches_the_caller(name: str) -> None:
    """The hint of the last answer comes back as RetryInfo and pushback, with at most 20 % on top."""
    seconds = 4
    value = str(seconds if name == "Retry-After" else seconds * 1000)
    fault = Fault("error", error="ThrottlingException", headers={name: value})
    async with _upstream(injected(Reason.THROTTLED, fault)) as (service, _simulator, _):
        answer = await refused(service.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS))
    _assert_row(answer, Reason.THROTTLED)
    assert answer.retry_delay_ms is not None
    assert seconds * 1000 <= answer.retry_delay_ms <= seconds * 1200 + 1


async def test_a_wait_that_does_not_fit_is_not_made_and_not_asked_of_the_caller() -> None:
    """Connect says 5 s, the caller has 2: one attempt, RetryInfo says the truth, pushback -1 stops gRPC's own retry."""
    fault = Fault("error", error="ThrottlingException", headers={"Retry-After": "5"})
    tokens = LocalQuota(Settings(**UNPACED).quota, clock=time.monotonic)  # holds everybody back after a 429
    async with _upstream(injected(Reason.THROTTLED, fault), tokens=tokens) as (service, simulator, _):
        answer = await refused(service.stub.MonitorContact(ask(), timeout=2))
        assert simulator.counts["MonitorContact"] == 1
    assert answer.error_info.reason == Reason.THROTTLED
    assert answer.metadata["attempts"] == "1"
    assert answer.retry_delay_ms is not None
    assert answer.retry_delay_ms >= 5000
    assert answer.pushback_ms == -1


@asynccontextmanager
async def _slow_simulator() -> AsyncIterator[tuple[Simulator, asyncio.Event, asyncio.Event]]:
    """Yield a simulator whose calls do not end before the second event is set; the first one tells of a call."""
    working, release = asyncio.Event(), asyncio.Event()

    async def latency(_seconds: float) -> None:
        working.set()
        await release.wait()

    async with Simulator(sleep=latency) as simulator:
        simulator.switches = simulator.switches.change({"latency_seconds": 1})
        yield simulator, working, release


def _caller_in_metadata(context: Any) -> str:
    """Return who a test says is calling."""
    return str(dict(context.invocation_metadata())["caller"])


@asynccontextmanager
async def _two_replicas(simulator: Simulator) -> AsyncIterator[tuple[Service, Service]]:
    """Yield two services that share nothing but Connect."""
    async with AsyncExitStack() as stack:

        async def replica() -> Service:
            connect = await stack.enter_async_context(connect_to(simulator.url))
            return await stack.enter_async_context(serving(connect, sleep=_no_wait))

        yield await replica(), await replica()


async def test_a_token_reused_with_other_fields_says_which_field_is_wrong() -> None:
    """The violation names client_token and that it was used before; the first call's success stays what it was."""
    row = natural("", Reason.IDEMPOTENCY_MISMATCH, ask(), request=ask(user="sam"))
    async with _upstream(row) as (service, simulator, _):
        answer = await refused(service.stub.MonitorContact(row.request, timeout=_DEADLINE_SECONDS))
        again = await service.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS)
        assert [session.id for session in simulator.sessions] == [again.contact_id]
        assert simulator.counts["MonitorContact"] == 1
    _assert_row(answer, Reason.IDEMPOTENCY_MISMATCH)
    assert answer.violations == [("client_token", "REUSED")]


async def test_a_token_with_other_fields_at_another_replica_is_connects_conflict(simulator: Simulator) -> None:
    """The other replica remembers nothing, but derives the same token: Connect refuses a second session."""
    async with _two_replicas(simulator) as (first, second):
        await first.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS)
        answer = await refused(second.stub.MonitorContact(ask(user="sam"), timeout=_DEADLINE_SECONDS))
    assert simulator.counts["MonitorContact"] == 2
    assert len({call.client_token for call in simulator.calls("MonitorContact")}) == 1
    _assert_row(answer, Reason.IDEMPOTENCY_CONFLICT)


async def test_a_repetition_at_another_replica_gets_the_same_session(simulator: Simulator) -> None:
    """A rolling update in between changes nothing for the caller: one session, whoever is asked."""
    async with _two_replicas(simulator) as (first, second):
        responses = [await replica.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS) for replica in (first, second)]
    assert [session.id for session in simulator.sessions] == [responses[0].contact_id]
    assert responses[0] == responses[1]


async def test_a_token_in_flight_at_another_replica_is_a_conflict() -> None:
    """While Connect works on a call, another replica's call with its token is refused, and not tried again."""
    async with (
        _slow_simulator() as (simulator, working, release),
        _two_replicas(simulator) as (one, other),
    ):
        first = asyncio.ensure_future(one.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS))
        await working.wait()
        answer = await refused(other.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS))
        release.set()
        assert (await first).contact_id
        assert simulator.counts["MonitorContact"] == 2
    _assert_row(answer, Reason.IDEMPOTENCY_CONFLICT)


async def test_the_same_call_in_flight_is_joined() -> None:
    """While Connect works on a call, the same one again waits for its answer: one request, two equal answers."""
    async with (
        _slow_simulator() as (simulator, working, release),
        connect_to(simulator.url) as connect,
        serving(connect, sleep=_no_wait) as service,
    ):
        both = [asyncio.ensure_future(service.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS))]
        await working.wait()
        both.append(asyncio.ensure_future(service.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS)))
        # Answered after the second call has come: calls of one connection arrive in their order.
        await refused(service.stub.MonitorContact(ask(user=".."), timeout=_DEADLINE_SECONDS))
        release.set()
        first, second = await asyncio.gather(*both)
        assert first == second
        assert [session.id for session in simulator.sessions] == [first.contact_id]
        assert simulator.counts["MonitorContact"] == 1


async def test_another_caller_with_the_same_token_is_another_action(simulator: Simulator) -> None:
    """Two callers that chose the same client_token neither join nor collide: each starts its own session."""
    async with connect_to(simulator.url) as connect, serving(connect, caller_of=_caller_in_metadata) as service:
        for caller, user in (("alice", "sue"), ("bob", "sam")):
            request = ask(user=user)
            await service.stub.MonitorContact(request, timeout=_DEADLINE_SECONDS, metadata=[("caller", caller)])
    tokens = [call.client_token for call in simulator.calls("MonitorContact")]
    assert tokens == [derive_client_token(caller, ask().client_token) for caller in ("alice", "bob")]
    assert len(simulator.sessions) == 2


async def test_nobody_listens_at_connects_address() -> None:
    """A refused connection is tried six times and then reported; the caller may repeat, even without a token."""
    async with Simulator() as gone:
        url = gone.url
    async with connect_to(url) as connect, serving(connect, sleep=_no_wait, outage=_no_outage()) as service:
        answer = await refused(service.stub.MonitorContact(ask(token=""), timeout=_DEADLINE_SECONDS))
    _assert_row(answer, Reason.CONNECT_UNREACHABLE)
    assert answer.metadata == {"attempts": str(MAX_ATTEMPTS), "aws_request_id": ""}


async def test_the_request_id_of_aws_is_handed_on() -> None:
    """What AWS support asks for stands in the metadata, of the last attempt."""
    fault = Fault("error", error="AccessDeniedException", headers={"x-amzn-RequestId": "7c6b-support-asks-for-this"})
    async with _upstream(injected(Reason.ACCESS_DENIED, fault)) as (service, _simulator, _):
        answer = await refused(service.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS))
    assert answer.metadata == {"aws_request_id": "7c6b-support-asks-for-this"}


# ---- The service's own reasons ---------------------------------------------------------------------------------------


async def test_every_violation_is_named_and_nothing_is_sent(service: Service, simulator: Simulator) -> None:
    """VALIDATION_FAILED names all broken limits at once and echoes no value."""
    request = MonitorContactRequest(
        contact_id="secret" * 43,
        user_id="..",
        client_token="t" * 501,
    )
    request.allowed_monitor_capabilities.extend([2, 2, 7])  # type: ignore[list-item]  # an enum is open on the wire
    answer = await refused(service.stub.MonitorContact(request, timeout=_DEADLINE_SECONDS))
    _assert_row(answer, Reason.VALIDATION_FAILED)
    assert answer.violations == [
        ("instance_id", "REQUIRED"),
        ("contact_id", "TOO_LONG"),
        ("user_id", "RESERVED_ID"),
        ("allowed_monitor_capabilities", "TOO_MANY"),
        ("allowed_monitor_capabilities", "BARGE_WITHOUT_SILENT_MONITOR"),
        ("allowed_monitor_capabilities[1]", "DUPLICATE"),
        ("allowed_monitor_capabilities[2]", "UNKNOWN_VALUE"),
        ("client_token", "TOO_LONG"),
    ]
    assert answer.metadata == {"violations": "8"}
    assert "secret" not in answer.wire
    assert "ttt" not in answer.wire
    assert not simulator.calls()


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\x02\xc3\x28", b"\x0a\x7fshort"], ids=repr)
async def test_undecodable_bytes_are_a_violation_too(raw: bytes, service: Service, simulator: Simulator) -> None:
    """Bytes that are no request at all: not gRPC's bare UNKNOWN, but VALIDATION_FAILED."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = service.channel.unary_unary(
        "/monitor_contact.v1.MonitorContactService/MonitorContact"
    )
    answer = await refused(call(raw, timeout=_DEADLINE_SECONDS))
    _assert_row(answer, Reason.VALIDATION_FAILED)
    assert answer.violations == [("", "UNDECODABLE")]
    assert not simulator.calls()


async def test_too_short_a_deadline_is_refused_without_a_call(service: Service, simulator: Simulator) -> None:
    """With 110 ms, less than 100 are useful after the reply margin: DEADLINE_TOO_SHORT, nothing sent."""
    answer = await refused(service.stub.MonitorContact(ask(), timeout=0.11))
    _assert_row(answer, Reason.DEADLINE_TOO_SHORT)
    assert answer.metadata["time_needed_ms"] == "100"
    assert 0 <= int(answer.metadata["time_left_ms"]) < 100
    assert not simulator.calls()


async def test_a_deadline_that_connect_cannot_meet_is_refused_without_a_call(simulator: Simulator) -> None:
    """When calls usually take 8 s, one with 3 s left is not begun."""
    async with connect_to(simulator.url) as connect, serving(connect, call_seconds=8) as service:
        answer = await refused(service.stub.MonitorContact(ask(), timeout=3))
    _assert_row(answer, Reason.DEADLINE_TOO_SHORT)
    assert answer.metadata["time_needed_ms"] == "4000"
    assert 0 < int(answer.metadata["time_left_ms"]) <= 2990  # on the wire gRPC rounds time-outs up to 10 ms
    assert not simulator.calls()


async def test_a_full_replica_refuses_at_once() -> None:
    """OVERLOADED tells which limit it was; the call that has the place is not disturbed."""
    settings = Settings(**UNPACED, max_in_flight=1)
    async with (
        _slow_simulator() as (simulator, working, release),
        connect_to(simulator.url) as connect,
        serving(connect, settings) as service,
    ):
        first = asyncio.ensure_future(service.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS))
        await working.wait()
        answer = await refused(service.stub.MonitorContact(ask(user="sam", token=""), timeout=_DEADLINE_SECONDS))
        release.set()
        assert (await first).contact_id
        assert simulator.counts["MonitorContact"] == 1
    _assert_row(answer, Reason.OVERLOADED)
    assert answer.metadata == {"limit_name": "in_flight", "limit": "1", "current": "1"}


async def _until_waiting(service: Service, count: int) -> None:
    """Wait until so many calls wait for their turn: nobody reports it, so it is asked again and again."""
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while service.admission.turns.waiting != count:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


@asynccontextmanager
async def _one_waiting(simulator: Simulator, **limits: Any) -> AsyncIterator[Service]:
    """Yield a service with a quota of one request in ten seconds: one call of alice's was sent, a second one waits."""
    settings = Settings(listen="127.0.0.1:0", quota_rate=0.1, quota_burst=1, **limits)
    async with (
        connect_to(simulator.url) as connect,
        serving(connect, settings, caller_of=_caller_in_metadata) as service,
    ):
        await _ask_as(service, "alice", ask())
        waiting = _ask_as(service, "alice", ask(user="sam", token="waits"))
        await _until_waiting(service, 1)
        yield service
        waiting.cancel()
        await _until_waiting(service, 0)
    assert simulator.counts["MonitorContact"] == 1


def _ask_as(
    service: Service, caller: str, request: MonitorContactRequest, *, seconds: float = _DEADLINE_SECONDS
) -> "grpc.aio.UnaryUnaryCall[MonitorContactRequest, MonitorContactResponse]":
    return service.stub.MonitorContact(request, timeout=seconds, metadata=[("caller", caller)])


async def test_a_caller_that_fills_its_queue_is_refused_and_others_are_not(simulator: Simulator) -> None:
    """OVERLOADED by queue_per_caller for the caller whose queue is full; another caller may still wait."""
    async with _one_waiting(simulator, queue_per_caller=1) as service:
        answer = await refused(_ask_as(service, "alice", ask(user="dora", token="")))
        of_bob = _ask_as(service, "bob", ask(user="dora", token=""))
        await _until_waiting(service, 2)
        of_bob.cancel()
        await _until_waiting(service, 1)
    _assert_row(answer, Reason.OVERLOADED)
    assert answer.metadata == {"limit_name": "queue_per_caller", "limit": "1", "current": "1"}
    assert answer.retry_delay_ms is not None
    assert answer.retry_delay_ms > 10_000  # a second one behind the first that waits


async def test_a_full_queue_refuses_everybody(simulator: Simulator) -> None:
    """OVERLOADED by queue_total, also for a caller that has nothing in it."""
    async with _one_waiting(simulator, queue_total=1) as service:
        answer = await refused(_ask_as(service, "bob", ask(user="dora", token="")))
    _assert_row(answer, Reason.OVERLOADED)
    assert answer.metadata == {"limit_name": "queue_total", "limit": "1", "current": "1"}


async def test_what_the_quota_cannot_serve_in_time_is_refused_at_once(simulator: Simulator) -> None:
    """OVERLOADED by quota_wait_ms: the longest wait that the deadline allows and the expected one, in milliseconds."""
    async with _one_waiting(simulator) as service:
        answer = await refused(_ask_as(service, "bob", ask(user="dora", token=""), seconds=8))
        assert service.admission.turns.waiting == 1
    _assert_row(answer, Reason.OVERLOADED, fits=False)
    assert answer.metadata["limit_name"] == "quota_wait_ms"
    assert 0 < int(answer.metadata["limit"]) < 8000 - 20  # less the reply margin and a usual call
    assert 8000 < int(answer.metadata["current"]) <= 20_500  # the second token from now, at 0.98 of the quota
    assert answer.retry_delay_ms is not None
    assert answer.retry_delay_ms >= int(answer.metadata["current"])


async def test_in_an_outage_what_cannot_outlast_the_next_probe_is_refused_at_once() -> None:
    """After five failures a short call gets the failure that opened the outage, attempts 0, and nothing is sent.

    The first call goes on as the probe; its success ends the outage for everybody.
    """
    async with (
        _slow_simulator() as (simulator, probing, release),
        connect_to(simulator.url) as connect,
        serving(connect, sleep=_no_wait) as service,
    ):
        simulator.switches = simulator.switches.change({"latency_seconds": 0})
        simulator.inject(
            Fault("error", error="InternalServiceException", times=FAILURES_TO_OPEN),
            Fault("delay", delay_seconds=1, times=1),
        )
        opened_it = asyncio.ensure_future(service.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS))
        await probing.wait()
        answer = await refused(service.stub.MonitorContact(ask(user="sam", token=""), timeout=0.5))
        assert simulator.counts["MonitorContact"] == FAILURES_TO_OPEN + 1
        release.set()
        assert (await opened_it).contact_id
        assert (await service.stub.MonitorContact(ask(user="sam", token=""), timeout=0.5)).contact_id
    _assert_row(answer, Reason.INTERNAL_SERVICE, fits=False)
    assert answer.metadata == {"attempts": "0", "aws_request_id": ""}
    assert answer.retry_delay_ms is not None
    assert 500 <= answer.retry_delay_ms <= 601


async def test_a_replica_that_stops_sends_its_callers_away(service: Service, simulator: Simulator) -> None:
    """SHUTTING_DOWN names a time that suffices to find another replica; nothing is sent."""
    service.admission.close()
    answer = await refused(service.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS))
    _assert_row(answer, Reason.SHUTTING_DOWN)
    assert answer.retry_delay_ms == 100
    assert not simulator.calls()


class _BrokenCredentials:
    """A bug: an exception that nobody has foreseen."""

    @property
    def current(self) -> ReadOnlyCredentials | None:
        raise RuntimeError("secret text")

    async def renew(self) -> None:
        """Never get here."""


async def test_a_bug_is_internal_and_its_text_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """INTERNAL carries a correlation id that the log has too; the exception's text is in the log only."""
    async with connect_to("http://127.0.0.1:1", _BrokenCredentials()) as connect, serving(connect) as service:
        answer = await refused(service.stub.MonitorContact(ask(), timeout=_DEADLINE_SECONDS))
    _assert_row(answer, Reason.INTERNAL)
    assert answer.metadata == {"correlation_id": answer.request_id}
    assert "secret text" not in answer.wire
    assert "RuntimeError" not in answer.wire
    assert "secret text" in caplog.text


def test_no_reason_is_left_out() -> None:
    """Every reason of the vocabulary has its expectation here, and every one of Connect's a row, but those to come."""
    assert set(EXPECTED) == set(Reason) - NOT_YET
    own = {
        Reason.VALIDATION_FAILED,
        Reason.DEADLINE_TOO_SHORT,
        Reason.OVERLOADED,
        Reason.SHUTTING_DOWN,
        Reason.INTERNAL,
    }
    assert {row.reason for row in ROWS} == set(EXPECTED) - own
    assert len({(row.reason, row.cause) for row in ROWS}) == len(ROWS)
