"""What policies can know of a call, and how Cedar's schema calls it. Decides nothing.

The schema itself is `policies/schema.cedarschema`; who fills a question in is `authorization`.
"""

from dataclasses import dataclass
from typing import Final

from .permissions import SupervisorFacts

# Of every type in the schema.
NAMESPACE: Final = "MonitorContact::"


@dataclass(frozen=True, slots=True)
class Question:
    """All that policies can know of a call.

    Attributes:
        principal_id: the calling service.
        roles: those of the access file.
        tenant: of the caller; "" for none.
        instance_id: the Connect instance.
        instance_tenant: of the instance and its contacts; "" for none.
        contact_id: what to listen to.
        subject_verified: the caller's identity was proved, or anonymous callers are admitted.
        supervisor: who is going to listen, with what Connect allows.
        supervisor_tenant: of the instance that the supervisor is a user of.
        acting_for: the Connect user of the person whose token the caller shows, "" if it names none; None without one.
        acts_for_others: whether the caller may show one person's token and ask for another.
        ticket: as the caller claims; None without one.
        reason: as the caller claims; None without one.
        minute_of_day: 0 to 1439, in the configured time zone.
        weekday: 1 is Monday, 7 is Sunday.
    """

    principal_id: str
    roles: tuple[str, ...]
    tenant: str
    instance_id: str
    instance_tenant: str
    contact_id: str
    subject_verified: bool
    supervisor: SupervisorFacts
    supervisor_tenant: str
    acting_for: str | None
    acts_for_others: bool
    ticket: str | None
    reason: str | None
    minute_of_day: int
    weekday: int


def context_of(question: Question) -> dict[str, object]:
    """Return the context of a question, as the schema has it."""
    facts = question.supervisor
    optional = {"acting_for": question.acting_for, "ticket": question.ticket, "reason": question.reason}
    return {
        "subject_verified": question.subject_verified,
        "supervisor": {
            "id": facts.user_id,
            "tenant": question.supervisor_tenant,
            "listen_in": facts.listen_in,
            "barge_in": facts.barge_in,
            "restricted": facts.restricted,
        },
        "minute_of_day": question.minute_of_day,
        "weekday": question.weekday,
    } | {name: value for name, value in optional.items() if value is not None}
