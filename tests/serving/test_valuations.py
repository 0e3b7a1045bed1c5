"""Prices that wait for confirmation: both valuations are recorded, the lower headroom drives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from features.snapshot import MarketSnapshot
from market.book import Account, Position
from market.quotes import InstrumentQuote, QuoteBoard
from models.bundle import load_bundle
from models.forecaster import Forecaster
from serving.decision import decide
from serving.messages import AccountProblem, Decision
from serving.valuations import value_book

PERP = "BTCUSDT-PERP"


@pytest.fixture(scope="module")
def forecaster(made_bundles: Any) -> Forecaster:
    root, sha = made_bundles
    return Forecaster(load_bundle(root / sha))


def snapshot_of(market: Any, factor: float | None, source: str = "bar") -> MarketSnapshot:
    """The market with BTC's newest price `factor` times the last good one and unconfirmed."""
    at = int(market.features.closes[-1])
    snapshot = MarketSnapshot.of_history(market.history, market.features, at)
    if factor is None:
        return snapshot
    column = market.panel.symbols.index("BTCUSDT")
    price = float(snapshot.mark[column])
    if source == "bar":
        suspect = np.full(len(snapshot.mark), np.nan)
        suspect[column] = factor * price
        ts = np.where(np.isnan(suspect), 0, at)
        return replace(snapshot, suspect_mark=suspect, suspect_ts=ts)
    quote = InstrumentQuote(ts=at, mark=price, suspect_mark=factor * price, suspect_ts=at)
    return replace(snapshot, quotes=QuoteBoard({}, {PERP: quote}))


def account(market: Any, quantity: float) -> Account:
    column = market.panel.symbols.index("BTCUSDT")
    price = float(market.history.mark[-1, column])
    return Account("a", 0.2 * price, (Position(PERP, quantity, price),))


def one(book: list[Account], snapshot: MarketSnapshot, ruleset: Any, model: Any) -> Decision:
    (answer,) = decide(book, snapshot, ruleset, model, {})
    assert not isinstance(answer, AccountProblem)
    return answer


@pytest.mark.parametrize("source", ["bar", "quote"])
@pytest.mark.parametrize(("quantity", "factor"), [(1.0, 0.65), (-1.0, 1.4)])
def test_an_unconfirmed_move_against_the_account_drives_headroom_and_deposit(
    market: Any, ruleset: Any, forecaster: Any, source: str, quantity: float, factor: float
) -> None:
    book = [account(market, quantity)]
    good = one(book, snapshot_of(market, None), ruleset, forecaster)
    got = one(book, snapshot_of(market, factor, source), ruleset, forecaster)
    price = book[0].positions[0].entry_price
    assert price is not None
    moved = quantity * (factor - 1.0) * price
    assert got.equity == pytest.approx(good.equity + moved)
    assert got.equity < 0.0  # bankrupt at the price that waits
    assert got.headroom == got.equity - got.maintenance_margin
    assert got.deposit_to_meet > good.deposit_to_meet
    assert not isinstance(got.valuations, msgspec.UnsetType)
    assert got.valuations.last_good.equity == pytest.approx(good.equity)
    assert got.valuations.suspect.headroom == got.headroom
    (mark,) = got.marks
    assert (mark.instrument, mark.source, mark.suspect) == (PERP, source, True)
    assert mark.price == pytest.approx(factor * price)
    assert "suspect_price" in [reason.name for reason in got.reasons]
    assert [m.suspect for m in good.marks] == [False]
    # The model sees the last good prices.
    assert got.probability == good.probability
    assert got.total_requirement == got.maintenance_margin + got.add_on


@pytest.mark.parametrize("source", ["bar", "quote"])
def test_an_unconfirmed_move_in_favour_frees_nothing(
    market: Any, ruleset: Any, forecaster: Any, source: str
) -> None:
    book = [account(market, 1.0)]
    good = one(book, snapshot_of(market, None), ruleset, forecaster)
    got = one(book, snapshot_of(market, 1.4, source), ruleset, forecaster)
    for name in ("equity", "headroom", "maintenance_margin", "add_on", "deposit_to_meet"):
        assert getattr(got, name) == getattr(good, name)
    assert not isinstance(got.valuations, msgspec.UnsetType)
    assert got.valuations.suspect.headroom > got.headroom


def test_an_account_without_the_symbol_has_one_valuation(
    market: Any, ruleset: Any, forecaster: Any
) -> None:
    other = Account("b", 100.0, (Position("ETHUSDT-PERP", 0.01),))
    got = one([other], snapshot_of(market, 0.5), ruleset, forecaster)
    assert isinstance(got.valuations, msgspec.UnsetType)


def test_neighbours_are_driven_apart(market: Any, ruleset: Any, forecaster: Any) -> None:
    book = [replace(account(market, q), account_id=str(q)) for q in (1.0, -1.0, 2.0)]
    snapshot = snapshot_of(market, 0.6)
    together = decide(book, snapshot, ruleset, forecaster, {})
    for member, answer in zip(book, together, strict=True):
        (alone,) = decide([member], snapshot, ruleset, forecaster, {})
        assert msgspec.to_builtins(alone) == msgspec.to_builtins(answer)


def test_without_prices_that_wait_the_book_is_valued_once(market: Any, ruleset: Any) -> None:
    from market.book import Book

    view = snapshot_of(market, None).view()
    found = value_book(Book.of([account(market, 1.0)]), view, ruleset)
    assert found.suspect is None
    assert found.column("equity") is found.last_good.equity
