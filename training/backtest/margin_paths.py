"""Margin paths: headroom and equity of sampled accounts without top-ups, for every policy alike.

Decisions are taken at whole hours. A path is that of one book from its first hour in the span to
its last, and goes on, with the book unchanged, `FOLLOW_HOURS` beyond the last decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from features.registry import ADV, CROSS_VOLATILITY
from features.state.market_state import MarketFeatures
from margin.book.portfolio_batch import row_sums
from margin.floors.liquidity import closing_costs
from margin.rules.floors import LiquidityRules
from margin.rules.ruleset import RuleSet
from market.core.clock import HOUR, format_time
from market.core.errors import DataError
from training.labels.account_panel import (
    AccountPanel,
    PanelTimes,
    hashed_order,
    offsets,
    ranges,
    take_panel,
    value_panel,
)
from training.labels.book_intervals import BookIntervals
from training.labels.market_path import LabelMarket

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FOLLOW_HOURS = 24
"""Hours that are known after every decision: the horizon within which a call is needed."""


@dataclass(frozen=True, slots=True)
class MarginPaths:
    """K accounts with N decision hours and P = N + K·`FOLLOW_HOURS` hours of path.

    The path of account i begins at ``times.start[i] + i * FOLLOW_HOURS``, in step with its hours.

    Attributes
    ----------
    times:
        Books at the decision hours, one hour apart.
    at_risk:
        Hours that averages go over: headroom above 0, no breach before, usable market data;
        shape (N,).
    headroom:
        Equity minus maintenance margin, settlement currency, shape (P,).
    closed_equity:
        Equity after closing every position at this hour's mark, shape (P,).
    lowest_headroom:
        Lowest headroom of the `FOLLOW_HOURS` after each decision hour, shape (N,).
    """

    times: AccountPanel
    at_risk: Bools
    headroom: Floats
    closed_equity: Floats
    lowest_headroom: Floats

    def __len__(self) -> int:
        return len(self.times.start) - 1


def sample_margin_paths(
    intervals: BookIntervals,
    market: LabelMarket,
    ruleset: RuleSet,
    span: tuple[int, int],
    *,
    max_account_hours: int,
    seed: int,
) -> MarginPaths:
    """Follow whole accounts through a span.

    Accounts are taken in a hashed order while their hours fit into `max_account_hours`. An
    account that breached before the span, or is in breach when it begins, is not in it. A path
    ends where a mark of the following `FOLLOW_HOURS` is missing.

    Parameters
    ----------
    intervals:
        Books and when accounts hold them.
    market:
        Marks and market features.
    ruleset:
        Margins, and the parameters of the closing cost.
    span:
        First and last nanosecond; the hours that follow each decision close within it too.
    max_account_hours, seed:
        Size and seed of the sample.

    Raises
    ------
    DataError
        No account-hour can be used.
    """
    history = market.history
    hourly = np.flatnonzero(history.bars.closes % HOUR == 0).astype(np.int64)
    closes = history.bars.closes[hourly]
    begin = int(np.searchsorted(closes, span[0]))
    end = int(np.searchsorted(closes, min(span[1], closes[-1]) - FOLLOW_HOURS * HOUR, side="right"))
    opened = np.searchsorted(hourly, intervals.first_row).astype(np.int64)
    first = np.maximum(opened, begin)
    hours = np.minimum(np.searchsorted(hourly, intervals.last_row), end) - first
    hours[np.diff(intervals.symbol_start) == 0] = 0
    np.maximum(hours, 0, out=hours)
    chosen = _choose(intervals, hours, max_account_hours, seed)
    opened, first, hours = opened[chosen], first[chosen], hours[chosen]

    # Valued from the opening, because an account that breached before the span is left out.
    lengths = first + hours + FOLLOW_HOURS - opened
    times = PanelTimes(
        np.repeat(chosen, lengths), hourly[ranges(opened, lengths)], offsets(lengths), 1.0
    )
    whole = value_panel(intervals, times, market, ruleset)
    lead = first - opened
    for i in range(len(chosen)):
        headroom = whole.rows.headroom[whole.start[i] : whole.start[i + 1]]
        hours[i] = _usable_hours(headroom, int(lead[i]), int(hours[i]))
    lead, hours, start = lead[hours > 0], hours[hours > 0], whole.start[:-1][hours > 0]
    paths = _assemble(whole, start + lead, hours, market.features, ruleset.floors.liquidity)
    if not paths.at_risk.any():
        raise DataError(
            f"no account-hour between {format_time(span[0])} and {format_time(span[1])} can be "
            f"used with max_account_hours = {max_account_hours}; widen the span, raise the limit "
            "or check the accounts"
        )
    return paths


def closing_cost(times: AccountPanel, market: MarketFeatures, rules: LiquidityRules) -> Floats:
    """Cost of closing every position at once, shape (N,).

    The liquidity floor without the risk of extra days, see `margin.floors.liquidity`.
    """
    rows = times.rows
    at = np.repeat(rows.row, np.diff(rows.leg_start)), rows.leg_symbol
    costs = closing_costs(
        rows.leg_symbol,
        rows.leg_notional,
        market.column(CROSS_VOLATILITY)[at],
        market.column(ADV)[at],
        market.symbols,
        msgspec.structs.replace(rules, confidence=0.0),
    )
    return row_sums(rows.leg_start, costs.cost)


def _choose(intervals: BookIntervals, hours: Ints, limit: int, seed: int) -> Ints:
    """Intervals with hours, of the first accounts in the hashed order that fit the limit."""
    by_account = np.bincount(intervals.account, hours, len(intervals.account_ids))
    order = hashed_order(intervals.account_key, seed)
    fits = np.zeros(len(order), dtype=np.bool_)
    fits[order] = np.cumsum(by_account[order]) <= limit
    return np.flatnonzero(fits[intervals.account] & (hours > 0)).astype(np.int64)


def _usable_hours(headroom: Floats, lead: int, hours: int) -> int:
    """Decision hours of one account after `lead` hours; 0 if it had breached by then."""
    missing = np.flatnonzero(np.isnan(headroom))
    known = int(missing[0]) if len(missing) else len(headroom)
    if known <= lead or headroom[: lead + 1].min() < 0.0:
        return 0
    return max(0, min(hours, known - lead - FOLLOW_HOURS))


def _assemble(
    whole: AccountPanel,
    first: Ints,
    hours: Ints,
    market: MarketFeatures,
    rules: LiquidityRules,
) -> MarginPaths:
    start = offsets(hours)
    times = take_panel(whole, ranges(first, hours), start)
    path = ranges(first, hours + FOLLOW_HOURS)
    followed = take_panel(whole, path, offsets(hours + FOLLOW_HOURS))
    headroom = followed.rows.headroom
    equity = headroom + followed.maintenance_margin
    unbreached = np.empty(len(times), dtype=np.bool_)
    lowest = np.empty(len(times))
    for i in range(len(hours)):
        decision_hours = slice(start[i], start[i + 1])
        path_headroom = headroom[followed.start[i] : followed.start[i + 1]]
        unbreached[decision_hours] = np.minimum.accumulate(path_headroom[: hours[i]]) >= 0.0
        lowest[decision_hours] = sliding_window_view(path_headroom[1:], FOLLOW_HOURS).min(axis=1)
    return MarginPaths(
        times=times,
        at_risk=unbreached & (times.rows.headroom > 0.0) & times.usable,
        headroom=headroom,
        closed_equity=equity - closing_cost(followed, market, rules),
        lowest_headroom=lowest,
    )
