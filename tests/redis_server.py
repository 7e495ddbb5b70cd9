"""A real redis-server for tests: on a free port of loopback, without persistence, signalled by its process id."""

import random
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from certificates import Leaf

_HOST = "127.0.0.1"


class RedisServer:
    """The server's process; a context manager that leaves nothing behind. It keeps its port over restarts.

    Args:
        program: path of the executable (redis-server or valkey-server).
        tls: certificate and key; it then listens on `tls_port` too.
        password: of everybody; "" for none.
    """

    def __init__(self, program: str, *, tls: Leaf | None = None, password: str = "") -> None:
        self._program = program
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self._process: subprocess.Popen[str] | None = None
        self.port, self.tls_port = _free_port(), _free_port()
        self._tls = tls
        self._password = password

    @property
    def url(self) -> str:
        """Where it is, e.g. `redis://127.0.0.1:23456/0`."""
        return f"redis://{_HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, and return once it accepts connections."""
        # Not stdout: nobody reads that later, and a full pipe would stop the server.
        log = Path(self._folder.name) / "log"
        log.unlink(missing_ok=True)
        options = {"port": self.port, "bind": _HOST, "save": "", "appendonly": "no", "dir": self._folder.name}
        options |= self._security()
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with log.open("w") as output:
            self._process = subprocess.Popen([self._program, *arguments], stdout=output, stderr=output, text=True)
        while not self._answers():
            assert self._process.poll() is None, f"redis-server ended: {log.read_text()}"

    def _security(self) -> dict[str, str | int]:
        options: dict[str, str | int] = {}
        if self._password:
            options["requirepass"] = self._password
        if self._tls is not None:
            certificate, key = self._tls.write(Path(self._folder.name))
            options |= {"tls-port": self.tls_port, "tls-cert-file": str(certificate), "tls-key-file": str(key)}
            options["tls-auth-clients"] = "no"
        return options

    def freeze(self) -> None:
        """Let it answer nothing, with its connections open (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """End `freeze`."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, frozen or not; `start` starts it again, with nothing remembered."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((_HOST, self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        return False


def _free_port() -> int:
    """Return a port that nobody listens on, below those that outgoing connections get (Linux: 32768)."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((_HOST, port))
            return port
    raise AssertionError("no free port between 20000 and 32000")
