"""`settings`: the environment becomes one object, or every fault at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from monitor_contact_service import audit_log, audit_postgresql, opentelemetry_tracing, settings_rules
from monitor_contact_service.address import Address, parse_address
from monitor_contact_service.core.chance import Limits
from monitor_contact_service.core.pacing import Quota
from monitor_contact_service.environment import read_settings
from monitor_contact_service.settings import RELOADABLE, ConfigurationError, Settings
from monitor_contact_service.settings_text import default_text, printable
from monitor_contact_service.variables import variable
from pydantic import SecretStr, ValidationError

_DEFAULTS = {
    "listen": "127.0.0.1:50051",
    "default_deadline_seconds": 10,
    "max_deadline_seconds": 60,
    "attempt_timeout_seconds": 3,
    "quota_rate": 2,
    "quota_burst": 5,
    "quota_url": SecretStr("memory://"),
    "quota_replicas": 1,
    "quota_name": "default",
    "queue_per_caller": 64,
    "queue_total": 256,
    "weights": "",
    "max_in_flight": 512,
    "drain_seconds": 40,
    "max_connection_age_seconds": 30,
    "termination_grace_seconds": 0,
    "reflection": "auto",
    "health_listen": "",
    "metrics_listen": "",
    "tls_cert_file": "",
    "tls_key_file": "",
    "tls_client_ca_file": "",
    "access_file": "",
    "policy_file": "",
    "policy_timezone": "UTC",
    "supervisor_check": "enforce",
    "restricted_supervisors": "deny",
    "read_quota_rate": 2,
    "read_quota_burst": 5,
    "diagnosis": "auto",
    "barge_role_arn": "",
    "allow_endpoint": "",
    "audit": SecretStr(""),
    "audit_key_file": "",
    "audit_rotate_bytes": 64 * 1024 * 1024,
    "audit_rotate_seconds": 86_400,
    "audit_timeout_seconds": 2,
    "max_connections": 1_000,
    "caller_rate_per_minute": 0,
    "supervisor_rate_per_minute": 0,
    "traces": "off",
    "log_level": "info",
    "log_format": "auto",
    "settings_file": "",
}
_PASSWORD = "p4ssw0rd"


@pytest.fixture(autouse=True)
def environment() -> Iterator[pytest.MonkeyPatch]:
    """Keep the developer's own settings out."""
    with pytest.MonkeyPatch.context() as patch:
        for field in Settings.model_fields:
            patch.delenv(variable(field), raising=False)
        yield patch


def _problems() -> Sequence[str]:
    with pytest.raises(ConfigurationError) as raised:
        read_settings()
    assert str(raised.value) == "\n".join(raised.value.problems)
    return raised.value.problems


def test_everything_has_a_default() -> None:
    """An empty environment is enough to serve on loopback."""
    assert read_settings().model_dump() == _DEFAULTS


def test_every_field_is_documented() -> None:
    """The description is what --help and the documentation show."""
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize("field", Settings.model_fields)
def test_a_default_is_shown_as_it_would_be_set(environment: pytest.MonkeyPatch, field: str) -> None:
    """What --help and the documentation show can be put into the environment; a secret's default is no secret."""
    environment.setenv(variable(field), default_text(field))
    assert read_settings() == Settings()


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("listen", "[::1]:0", "[::1]:0"),
        ("default_deadline_seconds", "0.5", 0.5),
        ("max_deadline_seconds", "300", 300),
        ("attempt_timeout_seconds", "0.1", 0.1),
        ("quota_rate", "0.1", 0.1),
        ("quota_rate", "100000", 100_000),
        ("quota_burst", "1", 1),
        ("quota_burst", "100000", 100_000),
        ("quota_replicas", "1000", 1_000),
        ("quota_name", "123456789012", "123456789012"),
        ("quota_name", "a.B_c-1" + "d" * 57, "a.B_c-1" + "d" * 57),
        ("queue_per_caller", "1", 1),
        ("queue_per_caller", "100000", 100_000),
        ("queue_total", "1", 1),
        ("queue_total", "100000", 100_000),
        ("weights", "qa=2", "qa=2"),
        ("max_in_flight", "1", 1),
        ("max_in_flight", "100000", 100_000),
        ("drain_seconds", "0", 0),
        ("max_connection_age_seconds", "1", 1),
        ("termination_grace_seconds", "111", 111),
        ("reflection", "off", "off"),
        ("metrics_listen", "[::]:9090", "[::]:9090"),
        ("health_listen", "0.0.0.0:8081", "0.0.0.0:8081"),
        ("access_file", "/etc/access.toml", "/etc/access.toml"),
        ("policy_file", "/etc/policy.cedar", "/etc/policy.cedar"),
        ("policy_timezone", "America/New_York", "America/New_York"),
        ("supervisor_check", "warn", "warn"),
        ("supervisor_check", "off", "off"),
        ("restricted_supervisors", "inside", "inside"),
        ("restricted_supervisors", "allow", "allow"),
        ("read_quota_rate", "0.5", 0.5),
        ("read_quota_burst", "1", 1),
        ("diagnosis", "off", "off"),
        ("barge_role_arn", "arn:aws:iam::123456789012:role/barge", "arn:aws:iam::123456789012:role/barge"),
        ("allow_endpoint", "connect.example", "connect.example"),
        ("allow_endpoint", "2001:db8::1", "2001:db8::1"),
        ("audit", "/var/audit.jsonl", SecretStr("/var/audit.jsonl")),
        ("audit", "postgresql://writer@db/audit", SecretStr("postgresql://writer@db/audit")),
        ("audit_key_file", "/etc/key.pem", "/etc/key.pem"),
        ("audit_rotate_bytes", "65536", 65_536),
        ("audit_rotate_seconds", "60", 60),
        ("audit_timeout_seconds", "0.5", 0.5),
        ("max_connections", "1", 1),
        ("traces", "otlp", "otlp"),
        ("caller_rate_per_minute", "30", 30),
        ("supervisor_rate_per_minute", "4", 4),
        ("log_level", "debug", "debug"),
        ("log_format", "text", "text"),
    ],
)
def test_every_field_is_read_from_its_variable(
    environment: pytest.MonkeyPatch, field: str, text: str, value: object
) -> None:
    """The variable is the field's name in capitals behind MONITOR_CONTACT_."""
    environment.setenv(f"MONITOR_CONTACT_{field.upper()}", text)
    assert getattr(read_settings(), field) == value


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("listen", "0.0.0.0:50051"),
        ("health_listen", "8081"),
        ("policy_timezone", "Europe/Atlantis"),
        ("policy_timezone", "../etc/passwd"),
        ("supervisor_check", "maybe"),
        ("restricted_supervisors", "yes"),
        ("read_quota_rate", "0"),
        ("read_quota_burst", "0"),
        ("diagnosis", "on"),
        ("barge_role_arn", "arn:aws:iam::1:role/barge"),
        ("barge_role_arn", "barge"),
        ("allow_endpoint", "https://connect.example"),
        ("allow_endpoint", "connect.example:8443"),
        ("allow_endpoint", "connect.example/"),
        ("allow_endpoint", "[2001:db8::1]"),
        ("allow_endpoint", "*.connect.example\n"),
        ("audit", "mysql://writer@db/audit"),
        ("audit_rotate_bytes", "1000"),
        ("audit_rotate_seconds", "1"),
        ("audit_timeout_seconds", "0"),
        ("max_connections", "0"),
        ("traces", "on"),
        ("caller_rate_per_minute", "-1"),
        ("supervisor_rate_per_minute", "1.5"),
        ("default_deadline_seconds", "0.12"),
        ("default_deadline_seconds", "61"),
        ("default_deadline_seconds", "soon"),
        ("default_deadline_seconds", "nan"),
        ("max_deadline_seconds", "0.1"),
        ("max_deadline_seconds", "301"),
        ("max_deadline_seconds", "inf"),
        ("max_deadline_seconds", "nan"),
        ("attempt_timeout_seconds", "0"),
        ("attempt_timeout_seconds", "61"),
        ("quota_rate", "0"),
        ("quota_rate", "-2"),
        ("quota_rate", "nan"),
        ("quota_rate", "inf"),
        ("quota_rate", "-inf"),
        ("quota_rate", "100001"),
        ("quota_rate", "2/s"),
        ("quota_rate", ""),
        ("quota_burst", "0"),
        ("quota_burst", "-1"),
        ("quota_burst", "0.5"),
        ("quota_burst", "nan"),
        ("quota_burst", "100001"),
        ("quota_url", ""),
        ("quota_url", "memory"),
        ("quota_url", "memory://host"),
        ("quota_url", "http://localhost:6379/0"),
        ("quota_url", "valkey://localhost"),
        ("quota_url", "localhost:6379"),
        ("quota_url", "redis://"),
        ("quota_url", "redis://localhost:port"),
        ("quota_url", "redis://localhost:65536"),
        ("quota_url", "redis://localhost:0"),
        ("quota_url", "redis://localhost/zero"),
        ("quota_url", "redis://localhost/-1"),
        ("quota_url", "rediss://localhost?ssl_cert_reqs=none"),
        ("quota_replicas", "0"),
        ("quota_replicas", "1001"),
        ("quota_replicas", "1.5"),
        ("quota_name", ""),
        ("quota_name", "a" * 65),
        ("quota_name", "a:b"),
        ("quota_name", "{a}"),
        ("quota_name", "a b"),
        ("quota_name", "default\n"),
        ("queue_per_caller", "0"),
        ("queue_per_caller", "100001"),
        ("queue_total", "0"),
        ("queue_total", "100001"),
        ("max_in_flight", "0"),
        ("max_in_flight", "1.5"),
        ("max_in_flight", "100001"),
        ("drain_seconds", "-1"),
        ("drain_seconds", "601"),
        ("max_connection_age_seconds", "0"),
        ("max_connection_age_seconds", "86401"),
        ("reflection", "yes"),
        ("metrics_listen", "9090"),
        ("metrics_listen", "127.0.0.1"),
        ("metrics_listen", "127.0.0.1:65536"),
        ("log_level", "INFORMATION"),
        ("log_format", "xml"),
        ("max_in_flight", ""),
    ],
)
def test_a_wrong_value_is_named_by_its_variable(environment: pytest.MonkeyPatch, field: str, text: str) -> None:
    """One problem, which begins with the variable; the value is not repeated: it could be a secret."""
    environment.setenv(variable(field), text)
    [problem] = _problems()
    assert problem.startswith(f"{variable(field)}: ")
    assert "input_value" not in problem


def test_a_default_deadline_above_the_longest_is_refused(environment: pytest.MonkeyPatch) -> None:
    """The two are compared, and the message says how."""
    environment.setenv("MONITOR_CONTACT_MAX_DEADLINE_SECONDS", "5")
    [problem] = _problems()
    assert problem == (
        "MONITOR_CONTACT_DEFAULT_DEADLINE_SECONDS: must be at most MONITOR_CONTACT_MAX_DEADLINE_SECONDS (5)"
    )


def test_a_drain_that_outlasts_the_grace_is_refused(environment: pytest.MonkeyPatch) -> None:
    """Whoever stops the process would kill it with calls in flight: the message has the sum, and what to change."""
    environment.setenv("MONITOR_CONTACT_TERMINATION_GRACE_SECONDS", "110.9")
    [problem] = _problems()
    assert problem == (
        "MONITOR_CONTACT_TERMINATION_GRACE_SECONDS: must be at least 111: MONITOR_CONTACT_DRAIN_SECONDS (40), "
        "MONITOR_CONTACT_MAX_DEADLINE_SECONDS (60) and 11 for replies, records and traces; with less, calls or their "
        "records are cut off at every restart"
    )
    environment.setenv("MONITOR_CONTACT_DRAIN_SECONDS", "39.9")
    assert read_settings().termination_grace_seconds == 110.9


def test_the_grace_holds_every_time_out_of_the_end(environment: pytest.MonkeyPatch) -> None:
    """The last record, the traces and the audit come after the last answer, whatever their time-outs are."""
    assert audit_postgresql.CLOSE_SECONDS == audit_log.CLOSE_SECONDS
    environment.setenv("MONITOR_CONTACT_AUDIT_TIMEOUT_SECONDS", "7.5")
    rest = 7.5 + opentelemetry_tracing.FLUSH_SECONDS + audit_log.CLOSE_SECONDS + 1
    environment.setenv("MONITOR_CONTACT_TERMINATION_GRACE_SECONDS", f"{40 + 60 + rest}")
    assert not list(settings_rules.broken(read_settings()))
    environment.setenv("MONITOR_CONTACT_TERMINATION_GRACE_SECONDS", f"{40 + 60 + rest - 0.1}")
    [problem] = _problems()
    assert f"must be at least {40 + 60 + rest:g}" in problem


@pytest.mark.parametrize(
    ("listen", "drain", "age", "doubts"),
    [
        ("0.0.0.0:8443", 38, 30, ["MONITOR_CONTACT_DRAIN_SECONDS (38) should be more than 38"]),
        ("0.0.0.0:8443", 38.1, 30, []),
        ("0.0.0.0:8443", 40, 60, ["MONITOR_CONTACT_DRAIN_SECONDS (40) should be more than 71"]),
        ("127.0.0.1:8443", 0, 30, []),
    ],
)
def test_a_drain_that_connections_outlive_is_doubtful(
    listen: str, drain: float, age: float, doubts: Sequence[str]
) -> None:
    """The line has names and numbers; on loopback nobody is told to go elsewhere."""
    settings = Settings(
        listen=listen,
        drain_seconds=drain,
        max_connection_age_seconds=age,
        tls_cert_file="c",
        tls_key_file="k",
        access_file="a",
        policy_file="p",
    )
    assert [doubt.partition(": ")[0] for doubt in settings_rules.doubtful(settings)] == doubts


def test_rules_between_settings_are_reported_at_once(environment: pytest.MonkeyPatch) -> None:
    """One broken rule does not hide another."""
    environment.setenv("MONITOR_CONTACT_MAX_DEADLINE_SECONDS", "5")
    environment.setenv("MONITOR_CONTACT_METRICS_LISTEN", "127.0.0.1:50051")
    environment.setenv("MONITOR_CONTACT_HEALTH_LISTEN", "127.0.0.1:50051")
    environment.setenv("MONITOR_CONTACT_TLS_CERT_FILE", "/etc/tls/cert.pem")
    assert [problem.split(":", 1)[0] for problem in _problems()] == [
        "MONITOR_CONTACT_DEFAULT_DEADLINE_SECONDS",
        "MONITOR_CONTACT_HEALTH_LISTEN",
        "MONITOR_CONTACT_METRICS_LISTEN",
        "MONITOR_CONTACT_TLS_KEY_FILE",
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::1]"])  # noqa: S104 - plain numbers, for Prometheus
def test_metrics_on_the_port_of_the_api_are_refused(environment: pytest.MonkeyPatch, host: str) -> None:
    """Whatever the host: one of the two could not listen, or a caller would reach the wrong one."""
    environment.setenv("MONITOR_CONTACT_METRICS_LISTEN", f"{host}:50051")
    assert _problems() == ["MONITOR_CONTACT_METRICS_LISTEN: must have another port than MONITOR_CONTACT_LISTEN (50051)"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["tls_cert_file"], "MONITOR_CONTACT_TLS_KEY_FILE: must be set too"),
        (["tls_key_file"], "MONITOR_CONTACT_TLS_CERT_FILE: must be set too"),
        (["tls_client_ca_file"], "MONITOR_CONTACT_TLS_CERT_FILE: must be set too"),
    ],
)
def test_half_of_tls_is_refused(environment: pytest.MonkeyPatch, given: Sequence[str], problem: str) -> None:
    """A certificate without its key, or clients' CAs without TLS, would protect nothing."""
    for field in given:
        environment.setenv(variable(field), "/etc/tls/file.pem")
    [said] = _problems()
    assert said.startswith(problem)


@pytest.mark.parametrize("left_out", ["tls_cert_file", "access_file", "policy_file"])
def test_another_address_than_loopback_needs_tls_identities_and_a_policy(
    environment: pytest.MonkeyPatch, left_out: str
) -> None:
    """Each of the three by itself keeps the service on loopback, and the message names what is missing."""
    environment.setenv("MONITOR_CONTACT_LISTEN", "0.0.0.0:8443")
    for field in ("tls_cert_file", "tls_key_file", "access_file", "policy_file"):
        environment.setenv(variable(field), "/etc/file")
    assert read_settings().address == Address("0.0.0.0", 8443)  # noqa: S104 - the point
    environment.delenv(variable(left_out))
    environment.delenv(variable("tls_key_file")) if left_out == "tls_cert_file" else None
    [said] = _problems()
    assert said.startswith("MONITOR_CONTACT_LISTEN: must be a loopback address")
    assert variable(left_out) in said


def test_passwords_are_not_printed() -> None:
    """What `check-config` prints and the log shows holds neither user information nor parameters of a URL."""
    settings = Settings(audit=SecretStr(f"postgresql://writer:{_PASSWORD}@db:5432/audit?password={_PASSWORD}"))
    lines = list(printable(settings))
    assert "MONITOR_CONTACT_AUDIT=postgresql://db:5432/audit" in lines
    assert not [line for line in lines if _PASSWORD in line]


def test_metrics_are_served_where_the_operator_says_or_nowhere() -> None:
    """Nowhere by default; any address will do, and two ports chosen by the system are never the same."""
    assert Settings().metrics_address is None
    settings = Settings(listen="127.0.0.1:0", metrics_listen="[::]:0")
    assert settings.metrics_address == Address("::", 0)


def test_all_faults_are_reported_at_once(environment: pytest.MonkeyPatch) -> None:
    """An operator mends everything in one go: unknown names, wrong values, each on its line."""
    environment.setenv("MONITOR_CONTACT_LISTEN", "nonsense")
    environment.setenv("MONITOR_CONTACT_MAX_IN_FLIGHT", "many")
    environment.setenv("MONITOR_CONTACT_LOG_LEVEL", "loud")
    environment.setenv("MONITOR_CONTACT_DRAIN_SECOND", "1")
    named = {problem.split(":", 1)[0] for problem in _problems()}
    assert named == {
        "MONITOR_CONTACT_LISTEN",
        "MONITOR_CONTACT_MAX_IN_FLIGHT",
        "MONITOR_CONTACT_LOG_LEVEL",
        "MONITOR_CONTACT_DRAIN_SECOND",
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MONITOR_CONTACT_LISTN", "; did you mean MONITOR_CONTACT_LISTEN?"),
        ("MONITOR_CONTACT_DRAIN", "; did you mean MONITOR_CONTACT_DRAIN_SECONDS?"),
        ("monitor_contact_max_inflight", "; did you mean MONITOR_CONTACT_MAX_IN_FLIGHT?"),
        ("MONITOR_CONTACT_ATTEMPT_TIMEOUT", "; did you mean MONITOR_CONTACT_ATTEMPT_TIMEOUT_SECONDS?"),
        ("MONITOR_CONTACT_FOO", ""),
    ],
)
def test_an_unknown_variable_gets_a_did_you_mean(environment: pytest.MonkeyPatch, name: str, hint: str) -> None:
    """A misspelt variable is refused instead of ignored, and its value is not shown."""
    environment.setenv(name, "secret")
    assert _problems() == [f"{name}: is not a setting{hint}"]


def test_an_unknown_variable_far_from_all_gets_no_hint(environment: pytest.MonkeyPatch) -> None:
    """A wrong guess would mislead."""
    environment.setenv("MONITOR_CONTACT_0123456789_0123456789", "1")
    assert _problems() == ["MONITOR_CONTACT_0123456789_0123456789: is not a setting"]


def test_kubernetes_service_links_are_recognised(environment: pytest.MonkeyPatch) -> None:
    """Kubernetes injects such variables for a Service named monitor-contact; the message says what to set."""
    environment.setenv("MONITOR_CONTACT_PORT_50051_TCP", "tcp://10.0.0.1:50051")
    [problem] = _problems()
    assert problem.startswith("MONITOR_CONTACT_PORT_50051_TCP: ")
    assert "enableServiceLinks: false" in problem


def test_variables_of_others_are_left_alone(environment: pytest.MonkeyPatch) -> None:
    """Only the own prefix is read; names are read in any case, as pydantic-settings does."""
    environment.setenv("MONITOR_CONTACTS", "1")
    environment.setenv("LISTEN", "0.0.0.0:1")
    environment.setenv("monitor_contact_drain_seconds", "7")
    assert read_settings().drain_seconds == 7


@pytest.mark.parametrize(
    "listen",
    [
        "127.0.0.1:50051",
        "127.0.0.2:1",
        "127.255.255.254:65535",
        "localhost:50051",
        "[::1]:50051",
        "[0:0:0:0:0:0:0:1]:0",
    ],
)
def test_loopback_addresses_are_listened_on(environment: pytest.MonkeyPatch, listen: str) -> None:
    """Every way to write this machine's own loopback."""
    environment.setenv("MONITOR_CONTACT_LISTEN", listen)
    assert read_settings().address.is_loopback


@pytest.mark.parametrize(
    "listen",
    [
        "0.0.0.0:50051",
        "[::]:50051",
        "10.0.0.1:50051",
        "192.168.1.1:50051",
        "[fe80::1]:50051",
        "[2001:db8::1]:50051",
        "example.com:50051",
        "localhost.example.com:50051",
        "LOCALHOST.evil:50051",
        "127.0.0.1.example.com:50051",
        "127.1:50051",
        "0:50051",
        "*:50051",
        "unix:50051",
    ],
)
def test_any_other_address_is_refused_with_the_reason(environment: pytest.MonkeyPatch, listen: str) -> None:
    """Without TLS and identities, an address that others can reach would let everybody listen in."""
    environment.setenv("MONITOR_CONTACT_LISTEN", listen)
    [problem] = _problems()
    assert problem.startswith("MONITOR_CONTACT_LISTEN: must be a loopback address")
    assert "everybody on the network could listen in" in problem


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1",
        ":50051",
        "127.0.0.1:",
        "127.0.0.1:port",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1: 1",
        "127.0.0.1:65536",
        "127.0.0.1:" + "9" * 5000,
        "127.0.0.1:1.5",
        "127.0.0.1:\N{ARABIC-INDIC DIGIT FIVE}",
        "::1:50051",
        "[::1]",
        "[]:1",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(environment: pytest.MonkeyPatch, text: str) -> None:
    """The form is host:port; an IPv6 address needs its brackets."""
    environment.setenv("MONITOR_CONTACT_LISTEN", text)
    [problem] = _problems()
    assert problem.startswith("MONITOR_CONTACT_LISTEN: ")
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
        ("[::1]:50051", Address("::1", 50051)),
        ("connect.eu-central-1.amazonaws.com:443", Address("connect.eu-central-1.amazonaws.com", 443)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    """Host without brackets, port as a number, and back."""
    assert parse_address(text) == address
    assert str(address) == text


@hypothesis_settings(deadline=None)
@given(st.text() | st.from_regex(r"\[?[0-9a-f:.]{0,20}\]?:[0-9]{0,6}", fullmatch=True))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    """Nothing else is raised, and what is accepted has a host and a port."""
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert address.host
    assert 0 <= address.port <= 65535
    assert isinstance(address.is_loopback, bool)


@pytest.mark.parametrize(("reflection", "serves"), [("auto", True), ("on", True), ("off", False)])
def test_reflection_is_served_on_loopback_unless_switched_off(reflection: str, serves: bool) -> None:  # noqa: FBT001 - a table's column
    """Auto means: where only this machine can ask."""
    assert Settings.model_validate({"reflection": reflection}).serves_reflection is serves


def test_stopping_waits_longer_than_the_longest_call() -> None:
    """A call that was accepted with the longest deadline still gets its answer."""
    settings = Settings(max_deadline_seconds=42)
    assert settings.stop_grace_seconds > 42


def test_settings_cannot_be_changed() -> None:
    """Read once, the same everywhere."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().listen = "127.0.0.1:1"


# ---- The quota -------------------------------------------------------------------------------------------------------


def test_what_belongs_together_is_handed_over_together() -> None:
    """The quota and the limits are the objects that pacing and admission take."""
    settings = Settings(quota_rate=3, quota_burst=7, queue_per_caller=1, queue_total=2, max_in_flight=3)
    assert settings.quota == Quota(3, 7)
    assert settings.limits == Limits(per_caller=1, total=2, in_flight=3)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", None),
        ("redis://localhost", "redis://localhost:6379/0"),
        (f"rediss://user:{_PASSWORD}@redis.example.com:6380/3", "rediss://redis.example.com:6380/3"),
    ],
)
def test_the_quotas_place_is_memory_or_a_redis(environment: pytest.MonkeyPatch, url: str, shown: str | None) -> None:
    """`memory://` is no Redis; any other accepted URL is an address."""
    environment.setenv("MONITOR_CONTACT_QUOTA_URL", url)
    environment.setenv("MONITOR_CONTACT_QUOTA_REPLICAS", "3")
    redis = read_settings().redis
    assert (None if redis is None else str(redis)) == shown


def test_a_password_is_nowhere_printed(environment: pytest.MonkeyPatch) -> None:
    """Neither in the settings' own text nor in what check-config prints; host, port and database are shown."""
    environment.setenv("MONITOR_CONTACT_QUOTA_URL", f"rediss://user:{_PASSWORD}@redis.example.com/1")
    environment.setenv("MONITOR_CONTACT_QUOTA_REPLICAS", "3")
    settings = read_settings()
    assert settings.redis is not None
    assert settings.redis.password == _PASSWORD
    printed = list(printable(settings))
    assert "MONITOR_CONTACT_QUOTA_URL=rediss://redis.example.com:6379/1" in printed
    assert [line.partition("=")[0] for line in printed] == [variable(field) for field in Settings.model_fields]
    assert _PASSWORD not in "".join([*printed, repr(settings), str(settings), str(settings.model_dump())])


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{_PASSWORD}@localhost",
        f"redis://user:{_PASSWORD}@localhost:port",
        f"redis://user:{_PASSWORD}@localhost?option=1",
        f"redis://user:{_PASSWORD}@[::1",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(environment: pytest.MonkeyPatch, url: str) -> None:
    """The message shows the known forms and nothing of what was set."""
    environment.setenv("MONITOR_CONTACT_QUOTA_URL", url)
    [problem] = _problems()
    assert "memory://" in problem
    assert "rediss://" in problem
    assert _PASSWORD not in problem


def test_with_redis_the_number_of_replicas_must_be_said(environment: pytest.MonkeyPatch) -> None:
    """While Redis is lost each replica keeps to its part: a forgotten number would let each have the whole."""
    environment.setenv("MONITOR_CONTACT_QUOTA_URL", f"redis://user:{_PASSWORD}@localhost")
    [problem] = _problems()
    assert problem.startswith("MONITOR_CONTACT_QUOTA_REPLICAS: must be set beside MONITOR_CONTACT_QUOTA_URL=redis://")
    assert _PASSWORD not in problem
    environment.setenv("MONITOR_CONTACT_QUOTA_REPLICAS", "1")
    assert read_settings().quota_replicas == 1


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("", {}),
        ("qa=2", {"qa": 2.0}),
        (" qa = 0.01, batch=100,", {"qa": 0.01, "batch": 100.0}),
        ("spiffe://corp.example/qa-desk=2,a=b=0.5", {"spiffe://corp.example/qa-desk": 2.0, "a=b": 0.5}),
    ],
)
def test_weights_are_numbers_by_caller(environment: pytest.MonkeyPatch, text: str, weights: dict[str, float]) -> None:
    """The last = of each part divides the caller's id from its weight."""
    environment.setenv("MONITOR_CONTACT_WEIGHTS", text)
    assert read_settings().caller_weights == weights


@pytest.mark.parametrize(
    "text",
    [
        "qa",
        "qa=",
        "=2",
        "qa=two",
        "qa=0",
        "qa=-1",
        "qa=0.009",
        "qa=101",
        "qa=nan",
        "qa=inf",
        "qa=1,qa=2",
        "qa=1,batch",
        "qa=1 qa=",
    ],
)
def test_weights_of_another_form_are_refused_with_an_example(environment: pytest.MonkeyPatch, text: str) -> None:
    """A caller without a weight, a weight out of bounds, a caller twice."""
    environment.setenv("MONITOR_CONTACT_WEIGHTS", text)
    [problem] = _problems()
    assert problem.startswith("MONITOR_CONTACT_WEIGHTS: must be caller=weight,caller=weight")
    assert "for example" in problem


# ---- The settings file -----------------------------------------------------------------------------------------------


class _SettingsFile:
    """A file that the environment names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str) -> None:
        self.path.write_text(text, encoding="utf-8")


@pytest.fixture
def file(environment: pytest.MonkeyPatch, tmp_path: Path) -> _SettingsFile:
    """The settings file; empty until it is written."""
    named = _SettingsFile(tmp_path / "monitor-contact.env")
    named.write("")
    environment.setenv("MONITOR_CONTACT_SETTINGS_FILE", str(named.path))
    return named


def test_the_file_has_the_variables_of_the_environment(file: _SettingsFile) -> None:
    """Names, in any case, and values as there; comments, blank lines, quotes and `export` as in a shell."""
    file.write(
        """# the quota that AWS has raised
MONITOR_CONTACT_QUOTA_RATE=4
export MONITOR_CONTACT_QUOTA_BURST=8

monitor_contact_weights="qa=2,batch=0.5"  # more for the desk
MONITOR_CONTACT_LOG_FORMAT='text'
"""
    )
    settings = read_settings()
    assert settings.quota == Quota(4, 8)
    assert settings.caller_weights == {"qa": 2.0, "batch": 0.5}
    assert settings.log_format == "text"
    assert settings.settings_file == str(file.path)


@pytest.mark.parametrize("name", ["MONITOR_CONTACT_QUOTA_RATE", "monitor_contact_quota_rate"])
def test_the_environment_wins_over_the_file(environment: pytest.MonkeyPatch, file: _SettingsFile, name: str) -> None:
    """What both set is taken from the environment, however it is written there; the rest from the file."""
    file.write("MONITOR_CONTACT_QUOTA_RATE=4\nMONITOR_CONTACT_QUOTA_BURST=8\n")
    environment.setenv(name, "3")
    assert read_settings().quota == Quota(3, 8)


def test_the_file_may_be_named_in_any_case(environment: pytest.MonkeyPatch, file: _SettingsFile) -> None:
    """As every other variable; a file that is silently not read would be a trap."""
    file.write("MONITOR_CONTACT_QUOTA_BURST=8\n")
    environment.delenv("MONITOR_CONTACT_SETTINGS_FILE")
    environment.setenv("monitor_contact_settings_file", str(file.path))
    assert read_settings().quota_burst == 8


def test_a_wrong_value_in_the_file_is_named_like_any_other(file: _SettingsFile) -> None:
    """By its variable, all of them at once, without the value."""
    file.write("MONITOR_CONTACT_QUOTA_RATE=fast\nMONITOR_CONTACT_QUOTA_BURST=0\n")
    problems = _problems()
    assert [problem.partition(":")[0] for problem in problems] == [
        "MONITOR_CONTACT_QUOTA_RATE",
        "MONITOR_CONTACT_QUOTA_BURST",
    ]
    assert "fast" not in str(problems)


@pytest.mark.parametrize("line", ["MONITOR_CONTACT_QUOTA_RATE", "MONITOR_CONTACT_QUOTA_RATE 4", "= 4", "'unfinished"])
def test_a_line_of_another_form_is_named_by_its_number(file: _SettingsFile, line: str) -> None:
    """The form that it must have, and not its text: that could be a secret."""
    file.write(f"# one\nMONITOR_CONTACT_QUOTA_BURST=8\n{line}\n")
    assert _problems() == [f"{file.path}, line 3: must be NAME=value"]


def test_variables_of_others_in_the_file_are_refused_by_their_line(file: _SettingsFile) -> None:
    """AWS_REGION there would have no effect: it is refused instead of ignored."""
    file.write("MONITOR_CONTACT_QUOTA_BURST=8\nAWS_REGION=eu-central-1\n")
    assert _problems() == [f"{file.path}, line 2: only MONITOR_CONTACT_… variables are read here"]


def test_the_file_cannot_name_another_one(file: _SettingsFile) -> None:
    """It would not be read: where it stands has no effect."""
    file.write("MONITOR_CONTACT_QUOTA_BURST=8\nmonitor_contact_settings_file=/etc/other\n")
    assert _problems() == [f"{file.path}, line 2: monitor_contact_settings_file: must be set in the environment"]


def test_an_unknown_variable_in_the_file_gets_a_did_you_mean(file: _SettingsFile) -> None:
    """As in the environment."""
    file.write("MONITOR_CONTACT_QUOTA_RATES=4\n")
    assert _problems() == ["MONITOR_CONTACT_QUOTA_RATES: is not a setting; did you mean MONITOR_CONTACT_QUOTA_RATE?"]


@pytest.mark.parametrize("kind", ["missing", "a folder"])
def test_a_file_that_cannot_be_read_is_refused(environment: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    """With its path and the system's word; no traceback."""
    path = tmp_path / "none" if kind == "missing" else tmp_path
    environment.setenv("MONITOR_CONTACT_SETTINGS_FILE", str(path))
    [problem] = _problems()
    assert problem.startswith(f"MONITOR_CONTACT_SETTINGS_FILE: {path}: ")


def test_a_file_that_is_no_text_is_refused(file: _SettingsFile) -> None:
    """Whatever it is, it is not read on."""
    file.path.write_bytes(b"MONITOR_CONTACT_QUOTA_RATE=4\xff\n")
    assert _problems() == [f"MONITOR_CONTACT_SETTINGS_FILE: {file.path}: is not UTF-8 text"]


def test_what_may_stand_in_a_file_that_cannot_be_read_is_not_missed(environment: pytest.MonkeyPatch) -> None:
    """One problem, not one and three that come of it."""
    environment.setenv("MONITOR_CONTACT_SETTINGS_FILE", "/nonexistent.env")
    environment.setenv("MONITOR_CONTACT_LISTEN", "0.0.0.0:8443")
    environment.setenv("MONITOR_CONTACT_TLS_CERT_FILE", "/etc/tls.crt")
    environment.setenv("MONITOR_CONTACT_QUOTA_URL", "redis://redis:6379/0")
    assert _problems() == ["MONITOR_CONTACT_SETTINGS_FILE: /nonexistent.env: No such file or directory"]


def test_a_settings_file_may_name_itself(file: _SettingsFile) -> None:
    """As one does that is systemd's EnvironmentFile too."""
    file.write(f"MONITOR_CONTACT_SETTINGS_FILE={file.path}\nMONITOR_CONTACT_QUOTA_BURST=8\n")
    assert read_settings().quota_burst == 8


def test_faults_of_file_and_environment_come_together(environment: pytest.MonkeyPatch, file: _SettingsFile) -> None:
    """One run tells all of them."""
    file.write("nonsense\nMONITOR_CONTACT_QUOTA_RATE=0\n")
    environment.setenv("MONITOR_CONTACT_DRAIN_SECOND", "1")
    environment.setenv("MONITOR_CONTACT_LOG_LEVEL", "loud")
    assert len(_problems()) == 4


def test_what_a_signal_changes_are_settings() -> None:
    """The names are those of fields, so that a renamed one cannot be forgotten."""
    assert set(Settings.model_fields) > RELOADABLE
