"""The command `monitor-contact`: what can be typed, what is printed, how it exits."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from client.scripted_server import abort
from client.scripted_server import serving as scripted
from fakes import SESSION, FakeClock, FakeTransport
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from harness import Service, serving
from monitor_contact_service.call import call
from monitor_contact_service.cli import main, parser
from monitor_contact_service.core.caller import ANONYMOUS
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.idempotency import derive_client_token
from monitor_contact_service.exits import EXIT_FAILED, EXIT_USAGE
from monitor_contact_service.reasons import TABLE
from monitor_contact_service.settings import Settings
from monitor_contact_service.settings_text import default_text
from monitor_contact_service.simulator import default_world, load_world
from monitor_contact_service.variables import variable

_GENEROUS_SECONDS = 60.0  # a command that would hang for ever ends
_READY = {
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "AKIDTEST",
    "AWS_SECRET_ACCESS_KEY": "a-secret-key",
    "AWS_ENDPOINT_URL_CONNECT": "http://127.0.0.1:1",
}
_IDS = ["--instance-id", "i", "--contact-id", "c", "--user-id", "u"]


class _Command:
    """Runs the command in a process of its own, in an environment without any configuration."""

    def __init__(self, home: Path) -> None:
        kept = {"PATH", "LANG", "LC_ALL", "TMPDIR"}
        self._environment = {name: value for name, value in os.environ.items() if name in kept} | {
            "HOME": str(home),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        return subprocess.run(
            [sys.executable, "-m", "monitor_contact_service", *arguments],
            env={**self._environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=_GENEROUS_SECONDS,
        )


@pytest.fixture
def command(tmp_path: Path) -> _Command:
    """The command without the developer's configuration."""
    return _Command(tmp_path)


@contextmanager
def _taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_the_version_is_the_distributions(command: _Command) -> None:
    """Printed alone on a line, exit 0."""
    done = command.run("--version")
    assert (done.returncode, done.stdout) == (0, f"monitor-contact {version('monitor-contact-service')}\n")


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["call"], ["call", *_IDS, "--capability", "WHISPER"]])
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With a line that says what is wrong."""
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == EXIT_USAGE
    assert "usage: monitor-contact" in capsys.readouterr().err


def _help(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as raised:
        main([*arguments, "--help"])
    assert raised.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with what it is for."""
    text = _help(capsys)
    assert all(name in text for name in ("serve", "check-config", "simulate", "call"))


@pytest.mark.parametrize("name", ["serve", "check-config"])
def test_help_documents_every_variable(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, default and description of all settings, and the exit codes."""
    text = " ".join(_help(capsys, name).split())
    for field, info in Settings.model_fields.items():
        assert f"{variable(field)} (default {default_text(field)}" in text
        assert info.description is not None
        assert " ".join(info.description.split()) in text
    assert "exit codes: 0" in text


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("simulate", ["--listen", "--world", "--print-world"]),
        (
            "call",
            [
                *["--target", "--instance-id", "--contact-id", "--user-id", "--capability", "--client-token"],
                *["--reason", "--ticket", "--timeout", "--tls-ca", "--tls-cert", "--tls-key"],
                *["--token-file", "--end-user-token-file"],
            ],
        ),
    ],
)
def test_help_documents_every_option(name: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And the exit codes by outcome."""
    text = _help(capsys, name)
    assert all(option in text for option in options)
    assert "exit codes: 0" in text


@pytest.mark.parametrize("name", ["serve", "check-config"])
def test_a_bare_machine_is_told_all_that_is_missing(command: _Command, name: str) -> None:
    """Neither Region nor credentials: both are named at once, exit 2, no traceback, nothing on stdout."""
    done = command.run(name)
    assert done.returncode == EXIT_USAGE
    assert done.stdout == ""
    assert "no AWS Region" in done.stderr
    assert "AWS_REGION=eu-central-1" in done.stderr
    assert "no AWS credentials" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["serve", "check-config"])
def test_settings_and_aws_problems_come_together(command: _Command, name: str) -> None:
    """Every problem has its line with the variable's name; nothing listens."""
    with _taken_port() as port:  # checking the configuration does not even try to bind
        done = command.run(
            name,
            MONITOR_CONTACT_LISTEN=f"127.0.0.1:{port}",
            MONITOR_CONTACT_MAX_IN_FLIGHT="many",
            MONITOR_CONTACT_DRAIN_SECOND="1",
            AWS_REGION="us-east-1",
        )
    assert done.returncode == EXIT_USAGE
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("monitor-contact: ") for line in lines)
    assert any("MONITOR_CONTACT_MAX_IN_FLIGHT" in line for line in lines)
    assert any("did you mean MONITOR_CONTACT_DRAIN_SECONDS?" in line for line in lines)
    assert any("no AWS credentials" in line for line in lines)


def test_a_wrong_setting_hides_no_fault_of_a_file(command: _Command, tmp_path: Path) -> None:
    """Each file that environment or settings file names is read all the same: one run tells all."""
    (access := tmp_path / "access.toml").write_text('[callers."qa-desk"]\n[callers."dns:a"]\n')
    (policy := tmp_path / "policy.cedar").write_text("permit (principal, action, resource);")
    (settings := tmp_path / "settings").write_text(f"MONITOR_CONTACT_POLICY_FILE={policy}\n")
    missing = str(tmp_path / "missing")
    done = command.run(
        "check-config",
        **_READY,
        MONITOR_CONTACT_MAX_IN_FLIGHT="many",
        MONITOR_CONTACT_SETTINGS_FILE=str(settings),
        MONITOR_CONTACT_ACCESS_FILE=str(access),
        MONITOR_CONTACT_TLS_CERT_FILE=missing,
        MONITOR_CONTACT_TLS_KEY_FILE=missing,
        MONITOR_CONTACT_AUDIT=f"{access}/audit.jsonl",
        MONITOR_CONTACT_AUDIT_KEY_FILE=missing,
    )
    assert done.returncode == EXIT_USAGE
    told = [
        "MONITOR_CONTACT_MAX_IN_FLIGHT: ",
        f"{access}: callers.'qa-desk': ",
        f"{access}: callers.'dns:a': ",
        f"{policy}:1: ",
        f"MONITOR_CONTACT_TLS_CERT_FILE: {missing}: ",
        f"MONITOR_CONTACT_TLS_KEY_FILE: {missing}: ",
        f"MONITOR_CONTACT_AUDIT: {access}/audit.jsonl: ",
        f"MONITOR_CONTACT_AUDIT_KEY_FILE: {missing}: ",
    ]
    lines = done.stderr.splitlines()
    assert len(lines) == len(told)
    for line, beginning in zip(lines, told, strict=True):
        assert line.startswith(f"monitor-contact: {beginning}")


def test_what_a_wrong_name_leaves_out_is_not_told_as_another_fault(command: _Command, tmp_path: Path) -> None:
    """With the CAs of clients and the key misspelt, access file and certificate are not wrong because of that."""
    (access := tmp_path / "access.toml").write_text('trust_domains = ["corp.example"]\n')
    done = command.run(
        "check-config",
        **_READY,
        HOME="/nonexistent",
        MONITOR_CONTACT_ACCESS_FILE=str(access),
        MONITOR_CONTACT_TLS_CLIENT_CA_FILES="/etc/ca.crt",
        MONITOR_CONTACT_AUDITS=str(tmp_path / "audit.jsonl"),
    )
    assert done.returncode == EXIT_USAGE
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "MONITOR_CONTACT_AUDITS",
        "MONITOR_CONTACT_TLS_CLIENT_CA_FILES",
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://writer:a-password@db.example/audit?sslmode=foo", ": invalid sslmode value: …"),
        ("postgresql://writer:a-password@db.example/audit?ssl-mode=require", ""),
        ("postgresql://writer:x@db:a-password@db.example/audit", ": invalid integer value …"),
    ],
)
@pytest.mark.parametrize("wrong", [{}, {"MONITOR_CONTACT_QUOTA_RATE": "0"}])
def test_a_database_url_that_libpq_does_not_take_is_refused(
    command: _Command, url: str, said: str, wrong: dict[str, str]
) -> None:
    """It would be tried for ever; nobody is connected to, and the message has no password."""
    done = command.run("check-config", **_READY, **wrong, MONITOR_CONTACT_AUDIT=url)
    assert done.returncode == EXIT_USAGE
    *_, line = done.stderr.splitlines()
    beginning = (
        "monitor-contact: MONITOR_CONTACT_AUDIT: must be postgresql://user@host/database, with parameters as libpq"
    )
    assert line.startswith(f"{beginning} documents them{said}")
    assert "a-password" not in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://writer:a-password@db.example/audit?sslmode=verify-full&sslrootcert=/etc/ca.crt",
        "postgres://writer@a.example:5432,b.example:5433/audit",
        "postgresql://writer@/audit?host=/run/postgresql",
        "postgresql://writer@db.example/audit?gssencmode=require",
        "postgresql:///audit?port=1,2",
        "postgresql://writer@/audit?hostaddr=192.0.2.1,192.0.2.2&port=1,2",
    ],
)
def test_a_database_url_that_libpq_takes_is_not_connected_to(command: _Command, url: str) -> None:
    """None of these servers is there."""
    done = command.run("check-config", **_READY, MONITOR_CONTACT_AUDIT=url)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_doubtful_is_a_warning(command: _Command, tmp_path: Path) -> None:
    """`check-config` prints it and is content, `serve` logs it and goes on: here until the port is found taken."""
    certificate, key = Authority().leaf(dns_names=["localhost"]).write(tmp_path)
    (access := tmp_path / "access.toml").write_text(
        '[[issuers]]\nissuer = "https://a"\naudience = "m"\nkeys = "https://keys.example"\n'
    )
    (policy := tmp_path / "policy.cedar").write_text("")
    with _taken_port() as port:
        variables = {
            **_READY,
            "MONITOR_CONTACT_LISTEN": f"0.0.0.0:{port}",
            "MONITOR_CONTACT_DRAIN_SECONDS": "5",
            "MONITOR_CONTACT_TLS_CERT_FILE": str(certificate),
            "MONITOR_CONTACT_TLS_KEY_FILE": str(key),
            "MONITOR_CONTACT_ACCESS_FILE": str(access),
            "MONITOR_CONTACT_POLICY_FILE": str(policy),
        }
        checked = command.run("check-config", **variables)
        served = command.run("serve", **variables)
    doubt = "MONITOR_CONTACT_DRAIN_SECONDS (5) should be more than 38: "
    assert checked.returncode == 0
    assert checked.stderr.startswith(f"monitor-contact: warning: {doubt}")
    assert len(checked.stderr.splitlines()) == 1
    assert served.returncode == EXIT_FAILED
    warnings = [line for line in served.stderr.splitlines() if '"doubtful setting"' in line]
    assert [(json.loads(line)["level"], json.loads(line)["doubt"][: len(doubt)]) for line in warnings] == [
        ("warning", doubt)
    ]


def test_a_good_configuration_is_shown_without_secrets(command: _Command) -> None:
    """Every setting by its variable, and where Connect is; exit 0 although the port is taken: nothing listens."""
    with _taken_port() as port:
        done = command.run(
            "check-config",
            **_READY,
            MONITOR_CONTACT_LISTEN=f"127.0.0.1:{port}",
            MONITOR_CONTACT_QUOTA_URL="rediss://a-user:a-password@redis.example.com/1",
            MONITOR_CONTACT_QUOTA_REPLICAS="3",
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"MONITOR_CONTACT_LISTEN=127.0.0.1:{port}" in done.stdout
    assert all(f"{variable(field)}=" in done.stdout for field in Settings.model_fields)
    assert "http://127.0.0.1:1" in done.stdout
    assert "us-east-1" in done.stdout
    assert "MONITOR_CONTACT_QUOTA_URL=rediss://redis.example.com:6379/1\n" in done.stdout
    assert "a-secret-key" not in done.stdout
    assert "a-password" not in done.stdout


def test_a_wrong_url_is_refused_without_its_password(command: _Command) -> None:
    """Scheme unknown: exit 2, the known ones are shown, nothing of the URL is."""
    done = command.run("check-config", **_READY, MONITOR_CONTACT_QUOTA_URL="valkey://a-user:a-password@localhost")
    assert done.returncode == EXIT_USAGE
    [line] = done.stderr.splitlines()
    assert line.startswith("monitor-contact: MONITOR_CONTACT_QUOTA_URL: must be memory://")
    assert "a-password" not in line


def test_the_settings_file_is_checked_too(command: _Command, tmp_path: Path) -> None:
    """A bad line is named by its number; a good file's values are shown."""
    file = tmp_path / "settings"
    file.write_text("MONITOR_CONTACT_QUOTA_RATE=4\nnonsense\n")
    done = command.run("check-config", **_READY, MONITOR_CONTACT_SETTINGS_FILE=str(file))
    assert done.returncode == EXIT_USAGE
    assert done.stderr == f"monitor-contact: {file}, line 2: must be NAME=value\n"
    file.write_text("MONITOR_CONTACT_QUOTA_RATE=4\n")
    done = command.run("check-config", **_READY, MONITOR_CONTACT_SETTINGS_FILE=str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert "MONITOR_CONTACT_QUOTA_RATE=4.0\n" in done.stdout


def test_a_taken_port_is_exit_1(command: _Command) -> None:
    """The message names the address and the setting to change; no traceback."""
    with _taken_port() as port:
        done = command.run("serve", **_READY, MONITOR_CONTACT_LISTEN=f"127.0.0.1:{port}")
    assert done.returncode == EXIT_FAILED
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "MONITOR_CONTACT_LISTEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_others_could_reach_is_exit_2(command: _Command) -> None:
    """With the reason."""
    done = command.run("serve", **_READY, MONITOR_CONTACT_LISTEN="0.0.0.0:0")
    assert done.returncode == EXIT_USAGE
    assert "everybody on the network could listen in" in done.stderr


async def _call(
    capsys: pytest.CaptureFixture[str], target: str, *arguments: str, ids: list[str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Run `call` in a thread beside the server and return its exit code and what it printed."""
    typed = ["call", "--target", target, *(_IDS if ids is None else ids), *arguments]
    exit_code = await asyncio.to_thread(call, parser().parse_args(typed))
    printed = capsys.readouterr()
    assert printed.err == ""
    answer: dict[str, Any] = json.loads(printed.out)
    return exit_code, answer


def _serving(*script: Failure) -> AbstractAsyncContextManager[Service]:
    return serving(FakeTransport(FakeClock(), script=script))


async def test_a_started_session_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The token that was used, made if none was given, and both names of the new contact; exit 0."""
    async with _serving() as service:
        exit_code, answer = await _call(capsys, service.target)
        _, with_token = await _call(capsys, service.target, "--client-token", "mine")
    assert exit_code == 0
    assert len(answer.pop("client_token")) == 36
    assert answer == {"contact_id": SESSION.contact_id, "contact_arn": SESSION.contact_arn}
    assert with_token["client_token"] == "mine"


async def test_what_is_typed_is_what_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids, capabilities in their order and what is derived from the token reach Connect."""
    transport = FakeTransport(FakeClock())
    async with serving(transport) as service:
        options = ["--capability", "SILENT_MONITOR", "--capability", "BARGE", "--client-token", "mine"]
        assert (await _call(capsys, service.target, *options))[0] == 0
    assert json.loads(transport.sent[0].body) == {
        "InstanceId": "i",
        "ContactId": "c",
        "UserId": "u",
        "AllowedMonitorCapabilities": ["SILENT_MONITOR", "BARGE"],
        "ClientToken": derive_client_token(ANONYMOUS.id, "mine"),
    }


_EXIT_CODES = {
    Reason.INVALID_REQUEST: 3,
    Reason.RESOURCE_NOT_FOUND: 3,
    Reason.UNSUPPORTED_CHANNEL: 3,
    Reason.ACCESS_DENIED: 4,
    Reason.SUPERVISOR_NOT_PERMITTED: 4,
    Reason.SERVICE_QUOTA_EXCEEDED: 5,
    Reason.CONTACT_NOT_MONITORABLE: 5,
    Reason.IDEMPOTENCY_CONFLICT: 5,
    Reason.OVERLOADED: 6,
    Reason.SHUTTING_DOWN: 6,
    Reason.SERVICE_LINKED_ROLE_MISSING: 7,
    Reason.CONNECT_BAD_RESPONSE: 7,
    Reason.INTERNAL: 7,
}


@pytest.mark.parametrize(("reason", "expected"), _EXIT_CODES.items())
async def test_the_exit_code_says_what_to_do(reason: Reason, expected: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Code, reason, message and request id are printed; the exit code is the row's advice."""
    async with _serving(Failure(reason, metadata={"aws_request_id": "aws-1"})) as service:
        exit_code, answer = await _call(capsys, service.target)
    row = TABLE[reason]
    assert exit_code == row.advice.value == expected
    assert (answer["reason"], answer["code"], answer["message"]) == (reason, row.code.name, row.message)
    assert len(answer["request_id"]) == 32
    assert answer.get("metadata", {}).get("aws_request_id", "aws-1") == "aws-1"


async def test_a_throttled_call_says_when_to_come_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 6 with the time and the number of attempts, after the service's own repetitions."""
    throttled = [Failure(Reason.THROTTLED, retry_after_seconds=5.5) for _ in range(6)]
    async with _serving(*throttled) as service:
        exit_code, answer = await _call(capsys, service.target, "--timeout", "2")
    assert exit_code == 6
    assert answer["reason"] == "THROTTLED"
    assert answer["metadata"]["attempts"] == "1"
    assert float(answer["retry_after"].removesuffix("s")) >= 5.5


async def test_violations_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3 with every field that is wrong."""
    ids = ["--instance-id", "", "--contact-id", "c" * 257, "--user-id", "u"]
    async with _serving() as service:
        exit_code, answer = await _call(capsys, service.target, ids=ids)
    assert exit_code == 3
    assert answer["reason"] == "VALIDATION_FAILED"
    assert [(item["field"], item["reason"]) for item in answer["violations"]] == [
        ("instance_id", "REQUIRED"),
        ("contact_id", "TOO_LONG"),
    ]


async def test_a_deadline_that_is_too_short_is_the_requests_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3: only a longer --timeout helps."""
    async with serving(FakeTransport(FakeClock()), call_seconds=1e6) as service:
        exit_code, answer = await _call(capsys, service.target)
    assert (exit_code, answer["reason"]) == (3, "DEADLINE_TOO_SHORT")


async def test_a_service_that_is_not_there_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Still JSON, with gRPC's code and no reason: nobody answered who could give one."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        target = f"127.0.0.1:{closed.getsockname()[1]}"
    exit_code, answer = await _call(capsys, target)
    assert (exit_code, answer["code"]) == (EXIT_FAILED, "UNAVAILABLE")
    assert "reason" not in answer
    assert answer["client_token"]


async def test_why_and_for_whom_travel_beside_the_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reason and ticket as typed, tokens from their files without the line's end; what is not given is not sent."""
    (caller := tmp_path / "caller").write_text("a.b.c\n")
    (person := tmp_path / "person").write_text("d.e.f\n")
    tokens = ["--token-file", str(caller), "--end-user-token-file", str(person)]
    with scripted() as server:
        assert (await _call(capsys, server.target, "--reason", "coaching: day 1", "--ticket", "QA-1", *tokens))[0] == 0
        assert (await _call(capsys, server.target))[0] == 0
    ours = ({key: seen.metadata[key] for key in seen.metadata if key != "user-agent"} for seen in server.seen)
    assert list(ours) == [
        {
            "authorization": "Bearer a.b.c",
            "x-end-user-token": "d.e.f",
            "x-monitor-reason": "coaching: day 1",
            "x-monitor-ticket": "QA-1",
        },
        {},
    ]


async def test_a_call_over_mtls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the CA, certificate and key it succeeds; without the certificate the server does not answer, exit 1."""
    authority = Authority()
    (ca := tmp_path / "ca.crt").write_bytes(authority.certificate)
    certificate, key = authority.leaf(uris=["spiffe://corp.example/cli"]).write(tmp_path, "client")
    server_leaf = authority.leaf(dns_names=["localhost"])
    credentials = grpc.ssl_server_credentials(
        [(server_leaf.key, server_leaf.certificate)], authority.certificate, require_client_auth=True
    )
    with scripted(credentials=credentials) as server:
        target = server.target.replace("127.0.0.1", "localhost")
        trusting = ["--tls-ca", str(ca)]
        own = ["--tls-cert", str(certificate), "--tls-key", str(key)]
        assert (await _call(capsys, target, *trusting, *own))[0] == 0
        exit_code, answer = await _call(capsys, target, *trusting, "--timeout", "2")
    assert (exit_code, answer["code"]) == (EXIT_FAILED, "UNAVAILABLE")


async def test_loopback_stays_here_whatever_proxy_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself gRPC would hand even loopback's plain text, and a token in it, to http_proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with scripted() as server:
        assert (await _call(capsys, server.target))[0] == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--tls-cert", "{pem}"], "--tls-cert and --tls-key belong together"),
        (["--tls-ca", "{absent}"], "--tls-ca {absent}: No such file"),
        (["--tls-ca", "{text}"], "--tls-ca {text}: must be a PEM file"),
        (["--token-file", "{absent}"], "--token-file {absent}: No such file"),
        (["--token-file", "{empty}"], "--token-file {empty}: must hold one token"),
        (["--token-file", "{text}"], "--token-file {text}: must hold one token"),
        (["--end-user-token-file", "{binary}"], "--end-user-token-file {binary}: must hold one token"),
        (["--reason", "caf\u00e9"], "--reason: must have only printable ASCII"),
        (["--ticket", "a\nb"], "--ticket: must have only printable ASCII"),
        (["--target", "192.0.2.1:443", "--token-file", "{token}"], "192.0.2.1:443 may not get a token unencrypted"),
        (["--target", "dns:///a:1", "--end-user-token-file", "{token}"], "dns:///a:1 may not get a token unencrypted"),
    ],
)
def test_what_cannot_be_sent_is_exit_2_and_repeats_no_secret(
    options: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with the option and what would be right; nothing has been called."""
    contents = {
        "pem": b"-----BEGIN",
        "text": b"two geheim",
        "empty": b"\n",
        "binary": b"geheim\xff",
        "token": b"geheim",
    }
    files = {name: str(tmp_path / name) for name in (*contents, "absent")}
    for name, content in contents.items():
        Path(files[name]).write_bytes(content)
    assert main(["call", *_IDS, *(option.format(**files) for option in options)]) == EXIT_USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"monitor-contact: {problem.format(**files)}")
    assert len(printed.err.splitlines()) == 1
    assert "geheim" not in printed.err


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


_BROKEN = {
    "corrupt": AnyMessage(type_url="type.googleapis.com/google.rpc.BadRequest", value=b"\xff\xff"),
    "of an unknown type": AnyMessage(type_url="example.com/a.B", value=b"a"),
    "without a type": AnyMessage(),
    "an impossible time": _packed(RetryInfo(retry_delay=Duration(seconds=10**15))),
}


@pytest.mark.parametrize("broken", _BROKEN.values(), ids=_BROKEN)
async def test_broken_details_of_another_server_hide_nothing_else(
    broken: AnyMessage, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are left out; what can be read, before and after, is printed and decides the exit code."""
    details = (_packed(ErrorInfo(reason="OVERLOADED")), broken, _packed(RequestInfo(request_id="id")))
    trailer = Status(details=details).SerializeToString()
    with scripted(abort(grpc.StatusCode.DATA_LOSS, "no", (("grpc-status-details-bin", trailer),))) as server:
        exit_code, answer = await _call(capsys, server.target, "--client-token", "t")
    assert exit_code == 6
    assert answer == {
        "client_token": "t",
        "code": "DATA_LOSS",
        "message": "no",
        "reason": "OVERLOADED",
        "request_id": "id",
    }


@pytest.mark.parametrize(
    "trailer",
    [b"\xff\xff", b"", Status(details=[_packed(ErrorInfo(reason="OF_ANOTHER"))]).SerializeToString()],
    ids=["no status", "empty", "an unknown reason"],
)
async def test_an_answer_that_is_not_ours_is_exit_1(trailer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Its code and message are printed; there is no advice for a reason that nobody knows."""
    with scripted(abort(grpc.StatusCode.ABORTED, "no", (("grpc-status-details-bin", trailer),))) as server:
        exit_code, answer = await _call(capsys, server.target)
    assert (exit_code, answer["code"], answer["message"]) == (EXIT_FAILED, "ABORTED", "no")


def test_every_kind_of_advice_is_exercised() -> None:
    """The table above has each exit code from 3 to 7, so none is documented without having been seen."""
    assert set(_EXIT_CODES.values()) == {3, 4, 5, 6, 7}


def test_the_built_in_world_is_printed(tmp_path: Path, command: _Command) -> None:
    """`simulate --print-world` prints the file to start an own world from, and does not listen."""
    done = command.run("simulate", "--print-world")
    assert done.returncode == 0
    (copy := tmp_path / "world.toml").write_text(done.stdout)
    assert load_world(copy) == default_world()


def test_a_broken_world_file_is_exit_2(tmp_path: Path, command: _Command) -> None:
    """The message says where and why."""
    world = tmp_path / "world.toml"
    world.write_text("[[instances]\n")
    done = command.run("simulate", "--world", str(world), "--listen", "127.0.0.1:0")
    assert done.returncode == EXIT_USAGE
    assert f"{world}:1: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("listen", ["nonsense", "0.0.0.0:0", "127.0.0.1:99999"])
def test_a_simulator_that_others_could_reach_is_exit_2(listen: str, command: _Command) -> None:
    """Its control API has no password; what is no address is refused alike."""
    done = command.run("simulate", "--listen", listen)
    assert done.returncode == EXIT_USAGE
    assert done.stderr.startswith(f"monitor-contact: --listen {listen}: ")


def test_a_taken_port_of_the_simulator_is_exit_1(command: _Command) -> None:
    """The message names the option to change."""
    with _taken_port() as port:
        done = command.run("simulate", "--listen", f"127.0.0.1:{port}")
    assert done.returncode == EXIT_FAILED
    assert "--listen" in done.stderr
    assert "Traceback" not in done.stderr
