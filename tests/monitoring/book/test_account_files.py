"""Account files as a source of the live book: by the clock, once, and beside other updates."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.store import Ledger
from market.accounts.account_files import Event, write_accounts
from market.accounts.book import Account, Book, Position
from market.core.clock import HOUR, parse_time
from market.core.errors import DataError
from market.sources.base import AccountUpdates
from market.sources.http import PositionIn
from monitoring.book.account_files import AccountFileFeed
from monitoring.book.account_store import AccountStore
from monitoring.book.live_book import LiveBook
from monitoring.book.messages import AccountUpdateIn, DepositIn, SnapshotIn

START = parse_time("2026-01-01T00:00:00Z")
PERP = "BTCUSDT-PERP"


def account(name: str, quantity: float, cash: float = 1_000.0) -> Account:
    return Account(name, cash, (Position(PERP, quantity, 60_000.0),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    snapshots = [
        AccountUpdates(START, Book.of([account("a", 1.0), account("b", 2.0)])),
        AccountUpdates(START + 2 * HOUR, Book.of([account("a", 3.0)])),
        AccountUpdates(START + 4 * HOUR, Book.of([account("c", 5.0)])),
    ]
    write_accounts(tmp_path / "files", snapshots, [Event(START + 3 * HOUR, "b", "closed")])
    return tmp_path / "files"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path}/ledger.db")


def held(ledger: Ledger) -> dict[str, float]:
    """The position of each account."""
    book = LiveBook(ledger)
    return {
        name: sum(leg.quantity for leg in one.account.positions)
        for name in book.catch_up()
        if (one := book.find(name)) is not None
    }


def test_snapshots_count_once_the_clock_passes_them(folder: Path, ledger: Ledger) -> None:
    feed = AccountFileFeed(AccountStore(ledger), folder)
    assert feed.advance(START - 1) == 0
    assert feed.advance(START) == 2
    assert held(ledger) == {"a": 1.0, "b": 2.0}
    assert feed.advance(START + HOUR) == 0
    assert feed.advance(START + 2 * HOUR) == 1
    assert held(ledger) == {"a": 3.0, "b": 2.0}
    assert feed.advance(START + 5 * HOUR) == 2
    assert held(ledger) == {"a": 3.0, "b": 0.0, "c": 5.0}


def test_a_restart_applies_nothing_twice(folder: Path, ledger: Ledger) -> None:
    store = AccountStore(ledger)
    AccountFileFeed(store, folder).advance(START + 2 * HOUR)
    head = store.head()
    restarted = AccountFileFeed(store, folder)
    assert restarted.advance(START + 2 * HOUR) == 0
    assert store.head() == head
    assert restarted.advance(START + 3 * HOUR) == 1
    assert held(ledger) == {"a": 3.0, "b": 0.0}


def test_an_account_that_was_closed_before_the_start_is_not_in_the_book(
    folder: Path, ledger: Ledger
) -> None:
    AccountFileFeed(AccountStore(ledger), folder).advance(START + 5 * HOUR)
    assert held(ledger) == {"a": 3.0, "c": 5.0}


def test_changes_follow_the_number_of_a_snapshot(folder: Path, ledger: Ledger) -> None:
    store = AccountStore(ledger)
    feed = AccountFileFeed(store, folder)
    feed.advance(START)
    deposit = AccountUpdateIn("a", START // 1_000 + 1, None, None, [DepositIn("USD", 7.0)])
    assert [one.status for one in store.apply([deposit], START, "desk")] == ["applied"]
    found = store.find("a")
    assert found is not None
    assert found.account.cash == 1_007.0
    feed.advance(START + 2 * HOUR)
    assert held(ledger)["a"] == 3.0


def test_a_snapshot_that_was_changed_after_it_counted_is_left_out_and_logged(
    folder: Path, tmp_path: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    store = AccountStore(ledger)
    AccountFileFeed(store, folder).advance(START)
    changed = [AccountUpdates(START, Book.of([account("a", 9.0), account("b", 2.0)]))]
    write_accounts(tmp_path / "changed", changed)
    assert AccountFileFeed(store, tmp_path / "changed").advance(START) == 0
    assert "1 accounts of the account files" in caplog.text
    assert "give a changed snapshot a later time" in caplog.text
    assert held(ledger) == {"a": 1.0, "b": 2.0}


def test_another_source_may_tell_the_same_snapshot_at_another_time(
    folder: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    store = AccountStore(ledger)
    legs = [PositionIn(PERP, 1.0, 60_000.0)]
    told = AccountUpdateIn(
        "a", START // 1_000, "2026-01-01T05:00:00Z", SnapshotIn(1_000.0, legs, [])
    )
    assert [one.status for one in store.apply([told], START, "desk")] == ["applied"]
    assert AccountFileFeed(store, folder).advance(START) == 1
    assert not caplog.records
    assert held(ledger) == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize("name", ["a" * 129, "line\nbreak"])
def test_an_id_that_no_account_can_have_is_refused(
    tmp_path: Path, ledger: Ledger, name: str
) -> None:
    write_accounts(tmp_path / "odd", [AccountUpdates(START, Book.of([account(name, 1.0)]))])
    with pytest.raises(DataError, match="1 to 128 characters"):
        AccountFileFeed(AccountStore(ledger), tmp_path / "odd").advance(START)
    assert AccountStore(ledger).head().seq == 0
