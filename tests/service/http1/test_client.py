"""`http1.client`: the bytes of a request."""

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from monitor_contact_service.core.wire import Answer
from monitor_contact_service.http1 import HttpClient, Route

pytestmark = pytest.mark.asyncio(loop_scope="function")

ANSWER = Answer(200, {}, b"{}")


class Recorder:
    """Takes requests instead of a pool."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, float]] = []

    async def exchange(self, request: bytes, timeout_seconds: float) -> Answer:
        """Keep it."""
        self.requests.append((request, timeout_seconds))
        return ANSWER


def _client(url: str, exchange: Recorder, *, proxy: str | None = None) -> HttpClient:
    route = Route(url, proxy=proxy, tls=lambda: None)  # type: ignore[arg-type, return-value]  # nothing is opened
    return HttpClient(url, route=route, user_agent="agent é", exchange=exchange.exchange)


async def test_these_are_the_bytes_of_a_post() -> None:
    """Each header once, the caller's own after the common ones, in UTF-8 as they were signed; then the body."""
    recorder = Recorder()
    client = _client("https://connect.example", recorder)
    answer = await client.post("/a/b", headers={"X-A": "1", "X-B": "é"}, body=b"\0\r\n", timeout_seconds=2.5)
    assert answer is ANSWER
    head = (
        "POST /a/b HTTP/1.1\r\nHost: connect.example\r\nUser-Agent: agent é\r\nAccept: */*\r\n"
        "Accept-Encoding: identity\r\nX-A: 1\r\nX-B: é\r\nContent-Length: 3\r\n\r\n"
    )
    assert recorder.requests == [(head.encode() + b"\0\r\n", 2.5)]


async def test_these_are_the_bytes_of_a_get() -> None:
    """The common headers alone: no length, no body."""
    recorder = Recorder()
    assert await _client("http://127.0.0.1:8080", recorder).get("/", timeout_seconds=1) is ANSWER
    head = (
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: agent é\r\nAccept: */*\r\n"
        "Accept-Encoding: identity\r\n\r\n"
    )
    assert recorder.requests == [(head.encode(), 1)]


async def test_a_get_may_have_headers_of_its_own() -> None:
    """After the common ones; a line break in one sends nothing."""
    recorder = Recorder()
    client = _client("http://127.0.0.1:8080", recorder)
    await client.get("/x?y=z", headers={"X-A": "1"}, timeout_seconds=1)
    assert recorder.requests[0][0].endswith(b"Accept-Encoding: identity\r\nX-A: 1\r\n\r\n")
    with pytest.raises(ValueError, match="line break"):
        await client.get("/", headers={"X-A": "1\r\nX-B: 2"}, timeout_seconds=1)
    assert len(recorder.requests) == 1


@pytest.mark.parametrize(
    ("url", "proxy", "line"),
    [
        ("https://connect.example/base", None, b"GET /base/x HTTP/1.1"),
        ("https://connect.example", "http://proxy.example", b"GET /x HTTP/1.1"),
        ("http://connect.example:81/base", "http://proxy.example", b"GET http://connect.example:81/base/x HTTP/1.1"),
    ],
)
async def test_the_first_line_names_what_is_asked_for(url: str, proxy: str | None, line: bytes) -> None:
    """After the path of the endpoint, and with the whole address only for a proxy that must know it."""
    recorder = Recorder()
    await _client(url, recorder, proxy=proxy).get("/x", timeout_seconds=1)
    assert recorder.requests[0][0].startswith(line + b"\r\nHost: connect.example")


@pytest.mark.parametrize(
    ("proxy", "header"),
    [
        ("http://proxy.example", b""),
        ("http://user@proxy.example", b"Proxy-Authorization: Basic dXNlcjo=\r\n"),
        ("http://us%40er:pass%3Aword@proxy.example", b"Proxy-Authorization: Basic dXNAZXI6cGFzczp3b3Jk\r\n"),
    ],
)
@pytest.mark.parametrize("url", ["http://connect.example", "https://connect.example"])
async def test_a_proxys_password_is_for_the_proxy(url: str, proxy: str, header: bytes) -> None:
    """It stands in requests that the proxy reads, never in those that go through its tunnel."""
    recorder = Recorder()
    await _client(url, recorder, proxy=proxy).get("/", timeout_seconds=1)
    ((request, _),) = recorder.requests
    expected = header if url.startswith("http:") else b""
    assert request.endswith(b"identity\r\n" + expected + b"\r\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "1\r\nX-B: 2"},
        {"X-A": "1\n"},
        {"X-A": "\r"},
        {"X-A\r\nX-B": "1"},
        {"X-A": "1\r\n\r\nGET / HTTP/1.1"},
        {"X-A": "\r", "X-B": "\n"},
    ],
)
async def test_a_header_with_a_line_break_is_not_sent(headers: dict[str, str]) -> None:
    """It would be another header, or another request."""
    recorder = Recorder()
    with pytest.raises(ValueError, match="line break"):
        await _client("https://connect.example", recorder).post("/", headers=headers, body=b"", timeout_seconds=1)
    assert not recorder.requests


@pytest.mark.parametrize(
    "url",
    [
        "https://connect.eu-central-1.amazonaws.com",
        "https://Connect.Example:443",
        "https://connect.example:80",
        "http://connect.example:80",
        "http://connect.example:443/base",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "https://[::1]",
    ],
)
async def test_the_host_is_the_one_that_botocore_signs(url: str) -> None:
    """In lower case, with the port unless it is the scheme's own."""
    signer = SigV4Auth(ReadOnlyCredentials("key", "secret", None), "connect", "us-east-1")
    signed = signer.headers_to_sign(AWSRequest("POST", f"{url}/contact/monitor"))["host"]
    assert Route(url, proxy=None, tls=lambda: None).host == signed  # type: ignore[arg-type, return-value]
