"""`settings`: the environment becomes one object, or every fault at once."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from monitor_contact_service.settings import (
    Address,
    ConfigurationError,
    Settings,
    parse_address,
    read_settings,
    variable,
)
from pydantic import ValidationError

_DEFAULTS = {
    "listen": "127.0.0.1:50051",
    "default_deadline_seconds": 10,
    "max_deadline_seconds": 60,
    "attempt_timeout_seconds": 3,
    "max_in_flight": 256,
    "drain_seconds": 40,
    "max_connection_age_seconds": 30,
    "reflection": "auto",
    "log_level": "info",
    "log_format": "json",
}


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
    settings = read_settings().model_dump()
    assert {name: settings[name] for name in _DEFAULTS} == _DEFAULTS


def test_every_field_is_documented() -> None:
    """The description is what --help and the documentation show."""
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("listen", "[::1]:0", "[::1]:0"),
        ("default_deadline_seconds", "0.5", 0.5),
        ("max_deadline_seconds", "300", 300),
        ("attempt_timeout_seconds", "0.1", 0.1),
        ("max_in_flight", "1", 1),
        ("drain_seconds", "0", 0),
        ("max_connection_age_seconds", "1", 1),
        ("reflection", "off", "off"),
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
        ("max_in_flight", "0"),
        ("max_in_flight", "1.5"),
        ("max_in_flight", "10001"),
        ("drain_seconds", "-1"),
        ("drain_seconds", "601"),
        ("max_connection_age_seconds", "0"),
        ("max_connection_age_seconds", "86401"),
        ("reflection", "yes"),
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
    """Callers are not identified yet: an address that others can reach would let everybody listen in."""
    environment.setenv("MONITOR_CONTACT_LISTEN", listen)
    [problem] = _problems()
    assert problem.startswith("MONITOR_CONTACT_LISTEN: must be a loopback address")
    assert "cannot identify its callers yet" in problem


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
