"""Tables of the ledger and the way to its database: SQLite first, Postgres alike."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from market.core.errors import LedgerError
from market.core.redaction import display_address, redact

metadata = MetaData()

records = Table(
    "records",
    metadata,
    Column("chain", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("account_id", Text),
    Column("as_of", BigInteger),
    Column("recorded_at", BigInteger, nullable=False),
    Column("payload", Text, nullable=False),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("records_by_account", "account_id", "kind", "recorded_at", "seq", "chain"),
    Index("records_by_kind", "kind", "recorded_at", "chain", "seq"),
)
"""The chains, one row a record; `ledger.records.Record` explains the columns."""

contents = Table(
    "contents",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("content", Text, nullable=False),
)
"""Shared facts by the SHA-256 of their text. The kind is a label for people, no hash covers it."""

answers = Table(
    "answers",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_sha256", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("response", LargeBinary, nullable=False),
)
"""Answers given under an idempotency key."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("secret_sha256", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)
"""API keys; scopes are separated by spaces."""

BUSY_SECONDS = 30.0
"""How long SQLite waits for another writer."""
_SQLITE_WRITE, _SQLITE_WAIT = "sqlite_write", "sqlite_wait"


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
        The URL is malformed, of another database or in memory, the driver is not installed, or
        the database cannot be reached.

    References
    ----------
    https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous
    """
    with database_errors("open its database"):
        parsed = make_url(url)
        engine = _sqlite_engine(parsed, create) if _is_sqlite(parsed) else _postgres_engine(parsed)
        try:
            _ensure_tables(engine, create)
        except BaseException:
            engine.dispose()
            raise
    return engine


@contextmanager
def database_errors(doing: str) -> Iterator[None]:
    """Turn a failure of the database into a `LedgerError` that says what could not be done."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise LedgerError(
            f"the ledger could not {doing}: {redact(str(cause))}; check that its database is "
            "reachable, writable and not full"
        ) from error


@contextmanager
def writing(engine: Engine, wait_seconds: float | None = None) -> Iterator[Connection]:
    """A write transaction: committed at the end, rolled back on any error.

    On SQLite it begins with ``BEGIN IMMEDIATE``, so it holds the only write lock from its first
    statement and what it reads stays true until it commits.
    """
    options = {_SQLITE_WRITE: True, _SQLITE_WAIT: wait_seconds}
    with engine.execution_options(**options).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL synchronous_commit = on"))
        yield connection


def lock(connection: Connection, name: str) -> None:
    """Wait until no other transaction holds this name, and hold it until the transaction ends.

    On SQLite `writing` has already locked the whole database.
    """
    if connection.dialect.name == "postgresql":
        digest = hashlib.sha256(f"margincast.ledger:{name}".encode()).digest()
        number = int.from_bytes(digest[:8], signed=True)
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


def insert_if_absent(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert a row unless one with its primary key exists; true if it was inserted.

    A concurrent transaction that inserts the same key is waited for.
    """
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # a slow import that SQLite never needs

        insert: Any = postgresql.insert(table).on_conflict_do_nothing()
    else:
        insert = sqlite.insert(table).on_conflict_do_nothing()
    # Without the option SQLAlchemy keeps the count of an UPDATE or DELETE only.
    result = connection.execute(insert, row, execution_options={"preserve_rowcount": True})
    return result.rowcount == 1


def in_batches(values: Iterable[str], size: int = 500) -> Iterator[list[str]]:
    """Distinct values in lists short enough to be bound in one statement."""
    distinct = sorted(set(values))
    for start in range(0, len(distinct), size):
        yield distinct[start : start + size]


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _shown(url: URL) -> str:
    return display_address(url.render_as_string())


def _ensure_tables(engine: Engine, create: bool) -> None:
    if create:
        with writing(engine) as connection:
            lock(connection, "schema")
            metadata.create_all(connection)
    elif not inspect(engine).has_table(records.name):
        raise LedgerError(
            f"there is no ledger in {_shown(engine.url)}; give the url it was written to"
        )


def _sqlite_engine(url: URL, create: bool) -> Engine:
    path = url.database
    if not path or ":memory:" in path or url.query.get("mode") == "memory":
        raise LedgerError(
            f"ledger url {_shown(url)!r} is in memory; a record must survive the "
            "process, give a file like sqlite:///var/ledger.db"
        )
    if create:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"the folder of ledger {path!r} cannot be made: {error}") from error
    elif not Path(path).is_file():
        raise LedgerError(f"there is no ledger at {path!r}; give the url it was written to")
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    if create:
        # The mode stays with the file; one that is only read is left as it is.
        event.listen(engine, "connect", _enter_wal)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver's own BEGIN comes too late and is never IMMEDIATE: `_begin_sqlite` sends it.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _enter_wal(connection: sqlite3.Connection, _: object) -> None:
    # SQLite does not apply the busy timeout to a change of journal mode.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    # Connections are pooled, so the time is set anew each time.
    wait = options.get(_SQLITE_WAIT)
    milliseconds = round(1_000 * (BUSY_SECONDS if wait is None else wait))
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {milliseconds}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_SQLITE_WRITE) else "BEGIN")


def _postgres_engine(url: URL) -> Engine:
    if url.get_backend_name() != "postgresql":
        raise LedgerError(
            f"ledger url {_shown(url)!r} is not of a known database; "
            "give sqlite:///… or postgresql+psycopg://…"
        )
    try:
        return create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise LedgerError(
            f"the driver of {url.drivername} is not installed ({error}); "
            "install margincast[postgres] and write postgresql+psycopg://…"
        ) from error
