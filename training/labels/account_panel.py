"""Books of accounts valued at many decision times at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.account.frame import AccountRows
from features.state.market_state import MarketFeatures
from margin.book.portfolio_batch import row_sums
from margin.engines.tier.tiers import TierTable
from market.bars.history import MarketHistory
from training.labels.book_intervals import BookIntervals

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class AccountPanel:
    """N account-times: K accounts, each at evenly spaced decision times.

    Attributes
    ----------
    start:
        Offsets of each account's times, in rising order, shape (K + 1,).
    step_hours:
        Hours from one time of an account to the next.
    rows:
        Market row, positions, headroom and maintenance margin of each account-time.
    initial_margin:
        The rule's, settlement currency, shape (N,).
    usable:
        Whether every symbol of the book has enough history and fresh data, shape (N,).
    """

    start: Ints
    step_hours: float
    rows: AccountRows
    initial_margin: Floats
    usable: Bools

    def __len__(self) -> int:
        return len(self.initial_margin)

    @property
    def maintenance_margin(self) -> Floats:
        """The rule's, settlement currency, shape (N,)."""
        return self.rows.maintenance_margin

    def owner(self) -> Ints:
        """Which of the K accounts each account-time belongs to, shape (N,)."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def gross_notional(self) -> Floats:
        """Sum of absolute notionals, shape (N,)."""
        return row_sums(self.rows.leg_start, np.abs(self.rows.leg_notional))


def value_panel(
    segments: BookIntervals,
    segment: Ints,
    row: Ints,
    start: Ints,
    step_hours: float,
    history: MarketHistory,
    market: MarketFeatures,
    table: TierTable,
) -> AccountPanel:
    """Value the book of a segment at a market row, N times.

    Parameters
    ----------
    segments:
        Books; collateral is a leg without margin quantity.
    segment, row:
        Which book at which row, shape (N,).
    start, step_hours:
        See `AccountPanel`.
    history, market:
        Marks and market features on the same grid. A missing mark gives NaN figures.
    table:
        Margins by symbol and notional.
    """
    counts = segments.leg_start[segment + 1] - segments.leg_start[segment]
    leg_start = offsets(counts)
    legs = ranges(segments.leg_start[segment], counts)
    leg_row, symbol = np.repeat(row, counts), segments.leg_symbol[legs]
    mark = history.mark[leg_row, symbol]
    notional = segments.leg_margin_quantity[legs] * mark
    equity = segments.cash[segment] + row_sums(leg_start, segments.leg_value_quantity[legs] * mark)
    maintenance = row_sums(leg_start, table.maintenance(notional, symbol))
    usable = market.usable(history.bars.interval) & history.decidable()
    collateral = (segments.leg_value_quantity - segments.leg_margin_quantity)[legs] * mark
    headroom = equity - maintenance
    unusable = row_sums(leg_start, (~usable[leg_row, symbol]).astype(np.float64))
    return AccountPanel(
        start=start,
        step_hours=step_hours,
        rows=AccountRows(row, leg_start, symbol, notional, headroom, maintenance, collateral),
        initial_margin=row_sums(leg_start, table.initial(notional, symbol)),
        usable=unusable == 0.0,
    )


def take_panel(times: AccountPanel, index: Ints, start: Ints) -> AccountPanel:
    """Chosen account-times, regrouped by `start`."""
    rows = take_rows(times.rows, index)
    return AccountPanel(
        start, times.step_hours, rows, times.initial_margin[index], times.usable[index]
    )


def take_rows(rows: AccountRows, index: Ints) -> AccountRows:
    """Chosen account rows, in the order given."""
    counts = rows.leg_start[index + 1] - rows.leg_start[index]
    legs = ranges(rows.leg_start[index], counts)
    collateral = rows.leg_collateral
    return AccountRows(
        rows.row[index],
        offsets(counts),
        rows.leg_symbol[legs],
        rows.leg_notional[legs],
        rows.headroom[index],
        rows.maintenance_margin[index],
        None if collateral is None else collateral[legs],
    )


def hashed_order(keys: npt.NDArray[np.uint64], seed: int) -> Ints:
    """A seeded order of accounts by the hash of their ids; knows nothing of what became of them.

    References
    ----------
    Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators" (finaliser).
    """
    x = keys ^ np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(x ^ (x >> np.uint64(31)), kind="stable").astype(np.int64)


def offsets(counts: Ints) -> Ints:
    """Offsets of consecutive groups of the given sizes, shape (K + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def ranges(first: Ints, counts: Ints) -> Ints:
    """``first[i] .. first[i] + counts[i] - 1`` for each i, one after the other."""
    start = offsets(counts)
    return np.arange(start[-1]) + np.repeat(first - start[:-1], counts)
