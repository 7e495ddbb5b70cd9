"""Answers that no simulator would give, byte for byte, through the whole service: each gets a typed reason.

What boto3 makes of the same answers is the matter of test_differential.
"""

import asyncio
import gzip
import json
from dataclasses import dataclass

import pytest
from fakes import FreeTokens
from harness import CONTACT_ID, INSTANCE_ID, USER_ID, connect_to, serving
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest
from monitor_contact_service.core.caller import ANONYMOUS
from monitor_contact_service.core.failures import Reason
from monitor_contact_service.core.idempotency import derive_client_token
from monitor_contact_service.core.outage import Outage
from monitor_contact_service.core.retry import MAX_ATTEMPTS
from monitor_contact_service.core.wire import ANSWER_MAX_BYTES
from raw_http import RawHttp, Reply, Request, Then, reply

from ._refused import refused

# Stands in every body, header and reason phrase that says something: none of it may reach the caller.
LEAK = "text-of-aws arn:aws:iam::123456789012:role/hidden"
NEW_ID = "a-new-contact"
SESSION = json.dumps({"ContactId": NEW_ID, "ContactArn": "arn:of-the-session"})
_BAD = Reason.CONNECT_BAD_RESPONSE
_HEADER = "x-amzn-ErrorType"
_SUFFIX = ":http://internal.amazon.com/coral/com.amazonaws.connect/"


def _request(client_token: str) -> MonitorContactRequest:
    return MonitorContactRequest(
        instance_id=INSTANCE_ID, contact_id=CONTACT_ID, user_id=USER_ID, client_token=client_token
    )


REQUEST, ANOTHER_REQUEST = _request("the-callers-token"), _request("the-callers-second-token")


def _head(*lines: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode("latin-1")


def _chunked(body: bytes, *, size: int = 7) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _named(status: int, name: str, text: str = LEAK) -> Reply:
    return reply(status, json.dumps({"__type": name, "Message": text}))


async def _no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


def _tokens(requests: list[Request]) -> set[str]:
    return {request.document["ClientToken"] for request in requests}


def _upstream_token(request: MonitorContactRequest) -> str:
    return derive_client_token(ANONYMOUS.id, request.client_token)


# ---- Answers that are good, however odd ------------------------------------------------------------------------------

GOOD = {
    "plain": reply(200, SESSION),
    "wrong content type": reply(200, SESSION, {"Content-Type": "text/html; charset=nonsense"}),
    "201": reply(201, SESSION),
    "unknown members": reply(200, json.dumps({"New": [{}], "ContactId": NEW_ID, "ContactArn": "arn:of-the-session"})),
    "blanks and escapes": reply(
        200, '\n {"ContactId"\t: "\\u0061-new-contact", "ContactArn":"arn:of-the-session"}\r\n'
    ),
    "chunked": Reply(_head("Transfer-Encoding: chunked") + _chunked(SESSION.encode())),
    "no length, closed": Reply(_head() + SESSION.encode(), Then.CLOSE),
    "HTTP/1.0": Reply(b"HTTP/1.0 200 OK\r\n\r\n" + SESSION.encode(), Then.CLOSE),
    "after a 100": Reply(b"HTTP/1.1 100 Continue\r\n\r\n" + reply(200, SESSION).raw),
    "after a 103": Reply(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + reply(200, SESSION).raw),
    "cookie": reply(200, SESSION, {"Set-Cookie": "=;;;"}),
    "error header on a success": reply(200, SESSION, {_HEADER: "ThrottlingException"}),
}


@pytest.mark.parametrize("answer", GOOD.values(), ids=GOOD.keys())
async def test_an_odd_success_is_a_success(answer: Reply) -> None:
    """A 2xx with a ContactId started a session, whatever else is odd about it: one request, one session."""
    async with RawHttp([answer]) as upstream, connect_to(upstream.url) as connect, serving(connect) as service:
        response = await service.stub.MonitorContact(REQUEST, timeout=5)
        assert (response.contact_id, response.contact_arn) == (NEW_ID, "arn:of-the-session")
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("arn", ["", ', "ContactArn": null', ', "ContactArn": 5', ', "ContactArn": "\\ud800"'])
async def test_a_session_without_a_usable_arn_is_a_session(arn: str) -> None:
    """The ContactArn is a convenience: without one the answer has an empty text, also for a lone surrogate."""
    answer = reply(200, f'{{"ContactId": "{NEW_ID}"{arn}}}')
    async with RawHttp([answer]) as upstream, connect_to(upstream.url) as connect, serving(connect) as service:
        response = await service.stub.MonitorContact(REQUEST, timeout=5)
        assert (response.contact_id, response.contact_arn) == (NEW_ID, "")


async def test_the_longest_contact_id_is_a_session() -> None:
    """256 characters, as the API page allows."""
    longest = "é" * 256
    answer = reply(200, json.dumps({"ContactId": longest}))
    async with RawHttp([answer]) as upstream, connect_to(upstream.url) as connect, serving(connect) as service:
        assert (await service.stub.MonitorContact(REQUEST, timeout=5)).contact_id == longest


# ---- Answers that are refusals, or nonsense --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bad:
    """An answer and what it must come out as. `status` and `name` are the metadata of a CONNECT_BAD_RESPONSE."""

    what: str
    answer: Reply
    reason: Reason = _BAD
    status: str = "200"
    name: str = ""


# A session may have started, and nobody knows its id: never repeated by the service.
NO_SESSION = [
    Bad("unknown JSON", reply(200, json.dumps({"Unexpected": {LEAK: [1, 2, 3]}}))),
    Bad("HTML", reply(200, f"<html><body>{LEAK}</body></html>", {"Content-Type": "text/html"})),
    Bad("empty body", reply(200)),
    Bad("no body, closed", Reply(_head(), Then.CLOSE)),
    Bad("204", reply(204), status="204"),
    Bad("empty object", reply(200, "{}")),
    Bad("contactId", reply(200, '{"contactId": "lower-case"}')),
    Bad("ContactId null", reply(200, '{"ContactId": null}')),
    Bad("ContactId number", reply(200, '{"ContactId": 5}')),
    Bad("ContactId huge number", reply(200, '{"ContactId": ' + "1" * 50_000 + "}")),
    Bad("ContactId not a number", reply(200, '{"ContactId": NaN}')),
    Bad("ContactId true", reply(200, '{"ContactId": true}')),
    Bad("ContactId list", reply(200, '{"ContactId": ["an-id"]}')),
    Bad("ContactId object", reply(200, '{"ContactId": {"Id": "an-id"}}')),
    Bad("ContactId empty", reply(200, '{"ContactId": ""}')),
    Bad("ContactId too long", reply(200, json.dumps({"ContactId": "c" * 257}))),
    Bad("ContactId lone surrogate", reply(200, '{"ContactId": "\\ud800"}')),
    Bad("JSON list", reply(200, json.dumps([SESSION, LEAK]))),
    Bad("JSON string", reply(200, '"ContactId"')),
    Bad("JSON number", reply(200, "5")),
    Bad("JSON null", reply(200, "null")),
    Bad("JSON cut short", reply(200, SESSION[:-5])),
    Bad("two JSON objects", reply(200, SESSION + SESSION)),
    Bad("deeply nested list", reply(200, "[" * 60_000)),
    Bad("deeply nested object", reply(200, '{"a":' * 12_000)),
    Bad("not UTF-8", reply(200, b'{"ContactId": "\xff\xfe"}')),
    Bad("UTF-16", reply(200, SESSION.encode("utf-16"))),
    Bad("byte order mark", reply(200, SESSION.encode("utf-8-sig"))),
    Bad("1 MiB of JSON", reply(200, json.dumps({"ContactId": NEW_ID, "Padding": "x" * 1024 * 1024}))),
    Bad("1 MiB chunked", Reply(_head("Transfer-Encoding: chunked") + _chunked(b"x" * 1024 * 1024, size=65_536))),
    Bad("one byte too large", reply(200, SESSION.ljust(ANSWER_MAX_BYTES + 1))),
    Bad("gzip", reply(200, gzip.compress(SESSION.encode()), {"Content-Encoding": "gzip"})),
    Bad("unknown encoding", reply(200, b"\x00\x01", {"Content-Encoding": "snappy"})),
    Bad("101", Reply(b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", Then.CLOSE), status="101"),
    Bad("another protocol", Reply(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", Then.CLOSE), status=""),
    Bad("status not a number", Reply(b"HTTP/1.1 abc No\r\nContent-Length: 0\r\n\r\n", Then.CLOSE), status=""),
    Bad("negative length", Reply(_head("Content-Length: -1"), Then.CLOSE), status=""),
    Bad("two lengths", Reply(_head("Content-Length: 2", "Content-Length: 3") + b"{}", Then.CLOSE), status=""),
    Bad(
        "length and chunked",
        Reply(_head("Content-Length: 2", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n", Then.CLOSE),
        status="",
    ),
    Bad("bad chunk size", Reply(_head("Transfer-Encoding: chunked") + b"zz\r\n{}\r\n", Then.CLOSE), status=""),
    Bad("NUL in a header", Reply(_head(f"X-Text: {LEAK}\0", "Content-Length: 0"), Then.CLOSE), status=""),
    Bad("huge header", Reply(_head("X-Text: " + "x" * 1024 * 1024, "Content-Length: 0"), Then.CLOSE), status=""),
    Bad(
        "flood of headers",
        Reply(b"HTTP/1.1 200 OK\r\n", Then.CLOSE, tail=f"X-Text: {LEAK}\r\n".encode() * 100, tail_times=10_000),
        status="",
    ),
]

REDIRECTS = [
    Bad(f"{status} to {place}", reply(status, LEAK, {"Location": place}), status=str(status))
    for status in (301, 302, 303, 307, 308)
    for place in ("/contact/monitor", "http://[::bad", "")
]

ERRORS = [
    Bad("__type", _named(400, "InvalidRequestException"), Reason.INVALID_REQUEST),
    Bad(
        "__type with namespace",
        _named(404, "com.amazonaws.connect#ResourceNotFoundException"),
        Reason.RESOURCE_NOT_FOUND,
    ),
    Bad("__type with both", _named(402, f"a.b#ServiceQuotaExceededException{_SUFFIX}"), Reason.SERVICE_QUOTA_EXCEEDED),
    Bad("code", reply(409, '{"code": "IdempotencyException"}'), Reason.IDEMPOTENCY_CONFLICT),
    Bad("Code", reply(403, '{"Code": "AccessDeniedException"}'), Reason.ACCESS_DENIED),
    Bad("code before __type", reply(400, '{"__type": "X", "code": "AccessDeniedException"}'), Reason.ACCESS_DENIED),
    Bad("header", reply(404, "", {_HEADER: "ResourceNotFoundException"}), Reason.RESOURCE_NOT_FOUND),
    Bad(
        "header with suffix", reply(409, "{}", {_HEADER: f"IdempotencyException{_SUFFIX}"}), Reason.IDEMPOTENCY_CONFLICT
    ),
    Bad("header in capitals", reply(403, "{}", {_HEADER.upper(): "AccessDeniedException"}), Reason.ACCESS_DENIED),
    Bad(
        "header before __type", reply(400, '{"__type": "X"}', {_HEADER: "AccessDeniedException"}), Reason.ACCESS_DENIED
    ),
    Bad("header and HTML", reply(403, f"<html>{LEAK}", {_HEADER: "AccessDeniedException"}), Reason.ACCESS_DENIED),
    Bad("header and list", reply(403, "[1]", {_HEADER: "AccessDeniedException"}), Reason.ACCESS_DENIED),
    Bad(
        "empty header, __type",
        reply(403, '{"__type": "AccessDeniedException"}', {_HEADER: ""}),
        Reason.ACCESS_DENIED,
    ),
    Bad(
        "message narrows",
        reply(400, '{"__type": "InvalidRequestException", "message": "No AGENT participant found"}'),
        Reason.NO_AGENT_PARTICIPANT,
    ),
    Bad(
        "Message null",
        reply(400, '{"__type": "InvalidRequestException", "Message": null}'),
        Reason.INVALID_REQUEST,
    ),
    Bad(
        "Message object",
        reply(400, '{"__type": "InvalidRequestException", "Message": {"a": 1}}'),
        Reason.INVALID_REQUEST,
    ),
    Bad("text alone", reply(400, json.dumps({"Message": "please enable call recording"})), status="400"),
    Bad("empty header", reply(400, "{}", {_HEADER: ""}), status="400"),
    Bad("nothing at all", reply(400), status="400"),
    Bad("__type null", reply(400, '{"__type": null}'), status="400"),
    Bad("__type number", reply(400, '{"__type": 5}'), status="400"),
    Bad("JSON list", reply(400, json.dumps([LEAK])), status="400"),
    Bad("JSON string", reply(400, json.dumps(LEAK)), status="400"),
    Bad("not UTF-8", reply(400, b'{"__type": "\xff"}'), status="400"),
    Bad("unknown name", _named(400, "a.b#SomethingNew"), status="400", name="SomethingNew"),
    Bad("unsafe name", _named(400, "arn aws/1234"), status="400"),
    Bad("long name", _named(400, "N" * 65), status="400"),
    Bad(
        "name not ASCII",
        Reply(b"HTTP/1.1 400 B\r\nx-amzn-ErrorType: \xff\xfe\r\nContent-Length: 0\r\n\r\n"),
        status="400",
    ),
    Bad("a proxy's 403", reply(403, f"<html>{LEAK}</html>"), status="403"),
    Bad("a proxy's 404", reply(404, f"<html>{LEAK}</html>"), status="404"),
    Bad("a proxy's 407", reply(407, "", {"Proxy-Authenticate": "Basic"}), status="407"),
    Bad("a proxy's 401", reply(401, "", {"WWW-Authenticate": "Basic"}), status="401"),
    Bad("1 MiB with a name", reply(400, "x" * 1024 * 1024, {_HEADER: "AccessDeniedException"}), status="400"),
    Bad("304", reply(304), status="304"),
    Bad("999", reply(999, LEAK), status="999"),
]

# Worth another attempt, with the same token: six in all.
PASSING = [
    Bad("bare 500", reply(500), Reason.INTERNAL_SERVICE),
    Bad("502 in HTML", reply(502, f"<html>{LEAK}</html>"), Reason.INTERNAL_SERVICE),
    Bad("503 JSON list", reply(503, json.dumps([LEAK])), Reason.INTERNAL_SERVICE),
    Bad("504", reply(504, LEAK), Reason.INTERNAL_SERVICE),
    Bad("500 with an unknown name", _named(500, "SomethingNew"), Reason.INTERNAL_SERVICE),
    Bad("bare 429", reply(429), Reason.THROTTLED),
    Bad("429 in HTML", reply(429, f"<html>{LEAK}</html>"), Reason.THROTTLED),
    Bad("throttled by name", _named(400, f"com.amazonaws.connect#ThrottlingException{_SUFFIX}"), Reason.THROTTLED),
    Bad("503 named throttling", reply(503, "", {_HEADER: "ThrottlingException"}), Reason.THROTTLED),
    Bad("body cut short", Reply(reply(200, SESSION).raw[:-5], Then.CLOSE), Reason.CONNECT_UNREACHABLE),
    Bad("error body cut short", Reply(_named(400, "X").raw[:-5], Then.CLOSE), Reason.CONNECT_UNREACHABLE),
    Bad(
        "chunk cut short",
        Reply(_head("Transfer-Encoding: chunked") + b"ff\r\n{", Then.CLOSE),
        Reason.CONNECT_UNREACHABLE,
    ),
    Bad("reset in the body", Reply(reply(200, SESSION).raw[:-5], Then.RESET), Reason.CONNECT_UNREACHABLE),
    Bad("closed after the headers", Reply(_head("Content-Length: 9"), Then.CLOSE), Reason.CONNECT_UNREACHABLE),
    Bad("closed in the headers", Reply(_head("Content-Length: 9")[:-9], Then.CLOSE), Reason.CONNECT_UNREACHABLE),
    Bad("closed before the answer", Reply(b"", Then.CLOSE), Reason.CONNECT_UNREACHABLE),
    Bad("reset before the answer", Reply(b"", Then.RESET), Reason.CONNECT_UNREACHABLE),
]


async def _refusal_of(bad: Bad, *, requests: int) -> None:
    async with (
        RawHttp([bad.answer]) as upstream,
        connect_to(upstream.url) as connect,
        serving(connect, sleep=_no_wait, tokens=FreeTokens(), outage=Outage(failures_to_open=1000)) as service,
    ):
        answer = await refused(service.stub.MonitorContact(REQUEST, timeout=30))
        assert len(upstream.requests) == requests
        assert _tokens(upstream.requests) == {_upstream_token(REQUEST)}
    assert answer.error_info.reason == bad.reason
    if bad.reason is _BAD:
        assert answer.metadata == {"aws_error": bad.name, "aws_request_id": "", "http_status": bad.status}
    for secret in (LEAK, "hidden", "an-id", "arn:", INSTANCE_ID, CONTACT_ID, USER_ID, "html", "Error:", "Exception"):
        assert secret not in answer.wire


@pytest.mark.parametrize("bad", NO_SESSION, ids=lambda bad: bad.what)
async def test_a_success_without_a_session_makes_no_sense(bad: Bad) -> None:
    """It may have started one, so it is not repeated; the caller gets CONNECT_BAD_RESPONSE and none of its text."""
    await _refusal_of(bad, requests=1)


@pytest.mark.parametrize("bad", REDIRECTS, ids=lambda bad: bad.what)
async def test_a_redirect_is_not_followed(bad: Bad) -> None:
    """The signed request and its security token go to nobody else: exactly one request is seen."""
    await _refusal_of(bad, requests=1)


@pytest.mark.parametrize("bad", ERRORS, ids=lambda bad: bad.what)
async def test_an_error_is_read_wherever_its_name_stands(bad: Bad) -> None:
    """Header, `code`, `Code`, `__type`, with namespace and suffix or without; without a known name the status rules."""
    await _refusal_of(bad, requests=1)


@pytest.mark.parametrize("bad", PASSING, ids=lambda bad: bad.what)
async def test_what_may_pass_is_tried_again(bad: Bad) -> None:
    """Six attempts with one ClientToken, then the row's reason."""
    await _refusal_of(bad, requests=MAX_ATTEMPTS)


# ---- Connections that a server closes while nobody looks -------------------------------------------------------------


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET], ids=lambda then: then.name)
async def test_a_connection_closed_after_its_answer_costs_nobody_an_error(then: Then) -> None:
    """Kept alive by its headers, closed all the same: whether that is noticed in time or not, callers see success."""
    closing = Reply(reply(200, SESSION, {"Connection": "keep-alive"}).raw, then)
    async with RawHttp([closing]) as upstream, connect_to(upstream.url) as connect, serving(connect) as service:
        requests = [_request(f"token-{number}") for number in range(5)]
        for request in requests:
            assert (await service.stub.MonitorContact(request, timeout=10)).contact_id == NEW_ID
        assert _tokens(upstream.requests) == {_upstream_token(request) for request in requests}
        assert upstream.connections >= 5


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET], ids=lambda then: then.name)
async def test_a_connection_closed_at_its_second_request_costs_nobody_an_error(then: Then) -> None:
    """The race that no client can win: the request goes out on a kept connection while the server closes it."""
    script = [reply(200, SESSION), Reply(b"", then), reply(200, SESSION)]
    async with RawHttp(script) as upstream, connect_to(upstream.url) as connect, serving(connect) as service:
        for each in (REQUEST, ANOTHER_REQUEST):
            assert (await service.stub.MonitorContact(each, timeout=10)).contact_id == NEW_ID
        assert [request.connection for request in upstream.requests] == [1, 1, 2]
        sent = [request.document["ClientToken"] for request in upstream.requests]
        assert sent == [_upstream_token(each) for each in (REQUEST, ANOTHER_REQUEST, ANOTHER_REQUEST)]


@pytest.mark.parametrize("bad", [NO_SESSION[-1], NO_SESSION[-2]], ids=lambda bad: bad.what)
async def test_a_connection_with_a_mad_answer_is_not_used_again(bad: Bad) -> None:
    """After an answer that was not read to its end, the next call has a connection of its own and succeeds."""
    script = [bad.answer, reply(200, SESSION)]
    async with RawHttp(script) as upstream, connect_to(upstream.url) as connect, serving(connect) as service:
        await refused(service.stub.MonitorContact(REQUEST, timeout=10))
        assert (await service.stub.MonitorContact(REQUEST, timeout=10)).contact_id == NEW_ID
        assert [request.connection for request in upstream.requests] == [1, 2]


async def test_a_large_answer_costs_its_connection() -> None:
    """What is beyond 64 KiB is not read: the connection is closed, and the next call succeeds on another one."""
    script = [reply(200, "x" * 1024 * 1024), reply(200, SESSION)]
    async with RawHttp(script) as upstream, connect_to(upstream.url) as connect, serving(connect) as service:
        await refused(service.stub.MonitorContact(REQUEST, timeout=10))
        assert (await service.stub.MonitorContact(REQUEST, timeout=10)).contact_id == NEW_ID
        assert [request.connection for request in upstream.requests] == [1, 2]


async def test_an_answer_of_exactly_the_limit_is_read() -> None:
    """64 KiB are not too large."""
    async with (
        RawHttp([reply(200, SESSION.ljust(ANSWER_MAX_BYTES))]) as upstream,
        connect_to(upstream.url) as connect,
        serving(connect) as service,
    ):
        assert (await service.stub.MonitorContact(REQUEST, timeout=10)).contact_id == NEW_ID
