"""`endpoint`: Connect is where boto3 would look for it, and nothing else gets signed calls."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import botocore.session
import pytest
from monitor_contact_service.aws import new_session
from monitor_contact_service.endpoint import Endpoint, is_connects, resolve_endpoint
from monitor_contact_service.settings import ConfigurationError

from ._aws import Environment, bare_environment


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Keep the developer's own configuration out."""
    return bare_environment(monkeypatch, tmp_path)


def _resolve(allow_host: str = "") -> Endpoint:
    return resolve_endpoint(new_session(), allow_host)


def _problem(allow_host: str = "") -> str:
    with pytest.raises(ConfigurationError) as raised:
        _resolve(allow_host)
    [problem] = raised.value.problems
    return problem


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
    environment: Environment, variables: Mapping[str, str], config: str, url: str, region: str
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
def test_signed_calls_never_go_over_plain_http(environment: Environment, url: str) -> None:
    """Off loopback an endpoint must be https; the message names the variables."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": url})
    problem = _problem()
    assert problem.startswith(f"endpoint {url}: must be https")
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
def test_own_hosts_and_loopback_need_no_word_of_the_operator(environment: Environment, host: str) -> None:
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
def test_no_variable_alone_sends_signed_calls_elsewhere(environment: Environment, variable: str, host: str) -> None:
    """The message says what would allow it."""
    environment.set({"AWS_REGION": "us-east-1", variable: f"https://{host}:8443"})
    problem = _problem()
    assert f"https://{host}:8443" in problem
    assert "Unset AWS_ENDPOINT_URL_CONNECT, AWS_ENDPOINT_URL" in problem
    assert f"MONITOR_CONTACT_ALLOW_ENDPOINT={host}" in problem


def test_the_profile_alone_sends_no_signed_calls_elsewhere(environment: Environment) -> None:
    """The config file is no better than a variable."""
    environment.config.write_text("[default]\nregion = us-east-1\nendpoint_url = https://profile.example\n")
    assert "MONITOR_CONTACT_ALLOW_ENDPOINT=profile.example" in _problem()


def test_one_host_can_be_allowed(environment: Environment) -> None:
    """Exactly that one, in any case and at any port; not what is below it, and not over plain http."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": "https://gateway.example:8443"})
    assert _resolve("Gateway.example").url == "https://gateway.example:8443"
    for other in ("example", "sub.gateway.example", "gateway.example:8443", "*"):
        assert "gateway.example" in _problem(other)
    environment.set({"AWS_ENDPOINT_URL_CONNECT": "http://gateway.example"})
    assert "must be https" in _problem("gateway.example")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_endpoint_holds_no_password(environment: Environment, scheme: str) -> None:
    """It would stand in every log line that names the endpoint; the message does not repeat it."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_CONNECT": f"{scheme}://user:secret@connect.example"})
    problem = _problem()
    assert "must not hold a user name or password" in problem
    assert "secret" not in problem


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://127.0.0.1:port", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_no_url_is_a_problem(environment: Environment, url: str) -> None:
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
    environment: Environment, variables: Mapping[str, str], config: str
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
    environment: Environment, variables: Mapping[str, str], proxy: str | None
) -> None:
    """By the endpoint's scheme, unless NO_PROXY names it; one without a scheme of its own is http, as for botocore."""
    environment.set({"AWS_REGION": "us-east-1", **variables})
    assert _resolve().proxy == proxy


@pytest.mark.parametrize(
    "proxy", ["socks5://user:secret@proxy.example:1080", "http://:3128", "http://a:secret", "a:99999"]
)
def test_a_proxy_that_speaks_no_http_is_a_problem(environment: Environment, proxy: str) -> None:
    """It is named by its variable: its text may hold a password."""
    environment.set({"AWS_REGION": "us-east-1", "HTTPS_PROXY": proxy})
    problem = _problem()
    assert "HTTPS_PROXY" in problem
    assert "secret" not in problem


@pytest.mark.parametrize("source", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "profile"])
def test_a_ca_bundle_is_used(environment: Environment, source: str) -> None:
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


def _resolve_with_region(environment: Environment) -> Endpoint:
    environment.set({"AWS_REGION": "us-east-1"})
    return _resolve()


def test_a_ca_bundle_that_cannot_be_read_is_a_problem(environment: Environment) -> None:
    """Found at the start, not at the first call."""
    environment.set({"AWS_REGION": "us-east-1", "AWS_CA_BUNDLE": str(environment.home / "missing.pem")})
    assert "AWS_CA_BUNDLE" in _problem()
