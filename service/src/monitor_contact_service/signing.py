"""Signs one request with botocore's SigV4, the day's signing key cached. Leaves sending and answers to `connect`."""

import hmac
from dataclasses import dataclass, field
from typing import cast

from botocore.auth import SIGNED_HEADERS_BLACKLIST, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import ReadOnlyCredentials


class DayKeySigner(SigV4Auth):
    """botocore's SigV4Auth with four HMACs less per call: its signing key changes with day and credentials only.

    The date comes from the request's own timestamp, so the scope and `x-amz-date` are one reading of the clock.
    """

    def __init__(self, credentials: ReadOnlyCredentials, service_name: str, region_name: str) -> None:
        super().__init__(credentials, service_name, region_name)
        self.signed_with = credentials
        self._scope = (region_name, service_name, "aws4_request")
        self._day_key: tuple[str, bytes] = ("", b"")
        self._host: tuple[str | None, str] = (None, "")

    def sign(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """Add botocore's headers (date, token, signature) to those of a POST. Each name must occur once."""
        # AWSRequest carries e-mail messages as headers and prepares the request a second time: a third of the CPU time.
        self.add_auth(cast("AWSRequest", _Post(url, headers, body)))

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        """Return botocore's choice; it would make an e-mail message of them, and parse the URL each time."""
        if self._host[0] != request.url:
            self._host = (request.url, super().headers_to_sign(request)["host"])
        headers = _Headers()
        for name, value in request.headers.items():
            if (lower := name.lower()) not in SIGNED_HEADERS_BLACKLIST:
                headers[lower] = value
        headers.setdefault("host", self._host[1])
        return cast("HTTPHeaders", headers)

    def signature(self, string_to_sign: str, request: AWSRequest) -> str:
        """Return the hexadecimal signature."""
        day = request.context["timestamp"][:8]
        if self._day_key[0] != day:
            self._day_key = (day, self._derive(day))
        return hmac.new(self._day_key[1], string_to_sign.encode(), "sha256").hexdigest()

    def _derive(self, day: str) -> bytes:
        key = f"AWS4{self.signed_with.secret_key}".encode()
        for part in (day, *self._scope):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


@dataclass(slots=True)
class _Post:
    """What SigV4Auth reads of an AWSRequest, and writes to: `headers` and `context`."""

    url: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"
    params: tuple[()] = ()
    context: dict[str, str] = field(default_factory=dict)


class _Headers(dict[str, str]):
    """What SigV4Auth reads of a header map; names are in lower case."""

    def get_all(self, name: str) -> list[str]:
        """Return all values of a header: the one that it has."""
        return [self[name]]
