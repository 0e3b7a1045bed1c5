"""Backups: whole while others write, verified, and enough to serve from again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ledger.audit.backup import back_up
from ledger.audit.heads import heads
from ledger.records import Entry, Record
from ledger.store import Ledger
from ledger.verify import verify
from market.core.errors import LedgerError
from tests.ledger.audit.forger import Forger


def test_a_backup_under_load_is_one_moment_and_is_written_to_again(
    url: str, tmp_path: Path
) -> None:
    stop, started = threading.Event(), threading.Event()

    def write() -> None:
        with Ledger(url) as ledger:
            n = 0
            while not stop.is_set():
                ledger.append([Entry("decision", {"n": n}, account_id=f"a{n % 7}")] * 3)
                n += 1
                if n == 20:
                    started.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert started.wait(300)
        early = heads(url)
        found = back_up(url, tmp_path / "backup" / "ledger.db")
        late = heads(url)
    finally:
        stop.set()
        writer.join(300)
    assert found.problems == []
    assert found.chains["main"].records >= early["chains"]["main"]["seq"]
    assert found.chains["main"].records % 3 == 0
    copy = f"sqlite:///{tmp_path}/backup/ledger.db"
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["ledger.db"]
    assert verify(copy, early).intact
    # Heads that are newer than the backup say what a restore from it lacks.
    missing = late["chains"]["main"]["seq"] - found.chains["main"].records
    problems = verify(copy, late).problems
    assert bool(problems) == (missing > 0)
    assert all(f"{missing} records are gone" in problem for problem in problems)
    with Ledger(copy) as restored:
        restored.append([Entry("decision", {"n": -1}, account_id="a0")])
        last = restored.last_decisions(["a0"])["a0"]
        assert isinstance(last, Record)
        assert last.payload == {"n": -1}
    assert verify(copy, early).intact


def test_a_restore_from_an_older_backup_lacks_what_newer_heads_say(
    url: str, tmp_path: Path
) -> None:
    with Ledger(url) as ledger:
        ledger.append([Entry("decision", {"n": n}) for n in range(5)])
        back_up(url, tmp_path / "old.db")
        ledger.append([Entry("decision", {"n": n}) for n in range(4)])
    with Ledger(url, chain="late") as ledger:
        ledger.append([Entry("market", {})])
    problems = verify(f"sqlite:///{tmp_path}/old.db", heads(url)).problems
    assert sorted(problem.partition(":")[2] for problem in problems) == [
        " the chain is missing, 1 records are gone",
        " truncated, 4 records are gone",
    ]


def test_a_backup_of_an_altered_ledger_says_so(url: str, tmp_path: Path, forger: Forger) -> None:
    with Ledger(url) as ledger:
        ledger.append([Entry("decision", {"n": 1})])
    forger.sql("UPDATE records SET as_of = 3")
    assert not back_up(url, tmp_path / "copy.db").intact
    assert (tmp_path / "copy.db").is_file()


def test_a_backup_replaces_nothing_and_needs_a_ledger(url: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        back_up(url, tmp_path / "copy.db")
    with Ledger(url):
        pass
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(LedgerError, match="replaces nothing"):
        back_up(url, tmp_path / "there.db")
    assert (tmp_path / "there.db").read_text() == "mine"
    with pytest.raises(LedgerError, match="pg_dump"):
        back_up("postgresql+psycopg://db/ledger", tmp_path / "copy.db")
    with pytest.raises(LedgerError, match="cannot be written"):
        back_up(url, tmp_path / "there.db" / "copy.db")
    assert sorted(path.name for path in tmp_path.glob("*copy*")) == []
