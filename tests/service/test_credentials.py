"""`credentials`, `aws`: they come as AWS's users know it, stay fresh and come back."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import botocore.session
import pytest
from fakes import FakeClock
from monitor_contact_service.aws import new_barge_session, new_session
from monitor_contact_service.credentials import Credentials
from monitor_contact_service.settings import ConfigurationError

from ._aws import Environment, bare_environment

_GENEROUS_SECONDS = 30.0  # a test that would hang for ever ends
_LASTING = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "secret-env"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Keep the developer's own configuration out."""
    return bare_environment(monkeypatch, tmp_path)


class _Server:
    """A local HTTP server in threads of its own; `answer` maps a path (and a body) to a status and a body."""

    def __init__(self) -> None:
        self.answer: Callable[[str, bytes], tuple[int, bytes]] = lambda _path, _body: (404, b"")
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("Content-Length", "0"))
                server.asked.append(self.path)
                status, body = server.answer(self.path, self.rfile.read(size))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
                del format, arguments

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @contextmanager
    def running(self) -> Iterator["_Server"]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()


@pytest.fixture
def server() -> Iterator[_Server]:
    """A local stand-in for a credential endpoint."""
    with _Server().running() as running:
        yield running


def _container_answer(access_key: str, minutes: float) -> tuple[int, bytes]:
    expiration = datetime.now(UTC) + timedelta(minutes=minutes)
    answer = {
        "AccessKeyId": access_key,
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return 200, json.dumps(answer).encode()


def _sts_answer(access_key: str) -> tuple[int, bytes]:
    expiration = datetime.now(UTC) + timedelta(hours=1)
    return 200, (
        '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<AssumeRoleWithWebIdentityResult><Credentials>"
        f"<AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>"
        f"<SessionToken>token</SessionToken><Expiration>{expiration:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    ).encode()


def _new(clock: FakeClock | None = None) -> Credentials:
    return Credentials(new_session, clock=clock or FakeClock())


async def _fetched(credentials: Credentials) -> tuple[str | None, ...] | None:
    """Return what the background task finds first, and what it tells about it."""
    told: asyncio.Queue[bool] = asyncio.Queue()
    task = asyncio.ensure_future(credentials.keep_fresh(told.put_nowait))
    try:
        async with asyncio.timeout(_GENEROUS_SECONDS):
            ready = await told.get()
    finally:
        task.cancel()
        await asyncio.wait([task])
    current = credentials.current
    assert ready is (current is not None)
    return (current.access_key, current.secret_key, current.token) if current else None


async def _access_key(credentials: Credentials) -> str | None:
    found = await _fetched(credentials)
    return found[0] if found else None


async def test_credentials_come_from_the_environment(environment: Environment) -> None:
    """Key, secret and session token."""
    environment.set({**_LASTING, "AWS_SESSION_TOKEN": "token-env"})
    credentials = _new()
    credentials.require_configured()
    assert credentials.current is None
    assert await _fetched(credentials) == ("AKIDENV", "secret-env", "token-env")


async def test_credentials_come_from_a_profile(environment: Environment) -> None:
    """AWS_PROFILE names the section of the shared credentials file."""
    environment.credentials.write_text("[team]\naws_access_key_id = AKIDFILE\naws_secret_access_key = secret\n")
    environment.set({"AWS_PROFILE": "team"})
    credentials = _new()
    credentials.require_configured()
    assert await _fetched(credentials) == ("AKIDFILE", "secret", None)


def _process(environment: Environment, program: str) -> None:
    script = environment.home / "process.py"
    script.write_text(program)
    environment.config.write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")


async def test_credentials_come_from_a_process(environment: Environment) -> None:
    """A credential_process of the profile is run."""
    answer = {"Version": 1, "AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "secret"}
    _process(environment, f"print({json.dumps(json.dumps(answer))})")
    credentials = _new()
    credentials.require_configured()
    assert await _access_key(credentials) == "AKIDPROCESS"


async def test_credentials_come_from_the_container_endpoint(environment: Environment, server: _Server) -> None:
    """ECS and EKS Pod Identity: a loopback address, with the token of a file."""
    token = environment.home / "token"
    token.write_text("authorization")
    server.answer = lambda _path, _body: _container_answer("ASIACONTAINER", 60)
    environment.set(
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/role",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        }
    )
    credentials = _new()
    credentials.require_configured()
    assert await _fetched(credentials) == ("ASIACONTAINER", "secret", "token")
    assert set(server.asked) == {"/role"}


def _web_identity(environment: Environment, server: _Server) -> None:
    token = environment.home / "web-identity"
    token.write_text("web.identity.token")
    environment.set(
        {
            "AWS_REGION": "us-east-1",
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ENDPOINT_URL_STS": server.url,
        }
    )


async def test_credentials_come_from_a_web_identity(environment: Environment, server: _Server) -> None:
    """IRSA: the token of the file is exchanged at STS, not at the start but by the first fetch."""
    bodies: list[bytes] = []

    def answer(_path: str, body: bytes) -> tuple[int, bytes]:
        bodies.append(body)
        return _sts_answer("ASIAWEB")

    server.answer = answer
    _web_identity(environment, server)
    credentials = _new()
    credentials.require_configured()
    assert bodies == []
    assert await _fetched(credentials) == ("ASIAWEB", "secret", "token")
    assert b"WebIdentityToken=web.identity.token" in bodies[0]


@pytest.mark.parametrize("status", [403, 400])
async def test_an_identity_that_sts_refuses_neither_ends_the_service_nor_makes_it_ready(
    environment: Environment, server: _Server, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """STS' refusal is a ClientError, no BotoCoreError: the task lives on, tells that there is nothing, and recovers."""
    server.answer = lambda _path, _body: (
        status,
        b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>",
    )
    _web_identity(environment, server)
    credentials = _new()
    credentials.require_configured()
    assert await _fetched(credentials) is None
    assert any("AccessDenied" in str(getattr(record, "fields", "")) for record in caplog.records)
    server.answer = lambda _path, _body: _sts_answer("ASIALATER")
    await credentials.renew()
    assert credentials.current is not None
    assert credentials.current.access_key == "ASIALATER"


def _credential_problem() -> str:
    with pytest.raises(ConfigurationError) as raised:
        _new().require_configured()
    [problem] = raised.value.problems
    return problem


def test_missing_credentials_are_explained() -> None:
    """What is missing, and the ways to set it."""
    problem = _credential_problem()
    assert "no AWS credentials" in problem
    assert "AWS_PROFILE" in problem
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in problem
    assert "IAM role" in problem


@pytest.mark.parametrize(
    ("variables", "credentials_file"),
    [
        pytest.param({"AWS_ACCESS_KEY_ID": "AKID"}, "", id="a key without its secret"),
        pytest.param({}, "[default]\naws_access_key_id = AKID\n", id="the same in the file"),
        pytest.param({"AWS_PROFILE": "missing"}, "", id="a profile that is not there"),
        pytest.param(
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/role",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/does/not/exist",
            },
            "",
            id="a token file that is not there",
        ),
        pytest.param({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/role"}, "", id="a foreign host"),
    ],
)
def test_a_provider_that_is_configured_wrongly_is_a_problem(
    environment: Environment, variables: Mapping[str, str], credentials_file: str
) -> None:
    """Partial or contradictory configuration is found at the start, on one line."""
    environment.set(variables)
    environment.credentials.write_text(credentials_file)
    assert _credential_problem().startswith("AWS credentials: ")


@pytest.mark.parametrize("program", ["print('no JSON')", "print('[]')", "print('{\"Version\": 2}')"])
def test_a_process_that_answers_nonsense_is_reported_without_a_traceback(
    environment: Environment, program: str
) -> None:
    """Whatever a foreign program prints: a problem on one line, or credentials that may come later."""
    _process(environment, program)
    try:
        _new().require_configured()
    except ConfigurationError as error:
        assert error.problems[0].startswith("AWS credentials: ")  # noqa: PT017 - both ends are right


async def test_a_provider_out_of_reach_is_no_error_and_recovers(environment: Environment, server: _Server) -> None:
    """The service starts without credentials, says so, and has them as soon as the provider answers."""
    server.answer = lambda _path, _body: (500, b"down")
    environment.set({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/role"})
    credentials = _new()
    credentials.require_configured()
    assert await _fetched(credentials) is None
    server.answer = lambda _path, _body: _container_answer("ASIALATER", 60)
    await credentials.renew()
    assert await _access_key(credentials) == "ASIALATER"


async def test_what_is_out_of_reach_later_keeps_the_old_credentials(environment: Environment, server: _Server) -> None:
    """They may still be good: Connect says so if not."""
    server.answer = lambda _path, _body: _container_answer("ASIAOLD", 60)
    environment.set({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/role"})
    credentials = _new()
    assert await _access_key(credentials) == "ASIAOLD"
    server.answer = lambda _path, _body: (500, b"down")
    await credentials.renew()
    assert await _access_key(credentials) == "ASIAOLD"


async def test_credentials_near_their_end_are_fetched_again(environment: Environment, server: _Server) -> None:
    """The next look of the background task renews what ends within minutes and leaves alone what lasts."""
    served = iter(("ASIA1", "ASIA2", "ASIA3"))
    minutes = 5.0
    server.answer = lambda _path, _body: _container_answer(next(served), minutes)
    environment.set({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/role"})
    credentials = _new()
    first = await _access_key(credentials)
    minutes = 120.0
    second = await _access_key(credentials)
    third = await _access_key(credentials)
    assert first != second
    assert third == second


async def test_fetching_does_not_hold_up_the_event_loop(environment: Environment, server: _Server) -> None:
    """The provider answers only after the loop has turned: in the loop's own thread this would never end."""
    asked, turned = threading.Event(), threading.Event()

    def answer(_path: str, _body: bytes) -> tuple[int, bytes]:
        asked.set()
        return _container_answer("ASIASLOW", 60) if turned.wait(_GENEROUS_SECONDS) else (500, b"")

    server.answer = answer
    environment.set({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/role"})
    credentials = _new()
    fetch = asyncio.ensure_future(_access_key(credentials))
    assert await asyncio.to_thread(asked.wait, _GENEROUS_SECONDS)
    turned.set()
    assert await fetch == "ASIASLOW"


async def test_renewing_reads_rotated_files(environment: Environment) -> None:
    """Lasting credentials never end by themselves: renewing goes through the chain again and finds the new ones."""
    environment.credentials.write_text("[default]\naws_access_key_id = AKIDOLD\naws_secret_access_key = secret\n")
    credentials = _new()
    assert await _access_key(credentials) == "AKIDOLD"
    environment.credentials.write_text("[default]\naws_access_key_id = AKIDNEW\naws_secret_access_key = secret\n")
    assert await _access_key(credentials) == "AKIDOLD"
    await credentials.renew()
    assert await _access_key(credentials) == "AKIDNEW"


class _CountedSessions:
    """Makes sessions and counts them; `gate` holds each one up until it is set."""

    def __init__(self) -> None:
        self.made = 0
        self.gate = threading.Event()
        self.gate.set()
        self.held_up = threading.Event()

    def __call__(self) -> Any:
        """Make one."""
        self.made += 1
        if not self.gate.is_set():
            self.held_up.set()
        assert self.gate.wait(_GENEROUS_SECONDS)
        session = botocore.session.Session()
        session.set_credentials(f"AKID{self.made}", "secret")
        return session


async def test_calls_that_fail_together_renew_once() -> None:
    """A hundred calls that learn at the same time that the credentials have ended cause one fetch."""
    sessions = _CountedSessions()
    credentials = Credentials(sessions, clock=FakeClock())
    await asyncio.gather(*(credentials.renew() for _ in range(100)))
    assert sessions.made == 2  # one at the start
    assert credentials.current is not None
    assert credentials.current.access_key == "AKID2"


async def test_renewing_is_limited_to_once_a_second() -> None:
    """Calls that fail one after another do not hammer the provider."""
    clock, sessions = FakeClock(), _CountedSessions()
    credentials = Credentials(sessions, clock=clock)
    made = []
    for wait in (0.0, 0.5, 0.4, 0.2, 5.0):
        clock.advance(wait)
        await credentials.renew()
        made.append(sessions.made)
    assert made == [2, 2, 2, 3, 4]


async def test_a_caller_that_gives_up_leaves_the_renewal_to_the_others() -> None:
    """The fetch goes on, the next caller joins it, and no second thread is started."""
    sessions = _CountedSessions()
    credentials = Credentials(sessions, clock=FakeClock())
    sessions.gate.clear()
    first = asyncio.ensure_future(credentials.renew())
    assert await asyncio.to_thread(sessions.held_up.wait, _GENEROUS_SECONDS)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.ensure_future(credentials.renew())
    await asyncio.sleep(0)
    sessions.gate.set()
    await second
    assert first.cancelled()
    assert sessions.made == 2
    assert credentials.current is not None


# The second role, for barge alone.

_ROLE = "arn:aws:iam::123456789012:role/barge"


def _assumed(access_key: str, minutes: float = 60) -> tuple[int, bytes]:
    expiration = datetime.now(UTC) + timedelta(minutes=minutes)
    return 200, (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>secret-barge</SecretAccessKey>"
        f"<SessionToken>token-barge</SessionToken><Expiration>{expiration:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        "</Credentials><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/barge/s</Arn>"
        "<AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()


class _Sts:
    """What STS is asked, and what it answers."""

    def __init__(self, environment: Environment, server: _Server) -> None:
        environment.set({"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL_STS": server.url})
        self.asked: list[dict[str, list[str]]] = []
        self.answers: list[tuple[int, bytes]] = [_assumed("ASIABARGE")]
        server.answer = self._answer

    def _answer(self, _path: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append(parse_qs(body.decode()))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def sts(environment: Environment, server: _Server) -> _Sts:
    """A local stand-in for STS."""
    return _Sts(environment, server)


def _barge() -> Credentials:
    return Credentials(lambda: new_barge_session(_ROLE), clock=FakeClock())


async def test_the_barge_role_is_assumed_when_it_is_needed(environment: Environment, sts: _Sts) -> None:
    """With the service's own credentials and a session name of its own, once; the start asks nobody."""
    environment.set(_LASTING)
    credentials = _barge()
    credentials.require_configured()
    assert sts.asked == []
    assert await _fetched(credentials) == ("ASIABARGE", "secret-barge", "token-barge")
    assert await _fetched(credentials) == ("ASIABARGE", "secret-barge", "token-barge")
    (asked,) = sts.asked
    assert (asked["Action"], asked["RoleArn"]) == (["AssumeRole"], [_ROLE])
    assert asked["RoleSessionName"] == ["monitor-contact-barge"]


async def test_the_barge_role_is_assumed_again_before_it_ends(environment: Environment, sts: _Sts) -> None:
    """By botocore's own rule, minutes before."""
    environment.set(_LASTING)
    sts.answers = [_assumed("ASIA1", minutes=5), _assumed("ASIA2", minutes=120)]
    credentials = _barge()
    assert [await _access_key(credentials) for _ in range(3)] == ["ASIA1", "ASIA2", "ASIA2"]
    assert len(sts.asked) == 2


async def test_renewing_assumes_the_barge_role_again(environment: Environment, sts: _Sts) -> None:
    """Also while the old credentials seem to last: Connect says that they do not work."""
    environment.set(_LASTING)
    sts.answers = [_assumed("ASIA1"), _assumed("ASIA2")]
    credentials = _barge()
    await _access_key(credentials)
    await credentials.renew()
    assert credentials.current is not None
    assert credentials.current.access_key == "ASIA2"


async def test_a_role_that_may_not_be_assumed_leaves_the_others_alone(environment: Environment, sts: _Sts) -> None:
    """No credentials for barge, and the service's own are what they were."""
    environment.set(_LASTING)
    sts.answers = [
        (403, b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>")
    ]
    assert await _fetched(_barge()) is None
    assert await _access_key(_new()) == "AKIDENV"


def test_without_own_credentials_there_is_no_barge_role(sts: _Sts) -> None:
    """It is the same problem as without the role, and nobody is asked."""
    with pytest.raises(ConfigurationError) as raised:
        _barge().require_configured()
    assert "no AWS credentials" in raised.value.problems[0]
    assert sts.asked == []
