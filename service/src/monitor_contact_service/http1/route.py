"""The way to one endpoint: opens a connection to it, directly or through a proxy, encrypted or not."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from http import HTTPStatus
from socket import SOCK_STREAM
from types import MappingProxyType
from typing import Final, cast
from urllib.parse import SplitResult, unquote, urlsplit

from aiohappyeyeballs import start_connection

from .connection import Connection
from .errors import HttpError, NotConnectedError, said
from .pool import CONNECT_TIMEOUT_SECONDS

# RFC 8305's: how long one address may take before the next one is tried beside it.
_HAPPY_EYEBALLS_DELAY_SECONDS: Final = 0.25
_PORTS: Final[Mapping[str, int]] = MappingProxyType({"http": 80, "https": 443})


class Route:
    """How to reach an endpoint.

    What requests on its connections say: `host` as their Host header, `form` before the path, `headers` to a proxy.

    Args:
        url: whose scheme, host and port are the endpoint's.
        proxy: the URL of one, with user and password where it wants them, or None.
        tls: what to trust; called if there is TLS.

    Raises:
        ValueError: a URL that is neither http nor https, or without a host.
    """

    def __init__(self, url: str, *, proxy: str | None, tls: Callable[[], ssl.SSLContext]) -> None:
        self._target = _parsed(url)
        self._proxy = _parsed(proxy) if proxy is not None else None
        schemes = {parts.scheme for parts in (self._target, self._proxy) if parts is not None}
        self._tls = tls() if "https" in schemes else None
        self.host = _host(self._target)
        self.form = ""
        self.headers: Mapping[str, str] = {}
        if self._proxy is not None and self._target.scheme == "http":
            self.form = f"http://{self.host}"
            self.headers = _authorization(self._proxy)

    async def open(self) -> Connection:
        """Return a connection that requests to the endpoint may be sent on.

        Raises:
            NotConnectedError: there is none.
        """
        try:
            if self._proxy is None:
                return await self._dial(self._target, Connection())
            if self._target.scheme == "http":
                return await self._dial(self._proxy, Connection())
            return await self._tunnel(self._proxy)
        # UnicodeError: a host that is no DNS name. RuntimeError: uvloop's for an OSError (aiohappyeyeballs, issue 93).
        except (OSError, UnicodeError, RuntimeError, HttpError) as error:
            raise NotConnectedError(f"{(self._proxy or self._target).hostname}: {said(error)}") from error

    async def _dial(self, where: SplitResult, connection: Connection) -> Connection:
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(where.hostname, _port(where), type=SOCK_STREAM)
        # Not the loop's own: uvloop has none, and would try one address after another.
        socket = await start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY_SECONDS)
        tls, name = (self._tls, where.hostname) if where.scheme == "https" else (None, None)
        try:
            await loop.create_connection(lambda: connection, sock=socket, ssl=tls, server_hostname=name)
        except BaseException:
            socket.close()
            raise
        return connection

    async def _tunnel(self, proxy: SplitResult) -> Connection:
        outer = await self._dial(proxy, Connection(head_only=True))
        connection = Connection()
        try:
            answer = await outer.exchange(self._connect_request(proxy), CONNECT_TIMEOUT_SECONDS)
            _require_success(answer.status)
            await outer.start_tls(connection, cast("ssl.SSLContext", self._tls), self._target.hostname or "")
        except BaseException:
            outer.close()
            raise
        return connection

    def _connect_request(self, proxy: SplitResult) -> bytes:
        authority = f"{_bracketed(self._target)}:{_port(self._target)}"
        headers = {"Host": authority, **_authorization(proxy)}
        lines = [f"CONNECT {authority} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _require_success(status: int) -> None:
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise NotConnectedError(f"the proxy answers CONNECT with {status}")


def _parsed(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{parts.scheme}://{parts.hostname}: neither http:// nor https:// with a host")
    return parts


def _port(url: SplitResult) -> int:
    return url.port or _PORTS[url.scheme]


def _bracketed(url: SplitResult) -> str:
    return f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""


def _host(url: SplitResult) -> str:
    """Return what botocore signs as the Host header."""
    return _bracketed(url) if _port(url) == _PORTS[url.scheme] else f"{_bracketed(url)}:{url.port}"


def _authorization(proxy: SplitResult) -> Mapping[str, str]:
    if proxy.username is None:
        return {}
    credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}
