"""Decides what of a question the rules can see: what none of them sees makes no difference to any decision.

So decisions are remembered by the rest (`policy`): calls about other contacts, in another minute or with another ticket
have the same answer where no rule asks for these. In doubt a rule sees all.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from .question import NAMESPACE, Question

# A reference's `type`; in the text it may be written in many ways. `is` has another member: `entity_type`.
_CONTACT: Final = f"{NAMESPACE}Contact"
_CONTEXT: Final = {"Var": "context"}
# What differs from call to call. The other members are in the rules of this package, or few.
_MANY: Final = frozenset({"contact_id", "ticket", "reason", "minute_of_day", "weekday"})


class Sight:
    """What a set of rules can see of a question.

    Args:
        rules: as Cedar's JSON.
    """

    def __init__(self, rules: Iterable[Any]) -> None:
        seen = {name for rule in rules for name in _seen(rule)}
        self._seen = attrgetter(*(field.name for field in fields(Question) if field.name not in _MANY - seen))

    def of(self, question: Question) -> Hashable:
        """Return what questions have in common that no rule tells apart.

        A rule may see whether there is a ticket or a reason without seeing which.
        """
        return self._seen(question), question.ticket is None, question.reason is None


def _seen(rule: object) -> Iterator[str]:
    """Yield the names of the values of _MANY that a rule sees, and perhaps others."""
    nodes = [rule]  # by hand: a rule may be deeper than Python's stack
    while nodes:
        node = nodes.pop()
        if node == _CONTEXT:
            yield from _MANY  # as a whole
        elif isinstance(node, list):
            nodes.extend(node)
        elif isinstance(node, dict):
            if node.get("type") == _CONTACT:
                yield "contact_id"
            for operator, operand in node.items():
                if operator in {".", "has"} and isinstance(operand, dict) and operand.get("left") == _CONTEXT:
                    if operator == ".":
                        yield str(operand.get("attr"))
                else:
                    nodes.append(operand)
