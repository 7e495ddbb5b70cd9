"""Makes the bytes of requests to one endpoint, and has them exchanged for answers."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from monitor_contact_service.core.wire import Answer

from .route import Route

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class HttpClient:
    """Asks one endpoint.

    Args:
        url: what the path of each request is put after.
        route: the way there.
        user_agent: the header of that name.
        exchange: sends the bytes of a request and returns the answer within some seconds: `Pool.exchange`.
    """

    def __init__(
        self, url: str, *, route: Route, user_agent: str, exchange: Callable[[bytes, float], Awaitable[Answer]]
    ) -> None:
        self._exchange = exchange
        self._prefix = route.form + urlsplit(url).path
        headers = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity", **route.headers}
        self._common = f" HTTP/1.1\r\nHost: {route.host}\r\n{_lines(headers)}"

    async def post(self, path: str, *, headers: Mapping[str, str], body: bytes, timeout_seconds: float) -> Answer:
        """Return the answer to a POST, whatever its status.

        Raises:
            HttpError: there is none.
            ValueError: a header with a line break; nothing was sent.
        """
        head = f"POST {self._prefix}{path}{self._common}{_lines(headers)}Content-Length: {len(body)}\r\n\r\n"
        return await self._exchange(head.encode() + body, timeout_seconds)

    async def get(self, path: str, *, headers: Mapping[str, str] = _NONE, timeout_seconds: float) -> Answer:
        """Return the answer to a GET, whatever its status.

        Raises:
            HttpError: there is none.
            ValueError: a header with a line break; nothing was sent.
        """
        head = f"GET {self._prefix}{path}{self._common}{_lines(headers)}\r\n"
        return await self._exchange(head.encode(), timeout_seconds)


def _lines(headers: Mapping[str, str]) -> str:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\r") != len(headers) or lines.count("\n") != len(headers):
        raise ValueError("a header with a line break")
    return lines
