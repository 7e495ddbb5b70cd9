"""`policy check` and `policy explain`, the files behind them, and the walk-through of docs/policy.md."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
from monitor_contact.v1.monitor_contact_pb2 import MonitorCapability, MonitorContactRequest
from monitor_contact_service import policy_commands
from monitor_contact_service.core.failures import Failure
from monitor_contact_service.core.policy import PolicyError
from monitor_contact_service.core.validation import parse
from monitor_contact_service.policy_arguments import add_policy
from monitor_contact_service.policy_cases import run_cases
from monitor_contact_service.policy_files import content_sha256, demo_policies, load_policies, read_content
from monitor_contact_service.settings import ConfigurationError

_DOCS = Path(__file__).resolve().parents[2] / "docs"
_OPEN = '@id("open") permit (principal, action, resource);\n'
_CALL = ("--caller", "anonymous", "--instance-id", "i", "--contact-id", "c", "--user-id", "u")
_NOON = ("--at", "2026-11-25T12:00")
_CAPABILITIES = {
    "SILENT_MONITOR": MonitorCapability.MONITOR_CAPABILITY_SILENT_MONITOR,
    "BARGE": MonitorCapability.MONITOR_CAPABILITY_BARGE,
}
_REFUSED = "must be SILENT_MONITOR, or SILENT_MONITOR and BARGE: the service refuses other requests"


def _run(*words: str) -> int:
    top = argparse.ArgumentParser(prog="monitor-contact")
    add_policy(top.add_subparsers(dest="command", required=True))
    return policy_commands.policy(top.parse_args(["policy", *words]))


def _problems(*words: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        _run(*words)
    assert raised.value.exit_code == 2
    return list(raised.value.problems)


def _policy(folder: Path, text: str, tests: str | None = None) -> str:
    path = folder / "policy.cedar"
    path.write_text(text)
    if tests is not None:
        (folder / "policy.cedartest.toml").write_text(tests)
    return str(path)


def _walk_through() -> list[tuple[str, str]]:
    blocks = re.findall(r"```console\n(.*?)```", (_DOCS / "policy.md").read_text(), re.DOTALL)
    text = "".join(re.sub(r"^ +(?=\$)|^   ", "", block, flags=re.MULTILINE) for block in blocks)
    return re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", text, re.MULTILINE)


@pytest.mark.parametrize(("command", "output"), _walk_through())
def test_the_walk_through_of_the_documentation_is_true(
    command: str,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command of docs/policy.md prints, with the example files, what stands there."""
    for example in (_DOCS / "examples").glob("*"):
        (tmp_path / example.name).write_bytes(example.read_bytes())
    (tmp_path / "empty.cedar").write_text("")
    monkeypatch.chdir(tmp_path)
    program, group, *words = shlex.split(command)
    code = _run(*words)

    assert (program, group) == ("monitor-contact", "policy")
    assert re.sub(r"[0-9a-f]{64}", "…", capsys.readouterr().out) == output
    assert code == (4 if "DENY" in output else 0)


def test_the_documentation_walks_from_nothing_to_a_permitted_call() -> None:
    """The commands above were found, with a deny and an allow among them."""
    outputs = "".join(output for _, output in _walk_through())
    assert len(_walk_through()) == 7
    assert all(word in outputs for word in ("nothing is permitted", "DENY", "ALLOW", "tests: 11 passed"))


def test_the_permit_in_the_documentation_is_valid(tmp_path: Path) -> None:
    """What the page tells to write can be loaded."""
    (block,) = re.findall(r"```cedar\n(.*?)```", (_DOCS / "policy.md").read_text(), re.DOTALL)
    assert load_policies(_policy(tmp_path, block)).policies.ids == ("qa-listens",)


def test_every_key_of_a_case_is_documented() -> None:
    """The table of docs/policy.md names each, and no other."""
    from monitor_contact_service.policy_cases import _Case  # noqa: PLC0415 - for this test only

    section = (_DOCS / "policy.md").read_text().partition("## The tests beside")[2].partition("## Cost")[0]
    first_columns = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", first_columns)) == set(_Case.model_fields)


def test_all_problems_of_a_file_are_told(tmp_path: Path) -> None:
    """With file and line, as lines for the terminal."""
    path = _policy(tmp_path, f"{_OPEN}{_OPEN}permit (principal, action, resource);")
    assert _problems("check", path) == [
        f'{path}:2: @id("open") is that of {path}:1 already: ids must differ',
        f'{path}:3: this policy has no @id: write @id("a-unique-name") before it',
    ]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Missing files, folders in the place of files, and bytes that are no text."""
    missing = str(tmp_path / "missing.cedar")
    assert _problems("check", missing) == [f"{missing}: No such file or directory"]
    path = _policy(tmp_path, _OPEN)
    (tmp_path / "policy.cedartest.toml").mkdir()
    assert _problems("check", path) == [f"{tmp_path / 'policy.cedartest.toml'}: Is a directory"]
    (tmp_path / "policy.cedar").write_bytes(b"// fine\n// \xff")
    (tmp_path / "policy.cedartest.toml").rmdir()
    assert _problems("check", path) == [f"{path}:2: must be UTF-8 text"]


@pytest.mark.parametrize(
    ("tests", "problem"),
    [
        ("[[cases]", "Expected ']]' at the end of an array declaration (at line 1, column 8)"),
        ("[[case]]", "case: Extra inputs are not permitted"),
        ('[[cases]]\nexpect = "allow"', "case 1: name: Field required"),
        ('[[cases]]\nname = "n"\nexpect = "maybe"', "case 1: expect: Input should be 'allow' or 'deny'"),
        (
            '[[cases]]\nname = "n"\nexpect = "deny"\nlisten-in = true',
            "case 1: listen-in: Extra inputs are not permitted",
        ),
        ('[[cases]]\nname = "n"\nexpect = "deny"\ntenant = 1', "case 1: tenant: Input should be a valid string"),
        ('[[cases]]\nname = "n"\nexpect = "deny"', "case 1 (n): expected deny, got allow: open"),
        (
            '[[cases]]\nname = "n"\nexpect = "allow"\nby = "other"',
            "case 1 (n): expected allow by other, got allow: open",
        ),
        (
            '[[cases]]\nname = "a"\nexpect = "allow"\n[[cases]]\nname = "n"\nexpect = "allow"\nverified = false',
            "case 2 (n): expected allow, got deny: invariant:subject-verified",
        ),
        (
            '[[cases]]\nname = "n"\nexpect = "allow"\nat = 2026-11-25T12:00:00Z',
            "case 1 (n): at must be a local time without an offset, for example 2026-11-25T14:30:00",
        ),
        (
            '[[cases]]\nname = "n"\nexpect = "allow"\ncapabilities = ["BARGE"]',
            f"case 1 (n): capabilities {_REFUSED}",
        ),
        (
            '[[cases]]\nname = "n"\nexpect = "deny"\ncapabilities = ["SILENT_MONITOR", "SILENT_MONITOR"]',
            f"case 1 (n): capabilities {_REFUSED}",
        ),
    ],
)
def test_a_table_that_is_wrong_or_does_not_hold_is_told(tmp_path: Path, tests: str, problem: str) -> None:
    """By the number and name of its case, with what was expected and which rules decided otherwise."""
    path = _policy(tmp_path, _OPEN, tests)
    assert _problems("check", path) == [f"{tmp_path / 'policy.cedartest.toml'}: {problem}"]


def test_all_cases_that_do_not_hold_are_told() -> None:
    """Not only the first."""
    case = '[[cases]]\nname = "n"\nexpect = "deny"\nroles = ["demo"]\n'
    with pytest.raises(PolicyError) as raised:
        run_cases(case * 3, "t", demo_policies())
    assert len(raised.value.problems) == 3


@pytest.mark.parametrize(
    "line",
    [
        'roles = ["other"]',
        'roles = ["demo"]\ntenant = "a"\ninstance_tenant = "b"',
        'roles = ["demo"]\nlisten_in = false',
        'roles = ["demo"]\nbarge_in = false\ncapabilities = ["SILENT_MONITOR", "BARGE"]',
        'roles = ["demo"]\nrestricted = true',
        'roles = ["demo"]\nverified = false',
        'roles = ["demo"]\nacting_for = "somebody"',
        'roles = ["demo"]\nacting_for = "supervisor"\nsupervisor = "another"',
    ],
)
def test_each_key_of_a_case_reaches_the_policies(line: str) -> None:
    """What a case says is what is asked."""
    assert run_cases(f'[[cases]]\nname = "n"\nexpect = "deny"\n{line}', "t", demo_policies()) == 1
    undone = line.replace("other", "demo").replace('"b"', '"a"').replace("listen_in = false", "")
    undone = undone.replace("barge_in = false", "").replace("restricted = true", "").replace("verified = false", "")
    undone = undone.replace('"somebody"', '"supervisor"').replace('supervisor = "andemo"', "")
    undone += "\nacts_for_others = true"
    assert run_cases(f'[[cases]]\nname = "n"\nexpect = "allow"\n{undone}', "t", demo_policies()) == 1


def test_the_remaining_keys_reach_the_policies(tmp_path: Path) -> None:
    """Caller, instance, contact, ticket, reason and time are asked as they are written."""
    policy = (
        '@id("exact") permit (principal == MonitorContact::Service::"dns:a", action, '
        'resource == MonitorContact::Contact::"b") when { resource in MonitorContact::Instance::"c" && '
        'context has ticket && context.ticket == "d" && context has reason && context.reason == "e" && '
        "context.minute_of_day == 61 && context.weekday == 7 };"
    )
    keys = ['caller = "dns:a"', 'contact = "b"', 'instance = "c"', 'ticket = "d"', 'reason = "e"']
    keys += ["at = 2026-11-29T01:01:59"]
    head = '[[cases]]\nname = "n"\nexpect = '
    cases = [head + '"allow"\n' + "\n".join(keys)]
    cases += [head + '"deny"\n' + "\n".join(key for key in keys if key != left_out) for left_out in keys]

    assert load_policies(_policy(tmp_path, policy, "\n".join(cases))).cases == 7


def test_explain_without_an_access_file_is_about_loopback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Anonymous has the role demo there, and nobody else anything."""
    path = _policy(tmp_path, _OPEN)
    assert _run("explain", path, *_CALL) == 0
    assert "roles demo; tenant default" in capsys.readouterr().out
    assert _run("explain", path, *_CALL, *_NOON, "--caller", "dns:x") == 4
    assert capsys.readouterr().out.splitlines() == [
        "caller: roles none; tenant none",
        "instance: tenant default",
        "time: Wednesday 12:00 (minute 720)",
        "DENY SILENT_MONITOR: invariant:same-tenant (CALLER_NOT_PERMITTED)",
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--no-listen-in",), "DENY SILENT_MONITOR: invariant:listen-in (SUPERVISOR_NOT_PERMITTED)"),
        (("--restricted",), "DENY SILENT_MONITOR: invariant:unrestricted (SUPERVISOR_NOT_PERMITTED)"),
        (("--no-barge-in",), "ALLOW SILENT_MONITOR: open"),
        (
            ("--no-barge-in", "--capability", "SILENT_MONITOR", "--capability", "BARGE"),
            "DENY BARGE: invariant:barge-in (SUPERVISOR_NOT_PERMITTED)",
        ),
        (("--acting-for", "u"), "ALLOW SILENT_MONITOR: open"),
        (("--acting-for", "v"), "DENY SILENT_MONITOR: invariant:acting-for (CALLER_NOT_PERMITTED)"),
        (("--acting-for", ""), "DENY SILENT_MONITOR: invariant:acting-for (CALLER_NOT_PERMITTED)"),
        (("--ticket", "closed"), "DENY SILENT_MONITOR: by-ticket (CALLER_NOT_PERMITTED)"),
        (("--reason", "closed"), "DENY SILENT_MONITOR: by-reason (CALLER_NOT_PERMITTED)"),
        (("--contact-id", "overflow"), "DENY SILENT_MONITOR: cannot be evaluated: fails (CALLER_NOT_PERMITTED)"),
    ],
)
def test_explain_tells_what_each_option_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], line: str
) -> None:
    """The rule that decides, and the reason that the caller would get."""
    path = _policy(
        tmp_path,
        _OPEN
        + "\n".join(
            f'@id("by-{name}") forbid (principal, action, resource) when {{ context has {name} && '
            f'context.{name} == "closed" }};'
            for name in ("ticket", "reason")
        )
        + '@id("fails") permit (principal, action, resource == MonitorContact::Contact::"overflow") '
        "when { context.minute_of_day * 9223372036854775807 > 0 };",
    )
    code = _run("explain", path, *_CALL, *_NOON, *options)

    assert capsys.readouterr().out.splitlines()[-1] == line
    assert code == (4 if line.startswith("DENY") else 0)


@pytest.mark.parametrize("capabilities", [("BARGE",), ("BARGE", "BARGE"), ("SILENT_MONITOR", "SILENT_MONITOR")])
def test_no_policy_is_asked_about_a_request_that_the_service_refuses(
    tmp_path: Path, capabilities: tuple[str, ...]
) -> None:
    """`ALLOW` would promise what no call gets."""
    request = MonitorContactRequest(instance_id="i", contact_id="c", user_id="u")
    request.allowed_monitor_capabilities.extend(_CAPABILITIES[name] for name in capabilities)
    with pytest.raises(Failure, match="VALIDATION_FAILED"):
        parse(request)
    options = [word for name in capabilities for word in ("--capability", name)]
    assert _problems("explain", _policy(tmp_path, _OPEN), *_CALL, *options) == [f"--capability {_REFUSED}"]


@pytest.mark.parametrize("time", ["noon", "2026-11-25T12:00Z", "2026-11-25T12:00+01:00", "25.11.2026"])
def test_a_time_that_is_none_is_told(tmp_path: Path, time: str) -> None:
    """Local times only: an offset would promise a conversion."""
    assert _problems("explain", _policy(tmp_path, _OPEN), *_CALL, "--at", time) == [
        f"--at {time}: must be a local time without an offset, such as 2026-11-25T14:30"
    ]


def test_now_is_now_in_the_configured_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a time, the zone is the one that the service would use."""
    minutes = []
    for zone in ("Etc/GMT+6", "Etc/GMT-6"):
        monkeypatch.setenv("MONITOR_CONTACT_POLICY_TIMEZONE", zone)
        _run("explain", _policy(tmp_path, _OPEN), *_CALL)
        minutes.append(int(re.findall(r"\(minute (\d+)\)", capsys.readouterr().out)[0]))
    assert (minutes[1] - minutes[0]) % 1440 in {720, 721}


def test_the_demo_policies_load_and_permit_the_demo_role() -> None:
    """What holds without a policy file comes with the package."""
    assert demo_policies().ids == ("demo",)


def test_the_sha256_of_content_is_that_of_its_policies(tmp_path: Path) -> None:
    """A rejected file is named by what it would have been; line ends are kept as they are."""
    path = _policy(tmp_path, "")
    Path(path).write_bytes(_OPEN.replace("\n", "\r\n").encode())
    assert content_sha256(read_content(path)) == load_policies(path).policies.sha256
