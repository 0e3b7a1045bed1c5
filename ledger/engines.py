"""Connections to the databases of a ledger, SQLite and PostgreSQL, and how long they wait."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection

from market.core.errors import LedgerError
from market.core.file_identity import DatabaseFile, OpenFiles
from market.core.redaction import display_address

BUSY_SECONDS = 30.0
"""How long a writer waits for another one, on PostgreSQL for any lock."""

CONNECT_SECONDS = 10
SILENT_SECONDS = 30
"""A connection to PostgreSQL is closed after its host was silent for this time."""

LOCK_SUFFIX = ".lock"
"""The lock file of writers has the name of the SQLite database with this after it."""


def shown_url(url: URL) -> str:
    """A URL without its password, as errors show it."""
    return display_address(url.render_as_string())


def sqlite_engine(url: URL, create: bool, file: DatabaseFile) -> Engine:
    """An engine to an SQLite file that checks at each new connection that it is still `file`.

    Raises `LedgerError` where the file is in memory, missing or lost; `create` makes its folder.
    """
    path = url.database
    if not path or ":memory:" in path or url.query.get("mode") == "memory":
        raise LedgerError(
            f"ledger url {shown_url(url)!r} is in memory; a record must survive the "
            "process, give a file like sqlite:///var/ledger.db"
        )
    if create:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"the folder of ledger {path!r} cannot be made: {error}") from error
        _refuse_a_lost_file(path)
    elif not Path(path).is_file():
        raise LedgerError(f"there is no ledger at {path!r}; give the url it was written to")
    arguments = {"timeout": BUSY_SECONDS, "factory": SqliteConnection}
    engine = create_engine(url, connect_args=arguments)

    def check_file(*_: object) -> None:
        file.check()  # else SQLite makes a new file where one was deleted

    def note_files(connection: SqliteConnection, _: object) -> None:
        connection.files = OpenFiles(file)

    event.listen(engine, "do_connect", check_file)
    event.listen(engine, "connect", note_files)
    event.listen(engine, "connect", _prepare_sqlite)
    if create:
        # The mode stays with the file; one that is only read is left as it is.
        event.listen(engine, "connect", _enter_wal)
    # Not the event "begin": a listener of connections makes every statement slower.
    engine.dialect.do_begin = _begin_sqlite  # type: ignore[method-assign,assignment]
    return engine


def _refuse_a_lost_file(path: str) -> None:
    """Refuse to create a ledger where one was lost: its lock file and log are created after the
    database, so an interrupted first start does not leave them beside a missing or empty one."""
    if Path(path).exists() and Path(path).stat().st_size:
        return
    left = [name for name in (f"{path}{LOCK_SUFFIX}", f"{path}-wal") if Path(name).exists()]
    if left:
        lost = "is empty" if Path(path).exists() else "is gone"
        names = " and ".join(repr(name) for name in left)
        raise LedgerError(
            f"ledger {path!r} {lost}, but {names} beside it shows that there was one: restore the "
            f"file from a backup, or delete {names} to begin a new ledger on purpose"
        )


class SqliteConnection(sqlite3.Connection):
    """A connection that knows how its next transaction begins."""

    files: OpenFiles
    _begin = "BEGIN"
    _wait = BUSY_SECONDS
    _next_wait = BUSY_SECONDS

    def for_writing(self, wait_seconds: float) -> None:
        """The next transaction takes the write lock, and waits for it at most this long."""
        self._begin, self._next_wait = "BEGIN IMMEDIATE", wait_seconds

    def begin(self) -> None:
        """Begin a transaction; the one after it is for reading unless said otherwise."""
        if self._next_wait != self._wait:
            self._wait = self._next_wait
            self.execute(f"PRAGMA busy_timeout = {round(1_000 * self._wait)}")
        statement, self._begin, self._next_wait = self._begin, "BEGIN", BUSY_SECONDS
        self.execute(statement)


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver's own BEGIN comes too late and is never IMMEDIATE.
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


def _begin_sqlite(connection: DBAPIConnection) -> None:
    connection.begin()


def postgres_engine(url: URL, lock_seconds: float | None) -> Engine:
    """An engine to PostgreSQL that waits at most `lock_seconds` for a lock; None: no limit.

    Raises `LedgerError` where the URL is of another database or the driver is missing.
    """
    if url.get_backend_name() != "postgresql":
        raise LedgerError(
            f"ledger url {shown_url(url)!r} is not of a known database; "
            "give sqlite:///… or postgresql+psycopg://…"
        )
    try:
        # What is read under a lock must be what is committed by then, also where the server's
        # default is a snapshot that the wait for the lock makes old.
        return create_engine(
            url,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            connect_args=_limits(url, lock_seconds),
        )
    except ModuleNotFoundError as error:
        raise LedgerError(
            f"the driver of {url.drivername} is not installed ({error}); "
            "install margincast[postgres] and write postgresql+psycopg://…"
        ) from error


def _limits(url: URL, lock_seconds: float | None) -> dict[str, str | int]:
    """Limits of libpq on what is waited for; what the URL or the environment sets stays.

    Reference: PostgreSQL documentation, "Parameter Key Words" of libpq, ``lock_timeout``.
    """
    if not url.get_driver_name().startswith("psycopg"):
        return {}
    limits: dict[str, str | int] = {
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        "tcp_user_timeout": 1_000 * SILENT_SECONDS,
    }
    if "PGCONNECT_TIMEOUT" not in os.environ:
        limits["connect_timeout"] = CONNECT_SECONDS
    limits = {name: value for name, value in limits.items() if name not in url.query}
    if lock_seconds is not None:
        given = url.query.get("options", os.environ.get("PGOPTIONS", ""))
        options = [given] if isinstance(given, str) else [*given]
        # Of an option that is given twice the last one counts.
        limits["options"] = " ".join([f"-c lock_timeout={round(1_000 * lock_seconds)}", *options])
    return limits
