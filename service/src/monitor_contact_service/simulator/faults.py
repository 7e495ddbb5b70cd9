"""Faults on demand: what can go wrong with a call, how a fault is written down, and which call it strikes.

Decides; it does nothing on a socket (`delivery`) and checks no call (`standin`). A fault says for which API, how often
and what happens; the first fault of the list that applies to a call strikes it, and only that one.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from .answers import (
    ERROR_FORMS,
    JSON,
    MESSAGE_KEYS,
    STATUS_BY_ERROR,
    Answer,
    ErrorForm,
    MessageKey,
    Refusal,
    encode,
    text_of,
)
from .standin import APIS, MONITOR_CONTACT

ANY_API = "*"
PLAUSIBLE = {
    "ContactId": "60000000-0000-4000-8000-000000000001",
    "ContactArn": "arn:aws:connect:us-east-1:123456789012:instance/10000000-0000-4000-8000-000000000001/contact/"
    "60000000-0000-4000-8000-000000000001",
}

Action = Literal["delay", "skew", "error", "garbage", "answer", "redirect", "hang", "close", "reset", "truncate"]
"""delay: a right answer, late. skew: a right answer by a clock that is `skew_seconds` ahead. error: a Connect error in
one of its forms. garbage: a body that makes no sense. answer: exactly this status, these headers, this body. redirect:
a 307 to the same place. hang: no answer at all. close, reset: the connection ends (FIN, RST) instead of an answer.
truncate: the right answer, cut short."""
ACTIONS: tuple[Action, ...] = get_args(Action)
UNANSWERED: frozenset[Action] = frozenset({"hang", "close", "reset", "truncate"})  # the caller gets no whole answer
_ALWAYS_ACTS: frozenset[Action] = frozenset({"delay", "skew", "truncate"})
# Fields that some actions use; every other field comes with any.
_USED_BY: Mapping[str, tuple[Action, ...]] = {
    "error": ("error",),
    "message": ("error",),
    "form": ("error",),
    "message_key": ("error",),
    "garbage": ("garbage",),
    "status": ("error", "garbage", "answer", "redirect"),
    "body": ("answer",),
    "skew_seconds": ("skew",),
}

GARBAGE: Mapping[str, tuple[str, bytes]] = {  # kind: (content type, body)
    "html": ("text/html", b"<html><body><h1>Service Unavailable</h1></body></html>"),
    "empty": (JSON, b""),
    "not-json": (JSON, b'{"ContactId": '),
    "unknown-json": (JSON, b'{"Unexpected": {"nested": [1, 2, 3]}}'),
    "json-list": (JSON, b'["ContactId", "ContactArn"]'),
    "json-string": (JSON, b'"ContactId"'),
    "oversize": (JSON, b'{"ContactId": "' + b"x" * (1024 * 1024) + b'"}'),
    "wrong-content-type": ("text/plain", json.dumps(PLAUSIBLE).encode()),
    "no-contact-id": (JSON, b"{}"),
    "lower-case-contact-id": (JSON, json.dumps({"contactId": PLAUSIBLE["ContactId"]}).encode()),
    "null-contact-id": (JSON, b'{"ContactId": null, "ContactArn": null}'),
    "number-contact-id": (JSON, b'{"ContactId": 5}'),
    "empty-contact-id": (JSON, b'{"ContactId": "", "ContactArn": ""}'),
}


class FaultError(ValueError):
    """A fault that makes no sense; the text says why and what would."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. A field that its action does not use must be left alone; one that it needs is told.

    api: one of the six, or "*". after: how many calls of the API it lets pass first. times: how many it strikes, None
    for every one. probability: for each call, of those it would strike. act_first: the call takes effect before it goes
    wrong; otherwise nothing happens at Connect, not even a check. delay_seconds comes with any action.
    """

    action: Action
    api: str = MONITOR_CONTACT
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    act_first: bool = False
    delay_seconds: float = 0.0
    skew_seconds: float = 0.0
    error: str | None = None
    status: int | None = None
    message: str | None = None
    form: ErrorForm = "header"
    message_key: MessageKey = "Message"
    garbage: str = "html"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def __post_init__(self) -> None:
        for wrong, reason in (
            (self.action not in ACTIONS, f"action must be one of {', '.join(ACTIONS)}"),
            (self.api not in {*APIS, ANY_API}, f"api must be one of {', '.join(APIS)} or {ANY_API}"),
            (self.form not in ERROR_FORMS, f"form must be one of {', '.join(ERROR_FORMS)}"),
            (self.message_key not in MESSAGE_KEYS, f"message_key must be one of {', '.join(MESSAGE_KEYS)}"),
            (self.garbage not in GARBAGE, f"garbage must be one of {', '.join(GARBAGE)}"),
            (not 0 <= self.probability <= 1, "probability must be from 0 to 1"),
            (self.times is not None and self.times < 1, "times must be at least 1"),
            (not (self.after >= 0 and self.delay_seconds >= 0), "after and delay_seconds cannot be negative"),
            (self.status is not None and not 200 <= self.status <= 599, "status must be from 200 to 599"),  # noqa: PLR2004 - HTTP's final answers
            (_breaks_lines(self.headers), "headers cannot hold line breaks"),
            (self.action == "error" and not (self.error or self.status), 'the action "error" needs error or status'),
            (self.action == "delay" and not self.delay_seconds, 'the action "delay" needs delay_seconds above 0'),
            (self.action == "skew" and not self.skew_seconds, 'the action "skew" needs skew_seconds other than 0'),
        ):
            if wrong:
                raise FaultError(reason)
        _check_use(self.action, (each.name for each in fields(self) if getattr(self, each.name) != each.default))
        if self.error is not None and self.status is None and self.error not in STATUS_BY_ERROR:
            raise FaultError(f"{self.error} is no error of Connect; give its status too")

    @property
    def acts(self) -> bool:
        """Whether the call is checked and takes effect, as without the fault."""
        return self.act_first or self.action in _ALWAYS_ACTS

    def spoil(self, target: str, right: Answer | None) -> Answer:
        """Return the answer to send instead of the right one; `right` is None unless the call was acted upon."""
        match self.action:
            case "error":
                answer = self._error()
            case "garbage":
                content_type, body = GARBAGE[self.garbage]
                answer = Answer(self.status or 200, {"Content-Type": content_type}, body)
            case "answer":
                answer = Answer(self.status or 200, {}, self.body)
            case "redirect":
                answer = Answer(self.status or 307, {"Location": target}, b"")
            case _:
                answer = right or Answer(200, {}, b"")
        return Answer(answer.status, {**answer.headers, **self.headers}, answer.body)

    def _error(self) -> Answer:
        status = self.status or STATUS_BY_ERROR[self.error or ""]
        if not self.error:
            return encode(Refusal("", status, ""), "bare")
        message = text_of(self.error) if self.message is None else self.message
        return encode(Refusal(self.error, status, message), self.form, self.message_key)


def _check_use(action: Action, names: Iterable[str]) -> None:
    for name in names:
        users = _USED_BY.get(name, ACTIONS)
        if action not in users:
            wanted = " or ".join(f'"{user}"' for user in users)
            raise FaultError(f"{name} needs the action {wanted}")


def _breaks_lines(headers: Mapping[str, str]) -> bool:
    return any(mark in text for pair in headers.items() for text in pair for mark in "\r\n\0")


class FaultBook:
    """The faults in force, in order, and how often each has met and struck a call. `draw` gives numbers in [0, 1)."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._entries: list[FaultEntry] = []

    def __iter__(self) -> Iterator["FaultEntry"]:
        return iter(self._entries)

    def add(self, faults: Iterable[Fault]) -> None:
        """Put faults behind those in force."""
        self._entries.extend(FaultEntry(fault) for fault in faults)

    def clear(self) -> None:
        """Take all faults away."""
        self._entries.clear()

    def strike(self, api: str) -> Fault | None:
        """Return the fault that strikes this call, and count it. Every fault for the API sees the call."""
        struck = None
        for entry in self._entries:
            if entry.fault.api in {api, ANY_API} and entry.meet() and struck is None and entry.applies(self._draw):
                struck = entry.fault
        return struck


@dataclass(slots=True)
class FaultEntry:
    """A fault in force, with how many calls of its API it has met and how many it has struck."""

    fault: Fault
    met: int = 0
    struck: int = 0

    def meet(self) -> bool:
        """Count a call of the API. False: it is one of those to let pass."""
        self.met += 1
        return self.met > self.fault.after

    def applies(self, draw: Callable[[], float]) -> bool:
        """Say whether the fault strikes the call, and count it if so."""
        if self.fault.times is not None and self.struck >= self.fault.times:
            return False
        if self.fault.probability < 1 and draw() >= self.fault.probability:
            return False
        self.struck += 1
        return True


_TYPES: Mapping[str, tuple[type, ...]] = {
    "times": (int, type(None)),
    "after": (int,),
    "probability": (int, float),
    "act_first": (bool,),
    "delay_seconds": (int, float),
    "skew_seconds": (int, float),
    "status": (int,),
    "headers": (dict,),
}


def parse_faults(document: object) -> list[Fault]:
    """Read faults from JSON: one object or a list of them, with the fields of `Fault`; `body` or `body_base64`.

    FaultError: something is not as it should be; the text says in which fault of the list.
    """
    if not isinstance(document, list) and not (isinstance(document, dict) and document):
        raise FaultError('faults must be a list of objects, each with an action, e.g. [{"action": "hang"}]')
    listed = document if isinstance(document, list) else [document]
    faults = []
    for number, item in enumerate(listed, start=1):
        try:
            faults.append(_parse(item))
        except FaultError as error:
            raise FaultError(f"fault {number}: {error}") from error
    return faults


def _parse(item: object) -> Fault:
    if not isinstance(item, dict) or "action" not in item:
        raise FaultError('must be an object with an action, e.g. {"action": "hang"}')
    known = [*(name.name for name in fields(Fault)), "body_base64"]
    for key, value in item.items():
        if key not in known:
            raise FaultError(f"unknown key {key!r}; there are {', '.join(known)}")
        types = _TYPES.get(key, (str,))
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise FaultError(f"{key} cannot be {value!r}")
    given: dict[str, Any] = dict(item)
    if "body" in given:
        given["body"] = given["body"].encode()
    if "body_base64" in given:
        given["body"] = _decode(given.pop("body_base64"))
    if not all(isinstance(value, str) for value in given.get("headers", {}).values()):
        raise FaultError("headers must be texts")
    fault = Fault(**given)
    _check_use(fault.action, given)  # here even a default can be told from a field that was left alone
    return fault


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise FaultError(f"body_base64 is not base64: {error}") from error
