"""Whether the files of an SQLite database are still the ones that were opened.

A process keeps writing to a file that was deleted or replaced, without an error: what it commits
there is lost. So each write transaction compares device and inode of the names with those of the
open files, before it writes and again before what it committed is acknowledged.

References
----------
https://www.sqlite.org/howtocorrupt.html, sections 2.4 and 2.6
"""

from __future__ import annotations

import os

from market.core.errors import LedgerError

_Inode = tuple[int, int]

_LOGS = ("-wal", "-shm")
"""Suffixes of the files beside a database in WAL mode; they stay while a connection is open."""


class LedgerReplacedError(LedgerError):
    """The file of the ledger is not the one that was opened."""


class DatabaseFile:
    """The file of an SQLite database as it was opened first.

    Parameters
    ----------
    path:
        Its name.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._inode: _Inode | None = None

    def remember(self) -> None:
        """Take the file as it is now for the one that is used."""
        self._inode = _inode(self.path)

    def check(self) -> None:
        """Compare the file with the one that was remembered, if any was.

        Raises
        ------
        LedgerReplacedError
            It is another one, is empty, or there is none.
        """
        if self._inode is not None and _inode(self.path) != self._inode:
            raise _replaced(self.path)


class OpenFiles:
    """The files that one connection writes to.

    Parameters
    ----------
    database:
        The database.
    """

    __slots__ = ("_logs", "database")

    def __init__(self, database: DatabaseFile) -> None:
        self.database = database
        self._logs: tuple[_Inode | None, ...] | None = None

    def check(self) -> None:
        """Compare the files with those that the connection opened; raises as `DatabaseFile.check`.

        For a connection in a write transaction or after one, when its files are there.
        """
        self.database.check()
        logs = tuple([_inode(self.database.path + suffix, empty=True) for suffix in _LOGS])
        if self._logs is None:
            self._logs = logs
        elif logs != self._logs:
            changed = [s for s, a, b in zip(_LOGS, logs, self._logs, strict=True) if a != b]
            raise _replaced(self.database.path + changed[0])


def _inode(path: str, *, empty: bool = False) -> _Inode | None:
    """Device and inode of a file; None where there is none, or it is empty and must not be."""
    try:
        status = os.stat(path)  # noqa: PTH116  a Path costs three times as much
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerReplacedError(
            f"file {path!r} of the ledger cannot be looked at ({error.strerror}); its folder must "
            "be accessible"
        ) from error
    return (status.st_dev, status.st_ino) if status.st_size or empty else None


def _replaced(path: str) -> LedgerReplacedError:
    return LedgerReplacedError(
        f"file {path!r} of the ledger was deleted or replaced while it was in use: nothing is "
        "recorded any more; stop this process, restore the file, verify the ledger and start again"
    )
