"""Whether the ledger is writable: another writer at work is no failure, everything else is."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ledger.schema import writing
from ledger.store import Ledger
from market.core.errors import LedgerError
from monitoring import ledger_probe
from monitoring.ledger_probe import LedgerProbe
from tests.waiting import WAIT_SECONDS, wait_for


def threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_probe, "PROBE_SECONDS", 0.02)
    monkeypatch.setattr(ledger_probe, "SHARED_SECONDS", 0.0)
    # Threads of the tests before may still end: they would be counted as of this one.
    wait_for(lambda: not threads("ledger-probe") and not threads("file-lock"))


@pytest.mark.usefixtures("quick")
def test_a_held_lock_counts_only_once_it_is_held_for_long(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = LedgerProbe(ledger)
    before = threads("file-lock")
    with writing(ledger.engine):
        assert [probe.error() for _ in range(5)] == [None] * 5
        monkeypatch.setattr(ledger_probe, "HELD_SECONDS", 0.0)
        assert "a probe has waited" in (probe.error() or "")
        assert (threads("ledger-probe"), threads("file-lock")) == (1, before + 1)
    wait_for(lambda: probe.error() is None)
    wait_for(lambda: (threads("ledger-probe"), threads("file-lock")) == (0, before))


@pytest.mark.usefixtures("quick")
def test_many_questions_at_once_are_one_probe(ledger: Ledger) -> None:
    probe = LedgerProbe(ledger)
    with writing(ledger.engine), ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: probe.error(), range(60))) == {None}
        assert threads("ledger-probe") == 1
    wait_for(lambda: threads("ledger-probe") == 0)


def test_a_result_is_shared_for_a_while(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = 0
    transaction = ledger.transaction

    @contextmanager
    def counted(**options: Any) -> Any:
        nonlocal begun
        begun += 1
        with transaction(**options) as connection:
            yield connection

    monkeypatch.setattr(ledger, "transaction", counted)
    monkeypatch.setattr(ledger_probe, "SHARED_SECONDS", 60.0)
    probe = LedgerProbe(ledger)
    assert [probe.error() for _ in range(5)] == [None] * 5
    assert begun == 1
    monkeypatch.setattr(ledger_probe, "SHARED_SECONDS", 0.0)
    assert probe.error() is None
    assert begun == 2


def test_a_database_that_is_gone_is_noticed_at_once_and_when_it_is_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_probe, "SHARED_SECONDS", 0.0)
    monkeypatch.setattr(ledger_probe, "PROBE_SECONDS", WAIT_SECONDS)
    probe = LedgerProbe(ledger)
    for error in (LedgerError("the database is gone"), IndexError("unexpected error")):

        def gone(error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(ledger, "transaction", gone)
            assert probe.error() == "the ledger is not writable"
        assert probe.error() is None


def test_a_read_only_database_is_noticed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_probe, "PROBE_SECONDS", WAIT_SECONDS)
    with Ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        engine = ledger.engine
        with engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.execute("PRAGMA query_only = ON")  # of the one connection that the pool holds
        assert LedgerProbe(ledger).error() == "the ledger is not writable"
