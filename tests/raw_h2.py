"""A small HTTP/2 client that sends what no gRPC library would: frame by frame, and only what it is told to.

Made of the parts of `h2`: its frames and its header compression, without its rules.
"""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final

import hpack
from google.rpc.status_pb2 import Status
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
)

METHOD: Final = "/monitor_contact.v1.MonitorContactService/MonitorContact"
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, 3.4
_FRAME_BYTES: Final = 16_384  # the largest that every peer accepts (RFC 9113, 4.2)
_GENEROUS_SECONDS: Final = 20.0  # a test that would hang for ever ends

Fields = Iterable[tuple[str | bytes, str | bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a stream ended: the server's header fields and trailers, or the error code of a reset or of the farewell."""

    fields: dict[str, str]
    error_code: int | None = None

    @property
    def grpc_status(self) -> int | None:
        """The number of the gRPC code; None if the transport ended the call."""
        return int(self.fields["grpc-status"]) if "grpc-status" in self.fields else None

    @property
    def status(self) -> Status:
        """The details; empty where gRPC itself has refused."""
        encoded = self.fields.get("grpc-status-details-bin", "")
        return Status.FromString(b64decode(encoded + "=" * (-len(encoded) % 4)))


class RawConnection:
    """One connection. What is sent stays in a buffer until `flush`, or until an answer is asked for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, acknowledges: bool) -> None:
        self._reader, self._writer = reader, writer
        self._acknowledges = acknowledges
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._blocks: dict[int, bytes] = {}
        self._fields: dict[int, dict[str, str]] = {}
        self._next_stream = 1
        writer.write(_PREFACE + SettingsFrame(0).serialize())

    def open(self, metadata: Fields = (), *, ends_headers: bool = True) -> int:
        """Begin a call and return its stream. Whether its header fields end: if not, CONTINUATION may go on."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        standard = [(":method", "POST"), (":scheme", "http"), (":path", METHOD), (":authority", "localhost")]
        fields = [*standard, ("content-type", "application/grpc"), ("te", "trailers"), *metadata]
        block = self._encoder.encode(fields, huffman=False)  # in Python a second for each megabyte
        pieces = [block[start : start + _FRAME_BYTES] for start in range(0, len(block), _FRAME_BYTES)]
        frames: Sequence[HeadersFrame | ContinuationFrame] = [
            HeadersFrame(stream, pieces[0]),
            *(ContinuationFrame(stream, piece) for piece in pieces[1:]),
        ]
        if ends_headers:
            frames[-1].flags.add("END_HEADERS")
        self.send(*frames)
        return stream

    def send(self, *frames: Frame) -> None:
        """Send frames as they are. Raises ConnectionError once the server has closed the connection."""
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(b"".join(frame.serialize() for frame in frames))

    def end(self, stream: int, message: bytes = b"") -> None:
        """Send the one message of a call, and that it was the last."""
        self.send(DataFrame(stream, b"\x00" + len(message).to_bytes(4, "big") + message, flags=["END_STREAM"]))

    def reset(self, stream: int) -> None:
        """Leave a call."""
        self.send(RstStreamFrame(stream, error_code=8))  # CANCEL

    async def call(self, metadata: Fields = (), message: bytes = b"") -> Answer:
        """Make a whole call and return how it ended."""
        stream = self.open(metadata)
        self.end(stream, message)
        return await self.answer(stream)

    async def flush(self) -> None:
        """Wait until the server takes more. Raises ConnectionError as `send` does."""
        await self._writer.drain()

    async def answer(self, stream: int) -> Answer:
        """Return how the stream has ended; a connection that just ends is an answer without anything."""
        async with asyncio.timeout(_GENEROUS_SECONDS):
            async for frame in self.frames():
                if isinstance(frame, GoAwayFrame) and frame.error_code:
                    return Answer({}, frame.error_code)
                if frame.stream_id != stream:
                    continue
                if isinstance(frame, RstStreamFrame):
                    return Answer(self._fields.pop(stream, {}), frame.error_code)
                if "END_STREAM" in frame.flags:
                    return Answer(self._fields.pop(stream, {}))
        return Answer({})

    def abort(self) -> None:
        """Close the connection without a word."""
        self._writer.transport.abort()

    async def ended(self) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(_GENEROUS_SECONDS):
            async for _ in self.frames():
                pass

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield what the server sends until it closes the connection; header fields are collected on the way."""
        try:
            while True:
                frame, length = Frame.parse_frame_header(memoryview(await self._reader.readexactly(9)))
                frame.parse_body(memoryview(await self._reader.readexactly(length)))
                if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags and self._acknowledges:
                    self.send(SettingsFrame(0, flags=["ACK"]))
                if isinstance(frame, HeadersFrame | ContinuationFrame):
                    self._collect(frame)
                yield frame
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    def _collect(self, frame: HeadersFrame | ContinuationFrame) -> None:
        block = self._blocks.pop(frame.stream_id, b"") + frame.data
        if "END_HEADERS" not in frame.flags:
            self._blocks[frame.stream_id] = block
            return
        found = self._fields.setdefault(frame.stream_id, {})
        # Raw: gRPC repeats a bad name in its answer as it came.
        found.update(
            (bytes(name).decode("latin-1"), bytes(value).decode("latin-1"))
            for name, value in self._decoder.decode(block, raw=True)
        )


@asynccontextmanager
async def connected(
    target: str, *, acknowledges: bool = True, tls: SSLContext | None = None
) -> AsyncIterator[RawConnection]:
    """Yield a connection to `host:port`.

    `acknowledges`: whether it answers SETTINGS; until then the server holds it to none of its limits.
    """
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
    connection = RawConnection(reader, writer, acknowledges=acknowledges)
    try:
        yield connection
    finally:
        connection.abort()
