"""Chains of audit records for tests, written as a writer does but by hand: right ones, and wrong ones."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from monitor_contact_service.core import audit_chain
from monitor_contact_service.core.audit_chain import Head

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TIME = "2026-01-02T03:04:05.000006Z"
CHAIN = "aa/1"


class Chain:
    """Writes a chain as a writer does; each method adds one line."""

    def __init__(self, name: str = CHAIN, *, key: Ed25519PrivateKey | None = None, head: Head | None = None) -> None:
        self.name = name
        self.key = key
        self.head = head or Head()
        self.lines: list[bytes] = []
        self.since_checkpoint = 0

    def add(self, stage: str, request: str = "r", **members: object) -> int:
        """Add a record; return its seq."""
        self.since_checkpoint += 1
        return self._add({"id": request, "stage": stage} | members, None)

    def intent(self, request: str = "r") -> int:
        """Add an intent."""
        return self.add("intent", request, ticket='"\u2028"')

    def outcome(self, seq: object, request: str = "r", stage: str = "outcome", **members: object) -> int:
        """Add an outcome of the intent with this seq."""
        return self.add(stage, request, intent_seq=seq, result="answered", **members)

    def checkpoint(self, **members: object) -> int:
        """Add a checkpoint; `members` are those that are not right."""
        right = {"head": self.head.hash, "count": self.since_checkpoint, "time": TIME}
        key = {"key": audit_chain.key_id(self.key.public_key())} if self.key else {}
        self.since_checkpoint = 0
        return self._add({"id": "c", "stage": "checkpoint"} | right | members | key, self.key)

    @property
    def data(self) -> bytes:
        """The file."""
        return b"".join(self.lines)

    def _add(self, record: dict[str, object], key: Ed25519PrivateKey | None) -> int:
        seq = self.head.seq + 1
        line = audit_chain.line(record, seq, self.head.hash, self.name, TIME)
        line = audit_chain.signed(line, key) if key else line
        self.head = Head(seq, audit_chain.digest(line))
        self.lines.append(line + b"\n")
        return seq


def dozen(request: str = "r", key: Ed25519PrivateKey | None = KEY) -> Chain:
    """Return a dozen records with every kind of stage, and three checkpoints."""
    chain = Chain(key=key)
    chain.add("segment")
    first = chain.intent(request)
    chain.add("denied", error_reason="CALLER_NOT_PERMITTED")
    chain.outcome(first, request)
    chain.checkpoint()
    second, third = chain.intent("s"), chain.intent("t")
    chain.outcome(third, "t")
    chain.checkpoint()
    chain.outcome(second, "s", stage="recovered")
    chain.add("repeated", of="s")
    chain.add("policy", event="policy.loaded")
    chain.checkpoint()
    return chain
