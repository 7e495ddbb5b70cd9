"""The real grpcurl against a running service: what somebody sees who has nothing but that tool."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import harness
import monitor_contact.v1
import pytest
from e2e.processes import SERVICE, Ended, ServiceProcess, run, serve
from monitor_contact_service.simulator import UNLIMITED, Fault, Simulator, Switches

PROTO = Path(monitor_contact.v1.__path__[0]).parent.parent
METHOD = f"{SERVICE}/MonitorContact"
VALID = {"instance_id": harness.INSTANCE_ID, "contact_id": harness.CONTACT_ID, "user_id": harness.USER_ID}
ERROR_EXIT_BASE = 64  # grpcurl exits with this plus the gRPC code


class Grpcurl(NamedTuple):
    """The tool, aimed at one service."""

    program: str
    target: str

    async def __call__(self, *arguments: str, options: tuple[str, ...] = ()) -> Ended:
        """Run it; `options` stand before the target, `arguments` behind it."""
        return await run("-plaintext", *options, self.target, *arguments, program=self.program)

    async def call(self, request: object, method: str = METHOD, options: tuple[str, ...] = ()) -> Ended:
        """Call a method with this request; errors come as JSON."""
        data = json.dumps(request)
        return await self(method, options=("-format-error", "-d", data, *options))


@pytest.fixture
def program(require_tool: Callable[[str, str], str]) -> str:
    """The path of grpcurl."""
    return require_tool("grpcurl", "that the real grpcurl can list, describe and call the service")


@pytest.fixture(scope="module")
async def connect() -> AsyncIterator[Simulator]:
    """One simulator, without its quota and limits, for all tests of this module."""
    async with Simulator(switches=Switches(hard_limits=False)) as running:
        running.set_quota("MonitorContact", UNLIMITED)
        yield running


@pytest.fixture(scope="module")
async def reflecting(connect: Simulator) -> AsyncIterator[ServiceProcess]:
    """A service process with reflection."""
    async with serve(connect.environment) as service:
        await service.serving()
        yield service


@pytest.fixture(scope="module")
async def unreflecting(connect: Simulator) -> AsyncIterator[ServiceProcess]:
    """A service process without reflection."""
    async with serve({**connect.environment, "MONITOR_CONTACT_REFLECTION": "off"}) as service:
        await service.serving()
        yield service


@pytest.fixture
def grpcurl(program: str, reflecting: ServiceProcess) -> Grpcurl:
    """grpcurl, aimed at the service with reflection."""
    return Grpcurl(program, reflecting.target)


@pytest.fixture
def unreflected(program: str, unreflecting: ServiceProcess) -> Grpcurl:
    """grpcurl, aimed at the service without reflection."""
    return Grpcurl(program, unreflecting.target)


def _error(ended: Ended) -> dict[str, Any]:
    """Return the error that grpcurl printed, its details by their short type name."""
    error: dict[str, Any] = json.loads(ended.err)
    assert ended.exit_code == ERROR_EXIT_BASE + error["code"]
    error["details"] = {detail["@type"].rpartition(".")[2]: detail for detail in error["details"]}
    return error


async def test_everything_is_listed_and_described_with_comments(grpcurl: Grpcurl) -> None:
    """Services, method, messages and enums can be found by name, and the contract's comments come with them."""
    listed = await grpcurl("list")
    assert listed.out.split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ]
    assert (await grpcurl("list", SERVICE)).out.split() == [f"{SERVICE}.MonitorContact"]
    for symbol, comment in {
        SERVICE: "// Puts supervisors into silent monitoring of live contacts of Amazon Connect.",
        f"{SERVICE}.MonitorContact": "// Not idempotent by itself: a second call starts a second session.",
        "monitor_contact.v1.MonitorContactRequest": "// Required. The Amazon Connect instance that holds the contact",
        "monitor_contact.v1.MonitorContactResponse": "// Always set. The id of the new contact",
        "monitor_contact.v1.MonitorCapability": "// The supervisor may listen.",
        "monitor_contact.v1.ErrorReason": "// Connect refused for rate, and no later attempt fitted the deadline.",
        "google.rpc.ErrorInfo": "// The reason of the error.",
    }.items():
        described = await grpcurl("describe", symbol)
        assert described.exit_code == 0, described.err
        assert comment in described.out


async def test_everything_that_is_listed_can_be_described(grpcurl: Grpcurl) -> None:
    """`describe` without a name walks all services, reflection's own two versions included."""
    described = await grpcurl("describe")
    assert described.exit_code == 0, described.err
    for service in (await grpcurl("list")).out.split():
        assert f"{service} is a service:" in described.out


async def test_a_request_can_be_pasted_from_the_template(grpcurl: Grpcurl) -> None:
    """What grpcurl offers as a template has every field of the request under its contract name."""
    described = await grpcurl("describe", "monitor_contact.v1.MonitorContactRequest", options=("-msg-template",))
    template = json.loads(described.out[described.out.index("{\n", described.out.index("template")) :])
    assert set(template) == {"instanceId", "contactId", "userId", "allowedMonitorCapabilities", "clientToken"}


async def test_a_call_succeeds(grpcurl: Grpcurl) -> None:
    """A valid call prints the new session."""
    request = {
        **VALID,
        "allowed_monitor_capabilities": ["MONITOR_CAPABILITY_SILENT_MONITOR", "MONITOR_CAPABILITY_BARGE"],
    }
    ended = await grpcurl.call(request)
    assert ended.exit_code == 0, ended.err
    answer = json.loads(ended.out)
    assert answer["contactArn"].endswith(answer["contactId"])


async def test_a_validation_error_is_decoded(grpcurl: Grpcurl) -> None:
    """Every violation is readable: ErrorInfo, BadRequest and RequestInfo are decoded by what reflection tells."""
    error = _error(await grpcurl.call({"instance_id": "i" * 101, "contact_id": ".."}))
    assert error["details"]["ErrorInfo"]["reason"] == "VALIDATION_FAILED"
    assert error["details"]["ErrorInfo"]["metadata"] == {"violations": "3"}
    violations = {(each["field"], each["reason"]) for each in error["details"]["BadRequest"]["fieldViolations"]}
    assert violations == {("instance_id", "TOO_LONG"), ("contact_id", "RESERVED_ID"), ("user_id", "REQUIRED")}
    assert error["details"]["RequestInfo"]["requestId"]


async def test_a_throttled_call_shows_when_to_come_again(grpcurl: Grpcurl, connect: Simulator) -> None:
    """RetryInfo and QuotaFailure are decoded, and the pushback is among the trailers."""
    connect.inject(Fault("error", error="ThrottlingException"))
    try:
        error = _error(await grpcurl.call(VALID, options=("-max-time", "1")))
        shown = await grpcurl(METHOD, options=("-v", "-max-time", "1", "-d", json.dumps(VALID)))
    finally:
        connect.clear_faults()
    assert error["details"]["ErrorInfo"]["reason"] == "THROTTLED"
    assert set(error["details"]["ErrorInfo"]["metadata"]) == {"attempts", "aws_request_id"}
    assert error["details"]["RetryInfo"]["retryDelay"].endswith("s")
    assert error["details"]["QuotaFailure"]["violations"]
    assert "grpc-retry-pushback-ms: " in shown.out


async def test_health_can_be_checked(grpcurl: Grpcurl) -> None:
    """Check and List of grpc.health.v1 work by reflection alone."""
    checked = await grpcurl.call({"service": SERVICE}, method="grpc.health.v1.Health/Check")
    assert json.loads(checked.out) == {"status": "SERVING"}
    unknown = await grpcurl.call({"service": "nonsense"}, method="grpc.health.v1.Health/Check")
    assert json.loads(unknown.err)["code"] == 5
    listed = await grpcurl.call({}, method="grpc.health.v1.Health/List")
    assert json.loads(listed.out) == {
        "statuses": {name: {"status": "SERVING"} for name in ("", "liveness", "quota", "readiness", SERVICE)}
    }


async def test_the_one_proto_file_is_enough(unreflected: Grpcurl, tmp_path: Path) -> None:
    """With the contract's file alone in an empty folder, and no reflection, a call works and is refused readably."""
    contract = tmp_path / "monitor_contact.proto"
    contract.write_bytes((PROTO / "monitor_contact/v1/monitor_contact.proto").read_bytes())
    by_file = ("-import-path", str(tmp_path), "-proto", contract.name)
    succeeded = await unreflected.call(VALID, options=by_file)
    assert succeeded.exit_code == 0, succeeded.err
    assert json.loads(succeeded.out)["contactId"]
    refused = await unreflected.call({}, options=by_file)
    assert refused.exit_code == ERROR_EXIT_BASE + 3
    assert "The request breaks limits of the contract" in refused.err


async def test_the_descriptor_set_decodes_the_details_too(unreflected: Grpcurl) -> None:
    """With the generated descriptor set, and no reflection, the error details are decoded."""
    by_set = ("-protoset", str(PROTO / "monitor_contact/v1/monitor_contact.binpb"))
    succeeded = await unreflected.call(VALID, options=by_set)
    assert succeeded.exit_code == 0, succeeded.err
    error = _error(await unreflected.call({}, options=by_set))
    assert error["details"]["ErrorInfo"]["reason"] == "VALIDATION_FAILED"
    assert len(error["details"]["BadRequest"]["fieldViolations"]) == 3


async def test_without_reflection_list_says_so(unreflected: Grpcurl) -> None:
    """A service that was told to keep its reflection to itself answers `list` with a clear error."""
    ended = await unreflected("list")
    assert ended.exit_code == 1
    assert "server does not support the reflection API" in ended.err
