"""`core.idempotency`: which calls are the same action, and what is remembered of it."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import SESSION
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.command import Capability, MonitorCommand, MonitoringSession
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.idempotency import Key, Successes, derive_client_token, ran_out, require_same
from monitor_contact_service.core.work import Work

_COMMAND = MonitorCommand("instance", "contact", "user", (Capability.SILENT_MONITOR,), "token")
_KEY = ("qa-desk", "token")
_PAIRS = st.tuples(st.text(max_size=30), st.text(min_size=1, max_size=30))


def _key(number: int) -> Key:
    return ("qa-desk", str(number))


def _remembered(memory: Successes, numbers: range, now: float) -> list[int]:
    return [number for number in numbers if memory.recall(_key(number), now) is not None]


@pytest.mark.parametrize(
    ("caller", "client_token", "derived"),
    [
        ("spiffe://corp.example/qa-desk", "7f3b", "NSRLWGZ7VSQQDIVP7A6MHI4ZIWSIZAO7COFPONZJHT3BNVHRMZGA"),
        ("a", "bc", "ASKXOUOOUSBHWCD2NRAICYFBSTFZC6A56AJC7DKYY36ZDWXQELIQ"),
        ("ab", "c", "PXJTZC25FGOTDTJHBX45LJJ6XRAEACEWBNMCWXH5LODGOHCLVITA"),
        ("é", "\N{TELEPHONE RECEIVER}", "H6H33QMEOWTHR56Q7UEV6MFWIJ2VSWNWVRAI37C4PUIUBQIPVT6A"),
    ],
)
def test_the_derivation_never_changes(caller: str, client_token: str, derived: str) -> None:
    """A changed scheme would break idempotency in a rolling update, and the search in CloudTrail."""
    assert derive_client_token(caller, client_token) == derived


def test_the_documented_command_derives_the_same() -> None:
    """Whoever searches CloudTrail by docs/idempotency.md finds what was sent, also for texts that are not ASCII."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "idempotency.md").read_text("utf-8")
    documented = shlex.split(text.partition("```sh\n")[2].partition("```")[0])
    assert documented[0] == "python3"
    for arguments in (documented[-2:], ["é", "\N{TELEPHONE RECEIVER}"]):
        command = [sys.executable, "-X", "utf8", *documented[1:-2], *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.strip() == derive_client_token(*arguments)
    assert derive_client_token(*documented[-2:]) in text


@settings(deadline=None)
@given(_PAIRS, _PAIRS)
def test_only_the_same_caller_and_token_derive_the_same(first: tuple[str, str], second: tuple[str, str]) -> None:
    """No caller can reach the token of another one, whatever the two are called."""
    assert (derive_client_token(*first) == derive_client_token(*second)) == (first == second)


@settings(deadline=None)
@given(st.text(min_size=2, max_size=30), st.data())
def test_moving_the_border_between_caller_and_token_derives_another(text: str, data: st.DataObject) -> None:
    """The lengths are part of the hash: ("a", "bc") is not ("ab", "c")."""
    borders = data.draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=2))
    assert len({derive_client_token(text[:border], text[border:]) for border in borders}) == 2


@settings(deadline=None)
@given(st.text(max_size=2000), st.text(min_size=1, max_size=500))
def test_the_derived_token_fits_connect(caller: str, client_token: str) -> None:
    """52 plain characters, where Connect takes at most 500 of any kind."""
    assert re.fullmatch("[A-Z2-7]{52}", derive_client_token(caller, client_token))


def test_a_success_is_remembered_with_its_command() -> None:
    """What comes back is what was put in."""
    memory = Successes()
    memory.remember(_KEY, _COMMAND, SESSION, now=0.0)
    success = memory.recall(_KEY, now=0.0)
    assert success is not None
    assert (success.command, success.session) == (_COMMAND, SESSION)


@pytest.mark.parametrize("key", [("qa-desk", "other"), ("other", "token"), ("token", "qa-desk")])
def test_another_key_is_not_remembered(key: Key) -> None:
    """Neither another token of the caller nor the same token of another caller."""
    memory = Successes()
    memory.remember(_KEY, _COMMAND, SESSION, now=0.0)
    assert memory.recall(key, now=0.0) is None


def test_a_success_is_forgotten_after_ten_minutes_and_is_gone() -> None:
    """Up to the last moment it is there; then it is dropped, used or not."""
    memory = Successes()
    memory.remember(_KEY, _COMMAND, SESSION, now=100.0)
    assert memory.recall(_KEY, now=699.9) is not None
    assert memory.recall(_KEY, now=700.0) is None
    assert len(memory) == 0


def test_what_has_expired_is_dropped_without_being_asked_for() -> None:
    """The next success takes every expired one in front of it along."""
    memory = Successes(keep_seconds=10)
    for number in range(3):
        memory.remember(_key(number), _COMMAND, SESSION, now=float(number))
    memory.remember(_key(3), _COMMAND, SESSION, now=11.5)
    assert len(memory) == 2
    assert _remembered(memory, range(4), now=11.5) == [2, 3]


def test_the_least_recently_used_goes_when_it_is_full() -> None:
    """A key that is asked for stays, one that nobody asks for makes room."""
    memory = Successes(max_entries=3)
    for number in range(3):
        memory.remember(_key(number), _COMMAND, SESSION, now=0.0)
    memory.recall(_key(0), now=1.0)
    memory.remember(_key(3), _COMMAND, SESSION, now=2.0)
    assert _remembered(memory, range(4), now=2.0) == [0, 2, 3]


def test_remembering_the_same_key_again_replaces_it() -> None:
    """The last success counts, with a time of its own, and takes one place."""
    memory = Successes(keep_seconds=10)
    later = MonitoringSession("later", "", "")
    memory.remember(_KEY, _COMMAND, SESSION, now=0.0)
    memory.remember(_KEY, _COMMAND, later, now=5.0)
    assert len(memory) == 1
    success = memory.recall(_KEY, now=14.0)
    assert success is not None
    assert success.session == later


def test_ten_thousand_are_remembered_and_not_one_more() -> None:
    """The bound holds however many come."""
    memory = Successes()
    for number in range(10_010):
        memory.remember(_key(number), _COMMAND, SESSION, now=0.0)
    assert len(memory) == 10_000
    assert _remembered(memory, range(12), now=0.0) == [10, 11]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.floats(0, 4)), max_size=60),
    st.integers(min_value=1, max_value=4),
)
def test_nothing_is_recalled_that_was_not_remembered_in_time(
    steps: list[tuple[bool, int, float]], max_entries: int
) -> None:
    """In any order of steps: never above the bound, never expired, never of another key; the last one always there."""
    memory = Successes(keep_seconds=10, max_entries=max_entries)
    remembered: dict[int, float] = {}
    now = 0.0
    for remember, number, seconds in steps:
        now += seconds
        if remember:
            memory.remember(_key(number), replace(_COMMAND, client_token=str(number)), SESSION, now)
            remembered[number] = now
            assert memory.recall(_key(number), now) is not None
        success = memory.recall(_key(number), now)
        if success is not None:
            assert success.command.client_token == str(number)
            assert now < remembered[number] + 10
        assert len(memory) <= max_entries


def test_the_same_command_passes() -> None:
    """An equal command is a repetition, whichever object it is."""
    require_same(_COMMAND, replace(_COMMAND))


@pytest.mark.parametrize(
    "other",
    [
        replace(_COMMAND, instance_id="other"),
        replace(_COMMAND, contact_id="other"),
        replace(_COMMAND, user_id="other"),
        replace(_COMMAND, capabilities=(Capability.SILENT_MONITOR, Capability.BARGE)),
    ],
)
def test_a_token_with_any_other_field_changed_is_a_mismatch(other: MonitorCommand) -> None:
    """IDEMPOTENCY_MISMATCH names client_token, with no time to come again and nothing that was sent."""
    with pytest.raises(Failure) as raised:
        require_same(_COMMAND, other)
    assert raised.value.reason is Reason.IDEMPOTENCY_MISMATCH
    assert [(violation.field, violation.reason) for violation in raised.value.violations] == [
        ("client_token", "REUSED")
    ]
    assert raised.value.metadata == {}
    assert raised.value.retry_after_seconds is None
    assert not raised.value.outcome_unknown


def test_a_call_whose_time_passes_before_anything_was_sent_is_told_so() -> None:
    """DEADLINE_TOO_SHORT with no time left: nothing was sent."""
    failure = ran_out(Work(10.0))
    assert failure.reason is Reason.DEADLINE_TOO_SHORT
    assert failure.metadata == {"time_left_ms": "0", "time_needed_ms": "100"}
    assert not failure.outcome_unknown


def test_a_call_whose_time_passes_after_an_attempt_is_told_that_connect_did_not_answer() -> None:
    """CONNECT_UNREACHABLE with an unknown outcome, also when that attempt has ended: others go on."""
    work = Work(10.0)
    work.sending = True
    work.sending = False
    failure = ran_out(work)
    assert failure.reason is Reason.CONNECT_UNREACHABLE
    assert failure.outcome_unknown
