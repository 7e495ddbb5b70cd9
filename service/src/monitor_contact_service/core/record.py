"""Decides what an audit record holds of a call, and what never gets into one: tokens, texts of AWS, phone numbers.

Numbers, hashes and lines are the matter of `audit_chain`; when a record is due, of `audit`. All builders return the
members from `id` and `stage` on, in their order; a member that does not apply is left out. Names are stable: programs
read them (docs/audit.md has the table and the mapping to OCSF's api_activity).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from .caller import Caller, Principal
from .command import Capability, MonitorCommand, MonitoringSession
from .failures import Failure
from .permissions import SupervisorFacts
from .policy import Decision

METHOD: Final = "MonitorContact"

# Identifiers of a valid command are kept whole, whatever they are: they are what the record is for. All else that
# comes from outside is cut at lengths that no honest value has: a record stays below audit_chain.MAX_LINE_BYTES.
_IDENTITY_CHARACTERS: Final = 2048  # SPIFFE-ID, section 2.3: at most 2048 bytes
_TEXT_CHARACTERS: Final = 256  # of ticket and reason; OpenID Connect Core, section 2: sub has at most 255
_ID_CHARACTERS: Final = 100  # of policies and security profiles, which are UUIDs
_POLICIES: Final = 16
_PROFILES: Final = 10  # as many as a Connect user can have

# Actions in the words of the policy.
_ACTIONS: Mapping[Capability, str] = MappingProxyType(
    {Capability.SILENT_MONITOR: "SilentMonitor", Capability.BARGE: "Barge"}
)

Record = dict[str, object]


class Result(StrEnum):
    """What became of an action that was going to be tried."""

    ANSWERED = "answered"  # Connect said yes or no
    NOT_SENT = "not_sent"  # nothing reached Connect that it has not refused
    DROPPED = "dropped"  # as not_sent: the callers left while it waited
    UNKNOWN = "unknown"  # sent, and no answer that settles it


@dataclass(slots=True)
class Entry:
    """What the audit knows of one call; the steps fill it in as they go.

    Attributes:
        id: the request id: a UUIDv7, 32 hex digits (`new_id`).
        received_at: in UTC.
        deadline_seconds: how long the call is worked on; 0 if it is not.
        peer: the address as gRPC tells it, for example `ipv4:10.0.0.1:4711`.
        trace_id: 32 hex digits; "" without a trace.
        caller: set by step 1.
        command: set by step 2.
        tenant: set by step 3, with supervisor and decision.
        begun: its intent is durable; what becomes of the call is then the outcome's to tell.
    """

    id: str
    received_at: datetime
    deadline_seconds: float = 0.0
    peer: str = ""
    trace_id: str = ""
    caller: Caller | None = None
    command: MonitorCommand | None = None
    tenant: str = ""
    supervisor: SupervisorFacts | None = None
    decision: Decision | None = None
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Repeated:
    """Equal denials that are told by one record: how many, and when the first and the last came (UTC)."""

    count: int
    first: datetime
    last: datetime


def new_id(now_ms: int, random_bytes: bytes) -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7) as 32 hex digits without dashes.

    Args:
        now_ms: milliseconds since the epoch.
        random_bytes: 10 of them.
    """
    draw = int.from_bytes(random_bytes, "big")
    high = (now_ms & (2**48 - 1)) << 16 | 0x7000 | draw >> 68
    low = 1 << 63 | draw & (2**62 - 1)
    return f"{high << 64 | low:032x}"


def rfc3339(instant: datetime) -> str:
    """Return a UTC instant as RFC 3339 with microseconds and "Z"."""
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def peer_ip(peer: str) -> str:
    """Return the address of a gRPC peer such as `ipv4:10.0.0.1:4711` or `ipv6:%5B::1%5D:4711`, else the text itself."""
    family, _, address = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return peer[:_TEXT_CHARACTERS]
    host = address.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
    return host[:_TEXT_CHARACTERS]


def intent(entry: Entry) -> Record:
    """Return the record that an action is going to be tried."""
    return {"id": entry.id, "stage": "intent"} | _who(entry) | _what(entry)


def denied(entry: Entry, failure: Failure, code: str, repeated: Repeated | None = None) -> Record:
    """Return the record of a call that was refused before its action; `code` is the name of its gRPC code.

    With `repeated` it stands for several calls that one caller made in vain: it says who and why, no more.
    """
    record: Record = {"id": entry.id, "stage": "denied"} | _who(entry)
    if repeated is None:
        record |= _what(entry)
    record |= {"error_reason": failure.reason, "grpc_code": code}
    if repeated is not None:
        record |= {"count": repeated.count, "first": rfc3339(repeated.first), "last": rfc3339(repeated.last)}
    return record


def succeeded(entry: Entry, intent_seq: int, session: MonitoringSession, duration_us: int) -> Record:
    """Return the outcome of an action that Connect has taken."""
    return _outcome(entry.id, intent_seq, Result.ANSWERED, _session(session), "OK", duration_us)


def ended(entry: Entry, intent_seq: int, result: Result, code: str, duration_us: int) -> Record:
    """Return the outcome of an action that no `Failure` explains: dropped, given up, or ended by a fault of ours."""
    return _outcome(entry.id, intent_seq, result, {}, code, duration_us)


def failed(entry: Entry, intent_seq: int, failure: Failure, *, sent: bool, code: str, duration_us: int) -> Record:
    """Return the outcome of an action that failed; `sent` tells whether an attempt was begun."""
    known = failure.metadata
    aws = {
        "request_id": known.get("aws_request_id", ""),
        "status": known.get("http_status", ""),
        "error_code": known.get("aws_error", ""),
    }
    outcome = _outcome(entry.id, intent_seq, result_of(failure, sent=sent), _present(aws), code, duration_us)
    return outcome | {"error_reason": failure.reason}


def result_of(failure: Failure, *, sent: bool) -> Result:
    """Return what is known of the action after this failure; `sent` tells whether an attempt was begun."""
    if sent and failure.outcome_unknown:
        return Result.UNKNOWN
    # `wire` gives every answer of Connect a request id, an empty one if need be; nothing else has one.
    return Result.ANSWERED if sent and "aws_request_id" in failure.metadata else Result.NOT_SENT


def repeated(entry: Entry, session: MonitoringSession, of: str) -> Record:
    """Return the record of a call that got the session of an earlier identical action; `of` is that call's id."""
    record = {"id": entry.id, "stage": "repeated"} | _who(entry) | _what(entry)
    return record | {"of": of, "aws": _session(session), "grpc_code": "OK"}


def recovered(request_id: str, intent_seq: int) -> Record:
    """Return the outcome of an action whose process ended before it could write one."""
    return {"id": request_id, "stage": "recovered", "intent_seq": intent_seq, "result": Result.UNKNOWN}


def segment(record_id: str, *, torn_bytes: int = 0, torn_file: str = "") -> Record:
    """Return the record that a writer begins, and how many bytes of a half-written line it has moved to which file."""
    torn: Record = {"torn_bytes": torn_bytes, "torn_file": torn_file} if torn_bytes else {}
    return {"id": record_id, "stage": "segment"} | torn


def checkpoint(record_id: str, *, head: str, count: int, time: datetime, key_id: str) -> Record:
    """Return the record that repeats the hash of the line before.

    `count` is the number of records since the last checkpoint, `key_id` the name of the key that signs it or "".
    """
    key: Record = {"key": key_id} if key_id else {}
    return {"id": record_id, "stage": "checkpoint", "head": head, "count": count, "time": rfc3339(time)} | key


def policy(record_id: str, *, event: str, sha256: str) -> Record:
    """Return the record of a policy file; `event` is `policy.loaded` or `policy.rejected`.

    `sha256` is the file's, or "" for one that could not be read.
    """
    return {"id": record_id, "stage": "policy", "event": event} | _present({"policy_sha256": sha256})


def _who(entry: Entry) -> Record:
    caller = entry.caller
    record: Record = {}
    if caller is not None:
        record["principal"] = _principal(caller.principal)
        if caller.end_user is not None:
            person = caller.end_user
            acting_for = {"iss": person.issuer[:_TEXT_CHARACTERS], "sub": person.subject[:_TEXT_CHARACTERS]}
            record["acting_for"] = acting_for | _present({"jti": person.token_id[:_TEXT_CHARACTERS]})
    return record | _present(
        {"peer_ip": peer_ip(entry.peer), "tenant": entry.tenant[:_TEXT_CHARACTERS], "trace_id": entry.trace_id}
    )


def _principal(principal: Principal) -> Record:
    name = "spiffe" if principal.id.startswith("spiffe://") else "sub"
    return {name: principal.id[:_IDENTITY_CHARACTERS], "authn": principal.authentication} | _present(
        {
            "trust_domain": principal.trust_domain[:_TEXT_CHARACTERS],
            "cert_sha256": principal.certificate_sha256,
            "jti": principal.token_id[:_TEXT_CHARACTERS],
        }
    )


def _what(entry: Entry) -> Record:
    record: Record = {"method": METHOD}
    command, caller, decision = entry.command, entry.caller, entry.decision
    if command is not None:
        record["action"] = [_ACTIONS[capability] for capability in command.capabilities]
        record |= {"instance": command.instance_id, "contact": command.contact_id}
        record["supervisor"] = {"id": command.user_id} | _facts(entry.supervisor)
    if caller is not None:
        record |= _present({"ticket": caller.ticket[:_TEXT_CHARACTERS], "reason": caller.reason[:_TEXT_CHARACTERS]})
    if entry.deadline_seconds:
        record["deadline_ms"] = round(entry.deadline_seconds * 1000)
    if decision is not None:
        record["decision"] = "allow" if decision.allowed else "deny"
        record["policies"] = [policy_id[:_ID_CHARACTERS] for policy_id in decision.policies[:_POLICIES]]
        record["policy_sha256"] = decision.sha256
    return record


def _facts(facts: SupervisorFacts | None) -> Record:
    """Return what Connect said of the supervisor, if it was asked."""
    if facts is None or not facts.checked_at:
        return {}
    return {
        "profiles": [profile[:_ID_CHARACTERS] for profile in facts.profiles[:_PROFILES]],
        "listen_in": facts.listen_in,
        "barge_in": facts.barge_in,
        "checked_at": rfc3339(datetime.fromtimestamp(facts.checked_at, UTC)),
    }


def _session(session: MonitoringSession) -> Record:
    return _present({"request_id": session.aws_request_id, "monitor_contact_id": session.contact_id})


def _outcome(request_id: str, intent_seq: int, result: Result, aws: Record, code: str, duration_us: int) -> Record:
    record: Record = {"id": request_id, "stage": "outcome", "intent_seq": intent_seq, "result": result}
    if aws:
        record["aws"] = aws
    return record | {"grpc_code": code, "dur_us": duration_us}


def _present(texts: Mapping[str, str]) -> Record:
    """Return what is not empty."""
    return {name: text for name, text in texts.items() if text}
