"""`core.wire`: what Connect is sent, and what is understood of anything that comes back."""

import json
from collections.abc import Callable, Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.command import Capability, MonitorCommand, MonitoringSession
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.wire import ANSWER_MAX_BYTES, Answer, encode, loggable, read_answer
from monitor_contact_service.reasons import TABLE

# Connect's error names: name -> reason, whatever the status.
_NAMES = {
    "AccessDeniedException": Reason.ACCESS_DENIED,
    "NotAuthorized": Reason.ACCESS_DENIED,
    "InvalidRequestException": Reason.INVALID_REQUEST,
    "InvalidParameterException": Reason.INVALID_REQUEST,
    "ValidationError": Reason.INVALID_REQUEST,
    "ValidationException": Reason.INVALID_REQUEST,
    "ResourceNotFoundException": Reason.RESOURCE_NOT_FOUND,
    "UserNotFoundException": Reason.RESOURCE_NOT_FOUND,
    "ContactNotFoundException": Reason.RESOURCE_NOT_FOUND,
    "ServiceQuotaExceededException": Reason.SERVICE_QUOTA_EXCEEDED,
    "IdempotencyException": Reason.IDEMPOTENCY_CONFLICT,
    "ThrottlingException": Reason.THROTTLED,
    "TooManyRequestsException": Reason.THROTTLED,
    "Throttling": Reason.THROTTLED,
    "ThrottledException": Reason.THROTTLED,
    "RequestThrottled": Reason.THROTTLED,
    "RequestThrottledException": Reason.THROTTLED,
    "RequestLimitExceeded": Reason.THROTTLED,
    "LimitExceededException": Reason.THROTTLED,
    "BandwidthLimitExceeded": Reason.THROTTLED,
    "ProvisionedThroughputExceededException": Reason.THROTTLED,
    "PriorRequestNotComplete": Reason.THROTTLED,
    "TransactionInProgressException": Reason.THROTTLED,
    "SlowDown": Reason.THROTTLED,
    "EC2ThrottledException": Reason.THROTTLED,
    "InternalServiceException": Reason.INTERNAL_SERVICE,
    "InternalFailure": Reason.INTERNAL_SERVICE,
    "ServiceUnavailable": Reason.INTERNAL_SERVICE,
    "ExpiredTokenException": Reason.SERVICE_CREDENTIALS,
    "UnrecognizedClientException": Reason.SERVICE_CREDENTIALS,
    "IncompleteSignature": Reason.SERVICE_CREDENTIALS,
    "OptInRequired": Reason.SERVICE_CREDENTIALS,
    "InvalidSignatureException": Reason.SERVICE_CREDENTIALS,
    "SignatureDoesNotMatch": Reason.SERVICE_CREDENTIALS,
    "AuthFailure": Reason.SERVICE_CREDENTIALS,
    "RequestExpired": Reason.SERVICE_CREDENTIALS,
    "RequestInTheFuture": Reason.SERVICE_CREDENTIALS,
    "RequestTimeTooSkewed": Reason.SERVICE_CREDENTIALS,
    "ExpiredToken": Reason.SERVICE_CREDENTIALS,
    "InvalidClientTokenId": Reason.SERVICE_CREDENTIALS,
    "MissingAuthenticationToken": Reason.SERVICE_CREDENTIALS,
    "MissingAuthenticationTokenException": Reason.SERVICE_CREDENTIALS,
    "RequestTimeoutException": Reason.CONNECT_UNREACHABLE,
    "RequestAbortedException": Reason.CONNECT_UNREACHABLE,
    "UnknownOperationException": Reason.CONNECT_BAD_RESPONSE,
    "MalformedHttpRequestException": Reason.CONNECT_BAD_RESPONSE,
    "RequestEntityTooLargeException": Reason.CONNECT_BAD_RESPONSE,
}
_STATUSES = (300, 301, 307, 400, 401, 402, 403, 404, 408, 409, 410, 429, 500, 501, 502, 503, 504, 599)
_BY_STATUS = {
    429: Reason.THROTTLED,
    500: Reason.INTERNAL_SERVICE,
    502: Reason.INTERNAL_SERVICE,
    503: Reason.INTERNAL_SERVICE,
    504: Reason.INTERNAL_SERVICE,
}

# The exact texts of the admin guide's troubleshooting page.
_TEXTS = [
    (403, "You do not have access to the agent. Contact your admin to learn more.", Reason.SERVICE_LINKED_ROLE_MISSING),
    (403, "Access denied", Reason.ACCESS_DENIED),
    (
        403,
        "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: connect:MonitorContact on resource: x",
        Reason.ACCESS_DENIED,
    ),
    (400, "One or more of the input parameters are invalid", Reason.INVALID_REQUEST),
    (400, "Monitoring failed, please enable call recording", Reason.RECORDING_DISABLED),
    (400, "Monitoring failed, please enable multi party conferencing feature", Reason.MULTI_PARTY_DISABLED),
    (400, "User's phone number is invalid", Reason.USER_PHONE_NUMBER_INVALID),
    (400, "The contact or agent is not in the state that can be monitored", Reason.CONTACT_NOT_MONITORABLE),
    (400, "No AGENT participant found in the contact", Reason.NO_AGENT_PARTICIPANT),
    (400, "MonitorContact is not supported for `TASK` contacts", Reason.UNSUPPORTED_CHANNEL),
    (
        400,
        "AllowedMonitorCapabilities must be provided and have `SILENT_MONITOR` value at the least",
        Reason.CAPABILITIES_REQUIRED,
    ),
]
_NAME_BY_STATUS = {400: "InvalidRequestException", 403: "AccessDeniedException"}
_DISTORTIONS: Mapping[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "capitals and a full stop": lambda text: text.upper() + ".",
    "other quotes": lambda text: text.replace("`", "\N{LEFT DOUBLE QUOTATION MARK}").replace(
        "'", "\N{RIGHT SINGLE QUOTATION MARK}"
    ),
    "doubled and odd blanks": lambda text: "  " + text.replace(" ", " \n\t") + " ",
    "hyphens": lambda text: text.replace("multi party", "multi-party").replace("not in the", "not-in-the"),
    "quoted words": lambda text: " ".join(f'"{word}"' for word in text.split()),
}


def _answer(status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def _failure(answer: Answer) -> Failure:
    with pytest.raises(Failure) as raised:
        read_answer(answer)
    _assert_keys_of_the_row(raised.value)
    return raised.value


def _assert_keys_of_the_row(failure: Failure) -> None:
    """`attempts` is counted by the layer above; everything else of the row comes from here, and nothing besides."""
    assert {*failure.metadata, "attempts"} == {*TABLE[failure.reason].metadata_keys, "attempts"}


def _command(**changed: str) -> MonitorCommand:
    members = {"instance_id": "i", "contact_id": "c", "user_id": "u", **changed}
    return MonitorCommand(capabilities=(Capability.SILENT_MONITOR,), client_token="", **members)


def test_the_body_is_what_boto3_would_send() -> None:
    """Member order, separators and ASCII escapes are those of json.dumps and of the API page."""
    command = MonitorCommand("i", "é", '"u"', (Capability.SILENT_MONITOR, Capability.BARGE), "caller's")
    assert encode(command, "token") == (
        b'{"InstanceId": "i", "ContactId": "\\u00e9", "UserId": "\\"u\\"", '
        b'"AllowedMonitorCapabilities": ["SILENT_MONITOR", "BARGE"], "ClientToken": "token"}'
    )


@settings(deadline=None)
@given(st.text(), st.text(), st.text(), st.text())
def test_any_text_arrives_in_the_body_as_it_was(instance_id: str, contact_id: str, user_id: str, token: str) -> None:
    """Reading the body gives back every value; the body itself is ASCII on one line."""
    body = encode(_command(instance_id=instance_id, contact_id=contact_id, user_id=user_id), token)
    assert body.isascii()
    assert b"\n" not in body
    assert json.loads(body) == {
        "InstanceId": instance_id,
        "ContactId": contact_id,
        "UserId": user_id,
        "AllowedMonitorCapabilities": ["SILENT_MONITOR"],
        "ClientToken": token,
    }


@pytest.mark.parametrize(
    ("status", "members", "expected"),
    [
        (200, {"ContactId": "c", "ContactArn": "arn:c"}, MonitoringSession("c", "arn:c", "r-1")),
        (200, {"ContactId": "c"}, MonitoringSession("c", "", "r-1")),
        (200, {"ContactId": "c", "ContactArn": None}, MonitoringSession("c", "", "r-1")),
        (200, {"ContactId": "c", "ContactArn": 5}, MonitoringSession("c", "", "r-1")),
        (200, {"ContactId": "c", "ContactArn": "\ud800"}, MonitoringSession("c", "", "r-1")),
        (200, {"ContactId": "c", "New": {"Member": [1]}}, MonitoringSession("c", "", "r-1")),
        (200, {"ContactId": "é" * 256}, MonitoringSession("é" * 256, "", "r-1")),
        (201, {"ContactId": "c"}, MonitoringSession("c", "", "r-1")),
    ],
)
def test_a_success_with_a_contact_id_is_a_session(
    status: int, members: Mapping[str, object], expected: MonitoringSession
) -> None:
    """The ContactId is all that is needed; an ARN that is no text is left out, unknown members are ignored."""
    assert read_answer(_answer(status, members, {"x-amzn-requestid": "r-1"})) == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="empty object"),
        pytest.param(b"", id="empty body"),
        pytest.param(b"<html>200</html>", id="HTML"),
        pytest.param({"contactId": "c"}, id="other case"),
        pytest.param({"ContactId": None}, id="null"),
        pytest.param({"ContactId": 5}, id="number"),
        pytest.param({"ContactId": ""}, id="empty"),
        pytest.param({"ContactId": "c" * 257}, id="too long"),
        pytest.param({"ContactId": "\ud800"}, id="half a surrogate pair"),
        pytest.param(["ContactId"], id="list"),
        pytest.param("ContactId", id="string"),
        pytest.param(b'{"ContactId": "c"', id="cut"),
        pytest.param(b'{"ContactId": "\xff"}', id="invalid UTF-8"),
        pytest.param(b"[" * 60_000, id="deep"),
        pytest.param(b'{"ContactId": ' + b"9" * 5000 + b"}", id="a number of 5,000 digits"),
        pytest.param(b'{"ContactId": "c"}' + b" " * ANSWER_MAX_BYTES, id="over 64 KiB"),
        pytest.param(b"x" * 1024 * 1024, id="1 MiB"),
    ],
)
def test_a_success_without_a_contact_id_is_not_a_success(body: object) -> None:
    """CONNECT_BAD_RESPONSE with an unknown outcome: something was answered with 200, so a session may have started."""
    failure = _failure(_answer(200, body, {"x-amzn-requestid": "r-1"}))
    assert failure.reason is Reason.CONNECT_BAD_RESPONSE
    assert failure.outcome_unknown
    assert failure.metadata == {"aws_error": "", "aws_request_id": "r-1", "http_status": "200"}


@pytest.mark.parametrize(("name", "reason"), _NAMES.items())
def test_the_name_decides_whatever_the_status(name: str, reason: Reason) -> None:
    """The table of error names holds with every status, so a wrong status does not hide what Connect said."""
    for status in _STATUSES:
        failure = _failure(_answer(status, {"Message": "text"}, {"x-amzn-errortype": name}))
        assert failure.reason is reason, status
        assert failure.log_text == f"HTTP {status} {name}: text"


@pytest.mark.parametrize("status", _STATUSES)
@pytest.mark.parametrize("name", ["", "BrandNewException", "InvalidActiveRegionException", "throttlingexception"])
def test_without_a_known_name_the_status_decides(name: str, status: int) -> None:
    """429 and four of the 5xx have a meaning by themselves; a bare 403, 404 or redirect has none."""
    failure = _failure(_answer(status, {"__type": name}))
    assert failure.reason is _BY_STATUS.get(status, Reason.CONNECT_BAD_RESPONSE)
    if failure.reason is Reason.CONNECT_BAD_RESPONSE:
        assert failure.metadata == {"aws_error": name, "aws_request_id": "", "http_status": str(status)}


@pytest.mark.parametrize("distortion", _DISTORTIONS)
@pytest.mark.parametrize(("status", "text", "reason"), _TEXTS)
def test_the_text_narrows_the_reason(status: int, text: str, reason: Reason, distortion: str) -> None:
    """Every documented text keeps its row when quotes, blanks, hyphens, case and the full stop differ."""
    body = {"Message": _DISTORTIONS[distortion](text)}
    assert _failure(_answer(status, body, {"x-amzn-errortype": _NAME_BY_STATUS[status]})).reason is reason


@pytest.mark.parametrize("name", sorted({*_NAMES} - {*_NAME_BY_STATUS.values()}))
def test_the_text_never_widens_a_reason(name: str) -> None:
    """Under any other name the same text changes nothing."""
    for status, text, _ in _TEXTS:
        reason = _failure(_answer(status, {"message": text}, {"x-amzn-errortype": name})).reason
        assert reason is _NAMES[name], text


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("InvalidRequestException", "something new", Reason.INVALID_REQUEST),
        ("InvalidRequestException", "do not have access to the agent", Reason.INVALID_REQUEST),
        ("AccessDeniedException", "please enable call recording", Reason.ACCESS_DENIED),
        ("", "please enable call recording", Reason.CONNECT_BAD_RESPONSE),
    ],
)
def test_a_text_without_its_name_decides_nothing(name: str, text: str, reason: Reason) -> None:
    """An unknown text falls back to the row of its exception; a known text under no name is a bad answer."""
    assert _failure(_answer(400, {"message": text}, {"x-amzn-errortype": name})).reason is reason


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({"x-amzn-errortype": "ThrottlingException"}, b"", id="header"),
        pytest.param(
            {"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/coral/x/"},
            b"",
            id="header with suffix",
        ),
        pytest.param({"x-amzn-errortype": "com.amazon#ThrottlingException:http://x#y"}, b"", id="header with both"),
        pytest.param({"x-amzn-errortype": " ThrottlingException "}, b"", id="header with blanks"),
        pytest.param({"x-amzn-errortype": "ThrottlingException"}, {"code": "SlowUp"}, id="header before body"),
        pytest.param({}, {"code": "ThrottlingException"}, id="code"),
        pytest.param({}, {"Code": "ThrottlingException"}, id="Code"),
        pytest.param({}, {"__type": "ThrottlingException"}, id="type"),
        pytest.param({}, {"__type": "com.amazonaws.connect#ThrottlingException"}, id="type with namespace"),
        pytest.param({}, {"__type": "ThrottlingException:http://x/"}, id="type with suffix"),
        pytest.param({}, {"code": "ThrottlingException", "__type": "Other"}, id="code before type"),
        pytest.param({}, {"code": None, "Code": 5, "__type": "ThrottlingException"}, id="what is no text is no name"),
        pytest.param({"x-amzn-errortype": ""}, {"__type": "ThrottlingException"}, id="an empty header is no name"),
    ],
)
def test_the_name_is_found_where_aws_puts_it(headers: Mapping[str, str], body: object) -> None:
    """Header first, then `code`, `Code`, `__type`; without namespace, without what follows a colon."""
    assert _failure(_answer(400, body, headers)).reason is Reason.THROTTLED


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html><title>503</title></html>", id="HTML"),
        pytest.param(["message"], id="list"),
        pytest.param("message", id="string"),
        pytest.param(5, id="number"),
        pytest.param(None, id="null"),
        pytest.param({"message": None}, id="null text"),
        pytest.param({"message": {"a": "enable call recording"}}, id="object as text"),
        pytest.param({"message": ["enable call recording"]}, id="list as text"),
        pytest.param({"__type": {"a": 1}, "code": ["x"]}, id="object as name"),
        pytest.param(b"[" * 60_000, id="deep list"),
        pytest.param(b'{"a":' * 10_000, id="deep object"),
        pytest.param(b'{"message": "\xff\xfe"}', id="invalid UTF-8"),
        pytest.param(b"\xff\xfe\x00", id="half UTF-16"),
        pytest.param(b'{"message": NaN}', id="not a number"),
    ],
)
@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (400, {"x-amzn-errortype": "InvalidRequestException"}, Reason.INVALID_REQUEST),
        (503, {}, Reason.INTERNAL_SERVICE),
        (429, {}, Reason.THROTTLED),
        (404, {}, Reason.CONNECT_BAD_RESPONSE),
    ],
)
def test_odd_bodies_leave_the_name_or_the_status_to_decide(
    body: object, status: int, headers: Mapping[str, str], reason: Reason
) -> None:
    """Whatever the body is, it adds nothing and breaks nothing."""
    failure = _failure(_answer(status, body, headers))
    assert failure.reason is reason
    assert failure.log_text == f"HTTP {status} {headers.get('x-amzn-errortype', '')}: "


def test_the_lower_case_text_comes_first() -> None:
    """`message` before `Message`, as botocore reads them."""
    body = {"message": "please enable call recording", "Message": "No AGENT participant found in the contact"}
    failure = _failure(_answer(400, body, {"x-amzn-errortype": "InvalidRequestException"}))
    assert failure.reason is Reason.RECORDING_DISABLED


@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_an_oversized_answer_is_not_read(status: int) -> None:
    """One byte over 64 KiB is no answer of Connect's, whatever it says; exactly 64 KiB is read."""
    body = json.dumps({"__type": "ThrottlingException", "ContactId": "c"}).encode()
    assert _failure(_answer(status, body.ljust(ANSWER_MAX_BYTES + 1))).reason is Reason.CONNECT_BAD_RESPONSE
    if status == 200:
        assert read_answer(_answer(status, body.ljust(ANSWER_MAX_BYTES))).contact_id == "c"
    else:
        assert _failure(_answer(status, body.ljust(ANSWER_MAX_BYTES))).reason is Reason.THROTTLED


@pytest.mark.parametrize(
    ("status", "name", "unknown"),
    [
        (500, "InternalServiceException", True),
        (503, "", True),
        (501, "", True),
        (599, "", True),
        (204, "", True),
        (400, "InternalFailure", True),
        (400, "InvalidRequestException", False),
        (429, "", False),
        (503, "ThrottlingException", False),
        (402, "ServiceQuotaExceededException", False),
        (409, "IdempotencyException", False),
        (403, "ExpiredTokenException", False),
        (408, "RequestTimeoutException", False),
        (404, "UnknownOperationException", False),
        (307, "", False),
        (403, "", False),
    ],
)
def test_only_a_refusal_proves_that_nothing_started(status: int, name: str, unknown: bool) -> None:  # noqa: FBT001 - a table's column
    """After a success that makes no sense and after any fault of the other side the outcome is not known."""
    assert _failure(_answer(status, b"", {"x-amzn-errortype": name})).outcome_unknown is unknown


@pytest.mark.parametrize("status", [500, 503])
def test_an_oversized_server_error_leaves_the_outcome_unknown(status: int) -> None:
    """A gateway's long error page says as little about what Connect did as its short one."""
    assert _failure(_answer(status, b"x" * (ANSWER_MAX_BYTES + 1))).outcome_unknown


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "999999999"}, 999_999_999.0),
        ({"retry-after": "1000000000"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "+1"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": " 1"}, None),
        ({"retry-after": "\N{ARABIC-INDIC DIGIT THREE}"}, None),
        ({"retry-after": "\N{SUPERSCRIPT TWO}"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"x-amz-retry-after": "soon"}, None),
        ({"x-amz-retry-after": "1500", "retry-after": "1"}, 1.5),
        ({"x-amz-retry-after": "1500", "retry-after": "2"}, 2.0),
        ({"x-amz-retry-after": "1500", "retry-after": "later"}, 1.5),
        ({"x-amz-retry-after": "-5", "retry-after": "2"}, 2.0),
    ],
)
def test_the_time_to_come_again_is_read_or_ignored(headers: Mapping[str, str], expected: float | None) -> None:
    """Whole seconds or whole milliseconds, the longer of the two; dates, signs, fractions and nonsense are ignored."""
    assert _failure(_answer(429, b"", headers)).retry_after_seconds == expected


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("7c6b1d2e-0000-4000-8000-000000000001", True),
        ("!" * 128, True),
        ("r" * 129, False),
        ("", False),
        ("a b", False),
        ("a\r\nx-evil: 1", False),
        ("é", False),
        ("\x7f", False),
        ("line\n", False),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 404, 429])
def test_only_a_harmless_request_id_is_passed_on(sent: str, kept: bool, status: int) -> None:  # noqa: FBT001 - a table's column
    """1 to 128 visible ASCII characters; anything else becomes empty instead of travelling into logs and answers."""
    headers = {"x-amzn-requestid": sent, "x-amzn-errortype": "ResourceNotFoundException" if status == 404 else ""}
    expected = sent if kept else ""
    assert _failure(_answer(status, b"", headers)).metadata["aws_request_id"] == expected


@pytest.mark.parametrize("name", ["evil\r\nname", "a b", "n" * 65, "é", "<script>", "line\n"])
def test_only_a_harmless_name_is_passed_on(name: str) -> None:
    """An unknown name goes into the metadata only if it looks like one; the log has it whole."""
    failure = _failure(_answer(418, {"__type": name}))
    assert failure.metadata["aws_error"] in {"", name.strip()}
    assert failure.metadata["aws_error"] == "" or failure.metadata["aws_error"].isascii()
    assert "\n" not in failure.metadata["aws_error"]
    assert name.strip() in failure.log_text


def test_a_missing_resource_is_not_named() -> None:
    """The key is always there, and empty, because Connect does not say which resource it was."""
    failure = _failure(_answer(404, b"", {"x-amzn-errortype": "ResourceNotFoundException"}))
    assert failure.metadata == {"aws_request_id": "", "resource": ""}


_json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(sorted(_NAMES)),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)
_bodies = (
    st.binary()
    | _json_values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(
        st.sampled_from(["ContactId", "ContactArn", "message", "Message", "code", "Code", "__type"]), _json_values
    ).map(lambda value: json.dumps(value).encode())
    | st.text().map(lambda text: text.encode("utf-16"))
)
_headers = st.dictionaries(
    st.sampled_from(["x-amzn-errortype", "x-amzn-requestid", "retry-after", "x-amz-retry-after"]) | st.text(),
    st.text() | st.sampled_from(sorted(_NAMES)) | st.integers().map(str),
)


@settings(deadline=None, max_examples=500)
@given(status=st.integers(min_value=100, max_value=999), headers=_headers, body=_bodies)
@example(status=200, headers={}, body=b'{"ContactId": "\\ud800"}')
@example(status=200, headers={}, body=b'{"ContactId": "c", "ContactArn": "\\udfff"}')
def test_anything_at_all_is_a_session_or_a_complete_failure(
    status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Random statuses, headers and bytes: a session that can be sent on, or a Failure with the keys of its row."""
    try:
        session = read_answer(Answer(status, headers, body))
    except Failure as failure:
        _assert_keys_of_the_row(failure)
        assert all(value.isascii() and value.isprintable() for value in failure.metadata.values())  # noqa: PT017 - both ends are right
        assert failure.retry_after_seconds is None or 0 <= failure.retry_after_seconds < 1e9  # noqa: PT017 - same
        return
    assert 200 <= status < 300
    assert 1 <= len(session.contact_id) <= 256
    assert (session.contact_id + session.contact_arn).encode()
    assert session.aws_request_id.isascii()


@pytest.mark.parametrize(
    ("log_text", "logged"),
    [
        ("connection refused", "connection refused"),
        ("HTTP 404 ResourceNotFoundException: contact-1 is not there", "HTTP 404 ResourceNotFoundException"),
        ("HTTP 500 : contact-1\nuser-1", "HTTP 500"),
        ("HTTP 400 user-1 contact-1: no", "HTTP 400"),
        (
            "HTTP 403 AccessDeniedException: User: a is not authorized to perform: connect:MonitorContact on u-1",
            "HTTP 403 AccessDeniedException is not authorized to perform: connect:MonitorContact",
        ),
    ],
)
def test_texts_of_aws_are_not_logged(log_text: str, logged: str) -> None:
    """They repeat whatever was asked; status, a name that is one, and IAM's missing action say enough."""
    assert loggable(log_text) == logged
