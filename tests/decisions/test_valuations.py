"""Prices that wait for confirmation: both valuations are recorded, the lower headroom drives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from decisions.book_scoring import value_book
from decisions.decision import decide
from decisions.levels_in_force import LevelsInForce
from decisions.messages import AccountProblem, Decision
from features.state.snapshot import MarketSnapshot
from margin.valuation.marks import suspect_view
from market.accounts.book import Account, Position
from market.bars.outlier_filter import OutlierFilter
from market.core.clock import HOUR
from market.quotes.quotes import ExpiryQuote, InstrumentQuote, QuoteBoard
from models.bundle.bundle import load_bundle
from models.forecaster import Forecaster
from monitoring.market_state.live_market import LiveMarket
from tests.endpoint_fixtures import levels_of

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
    from market.accounts.book import Book

    view = snapshot_of(market, None).view()
    found = value_book(Book.of([account(market, 1.0)]), view, ruleset)
    assert found.suspect is None
    assert found.column("equity") is found.last_good.equity


def test_a_position_without_an_entry_price_has_the_loss_of_the_suspect_price(
    market: Any, ruleset: Any, forecaster: Any
) -> None:
    entered = account(market, 1.0)
    bare = replace(entered, positions=(Position(PERP, 1.0),))
    snapshot = snapshot_of(market, 0.65)
    with_entry, without = (one([a], snapshot, ruleset, forecaster) for a in (entered, bare))
    assert without.equity == with_entry.equity < 0.0
    assert without.deposit_to_meet == with_entry.deposit_to_meet > 0.0


@pytest.mark.parametrize(("quantity", "factor"), [(1.0, 0.4), (-1.0, 1.9)])
def test_a_tick_that_waits_moves_neither_floor_nor_cap_nor_pace(
    market: Any, ruleset: Any, forecaster: Any, quantity: float, factor: float
) -> None:
    book = [account(market, quantity)]
    good = one(book, snapshot_of(market, None), ruleset, forecaster)
    got = one(book, snapshot_of(market, factor), ruleset, forecaster)
    for name in ("add_on", "floor", "cap", "model_add_on", "binding"):
        assert getattr(got, name) == getattr(good, name)
    assert got.headroom < good.headroom


def test_the_level_in_force_goes_by_the_margin_at_the_last_good_prices(
    serve: Any, market: Any, champion: str, account: dict[str, Any]
) -> None:
    marks = market.history.last_mark(-1)
    live = LiveMarket(market.state.copy(), marks, market.features, market.panel, OutlierFilter())
    endpoint = serve(live=live)
    account = {**account, "positions": [{"instrument": PERP, "quantity": 0.1}]}
    price = float(endpoint.live.state.mark[endpoint.market.panel.symbols.index("BTCUSDT")])
    before = endpoint.score(account).json()["decisions"][0]
    quotes = [{"instrument": PERP, "mark": 0.4 * price}]
    posted = endpoint.client.post("/v1/market/quotes", json={"quotes": quotes}).json()
    assert posted["results"][0]["status"] == "suspect"
    during = endpoint.score(account).json()["decisions"][0]
    assert during["valuations"]["suspect"]["headroom"] == during["headroom"] < before["headroom"]
    level = levels_of(LevelsInForce(endpoint.ledger), "acc-1")["acc-1"]
    assert level.amount == before["add_on"]
    assert level.initial_margin == before["initial_margin"]
    again = {**account, "positions": [{"instrument": PERP, "quantity": 0.05}]}
    halved = endpoint.score(again).json()["decisions"][0]
    assert halved["add_on"] == pytest.approx(0.5 * before["add_on"], rel=0.2)


def test_a_suspect_forward_counts_only_while_it_is_fresh(market: Any) -> None:
    at = int(market.features.closes[-1])
    snapshot = snapshot_of(market, None)
    expiry = ExpiryQuote(at, 100.0, 0.0, suspect_forward=50.0, suspect_ts=at)
    for hours, waits in ((0, True), (2, True), (3, False)):
        later = replace(
            snapshot, as_of=at + hours * HOUR, quotes=QuoteBoard({"BTC-27MAR26": expiry}, {})
        )
        assert (suspect_view(later.view()) is not None) == waits
