"""Features of books against plain sums and against the profit and loss of the book itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import statsmodels.api as sm

from features.account.aggregates import PRIOR_VOLATILITY
from features.account.frame import AccountRows, compute_aggregates, compute_features
from features.registry import (
    ACCOUNT_COLUMNS,
    ACCOUNT_FEATURES,
    ADV,
    BOOK_MEANS,
    CORRELATION_HALF_LIFE_HOURS,
    CROSS_FEATURES,
    GROUP_FEATURES,
    MARKET_COLUMNS,
    MARKET_FEATURES,
    PRIOR_VOLATILITIES,
    REQUIRED_COLUMNS,
)
from features.state.market_state import MarketFeatures
from market.bars.panel import CLOSE, FUNDING, VOLUME, BarPanel

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
MakePanel = Callable[..., BarPanel]

SYMBOLS = ("A", "B", "C", "D", "E")
LAST = 259


@dataclass(frozen=True, slots=True)
class _Book:
    legs: tuple[tuple[int, float], ...]
    """Symbol and signed notional."""
    headroom: float = 10.0
    maintenance: float = 4.0
    row: int = LAST

    @property
    def gross(self) -> float:
        return math.fsum(abs(x) for _, x in self.legs)


BOOKS = (
    _Book(((0, 100.0),)),
    _Book(((2, -40.0),), headroom=-3.0),
    _Book(((1, 300.0), (4, -100.0))),
    _Book(((0, -5e4), (1, 2e4), (2, 7e4), (3, -1e3), (4, 123.0)), headroom=900.0),
    _Book(((3, 10.0), (3, 15.0), (1, -2.5)), headroom=1e-3, maintenance=0.2, row=220),
    _Book(((4, 1e7), (0, -1e7)), headroom=2e5, maintenance=3e5, row=199),
)

every_book = pytest.mark.parametrize("book", BOOKS, ids=lambda book: f"{len(book.legs)}@{book.row}")


@pytest.fixture(scope="module")
def panel(make_panel: MakePanel) -> BarPanel:
    return make_panel(LAST + 1, symbols=SYMBOLS, seed=71)


@pytest.fixture(scope="module")
def market(panel: BarPanel, advance: Advance) -> MarketFeatures:
    return advance(panel)


def _rows(book: _Book) -> AccountRows:
    return AccountRows(
        row=np.array([book.row]),
        leg_start=np.array([0, len(book.legs)]),
        leg_symbol=np.array([s for s, _ in book.legs], dtype=np.int64),
        leg_notional=np.array([x for _, x in book.legs]),
        headroom=np.array([book.headroom]),
        maintenance_margin=np.array([book.maintenance]),
    )


def _features(book: _Book, market: MarketFeatures) -> dict[str, float]:
    values = compute_features(compute_aggregates(_rows(book), market))[0]
    return dict(zip(ACCOUNT_COLUMNS, values.tolist(), strict=True))


def _pnl(book: _Book, panel: BarPanel) -> tuple[Floats, Floats]:
    """What the present positions would have earned bar by bar, and the market's returns."""
    returns = np.diff(np.log(panel.values[: book.row + 1, :, CLOSE]), axis=0)
    pnl = np.zeros(len(returns))
    for s, x in book.legs:
        pnl += x * returns[:, s]
    return pnl, returns.mean(axis=1)


def _weighted(values: Floats) -> float:
    return float(pd.Series(values).ewm(halflife=CORRELATION_HALF_LIFE_HOURS).mean().iloc[-1])


@every_book
@pytest.mark.parametrize("name", BOOK_MEANS)
def test_book_mean_is_the_average_weighted_by_absolute_notional(
    name: str, book: _Book, market: MarketFeatures
) -> None:
    values = {s: float(market.column(name)[book.row, s]) for s, _ in book.legs}
    expected = math.fsum(abs(x) * values[s] for s, x in book.legs) / book.gross
    got = _features(book, market)[f"book_{name}"]
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_book_means_have_the_family_of_their_market_feature() -> None:
    every = (*MARKET_FEATURES, *CROSS_FEATURES, *GROUP_FEATURES, *ACCOUNT_FEATURES)
    families = {f.name: f.family for f in every}
    for name in BOOK_MEANS:
        assert families[f"book_{name}"] == families[name]


@every_book
def test_book_funding_is_what_the_positions_pay(
    book: _Book, panel: BarPanel, market: MarketFeatures
) -> None:
    # From the settlements: a long position pays a positive rate, a short one is paid it.
    assert panel.exogenous is not None
    paid = 0.0
    for s, x in book.legs:
        rates = pd.Series(panel.exogenous[: book.row + 1, s, FUNDING]).ffill()[-24:]
        paid += math.fsum(x * rate for rate in rates) / 24.0
    got = _features(book, market)["book_funding"]
    assert got == pytest.approx(paid / book.gross, rel=1e-9, abs=1e-18)


def test_book_funding_of_the_two_sides_of_a_trade_is_opposite(market: MarketFeatures) -> None:
    long, short = (_features(_Book(((2, x),)), market)["book_funding"] for x in (7.0, -7.0))
    assert long == -short != 0.0


@every_book
def test_book_volatility_is_that_of_its_profit_and_loss(
    book: _Book, panel: BarPanel, market: MarketFeatures
) -> None:
    # The volatility of the correlation's own half-life is exact: one set of weights throughout.
    pnl, _ = _pnl(book, panel)
    sigma = math.sqrt(_weighted(pnl**2))
    got = _features(book, market)
    assert got["book_ewma_volatility_72h"] == pytest.approx(sigma / book.gross, rel=1e-9)
    expected = max(0.0, min(1000.0, book.headroom / sigma))
    assert got["distance_ewma_volatility_72h"] == pytest.approx(expected, rel=1e-9)


@every_book
def test_market_exposure_is_the_correlation_of_profit_and_loss_with_the_market(
    book: _Book, panel: BarPanel, market: MarketFeatures
) -> None:
    pnl, factor = _pnl(book, panel)
    expected = _weighted(pnl * factor) / math.sqrt(_weighted(pnl**2) * _weighted(factor**2))
    got = _features(book, market)["market_exposure"]
    assert got == pytest.approx(expected, rel=1e-8, abs=1e-10)


@every_book
def test_shock_distance_counts_the_shocks_of_the_market_that_headroom_bears(
    book: _Book, panel: BarPanel, market: MarketFeatures
) -> None:
    # What the book loses as the market moves is the slope of a regression of its profit and loss.
    pnl, factor = _pnl(book, panel)
    age = np.arange(len(pnl))[::-1] / CORRELATION_HALF_LIFE_HOURS
    slope = float(sm.WLS(pnl, factor, weights=0.5**age).fit().params[0])
    losses = [-slope * move for move in (-0.10, 0.10)]
    expected = min(1000.0, max(0.0, book.headroom) / max(losses))
    got = _features(book, market)["shock_distance"]
    assert got == pytest.approx(expected, rel=1e-8)


def test_shock_distance_at_its_limits(market: MarketFeatures) -> None:
    beta = market.column("market_beta")[LAST]
    hedged = ((0, 100.0), (1, -100.0 * float(beta[0] / beta[1])))
    assert _features(_Book(hedged, headroom=1.0), market)["shock_distance"] == 1000.0
    assert _features(_Book(hedged, headroom=0.0), market)["shock_distance"] == 0.0
    assert _features(_Book((), headroom=1.0), market)["shock_distance"] == 1000.0
    assert _features(_Book((), headroom=-1.0), market)["shock_distance"] == 0.0
    rich = _Book(((0, 1.0),), headroom=1e9)
    assert _features(rich, market)["shock_distance"] == 1000.0


@every_book
def test_equity_share_is_the_inverse_of_leverage(book: _Book, market: MarketFeatures) -> None:
    leverage = book.gross / (book.headroom + book.maintenance)
    got = _features(book, market)["equity_share"]
    assert got == pytest.approx(1.0 / leverage, rel=1e-12)


def test_equity_share_at_its_limits(market: MarketFeatures) -> None:
    def share(legs: tuple[tuple[int, float], ...], headroom: float, maintenance: float) -> float:
        return _features(_Book(legs, headroom, maintenance), market)["equity_share"]

    assert share((), 5.0, 0.0) == 1000.0
    assert share((), -5.0, 0.0) == -1000.0
    assert share(((0, 1.0),), 2e3, 1.0) == 1000.0
    assert share(((0, 1.0),), -2e3, 1.0) == -1000.0
    assert share(((0, 1.0),), -0.25, 0.25) == 0.0  # all of the maintenance margin is gone


@every_book
def test_return_size_and_concentration_from_bars(
    book: _Book, panel: BarPanel, market: MarketFeatures
) -> None:
    close, volume = panel.values[: book.row + 1, :, CLOSE], panel.values[: book.row + 1, :, VOLUME]
    turnover = (close * volume)[-168:].sum(axis=0) / 7.0
    gain = math.fsum(x * math.log(close[-1, s] / close[-25, s]) for s, x in book.legs)
    days = max(abs(x) / turnover[s] for s, x in book.legs)
    got = _features(book, market)
    assert got["book_return"] == pytest.approx(gain / book.gross, rel=1e-8, abs=1e-12)
    assert got["adv_share"] == pytest.approx(math.log(1e-12 + days), rel=1e-9)
    squares = math.fsum((x / book.gross) ** 2 for _, x in book.legs)
    assert got["herfindahl"] == pytest.approx(squares, rel=1e-12)
    net = math.fsum(x for _, x in book.legs)
    assert got["net_share"] == pytest.approx(net / book.gross, abs=1e-15)
    assert got["headroom_share"] == pytest.approx(book.headroom / book.gross, rel=1e-12)


@every_book
def test_prior_volatility_is_the_root_of_the_mean_variance(
    book: _Book, market: MarketFeatures
) -> None:
    row = _features(book, market)
    variances = [(row[f"book_{name}"] * book.gross) ** 2 for name in PRIOR_VOLATILITIES]
    got = compute_aggregates(_rows(book), market)[0, PRIOR_VOLATILITY]
    assert got == pytest.approx(math.sqrt(math.fsum(variances) / 4.0), rel=1e-12)


def _unknown(market: MarketFeatures, name: str, symbol: int) -> MarketFeatures:
    values = market.values.copy()
    values[:, symbol, MARKET_COLUMNS.index(name)] = np.nan
    return dataclasses.replace(market, values=values)


@pytest.mark.parametrize("name", BOOK_MEANS)
def test_book_mean_is_unknown_only_to_books_that_hold_what_is_unknown(
    name: str, market: MarketFeatures
) -> None:
    blind = _unknown(market, name, 1)
    for legs in (((0, 5.0), (1, 5.0)), ((1, -5.0), (0, 5.0))):
        assert math.isnan(_features(_Book(legs), blind)[f"book_{name}"])
    assert math.isfinite(_features(_Book(((0, 5.0), (2, 5.0))), blind)[f"book_{name}"])
    assert _features(_Book(()), blind)[f"book_{name}"] == 0.0


def test_unknown_exogenous_series_leave_the_rest_of_a_book_known(market: MarketFeatures) -> None:
    blind = market
    for name in MARKET_COLUMNS:
        if name not in REQUIRED_COLUMNS:
            blind = _unknown(blind, name, 0)
    row = _features(_Book(((0, 5.0), (1, 5.0))), blind)
    unknown = {name for name, value in row.items() if math.isnan(value)}
    of_context = {f"book_{name}" for name in BOOK_MEANS if name not in REQUIRED_COLUMNS}
    assert unknown == of_context | {"book_funding"}


@pytest.mark.parametrize("first", [0, 1])
def test_size_is_unknown_while_one_symbol_is_in_warm_up(first: int, market: MarketFeatures) -> None:
    # Whichever of the two positions comes first.
    legs = ((first, 5.0), (1 - first, 5.0))
    assert math.isnan(_features(_Book(legs), _unknown(market, ADV, 1))["adv_share"])
