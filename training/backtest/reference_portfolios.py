"""Fixed reference portfolios, on which coverage and procyclicality are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from margin.book.book_paths import book_paths
from margin.book.portfolio_batch import row_sums
from margin.rules.ruleset import RuleSet
from market.accounts.book import Book
from market.core.clock import DAY
from market.core.errors import DataError
from training.backtest.var_backtests import (
    christoffersen_independence,
    conditional_coverage,
    kupiec,
)
from training.labels.account_panel import (
    AccountPanel,
    PanelTimes,
    hashed_order,
    offsets,
    ranges,
    value_panel,
)
from training.labels.book_intervals import BookIntervals
from training.labels.market_path import LabelMarket

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PORTFOLIOS = 200
EXCEEDANCE_RATE = 0.01
REJECTED_BELOW = 0.05
INCREASE_DAYS = (1, 5, 20)

_ENTRY_PRICE = 1e-300  # the whole notional is profit, and cash what is left of the equity

_DRAW = 0x9E37  # portfolios are drawn apart from the sampled accounts


@dataclass(frozen=True, slots=True)
class ReferencePortfolios:
    """K portfolios of fixed quantities at D daily window starts, 00:00 UTC.

    Attributes
    ----------
    times:
        Their margins at the window starts, a day apart, D each.
    loss:
        Loss of the 24 hours that follow, settlement currency, shape (K, D).
    """

    times: AccountPanel
    loss: Floats

    def by_day(self, values: Floats) -> Floats:
        """Values of the account-times as (K, D)."""
        return values.reshape(self.loss.shape)

    def share(self, values: Floats) -> Floats:
        """Values over gross notional, shape (K * D,)."""
        return values / self.times.gross_notional()


def draw_portfolios(
    intervals: BookIntervals,
    market: LabelMarket,
    ruleset: RuleSet,
    span: tuple[int, int],
    seed: int,
    count: int = PORTFOLIOS,
) -> ReferencePortfolios:
    """Portfolios drawn from the accounts' own books, held through the whole span.

    Books that are held within the span are taken in a hashed order: their leverage and signed
    weights at their first hour, as quantities at the span's first mark on an equity of 1. Only
    books are taken whose symbols have usable data throughout; where fewer than `count` exist,
    there are fewer portfolios.

    Parameters
    ----------
    intervals:
        Books of the accounts.
    market:
        Marks and market features.
    ruleset:
        Gives the margins.
    span:
        First and last nanosecond; every window lies within.
    seed, count:
        Seed and number of the draw.

    Raises
    ------
    DataError
        The span holds no whole day, or no book can be held through it.
    """
    history = market.history
    closes, per_day = history.bars.closes, 24 * history.bars.interval.per_hour
    last = min(span[1], int(closes[-1]))
    inside = (closes % DAY == 0) & (closes >= span[0]) & (closes + DAY <= last)
    usable = market.usable()
    # Days before any symbol has enough history are warm-up, not part of the span.
    days = np.flatnonzero(inside & usable.any(axis=1)).astype(np.int64)
    if not len(days):
        raise DataError(
            "the span holds no whole day from 00:00 UTC with usable data; the backtest needs one"
        )
    available = usable[days].all(axis=0) & ~np.isnan(history.mark[days[-1] + per_day])
    leverage, weight = _leverage_and_weights(intervals, market, ruleset)
    unavailable = (~available[intervals.symbol]).astype(np.float64)
    fits = row_sums(intervals.symbol_start, unavailable) == 0.0
    fits &= np.isfinite(leverage) & (leverage > 0.0)
    fits &= (intervals.first_row <= days[-1]) & (intervals.last_row > days[0])
    order = hashed_order(intervals.account_key[intervals.account], seed ^ _DRAW)
    chosen = order[fits[order]][:count]
    if not len(chosen):
        raise DataError(
            "no book of the accounts has usable data through the whole span; check the bars"
        )
    portfolios = _fixed_books(intervals, chosen, leverage, weight, history.mark[days[0]])
    times = value_panel(
        portfolios,
        PanelTimes(
            np.repeat(np.arange(len(chosen)), len(days)),
            np.tile(days, len(chosen)),
            offsets(np.full(len(chosen), len(days))),
            24.0,
        ),
        market,
        ruleset,
    )
    rows = times.rows
    owner = np.repeat(rows.row, np.diff(rows.leg_start))
    growth = history.mark[owner + per_day, rows.leg_symbol] / history.mark[owner, rows.leg_symbol]
    gain = row_sums(rows.leg_start, rows.leg_notional * (growth - 1.0))
    return ReferencePortfolios(times, -gain.reshape(len(chosen), len(days)))


def coverage_figures(portfolios: ReferencePortfolios, level: Floats) -> dict[str, Any]:
    """Measure how often the margin at a window's start covered the loss of its 24 hours.

    ``coverage`` is one minus the share of exceedances (loss > maintenance margin + level) of all
    windows. ``kupiec_p``, ``christoffersen_p`` (conditional coverage) and
    ``christoffersen_independence_p`` are medians over portfolios at `EXCEEDANCE_RATE`;
    ``share_not_rejected`` is the share whose conditional coverage has p of at least
    `REJECTED_BELOW`. What needs transitions is None for a single window.

    References
    ----------
    Kupiec (1995); Christoffersen (1998), see `training.backtest.var_backtests`.
    """
    margin = portfolios.by_day(portfolios.times.maintenance_margin + level)
    hits = portfolios.loss > margin
    windows = hits.shape[1]
    counted = [kupiec(int(row.sum()), windows, EXCEEDANCE_RATE).p_value for row in hits]
    figures: dict[str, Any] = {
        "coverage": 1.0 - float(hits.mean()),
        "kupiec_p": float(np.median(counted)),
        "christoffersen_p": None,
        "christoffersen_independence_p": None,
        "share_not_rejected": None,
    }
    if windows > 1:
        joint = np.array([conditional_coverage(row, EXCEEDANCE_RATE).p_value for row in hits])
        apart = [christoffersen_independence(row).p_value for row in hits]
        figures["christoffersen_p"] = float(np.median(joint))
        figures["christoffersen_independence_p"] = float(np.median(apart))
        figures["share_not_rejected"] = float((joint >= REJECTED_BELOW).mean())
    return figures


def procyclicality_figures(portfolios: ReferencePortfolios, level: Floats) -> dict[str, Any]:
    """Measure how much margin over notional changes while quantities stay.

    ``peak_to_trough`` is the largest over the smallest day; ``n_day_max_increase`` the largest
    ``M(t + n) / M(t) - 1`` for n in `INCREASE_DAYS`, None where the span is not longer than n
    days; ``response_to_one_extreme_return`` as in `response_to_extreme_return`. Medians over
    portfolios.

    References
    ----------
    Murphy, Vasios, Vause (2014), "An investigation into the procyclicality of risk-based
    initial margin models", Bank of England FSP 29.
    """
    times = portfolios.times
    rate = portfolios.by_day((times.maintenance_margin + level) / times.gross_notional())
    return {
        "peak_to_trough": float(np.median(rate.max(axis=1) / rate.min(axis=1))),
        "n_day_max_increase": {str(n): _increase(rate, n) for n in INCREASE_DAYS},
        "response_to_one_extreme_return": response_to_extreme_return(portfolios, rate),
    }


def response_to_extreme_return(portfolios: ReferencePortfolios, rate: Floats) -> float | None:
    """Relative rise of margin over notional across the portfolio's most extreme 24 hours.

    ``M(t + 1) / M(t) - 1`` at the day t whose following 24 hours have the largest absolute return
    on notional; the median over portfolios of rates of shape (K, D). None for a single day.
    """
    if rate.shape[1] < 2:
        return None
    gross = portfolios.by_day(portfolios.times.gross_notional())
    day = np.abs(portfolios.loss / gross)[:, :-1].argmax(axis=1)
    one = np.arange(len(day))
    return float(np.median(rate[one, day + 1] / rate[one, day] - 1.0))


def covering_buffer(portfolios: ReferencePortfolios, coverage: float) -> float:
    """Smallest share k of maintenance margin with which MM·(1 + k) covers so many windows."""
    ratio = portfolios.loss.ravel() / portfolios.times.maintenance_margin - 1.0
    return max(0.0, float(np.quantile(ratio, coverage, method="higher")))


def _increase(rate: Floats, days: int) -> float | None:
    if rate.shape[1] <= days:
        return None
    return float(np.median((rate[:, days:] / rate[:, :-days] - 1.0).max(axis=1)))


def _leverage_and_weights(
    intervals: BookIntervals, market: LabelMarket, ruleset: RuleSet
) -> tuple[Floats, Floats]:
    """Leverage of each book and signed weight of each position at its first row."""
    # A book that is never held in the data has no leverage.
    row = np.minimum(intervals.first_row, len(market.history.mark) - 1)
    paths = book_paths(intervals.book, market, ruleset)
    figures = paths.figures(np.arange(len(intervals)), row)
    gross = figures.gross_notional
    owner = np.repeat(np.arange(len(intervals)), np.diff(figures.leg_start))
    with np.errstate(divide="ignore", invalid="ignore"):
        return gross / figures.equity, figures.leg_notional / gross[owner]


def _fixed_books(
    intervals: BookIntervals, chosen: Ints, leverage: Floats, weight: Floats, mark: Floats
) -> BookIntervals:
    """The chosen books at the given marks, each with an equity of 1, without collateral."""
    book = intervals.book
    counts = book.leg_start[chosen + 1] - book.leg_start[chosen]
    legs = ranges(book.leg_start[chosen], counts)
    start = offsets(counts)
    first = intervals.symbol_start[chosen]
    symbol = intervals.symbol[ranges(first, counts)]
    notional = np.repeat(leverage[chosen], counts) * weight[legs]
    unused = np.zeros(len(chosen), dtype=np.int64)
    ids = tuple(intervals.account_ids[a] for a in intervals.account[chosen])
    return BookIntervals(
        account=np.arange(len(chosen), dtype=np.int64),
        account_ids=ids,
        account_key=intervals.account_key[intervals.account[chosen]],
        first_row=unused,
        last_row=unused,
        book=Book(
            account_ids=ids,
            cash=1.0 - row_sums(start, notional),
            leg_start=start,
            leg_instrument=tuple([book.leg_instrument[leg] for leg in legs.tolist()]),
            leg_quantity=notional / mark[symbol],
            leg_entry_price=np.full(len(legs), _ENTRY_PRICE),
            balance_start=np.zeros(len(chosen) + 1, dtype=np.int64),
            balance_asset=(),
            balance_amount=np.zeros(0),
        ),
        symbol_start=start,
        symbol=symbol,
    )
