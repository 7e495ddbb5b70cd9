"""`quota_url`: where the quota is kept, and under which key."""

import pytest
from monitor_contact_service.quota_url import RedisAddress, parse_quota_url, quota_scope


def test_memory_is_no_redis() -> None:
    """The default needs no server."""
    assert parse_quota_url("memory://") is None


@pytest.mark.parametrize(
    ("text", "address", "printed"),
    [
        ("redis://cache", RedisAddress("cache", 6379, 0, tls=False), "redis://cache:6379/0"),
        ("redis://127.0.0.1:7000/3", RedisAddress("127.0.0.1", 7000, 3, tls=False), "redis://127.0.0.1:7000/3"),
        ("rediss://[::1]:7000/", RedisAddress("::1", 7000, 0, tls=True), "rediss://[::1]:7000/0"),
        (
            "rediss://us%40er:pa%2Fss@cache:6380/0",
            RedisAddress("cache", 6380, 0, tls=True, username="us@er", password="pa/ss"),
            "rediss://cache:6380/0",
        ),
        ("redis://:secret@cache", RedisAddress("cache", 6379, 0, tls=False, password="secret"), "redis://cache:6379/0"),
    ],
)
def test_a_redis_is_read_and_printed_without_its_password(text: str, address: RedisAddress, printed: str) -> None:
    """Host, port, database, TLS and log-in; what is printed shows where, never who."""
    parsed = parse_quota_url(text)
    assert parsed == address
    assert str(parsed) == printed
    assert "pa/ss" not in repr(parsed)
    assert "secret" not in repr(parsed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "memory",
        "memory://secret",
        "cache:6379",
        "http://user:secret@cache",
        "redis://",
        "redis://:secret@",
        "redis://user:secret/x@cache",
        "redis://:secret@cache:0",
        "redis://:secret@cache:65536",
        "redis://:secret@cache:port",
        "redis://:secret@cache/first",
        "redis://:secret@cache/-1",
        "redis://:secret@cache/1_0",
        "redis://:secret@cache/0/1",
        "redis://:secret@[::1",
        "rediss://:secret@cache/0?ssl_cert_reqs=none",
        "redis://cache/0#secret",
        "unix:///run/secret",
    ],
)
def test_any_other_text_is_refused_with_what_would_be_right(text: str) -> None:
    """The message names the forms and repeats nothing of the text, which may hold a password."""
    with pytest.raises(ValueError, match=r"memory://.*redis://host:6379/0.*rediss://host:6379/0") as raised:
        parse_quota_url(text)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_quota_has_a_key_of_its_own_per_account_and_region() -> None:
    """Account and Region stand in braces: in a Redis Cluster they decide where it is kept."""
    assert quota_scope("123456789012", "eu-central-1") == "monitor-contact:{123456789012:eu-central-1}:MonitorContact"
    assert quota_scope("production", "eu-central-1") != quota_scope("production", "us-east-1")
