"""`core.record`: what a record holds, and that nothing else gets into one."""

import dataclasses
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from audit_fakes import NOON, entry
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core import audit_chain, record
from monitor_contact_service.core.caller import Authentication, Caller, EndUser, Principal
from monitor_contact_service.core.command import Capability, MonitorCommand, MonitoringSession
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.permissions import SupervisorFacts
from monitor_contact_service.core.policy import Decision
from monitor_contact_service.core.record import Entry, Repeated, Result

SESSION = MonitoringSession(contact_id="session", contact_arn="arn:session", aws_request_id="aws-1")
WHO = {
    "principal": {
        "spiffe": "spiffe://corp.example/desk",
        "authn": "spiffe",
        "trust_domain": "corp.example",
        "cert_sha256": "ab" * 32,
    },
    "peer_ip": "10.0.0.1",
    "tenant": "default",
    "trace_id": "cd" * 16,
}
WHAT = {
    "method": "MonitorContact",
    "action": ["SilentMonitor"],
    "instance": "instance",
    "contact": "contact",
    "supervisor": {
        "id": "user",
        "profiles": ["p"],
        "listen_in": True,
        "barge_in": False,
        "checked_at": "1970-01-01T00:00:01.000000Z",
    },
    "ticket": "QA-1",
    "reason": "random check",
    "deadline_ms": 9980,
    "decision": "allow",
    "policies": ["desk"],
    "policy_sha256": "ef" * 32,
}
ID = f"{1:032x}"


def _bytes(members: record.Record) -> int:
    t = record.rfc3339(NOON)
    return len(audit_chain.line(members, 999_999_999, "0" * 64, "0" * 16 + "/" + "0" * 8, t))


def test_an_intent_says_who_what_and_why() -> None:
    """All members of a call that went through every step, in their order."""
    intent = record.intent(entry())
    assert intent == {"id": ID, "stage": "intent"} | WHO | WHAT
    assert list(intent) == ["id", "stage", *WHO, *WHAT]


def test_an_intent_of_usual_length_stays_within_a_kilobyte() -> None:
    """With identifiers as AWS and SPIFFE make them, and a policy."""
    call = entry()
    call.command = MonitorCommand("i" * 36, "c" * 36, "u" * 36, (Capability.SILENT_MONITOR, Capability.BARGE), "t")
    call.supervisor = SupervisorFacts(
        "u" * 36, listen_in=True, barge_in=True, restricted=False, profiles=("p" * 36,), checked_at=1.7e9
    )
    assert _bytes(record.intent(call)) <= 1024


def test_a_call_refused_before_anything_is_known_has_a_record_too() -> None:
    """An unidentified caller: its address, and why."""
    call = Entry(id="x", received_at=NOON, deadline_seconds=1.0, peer="ipv6:%5B2001:db8::1%5D:4711")
    assert record.denied(call, Failure(Reason.UNAUTHENTICATED), "UNAUTHENTICATED") == {
        "id": "x",
        "stage": "denied",
        "peer_ip": "2001:db8::1",
        "method": "MonitorContact",
        "deadline_ms": 1000,
        "error_reason": "UNAUTHENTICATED",
        "grpc_code": "UNAUTHENTICATED",
    }


def test_a_denial_says_what_was_denied() -> None:
    """All that an intent would, the reason and the code."""
    call = entry()
    call.decision = Decision(allowed=False)
    denied = record.denied(call, Failure(Reason.CALLER_NOT_PERMITTED), "PERMISSION_DENIED")
    what = WHAT | {"decision": "deny", "policies": [], "policy_sha256": ""}
    why = {"error_reason": "CALLER_NOT_PERMITTED", "grpc_code": "PERMISSION_DENIED"}
    assert denied == {"id": ID, "stage": "denied"} | WHO | what | why


def test_many_denials_in_one_record() -> None:
    """Who and why, how many and from when to when."""
    repeated = Repeated(7, NOON, NOON + timedelta(milliseconds=1))
    assert record.denied(entry(), Failure(Reason.OVERLOADED), "RESOURCE_EXHAUSTED", repeated) == {
        "id": ID,
        "stage": "denied",
        **WHO,
        "error_reason": "OVERLOADED",
        "grpc_code": "RESOURCE_EXHAUSTED",
        "count": 7,
        "first": "2026-01-02T12:00:00.000000Z",
        "last": "2026-01-02T12:00:00.001000Z",
    }


def test_who_is_acted_for_and_by_which_token() -> None:
    """A caller with a token, on behalf of a person; facts that nobody asked for are not there."""
    principal = Principal("k8s:quality:desk", Authentication.KUBERNETES, token_id="t-1")
    call = entry(caller=Caller(principal, EndUser("https://idp.example", "jo", "user", "t-2")))
    call.supervisor = SupervisorFacts("user", listen_in=True, barge_in=True, restricted=False)
    intent = record.intent(call)
    assert intent["principal"] == {"sub": "k8s:quality:desk", "authn": "kubernetes", "jti": "t-1"}
    assert intent["acting_for"] == {"iss": "https://idp.example", "sub": "jo", "jti": "t-2"}
    assert intent["supervisor"] == {"id": "user"}
    assert not {"ticket", "reason"} & set(intent)


def test_the_outcome_of_a_success() -> None:
    """Which intent, what Connect started and under which request of AWS."""
    assert record.succeeded(entry(), 5, SESSION, 1234) == {
        "id": ID,
        "stage": "outcome",
        "intent_seq": 5,
        "result": "answered",
        "aws": {"request_id": "aws-1", "monitor_contact_id": "session"},
        "grpc_code": "OK",
        "dur_us": 1234,
    }


def test_the_outcome_of_a_failure() -> None:
    """What AWS said in fixed words, never its text."""
    metadata = {"aws_request_id": "aws-1", "aws_error": "Odd", "http_status": "418", "attempts": "2"}
    failure = Failure(Reason.CONNECT_BAD_RESPONSE, metadata=metadata, log_text="their text")
    assert record.failed(entry(), 5, failure, sent=True, code="INTERNAL", duration_us=9) == {
        "id": ID,
        "stage": "outcome",
        "intent_seq": 5,
        "result": "answered",
        "aws": {"request_id": "aws-1", "status": "418", "error_code": "Odd"},
        "grpc_code": "INTERNAL",
        "dur_us": 9,
        "error_reason": "CONNECT_BAD_RESPONSE",
    }


@pytest.mark.parametrize(
    ("failure", "sent", "result"),
    [
        (Failure(Reason.RESOURCE_NOT_FOUND, metadata={"aws_request_id": ""}), True, Result.ANSWERED),
        (
            Failure(Reason.INTERNAL_SERVICE, metadata={"aws_request_id": "x"}, outcome_unknown=True),
            True,
            Result.UNKNOWN,
        ),
        (Failure(Reason.CONNECT_UNREACHABLE, outcome_unknown=True), True, Result.UNKNOWN),
        (Failure(Reason.CONNECT_UNREACHABLE, outcome_unknown=True), False, Result.NOT_SENT),
        (Failure(Reason.CONNECT_UNREACHABLE), True, Result.NOT_SENT),
        (Failure(Reason.SERVICE_CREDENTIALS), True, Result.NOT_SENT),
        (Failure(Reason.OVERLOADED), False, Result.NOT_SENT),
    ],
)
def test_what_is_known_after_a_failure(failure: Failure, sent: bool, result: Result) -> None:  # noqa: FBT001 - a table's column
    """Unknown is its own result; without an answer and without doubt nothing was sent."""
    assert record.result_of(failure, sent=sent) is result


def test_records_of_other_kinds() -> None:
    """Each has its members, and none that does not apply."""
    assert record.ended(entry(), 5, Result.DROPPED, "CANCELLED", 7) == {
        "id": ID,
        "stage": "outcome",
        "intent_seq": 5,
        "result": "dropped",
        "grpc_code": "CANCELLED",
        "dur_us": 7,
    }
    aws = {"request_id": "aws-1", "monitor_contact_id": "session"}
    repeated = {"id": ID, "stage": "repeated"} | WHO | WHAT | {"of": "earlier", "aws": aws, "grpc_code": "OK"}
    assert record.repeated(entry(), SESSION, "earlier") == repeated
    assert record.recovered("x", 5) == {"id": "x", "stage": "recovered", "intent_seq": 5, "result": "unknown"}
    assert record.segment("x") == {"id": "x", "stage": "segment"}
    torn = {"id": "x", "stage": "segment", "torn_bytes": 3, "torn_file": "f"}
    assert record.segment("x", torn_bytes=3, torn_file="f") == torn
    unsigned = {"id": "x", "stage": "checkpoint", "head": "h", "count": 2, "time": "2026-01-02T12:00:00.000000Z"}
    assert record.checkpoint("x", head="h", count=2, time=NOON, key_id="") == unsigned
    assert record.checkpoint("x", head="h", count=2, time=NOON, key_id="k") == unsigned | {"key": "k"}
    policy = {"id": "x", "stage": "policy", "event": "policy.rejected", "policy_sha256": "s"}
    assert record.policy("x", event="policy.rejected", sha256="s") == policy
    gone = {"id": "x", "stage": "policy", "event": "policy.rejected"}
    assert record.policy("x", event="policy.rejected", sha256="") == gone


_LONG = "\U0001f512" * 30_000  # twelve bytes each, escaped


def test_the_longest_values_of_all_stay_within_the_bound_of_a_line() -> None:
    """Identifiers of a valid command are whole; everything else is cut."""
    call = Entry(
        id="x" * 32,
        received_at=NOON,
        deadline_seconds=300,
        peer=_LONG,
        trace_id="0" * 32,
        caller=Caller(
            Principal(_LONG, Authentication.OIDC, _LONG, "0" * 64, _LONG),
            EndUser(_LONG, _LONG, _LONG, _LONG),
            _LONG,
            _LONG,
        ),
        command=MonitorCommand(
            _LONG[:100], _LONG[:256], _LONG[:256], (Capability.SILENT_MONITOR, Capability.BARGE), "t"
        ),
        tenant=_LONG,
        supervisor=SupervisorFacts(
            "u", listen_in=True, barge_in=True, restricted=False, profiles=(_LONG,) * 99, checked_at=1.7e9
        ),
        decision=Decision(allowed=True, policies=(_LONG,) * 999, sha256="0" * 64),
    )
    session = MonitoringSession(_LONG[:256], "arn", "r" * 128)
    repeated = record.repeated(call, session, "x" * 32)
    assert repeated["contact"] == _LONG[:256]
    assert _bytes(repeated) < audit_chain.MAX_LINE_BYTES
    assert audit_chain.parse(audit_chain.line(repeated, 1, "0" * 64, "a/b", record.rfc3339(NOON))).record["of"]


@settings(deadline=None)
@given(canary=st.text(min_size=8).filter(lambda text: text not in repr((WHO, WHAT))))
def test_what_must_not_be_in_a_record_is_not(canary: str) -> None:
    """Neither client_token nor AWS's texts nor the session's ARN nor the Connect user of the end user's token."""
    secret = f"secret {canary}"
    call = entry(caller=Caller(Principal("anonymous", Authentication.ANONYMOUS), EndUser("i", "s", secret)))
    assert call.command is not None
    call.command = dataclasses.replace(call.command, client_token=secret)
    failure = Failure(Reason.INVALID_REQUEST, metadata={"aws_request_id": "x", "other": secret}, log_text=secret)
    records = [
        record.intent(call),
        record.denied(call, failure, "X"),
        record.failed(call, 1, failure, sent=True, code="X", duration_us=1),
        record.repeated(call, MonitoringSession("session", secret, "aws-1"), "y"),
    ]
    assert all(secret not in repr(each) for each in records)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.1:4711", "10.0.0.1"),
        ("ipv6:[::1]:4711", "::1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::1%25eth0"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("", ""),
    ],
)
def test_the_address_of_a_peer(peer: str, address: str) -> None:
    """Without family and port; anything else as gRPC tells it."""
    assert record.peer_ip(peer) == address


def test_an_id_is_a_uuid_of_version_7() -> None:
    """RFC 9562, appendix A.6: its example, made of its time and its random bits."""
    rand_a, rand_b = 0xCC3, 0x18C4DC0C0C07398F
    random_bytes = (rand_a << 68 | rand_b).to_bytes(10, "big")
    assert record.new_id(0x017F22E279B0, random_bytes) == "017f22e279b07cc398c4dc0c0c07398f"


@settings(deadline=None)
@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_every_id_has_version_variant_and_time(now_ms: int, random_bytes: bytes) -> None:
    """Whatever the time and the draw; ids of later milliseconds sort behind."""
    made = record.new_id(now_ms, random_bytes)
    parsed = UUID(made)
    assert (parsed.version, parsed.variant, parsed.hex) == (7, "specified in RFC 4122", made)
    assert int(made[:12], 16) == now_ms


def test_times_always_have_microseconds() -> None:
    """RFC 3339 in UTC, of one length: texts sort as times do."""
    assert record.rfc3339(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000000Z"
