"""How updates change an account: the sequence contract, and what trades do to equity."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings, strategies as st

from decisions.messages import AccountChange, PositionChange
from decisions.what_if.changes import apply_changes
from margin.valuation.account_marks import TradePrice
from market.accounts.book import Account, Balance, Position
from market.core.errors import DataError
from market.sources.http import BalanceIn, PositionIn
from monitoring.book.book_account import BookAccount, apply_deltas, apply_update
from monitoring.book.messages import (
    AccountUpdateIn,
    Delta,
    DepositIn,
    FillIn,
    FundingIn,
    SnapshotIn,
    TransferIn,
    WithdrawalIn,
)

PERP, SPOT, CALL = "BTCUSDT-PERP", "ETHUSDT", "BTC-27MAR26-60000-C"


def deposit(sequence: int, amount: float = 10.0) -> AccountUpdateIn:
    return AccountUpdateIn("a", sequence, None, None, [DepositIn("USD", amount)])


def snapshot(sequence: int, cash: float = 100.0) -> AccountUpdateIn:
    return AccountUpdateIn("a", sequence, None, SnapshotIn(cash))


def after(*updates: AccountUpdateIn) -> BookAccount:
    account: BookAccount | None = None
    for update in updates:
        account = apply_update(account, update, 5).after or account
    assert account is not None
    return account


def test_changes_count_in_their_order_from_the_first() -> None:
    account = after(deposit(1), deposit(2, 2.5))
    assert (account.account.cash, account.sequence, account.in_sync) == (12.5, 2, True)


def test_a_repeated_update_changes_nothing() -> None:
    account = after(deposit(1), deposit(2))
    for repeated in (deposit(1), deposit(2)):
        outcome = apply_update(account, repeated, 5)
        assert outcome.after is None
        assert (outcome.result.status, outcome.result.expected) == ("duplicate", 3)


def test_the_current_number_with_other_content_is_a_conflict() -> None:
    outcome = apply_update(after(deposit(1)), deposit(1, 11.0), 5)
    assert outcome.after is None
    assert outcome.result.status == "conflict"
    assert "send number 2" in outcome.result.detail


def test_a_gap_is_named_and_the_account_waits_for_a_snapshot() -> None:
    account = after(deposit(1))
    outcome = apply_update(account, deposit(4), 5)
    assert (outcome.result.status, outcome.result.expected) == ("gap", 2)
    waiting = outcome.after
    assert waiting is not None
    assert not waiting.in_sync
    assert waiting.account == account.account
    for number in (2, 3, 5):
        refused = apply_update(waiting, deposit(number), 5)
        assert (refused.result.status, refused.after) == ("out_of_sync", None)
    cured = apply_update(waiting, snapshot(4, 7.0), 5).after
    assert cured is not None
    assert (cured.in_sync, cured.sequence, cured.account.cash) == (True, 4, 7.0)
    assert apply_update(cured, deposit(5), 5).result.status == "applied"


def test_an_unknown_account_needs_its_first_update_or_a_snapshot() -> None:
    outcome = apply_update(None, deposit(3), 5)
    assert (outcome.result.status, outcome.result.expected) == ("gap", 1)
    assert apply_update(outcome.after, snapshot(3), 5).result.in_sync


def test_a_snapshot_may_skip_numbers_and_an_older_one_is_ignored() -> None:
    account = after(snapshot(1), snapshot(9, 3.0))
    assert (account.sequence, account.account.cash) == (9, 3.0)
    assert apply_update(account, snapshot(8), 5).result.status == "duplicate"


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        (AccountUpdateIn("a", 2), "either a snapshot or deltas"),
        (
            AccountUpdateIn("a", 2, None, SnapshotIn(1.0), [DepositIn("USD", 1.0)]),
            "either a snapshot or deltas",
        ),
        (
            AccountUpdateIn("a", 2, None, None, [FillIn("what is this", 1.0, 5.0)]),
            "not understood",
        ),
        (
            AccountUpdateIn("a", 2, None, None, [FillIn(PERP, 0.0, 5.0)]),
            "other than 0",
        ),
        (
            AccountUpdateIn(
                "a", 2, None, SnapshotIn(1.0, [PositionIn(PERP, 1.0), PositionIn(PERP, 2.0)])
            ),
            "more than once",
        ),
        (
            AccountUpdateIn("a", 2, None, SnapshotIn(1.0, [PositionIn(PERP, 1.0, -5.0)])),
            "above 0",
        ),
    ],
)
def test_an_update_that_cannot_be_applied_takes_no_number(
    update: AccountUpdateIn, reason: str
) -> None:
    outcome = apply_update(after(deposit(1)), update, 5)
    assert (outcome.result.status, outcome.result.expected) == ("invalid", 2)
    assert reason in outcome.result.detail
    assert outcome.after is None


def test_a_position_without_an_entry_price_cannot_be_traded() -> None:
    account = Account("a", 0.0, (Position(PERP, 1.0),))
    with pytest.raises(DataError, match="no entry price"):
        apply_deltas(account, [FillIn(PERP, 1.0, 5.0)])


def test_changes_of_one_update_count_together_or_not_at_all() -> None:
    update = AccountUpdateIn(
        "a", 1, None, None, [DepositIn("USD", 5.0), FillIn("nonsense!", 1.0, 1.0)]
    )
    assert apply_update(None, update, 5).after is None


def test_what_was_bought_in_parts_and_sold_at_once_leaves_no_remainder() -> None:
    fills: list[Delta] = [FillIn(PERP, 0.1, 100.0)] * 3
    account = apply_deltas(Account("a", 0.0), [*fills, FillIn(PERP, -0.3, 110.0)])
    assert account.positions == ()
    assert account.cash == 3.0


def test_a_fill_beyond_the_position_turns_it() -> None:
    account = apply_deltas(
        Account("a", 0.0), [FillIn(PERP, 2.0, 100.0), FillIn(PERP, -5.0, 90.0, 1.0)]
    )
    assert account.positions == (Position(PERP, -3.0, 90.0),)
    assert account.cash == -21.0


def test_an_option_pays_its_premium_from_cash() -> None:
    account = apply_deltas(Account("a", 1_000.0), [FillIn(CALL, 2.0, 150.0)])
    assert account.cash == 700.0
    assert account.positions == (Position(CALL, 2.0, 150.0),)


def test_other_assets_are_collateral() -> None:
    account = apply_deltas(
        Account("a", 0.0, (), (Balance("BTC", 1.0),)),
        [
            DepositIn("BTC", 0.5),
            WithdrawalIn("BTC", 1.5),
            DepositIn("ETH", 2.0),
            TransferIn("USD", -3.0),
            FundingIn(-1.0, PERP),
        ],
    )
    assert account.collateral == (Balance("ETH", 2.0),)
    assert account.cash == -4.0


quantities = st.floats(-1e4, 1e4).filter(lambda q: abs(q) > 1e-6)
prices = st.floats(0.01, 1e5)


def linear_equity(account: Account, mark: float) -> Fraction:
    """Cash plus the profit of each position at one mark, exact."""
    profit = Fraction(account.cash)
    for leg in account.positions:
        assert leg.entry_price is not None
        profit += Fraction(leg.quantity) * (Fraction(mark) - Fraction(leg.entry_price))
    return profit


@given(
    fills=st.lists(st.tuples(quantities, prices, st.floats(0.0, 10.0)), min_size=1, max_size=20),
    instrument=st.sampled_from([PERP, SPOT]),
    mark=prices,
)
@settings(max_examples=200, deadline=None)
def test_equity_after_fills_is_the_profit_of_each_fill_less_fees(
    fills: list[tuple[float, float, float]], instrument: str, mark: float
) -> None:
    deltas: list[Delta] = [FillIn(instrument, q, p, fee) for q, p, fee in fills]
    account = apply_deltas(Account("a", 1_000.0), deltas)
    exact = Fraction(1_000) + sum(
        Fraction(q) * (Fraction(mark) - Fraction(p)) - Fraction(fee) for q, p, fee in fills
    )
    size = 1_000.0 + sum(abs(q) * (mark + p) + fee for q, p, fee in fills)
    assert math.isclose(
        float(linear_equity(account, mark)), float(exact), rel_tol=0.0, abs_tol=1e-12 * size
    )


@given(
    instrument=st.sampled_from([PERP, CALL]),
    held=st.tuples(quantities, prices),
    quantity=quantities,
    price=prices,
)
@settings(max_examples=200, deadline=None)
def test_a_fill_at_the_mark_is_what_a_what_if_says_of_it(
    instrument: str, held: tuple[float, float], quantity: float, price: float
) -> None:
    account = Account("a", 1_000.0, (Position(instrument, *held),))
    filled = apply_deltas(account, [FillIn(instrument, quantity, price)])
    change = AccountChange("a", 0.0, [PositionChange(instrument, quantity)])
    at = TradePrice(price, premium=instrument == CALL)
    asked = apply_changes({"a": account}, [change], lambda _: at)["a"]
    size = 1_000.0 + (abs(held[0]) + abs(quantity)) * (held[1] + price)
    assert math.isclose(filled.cash, asked.cash, rel_tol=0.0, abs_tol=1e-12 * size)
    assert len(filled.positions) == len(asked.positions)
    for mine, other in zip(filled.positions, asked.positions, strict=True):
        assert math.isclose(mine.quantity, other.quantity, rel_tol=1e-9, abs_tol=1e-9)
        assert mine.entry_price is not None
        assert other.entry_price is not None
        assert math.isclose(mine.entry_price, other.entry_price, rel_tol=1e-9)


def test_an_option_without_an_entry_price_can_be_traded() -> None:
    account = apply_deltas(Account("a", 0.0, (Position(CALL, 1.0),)), [FillIn(CALL, 1.0, 150.0)])
    assert account == Account("a", -150.0, (Position(CALL, 2.0),))


events = st.lists(
    st.tuples(st.sampled_from(["delta", "snapshot"]), st.integers(1, 12)), min_size=1, max_size=40
)


@given(events)
@settings(max_examples=300, deadline=None)
def test_any_order_of_updates_gives_what_the_contract_says(events: list[tuple[str, int]]) -> None:
    """An oracle of the contract: the newest snapshot, and the unbroken deltas after it."""
    account: BookAccount | None = None
    cash, current, waiting = 0.0, 0, False
    for kind, number in events:
        update = deposit(number, float(number)) if kind == "delta" else snapshot(number, number * 7)
        outcome = apply_update(account, update, 5)
        account = outcome.after or account
        status = outcome.result.status
        if number <= current:
            assert status in ("duplicate", "conflict")
        elif kind == "snapshot":
            cash, current, waiting = number * 7.0, number, False
            assert status == "applied"
        elif waiting:
            assert status == "out_of_sync"
        elif number == current + 1:
            cash, current = cash + number, number
            assert status == "applied"
        else:
            waiting = True
            assert status == "gap"
        assert outcome.result.expected == (current + 1)
        assert outcome.result.in_sync is not waiting
    if account is not None:
        assert (account.account.cash, account.sequence) == (cash, current)
        assert account.in_sync is not waiting


def test_collateral_and_positions_of_a_snapshot_replace_all() -> None:
    first = AccountUpdateIn(
        "a", 1, None, SnapshotIn(1.0, [PositionIn(PERP, 1.0, 5.0)], [BalanceIn("BTC", 1.0)])
    )
    account = after(first, snapshot(2, 3.0))
    assert account.account == Account("a", 3.0)
