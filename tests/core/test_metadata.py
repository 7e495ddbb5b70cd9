"""`core.metadata`: which metadata may be looked at, and what is said of that which may not."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core import metadata
from monitor_contact_service.core.failures import Failure, Reason

Entries = Sequence[tuple[str, str | bytes]]
_SECRET = "geheim"


def _violations(entries: Entries) -> list[tuple[str, str]]:
    with pytest.raises(Failure) as caught:
        metadata.check(entries)
    failure = caught.value
    assert failure.reason is Reason.VALIDATION_FAILED
    assert failure.metadata == {"violations": str(len(failure.violations))}
    assert _SECRET not in repr(failure.violations)
    return [(violation.field, violation.reason) for violation in failure.violations]


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [("user-agent", "grpc-python-asyncio/1.85.1 (linux; chttp2)"), ("traceparent", "00-0af7-b7ad-01")],
        [("authorization", "Bearer a.b-c_d~"), ("x-end-user-token", "t"), ("x-monitor-reason", "coaching: 1st call")],
        [("x-any", ""), ("x-any", " leading, trailing "), ("x-any", " !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~")],
        [("x-raw-bin", b"\x00\n\x1b\xff"), ("x-raw-bin", b"")],
    ],
    ids=["nothing", "the usual", "who, for whom, why", "all of printable ASCII, repeated", "binary"],
)
def test_metadata_of_honest_callers_passes(entries: Entries) -> None:
    """Printable ASCII, binary values under their keys, and repeats of what nobody decides by."""
    metadata.check(entries)


@pytest.mark.parametrize("key", sorted(metadata.SINGLE))
@pytest.mark.parametrize("between", [[], [("x-other", "")]], ids=["side by side", "apart"])
def test_what_says_who_and_why_stands_there_once(key: str, between: Entries) -> None:
    """Two values would be two answers, equal or not; three are still one violation."""
    metadata.check([(key, _SECRET), *between])
    assert _violations([(key, _SECRET), *between, (key, _SECRET)]) == [(key, "METADATA_REPEATED")]
    assert _violations([(key, "a"), *between, (key, "b"), (key, "")]) == [(key, "METADATA_REPEATED")]


def test_single_are_the_keys_that_the_steps_read() -> None:
    """A key that is added to one place only would be open to repetition."""
    assert sorted(metadata.SINGLE) == [
        "authorization",
        "x-end-user-token",
        "x-forwarded-client-cert",
        "x-monitor-reason",
        "x-monitor-ticket",
    ]


@pytest.mark.parametrize("character", ["\x00", "\t", "\n", "\r", "\x1b", "\x7f", "\x80", "é", "\u202e", "😀"])
@pytest.mark.parametrize(("key", "field"), [("x-monitor-reason", "x-monitor-reason"), (f"x-{_SECRET}", "metadata")])
def test_only_printable_ascii_passes(key: str, field: str, character: str) -> None:
    """Wherever it stands; a name that is not ours is the caller's text too and is not repeated."""
    for value in (character, f"{_SECRET}{character}", f"{character}{_SECRET}", f"a{character}b"):
        assert _violations([("x-ok", "fine"), (key, value)]) == [(field, "METADATA_NOT_PRINTABLE")]


def test_8_kib_pass_and_one_byte_more_does_not() -> None:
    """Counted as HTTP/2 counts: name, value and 32 bytes for each entry, binary ones too."""
    for entries in (
        [("x-a", "v" * (8192 - 32 - 3))],
        [("x-a-bin", b"v" * (8192 - 32 - 7))],
        [("x-a", ""), ("x-b", "v" * (8192 - 2 * 32 - 6))],
        [(f"{number:04}", "v" * 92) for number in range(64)],
    ):
        metadata.check(entries)
        key, value = entries[0]
        longer: str | bytes = value + "v" if isinstance(value, str) else value + b"v"
        assert _violations([(key, longer), *entries[1:]]) == [("metadata", "METADATA_TOO_LARGE")]


def test_64_entries_pass_and_65_do_not() -> None:
    """More are not looked at at all: whoever sends thousands gets one cheap answer."""
    metadata.check([("x", "")] * 64)
    assert _violations([("x", "")] * 65) == [("metadata", "METADATA_TOO_MANY")]
    assert _violations([("authorization", "\n")] * 65) == [("metadata", "METADATA_TOO_MANY")]


def test_every_violation_is_named_once() -> None:
    """In the order of the entries, the size last."""
    entries = [
        ("x-monitor-ticket", "\n"),
        ("x-a", "\x00"),
        ("x-monitor-ticket", "\n"),
        ("x-b", "é"),
        ("authorization", "a"),
        ("authorization", "v" * 9_000),
    ]
    assert _violations(entries) == [
        ("x-monitor-ticket", "METADATA_NOT_PRINTABLE"),
        ("metadata", "METADATA_NOT_PRINTABLE"),
        ("x-monitor-ticket", "METADATA_REPEATED"),
        ("authorization", "METADATA_REPEATED"),
        ("metadata", "METADATA_TOO_LARGE"),
    ]


def test_grpcs_own_repetitions_are_known_by_their_header() -> None:
    """It is there from the second attempt on (gRFC A6)."""
    assert not metadata.is_repetition([("user-agent", "a"), ("x-monitor-reason", "grpc-previous-rpc-attempts")])
    assert metadata.is_repetition([("user-agent", "a"), ("grpc-previous-rpc-attempts", "1")])


_KEYS = st.sampled_from([*sorted(metadata.SINGLE), "x-a", "user-agent"])
_TEXTS = st.text(max_size=40) | st.sampled_from(["", "fine", "v" * 4_000])
_ENTRIES = st.lists(st.tuples(_KEYS, _TEXTS) | st.tuples(st.just("x-a-bin"), st.binary(max_size=4_200)), max_size=70)


@settings(deadline=None, max_examples=300)
@given(_ENTRIES)
def test_any_metadata_passes_only_if_every_rule_holds(entries: list[tuple[str, str | bytes]]) -> None:
    """Against the rules spelt out one by one; a refusal stays small enough for the answer's details."""
    keys = [key for key, _ in entries if key in metadata.SINGLE]
    size = sum(len(key.encode()) + len(value) + 32 for key, value in entries)
    rules = (
        len(entries) <= 64,
        size <= 8192,
        all(" " <= character <= "~" for _, value in entries if isinstance(value, str) for character in value),
        all(keys.count(key) == 1 for key in keys),
    )
    if all(rules):
        metadata.check(entries)
    else:
        assert 1 <= len(_violations(entries)) <= 2 * len(metadata.SINGLE) + 2
