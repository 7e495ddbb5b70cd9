"""How an exchange fails, told apart by what the other side may have done; each text names the first cause."""


class HttpError(Exception):
    """No answer."""


class NotConnectedError(HttpError):
    """Nothing was sent: name, connection, TLS or proxy failed, or not in time."""


class LostError(HttpError):
    """The request was sent, and no whole answer came: the connection ended, or the time."""


class NotHttpError(HttpError):
    """The request was sent, and what came is no HTTP answer."""


def said(error: BaseException) -> str:
    """Return class and text of an error."""
    return f"{type(error).__name__}: {error}"
