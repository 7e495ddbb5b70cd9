"""`core.policy_source`: where policies begin and end, whatever stands in strings and comments."""

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.policy_source import Statement, statements


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n// permit;\n", []),
        ("a;", [Statement("a;", 1, 0)]),
        ("a;b ;\n\nc;", [Statement("a;", 1, 0), Statement("b ;", 1, 0), Statement("c;", 3, 0)]),
        ('// one;\n\n@id("x;y")\npermit (a);', [Statement('@id("x;y")\npermit (a);', 3, 1)]),
        ('a "q\\";" // ;"\n;b;', [Statement('a "q\\";" // ;"\n;', 1, 0), Statement("b;", 2, 0)]),
        ("a // c\r;b;", [Statement("a // c\r;", 1, 0), Statement("b;", 1, 0)]),
        ("a / b;", [Statement("a / b;", 1, 0)]),
        ("a\n", [Statement("a\n", 1, 0)]),
        ('x;\n"open; b;', [Statement("x;", 1, 0), Statement('"open;', 2, 0), Statement("b;", 2, 0)]),
        ("f({[()]}, [()]);g();", [Statement("f({[()]}, [()]);", 1, 4), Statement("g();", 1, 1)]),
        ("f((;g();", [Statement("f((;", 1, 2), Statement("g();", 1, 1)]),
        ('f("((((");', [Statement('f("((((");', 1, 1)]),
        (";;", [Statement(";", 1, 0), Statement(";", 1, 0)]),
    ],
)
def test_policies_are_told_apart(text: str, expected: list[Statement]) -> None:
    """Semicolons in strings and comments end nothing, lines are counted, and what is unfinished is told too."""
    assert list(statements(text)) == expected


_BLANKS = st.sampled_from([" ", "\n", "\r\n", "\t", "// c;\n", '// "\n', "// }\r"])
_STRINGS = st.text(st.sampled_from('a;/"\\\n{('), max_size=6).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)


@st.composite
def _policy(draw: st.DrawFn) -> str:
    gap = st.lists(_BLANKS, max_size=3).map("".join)
    parts = ["@id(", draw(_STRINGS), ")", "permit(principal,", "action,resource)", "when {", draw(_STRINGS)]
    parts += ["==", draw(_STRINGS), "}", ";"]
    return "".join(draw(gap) + part for part in parts)


@settings(max_examples=200, deadline=None)
@given(st.lists(_policy(), max_size=4))
def test_what_is_told_apart_is_what_cedar_reads(policies: list[str]) -> None:
    """Of policies with nasty strings and comments, each statement is exactly one policy to Cedar."""
    text = "".join(policies)
    found = list(statements(text))

    assert len(found) == len(policies) == len(cedarpy.PolicySet.from_str(text))
    assert all(len(cedarpy.PolicySet.from_str(statement.text)) == 1 for statement in found)
