"""One table of a TOML file, read key by key: gives typed values and notes every problem with its line.

tomllib keeps no line numbers, so a key is found by looking for its table's header and the key below it. A value that is
wrong is replaced by a harmless one, so that the reading goes on and all problems are found at once.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any, TypeVar

Thing = TypeVar("Thing")
Value = TypeVar("Value")

_HEADER = re.compile(r"\s*\[\s*(?P<path>[^\[\]]+?)\s*\]\s*(#.*)?")
_KEY = re.compile(r"""\s*(?P<key>[A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*[.=]""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


class Source:
    """The text of a file: where its keys stand, and the problems found so far as (line, reason)."""

    def __init__(self, text: str) -> None:
        self.problems: list[tuple[int, str]] = []
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), start=1):
            if header := _HEADER.fullmatch(line):
                table = tuple(_unquote(part) for part in _PART.findall(header["path"]))
                self._note(table, number)
            elif key := _KEY.match(line):
                self._note((*table, _unquote(key["key"])), number)

    def _note(self, path: tuple[str, ...], number: int) -> None:
        for depth in range(1, len(path) + 1):
            self._lines.setdefault(path[:depth], number)

    def line_of(self, path: tuple[str, ...]) -> int:
        """Return the line of a key or table, else that of the nearest table around it, else 1."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def _unquote(key: str) -> str:
    return key[1:-1] if key[:1] in {'"', "'"} else key


class Section:
    """One table. Every key is asked for once; `finish` then reports the keys that nobody asked for."""

    def __init__(self, source: Source, path: tuple[str, ...], table: Mapping[str, Any]) -> None:
        self.wrong: set[str] = set()
        self._source = source
        self._path = path
        self._table = table
        self._asked: list[str] = []

    def problem(self, key: str, reason: str) -> None:
        """Note that a key is wrong."""
        self.wrong.add(key)
        name = ".".join((*self._path, key))
        self._source.problems.append((self._source.line_of((*self._path, key)), f"{name}: {reason}"))

    def finish(self) -> None:
        """Report every key that was not asked for, with the name that was probably meant."""
        for key in self._table:
            if key not in self._asked:
                close = get_close_matches(key, self._asked, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(self._asked)}"
                self.problem(key, f"unknown key; {hint}")

    def text(self, key: str, *, right: str = "a text in quotes", pattern: re.Pattern[str] | None = None) -> str:
        """Return a text that must be there, not empty, and like the pattern."""

        def fits(value: object) -> bool:
            return isinstance(value, str) and value != "" and (pattern is None or bool(pattern.fullmatch(value)))

        if key not in self._table:
            self._asked.append(key)
            self.problem(key, f"missing; add {key} = {right}")
            return ""
        return self._take(key, fits, right, "")

    def optional_text(self, key: str) -> str | None:
        """Return a text, or None where the key is absent."""
        return self.text(key) if key in self._table else self._absent(key, None)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        return self._take(key, lambda value: isinstance(value, bool), "true or false", default)

    def count(self, key: str, *, default: int, most: int) -> int:
        """Return a whole number from 0 to `most`."""

        def fits(value: object) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most

        return self._take(key, fits, f"a whole number from 0 to {most}", default)

    def choice(self, key: str, choices: tuple[str, ...], *, default: str) -> str:
        """Return one of the given texts."""
        return self._take(key, lambda value: value in choices, f"one of {', '.join(choices)}", default)

    def optional_time(self, key: str) -> float | None:
        """Return a moment in epoch seconds, or None where the key is absent."""

        def fits(value: object) -> bool:
            return isinstance(value, datetime) and value.tzinfo is not None

        moment: datetime | None = self._take(key, fits, "a time with its zone such as 2026-01-31T12:00:00Z", None)
        return moment.timestamp() if moment else None

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, empty where the key is absent."""

        def fits(value: object) -> bool:
            return isinstance(value, list) and all(isinstance(item, str) and item for item in value)

        texts: list[str] = self._take(key, fits, 'a list of texts such as ["one", "two"]', [])
        return tuple(texts)

    def tags(self, key: str) -> dict[str, str]:
        """Return a table of texts, empty where the key is absent."""

        def fits(value: object) -> bool:
            return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())

        tags: dict[str, str] = self._take(key, fits, 'tags such as { Team = "blue" }', {})
        return tags

    def reference(self, key: str, things: Mapping[str, Thing]) -> Thing | None:
        """Return the thing that the key names. None: it is missing or names nothing, and that is noted."""
        name = self.text(key)
        return self._find(key, name, things) if name else None

    def optional_reference(self, key: str, things: Mapping[str, Thing]) -> Thing | None:
        """Return the thing that the key names, or None where the key is absent."""
        return self.reference(key, things) if key in self._table else self._absent(key, None)

    def references(self, key: str, things: Mapping[str, Thing]) -> list[Thing]:
        """Return the things that the key names; what it names in vain is noted."""
        found = (self._find(key, name, things) for name in self.texts(key))
        return [thing for thing in found if thing is not None]

    def sections(self, key: str) -> dict[str, "Section"]:
        """Return the tables below a key, by name: [key.name]."""

        def fits(value: object) -> bool:
            return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())

        tables: dict[str, Any] = self._take(key, fits, f"tables, each under its own [{key}.<name>]", {})
        return {name: Section(self._source, (*self._path, key, name), table) for name, table in tables.items()}

    def _find(self, key: str, name: str, things: Mapping[str, Thing]) -> Thing | None:
        if name not in things:
            close = get_close_matches(name, things, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(things) or 'none'}"
            self.problem(key, f"names {name!r}, which does not exist here; {hint}")
        return things.get(name)

    def _absent(self, key: str, default: Value) -> Value:
        self._asked.append(key)
        return default

    def _take(self, key: str, fits: Callable[[object], bool], right: str, default: Value) -> Value:
        self._asked.append(key)
        if key not in self._table:
            return default
        value: Value = self._table[key]
        if fits(value):
            return value
        self.problem(key, f"must be {right}, not {value!r}")
        return default
