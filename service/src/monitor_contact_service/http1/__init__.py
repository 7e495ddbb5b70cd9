"""A small HTTP/1.1 client for one endpoint: kept connections, exact time-outs, nothing done unasked.

It follows no redirect, repeats nothing, keeps no cookie, unpacks nothing and reads no environment. What an answer means
is not known here. Ways in: `HttpClient` asks, over a `Pool` of connections that a `Route` opens; failures are
`HttpError`s by what may have happened.
"""

from .client import HttpClient
from .errors import HttpError, LostError, NotConnectedError, NotHttpError
from .pool import Pool
from .route import Route

__all__ = ["HttpClient", "HttpError", "LostError", "NotConnectedError", "NotHttpError", "Pool", "Route"]
