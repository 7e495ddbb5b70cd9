"""`audit_postgresql`, `audit_database`, `audit_unsettled`, audit_schema.sql: the audit in a real PostgreSQL."""

import argparse
import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import monitor_contact_service
import psycopg
import pytest
from audit_chains import KEY, OTHER_KEY
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from monitor_contact_service import audit_database, audit_postgresql
from monitor_contact_service.audit import AuditError
from monitor_contact_service.audit_database import AuditSession
from monitor_contact_service.audit_postgresql import MAX_OTHERS_WAITING, MAX_WAITING, PostgresqlLog
from monitor_contact_service.audit_verify import audit_verify
from monitor_contact_service.audit_writer import Checkpoints
from monitor_contact_service.core import audit_chain
from monitor_contact_service.settings import ConfigurationError
from postgres_server import PostgresServer, find_postgres

SCHEMA = (Path(monitor_contact_service.__file__).parent / "audit_schema.sql").read_text()
PASSWORD = "canary-of-the-audit"
WHOLE, OPEN = 0, 3


@pytest.fixture(scope="module")
def running(require_tool: Callable[[str, str], str]) -> Iterator[PostgresServer]:
    """A PostgreSQL for all tests of this file; the schema was made by no superuser."""
    with PostgresServer(find_postgres(require_tool, "the audit in PostgreSQL")) as server:
        with server.connect() as superuser:
            superuser.execute("CREATE ROLE admin LOGIN CREATEROLE PASSWORD 'admin'")
            superuser.execute("CREATE DATABASE audit OWNER admin")
        with psycopg.connect(server.url("audit", "admin", "admin"), autocommit=True) as admin:
            admin.execute(SCHEMA.encode())
            admin.execute(
                f"CREATE ROLE writer LOGIN PASSWORD '{PASSWORD}' IN ROLE monitor_contact_audit_writer".encode()
            )
        yield server


@dataclass
class Database:
    """The database with the schema."""

    server: PostgresServer
    name: str = "audit"

    @property
    def url(self) -> str:
        """Where it is for the service's role."""
        return self.server.url(self.name, "writer", PASSWORD)

    def query(self, text: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a superuser's query."""
        with self.server.connect(self.name) as connection:
            cursor = connection.execute(text.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def lines(self, chain: str) -> list[str]:
        """Return the lines of a chain."""
        rows = self.query("SELECT line FROM monitor_contact_audit.record WHERE chain = %s ORDER BY seq", chain)
        return [row[0] for row in rows]

    def records(self, chain: str) -> list[dict[str, Any]]:
        """Return the records of a chain; their numbers have no gap."""
        records = [json.loads(line) for line in self.lines(chain)]
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        return records

    def open_intents(self) -> list[tuple[Any, ...]]:
        """Return chain and seq of all that are open."""
        return self.query("SELECT chain, seq FROM monitor_contact_audit.open_intent ORDER BY chain, seq")


@pytest.fixture
def database(running: PostgresServer) -> Database:
    """The database, empty and with the rights that the schema gives."""
    database = Database(running)
    database.query("TRUNCATE monitor_contact_audit.record, monitor_contact_audit.open_intent")
    database.query("GRANT INSERT ON monitor_contact_audit.record TO monitor_contact_audit_writer")
    return database


@dataclass
class Watched:
    """A log, and what it tells."""

    log: PostgresqlLog
    published: list[str]
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    recovered: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.log.on_failed = self._fail
        self.log.on_recovered = self._recover

    def _fail(self) -> None:
        self.recovered.clear()
        self.failed.set()

    def _recover(self) -> None:
        self.failed.clear()
        self.recovered.set()


Open = Callable[..., Awaitable[Watched]]


@pytest.fixture
async def open_log(database: Database) -> AsyncIterator[Open]:
    """Return a function that opens a log in the database; all are closed in the end."""
    opened: list[Watched] = []

    async def start(
        url: str = "",
        checkpoints: Checkpoints | None = None,
        recovery_seconds: float = 30.0,
    ) -> Watched:
        published: list[str] = []
        log = PostgresqlLog(
            url or database.url,
            checkpoints=checkpoints or Checkpoints(),
            publish=published.append,
            draw=lambda: 0.1,
            recovery_seconds=recovery_seconds,
        )
        watched = Watched(log, published)
        await log.open()
        opened.append(watched)
        return watched

    yield start
    for watched in opened:
        await watched.log.close()


def intent(request: str = "r") -> dict[str, object]:
    """Return a record that somebody waits for."""
    return {"id": request, "stage": "intent", "ticket": 'a "quoted" \\ \u2028 \0 text'}


def outcome(seq: int, request: str = "r") -> dict[str, object]:
    """Return the outcome of an intent."""
    return {"id": request, "stage": "outcome", "intent_seq": seq, "result": "answered"}


DENIED = {"id": "d", "stage": "denied", "error_reason": "CALLER_NOT_PERMITTED"}
OUTCOME = {"id": "d", "stage": "outcome", "intent_seq": 1}


def exported(database: Database, chain: str, folder: Path, psql: str) -> Path:
    """Return the file of a chain, as docs/audit-postgresql.md says."""
    path = folder / chain.replace("/", "-")
    query = "SELECT line FROM monitor_contact_audit.record WHERE chain = :'chain' ORDER BY seq"
    options = ["-X", "-A", "-t", "-v", "FETCH_COUNT=10000", "-v", f"chain={chain}", "-o", str(path)]
    subprocess.run([psql, *options, database.server.url(database.name)], input=query, text=True, check=True)
    return path


def verify(*files: Path, pubkey: Path | None = None) -> int:
    """Return the exit code of `monitor-contact audit verify`."""
    keys = [str(pubkey)] if pubkey else []
    return audit_verify(argparse.Namespace(files=[str(file) for file in files], anchor=[], pubkey=keys))


@pytest.fixture(scope="module")
def psql(require_tool: Callable[[str, str], str]) -> str:
    """The path of psql."""
    return require_tool("psql", "the export of the audit from PostgreSQL")


async def test_an_exported_chain_verifies(database: Database, open_log: Open, tmp_path: Path, psql: str) -> None:
    """Each line is stored as a file would have it, with its escapes; checkpoints are signed and published as stored."""
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    watched = await open_log(checkpoints=Checkpoints(records=3, key=KEY))
    seq = await watched.log.append(intent())
    await watched.log.append(outcome(seq))
    await watched.log.append(DENIED)
    await watched.log.close()

    lines = database.lines(watched.log.chain)
    assert [json.loads(line)["stage"] for line in lines] == [
        "segment",
        "checkpoint",
        "intent",
        "outcome",
        "denied",
        "checkpoint",
    ]
    assert seq == 3
    assert watched.published == [lines[1], lines[5]]
    file = exported(database, watched.log.chain, tmp_path, psql)
    assert file.read_text() == "".join(f"{line}\n" for line in lines)
    assert verify(file, pubkey=key_file) == WHOLE
    assert not audit_chain.is_signed_by(lines[5].encode(), OTHER_KEY.public_key())


async def test_a_chain_is_signed_from_its_first_commit_on(
    database: Database, open_log: Open, tmp_path: Path, psql: str
) -> None:
    """A writer that is killed young leaves a chain that verifies with the key: nobody will sign it any more."""
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    watched = await open_log(checkpoints=Checkpoints(key=KEY))
    begun = database.lines(watched.log.chain)
    seq = await watched.log.append(intent())
    await watched.log.append(outcome(seq))

    assert [json.loads(line)["stage"] for line in begun] == ["segment", "checkpoint"]
    assert watched.published == begun[1:]
    assert verify(exported(database, watched.log.chain, tmp_path, psql), pubkey=key_file) == WHOLE


async def test_records_are_durable_in_the_order_in_which_they_came(database: Database, open_log: Open) -> None:
    """A batch is what has queued meanwhile, and more than one transaction if it is too large for one."""
    watched = await open_log()
    futures = [watched.log.append(DENIED | {"id": str(number)}) for number in range(2500)]
    numbers = await asyncio.gather(*futures)

    assert numbers == sorted(numbers)
    stored = {record["seq"]: record["id"] for record in database.records(watched.log.chain)}
    assert [stored[seq] for seq in numbers] == [str(number) for number in range(2500)]


async def test_two_writers_at_once_have_a_chain_each(
    database: Database, open_log: Open, tmp_path: Path, psql: str
) -> None:
    """They neither wait for nor number with each other."""
    first, second = await open_log(), await open_log()
    for _ in range(20):
        seqs = await asyncio.gather(*(each.log.append(intent()) for each in (first, second)))
        await asyncio.gather(first.log.append(outcome(seqs[0])), second.log.append(outcome(seqs[1])))
        assert seqs[0] == seqs[1]

    files = [exported(database, each.log.chain, tmp_path, psql) for each in (first, second)]
    assert verify(*files) == WHOLE
    assert [len(file.read_text().splitlines()) for file in files] == [42, 42]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT line FROM monitor_contact_audit.record",
        "UPDATE monitor_contact_audit.record SET line = line",
        "DELETE FROM monitor_contact_audit.record",
        "TRUNCATE monitor_contact_audit.record",
        "INSERT INTO monitor_contact_audit.record (chain, seq, line) VALUES ('a/a', 1, '{}') RETURNING line",
        "DROP TABLE monitor_contact_audit.record",
        "ALTER TABLE monitor_contact_audit.record DISABLE TRIGGER ALL",
        "SELECT id FROM monitor_contact_audit.open_intent",
        "DELETE FROM monitor_contact_audit.open_intent",
        "INSERT INTO monitor_contact_audit.open_intent VALUES ('a/a', 1, 'r')",
        "CREATE TABLE monitor_contact_audit.other ()",
        "SET ROLE monitor_contact_audit_owner",
    ],
)
def test_the_writer_may_do_nothing_but_insert(database: Database, statement: str) -> None:
    """What is written cannot be read, changed or removed by whoever has the service's password."""
    with (
        psycopg.connect(database.url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize("row", [("a/a", 2, 1, "a/a"), ("b/b", 1, 1, "a/a"), ("a/a", 0, 0, "a/a")])
def test_a_line_stands_under_its_own_number_and_chain(database: Database, row: tuple[str, int, int, str]) -> None:
    """The columns cannot say anything else than the line."""
    chain, seq, line_seq, line_chain = row
    line = audit_chain.line(DENIED, line_seq, audit_chain.NO_HASH, line_chain, "2026-01-02T03:04:05.000006Z")
    insert = "INSERT INTO monitor_contact_audit.record VALUES (%s, %s, %s)"
    with (
        psycopg.connect(database.url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.CheckViolation),
    ):
        connection.execute(insert.encode(), (chain, seq, line.decode()))


async def _load(watched: Watched, name: str, acknowledged: dict[int, str], end: asyncio.Event) -> None:
    """Record action after action as calls do: refused ones come again when the log has recovered."""
    number = 0
    while not end.is_set():
        number += 1
        request = f"{name}-{number}"
        try:
            seq = await watched.log.append(intent(request))
        except AuditError:
            await watched.recovered.wait()
            continue
        acknowledged[seq] = request
        done = await watched.log.append(outcome(seq, request))
        acknowledged[done] = request


async def test_a_server_killed_under_load_loses_nothing(
    database: Database, open_log: Open, tmp_path: Path, psql: str
) -> None:
    """Refused meanwhile, continued by itself; every acknowledged record is there, once, and the chain has no gap."""
    watched = await open_log()
    acknowledged: dict[int, str] = {}
    end = asyncio.Event()
    load = [asyncio.create_task(_load(watched, str(name), acknowledged, end)) for name in range(16)]
    for _ in range(5):
        before = len(acknowledged)
        while len(acknowledged) < before + 200:
            await asyncio.wait({watched.log.append(DENIED)})
        await asyncio.to_thread(database.server.kill)
        await watched.failed.wait()
        with pytest.raises(AuditError, match="the database is lost"):
            watched.log.append(intent())
        await asyncio.to_thread(database.server.start)
        await watched.recovered.wait()
    end.set()
    await asyncio.gather(*load)
    await watched.log.close()

    stored = {record["seq"]: record["id"] for record in database.records(watched.log.chain)}
    assert {seq: stored.get(seq) for seq in acknowledged} == acknowledged
    assert len(acknowledged) >= 1000
    assert verify(exported(database, watched.log.chain, tmp_path, psql)) == WHOLE
    assert not database.open_intents()


class Proxy:
    """Stands between a log and the server, and can lose what either sends; a context manager.

    Attributes:
        requests, answers: whether they are passed on.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests = self.answers = True
        self.swallowed = asyncio.Event()

    def url(self, database: Database) -> str:
        """Return where the database is, through here."""
        port = self._server.sockets[0].getsockname()[1]
        return database.url.replace(f":{self._port}/", f":{port}/")

    def cut(self, *, server: bool) -> None:
        """End all connections: the log's side, and the server's too or not."""
        for log_side, server_side in self._ends:
            log_side.close()
            if server:
                server_side.close()
        self.requests = self.answers = True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut(server=True)
        self._server.close()
        await asyncio.gather(*self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends.append((writer, to_server))
        requests = self._pass(reader, to_server, lambda: self.requests)
        answers = self._pass(from_server, writer, lambda: self.answers)
        for work in (requests, answers):
            task = asyncio.create_task(work)
            self._tasks.add(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[], bool]
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if passes():
                    writer.write(data)
                else:
                    self.swallowed.set()


@pytest.fixture
async def proxy(database: Database) -> AsyncIterator[Proxy]:
    """A proxy before the database."""
    async with Proxy(database.server.port) as running:
        yield running


@pytest.mark.parametrize("server", [True, False])
@pytest.mark.parametrize("lost", ["requests", "answers"])
async def test_a_record_whose_commit_is_unknown_is_there_once(
    database: Database,
    open_log: Open,
    proxy: Proxy,
    tmp_path: Path,
    psql: str,
    *,
    lost: str,
    server: bool,
) -> None:
    """Committed, but no answer: found. Not committed: written again. With the old session still alive, too."""
    watched = await open_log(proxy.url(database))
    await watched.log.append(intent("first"))
    setattr(proxy, lost, False)
    future = watched.log.append(outcome(3, "first"))
    await proxy.swallowed.wait()
    proxy.cut(server=server)

    await watched.failed.wait()
    assert await future == 4
    await watched.recovered.wait()
    await watched.log.close()
    stages = [record["stage"] for record in database.records(watched.log.chain)]
    assert stages[:4] == ["segment", "checkpoint", "intent", "outcome"]
    assert set(stages[4:]) <= {"checkpoint"}
    assert verify(exported(database, watched.log.chain, tmp_path, psql)) == WHOLE


async def test_a_server_that_hangs_is_given_up(
    database: Database, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections stay open and say nothing; what was under way is written once it goes on, once."""
    monkeypatch.setattr(audit_database, "ANSWER_SECONDS", 0.2)
    watched = await open_log()
    database.server.freeze()
    try:
        future = watched.log.append(intent())
        await watched.failed.wait()
        assert not future.done()
    finally:
        database.server.thaw()

    assert await future == 3
    await watched.recovered.wait()
    assert [record["stage"] for record in database.records(watched.log.chain)].count("intent") == 1


async def test_outcomes_wait_for_a_lost_database(
    database: Database, open_log: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """What follows an action is not refused: it has been taken, and its record must not be lost."""
    watched = await open_log()
    seq = await watched.log.append(intent())
    database.server.kill()
    try:
        later = watched.log.append(outcome(seq))
        await watched.failed.wait()
        denied = watched.log.append(DENIED)
        for stage in ("intent", "repeated"):
            with pytest.raises(AuditError, match="the database is lost"):
                watched.log.append({"id": "r", "stage": stage})
    finally:
        database.server.start()

    assert await later < await denied
    assert not database.open_intents()
    assert PASSWORD not in caplog.text


async def test_what_waits_for_a_lost_database_has_a_bound(
    database: Database, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory must not fill up, least of all with refusals; at the end who waits is told that nothing was written."""
    monkeypatch.setattr(audit_postgresql, "CLOSE_SECONDS", 0.05)
    watched = await open_log()
    database.server.kill()
    try:
        watched.log.append(DENIED)
        await watched.failed.wait()
        futures = [watched.log.append(DENIED) for _ in range(MAX_OTHERS_WAITING)]
        with pytest.raises(AuditError, match="10000 records wait already"):
            watched.log.append(DENIED)
        futures += [watched.log.append(OUTCOME) for _ in range(MAX_WAITING - MAX_OTHERS_WAITING)]
        with pytest.raises(AuditError, match="20000 records wait already"):
            watched.log.append(OUTCOME)
        await watched.log.close()
    finally:
        database.server.start()

    assert all(isinstance(future.exception(), AuditError) for future in futures)
    with pytest.raises(AuditError, match="the audit is closed"):
        watched.log.append(DENIED)


async def test_the_end_is_not_held_up_by_a_server_that_hangs(
    database: Database, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is cut while it owes an answer."""
    monkeypatch.setattr(audit_postgresql, "CLOSE_SECONDS", 0.05)
    watched = await open_log()
    database.server.freeze()
    try:
        future = watched.log.append(intent())
        async with asyncio.timeout(4):  # psycopg's own cancelling takes 5 s
            await watched.log.close()
    finally:
        database.server.thaw()

    assert isinstance(future.exception(), AuditError)


async def test_an_idle_session_that_ends_is_noticed_and_begun_again(
    database: Database, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readiness must not wait for the next call to find out."""
    monkeypatch.setattr(audit_postgresql, "PING_SECONDS", 0.05)
    watched = await open_log()
    await watched.log.append(DENIED)
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'")

    await watched.failed.wait()
    await watched.recovered.wait()
    assert await watched.log.append(intent()) == 5  # after a checkpoint that proves that writing works


async def test_a_right_that_is_taken_away_is_a_loss_until_it_is_back(database: Database, open_log: Open) -> None:
    """The server answers, and refuses: the record waits for it to change its mind."""
    watched = await open_log()
    table = "INSERT ON monitor_contact_audit.record"
    database.query(f"REVOKE {table} FROM monitor_contact_audit_writer")
    future = watched.log.append(intent())
    await watched.failed.wait()
    database.query(f"GRANT {table} TO monitor_contact_audit_writer")

    assert await future == 3
    await watched.recovered.wait()


_KILLED_WRITER = """
import asyncio, sys
from monitor_contact_service.audit_postgresql import PostgresqlLog
from monitor_contact_service.audit_writer import Checkpoints

async def main():
    log = PostgresqlLog(sys.argv[1], checkpoints=Checkpoints(), publish=lambda _: None)
    await log.open()
    closed = await log.append({"id": "closed", "stage": "intent"})
    await log.append({"id": "closed", "stage": "outcome", "intent_seq": closed, "result": "answered"})
    await log.append({"id": "open", "stage": "intent"})
    print(log.chain, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_killed_writer_gets_its_outcomes_from_another(
    database: Database, open_log: Open, tmp_path: Path, psql: str
) -> None:
    """In the other's chain, naming the intent; a writer that lives keeps its open intents. Together they verify."""
    command = [sys.executable, "-c", _KILLED_WRITER, database.url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    dead = (await process.stdout.readline()).decode().strip()
    living = await open_log()
    seq = await living.log.append(intent("living"))
    process.kill()
    await process.wait()
    while database.query("SELECT monitor_contact_audit.holder(%s)", dead) != [(None,)]:
        await living.log.append(DENIED)
    heir = await open_log(recovery_seconds=0.05)
    while (dead, 5) in database.open_intents():
        await living.log.append(DENIED)

    record = database.records(heir.log.chain)[2]
    assert {name: record[name] for name in ("id", "stage", "intent_seq", "result", "of_chain")} == {
        "id": "open",
        "stage": "recovered",
        "intent_seq": 5,
        "result": "unknown",
        "of_chain": dead,
    }
    assert database.open_intents() == [(living.log.chain, seq)]
    await living.log.append(outcome(seq, "living"))
    files = [exported(database, chain, tmp_path, psql) for chain in (dead, heir.log.chain, living.log.chain)]
    assert verify(*files) == WHOLE
    assert verify(files[0]) == OPEN


def _leave_open_intent(database: Database) -> None:
    """Have an open intent in the chain of a writer that is gone."""
    line = audit_chain.line(intent("open"), 1, audit_chain.NO_HASH, "dead/dead", "2026-01-02T03:04:05.000006Z")
    database.query("INSERT INTO monitor_contact_audit.record VALUES ('dead/dead', 1, %s)", line.decode())


async def test_only_one_writer_recovers_at_a_time(database: Database) -> None:
    """Otherwise an intent would be closed as often as there are replicas. When that one ends, another does it."""
    _leave_open_intent(database)
    first = await AuditSession.begin(database.url, "a/a")
    second = await AuditSession.begin(database.url, "b/b")
    try:
        assert await first.orphans() == [("dead/dead", 1, "open")]
        assert await second.orphans() == []
        await first.close()
        while not (orphans := await second.orphans()):
            pass  # the server has not seen yet that the first has gone
        assert orphans == [("dead/dead", 1, "open")]
    finally:
        await first.close()
        await second.close()


async def test_a_writer_that_is_gone_for_a_moment_keeps_its_intents(database: Database, open_log: Open) -> None:
    """After a restart of the server all are, and come back: the first look closes nothing."""
    _leave_open_intent(database)
    watched = await open_log()
    for _ in range(3):
        await watched.log.append(DENIED)

    assert database.open_intents() == [("dead/dead", 1)]


async def test_a_chain_that_somebody_else_has_written_to_is_given_up(
    database: Database, open_log: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a new process, with a new chain, can go on: nobody knows what this one is worth."""
    watched = await open_log()
    chain = watched.log.chain
    for seq in (3, 4, 5):
        line = audit_chain.line(DENIED, seq, audit_chain.NO_HASH, chain, "2026-01-02T03:04:05.000006Z")
        database.query("INSERT INTO monitor_contact_audit.record VALUES (%s, %s, %s)", chain, seq, line.decode())
    future = watched.log.append(intent())

    with pytest.raises(AuditError, match="seq 2 to 3 were written, the last one is 5"):
        await future
    assert watched.failed.is_set()
    with pytest.raises(AuditError, match="were written"):
        watched.log.append(DENIED)
    assert [entry.levelname for entry in caplog.records if entry.message == "audit failed"] == ["CRITICAL"]


async def test_a_server_that_has_forgotten_durable_records_is_not_written_to(
    database: Database, open_log: Open
) -> None:
    """As after a fail-over to a standby that had not got them all: acknowledged records are missing."""
    watched = await open_log()
    await watched.log.append(DENIED)
    database.query("DELETE FROM monitor_contact_audit.record WHERE seq = 3")
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'")

    with pytest.raises(AuditError, match="seq 3 to 4 were written, the last one is 2"):
        await watched.log.append(DENIED)


async def test_a_server_that_does_not_run_at_start_is_waited_for(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Not ready, nothing recorded; once it runs, all by itself."""
    database.server.kill()
    watched = Watched(PostgresqlLog(database.url, checkpoints=Checkpoints(), publish=print, draw=lambda: 0.1), [])
    try:
        await watched.log.open()
        assert watched.failed.is_set()
        with pytest.raises(AuditError, match="the database is lost"):
            watched.log.append(intent())
    finally:
        database.server.start()

    await watched.recovered.wait()
    assert await watched.log.append(intent()) == 3
    await watched.log.append(outcome(3))
    await watched.log.close()
    assert PASSWORD not in caplog.text


def _wrong_password(database: Database) -> str:
    return database.url.replace(PASSWORD, "wrong-canary")


def _no_database(database: Database) -> str:
    return database.url + "_of_nobody"


def _no_tables(database: Database) -> str:
    return database.server.url("postgres")


def _no_role(database: Database) -> str:
    database.query("DROP ROLE IF EXISTS stranger")
    database.query(f"CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'")
    return database.server.url(database.name, "stranger", PASSWORD)


def _no_insert(database: Database) -> str:
    database.query("REVOKE INSERT ON monitor_contact_audit.record FROM monitor_contact_audit_writer")
    return database.url


def _no_url(database: Database) -> str:
    return database.url.replace(PASSWORD, "%ZZ" + PASSWORD)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (_wrong_password, "password authentication failed.*; check user, password and database"),
        (_no_database, "does not exist; check user, password and database"),
        (_no_tables, "; create the tables with audit_schema.sql"),
        (_no_role, "permission denied.*; give the role monitor_contact_audit_writer"),
        (_no_insert, "permission denied.*; give the role monitor_contact_audit_writer"),
        (_no_url, "no URL that libpq can read; write postgresql://user@host/database"),
    ],
)
async def test_a_wrong_configuration_ends_the_start(
    database: Database, url: Callable[[Database], str], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The message says which setting it is and what would be right, and quotes no password."""
    log = PostgresqlLog(url(database), checkpoints=Checkpoints(), publish=print)

    with pytest.raises(ConfigurationError, match=f"MONITOR_CONTACT_AUDIT: .*{problem}") as raised:
        await log.open()
    assert "canary" not in str(raised.value) + caplog.text


async def test_a_server_that_is_full_at_start_is_waited_for(database: Database) -> None:
    """Too many connections are no fault of the configuration, though the password was asked for first."""
    database.query("ALTER ROLE writer CONNECTION LIMIT 0")
    watched = Watched(PostgresqlLog(database.url, checkpoints=Checkpoints(), publish=print, draw=lambda: 0.1), [])
    try:
        await watched.log.open()
        assert watched.failed.is_set()
    finally:
        database.query("ALTER ROLE writer CONNECTION LIMIT -1")
    await watched.recovered.wait()
    await watched.log.close()


async def test_promises_that_the_server_does_not_keep_are_told(
    database: Database, open_log: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """A server without fsync, and a role that may do more than insert."""
    caplog.set_level(logging.WARNING)
    await open_log()
    assert not caplog.records

    await _set_fsync(database, "off")
    try:
        await open_log(database.server.url(database.name))
    finally:
        await _set_fsync(database, "on")
    assert [entry.message.partition(":")[0] for entry in caplog.records] == [
        "audit database has fsync off",
        "audit role may change records",
    ]


async def _set_fsync(database: Database, value: str) -> None:
    database.query(f"ALTER SYSTEM SET fsync = {value}")
    database.query("SELECT pg_reload_conf()")
    while database.query("SHOW fsync") != [(value,)]:
        await asyncio.to_thread(database.query, "SELECT 1")


async def test_commits_wait_for_the_disk_whatever_the_role_says(
    database: Database, open_log: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """An administrator's default for speed does not hold here: there is nothing to warn of."""
    caplog.set_level(logging.WARNING)
    database.query("ALTER ROLE writer SET synchronous_commit = off")
    try:
        await open_log()
    finally:
        database.query("ALTER ROLE writer RESET synchronous_commit")

    assert not caplog.records


async def test_a_checkpoint_that_cannot_be_published_is_told(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Standard output may be closed; the audit itself goes on."""

    def publish(_: str) -> None:
        raise OSError("closed")

    log = PostgresqlLog(database.url, checkpoints=Checkpoints(records=1), publish=publish)
    await log.open()
    assert await log.append(DENIED) == 4
    await log.close()

    assert "checkpoint not published" in caplog.text
