"""Random requests, the same for the same seed: from nearly right to plain noise, up to the largest that is accepted."""

import random
from collections.abc import Callable, Iterator, Sequence

from e2e.answers import valid
from monitor_contact.v1.monitor_contact_pb2 import MonitorContactRequest

LARGEST_BYTES = 16_384  # the service's grpc.max_receive_message_length
_CHARACTERS: Sequence[str] = (
    "a",
    "Z",
    "0",
    "-",
    ".",
    "/",
    "%",
    " ",
    '"',
    "\\",
    "é",
    "ß",
    "漢",
    "😀",
    "\u202e",
    "\ufeff",
)
_CONTROL: Sequence[str] = ("\x00", "\x07", "\n", "\r", "\x1b", "\x7f", "\x85")
# Around every limit of the contract, and far beyond.
_LENGTHS: Sequence[int] = (0, 1, 2, 99, 100, 101, 255, 256, 257, 499, 500, 501, 1_000, 3_500)
# proto3 enums are open: any 32-bit number arrives.
_NUMBERS: Sequence[int] = (0, 1, 2, 3, -1, 7, 127, 2**31 - 1, -(2**31))


def random_messages(count: int, seed: int) -> Iterator[bytes]:
    """Yield serialized messages, most of which no caller should send."""
    draw = random.Random(seed)  # noqa: S311 - repeatable on purpose
    kinds: Sequence[Callable[[random.Random], bytes]] = (_odd_fields, _odd_fields, _flipped, _cut, _noise, _repeated)
    for _ in range(count):
        yield draw.choice(kinds)(draw)[:LARGEST_BYTES]


def _odd_fields(draw: random.Random) -> bytes:
    """A valid request with some of its fields replaced."""
    request = valid()
    for name in ("instance_id", "contact_id", "user_id", "client_token"):
        if draw.random() < 0.3:
            setattr(request, name, _text(draw))
    for _ in range(draw.choice((0, 0, 1, 1, 2, 3, 40))):
        number = draw.choice(_NUMBERS) if draw.random() < 0.5 else draw.randint(-(2**31), 2**31 - 1)
        request.allowed_monitor_capabilities.append(number)  # type: ignore[arg-type]  # unknown on purpose
    return request.SerializeToString()


def _text(draw: random.Random) -> str:
    alphabet = [*_CHARACTERS, *_CONTROL] if draw.random() < 0.2 else _CHARACTERS
    length = draw.choice(_LENGTHS)
    return draw.choice((".", "..", "".join(draw.choices(alphabet, k=length)), "x" * length))


def _flipped(draw: random.Random) -> bytes:
    """A valid message in which a few bits are turned over."""
    message = bytearray(valid().SerializeToString())
    for _ in range(draw.randint(1, 8)):
        message[draw.randrange(len(message))] ^= 1 << draw.randrange(8)
    return bytes(message)


def _cut(draw: random.Random) -> bytes:
    """A valid message that ends too early, or goes on with noise."""
    message = valid().SerializeToString()
    return message[: draw.randrange(len(message))] + draw.randbytes(draw.choice((0, 0, 5)))


def _noise(draw: random.Random) -> bytes:
    return draw.randbytes(draw.choice((0, 1, 2, 10, 100, 1_000, LARGEST_BYTES)))


def _repeated(draw: random.Random) -> bytes:
    """Fields that come again and again, fields that nobody knows, and thousands of capabilities."""
    known = valid().SerializeToString()
    unknown = b"\x7a\x03abc" * draw.randint(0, 500)  # field 15, three bytes
    both = ("MONITOR_CAPABILITY_SILENT_MONITOR", "MONITOR_CAPABILITY_BARGE")
    numbers = MonitorContactRequest(allowed_monitor_capabilities=both * draw.choice((0, 1, 2, 3_000)))
    parts = [known, unknown, numbers.SerializeToString()]
    draw.shuffle(parts)
    return b"".join(parts)
