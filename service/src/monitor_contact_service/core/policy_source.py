"""Tells the policies of a Cedar text apart, with their lines: Cedar's own errors name no place in the text.

Knows of the language what it takes to find the end of a policy (comments, strings, brackets, semicolons); the rest is
Cedar's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# Cedar's grammar: comments end with the line, strings may span lines and escape with a backslash.
_TOKEN: Final = re.compile(
    r"""(?P<blank>(?:\s|//[^\n\r]*)+)
    |(?P<end>;)
    |(?P<open>[({\[])
    |(?P<close>[)}\]])
    |"(?:\\.|[^"\\])*"
    |[^\s/";(){}\[\]]+
    |.""",
    re.DOTALL | re.VERBOSE,
)

_NESTING: Final[dict[str | None, int]] = {"open": 1, "close": -1}


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy, from its first token to its semicolon; its first line (from 1), and how deep its brackets nest."""

    text: str
    line: int
    depth: int


def statements(text: str) -> Iterator[Statement]:
    """Yield the policies of a text in their order, an unfinished last one included. Raises nothing."""
    start: int | None = None
    depth = deepest = 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "blank":
            continue
        if start is None:
            start, depth, deepest = token.start(), 0, 0
        depth += _NESTING.get(token.lastgroup, 0)
        deepest = max(deepest, depth)
        if token.lastgroup == "end":
            yield _statement(text, start, token.end(), deepest)
            start = None
    if start is not None:
        yield _statement(text, start, len(text), deepest)


def _statement(text: str, start: int, end: int, depth: int) -> Statement:
    return Statement(text[start:end], text.count("\n", 0, start) + 1, depth)
