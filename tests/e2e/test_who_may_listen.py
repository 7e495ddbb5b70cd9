"""Who may listen, asked of real processes: permitted calls work, each denied one is recorded and never reaches Connect.

Certificates, access file, policy, supervisor check and audit are on, as in production; Connect is the simulator.
"""

import asyncio
import json
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import harness
import monitor_contact.v1
import pytest
from certificates import Authority, Leaf
from e2e.identified import (
    ACCESS,
    DESK,
    LISTENER,
    POLICY,
    ROLELESS,
    STRANGER,
    UNKNOWN,
    WORLD,
    Company,
    Service,
    person_token,
    served,
)
from e2e.processes import SERVICE, Ended, SimulatorProcess, run, simulate
from monitor_contact_client import Capability

PROTO = Path(monitor_contact.v1.__path__[0]).parent.parent
BARGE = (Capability.SILENT_MONITOR, Capability.BARGE)
SUE, SAM = WORLD.users["sue"].id, WORLD.users["sam"].id
OTHERS: Mapping[str, str] = {
    "instance_id": WORLD.instances["plain"].id,
    "contact_id": WORLD.contacts["plain-call"].id,
    "user_id": WORLD.users["polly"].id,
}
NOBODYS: Mapping[str, str] = {
    "instance_id": WORLD.instances["unlinked"].id,
    "contact_id": WORLD.contacts["unlinked-call"].id,
    "user_id": WORLD.users["una"].id,
}


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[SimulatorProcess]:
    """One simulator for all tests of this module; each counts the calls of its own."""
    async with simulate() as running:
        yield running


@pytest.fixture(scope="module")
async def service(simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """One service for all tests that change nothing about it."""
    async with served(Company(tmp_path_factory.mktemp("company")), simulator) as running:
        yield running


# ---- Permitted -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spiffe_id", "capabilities", "sent"),
    [
        (DESK, (), ["SILENT_MONITOR"]),
        (DESK, BARGE, ["SILENT_MONITOR", "BARGE"]),
        (LISTENER, (Capability.SILENT_MONITOR,), ["SILENT_MONITOR"]),
    ],
)
async def test_a_permitted_call_is_made_and_recorded(
    service: Service, spiffe_id: str, capabilities: Sequence[Capability], sent: Sequence[str]
) -> None:
    """Connect gets what was asked for and no more; the record says who, to whom, and how it ended."""
    answer = await service.call(service.company.leaf(spiffe_id), capabilities=capabilities)
    assert answer.reason == "OK"
    received = (await service.simulator.received())[-1]
    assert received["body"]["AllowedMonitorCapabilities"] == sent
    intent = await service.company.recorded(answer.request_id, "intent")
    assert intent["principal"]["spiffe"] == spiffe_id
    assert (intent["tenant"], intent["decision"]) == ("corp", "allow")
    assert (intent["contact"], intent["supervisor"]["id"]) == (harness.CONTACT_ID, SUE)
    assert len(intent["action"]) == len(sent)
    outcome = await service.company.recorded(answer.request_id, "outcome")
    assert (outcome["result"], outcome["grpc_code"]) == ("answered", "OK")
    assert outcome["aws"]["monitor_contact_id"] == answer.contact_id


async def test_the_person_at_the_desk_is_recorded(service: Service) -> None:
    """With the token of the supervisor herself the call is made, and the record names her; the token is nowhere."""
    token = person_token(SUE)
    answer = await service.call(service.company.desk, end_user_token=token)
    assert answer.reason == "OK"
    intent = await service.company.recorded(answer.request_id, "intent")
    assert intent["acting_for"]["sub"] == "person-1"
    assert token not in service.company.audit.read_text(encoding="ascii")


async def test_the_command_calls_over_tls(service: Service, tmp_path: Path) -> None:
    """`monitor-contact call` with CA, certificate and key prints the session; without the certificate it fails."""
    certificate, key = service.company.desk.write(tmp_path)
    own = ("--tls-cert", str(certificate), "--tls-key", str(key))
    called = await _command(service, *own)
    assert called.exit_code == 0, called.out
    assert json.loads(called.out)["contact_id"]
    refused = await _command(service)
    assert refused.exit_code == 1, refused.out


async def test_grpcurl_calls_over_tls(
    service: Service, tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    """The real grpcurl with CA, certificate and key prints the session."""
    program = require_tool("grpcurl", "that the real grpcurl can call over mTLS")
    certificate, key = service.company.desk.write(tmp_path)
    files = {"-cacert": service.company.folder / "server-ca.pem", "-cert": certificate, "-key": key}
    options = [str(part) for option in files.items() for part in option]
    request = json.dumps(
        {"instance_id": harness.INSTANCE_ID, "contact_id": harness.CONTACT_ID, "user_id": harness.USER_ID}
    )
    by_set = ("-protoset", str(PROTO / "monitor_contact/v1/monitor_contact.binpb"), "-d", request)
    ended = await run(*options, *by_set, service.target, f"{SERVICE}/MonitorContact", program=program)
    assert ended.exit_code == 0, ended.err
    assert json.loads(ended.out)["contactId"]


async def _command(service: Service, *options: str) -> Ended:
    ids = {"instance-id": harness.INSTANCE_ID, "contact-id": harness.CONTACT_ID, "user-id": harness.USER_ID}
    members = [f"--{name}={value}" for name, value in ids.items()]
    ca = ("--tls-ca", str(service.company.folder / "server-ca.pem"))
    return await run("call", "--target", service.target, *members, *ca, *options)


# ---- Denied ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Denied:
    """A call that must not happen: who makes it, what differs from the valid call, and what it is answered."""

    reason: str
    spiffe_id: str = DESK
    capabilities: Sequence[Capability] = ()
    changed: Mapping[str, str] = field(default_factory=dict)
    token: Callable[[], str] | None = None
    bearer_token: str | None = None

    async def call(self, service: Service) -> Any:
        """Make the call."""
        return await service.call(
            service.company.leaf(self.spiffe_id),
            capabilities=self.capabilities,
            end_user_token=self.token() if self.token else None,
            bearer_token=self.bearer_token,
            **self.changed,
        )


def _supervisor(name: str, capabilities: Sequence[Capability] = ()) -> Denied:
    return Denied("SUPERVISOR_NOT_PERMITTED", capabilities=capabilities, changed={"user_id": WORLD.users[name].id})


DENIED: Mapping[str, Denied] = {
    "a foreign trust domain": Denied("UNAUTHENTICATED", STRANGER),
    "a bearer token where certificates count": Denied("UNAUTHENTICATED", bearer_token="a.b.c"),
    "an expired token": Denied("UNAUTHENTICATED", token=lambda: person_token(SUE, iat=1, exp=601)),
    "a token of another issuer": Denied(
        "UNAUTHENTICATED", token=lambda: person_token(SUE, iss="https://login.elsewhere.example")
    ),
    "a token for another service": Denied("UNAUTHENTICATED", token=lambda: person_token(SUE, aud="payroll")),
    "a token by another key": Denied("UNAUTHENTICATED", token=lambda: person_token(SUE, number=1)),
    "a caller that is not in the file": Denied("CALLER_NOT_PERMITTED", UNKNOWN),
    "a caller without a role": Denied("CALLER_NOT_PERMITTED", ROLELESS),
    "barge by a listener": Denied("CALLER_NOT_PERMITTED", LISTENER, BARGE),
    "another tenant's instance": Denied("CALLER_NOT_PERMITTED", changed=OTHERS),
    "nobody's instance": Denied("CALLER_NOT_PERMITTED", changed=NOBODYS),
    "another person's token": Denied("CALLER_NOT_PERMITTED", token=lambda: person_token(SAM)),
    "a token of nobody in Connect": Denied("CALLER_NOT_PERMITTED", token=lambda: person_token(None)),
    "a supervisor without the permission": _supervisor("nora"),
    "barge with a supervisor who may listen": _supervisor("lee", BARGE),
    "a supervisor limited by tag": _supervisor("tara"),
    "a supervisor limited to another tag": _supervisor("ruth"),
    "a supervisor limited to a group": _supervisor("hal"),
    "a supervisor who does not exist": Denied("RESOURCE_NOT_FOUND", changed={"user_id": "nobody"}),
}


@pytest.mark.parametrize("what", DENIED)
async def test_a_denied_call_is_recorded_and_never_reaches_connect(service: Service, what: str) -> None:
    """The caller gets the right reason, the audit a record of it with the decision, and Connect not one call."""
    before = await service.simulator.calls()
    answer = await DENIED[what].call(service)
    assert answer.reason == DENIED[what].reason
    record = await service.company.recorded(answer.request_id, "denied")
    assert record["error_reason"] == DENIED[what].reason
    assert record.get("decision", "deny") == ("allow" if what == "a supervisor who does not exist" else "deny")
    assert await service.simulator.calls() == before


def _nothing(_: Company) -> None:
    return None


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(_nothing, id="no certificate"),
        pytest.param(lambda _: Authority("callers").leaf(uris=[DESK]), id="another CA of the same name"),
        pytest.param(
            lambda company: company.client_ca.leaf(uris=[DESK], not_after=datetime.now(UTC) - timedelta(seconds=5)),
            id="an expired certificate",
        ),
    ],
)
async def test_who_shows_no_valid_certificate_is_not_talked_to(
    service: Service, shown: Callable[[Company], Leaf | None]
) -> None:
    """The handshake fails: there is no answer of ours, no record, and no call to Connect."""
    before, records = await service.simulator.calls(), service.company.records()
    answer = await service.call(shown(service.company))
    assert (answer.reason, answer.request_id) == ("UNAVAILABLE", "")
    assert (await service.call(service.company.desk)).reason == "OK", "the service is there for others"
    assert await service.simulator.calls() == before + 1
    assert [each["stage"] for each in service.company.records()[len(records) :]] == ["intent", "outcome"]


async def test_a_caller_above_its_rate_is_refused_and_recorded(simulator: SimulatorProcess, tmp_path: Path) -> None:
    """The second call of a minute is OVERLOADED, and recorded as denied; another caller is not kept out."""
    settings = {"MONITOR_CONTACT_CALLER_RATE_PER_MINUTE": "1"}
    async with served(Company(tmp_path), simulator, settings) as service:
        before = await simulator.calls()
        assert (await service.call(service.company.desk)).reason == "OK"
        refused = await service.call(service.company.desk)
        assert refused.reason == "OVERLOADED"
        denied = await service.company.recorded(refused.request_id, "denied")
        assert (denied["error_reason"], denied["contact"]) == ("OVERLOADED", harness.CONTACT_ID)
        assert await simulator.calls() == before + 1
        assert (await service.call(service.company.leaf(LISTENER))).reason == "OK"


def _handshakes(port: int, number: int) -> int:
    """Make TLS connections one after the other, without a certificate; return how many got through the handshake."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    made = 0
    for _ in range(number):
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="localhost"),
        ):
            made += 1
    return made


async def test_many_handshakes_at_once_do_not_end_the_service(simulator: SimulatorProcess, tmp_path: Path) -> None:
    """Nobody is known before the handshake: 4,000 by strangers, 16 at a time, and the service answers its callers."""
    async with served(Company(tmp_path), simulator) as service:
        port = int(service.target.rpartition(":")[2])
        made = await asyncio.gather(*(asyncio.to_thread(_handshakes, port, 250) for _ in range(16)))
        assert sum(made) > 2_000
        assert (await service.call(service.company.desk)).reason == "OK"
        assert not service.process.running.has_ended


async def test_all_at_once_the_audit_is_whole_and_nothing_is_widened(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    """Denied and permitted calls side by side: Connect sees the permitted ones, `audit verify` finds nothing amiss."""
    async with served(Company(tmp_path), simulator) as service:
        before = await simulator.calls()
        permitted = [service.call(service.company.desk) for _ in range(10)]
        denied = [case.call(service) for case in DENIED.values()]
        answers = await asyncio.gather(*permitted, *denied)
        assert [answer.reason for answer in answers] == ["OK"] * 10 + [case.reason for case in DENIED.values()]
        received = (await simulator.received())[before:]
        assert [call["body"]["AllowedMonitorCapabilities"] for call in received] == [["SILENT_MONITOR"]] * 10
        service.process.running.signal(signal.SIGTERM)
        assert await service.process.running.ended() == 0
        stages = [each["stage"] for each in service.company.records()]
        assert {stage: stages.count(stage) for stage in ("intent", "outcome", "denied")} == {
            "intent": 10,
            "outcome": 10,
            "denied": len(DENIED),
        }
        verified = await run("audit", "verify", str(service.company.audit))
        assert verified.exit_code == 0, verified.out + verified.err


# ---- Changed while it serves -----------------------------------------------------------------------------------------


async def test_a_changed_policy_decides_without_a_restart(simulator: SimulatorProcess, tmp_path: Path) -> None:
    """A caller who was denied is permitted once the file says so; a broken file changes nothing and is logged."""
    company = Company(tmp_path)
    company.policy.write_text("", encoding="utf-8")
    async with served(company, simulator) as service:
        running = service.process.running
        denied = await service.call(company.desk)
        assert denied.reason == "CALLER_NOT_PERMITTED"
        company.policy.write_text(POLICY, encoding="utf-8")
        line = await running.logged("policies reloaded")
        permitted = await service.call(company.desk)
        assert permitted.reason == "OK"
        assert (await company.recorded(permitted.request_id, "intent"))["policy_sha256"] == line["sha256"]
        assert (await company.recorded(denied.request_id, "denied"))["policy_sha256"] != line["sha256"]
        company.policy.write_text(POLICY + "permit (", encoding="utf-8")
        rejected = await running.logged("policies not reloaded: the old ones hold")
        assert rejected["problems"][0].startswith(f"{company.policy}:10: ")
        again = await service.call(company.desk)
        assert again.reason == "OK"
        assert (await company.recorded(again.request_id, "intent"))["policy_sha256"] == line["sha256"]
        events = [each["event"] for each in company.records() if each["stage"] == "policy"]
        assert events == ["policy.loaded", "policy.loaded", "policy.rejected"]


async def test_sighup_reads_the_access_file_again(simulator: SimulatorProcess, tmp_path: Path) -> None:
    """A caller gets its role, and loses it, without a restart; with a broken file the last good one holds."""
    company = Company(tmp_path)
    async with served(company, simulator) as service:
        leaf = company.leaf(ROLELESS)
        with_role = ACCESS.replace(f'[callers."{ROLELESS}"]\n', f'[callers."{ROLELESS}"]\nroles = ["qa"]\n')
        broken = with_role.replace("[instances.", "[instance.")
        read, kept = "access file reloaded", "access file not reloaded: the old one holds"
        assert (await service.call(leaf)).reason == "CALLER_NOT_PERMITTED"
        for text, event, reason in (
            (with_role, read, "OK"),
            (broken, kept, "OK"),
            (ACCESS, read, "CALLER_NOT_PERMITTED"),
        ):
            company.write_access(text)
            since = len(service.process.running.err.lines)
            service.process.running.signal(signal.SIGHUP)
            await service.process.running.logged(event, since=since)
            assert (await service.call(leaf)).reason == reason, event


# ---- Bad input -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BadInput:
    """Something wrong with the files: how to make it so, and what must be said of it; FOLDER is where they are."""

    spoil: Callable[[Company], object]
    said: str
    settings: Mapping[str, str] = field(default_factory=dict)


def _expire(company: Company) -> None:
    expired = company.server_ca.leaf(dns_names=["localhost"], not_after=datetime.now(UTC) - timedelta(seconds=5))
    expired.write(company.folder, "server")


def _make_key_a_folder(company: Company) -> None:
    """What nobody can read, not even root."""
    (company.folder / "server.key").unlink()
    (company.folder / "server.key").mkdir()


BAD_INPUT: Mapping[str, BadInput] = {
    "a missing key": BadInput(
        lambda company: (company.folder / "server.key").unlink(),
        "MONITOR_CONTACT_TLS_KEY_FILE: FOLDER/server.key: No such file or directory",
    ),
    "an unreadable key": BadInput(
        _make_key_a_folder, "MONITOR_CONTACT_TLS_KEY_FILE: FOLDER/server.key: Is a directory"
    ),
    "an expired certificate": BadInput(_expire, "MONITOR_CONTACT_TLS_CERT_FILE: FOLDER/server.crt: expired at 20"),
    "a policy that cannot be parsed": BadInput(
        lambda company: company.policy.write_text(POLICY + "permit (", encoding="utf-8"),
        "FOLDER/policy.cedar:10: this policy cannot be parsed: ",
    ),
    "a policy that is not valid": BadInput(
        lambda company: company.policy.write_text(POLICY.replace("SilentMonitor", "Listen"), encoding="utf-8"),
        "FOLDER/policy.cedar:4: ",
    ),
    "roles of a caller that cannot come": BadInput(
        lambda company: company.write_access(f'{ACCESS}[callers."{STRANGER}"]\nroles = ["qa"]\n'),
        f"FOLDER/access.toml: callers.'{STRANGER}': nothing here identifies such a caller",
    ),
    "an audit that cannot be written": BadInput(
        lambda company: (company.folder / "audit").write_text("a file where a folder should be", encoding="utf-8"),
        "MONITOR_CONTACT_AUDIT: FOLDER/audit/audit.jsonl: must be a file that can be written",
    ),
}


@pytest.mark.parametrize("what", BAD_INPUT)
async def test_bad_input_is_told_before_anybody_calls(simulator: SimulatorProcess, tmp_path: Path, what: str) -> None:
    """Both `check-config` and `serve` end with 2 and say only what is wrong, with file and line."""
    company = Company(tmp_path)
    BAD_INPUT[what].spoil(company)
    environment = {**simulator.environment, **company.environment, "MONITOR_CONTACT_LISTEN": "127.0.0.1:0"}
    checked, started = await asyncio.gather(
        run("check-config", environment=environment), run("serve", environment=environment)
    )
    expected = BAD_INPUT[what].said.replace("FOLDER", str(tmp_path))
    for ended in (started, checked):
        assert ended.exit_code == 2, ended
        faults = ended.err.splitlines()
        assert faults
        assert [fault for fault in faults if not fault.startswith(f"monitor-contact: {expected}")] == []


async def test_good_input_is_accepted_and_printed(simulator: SimulatorProcess, tmp_path: Path) -> None:
    """Without a fault in it the same configuration passes, and the check leaves nothing behind."""
    company = Company(tmp_path)
    ended = await run("check-config", environment={**simulator.environment, **company.environment})
    assert ended.exit_code == 0, ended.err
    assert f"MONITOR_CONTACT_ACCESS_FILE={company.access}" in ended.out.splitlines()
    assert not company.audit.exists()
