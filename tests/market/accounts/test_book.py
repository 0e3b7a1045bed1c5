"""Books of accounts as flat arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from market.accounts.book import Account, Balance, Book, Position

_NUMBERS = st.floats(-1e9, 1e9)
_POSITIONS = st.builds(
    Position,
    instrument=st.sampled_from(["BTCUSDT", "ETHUSDT-PERP"]),
    quantity=_NUMBERS,
    entry_price=st.none() | st.floats(0.01, 1e6),
)
_BALANCES = st.builds(Balance, asset=st.sampled_from(["BTC", "USDC"]), amount=_NUMBERS)
_ACCOUNTS = st.builds(
    Account,
    account_id=st.text(max_size=4),
    cash=_NUMBERS,
    positions=st.lists(_POSITIONS, max_size=4).map(tuple),
    collateral=st.lists(_BALANCES, max_size=3).map(tuple),
)


def _unflatten(book: Book) -> list[Account]:
    accounts = []
    for i, account_id in enumerate(book.account_ids):
        legs = range(book.leg_start[i], book.leg_start[i + 1])
        balances = range(book.balance_start[i], book.balance_start[i + 1])
        entries = [None if np.isnan(price) else price for price in book.leg_entry_price]
        accounts.append(
            Account(
                account_id,
                book.cash[i],
                tuple(
                    Position(book.leg_instrument[j], book.leg_quantity[j], entries[j]) for j in legs
                ),
                tuple(Balance(book.balance_asset[j], book.balance_amount[j]) for j in balances),
            )
        )
    return accounts


@given(st.lists(_ACCOUNTS, max_size=6))
def test_flat_arrays_hold_every_account_in_its_order(accounts: list[Account]) -> None:
    book = Book.of(accounts)
    assert len(book) == len(accounts)
    assert _unflatten(book) == accounts


def test_types_are_fixed_also_for_an_empty_book() -> None:
    for book in (
        Book.of([]),
        Book.of([Account("a", 1)]),
        Book.of([Account("a", 1), Account("b", 2)]),
    ):
        assert book.leg_start.dtype == book.balance_start.dtype == np.int64
        assert book.leg_start.tolist() == book.balance_start.tolist() == [0] * (len(book) + 1)
        floats = (book.cash, book.leg_quantity, book.leg_entry_price, book.balance_amount)
        assert all(array.dtype == np.float64 for array in floats)


def test_missing_entry_price_is_nan_not_zero() -> None:
    book = Book.of([Account("a", 0.0, (Position("BTCUSDT", 1.0), Position("BTCUSDT", 1.0, 5.0)))])
    np.testing.assert_array_equal(book.leg_entry_price, [np.nan, 5.0])
