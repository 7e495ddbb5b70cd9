"""What arguments must be before anything else is asked of them: text that UTF-8 can carry, seconds that gRPC can count.

Every error names the parameter; none shows a value that may be secret or long.
"""

MAX_TIMEOUT_SECONDS = 1_000_000.0  # choice: eleven days; from 9e9 s on gRPC ends the call at once (measured)


def checked_text(name: str, value: object) -> str:
    """Return the value as text. TypeError: it is no str. ValueError: it holds half a surrogate pair."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text that UTF-8 can carry; it has a lone surrogate") from None
    return value


def checked_timeout(timeout_seconds: object) -> float:
    """Return the timeout in seconds. TypeError: no number. ValueError: not above 0, or more than gRPC can count."""
    if not isinstance(timeout_seconds, int | float):
        raise TypeError(f"timeout_seconds must be a number of seconds, not {type(timeout_seconds).__name__}")
    if not 0 < timeout_seconds <= MAX_TIMEOUT_SECONDS:  # said so that NaN is refused too
        raise ValueError(f"timeout_seconds must be above 0 and at most {MAX_TIMEOUT_SECONDS:,.0f}")
    return timeout_seconds
