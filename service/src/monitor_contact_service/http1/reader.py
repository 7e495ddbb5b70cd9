"""Reads HTTP/1.1 answers from pieces of bytes: what of the protocol is not httptools' (llhttp in its strict mode)."""

from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from monitor_contact_service.core.wire import ANSWER_MAX_BYTES, Answer

from .errors import NotHttpError, said

# All that is not body: heads (interim ones too), chunk frames, trailers. An answer of Connect's has about 0.5 KiB of it
# (choice).
OVERHEAD_MAX_BYTES: Final = 32 * 1024

_SWITCHING_PROTOCOLS: Final = 101


class _UnaskedError(Exception):
    """A further answer, to which there was no request."""


class AnswerReader:
    """The answers of one connection, one after another; `start` comes before each.

    `reusable` is meaningful after a whole answer: True if another request may follow on the connection.

    Args:
        head_only: an answer ends after its head, as one to CONNECT does.
    """

    def __init__(self, *, head_only: bool = False) -> None:
        self._head_only = head_only
        # Kept for all answers: a parser for each would be a reference cycle for each.
        self._parser = HttpResponseParser(self)
        self.start()

    def start(self) -> None:
        """Expect the next answer."""
        self.reusable = False
        self._answer: Answer | None = None
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._received_bytes = 0

    def feed(self, data: bytes) -> Answer | None:
        """Read on; return the answer when it is whole, or longer than anybody wants to read.

        Raises:
            NotHttpError: it makes no sense.
        """
        self._received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.reusable = False
            if self._answer is None:
                raise NotHttpError(said(error)) from error
        if self._received_bytes - len(self._body) > OVERHEAD_MAX_BYTES:
            raise NotHttpError("more than 32 KiB beside the body")
        return self._answer

    def end(self) -> Answer | None:
        """Return the answer that is whole now that no more comes: one without length and chunks."""
        if self._status is not None and not self._has_framing():
            self._complete()
        return self._answer

    def _has_framing(self) -> bool:
        coding = self._headers.get("transfer-encoding", "").lower()
        return coding.endswith("chunked") or "content-length" in self._headers

    def _complete(self) -> None:
        if self._answer is None and self._status is not None:
            self._answer = Answer(self._status, self._headers, bytes(self._body[: ANSWER_MAX_BYTES + 1]))

    # ---- Called by the parser ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Stop at the first byte that follows a whole answer."""
        if self._answer is not None:
            raise _UnaskedError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; the last one of a name counts. Trailers do not: they come too late to be trusted."""
        if self._status is None:
            self._headers[name.lower().decode("latin-1")] = value.decode("latin-1").rstrip(" \t")

    def on_headers_complete(self) -> None:
        """Know the status, unless the answer is an interim one (1xx but 101): another one follows."""
        status = self._parser.get_status_code()
        if status // 100 == 1 and status != _SWITCHING_PROTOCOLS:
            self._headers = {}
            return
        self._status = status
        if self._head_only:
            self.reusable = True
            self._complete()

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body; one byte above the limit is the end."""
        self._body += data
        if self._answer is not None:  # after the head that was all of it
            self.reusable = False
        elif len(self._body) > ANSWER_MAX_BYTES:
            self._complete()

    def on_message_complete(self) -> None:
        """Be whole, unless it was an interim answer, or over the limit before."""
        if self._answer is None and self._status is not None:
            self.reusable = self._parser.should_keep_alive() and self._status != _SWITCHING_PROTOCOLS
            self._complete()
