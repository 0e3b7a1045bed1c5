"""A ledger file that is deleted or replaced under a running process: nothing is acknowledged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger import schema
from ledger.engines import LOCK_SUFFIX
from ledger.records import Entry
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import LedgerError, UnknownOutcomeError
from market.core.file_identity import LedgerReplacedError
from market.core.file_lock import exclusive_lock

GONE = (LedgerReplacedError, UnknownOutcomeError)
"""Before the commit or after it."""


def entry() -> Entry:
    return Entry("ruleset", {"name": "x"})


def delete(path: Path) -> None:
    path.unlink()


def replace_by_a_copy(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


def replace_by_an_empty_file(path: Path) -> None:
    path.unlink()
    path.touch()


def empty(path: Path) -> None:
    os.truncate(path, 0)


def move_the_folder_away(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def delete_the_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def delete_the_index_of_the_log(path: Path) -> None:
    path.with_name(f"{path.name}-shm").unlink()


FAULTS: list[Callable[[Path], None]] = [
    delete,
    replace_by_a_copy,
    replace_by_an_empty_file,
    empty,
    delete_the_log,
    delete_the_index_of_the_log,
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "ledger.db"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_nothing_is_recorded_into_files_that_are_gone(
    path: Path, fault: Callable[[Path], None]
) -> None:
    with Ledger(f"sqlite:///{path}") as ledger:
        ledger.append([entry()])
        fault(path)
        names = sorted(path.parent.iterdir())
        for _ in range(3):
            with pytest.raises(GONE, match="deleted or replaced"):
                ledger.append([entry()])
        assert sorted(path.parent.iterdir()) == names, "a file was made anew"


def test_a_folder_that_is_moved_away_stops_writing(path: Path) -> None:
    with Ledger(f"sqlite:///{path}") as ledger:
        ledger.append([entry()])
        move_the_folder_away(path)
        with pytest.raises(LedgerError):
            ledger.append([entry()])
        assert not path.exists()


def test_a_file_deleted_during_a_transaction_is_not_acknowledged(path: Path) -> None:
    with (
        Ledger(f"sqlite:///{path}") as ledger,
        pytest.raises(UnknownOutcomeError, match="deleted or replaced"),
        ledger.transaction(),
    ):
        path.unlink()


def test_a_new_connection_makes_no_new_file(path: Path) -> None:
    """Two connections at once: the second is opened after the file is gone."""
    with Ledger(f"sqlite:///{path}") as ledger:
        ledger.append([entry()])
        with ledger.engine.connect():
            path.unlink()
            with pytest.raises(LedgerReplacedError):
                ledger.get_record("0" * 32)
        assert not path.exists()


def test_a_file_that_comes_back_is_written_again(path: Path) -> None:
    with Ledger(f"sqlite:///{path}") as ledger:
        ledger.append([entry()])
        path.rename(path.with_suffix(".away"))
        with pytest.raises(LedgerReplacedError):
            ledger.append([entry()])
        path.with_suffix(".away").rename(path)
        ledger.append([entry()])
        assert len(list(ledger.records("ruleset"))) == 2
    with Ledger(f"sqlite:///{path}") as ledger:
        assert len(list(ledger.records("ruleset"))) == 2
        assert verify(ledger.engine).intact


def test_other_processes_and_checkpoints_are_no_replacement(path: Path) -> None:
    url = f"sqlite:///{path}"
    with Ledger(url) as ledger:
        for _ in range(3):
            with Ledger(url) as other:
                other.append([entry()])
                with other.engine.connect() as connection:
                    raw: Any = connection.connection.dbapi_connection
                    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            ledger.append([entry()])
        assert len(list(ledger.records("ruleset"))) == 6


@pytest.mark.parametrize("fault", [delete, empty, replace_by_an_empty_file])
@pytest.mark.parametrize("left", [LOCK_SUFFIX, "-wal"])
def test_a_start_makes_no_new_ledger_where_one_was_lost(
    path: Path, fault: Callable[[Path], None], left: str
) -> None:
    url, beside = f"sqlite:///{path}", path.with_name(f"{path.name}{left}")
    with Ledger(url) as ledger:
        (kept,) = ledger.append([entry()])
    shutil.copy(path, path.with_suffix(".backup"))
    path.with_name(f"{path.name}{LOCK_SUFFIX}").rename(beside)
    fault(path)
    names = {file: file.stat().st_size for file in path.parent.iterdir()}
    for _ in range(2):
        with pytest.raises(LedgerError, match="restore the file") as refused:
            Ledger(url)
        assert "\n" not in str(refused.value)
        assert f"delete {str(beside)!r}" in str(refused.value)
    assert {file: file.stat().st_size for file in path.parent.iterdir()} == names
    if left == LOCK_SUFFIX:
        shutil.copy(path.with_suffix(".backup"), path)
        with Ledger(url) as ledger:
            assert ledger.get_record(kept.id) == kept
        fault(path)
    beside.unlink()
    with Ledger(url) as ledger:
        assert list(ledger.records("ruleset")) == [], "begun anew on purpose"


def test_a_first_start_that_was_killed_is_repeated(path: Path) -> None:
    """The lock file appears when the database has its first page, without tables as yet."""
    path.parent.mkdir()
    seen = []

    class KilledError(Exception):
        pass

    def killed(_: str, __: float) -> None:
        seen.append(path.stat().st_size)
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "exclusive_lock", killed)
        with pytest.raises(KilledError):
            Ledger(f"sqlite:///{path}")
    assert seen[0] > 0
    path.with_name(f"{path.name}{LOCK_SUFFIX}").touch()
    with Ledger(f"sqlite:///{path}") as ledger:
        ledger.append([entry()])


def test_a_full_disk_is_an_error_and_what_was_acknowledged_stays(path: Path) -> None:
    with Ledger(f"sqlite:///{path}") as ledger:
        kept = ledger.append([entry()])
        with ledger.engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            raw.execute("PRAGMA max_page_count = 1")  # of the one connection in the pool
        large = Entry("ruleset", {"noise": os.urandom(40_000).hex()})
        with pytest.raises(LedgerError, match="full"):
            ledger.append([large] * 20)
        assert ledger.get_record(kept[0].id) == kept[0]
        with ledger.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            raw.execute("PRAGMA max_page_count = 1000000")
        ledger.append([entry()])
        assert verify(ledger.engine).intact


def test_a_lock_that_is_held_for_longer_than_the_wait_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    with Ledger(f"sqlite:///{path}") as ledger:
        with (
            exclusive_lock(f"{path}.lock", 1.0),
            pytest.raises(LedgerError, match="held the lock"),
        ):
            ledger.append([entry()])
        ledger.append([entry()])
