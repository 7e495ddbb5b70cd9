"""No identifier, token, secret or text of AWS gets where it does not belong: a canary stands in each.

Every field and header of calls, Connect's error texts and the AWS credentials hold one. Whatever becomes of the calls,
no log line, no page of metrics and no refusal holds any; the audit holds the identifiers, which it is for, no more.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import grpc
import grpc.aio
import harness
import pytest
from e2e.answers import METHOD
from e2e.identified import READS, UNPACED_READS, issuer_keys, person_token
from e2e.processes import ServiceProcess, serve
from issuers import ISSUER
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest, MonitorContactResponse
from monitor_contact_service.simulator import (
    UNLIMITED,
    Fault,
    Quota,
    Simulator,
    Switches,
    default_world_text,
    parse_world,
)
from raw_h2 import connected

# What the audit is for. Ids are UUIDs, as real ones.
INSTANCE: Final = "ca9a1e00-1111-4000-8000-c0ffee000001"
CONTACT: Final = "ca9a1e00-2222-4000-8000-c0ffee000002"
USER: Final = "ca9a1e00-3333-4000-8000-c0ffee000003"
TICKET: Final = "canary-ticket"
REASON: Final = "canary-reason"
PERSON: Final = "canary-person"
TOKEN_ID: Final = "canary-jti"
RECORDED: Final = (INSTANCE, CONTACT, USER, TICKET, REASON, PERSON, TOKEN_ID)
# What nobody may keep.
CLIENT_TOKEN: Final = "canary-client-token"
BEARER: Final = "canary-bearer"
HEADER: Final = "x-canary-name"
VALUE: Final = "canary-value"
AGENT: Final = "canary-agent"
AWS_TEXT: Final = "canary-aws-text"
ACCESS_KEY: Final = "ASIACANARYCANARY0001"
SECRET: Final = "canary/secret/access/key"
SESSION_TOKEN: Final = "canary-session-token"
UNKEPT: Final = (CLIENT_TOKEN, BEARER, HEADER, VALUE, AGENT, AWS_TEXT, ACCESS_KEY, SECRET, SESSION_TOKEN)

_ACCESS: Final = f"""\
[[issuers]]
issuer = "{ISSUER}"
identifies = "end-users"
audience = "monitor-contact"
keys = "KEYS"

[callers.anonymous]
roles = ["desk"]
"""
_POLICY: Final = """\
@id("desk") permit (principal in MonitorContact::Role::"desk", action, resource);
"""
_TIMEOUT_SECONDS: Final = 20.0
_NONSENSE: Final = f"<html>{AWS_TEXT} {CONTACT} {USER}</html>".encode()
_UNKNOWN_ERROR: Final = f'{{"__type": "Teapot#{AWS_TEXT} {CONTACT} {USER}", "message": "{AWS_TEXT}"}}'.encode()


@dataclass
class Rig:
    """A service at its most talkative, and all that its callers have got from it."""

    simulator: Simulator
    service: ServiceProcess
    audit: Path
    token: str
    refusals: list[bytes] = field(default_factory=list)

    async def call(self, **changed: str) -> str:
        """Make a call with a canary in every field and header; return OK or the code."""
        return await self.send(_message(**changed))

    async def send(
        self,
        message: bytes,
        *more: tuple[str, str],
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> str:
        """Send these bytes with a canary in every header, and `more` of them; return OK or the code."""
        options = [("grpc.primary_user_agent", AGENT), ("grpc.enable_retries", 0)]
        headers: Sequence[tuple[str, str | bytes]] = [
            ("x-monitor-ticket", TICKET),
            ("x-monitor-reason", REASON),
            ("x-end-user-token", self.token),
            (HEADER, VALUE),
            (f"{HEADER}-bin", VALUE.encode()),
            *more,
        ]
        async with grpc.aio.insecure_channel(self.service.target, options=options) as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            call = method(message, metadata=headers, timeout=timeout_seconds)
            code = await call.code()
            self._keep(await call.initial_metadata(), await call.trailing_metadata(), await call.details())
            if code is grpc.StatusCode.OK:
                MonitorContactResponse.FromString(await call)  # its ARN names the instance: the caller's to know
        return code.name

    async def send_raw(self, *fields: tuple[str, bytes]) -> int | None:
        """Send header fields that gRPC's own clients refuse to send; return the number of the code."""
        async with connected(self.service.target) as connection:
            answer = await connection.call(fields, _message())
        self.refusals.append(repr(answer.fields).encode() + answer.status.SerializeToString())
        return answer.grpc_status

    async def metrics(self) -> bytes:
        """Return the page of metrics."""
        line = await self.service.running.logged("metrics served")
        async with aiohttp.request("GET", f"http://{line['address']}/metrics") as response:
            return await response.read()

    def _keep(self, *answers: object) -> None:
        for answer in answers:
            if isinstance(answer, grpc.aio.Metadata):
                self.refusals += [key.encode() + b": " + _bytes(value) for key, value in answer]
            else:
                self.refusals.append(str(answer).encode())


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _message(**changed: str) -> bytes:
    return MonitorContactRequest(**{**_fields(), **changed}).SerializeToString()


def _fields() -> dict[str, str]:
    return {"instance_id": INSTANCE, "contact_id": CONTACT, "user_id": USER, "client_token": CLIENT_TOKEN}


def _world() -> str:
    text = default_world_text()
    ids = {harness.INSTANCE_ID: INSTANCE, harness.CONTACT_ID: CONTACT, harness.USER_ID: USER}
    credentials = {
        "ASIASIMULATOR": ACCESS_KEY,
        "simulator-temporary-secret": SECRET,
        "simulator-session-token": SESSION_TOKEN,
    }
    for old, new in {**ids, **credentials}.items():
        assert old in text
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def _talkative(folder: Path) -> AsyncIterator[Rig]:
    (folder / "keys.json").write_bytes(issuer_keys())
    (folder / "access.toml").write_text(_ACCESS.replace("KEYS", str(folder / "keys.json")), encoding="utf-8")
    (folder / "policy.cedar").write_text(_POLICY, encoding="utf-8")
    token = person_token(USER, sub=PERSON, jti=TOKEN_ID)
    settings = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "MONITOR_CONTACT_LOG_LEVEL": "debug",
        "MONITOR_CONTACT_METRICS_LISTEN": "127.0.0.1:0",
        "MONITOR_CONTACT_ACCESS_FILE": str(folder / "access.toml"),
        "MONITOR_CONTACT_POLICY_FILE": str(folder / "policy.cedar"),
        "MONITOR_CONTACT_SUPERVISOR_CHECK": "enforce",
        "MONITOR_CONTACT_AUDIT": str(folder / "audit.jsonl"),
        **UNPACED_READS,
    }
    async with Simulator(world=parse_world(_world(), "world.toml"), switches=Switches(hard_limits=False)) as simulator:
        for api in ("MonitorContact", *READS):
            simulator.set_quota(api, UNLIMITED)
        async with serve({**simulator.environment, **settings}) as service:
            await service.serving()
            yield Rig(simulator, service, folder / "audit.jsonl", token)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A service at debug level, with metrics, whose every answer is kept."""
    async with _talkative(tmp_path) as running:
        yield running


async def _succeed(rig: Rig) -> None:
    assert await rig.call() == "OK"
    assert await rig.call() == "OK", "the same session again, from memory"
    assert await rig.call(contact_id=f"{CONTACT}-other") == "INVALID_ARGUMENT", "IDEMPOTENCY_MISMATCH"


async def _be_denied(rig: Rig) -> None:
    message = _message()
    assert await rig.send(message, ("authorization", f"Bearer {BEARER}")) == "UNAUTHENTICATED"
    assert await rig.send(message, ("authorization", BEARER), ("authorization", BEARER)) == "INVALID_ARGUMENT"
    for wrong in (f"{rig.token[:-9]}{BEARER}", BEARER, f"{BEARER}.{BEARER}.{BEARER}"):
        whole, rig.token = rig.token, wrong
        assert await rig.call() == "UNAUTHENTICATED"
        rig.token = whole
    assert await rig.call(user_id=f"{USER}-other") == "PERMISSION_DENIED", "not the person of the token"


async def _be_invalid(rig: Rig) -> None:
    too_long = {name: value * 20 for name, value in _fields().items()}
    assert await rig.call(**too_long) == "INVALID_ARGUMENT"
    assert await rig.call(**{name: f"{value}\n" for name, value in _fields().items()}) == "INVALID_ARGUMENT"
    assert await rig.call(instance_id="..", client_token=f"{CLIENT_TOKEN}-1") == "INVALID_ARGUMENT"
    message = _message()
    assert await rig.send(message[:-1] + b"\xff") == "INVALID_ARGUMENT", "undecodable"
    assert await rig.send(message, ("x-canary-long", VALUE * 700)) in {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    ticket, tokens = ("x-monitor-ticket", f"{TICKET}\xe4\x1b".encode("latin-1")), rig.token.encode()
    for fields in (
        [ticket],
        [("x-end-user-token", b"\xff" + tokens)],
        [("authorization", b"Bearer " + BEARER.encode() + b"\xff\xfe")],
        [(HEADER, VALUE.encode() + b"\x00\r\n\xff")],
        # A name that it cannot take gRPC itself repeats to whoever sent it (measured); the value it does not.
        [("x-broken-bin", b"!" + VALUE.encode())],
        [("x-broken-\xff", VALUE.encode())],
    ):
        await rig.send_raw(*fields)  # who refuses it, gRPC or we, is no matter here


async def _meet_errors_of_connect(rig: Rig) -> None:
    for name, code in {
        "AccessDeniedException": "PERMISSION_DENIED",
        "IdempotencyException": "ABORTED",
        "InvalidRequestException": "INVALID_ARGUMENT",
        "ResourceNotFoundException": "NOT_FOUND",
        "ServiceQuotaExceededException": "RESOURCE_EXHAUSTED",
        "ExpiredTokenException": "UNAVAILABLE",
    }.items():
        await _with_faults(rig, code, Fault("error", error=name, message=_said(name)))


async def _meet_errors_of_the_reads(rig: Rig) -> None:
    # Nothing is known of the supervisor yet, and none of these is remembered.
    for api in READS[:3]:
        denied = Fault("error", api=api, error="AccessDeniedException", message=_said(api))
        await _with_faults(rig, "UNAVAILABLE", denied)
        await _with_faults(rig, "INTERNAL", Fault("answer", api=api, status=400, body=_UNKNOWN_ERROR))
        await _with_faults(rig, "INTERNAL", Fault("answer", api=api, status=200, body=_NONSENSE))
    quota = Fault("error", error="ServiceQuotaExceededException", message=_said("quota"))
    cause = Fault("error", api=READS[3], error="AccessDeniedException", message=_said(READS[3]))
    await _with_faults(rig, "RESOURCE_EXHAUSTED", quota, cause)


async def _meet_nonsense_of_connect(rig: Rig) -> None:
    await _with_faults(rig, "INTERNAL", Fault("answer", status=200, body=_NONSENSE))
    await _with_faults(rig, "INTERNAL", Fault("answer", status=418, body=_NONSENSE))
    await _with_faults(rig, "INTERNAL", Fault("answer", status=200, body=f'{{"ContactId": ["{AWS_TEXT}"]}}'.encode()))
    await _with_faults(rig, "INTERNAL", Fault("redirect", headers={"X-Canary": AWS_TEXT}))
    await _with_faults(rig, "INTERNAL", Fault("answer", status=400, body=_UNKNOWN_ERROR))


async def _be_throttled(rig: Rig) -> None:
    rig.simulator.inject(Fault("error", error="ThrottlingException", message=_said("rate")))
    assert (
        await rig.send(_message(client_token=f"{CLIENT_TOKEN}-throttled"), timeout_seconds=1.0) == "RESOURCE_EXHAUSTED"
    )
    rig.simulator.clear_faults()
    rig.simulator.set_quota("MonitorContact", Quota(rate=0.001, burst=1))
    await rig.send(_message(client_token=f"{CLIENT_TOKEN}-paced"), timeout_seconds=1.0)
    rig.simulator.set_quota("MonitorContact", UNLIMITED)


async def _not_reach_connect(rig: Rig) -> None:
    for fault in (Fault("hang"), Fault("reset"), Fault("close", act_first=True), Fault("truncate")):
        rig.simulator.inject(fault)
        code = await rig.send(_message(client_token=f"{CLIENT_TOKEN}-{fault.action}"), timeout_seconds=1.0)
        assert code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"}
        rig.simulator.clear_faults()
    await rig.send(_message(client_token=f"{CLIENT_TOKEN}-short"), timeout_seconds=0.05)


def _said(name: str) -> str:
    return f"{AWS_TEXT}: {name} of arn:aws:connect:us-east-1:123456789012:instance/{INSTANCE}/contact/{CONTACT}/{USER}"


async def _with_faults(rig: Rig, code: str, *faults: Fault) -> None:
    """Make a call of its own that meets these faults."""
    rig.simulator.inject(*faults)
    number = len(rig.refusals)
    assert await rig.call(client_token=f"{CLIENT_TOKEN}-{number}") == code, faults
    rig.simulator.clear_faults()


@pytest.mark.parametrize(
    "happen",
    [
        _succeed,
        _be_denied,
        _be_invalid,
        _meet_errors_of_connect,
        _meet_errors_of_the_reads,
        _meet_nonsense_of_connect,
        _be_throttled,
        _not_reach_connect,
    ],
)
async def test_no_canary_sings(rig: Rig, happen: Callable[[Rig], Awaitable[None]]) -> None:
    """Whatever happens to the calls: log, metrics and refusals hold none, the audit only what it is for."""
    await happen(rig)
    metrics = await rig.metrics()
    running = rig.service.running
    running.signal(signal.SIGTERM)
    assert await running.ended() == 0
    sinks: Mapping[str, bytes] = {
        "stderr": running.err.text().encode(),
        "stdout": running.out.text().encode(),
        "metrics": metrics,
        "answers": b"\n".join(rig.refusals),
        "audit": rig.audit.read_bytes(),
    }
    assert b'"event": "call"' in sinks["stderr"]
    assert b"monitor_contact_" in sinks["metrics"]
    assert rig.refusals
    token = rig.token.split(".")
    leaks = [
        f"{canary} in {name}: {line.decode(errors='replace')[:600]}"
        for name, text in sinks.items()
        for line in text.splitlines()
        for canary in (*UNKEPT, *token, *(() if name == "audit" else RECORDED))
        if canary.encode() in line
    ]
    assert not leaks, "\n".join(leaks)


async def test_the_audit_holds_the_identifiers(rig: Rig) -> None:
    """The search finds what is there: each identifier of a call that was made, and of one that was denied."""
    assert await rig.call() == "OK"
    await rig.call(user_id=f"{USER}-other")
    running = rig.service.running
    running.signal(signal.SIGTERM)
    assert await running.ended() == 0
    assert '"level": "debug"' in running.err.text()
    records = rig.audit.read_text(encoding="ascii").splitlines()
    for stage in ('"stage":"intent"', '"stage":"denied"'):
        (record,) = (line for line in records if stage in line)
        assert [canary for canary in RECORDED if canary not in record] == []
