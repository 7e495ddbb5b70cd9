"""`aws`: AWS's own configuration works as its users know it, and credentials come, stay fresh and come back."""

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
from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest
from botocore.utils import ContainerMetadataFetcher
from fakes import FakeClock
from monitor_contact_service.aws import (
    Credentials,
    Endpoint,
    is_connects,
    new_barge_session,
    new_session,
    resolve_endpoint,
)
from monitor_contact_service.settings import ConfigurationError

_GENEROUS_SECONDS = 30.0  # a test that would hang for ever ends
_LASTING = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "secret-env"}


class _Environment:
    """The variables and the files of one test; nothing of the developer's own configuration is left in it."""

    def __init__(self, patch: pytest.MonkeyPatch, home: Path) -> None:
        self._patch = patch
        self.home = home
        self.config = home / "config"
        self.credentials = home / "credentials"

    def set(self, variables: Mapping[str, str]) -> None:
        for name, value in variables.items():
            self._patch.setenv(name, value)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Environment:
    """Keep the developer's own configuration and the instance metadata out."""
    import os  # noqa: PLC0415 - the one look at what there is to remove

    proxies = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    for name in list(os.environ):
        if name.startswith("AWS_") or name.upper() in proxies:
            monkeypatch.delenv(name)
    found = _Environment(monkeypatch, tmp_path)
    found.set(
        {
            "HOME": str(tmp_path),
            "AWS_CONFIG_FILE": str(found.config),
            "AWS_SHARED_CREDENTIALS_FILE": str(found.credentials),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    return found


def _resolve(allow_host: str = "") -> Endpoint:
    return resolve_endpoint(new_session(), allow_host)


def _problem(allow_host: str = "") -> str:
    with pytest.raises(ConfigurationError) as raised:
        _resolve(allow_host)
    [problem] = raised.value.problems
    return problem


# Where Connect is.


@pytest.mark.parametrize(
    ("variables", "config", "url", "region"),
    [
        pytest.param(
            {"AWS_REGION": "eu-central-1"},
            "",
            "https://connect.eu-central-1.amazonaws.com",
            "eu-central-1",
            id="AWS_REGION",
        ),
        pytest.param(
            {"AWS_DEFAULT_REGION": "eu-west-2"},
            "",
            "https://connect.eu-west-2.amazonaws.com",
            "eu-west-2",
            id="AWS_DEFAULT_REGION",
        ),
        pytest.param(
            {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-west-2"},
            "",
            "https://connect.eu-central-1.amazonaws.com",
            "eu-central-1",
            id="AWS_REGION comes first, as in every other SDK",
        ),
        pytest.param(
            {}, "[default]\nregion = us-west-2\n", "https://connect.us-west-2.amazonaws.com", "us-west-2", id="profile"
        ),
        pytest.param(
            {"AWS_PROFILE": "other"},
            "[default]\nregion = us-west-2\n[profile other]\nregion = ap-southeast-2\n",
            "https://connect.ap-southeast-2.amazonaws.com",
            "ap-southeast-2",
            id="AWS_PROFILE",
        ),
        pytest.param(
            {"AWS_REGION": "us-gov-west-1"},
            "",
            "https://connect.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
            id="GovCloud",
        ),
        pytest.param(
            {"AWS_REGION": "us-east-1", "AWS_USE_FIPS_ENDPOINT": "true"},
            "",
            "https://connect-fips.us-east-1.amazonaws.com",
            "us-east-1",
            id="FIPS",
        ),
        pytest.param(
            {"AWS_REGION": "us-east-1", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "",
            "https://connect.us-east-1.api.aws",
            "us-east-1",
            id="dual stack",
        ),
        pytest.param(
            {},
            "[default]\nregion = us-east-1\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n",
            "https://connect-fips.us-east-1.api.aws",
            "us-east-1",
            id="both, by the profile",
        ),
        pytest.param(
            {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "https://all.example:8443"},
            "",
            "https://all.example:8443",
            "us-east-1",
            id="AWS_ENDPOINT_URL",
        ),
        pytest.param(
            {
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": "https://all.example",
                "AWS_ENDPOINT_URL_CONNECT": "https://one.example",
            },
            "",
            "https://one.example",
            "us-east-1",
            id="AWS_ENDPOINT_URL_CONNECT comes first",
        ),
        pytest.param(
            {"AWS_REGION": "us-east-1"},
            "[default]\nservices = local\n[services local]\nconnect =\n  endpoint_url = https://services.example\n",
            "https://services.example",
            "us-east-1",
            id="services section",
        ),
        pytest.param(
            {"AWS_REGION": "us-east-1"},
            "[default]\nendpoint_url = https://profile.example\n",
            "https://profile.example",
            "us-east-1",
            id="endpoint_url of the profile",
        ),
        pytest.param(
            {
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL_CONNECT": "https://one.example",
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
            },
            "",
            "https://connect.us-east-1.amazonaws.com",
            "us-east-1",
            id="the ignore switch",
        ),
        pytest.param(
            {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": "https://gateway.example/connect/"},
            "",
            "https://gateway.example/connect",
            "us-east-1",
            id="a path before the operation's",
        ),
        pytest.param(
            {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": "http://127.0.0.1:8000"},
            "",
            "http://127.0.0.1:8000",
            "us-east-1",
            id="plain http on loopback",
        ),
        pytest.param(
            {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": "http://localhost"},
            "",
            "http://localhost",
            "us-east-1",
            id="plain http on localhost",
        ),
        pytest.param(
            {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": "http://[::1]:8000"},
            "",
            "http://[::1]:8000",
            "us-east-1",
            id="plain http on IPv6 loopback",
        ),
    ],
)
def test_connect_is_where_boto3_would_look(
    environment: _Environment, variables: Mapping[str, str], config: str, url: str, region: str
) -> None:
    """Variables, profiles, variants and overrides give the endpoint that boto3's own client would call."""
    environment.set(variables)
    environment.config.write_text(config)
    endpoint = _resolve(urlsplit(url).hostname or "")
    assert (endpoint.url, endpoint.region, endpoint.signing_name) == (url, region, "connect")
    assert "Boto3/" in endpoint.user_agent


@pytest.mark.parametrize(
    "url",
    [
        "http://connect.example",
        "http://10.0.0.1:8000",
        "http://0.0.0.0:8000",
        "http://127.0.0.1.example:8000",
        "http://localhost.example",
        "ftp://127.0.0.1",
    ],
)
def test_signed_calls_never_go_over_plain_http(environment: _Environment, url: str) -> None:
    """Off loopback an endpoint must be https; the message names the variables."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": url})
    problem = _problem()
    assert "must be https" in problem
    assert "AWS_ENDPOINT_URL_CONNECT" in problem


@pytest.mark.parametrize(
    "host",
    [
        "connect.us-east-1.amazonaws.com",
        "connect-fips.us-east-1.amazonaws.com",
        "connect.us-east-1.api.aws",
        "vpce-1a2b-3c4d.connect.us-east-1.vpce.amazonaws.com",
        "vpce-1a2b-3c4d-us-east-1a.connect-fips.us-east-1.vpce.amazonaws.com",
        "connect.us-east-1.amazonaws.com.cn",
        "connect.us-east-1.api.amazonwebservices.com.cn",
        "connect.us-east-1.amazonaws.eu",
        "connect.us-east-1.c2s.ic.gov",
    ],
)
def test_connects_own_hosts_are_known(host: str) -> None:
    """In every partition, with FIPS, dual stack and interface endpoints."""
    assert is_connects(host, "us-east-1", botocore.session.Session())


@pytest.mark.parametrize(
    "host", ["vpce-1a2b-3c4d.connect.us-east-1.vpce.amazonaws.com:443", "127.0.0.1:8443", "localhost", "[::1]:8443"]
)
def test_own_hosts_and_loopback_need_no_word_of_the_operator(environment: _Environment, host: str) -> None:
    """The simulator and interface endpoints work as soon as a variable names them."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": f"https://{host}"})
    assert _resolve().url == f"https://{host}"


@pytest.mark.parametrize(
    "host",
    [
        "connect.example",
        "amazonaws.com",
        "us-east-1.amazonaws.com",
        "connect.eu-central-1.amazonaws.com",
        "connect.us-east-1.amazonaws.com.example",
        "connect.us-east-1.amazonaws.com-example.org",
        "connect.us-east-1xamazonaws.com",
        "evilconnect.us-east-1.amazonaws.com",
        "connect.us-east-1.s3.amazonaws.com",
        "a1b2c3.execute-api.us-east-1.amazonaws.com",
        "ec2-1-2-3-4.compute-1.amazonaws.com",
        "sts.us-east-1.amazonaws.com",
        "api.aws",
        "10.0.0.1",
        "128.0.0.1",
        "localhost.example",
    ],
)
def test_no_other_host_is_connects(host: str) -> None:
    """Neither a stranger's nor one that a customer of AWS may name."""
    assert not is_connects(host, "us-east-1", botocore.session.Session())


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_CONNECT", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize("host", ["connect.example", "a1b2c3.execute-api.us-east-1.amazonaws.com", "128.0.0.1"])
def test_no_variable_alone_sends_signed_calls_elsewhere(environment: _Environment, variable: str, host: str) -> None:
    """The message says what would allow it."""
    environment.set({"AWS_REGION": "us-east-1", variable: f"https://{host}:8443"})
    problem = _problem()
    assert f"https://{host}:8443" in problem
    assert "Unset AWS_ENDPOINT_URL_CONNECT, AWS_ENDPOINT_URL" in problem
    assert f"MONITOR_CONTACT_ALLOW_ENDPOINT={host}" in problem


def test_the_profile_alone_sends_no_signed_calls_elsewhere(environment: _Environment) -> None:
    """The config file is no better than a variable."""
    environment.config.write_text("[default]\nregion = us-east-1\nendpoint_url = https://profile.example\n")
    assert "MONITOR_CONTACT_ALLOW_ENDPOINT=profile.example" in _problem()


def test_one_host_can_be_allowed(environment: _Environment) -> None:
    """Exactly that one, in any case and at any port; not what is below it, and not over plain http."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": "https://gateway.example:8443"})
    assert _resolve("Gateway.example").url == "https://gateway.example:8443"
    for other in ("example", "sub.gateway.example", "gateway.example:8443", "*"):
        assert "gateway.example" in _problem(other)
    environment.set({"AWS_ENDPOINT_URL_CONNECT": "http://gateway.example"})
    assert "must be https" in _problem("gateway.example")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_endpoint_holds_no_password(environment: _Environment, scheme: str) -> None:
    """It would stand in every log line that names the endpoint; the message does not repeat it."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": f"{scheme}://user:secret@connect.example"})
    problem = _problem()
    assert "must not hold a user name or password" in problem
    assert "secret" not in problem


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://127.0.0.1:port", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_no_url_is_a_problem(environment: _Environment, url: str) -> None:
    """One line, no traceback."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": url})
    assert _problem().startswith("AWS configuration: ")


def test_a_missing_region_is_explained() -> None:
    """What is missing, and both ways to set it."""
    problem = _problem()
    assert "no AWS Region" in problem
    assert "AWS_REGION=" in problem
    assert "AWS_PROFILE" in problem


@pytest.mark.parametrize(
    ("variables", "config"),
    [
        ({"AWS_PROFILE": "missing"}, ""),
        ({"AWS_REGION": "not a region"}, ""),
        ({"AWS_REGION": "us-east-1"}, "not an ini file"),
    ],
)
def test_a_wrong_aws_configuration_is_a_problem(
    environment: _Environment, variables: Mapping[str, str], config: str
) -> None:
    """Whatever botocore says about it is reported on one line."""
    environment.set(variables)
    environment.config.write_text(config)
    assert _problem().startswith("AWS configuration: ")


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"https_proxy": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTPS_PROXY": "https://user:pass@proxy.example"}, "https://user:pass@proxy.example"),
        ({"HTTPS_PROXY": "proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTPS_PROXY": "//proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "amazonaws.com"}, None),
    ],
)
def test_proxies_are_those_of_the_environment(
    environment: _Environment, variables: Mapping[str, str], proxy: str | None
) -> None:
    """By the endpoint's scheme, unless NO_PROXY names it; one without a scheme of its own is http, as for botocore."""
    environment.set({"AWS_REGION": "us-east-1", **variables})
    assert _resolve().proxy == proxy


@pytest.mark.parametrize(
    "proxy", ["socks5://user:secret@proxy.example:1080", "http://:3128", "http://a:secret", "a:99999"]
)
def test_a_proxy_that_speaks_no_http_is_a_problem(environment: _Environment, proxy: str) -> None:
    """It is named by its variable: its text may hold a password."""
    environment.set({"AWS_REGION": "us-east-1", "HTTPS_PROXY": proxy})
    problem = _problem()
    assert "HTTPS_PROXY" in problem
    assert "secret" not in problem


@pytest.mark.parametrize("source", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "profile"])
def test_a_ca_bundle_is_used(environment: _Environment, source: str) -> None:
    """From the variables that boto3 reads and from the profile; it makes a TLS context."""
    plain = _resolve_with_region(environment)
    bundle = environment.home / "bundle.pem"
    bundle.write_bytes(Path(plain.ca_file).read_bytes())
    if source == "profile":
        environment.config.write_text(f"[default]\nca_bundle = {bundle}\n")
    else:
        environment.set({source: str(bundle)})
    endpoint = _resolve()
    assert endpoint.ca_file == str(bundle)
    assert endpoint.tls_context().check_hostname


def _resolve_with_region(environment: _Environment) -> Endpoint:
    environment.set({"AWS_REGION": "us-east-1"})
    return _resolve()


def test_a_ca_bundle_that_cannot_be_read_is_a_problem(environment: _Environment) -> None:
    """Found at the start, not at the first call."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_CA_BUNDLE": str(environment.home / "missing.pem")})
    assert "AWS_CA_BUNDLE" in _problem()


# The credentials to sign with.


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


async def test_credentials_come_from_the_environment(environment: _Environment) -> None:
    """Key, secret and session token."""
    environment.set({**_LASTING, "AWS_SESSION_TOKEN": "token-env"})
    credentials = _new()
    credentials.require_configured()
    assert credentials.current is None
    assert await _fetched(credentials) == ("AKIDENV", "secret-env", "token-env")


async def test_credentials_come_from_a_profile(environment: _Environment) -> None:
    """AWS_PROFILE names the section of the shared credentials file."""
    environment.credentials.write_text("[team]\naws_access_key_id = AKIDFILE\naws_secret_access_key = secret\n")
    environment.set({"AWS_PROFILE": "team"})
    credentials = _new()
    credentials.require_configured()
    assert await _fetched(credentials) == ("AKIDFILE", "secret", None)


def _process(environment: _Environment, program: str) -> None:
    script = environment.home / "process.py"
    script.write_text(program)
    environment.config.write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")


async def test_credentials_come_from_a_process(environment: _Environment) -> None:
    """A credential_process of the profile is run."""
    answer = {"Version": 1, "AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "secret"}
    _process(environment, f"print({json.dumps(json.dumps(answer))})")
    credentials = _new()
    credentials.require_configured()
    assert await _access_key(credentials) == "AKIDPROCESS"


async def test_credentials_come_from_the_container_endpoint(environment: _Environment, server: _Server) -> None:
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


def _web_identity(environment: _Environment, server: _Server) -> None:
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


async def test_credentials_come_from_a_web_identity(environment: _Environment, server: _Server) -> None:
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
    environment: _Environment, server: _Server, status: int, caplog: pytest.LogCaptureFixture
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
    environment: _Environment, variables: Mapping[str, str], credentials_file: str
) -> None:
    """Partial or contradictory configuration is found at the start, on one line."""
    environment.set(variables)
    environment.credentials.write_text(credentials_file)
    assert _credential_problem().startswith("AWS credentials: ")


@pytest.mark.parametrize("program", ["print('no JSON')", "print('[]')", "print('{\"Version\": 2}')"])
def test_a_process_that_answers_nonsense_is_reported_without_a_traceback(
    environment: _Environment, program: str
) -> None:
    """Whatever a foreign program prints: a problem on one line, or credentials that may come later."""
    _process(environment, program)
    try:
        _new().require_configured()
    except ConfigurationError as error:
        assert error.problems[0].startswith("AWS credentials: ")  # noqa: PT017 - both ends are right


async def test_a_provider_out_of_reach_is_no_error_and_recovers(environment: _Environment, server: _Server) -> None:
    """The service starts without credentials, says so, and has them as soon as the provider answers."""
    server.answer = lambda _path, _body: (500, b"down")
    environment.set({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/role"})
    credentials = _new()
    credentials.require_configured()
    assert await _fetched(credentials) is None
    server.answer = lambda _path, _body: _container_answer("ASIALATER", 60)
    await credentials.renew()
    assert await _access_key(credentials) == "ASIALATER"


async def test_what_is_out_of_reach_later_keeps_the_old_credentials(environment: _Environment, server: _Server) -> None:
    """They may still be good: Connect says so if not."""
    server.answer = lambda _path, _body: _container_answer("ASIAOLD", 60)
    environment.set({"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/role"})
    credentials = _new()
    assert await _access_key(credentials) == "ASIAOLD"
    server.answer = lambda _path, _body: (500, b"down")
    await credentials.renew()
    assert await _access_key(credentials) == "ASIAOLD"


async def test_credentials_near_their_end_are_fetched_again(environment: _Environment, server: _Server) -> None:
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


async def test_fetching_does_not_hold_up_the_event_loop(environment: _Environment, server: _Server) -> None:
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


async def test_renewing_reads_rotated_files(environment: _Environment) -> None:
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

    def __init__(self, environment: _Environment, server: _Server) -> None:
        environment.set({"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL_STS": server.url})
        self.asked: list[dict[str, list[str]]] = []
        self.answers: list[tuple[int, bytes]] = [_assumed("ASIABARGE")]
        server.answer = self._answer

    def _answer(self, _path: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append(parse_qs(body.decode()))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def sts(environment: _Environment, server: _Server) -> _Sts:
    """A local stand-in for STS."""
    return _Sts(environment, server)


def _barge() -> Credentials:
    return Credentials(lambda: new_barge_session(_ROLE), clock=FakeClock())


async def test_the_barge_role_is_assumed_when_it_is_needed(environment: _Environment, sts: _Sts) -> None:
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


async def test_the_barge_role_is_assumed_again_before_it_ends(environment: _Environment, sts: _Sts) -> None:
    """By botocore's own rule, minutes before."""
    environment.set(_LASTING)
    sts.answers = [_assumed("ASIA1", minutes=5), _assumed("ASIA2", minutes=120)]
    credentials = _barge()
    assert [await _access_key(credentials) for _ in range(3)] == ["ASIA1", "ASIA2", "ASIA2"]
    assert len(sts.asked) == 2


async def test_renewing_assumes_the_barge_role_again(environment: _Environment, sts: _Sts) -> None:
    """Also while the old credentials seem to last: Connect says that they do not work."""
    environment.set(_LASTING)
    sts.answers = [_assumed("ASIA1"), _assumed("ASIA2")]
    credentials = _barge()
    await _access_key(credentials)
    await credentials.renew()
    assert credentials.current is not None
    assert credentials.current.access_key == "ASIA2"


async def test_a_role_that_may_not_be_assumed_leaves_the_others_alone(environment: _Environment, sts: _Sts) -> None:
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
