"""Decides what of a question the rules can see: what none of them sees makes no difference to any decision.

So decisions are remembered without it (`policy`): calls about other contacts, in another minute or with another ticket
have the same answer where no rule asks for these. In doubt a rule sees all.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from .question import NAMESPACE, Question

# A reference's `type`; in the text it may be written in many ways. `is` has another member: `entity_type`.
_CONTACT: Final = f"{NAMESPACE}Contact"
_CONTEXT: Final = {"Var": "context"}
# What stands in for a value that no rule sees. The other members are in the rules of this package, or few.
_STAND_INS: Mapping[str, Any] = {"contact_id": "any", "ticket": "", "reason": "", "minute_of_day": 0, "weekday": 1}


class Sight:
    """What a set of rules can see of a question.

    Args:
        rules: as Cedar's JSON.
    """

    def __init__(self, rules: Iterable[Any]) -> None:
        seen = {name for rule in rules for name in _seen(rule)}
        self._unseen = {name: stand_in for name, stand_in in _STAND_INS.items() if name not in seen}

    def narrowed(self, question: Question) -> Question:
        """Return the question with the same value in place of each that no rule sees.

        A rule may see whether there is a ticket without seeing which: what is not there stays so. What has the wrong
        type stays too: that is Cedar's to refuse.
        """
        stand_ins = {
            name: stand_in for name, stand_in in self._unseen.items() if type(getattr(question, name)) is type(stand_in)
        }
        return replace(question, **stand_ins)


def _seen(rule: object) -> Iterator[str]:
    """Yield the names of the values that a rule sees, of those that have a stand-in."""
    nodes = [rule]  # by hand: a rule may be deeper than Python's stack
    while nodes:
        node = nodes.pop()
        if node == _CONTEXT:
            yield from _STAND_INS  # as a whole
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
