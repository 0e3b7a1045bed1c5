"""Paths of sampled account lives without any top-up: the ground that every margin policy walks.

Decisions are taken at whole hours. A life is a book from its first hour to its last, in the
span asked for; it is followed, with its book unchanged, `FOLLOW_HOURS` beyond its last decision.
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
from margin.engines.tier.tiers import TierTable
from margin.floors.liquidity import closing_costs
from margin.rules.floors import LiquidityRules
from margin.rules.ruleset import RuleSet
from market.bars.history import MarketHistory
from market.core.clock import HOUR, format_time
from market.core.errors import DataError
from training.labels.account_panel import (
    AccountPanel,
    hashed_order,
    offsets,
    ranges,
    take_panel,
    value_panel,
)
from training.labels.book_intervals import BookIntervals

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FOLLOW_HOURS = 24
"""Hours that are known after every decision: the horizon within which a call is needed."""


@dataclass(frozen=True, slots=True)
class LifePaths:
    """K lives with N decision hours and P = N + K·`FOLLOW_HOURS` hours of path.

    The path of life i begins at ``times.start[i] + i * FOLLOW_HOURS``, in step with its hours.

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


def follow_lives(
    segments: BookIntervals,
    history: MarketHistory,
    market: MarketFeatures,
    ruleset: RuleSet,
    span: tuple[int, int],
    *,
    max_account_hours: int,
    seed: int,
) -> LifePaths:
    """Follow whole lives through a span.

    Accounts are taken in a hashed order while their hours fit into `max_account_hours`. A life
    that breached before the span, or stands in breach when it begins, is not in it. A life ends
    where a mark of the following `FOLLOW_HOURS` is missing.

    Parameters
    ----------
    segments:
        Books and when they were held.
    history, market:
        Marks and market features on the same grid.
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
    hourly = np.flatnonzero(history.bars.closes % HOUR == 0).astype(np.int64)
    times = history.bars.closes[hourly]
    begin = int(np.searchsorted(times, span[0]))
    end = int(np.searchsorted(times, min(span[1], times[-1]) - FOLLOW_HOURS * HOUR, side="right"))
    born = np.searchsorted(hourly, segments.first_row).astype(np.int64)
    first = np.maximum(born, begin)
    hours = np.minimum(np.searchsorted(hourly, segments.last_row), end) - first
    hours[np.diff(segments.leg_start) == 0] = 0
    np.maximum(hours, 0, out=hours)
    chosen = _choose(segments, hours, max_account_hours, seed)
    born, first, hours = born[chosen], first[chosen], hours[chosen]

    # Valued from birth, for a life that breached before the span is over.
    lengths = first + hours + FOLLOW_HOURS - born
    whole = value_panel(
        segments,
        np.repeat(chosen, lengths),
        hourly[ranges(born, lengths)],
        offsets(lengths),
        1.0,
        history,
        market,
        TierTable.build(ruleset, history.bars.symbols),
    )
    lead = first - born
    for i in range(len(chosen)):
        headroom = whole.rows.headroom[whole.start[i] : whole.start[i + 1]]
        hours[i] = _usable_hours(headroom, int(lead[i]), int(hours[i]))
    lead, hours, start = lead[hours > 0], hours[hours > 0], whole.start[:-1][hours > 0]
    paths = _assemble(whole, start + lead, hours, market, ruleset.floors.liquidity)
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


def _choose(segments: BookIntervals, hours: Ints, limit: int, seed: int) -> Ints:
    """Segments with hours, of the first accounts in the hashed order that fit the limit."""
    by_account = np.bincount(segments.account, hours, len(segments.account_ids))
    order = hashed_order(segments.account_key, seed)
    fits = np.zeros(len(order), dtype=np.bool_)
    fits[order] = np.cumsum(by_account[order]) <= limit
    return np.flatnonzero(fits[segments.account] & (hours > 0)).astype(np.int64)


def _usable_hours(headroom: Floats, lead: int, hours: int) -> int:
    """Decision hours of one life after `lead` hours; 0 if it was over by then."""
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
) -> LifePaths:
    start = offsets(hours)
    times = take_panel(whole, ranges(first, hours), start)
    path = ranges(first, hours + FOLLOW_HOURS)
    followed = take_panel(whole, path, offsets(hours + FOLLOW_HOURS))
    headroom = followed.rows.headroom
    equity = headroom + followed.maintenance_margin
    standing = np.empty(len(times), dtype=np.bool_)
    lowest = np.empty(len(times))
    for i in range(len(hours)):
        own = slice(start[i], start[i + 1])
        walked = headroom[followed.start[i] : followed.start[i + 1]]
        standing[own] = np.minimum.accumulate(walked[: hours[i]]) >= 0.0
        lowest[own] = sliding_window_view(walked[1:], FOLLOW_HOURS).min(axis=1)
    return LifePaths(
        times=times,
        at_risk=standing & (times.rows.headroom > 0.0) & times.usable,
        headroom=headroom,
        closed_equity=equity - closing_cost(followed, market, rules),
        lowest_headroom=lowest,
    )
