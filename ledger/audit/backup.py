"""Backup of an SQLite ledger that is in use: a consistent snapshot."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import make_url

from ledger.schema import database_errors
from ledger.verify import Checks, Verification, verify
from market.core.errors import LedgerError
from market.core.files import sync_path


def back_up(url: str, out: Path, checks: Checks | None = None) -> Verification:
    """Copy a ledger into a file and verify the copy; writers continue meanwhile.

    The copy is what was committed at one moment. It takes its name only when it is on disk and
    was verified, whatever the verdict.

    Parameters
    ----------
    url:
        The ledger, ``sqlite:///…``.
    out:
        The file to write.
    checks:
        See `ledger.verify.verify`.

    Returns
    -------
    What `ledger.verify.verify` says of the copy.

    Raises
    ------
    LedgerError
        The ledger is no SQLite file, `out` exists, or the copy cannot be written.

    References
    ----------
    https://www.sqlite.org/backup.html
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise LedgerError(
            "only an SQLite ledger is backed up by margincast; use pg_dump for PostgreSQL, see "
            "docs/operations.md"
        )
    source = Path(parsed.database)
    if not source.is_file():
        raise LedgerError(f"there is no ledger at {str(source)!r}; give the url it was written to")
    if out.exists():
        raise LedgerError(f"{str(out)!r} exists; give a new file, a backup replaces nothing")
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"backup {str(out)!r} cannot be written: {error}") from error
    try:
        partial.unlink(missing_ok=True)  # of a backup that was cut off
        with database_errors("be copied"):
            _copy(source, partial)
        found = verify(f"sqlite:///{partial}", checks=checks)
        sync_path(partial)
        partial.replace(out)
        sync_path(out.parent)
    except OSError as error:
        raise LedgerError(f"backup {str(out)!r} cannot be written: {error}") from error
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            partial.with_name(partial.name + ending).unlink(missing_ok=True)
    return found


def _copy(source: Path, target: Path) -> None:
    # All pages in one step: a copy in several starts again whenever another process writes.
    reading = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
    try:
        copy = sqlite3.connect(target)
        try:
            reading.backup(copy)
        finally:
            copy.close()
    finally:
        reading.close()
