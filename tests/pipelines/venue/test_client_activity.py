"""What clients do: applied by the live book as it is sent, whatever was lost on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from market.accounts.account_files import write_accounts
from market.accounts.book import Account, Balance, Book as BookArrays, Position
from market.core.clock import HOUR, parse_time
from market.sources.base import AccountUpdates
from monitoring.book.account_files import AccountFileFeed
from monitoring.book.book_account import BookAccount, apply_update
from monitoring.book.messages import AccountUpdateIn, UpdateResult, UpdatesRequest
from pipelines.venue.client_activity import BATCH, RATE, ClientActivity

START = parse_time("2026-01-01T00:00:00Z")
SYMBOLS = ("BTCUSDT", "ETHUSDT")
MARK = np.array([100_000.0, np.nan])


def clients(count: int) -> list[tuple[Account, int]]:
    positions = Position("BTCUSDT-PERP", 0.25, 90_000.0), Position("ETHUSDT-PERP", -1.0, 3_000.0)
    return [
        (
            Account(f"retail-{n:04d}", 1_000.0 + n, positions, (Balance("ETH", 0.5),)),
            START - n * HOUR,
        )
        for n in range(count)
    ]


class Book:
    """The live book without its ledger."""

    def __init__(self) -> None:
        self.accounts: dict[str, BookAccount] = {}

    def post(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        updates = msgspec.convert(request, UpdatesRequest).updates
        return [msgspec.to_builtins(result) for result in self.apply(updates, START, "")]

    def apply(
        self, updates: Sequence[AccountUpdateIn], now: int, _requester: str
    ) -> list[UpdateResult]:
        """As the store of the ledger does."""
        results = []
        for update in updates:
            applied = apply_update(self.accounts.get(update.account_id), update, now)
            if applied.after is not None:
                self.accounts[update.account_id] = applied.after
            results.append(applied.result)
        return results

    def known(self, account_ids: Sequence[str]) -> set[str]:
        """As the store of the ledger does."""
        return set(account_ids) & self.accounts.keys()


def told(activity: ClientActivity, book: Book) -> None:
    for request in activity.snapshots(START):
        activity.take(book.post(request))


def test_accounts_are_told_whole_first_and_once() -> None:
    accounts, book = clients(BATCH + 3), Book()
    activity = ClientActivity(accounts, 7, SYMBOLS)
    requests = activity.snapshots(START)
    assert [len(request["updates"]) for request in requests] == [BATCH, 3]
    told(activity, book)
    assert {name: kept.account for name, kept in book.accounts.items()} == {
        account.account_id: account for account, _ in accounts
    }
    assert activity.snapshots(START) == []


@pytest.mark.parametrize("files_first", [True, False])
def test_files_as_a_source_and_the_venue_do_not_set_each_other_back(
    files_first: bool, tmp_path: Path
) -> None:
    opened, stored = clients(3), Book()
    by_time = [AccountUpdates(time, BookArrays.of([account])) for account, time in opened]
    write_accounts(tmp_path, by_time[::-1])
    feed = AccountFileFeed(stored, tmp_path)  # type: ignore[arg-type]
    activity = ClientActivity(opened, 7, SYMBOLS)
    if files_first:
        assert feed.advance(START) == 3
    told(activity, stored)
    request = activity.actions(0, START, MARK, 1e9)
    assert request is not None
    assert {result["status"] for result in stored.post(request)} == {"applied"}
    before = dict(stored.accounts)
    assert files_first or feed.advance(START) == 0
    assert stored.accounts == before


def test_actions_are_applied_in_sequence_and_as_often_as_the_rate_says() -> None:
    book, activity = Book(), ClientActivity(clients(300), 7, SYMBOLS)
    told(activity, book)
    count, kinds = 0, set()
    for row in range(100):
        request = activity.actions(row, START + row * HOUR, MARK, 1.0)
        if request is None:
            continue
        results = book.post(request)
        assert {result["status"] for result in results} == {"applied"}
        activity.take(results)
        count += len(results)
        kinds |= {delta["kind"] for u in request["updates"] for delta in u["deltas"]}
    assert kinds == {"deposit", "withdrawal", "fill"}
    # A trade in a coin without a price, a quarter of all, is left out.
    assert count == pytest.approx(300 * 100 * RATE * 0.75, rel=0.2)


def test_a_restarted_venue_goes_on_with_the_numbers_that_the_book_expects() -> None:
    accounts, book = clients(50), Book()
    first = ClientActivity(accounts, 7, SYMBOLS)
    told(first, book)
    for row in range(30):
        request = first.actions(row, START, MARK, 1.0)
        if request is not None:
            first.take(book.post(request))
    before = dict(book.accounts)
    second = ClientActivity(accounts, 7, SYMBOLS)
    told(second, book)
    assert book.accounts == before, "no account is set back to its opening"
    one, other = (venue.actions(30, START, MARK, 8.0) for venue in (first, second))
    assert one == other
    assert one is not None
    assert {result["status"] for result in book.post(one)} == {"applied"}


def test_an_account_out_of_sync_is_told_whole_again() -> None:
    book, activity = Book(), ClientActivity(clients(1), 7, SYMBOLS)
    told(activity, book)
    stranger = {"kind": "deposit", "asset": "USD", "amount": 5.0}
    lost = {"account_id": "retail-0000", "sequence": 2**52, "deltas": [stranger]}
    activity.take(book.post({"updates": [lost]}))
    assert not book.accounts["retail-0000"].in_sync
    assert activity.actions(0, START, MARK, 1e9) is None
    told(activity, book)
    assert book.accounts["retail-0000"].in_sync
