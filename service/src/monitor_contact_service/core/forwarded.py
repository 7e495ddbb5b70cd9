"""Reads whom a proxy says it speaks for: one element of Envoy's `x-forwarded-client-cert`.

Whether the proxy may be believed is decided by its own TLS identity before (`authentication`), whether the identity
that it names is accepted by `identity`.
"""

import re
from typing import Final

from .identity import unauthenticated

# Envoy's documentation of the header: elements divided by commas, pairs by semicolons, keys in any case; a value with
# one of , ; = stands in double quotes, and a double quote in it has a backslash before it. The Subject is in RFC 2253
# form, so there every backslash escapes what follows. Each alternative begins differently: the time is linear.
_PAIR: Final = r'([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;=\\]*))'
_ELEMENT: Final = re.compile(rf"{_PAIR}(?:;{_PAIR})*")


def forwarded_uri(header: str) -> str:
    """Return the value of the one `URI` of the one element, as it stands there: whoever takes it checks its grammar.

    One element only: with more, earlier ones came from somebody else than the proxy. One URI only: with several, as
    with those that old Envoys let a DNS SAN smuggle in, nobody knows which is meant.

    Raises:
        Failure: UNAUTHENTICATED: no such element, more than one element, or not exactly one URI.
    """
    if _ELEMENT.fullmatch(header) is None:
        raise unauthenticated("forwarded certificate is not exactly one well-formed element")
    uris = [pair for pair in re.finditer(_PAIR, header) if pair[1].lower() == "uri"]
    if len(uris) != 1:
        raise unauthenticated("forwarded certificate has not exactly one URI")
    return uris[0][2] or uris[0][3] or ""
