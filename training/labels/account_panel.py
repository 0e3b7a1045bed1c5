"""Books of accounts valued at many decision times at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from decisions.book_scoring import account_rows
from features.account.frame import AccountRows, LegGreeks
from margin.book.account_requirement import Requirement
from margin.book.book_paths import book_paths
from margin.book.portfolio_batch import row_sums
from margin.engines.equity_paths import BookPaths
from margin.rules.ruleset import RuleSet
from training.labels.book_intervals import BookIntervals
from training.labels.market_path import LabelMarket

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PanelTimes:
    """N account-times: K accounts, each at evenly spaced decision times.

    Attributes
    ----------
    index, row:
        Which book at which market row, shape (N,).
    start:
        Offsets of each account's times, in rising order, shape (K + 1,).
    step_hours:
        Hours from one time of an account to the next.
    """

    index: Ints
    row: Ints
    start: Ints
    step_hours: float


@dataclass(frozen=True, slots=True)
class AccountPanel:
    """Figures of N account-times.

    Attributes
    ----------
    start, step_hours:
        See `PanelTimes`.
    rows:
        What the features read of each.
    figures:
        What the rules say of each.
    usable:
        Whether every symbol of the book has enough history and fresh data, and the rules have
        figures of it, shape (N,).
    """

    start: Ints
    step_hours: float
    rows: AccountRows
    figures: Requirement
    usable: Bools

    def __len__(self) -> int:
        return len(self.rows.row)

    @property
    def initial_margin(self) -> Floats:
        """The rule's, settlement currency, shape (N,)."""
        return self.figures.initial_margin

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
    intervals: BookIntervals, times: PanelTimes, market: LabelMarket, ruleset: RuleSet
) -> AccountPanel:
    """Value books at account-times under a rule set of any engine.

    A missing mark, and an account that the rules have no figures of, gives NaN figures.
    """
    paths = book_paths(intervals.book, market, ruleset)
    rows, figures = value_rows(paths, times.index, times.row)
    counts = np.diff(intervals.symbol_start)[times.index]
    legs = ranges(intervals.symbol_start[times.index], counts)
    unusable = ~market.usable()[np.repeat(times.row, counts), intervals.symbol[legs]]
    usable = row_sums(offsets(counts), unusable.astype(np.float64)) == 0.0
    usable[list(figures.problems)] = False
    return AccountPanel(times.start, times.step_hours, rows, figures, usable)


def value_rows(paths: BookPaths, index: Ints, row: Ints) -> tuple[AccountRows, Requirement]:
    """Books at market rows: what features and rules read of them, as decisions do."""
    figures = paths.figures(index, row)
    return replace(account_rows(figures, np.arange(len(figures))), row=row), figures


def take_rows(rows: AccountRows, index: Ints) -> AccountRows:
    """Chosen account rows, in the order given."""
    counts = rows.leg_start[index + 1] - rows.leg_start[index]
    legs = ranges(rows.leg_start[index], counts)
    collateral, greeks = rows.leg_collateral, rows.leg_greeks
    return AccountRows(
        rows.row[index],
        offsets(counts),
        rows.leg_symbol[legs],
        rows.leg_notional[legs],
        rows.headroom[index],
        rows.maintenance_margin[index],
        None if collateral is None else collateral[legs],
        None
        if greeks is None
        else LegGreeks(greeks.option[legs], greeks.gamma[legs], greeks.vega[legs]),
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
