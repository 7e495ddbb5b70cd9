"""A real PostgreSQL for tests: on a free port of loopback, in a temporary folder, signalled by process ids."""

import os
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import psycopg

_HOST: Final = "127.0.0.1"
_SUPERUSER: Final = "super"
_PASSWORD: Final = "super-secret"
# Debian keeps the server's programs out of PATH.
_DEBIAN: Final = "/usr/lib/postgresql"
# As root the server refuses to run; Debian's package makes the first account, every system has the second.
_ACCOUNTS: Final = ("postgres", "nobody")


class _Account(NamedTuple):
    """As whom the server runs, as subprocess wants it; all None for the account of the tests."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


def find_postgres(require_tool: Callable[[str, str], str], unchecked: str) -> str:
    """Return the path of the newest server of this machine; skips as `require_tool` does."""
    versions = sorted(Path(_DEBIAN).glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    return str(versions[-1]) if versions else require_tool("postgres", unchecked)


class PostgresServer:
    """The server's processes; a context manager that leaves nothing behind. Keeps port and data over restarts.

    Args:
        program: path of `postgres`; `initdb` stands beside it.
    """

    def __init__(self, program: str) -> None:
        self._program = Path(program).resolve()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._account = _account()
        self._process: subprocess.Popen[str] | None = None
        self.port = _free_port()

    def url(self, database: str, user: str = _SUPERUSER, password: str = _PASSWORD) -> str:
        """Return where a database is, for a role: `postgresql://user:password@127.0.0.1:23456/database`."""
        return f"postgresql://{user}:{password}@{_HOST}:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        """Return a connection as superuser, in autocommit mode."""
        return psycopg.connect(self.url(database), autocommit=True)

    def start(self) -> None:
        """Start it, with what it had stored, and return once it accepts connections."""
        options = {"port": str(self.port), "listen_addresses": _HOST, "unix_socket_directories": ""}
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        # Not stdout: nobody reads that later, and a full pipe would stop the server.
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [str(self._program), "-D", str(self._data), *arguments],
                stdout=output,
                stderr=output,
                text=True,
                **self._account._asdict(),
            )
        while not self._answers():
            assert self._process.poll() is None, f"postgres ended: {self._log.read_text()}"

    def freeze(self) -> None:
        """Let it answer nothing, with its connections open (SIGSTOP)."""
        for number in self._processes():
            os.kill(number, signal.SIGSTOP)

    def thaw(self) -> None:
        """End `freeze`."""
        for number in self._processes():
            os.kill(number, signal.SIGCONT)

    def kill(self) -> None:
        """End all of its processes at once (SIGKILL), frozen or not; nothing is flushed. `start` starts it again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)  # it starts no further process
        ends = [os.pidfd_open(number) for number in self._processes()]
        for end in ends:
            signal.pidfd_send_signal(end, signal.SIGKILL)
        for end in ends:  # a server that starts while an old process is left refuses to
            select.select([end], [], [])
            os.close(end)
        self._process.wait()

    def __enter__(self) -> Self:
        if self._account.user is not None:
            shutil.chown(self._folder, self._account.user, self._account.group)
        password = self._folder / "password"
        password.write_text(_PASSWORD)
        password.chmod(0o644)
        initdb = [str(self._program.with_name("initdb")), "-D", str(self._data), "-U", _SUPERUSER]
        how = [f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run([*initdb, *how], check=True, capture_output=True, cwd=self._folder, **self._account._asdict())
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _processes(self) -> list[int]:
        """Return the ids of the server's first process and of all that it has started."""
        assert self._process is not None
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text()
        return [first, *map(int, children.split())]

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), self.connect():
            return True
        return False


def _account() -> _Account:
    if os.geteuid() != 0:
        return _Account(None, None, None)
    for name in _ACCOUNTS:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return _Account(found.pw_uid, found.pw_gid, [])
    raise AssertionError(f"PostgreSQL does not run as root, and there is no account {' or '.join(_ACCOUNTS)}")


def _free_port() -> int:
    """Return a port that nobody listens on, below those that outgoing connections get (Linux: 32768)."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((_HOST, port))
            return port
    raise AssertionError("no free port between 20000 and 32000")
