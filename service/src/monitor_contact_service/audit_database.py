"""One session with the database of an audit: what it is asked, in SQL; errors of psycopg become one of ours.

No wait here is longer than its bound, with a server that hangs too. Which records there are, and when a lost session is
begun again, is the matter of `audit_postgresql`; tables, roles and functions stand in audit_schema.sql.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

_log = logging.getLogger(__name__)

# One round trip within a Region takes milliseconds; what takes seconds is a fault. libpq's least is 2 (choice).
CONNECT_SECONDS: Final = 5
ANSWER_SECONDS: Final = 5.0

# The server gives up before this side does, and sees within half a minute that a machine is gone (choice). `on` waits
# for the disk, and for the synchronous standbys if there are any, whatever the role's own default is.
_SETTINGS: Final = """
SET synchronous_commit = on; SET statement_timeout = '4s'; SET search_path = monitor_contact_audit, pg_temp;
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3
"""
_PROMISES: Final = """
SELECT current_setting('fsync') = 'on', current_setting('synchronous_commit') = 'on',
       NOT has_table_privilege('monitor_contact_audit.record', 'UPDATE, DELETE, TRUNCATE')
"""
_BROKEN_PROMISES: Final = (
    "audit database has fsync off: records are lost when its machine stops",
    "audit database does not wait for its disk: a pooler may have dropped the setting synchronous_commit",
    "audit role may change records: give it the role monitor_contact_audit_writer only",
)
_INSERT: Final = """
INSERT INTO record (chain, seq, line)
SELECT %s::text, %s::bigint - 1 + number, line
FROM unnest(string_to_array(%s::text, E'\\n')) WITH ORDINALITY AS lines(line, number)
"""
_LOCK: Final = "SELECT pg_try_advisory_lock(lock_key(%s))"
# Of a chain no other writer can have; one name for all, so that one of them recovers at a time.
_RECOVERY: Final = "recovery"
_ORPHANS: Final = "SELECT chain, seq, id FROM orphaned_intents() LIMIT 1000"

# What no repetition mends, by the beginning of SQLSTATE (PostgreSQL's documentation, appendix A), and what to do.
_REMEDIES: Final = {
    "28": "check user and password",
    "3D": "create the database",
    "3F": "create the tables with audit_schema.sql",
    "42501": "give the role monitor_contact_audit_writer",
    "42": "create the tables with audit_schema.sql",
}
# A refused connection has no SQLSTATE in libpq, only a text. These come after the password was taken, and pass.
_BUSY: Final = ("too many", "slots are reserved", "starting up", "shutting down", "recovery", "read-only")


class DatabaseFaultError(Exception):
    """The database did not do what it was asked; `str()` says why, for the log: nothing of a record, no password.

    Attributes:
        remedy: what the operator has to do; "" if it may pass by itself.
    """

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.remedy = remedy


class Orphan(NamedTuple):
    """An intent without an outcome, of a writer that is gone."""

    chain: str
    seq: int
    id: str


class AuditSession:
    """A session that is the only one to write `chain`. All methods but `cut` and `close` raise DatabaseFaultError."""

    def __init__(self, connection: "psycopg.AsyncConnection[tuple[Any, ...]]", chain: str) -> None:
        self._connection = connection
        self._chain = chain
        self._recovers = False
        self._was_cut = False

    @classmethod
    async def begin(cls, url: str, chain: str) -> Self:
        """Connect to where `url` (postgresql://…, as in libpq) says, and be the one who writes the chain."""
        session = cls(await _connect(url), chain)
        try:
            await session._run(_SETTINGS)
            for warning, kept in zip(_BROKEN_PROMISES, (await session._run(_PROMISES))[0], strict=True):
                if not kept:
                    _log.warning(warning)
            await session._be_the_only_one()
        except BaseException:
            await session.close()
            raise
        return session

    async def last_seq(self) -> int:
        """Return how far the chain is written; 0 for not at all."""
        return int((await self._run("SELECT last_seq(%s)", self._chain))[0][0])

    async def insert(self, first_seq: int, lines: Sequence[str]) -> None:
        """Append lines, numbered from `first_seq` on, and return once all are durable; after an error none is, or all.

        If it is not known which, another session's `last_seq` tells.
        """
        await self._run(_INSERT, self._chain, first_seq, "\n".join(lines))

    async def orphans(self) -> Sequence[Orphan]:
        """Return open intents of writers without a session; none while another writer looks after them."""
        if not self._recovers:
            self._recovers = bool((await self._run(_LOCK, _RECOVERY))[0][0])
        return [Orphan(*row) for row in await self._run(_ORPHANS)] if self._recovers else []

    async def ping(self) -> None:
        """Return if the server answers."""
        await self._run("SELECT 1")

    def cut(self) -> None:
        """End the connection at once: who waits for an answer gets an error instead.

        Not by cancelling: psycopg would then ask the server to cancel, and wait for that answer.
        """
        self._was_cut = True
        if not self._connection.closed:
            with socket.socket(fileno=os.dup(self._connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """End the session."""
        await self._connection.close()

    async def _be_the_only_one(self) -> None:
        """Hold the chain's lock; end an earlier session of this writer that the server has not seen die."""
        if not (await self._run(_LOCK, self._chain))[0][0]:
            await self._run("SELECT pg_terminate_backend(holder(%s))", self._chain)
            raise DatabaseFaultError("the last session had not ended yet")

    async def _run(self, query: str, *parameters: object) -> Sequence[tuple[Any, ...]]:
        timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self.cut)
        try:
            cursor = await self._connection.execute(query.encode(), parameters or None)
            return await cursor.fetchall() if cursor.description else ()
        except psycopg.Error as error:
            text = "no answer in time" if self._was_cut else _text(error)
            raise DatabaseFaultError(text, _remedy(error.sqlstate or "")) from error
        finally:
            timer.cancel()


async def _connect(url: str) -> "psycopg.AsyncConnection[tuple[Any, ...]]":
    try:
        password = str(conninfo_to_dict(url).get("password") or "")
    except psycopg.Error:  # its text quotes the URL, with the password
        raise DatabaseFaultError("it is no URL that libpq can read", "write postgresql://user@host/database") from None
    try:
        return await psycopg.AsyncConnection.connect(
            url,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name="monitor-contact",
            target_session_attrs="read-write",  # of several hosts the one that is no standby
        )
    except psycopg.Error as error:
        text = _text(error)
        remedy = "" if any(word in text for word in _BUSY) else _connect_remedy(error)
        raise DatabaseFaultError(text.replace(password, "***") if password else text, remedy) from None


def _connect_remedy(error: psycopg.Error) -> str:
    """Return what to do if the server was reached, asked for a password and refused after that."""
    refused = error.pgconn is not None and (error.pgconn.used_password or error.pgconn.needs_password)
    return "check user, password and database" if refused else ""


def _remedy(state: str) -> str:
    return next((remedy for start, remedy in _REMEDIES.items() if state.startswith(start)), "")


def _text(error: psycopg.Error) -> str:
    """Return the first line of the message: the details below it quote the row."""
    primary = error.diag.message_primary
    return f"{primary} ({error.sqlstate})" if primary else str(error).partition("\n")[0]
