"""Every failure becomes one typed exception: by reason, by code where no reason is named, by whatever is left of it."""

import contextlib
import copy
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import monitor_contact_client
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from monitor_contact.v1 import monitor_contact_pb2 as pb
from monitor_contact_client import (
    AskPermission,
    CallCancelled,
    ChangeState,
    ConnectBadResponse,
    DeadlineExceeded,
    ErrorReason,
    FixRequest,
    MessageTooLarge,
    MonitorContactError,
    NotImplementedByServer,
    RequestTooLarge,
    RetryLater,
    ServiceUnavailable,
    TellOperator,
    Throttled,
    ValidationFailed,
    Violation,
)
from monitor_contact_client._errors import BY_CODE_ALONE, BY_REASON, FAMILY_BY_CODE

from client.scripted_server import (
    Step,
    abort,
    details_trailer,
    error_info,
    refuse,
    refuse_for,
    retry_info,
    serving,
)
from client.twins import Kind, connected

Code = grpc.StatusCode
FAMILIES: dict[type[MonitorContactError], set[str]] = {
    RetryLater: {
        "THROTTLED",
        "OVERLOADED",
        "INTERNAL_SERVICE",
        "CONNECT_UNREACHABLE",
        "AUDIT_UNAVAILABLE",
        "SHUTTING_DOWN",
    },
    FixRequest: {
        "VALIDATION_FAILED",
        "IDEMPOTENCY_MISMATCH",
        "INVALID_REQUEST",
        "RESOURCE_NOT_FOUND",
        "CAPABILITIES_REQUIRED",
        "UNSUPPORTED_CHANNEL",
        "DEADLINE_TOO_SHORT",
    },
    AskPermission: {"UNAUTHENTICATED", "CALLER_NOT_PERMITTED", "SUPERVISOR_NOT_PERMITTED", "ACCESS_DENIED"},
    ChangeState: {
        "CONTACT_NOT_MONITORABLE",
        "NO_AGENT_PARTICIPANT",
        "SERVICE_QUOTA_EXCEEDED",
        "RECORDING_DISABLED",
        "MULTI_PARTY_DISABLED",
        "USER_PHONE_NUMBER_INVALID",
        "IDEMPOTENCY_CONFLICT",
    },
    TellOperator: {"SERVICE_LINKED_ROLE_MISSING", "SERVICE_CREDENTIALS", "CONNECT_BAD_RESPONSE", "INTERNAL"},
}
PREFIX = "ERROR_REASON_"
PROTO = Path(pb.__file__).with_name("monitor_contact.proto").read_text("utf-8")


def contract_codes() -> dict[str, str]:
    """Read each reason's gRPC code from the contract's own comment."""
    return {name: code for code, name in re.findall(r"// Code: (\w+)\.[^=]*?" + PREFIX + r"(\w+) = \d+;", PROTO)}


def every_class() -> list[type[MonitorContactError]]:
    """List every public exception class, base and families included."""
    public = (getattr(monitor_contact_client, name) for name in monitor_contact_client.__all__)
    return [each for each in public if inspect.isclass(each) and issubclass(each, MonitorContactError)]


async def failure(kind: Kind, *steps: Step) -> MonitorContactError:
    """Make one call without retries; return how it failed."""
    with serving(*steps) as server:
        async with connected(kind, server.target, retries=False) as client:
            with pytest.raises(MonitorContactError) as caught:
                await client.call(client_token="token")
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert caught.value.client_token == "token"
    return caught.value


# --- The table ---


def test_every_reason_of_the_contract_has_a_member_and_a_class() -> None:
    """A reason added to the contract fails here until the client knows it."""
    contract = {name.removeprefix(PREFIX): number for name, number in pb.ErrorReason.items()}
    del contract["UNSPECIFIED"]
    assert {reason.name: reason.value for reason in ErrorReason} == contract
    assert set(BY_REASON) == set(ErrorReason)
    assert len(set(BY_REASON.values())) == len(BY_REASON)


@pytest.mark.parametrize("reason", ErrorReason)
def test_class_is_named_after_its_reason_and_has_the_contracts_code(reason: ErrorReason) -> None:
    """`THROTTLED` is `Throttled`, public, with the code that the contract's comment names."""
    cls = BY_REASON[reason]
    assert cls.__name__ == "".join(word.capitalize() for word in reason.name.split("_"))
    assert getattr(monitor_contact_client, cls.__name__) is cls
    assert cls.reason is reason
    assert cls.code.name == contract_codes()[reason.name]


def test_families_partition_the_reasons() -> None:
    """Each reason belongs to one family: what its caller should do."""
    found = {
        family: {reason.name for reason, cls in BY_REASON.items() if issubclass(cls, family)} for family in FAMILIES
    }
    assert found == FAMILIES
    assert all(cls.__bases__[0] in FAMILIES for cls in (*BY_REASON.values(), *BY_CODE_ALONE.values()))


def test_every_code_has_a_family_and_every_public_class_a_use() -> None:
    """No code falls through the tables, and no class is dead."""
    assert set(FAMILY_BY_CODE) == set(Code) - {Code.OK}
    used = {MonitorContactError, RequestTooLarge, *FAMILIES, *BY_REASON.values(), *BY_CODE_ALONE.values()}
    assert set(every_class()) == used


# --- Over the wire ---


@pytest.mark.parametrize("reason", ErrorReason)
async def test_each_reason_arrives_as_its_class(kind: Kind, reason: ErrorReason) -> None:
    """The server's refusal over a real socket becomes the class, with everything that it carries."""
    error = await failure(kind, refuse_for(reason, BY_REASON[reason].code, 250))
    assert type(error) is BY_REASON[reason]
    assert (error.reason, error.reason_text, error.code) == (reason, reason.name, BY_REASON[reason].code)
    assert (error.message, error.metadata) == ("no", {"aws_request_id": "aws-1"})
    assert (error.request_id, error.aws_request_id, error.retry_after) == ("request-1", "aws-1", 0.25)
    assert error.violations == ()


async def test_violations_arrive_all_of_them(kind: Kind) -> None:
    """BadRequest becomes a tuple of violations in the server's order."""
    bad_request = error_details_pb2.BadRequest(
        field_violations=[
            {"field": "instance_id", "reason": "REQUIRED", "description": "1 to 100 characters"},
            {"field": "allowed_monitor_capabilities[1]", "reason": "DUPLICATE", "description": "each at most once"},
        ]
    )
    error = await failure(
        kind, refuse(Code.INVALID_ARGUMENT, "bad", [error_info("VALIDATION_FAILED", violations="2"), bad_request])
    )
    assert isinstance(error, ValidationFailed)
    assert error.violations == (
        Violation("instance_id", "REQUIRED", "1 to 100 characters"),
        Violation("allowed_monitor_capabilities[1]", "DUPLICATE", "each at most once"),
    )
    assert "allowed_monitor_capabilities[1]: DUPLICATE" in str(error)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
async def test_answer_without_details_is_typed_by_its_code(kind: Kind, code: Code) -> None:
    """What gRPC or a proxy answers by itself: a class by code, no reason."""
    error = await failure(kind, abort(code, "text"))
    assert type(error) is BY_CODE_ALONE.get(code, FAMILY_BY_CODE[code])
    assert (error.code, error.reason, error.reason_text, error.message) == (code, None, None, "text")


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
@pytest.mark.parametrize(("reason", "domain"), [("FROM_THE_FUTURE", "monitor-contact"), ("THROTTLED", "proxy.example")])
async def test_unknown_reason_is_treated_by_its_code(kind: Kind, code: Code, reason: str, domain: str) -> None:
    """A reason of a newer contract or of another domain: its family by code, its text kept."""
    error = await failure(kind, refuse(code, "no", [error_info(reason, domain, key="value"), retry_info(1.5)]))
    assert type(error) is FAMILY_BY_CODE[code]
    assert (error.reason, error.reason_text, error.retry_after) == (None, reason, 1.5)
    assert error.metadata == {"key": "value"}


def broken_detail(kind: str) -> status_pb2.Status:
    """Make a status whose one detail says that it is of the kind, and is not."""
    packed = any_pb2.Any(type_url=f"type.googleapis.com/google.rpc.{kind}", value=b"\xff\xff\xff")
    return status_pb2.Status(code=Code.UNAVAILABLE.value[0], message="no", details=[packed])


MALFORMED: dict[str, bytes] = {
    "not a status": b"\xff\xff\xff",
    "empty": b"",
    "another code": details_trailer(Code.NOT_FOUND, "no", [error_info("THROTTLED")])[1],
    "another message": details_trailer(Code.UNAVAILABLE, "yes", [error_info("THROTTLED")])[1],
    **{
        kind: broken_detail(kind).SerializeToString()
        for kind in ("ErrorInfo", "BadRequest", "RetryInfo", "RequestInfo")
    },
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_details_leave_the_plain_code(kind: Kind, raw: bytes) -> None:
    """Details that cannot be read or contradict the status are as good as none, and never another exception."""
    trailers = (("grpc-status-details-bin", raw), ("x-request-id", "request-1"))
    error = await failure(kind, abort(Code.UNAVAILABLE, "no", trailers))
    assert type(error) is ServiceUnavailable
    assert (error.reason, error.violations, error.retry_after) == (None, (), None)
    assert error.request_id == "request-1"


async def test_negative_wait_is_no_wait(kind: Kind) -> None:
    """`retry_after` can go straight into a sleep."""
    error = await failure(kind, refuse(Code.UNAVAILABLE, "no", [error_info("SHUTTING_DOWN"), retry_info(-3.0)]))
    assert error.retry_after == 0.0


async def test_trailers_of_20_kb_are_a_typed_resource_exhausted(kind: Kind) -> None:
    """The transport throws the answer away; what is left is typed, not a ValueError."""
    for _ in range(5):
        error = await failure(kind, abort(Code.INVALID_ARGUMENT, "no", (("big-bin", b"x" * 20_000),)))
        assert type(error) is MessageTooLarge
        assert error.code is Code.RESOURCE_EXHAUSTED


async def test_unknown_method_is_typed(kind: Kind) -> None:
    """A server without the service: UNIMPLEMENTED by gRPC itself."""
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    async with connected(kind, f"127.0.0.1:{port}") as client:
        with pytest.raises(NotImplementedByServer):
            await client.call()
    server.stop(None).wait()


async def test_nobody_listening_is_unavailable_at_once(kind: Kind) -> None:
    """`wait_for_ready` is off: a dead target is an error now, not at the deadline."""
    async with connected(kind, "127.0.0.1:1", retries=False) as client:
        with pytest.raises(ServiceUnavailable):
            await client.call(timeout_seconds=5.0)


@contextlib.contextmanager
def dying_server() -> Iterator[str]:
    """Run a server, in a process of its own, that dies when it is called."""
    script = Path(__file__).with_name("dying_server.py")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


async def test_server_that_dies_during_the_call_is_unavailable(kind: Kind) -> None:
    """The connection breaks under the call; the token is there to repeat it."""
    with dying_server() as target:
        async with connected(kind, target) as client:
            with pytest.raises(ServiceUnavailable) as caught:
                await client.call(client_token="token", timeout_seconds=5.0)
    assert caught.value.client_token == "token"
    assert caught.value.reason is None


# --- The exception as a Python object ---


def full(cls: type[MonitorContactError]) -> MonitorContactError:
    """Make an error of the class with everything in it."""
    return cls(
        "sentence",
        metadata={"aws_request_id": "aws-1"},
        violations=[Violation("user_id", "REQUIRED", "1 to 256 characters")],
        retry_after=0.5,
        request_id="request-1",
        client_token="token",
    )


@pytest.mark.parametrize("cls", every_class())
def test_errors_survive_pickle_and_copy(cls: type[MonitorContactError]) -> None:
    """Multiprocessing and result backends pickle exceptions: nothing may be lost."""
    error = full(cls)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert type(again) is cls
        assert vars(again) == vars(error)
        assert str(again) == str(error)
        assert again.reason is error.reason


@pytest.mark.parametrize("cls", every_class())
def test_errors_are_hashable_and_pass_through_context_managers(cls: type[MonitorContactError]) -> None:
    """A frozen or value-compared exception fails in here."""

    @contextlib.contextmanager
    def scope() -> Iterator[None]:
        yield

    error = full(cls)
    error.add_note("note")
    with pytest.raises(cls) as caught, scope():
        raise error
    assert len({error, caught.value, cls()}) == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Throttled(), "THROTTLED (RESOURCE_EXHAUSTED)"),
        (Throttled(retry_after=0.5), "THROTTLED (RESOURCE_EXHAUSTED) [retry after 0.5 s]"),
        (DeadlineExceeded("too slow", client_token="t"), "DEADLINE_EXCEEDED: too slow [client token t]"),
        (RetryLater("x", code=Code.ABORTED, reason_text="NEW"), "NEW (ABORTED): x"),
        (
            ConnectBadResponse("odd", metadata={"aws_request_id": "a"}, request_id="r"),
            "CONNECT_BAD_RESPONSE (INTERNAL): odd [request id r; AWS request id a]",
        ),
    ],
)
def test_text_says_what_support_asks_for(error: MonitorContactError, text: str) -> None:
    """One line with cause, code, sentence, wait and ids."""
    assert str(error) == text


def test_empty_aws_request_id_is_none() -> None:
    """The contract sends the key with an empty value where nothing is known."""
    assert Throttled(metadata={"aws_request_id": ""}).aws_request_id is None


@pytest.mark.parametrize("cls", [CallCancelled, DeadlineExceeded, ServiceUnavailable, MessageTooLarge])
def test_errors_of_the_transport_have_no_reason(cls: type[MonitorContactError]) -> None:
    """They can be made by hand, for the tests of users, and say their code."""
    error = cls()
    assert (error.reason, error.reason_text) == (None, None)
    assert str(error) == error.code.name


class Wire(grpc.RpcError):
    """A gRPC error with trailers of our choice, without a wire."""

    def __init__(self, trailers: Any) -> None:
        self._trailers = trailers

    def code(self) -> Code:
        """Return the code."""
        return Code.UNAVAILABLE

    def details(self) -> str | None:
        """Return no message."""
        return None

    def trailing_metadata(self) -> Any:
        """Return the trailers."""
        return self._trailers


@pytest.mark.parametrize("trailers", [None, (), (("x-request-id", b"raw"),)])
def test_translator_takes_what_grpc_may_leave_out(trailers: Iterable[tuple[str, bytes]] | None) -> None:
    """No trailers, no message: typed all the same."""
    error = monitor_contact_client._errors.translate(Wire(trailers), "token")
    assert type(error) is ServiceUnavailable
    assert (error.message, error.request_id, error.client_token) == ("", None, "token")
