"""ClientToken idempotency: what a token that was seen before is answered.

Decides check 5 of docs/simulator.md. A lifetime of 7 days and the answer to other parameters are choices: AWS
documents neither for MonitorContact (connect.md 5).
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from .answers import TOKEN_IN_FLIGHT, TOKEN_REUSED, Answer, Refusal

Parameters = TypeVar("Parameters")


@dataclass(slots=True)
class _Entry(Generic[Parameters]):
    parameters: Parameters
    expires_at: float
    answer: Answer | None = None  # None: the first call is still in flight


class TokenBook(Generic[Parameters]):
    """The tokens of one account. What makes two requests the same is the equality of their parameters."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry[Parameters]] = {}

    def recall(self, token: str, parameters: Parameters, now: float) -> Answer | Refusal | None:
        """Answer a known token: the same 200, or one of two 409s. None: the token is new, or forgotten."""
        entry = self._entries.get(token)
        if entry is None or entry.expires_at <= now:
            return None
        if entry.answer is None:
            return TOKEN_IN_FLIGHT
        return entry.answer if entry.parameters == parameters else TOKEN_REUSED

    def begin(self, token: str, parameters: Parameters, now: float, lifetime_seconds: float) -> None:
        """Hold a new token while its call is in flight."""
        self._drop_expired(now)
        self._entries[token] = _Entry(parameters, now + lifetime_seconds)

    def keep(self, token: str, answer: Answer) -> None:
        """Remember what the token's call was answered, for as long as the token lives."""
        if token in self._entries:
            self._entries[token].answer = answer

    def forget(self, token: str) -> None:
        """Forget a token whose call was refused: the next call with it is a new one."""
        self._entries.pop(token, None)

    def _drop_expired(self, now: float) -> None:
        # Dictionaries keep insertion order and lifetimes are equal, so the expired ones stand in front.
        while self._entries:
            oldest = next(iter(self._entries))
            if self._entries[oldest].expires_at > now:
                return
            del self._entries[oldest]
