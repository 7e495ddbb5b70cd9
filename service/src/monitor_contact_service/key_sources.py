"""Reads one JSON Web Key Set as it stands in a file or at a URL. Blocks: call it in a thread, but for a file at start.

What the document says is the matter of `jwks`, when to read it again that of `keys`.
"""

import ssl
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from .address import Address

# Both are choices.
TIMEOUT_SECONDS: Final = 5.0
# A key has half a kilobyte.
DOCUMENT_MAX_BYTES: Final = 262_144
_CHUNK_BYTES: Final = 65_536


class Source(NamedTuple):
    """Where a key set is: a path or a URL, and what its server is reached with.

    Attributes:
        location: the path or URL.
        ca_file: of the CAs that the server is trusted by; "" for public ones.
        token_file: of the token that the server wants to see, as Kubernetes does; "" for none.
    """

    location: str
    ca_file: str = ""
    token_file: str = ""

    @property
    def is_url(self) -> bool:
        """Whether it is fetched over the network."""
        return "://" in self.location

    def problems(self) -> Iterator[str]:
        """Yield what makes it unusable whatever may be there, each beginning with the access file's key."""
        if not self.is_url:
            return
        if not _is_safe(self.location):
            yield "keys: must be a path or an https URL without a user, http on loopback only"
        if self.token_file and not self.location.startswith("https:"):
            yield "keys_token_file: must not be set for a URL that is not https"
        if self.ca_file:
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:
                yield f"keys_ca_file: {self.ca_file}: {error.strerror or error}; must be a readable PEM file of CAs"


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    secure = parts.scheme == "https" or (parts.scheme == "http" and Address(host, 0).is_loopback)
    return secure and bool(host) and "@" not in parts.netloc


class Document(NamedTuple):
    """What was read; `etag` is "" without one."""

    content: bytes
    etag: str = ""


class UnreadableError(Exception):
    """The source cannot be read; the message says why."""


def read(source: Source, etag: str = "", *, timeout_seconds: float = TIMEOUT_SECONDS) -> Document | None:
    """Return what is there now, or None if it is still what had this ETag.

    `timeout_seconds` bounds each wait for the network, and the whole body.

    Raises:
        UnreadableError: there is nothing, too much, or nobody answers.
    """
    try:
        document = _fetch(source, etag, timeout_seconds) if source.is_url else Document(_file(source.location))
    except URLError as error:
        raise UnreadableError(str(error.reason)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise UnreadableError(getattr(error, "strerror", None) or f"{type(error).__name__}: {error}") from error
    if document is not None and len(document.content) > DOCUMENT_MAX_BYTES:
        raise UnreadableError(f"larger than {DOCUMENT_MAX_BYTES} bytes")
    return document


def _file(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(DOCUMENT_MAX_BYTES + 1)


def _fetch(source: Source, etag: str, timeout_seconds: float) -> Document | None:
    headers = {"Accept": "application/jwk-set+json, application/json", "User-Agent": "monitor-contact"}
    if etag:
        headers["If-None-Match"] = etag
    if source.token_file:  # read anew each time: Kubernetes replaces it
        headers["Authorization"] = f"Bearer {Path(source.token_file).read_text('ascii').strip()}"
    request = Request(source.location, headers=headers)  # noqa: S310 - http(s) only: see Source.problems
    try:
        with _opener(source).open(request, timeout=timeout_seconds) as response:
            return Document(_body(response, timeout_seconds), response.headers.get("ETag", ""))
    except HTTPError as error:
        error.close()
        if error.code == HTTPStatus.NOT_MODIFIED and etag:
            return None
        raise UnreadableError(f"HTTP {error.code}") from error


def _body(response: HTTPResponse, timeout_seconds: float) -> bytes:
    deadline = time.monotonic() + timeout_seconds
    body = b""
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > DOCUMENT_MAX_BYTES:
            break
        if time.monotonic() > deadline:
            raise UnreadableError("too slow")
    return body


class _NoRedirects(HTTPRedirectHandler):
    """Takes a redirect for a failure: where keys come from is what the operator wrote, not what a server says."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _opener(source: Source) -> OpenerDirector:
    if not source.location.startswith("https:"):
        return build_opener(ProxyHandler({}), _NoRedirects())  # loopback is not behind a proxy
    # Made anew each time, so that a changed CA file is followed.
    context = ssl.create_default_context(cafile=source.ca_file or None)
    return build_opener(HTTPSHandler(context=context), _NoRedirects())
