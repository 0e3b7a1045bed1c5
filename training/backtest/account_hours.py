"""Account-hours of whole accounts, with the fall of headroom in the day that follows each.

Decisions are taken at whole hours. The book of an hour is held for the `FOLLOW_HOURS` after it,
whatever its owner did then: the same convention as the labels of a static book.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.book.book_paths import book_paths
from margin.engines.equity_paths import RowSpans
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR, format_time
from market.core.errors import DataError
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
Bools = npt.NDArray[np.bool_]

FOLLOW_HOURS = 24
"""Hours after each decision within which headroom may fall."""

_SPARE = 1.3
"""Account-hours that are valued for each one that must count: some have no headroom."""


@dataclass(frozen=True, slots=True)
class AccountHours:
    """N account-hours of K accounts, by account and time.

    Attributes
    ----------
    times:
        Books at the hours.
    interval:
        Which book interval each hour belongs to, shape (N,).
    gross:
        Gross notional, settlement currency, shape (N,).
    fall:
        D, the largest fall of headroom at a bar's close within the next `FOLLOW_HOURS`, at least
        0, settlement currency, shape (N,); NaN where the book cannot be valued at one of them.
    counted:
        Headroom above 0, usable market data, a gross notional and a known fall; shape (N,).
    headroom:
        Of each interval from its first hour to `FOLLOW_HOURS` beyond its last, at every bar's
        close, one after the other.
    at:
        Where in `headroom` each account-hour stands, shape (N,).
    closes:
        Close of each market row in nanoseconds.
    """

    times: AccountPanel
    interval: Ints
    gross: Floats
    fall: Floats
    counted: Bools
    headroom: Floats
    at: Ints
    closes: Ints

    def __len__(self) -> int:
        return len(self.fall)

    def share(self, values: Floats) -> Floats:
        """Values over gross notional at the counted hours."""
        return values[self.counted] / self.gross[self.counted]

    def sha256(self) -> str:
        """Digest of what the hours were valued at: headroom, falls, gross notional, times."""
        digest = hashlib.sha256()
        for values in (self.headroom, self.fall, self.gross, self.closes):
            digest.update(values.tobytes())
        return digest.hexdigest()


def sample_account_hours(
    intervals: BookIntervals,
    market: LabelMarket,
    ruleset: RuleSet,
    span: tuple[int, int],
    *,
    least_hours: int,
    seed: int,
) -> AccountHours:
    """Whole accounts in a hashed order, until at least `least_hours` of their hours count.

    The hash knows the account's id and the seed alone. Where all accounts have fewer hours, all
    are taken.

    Parameters
    ----------
    intervals:
        Books and when accounts hold them, without options.
    market:
        Marks and market features.
    ruleset:
        Gives the margins; of any engine.
    span:
        In nanoseconds: decisions close after the first, and the hours that follow them close no
        later than the second.
    least_hours, seed:
        Size and seed of the sample.

    Raises
    ------
    DataError
        No account-hour counts.
    """
    closes, per_hour = market.history.bars.closes, market.history.bars.interval.per_hour
    last = min(span[1], int(closes[-1])) - FOLLOW_HOURS * HOUR
    rows = np.flatnonzero((closes % HOUR == 0) & (closes > span[0]) & (closes <= last))
    first = np.searchsorted(rows, intervals.first_row)
    hours = np.maximum(np.searchsorted(rows, intervals.last_row) - first, 0)
    hours[np.diff(intervals.symbol_start) == 0] = 0
    by_account = np.bincount(intervals.account, hours, len(intervals.account_ids))
    order = hashed_order(intervals.account_key, seed)
    order = order[by_account[order] > 0]
    wanted = _SPARE * least_hours
    sample: AccountHours | None = None
    while len(order):
        many = int(np.searchsorted(np.cumsum(by_account[order]), wanted)) + 1
        taken = np.zeros(len(by_account), dtype=np.bool_)
        taken[order[:many]] = True
        chosen = np.flatnonzero(taken[intervals.account] & (hours > 0)).astype(np.int64)
        times = PanelTimes(
            np.repeat(chosen, hours[chosen]),
            rows[ranges(first[chosen], hours[chosen])].astype(np.int64),
            _account_offsets(intervals.account[chosen], hours[chosen]),
            1.0,
        )
        sample = _follow(intervals, times, market, ruleset, FOLLOW_HOURS * per_hour)
        if many >= len(order) or int(sample.counted.sum()) >= least_hours:
            break
        wanted *= 2.0
    if sample is None or not sample.counted.any():
        raise DataError(
            f"no account-hour between {format_time(span[0])} and {format_time(span[1])} can be "
            "used: none has headroom, usable market data and a day of marks after it; widen the "
            "span, or check the accounts and the bars"
        )
    return sample


def _account_offsets(account: Ints, hours: Ints) -> Ints:
    """Offsets of each account's hours, its intervals being neighbours."""
    _, first = np.unique(account, return_index=True)
    return offsets(np.add.reduceat(hours, first))


def _follow(
    intervals: BookIntervals, times: PanelTimes, market: LabelMarket, ruleset: RuleSet, steps: int
) -> AccountHours:
    """Value the account-hours and the `steps` bars after each."""
    index, first, count = np.unique(times.index, return_index=True, return_counts=True)
    begin, end = times.row[first], times.row[first + count - 1]
    paths = book_paths(intervals.book, market, ruleset).equity_paths(
        RowSpans(index, begin, end + steps, len(market.history.bars.closes)), "close"
    )
    at = np.repeat(paths.start[:-1] - begin, count) + times.row
    panel = value_panel(intervals, times, market, ruleset)
    gross, fall = panel.gross_notional(), np.empty(len(at))
    _worst_falls(paths.headroom, at, steps, fall)
    headroom = panel.rows.headroom
    return AccountHours(
        times=panel,
        interval=times.index,
        gross=gross,
        fall=fall,
        counted=panel.usable & (headroom > 0.0) & (gross > 0.0) & np.isfinite(fall),
        headroom=paths.headroom,
        at=at,
        closes=market.history.bars.closes,
    )


@njit(cache=True)
def _worst_falls(headroom, at, steps, out):  # type: ignore[no-untyped-def]
    """NaN where a headroom is."""
    for n in range(len(at)):
        lowest = headroom[at[n]]
        for k in range(1, steps + 1):
            after = headroom[at[n] + k]
            if np.isnan(after):
                lowest = np.nan
                break
            lowest = min(lowest, after)
        out[n] = headroom[at[n]] - lowest
