"""Tables of the ledger, their revision, and transactions that write."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    literal_column,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from ledger.engines import (
    BUSY_SECONDS,
    LOCK_SUFFIX,
    SqliteConnection,
    postgres_engine,
    shown_url,
    sqlite_engine,
)
from market.core.errors import AlteredError, BusyError, LedgerError, UnknownOutcomeError
from market.core.file_identity import DatabaseFile
from market.core.file_lock import exclusive_lock
from market.core.redaction import redact

REVISION = "0004"
"""Revision of the tables below, see `ledger.migrations`."""

FIRST_REVISION = "0001"
"""Revision of tables that name none."""

metadata = MetaData()

records = Table(
    "records",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", LargeBinary, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("account_id", Text),
    Column("as_of", BigInteger),
    Column("recorded_at", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("previous_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("records_by_kind", "kind", "recorded_at", "chain", "seq"),
    Index("records_by_as_of", "kind", "as_of"),
)
"""The chains, one row a record; `ledger.records.Record` explains the columns.

Ids, hashes and payloads are stored as `ledger.packing` packs them; `ledger.chain.to_record` reads
a row back.
"""

IS_DECISION = records.c.kind == literal_column("'decision'")
"""Picks decisions by a constant, which `records_by_account` needs to be used."""

Index(
    "records_by_account",
    records.c.account_id,
    records.c.recorded_at,
    sqlite_where=IS_DECISION,
    postgresql_where=IS_DECISION,
)

contents = Table(
    "contents",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""Shared facts by the SHA-256 of their text, which is packed. The kind is a label for people, no
hash covers it."""

answers = Table(
    "answers",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Column("answered_at", BigInteger, nullable=False),
    Column("record_id", LargeBinary, nullable=False),
    Index("answers_by_time", "answered_at"),
)
"""Answers given under an idempotency key. The record of kind ``answer`` that `record_id` names
covers each of them, also after its row was pruned."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("secret_sha256", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("label", Text, nullable=False, server_default=""),
    Column("expires_at", BigInteger),
    Column("rate_per_minute", Integer),
)
"""API keys; scopes are separated by spaces."""

segments = Table(
    "segments",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_hash", LargeBinary, nullable=False),
    Column("file_sha256", LargeBinary, nullable=False),
    Column("sealed_at", BigInteger, nullable=False),
)
"""Beginnings of chains that were moved to files: what was there, and the hash it ended with."""

accounts = Table(
    "accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("as_of", BigInteger, nullable=False),
    Column("out_of_sync", BigInteger),
    Column("state", LargeBinary, nullable=False),
    Column("update_sha256", LargeBinary, nullable=False),
    Column("record_seq", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Index("accounts_by_record", "record_seq"),
    Index("accounts_by_place", "place"),
)
"""The live book, one row an account: the state after its newest update. `out_of_sync` is the
sequence number that was expected where one was missing; `place` counts accounts in the order in
which they first appeared. The record of chain ``accounts`` that `record_seq` names covers the row
(`monitoring.book.account_rows`)."""

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
"""Who may do what only one process at a time may do: the token rises with every new holder."""

calls = Table(
    "calls",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("is_open", Integer, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("record_seq", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index("calls_by_account", "account_id", "opened_at"),
    Index("calls_by_state", "is_open", "opened_at", "call_id"),
)
"""Margin calls as they stand, one row a call; `content` is packed JSON. `due_at` is null where time
changes nothing: without a deadline, and while a dispute stops it. The record of chain
``enforcement`` that `record_seq` names wrote the row."""

instructions = Table(
    "instructions",
    metadata,
    Column("instruction_id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("call_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("is_open", Integer, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("record_seq", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index("instructions_by_state", "is_open", "issued_at", "instruction_id"),
    Index("instructions_by_call", "call_id"),
)
"""Instructions to the venue as they stand, one row an instruction; `content` and `record_seq` as
in `calls`."""

enforcement_state = Table(
    "enforcement_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("record_seq", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""What else enforcement restores at start, by name: the state of controls, the head of the
commands that were applied, the default resources. `content` and `record_seq` as in `calls`."""

outbox = Table(
    "outbox",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("sink", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", BigInteger),
    Column("detail", Text, nullable=False, server_default=""),
    Index("outbox_due", "status", "next_attempt_at"),
    Index("outbox_by_account", "sink", "account_id", "sequence"),
)
"""Notifications by event and sink, in the order of `sequence` within an account. `body` is packed
JSON; a record of chain ``enforcement`` has the event too, so a delivered row may be deleted."""

versions = Table("ledger_version", metadata, Column("version_num", String(32), primary_key=True))
"""The revision of the tables, one row. Alembic reads and writes it as well, under a name of our own
as other software may keep its tables beside these."""

_SQLITE_REFUSALS = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)
_UNKNOWN_STATE = "40003"
_LOST_CLASSES = ("08", "57", "58", "XX")
"""SQLSTATE of a commit that may have happened: statement completion unknown, lost connections,
a stop of the server, failures of its system."""


def open_engine(url: str, *, create: bool = True) -> Engine:
    """Connect to a ledger's database.

    SQLite runs in WAL mode with ``synchronous=FULL``: a commit returns after its fsync, and
    readers never wait for the writer.

    Parameters
    ----------
    url:
        ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql+psycopg://…``.
    create:
        Make missing folders and tables; without it a missing SQLite file is an error, and
        nothing is made.

    Raises
    ------
    LedgerError
        The URL is malformed, of another database or in memory, the driver is not installed, the
        database cannot be reached, or an SQLite file is gone while its lock file or log is there.

    References
    ----------
    https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
    """
    with database_errors("open its database"):
        parsed = make_url(url)
        file = DatabaseFile(parsed.database or "")
        if _is_sqlite(parsed):
            engine = sqlite_engine(parsed, create, file)
        else:
            engine = postgres_engine(parsed, BUSY_SECONDS)
        try:
            _ensure_tables(engine, create)
            if _is_sqlite(parsed):
                file.remember()
        except BaseException:
            engine.dispose()
            raise
    return engine


@contextmanager
def engine_of_any_revision(url: str) -> Iterator[Engine]:
    """An engine to a database that exists, whatever tables it has; raises as `open_engine`.

    It waits for locks of PostgreSQL without limit.
    """
    parsed = make_url(url)
    if _is_sqlite(parsed):
        engine = sqlite_engine(parsed, create=False, file=DatabaseFile(parsed.database or ""))
    else:
        engine = postgres_engine(parsed, None)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def database_errors(doing: str) -> Iterator[None]:
    """Turn a failure of the database into a `LedgerError` that says what could not be done."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        raise LedgerError(
            f"the ledger could not {doing}: {redact(str(cause))}; check that its database is "
            "reachable, writable and not full"
        ) from error


@contextmanager
def writing(engine: Engine, wait_seconds: float | None = None) -> Iterator[Connection]:
    """A write transaction: committed at the end, rolled back on any error.

    Refused where the file of an SQLite database was deleted or replaced, see
    `market.core.file_identity`. On SQLite it waits for its turn by a lock file and begins with
    ``BEGIN IMMEDIATE``, so it holds the only write lock from its first statement and what it
    reads stays true until it commits.

    Raises
    ------
    UnknownOutcomeError
        It failed at the commit or after it, and may be on record; with any other error it is not.
    """
    wait = BUSY_SECONDS if wait_seconds is None else wait_seconds
    with ExitStack() as turn:
        if engine.dialect.name == "sqlite":
            _take_turn(turn, f"{engine.url.database}{LOCK_SUFFIX}", wait)
        connection = turn.enter_context(engine.connect())
        raw: object = connection.connection.dbapi_connection
        if isinstance(raw, SqliteConnection):
            raw.for_writing(wait)
        committing = False
        try:
            with connection.begin():
                _begin_writing(connection, raw)
                yield connection
                committing = True
            if isinstance(raw, SqliteConnection):
                raw.files.check()  # what went into a deleted file is not acknowledged
        except (SQLAlchemyError, LedgerError) as error:
            if not committing or _was_refused(error):
                raise
            cause = getattr(error, "orig", None) or error
            raise UnknownOutcomeError(
                f"the ledger failed at a commit, which is on record or not: {redact(str(cause))}"
            ) from error


def _begin_writing(connection: Connection, raw: object) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
    if isinstance(raw, SqliteConnection):
        raw.files.database.check()


def _was_refused(error: Exception) -> bool:
    """Whether a database answered that it did not commit."""
    cause = getattr(error, "orig", None)
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) in _SQLITE_REFUSALS
    state = getattr(cause, "sqlstate", None)
    return state is not None and state != _UNKNOWN_STATE and state[:2] not in _LOST_CLASSES


def _take_turn(turn: ExitStack, path: str, wait_seconds: float) -> None:
    """Wait for the lock file beside an SQLite database.

    SQLite's own wait sleeps in growing steps of up to 100 ms and tries again, so a process that
    writes without pause hardly ever lets another one in. A file lock wakes who waits
    (docs/adr/0044-replicas-follow-one-market-chain.md has figures).
    """
    try:
        turn.enter_context(exclusive_lock(path, wait_seconds))
    except BusyError as error:
        raise LedgerError(f"the ledger could not record: {error}") from error
    except OSError as error:
        raise LedgerError(
            f"the ledger could not record: lock file {path!r} cannot be opened ({error.strerror}); "
            "the folder of the database must be writable"
        ) from error


def lock(connection: Connection, name: str) -> None:
    """Wait until no other transaction holds this name, and hold it until the transaction ends.

    On SQLite `writing` has already locked the whole database.
    """
    if connection.dialect.name == "postgresql":
        digest = hashlib.sha256(f"margincast.ledger:{name}".encode()).digest()
        number = int.from_bytes(digest[:8], signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


def in_batches(values: Iterable[str], size: int = 500) -> Iterator[list[str]]:
    """Distinct values in lists short enough to be bound in one statement."""
    distinct = sorted(set(values))
    for start in range(0, len(distinct), size):
        yield distinct[start : start + size]


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _ensure_tables(engine: Engine, create: bool) -> None:
    if inspect(engine).has_table(records.name):
        _refuse_other_revision(engine)
        if create:
            with writing(engine):
                pass  # a ledger that cannot be written is refused now, not at the first decision
    elif create:
        with writing(engine) as connection:
            lock(connection, "schema")
            if not inspect(connection).has_table(records.name):
                metadata.create_all(connection)
                connection.execute(insert(versions).values(version_num=REVISION))
    else:
        raise LedgerError(
            f"there is no ledger in {shown_url(engine.url)}; give the url it was written to"
        )


def _refuse_other_revision(engine: Engine) -> None:
    """Refuse tables of another version of this software."""
    with engine.connect() as connection:
        found = revision(connection)
    if found == REVISION:
        return
    if found < REVISION:
        raise LedgerError(
            f"the ledger in {shown_url(engine.url)} has tables of revision {found}, this version "
            f"needs {REVISION}: stop what uses it and run `margincast ledger upgrade`"
        )
    raise LedgerError(
        f"the ledger in {shown_url(engine.url)} has tables of revision {found}, which a newer "
        f"version made; this one knows {REVISION}: install the newer version"
    )


def revision(connection: Connection) -> str:
    """Revision of the tables of a ledger; tables without one count as 0001.

    Raises
    ------
    AlteredError
        The tables are of a later revision, which they no longer name, or name several.
    """
    there = inspect(connection)
    named = there.has_table(versions.name)
    found = list(connection.execute(select(versions.c.version_num)).scalars()) if named else []
    if len(found) == 1:
        return str(found[0])
    if found or there.has_table(segments.name):  # which revision 0001 did not have
        raise AlteredError(
            f"table {versions.name!r} of the ledger names the revisions {found} where one is "
            "expected: it was altered; restore a copy that `margincast ledger verify` finds intact"
        )
    return FIRST_REVISION
