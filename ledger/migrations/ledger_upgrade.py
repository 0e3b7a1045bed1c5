"""Upgrade a ledger to the tables of this version: whole, or not at all.

An SQLite ledger is upgraded as a copy, which takes the place of the file at the end; the file of
before stays beside it. On PostgreSQL everything is one transaction.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, inspect, make_url, select, text
from sqlalchemy.engine import URL

from ledger.engines import LOCK_SUFFIX
from ledger.migrations.conversion import Progress
from ledger.schema import (
    FIRST_REVISION,
    REVISION,
    database_errors,
    engine_of_any_revision,
    records,
    revision,
)
from market.core.errors import BusyError, LedgerError
from market.core.file_lock import exclusive_lock
from market.core.files import sync_path

_WORK_SUFFIX = ".upgrading"
_CLOSING_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Upgraded:
    """Outcome of `upgrade`.

    Attributes
    ----------
    before, after:
        Revision of the tables; the same where there was nothing to do.
    records:
        How many records there are.
    kept:
        Where the previous SQLite file is; None on PostgreSQL and if there was nothing to do.
    """

    before: str
    after: str
    records: int
    kept: Path | None


def upgrade(url: str, progress: Callable[[int, int], None] | None = None) -> Upgraded:
    """Upgrade a ledger that nothing else uses.

    Every record is checked against its hash before and after; chains end with the same hashes.

    Parameters
    ----------
    url:
        As of `ledger.schema.open_engine`.
    progress:
        Called with how many rows are done, and how many there are.

    Raises
    ------
    LedgerError
        There is no ledger, a newer version wrote it, another process uses it, a record in it was
        altered, or the database failed. The ledger is as it was then.
    """
    parsed = make_url(url)
    with (
        database_errors("be upgraded"),
        engine_of_any_revision(url) as engine,
        engine.connect() as connection,
    ):
        if not inspect(connection).has_table(records.name):
            raise LedgerError("there is no ledger at the url; give the one it was written to")
        before = revision(connection)
        count = int(connection.execute(select(func.count()).select_from(records)).scalar_one())
    if before == REVISION:
        return Upgraded(before, before, count, None)
    if before > REVISION:
        raise LedgerError(
            f"the ledger has tables of revision {before}, which a newer version made; this one "
            f"knows {REVISION}: nothing was changed"
        )
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(min(done, 2 * count), 2 * count)

    with database_errors("be upgraded"):
        if parsed.get_backend_name() == "sqlite":
            kept = _upgrade_sqlite(Path(os.path.realpath(str(parsed.database))), before, advance)
        else:
            kept = None
            _upgrade_postgres(url, advance)
    return Upgraded(before, REVISION, count, kept)


def _upgrade_sqlite(path: Path, before: str, advance: Progress) -> Path:
    """Upgrade a copy of a file and replace the file by it; returns the name of the old file."""
    kept = path.with_name(f"{path.name}.{before}")
    if kept.exists():
        raise LedgerError(f"{str(kept)!r} exists, where the old file is to be kept; move it away")
    work = path.with_name(f"{path.name}{_WORK_SUFFIX}")
    for suffix in ("", "-journal", "-wal", "-shm"):
        work.with_name(f"{work.name}{suffix}").unlink(missing_ok=True)  # of one that was killed
    with _alone(path):
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(work)) as target:
            source.backup(target)
        url = URL.create("sqlite", database=str(work)).render_as_string()
        with engine_of_any_revision(url) as engine, engine.begin() as connection:
            _run_alembic(connection, advance)
        with closing(sqlite3.connect(work, isolation_level=None)) as target:
            target.execute("VACUUM")
        _take_place(work, path, kept)
    return kept


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep every writer out of a file, which is complete without a log."""
    try:
        with (
            exclusive_lock(f"{path}{LOCK_SUFFIX}", 0.0),
            closing(sqlite3.connect(path, isolation_level=None, timeout=0.0)) as connection,
        ):
            # Refused while another connection is open.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN IMMEDIATE")
            yield
    except BusyError as error:
        raise _in_use(path) from error
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        raise _in_use(path) from error


def _in_use(path: Path) -> LedgerError:
    return LedgerError(f"ledger {str(path)!r} is in use; stop what uses it, then upgrade")


def _take_place(work: Path, path: Path, kept: Path) -> None:
    """Replace a file by another; the old one is kept under a second name."""
    try:
        shutil.copymode(path, work)
        owner = path.stat()
        if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(work, owner.st_uid, owner.st_gid)
        sync_path(work)
        os.link(path, kept)
        work.replace(path)
        sync_path(path.parent)
    except OSError as error:
        raise LedgerError(f"the upgraded ledger cannot be put into place: {error}") from error


def _upgrade_postgres(url: str, advance: Progress) -> None:
    with engine_of_any_revision(url) as engine, engine.begin() as connection:
        others = _other_sessions(connection)
        if others:
            raise LedgerError(
                f"the ledger's database is in use by {others} other sessions; stop what uses it, "
                "then upgrade"
            )
        connection.exec_driver_sql("LOCK TABLE records, contents, answers, api_keys")
        _run_alembic(connection, advance)


def _other_sessions(connection: Connection) -> int:
    """How many others are connected; one that was closed just now may still be counted at first."""
    deadline = time.monotonic() + _CLOSING_SECONDS
    while True:
        others = int(connection.execute(text(_OTHER_SESSIONS)).scalar_one())
        if not others or time.monotonic() > deadline:
            return others
        time.sleep(0.05)
        connection.execute(text("SELECT pg_stat_clear_snapshot()"))


_OTHER_SESSIONS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""


def _run_alembic(connection: Connection, advance: Progress) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    here = str(Path(__file__).parent).replace("%", "%%")
    config.set_main_option("script_location", here)
    config.set_main_option("path_separator", "os")
    config.attributes |= {"connection": connection, "progress": advance}
    if revision(connection) == FIRST_REVISION:
        command.stamp(config, FIRST_REVISION)
    command.upgrade(config, "head")
