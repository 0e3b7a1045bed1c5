"""What happens to each account after each decision time: the first breach of its margin.

Labels are computed by the rule engine on the marks that followed. A breach is equity under
maintenance margin at a step of the path in ``(t, t + h]``. Three kinds of path (``extremes``):
``close`` sees the marks at bar closes, ``finest`` those at the closes of the finest bars,
``bound`` the worst price of each leg within each bar, all at once - an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.engines.tier.tiers import TierTable, tier_margin
from market.bars.history import MarketHistory
from training.labels.book_intervals import BookIntervals

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Extremes = Literal["close", "bound", "finest"]
Holding = Literal["static", "as_traded"]

NEVER = 2**63 - 1
"""Breach step of an account that does not breach within the longest horizon."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Chosen account-times and what became of them.

    Attributes
    ----------
    segment, row:
        Which book, at which decision row; shape (N,).
    headroom, maintenance_margin:
        At the decision time, settlement currency.
    breach_step:
        Decision rows until the first breach, 1 for one within the next bar; `NEVER` if none.
    dropped:
        Account-times left out, by reason.
    considered:
        Account-times in the span.
    calls, at_risk:
        Breaches within the bar that ends at each row, and accounts that had headroom before it;
        over all accounts, shape (T,).
    """

    segment: Ints
    row: Ints
    headroom: Floats
    maintenance_margin: Floats
    breach_step: Ints
    dropped: dict[str, int]
    considered: int
    calls: Floats
    at_risk: Floats


def breach_labels(
    segments: BookIntervals,
    history: MarketHistory,
    table: TierTable,
    usable: npt.NDArray[np.bool_],
    *,
    first_row: int,
    last_row: int,
    longest_step: int,
    extremes: Extremes,
    book: Holding,
    keep_share: float,
    seed: int,
) -> Outcomes:
    """Follow every segment through the marks.

    Parameters
    ----------
    segments:
        Books and when they were held.
    history:
        Marks.
    table:
        Maintenance margin by symbol and notional.
    usable:
        Which symbols have enough history and fresh data at each row, shape (T, S).
    first_row, last_row:
        Decision rows of the span, ``first_row <= row < last_row``.
    longest_step:
        Longest horizon in rows.
    extremes, book:
        Conventions, see the top of this file.
    keep_share, seed:
        Share of account-times to keep, chosen by a hash of account and time, never by outcome.
    """
    if extremes == "bound":
        low, high, sub = history.mark_low, history.mark_high, 1
    elif extremes == "finest":
        low = high = history.fine_mark
        sub = len(low) // len(history.mark)
    else:
        low = high = history.mark
        sub = 1
    threshold = np.uint64(min(int(keep_share * 2.0**64), 2**64 - 1))
    keys = segments.account_key ^ np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    groups = _account_groups(segments) if book == "as_traded" else _alone(segments)
    result = _follow(
        groups,
        segments.account,
        keys,
        segments.first_row,
        segments.last_row,
        segments.cash,
        segments.leg_start,
        segments.leg_symbol,
        segments.leg_value_quantity,
        segments.leg_margin_quantity,
        history.mark,
        low,
        high,
        sub,
        table.bounds,
        table.maintenance_rates,
        table.maintenance_deductions,
        usable,
        first_row,
        last_row,
        longest_step,
        threshold,
        history.bars.closes,
        book == "as_traded",
    )
    chosen_segment, row, headroom, margin, step, counts, calls, at_risk = result
    dropped = dict(
        zip(
            ("warm_up", "already_called", "horizon_past_end", "closed"),
            counts[1:].tolist(),
            strict=True,
        )
    )
    return Outcomes(
        chosen_segment, row, headroom, margin, step, dropped, int(counts[0]), calls, at_risk
    )


def _alone(segments: BookIntervals) -> Ints:
    return np.arange(len(segments) + 1, dtype=np.int64)


def _account_groups(segments: BookIntervals) -> Ints:
    """Offsets of runs of segments that belong to one account."""
    starts = np.flatnonzero(np.r_[True, np.diff(segments.account) != 0])
    return np.append(starts, len(segments)).astype(np.int64)


@njit(cache=True)
def _mix(x):  # type: ignore[no-untyped-def]
    """Finaliser of splitmix64: every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, error_model="numpy")
def _at_marks(  # type: ignore[no-untyped-def]
    n,
    k,
    low,
    high,
    cash,
    leg_start,
    leg_symbol,
    value_quantity,
    margin_quantity,
    bounds,
    rates,
    deductions,
):
    """Equity and maintenance margin of segment n at step k, each leg at its worse price."""
    equity, margin = cash[n], 0.0
    for leg in range(leg_start[n], leg_start[n + 1]):
        s = leg_symbol[leg]
        worst_equity, worst_margin, worst = 0.0, 0.0, np.inf
        for price in (low[k, s], high[k, s]):
            value = value_quantity[leg] * price
            need = tier_margin(
                abs(margin_quantity[leg]) * price, bounds[s], rates[s], deductions[s]
            )
            if not value - need >= worst:
                worst_equity, worst_margin, worst = value, need, value - need
        equity += worst_equity
        margin += worst_margin
    return equity, margin


@njit(cache=True, error_model="numpy")
def _follow(  # type: ignore[no-untyped-def]
    groups,
    account,
    keys,
    first,
    last,
    cash,
    leg_start,
    leg_symbol,
    value_quantity,
    margin_quantity,
    mark,
    low,
    high,
    sub,
    bounds,
    rates,
    deductions,
    usable,
    first_row,
    last_row,
    longest,
    threshold,
    times,
    as_traded,
):
    rows = len(times)
    size = 1024
    out_segment = np.empty(size, np.int64)
    out_row = np.empty(size, np.int64)
    out_headroom = np.empty(size)
    out_margin = np.empty(size)
    out_step = np.empty(size, np.int64)
    used = 0
    counts = np.zeros(5, np.int64)  # considered, warm-up, already called, past end, closed
    calls, at_risk = np.zeros(rows), np.zeros(rows)
    headroom, margin = np.empty(rows), np.empty(rows)
    worst = np.empty(rows)  # lowest headroom within the bar that ends at the row
    open_legs = np.empty(rows, np.bool_)
    for g in range(len(groups) - 1):
        begin, end = first[groups[g]], 0
        for n in range(groups[g], groups[g + 1]):
            is_last = n == groups[g + 1] - 1
            until = min(rows, last[n] + longest) if is_last else first[n + 1]
            # A static book is followed to the end of the longest horizon; a traded one until it
            # is replaced or the account is closed.
            follow_to = until if is_last and not as_traded else last[n]
            for k in range(first[n], follow_to):
                equity, need = _at_marks(
                    n,
                    k,
                    mark,
                    mark,
                    cash,
                    leg_start,
                    leg_symbol,
                    value_quantity,
                    margin_quantity,
                    bounds,
                    rates,
                    deductions,
                )
                headroom[k], margin[k] = equity - need, need
                if k == first[n] and n > groups[g]:
                    worst[k] = min(worst[k], headroom[k])  # a new book can begin in breach
                open_legs[k] = leg_start[n + 1] > leg_start[n]
            for k in range(first[n] + 1, min(follow_to + 1, rows)):
                lowest = headroom[k] if k < follow_to else np.inf
                for j in range(k * sub, (k + 1) * sub):
                    equity, need = _at_marks(
                        n,
                        j,
                        low,
                        high,
                        cash,
                        leg_start,
                        leg_symbol,
                        value_quantity,
                        margin_quantity,
                        bounds,
                        rates,
                        deductions,
                    )
                    value = equity - need
                    if np.isnan(value) or np.isnan(lowest):
                        lowest = np.nan
                    elif value < lowest:
                        lowest = value
                worst[k] = lowest
            for k in range(follow_to, until):  # nothing is held
                headroom[k], margin[k], open_legs[k] = np.nan, np.nan, False
            for k in range(follow_to + 1, min(until + 1, rows)):
                worst[k] = np.inf
            end = until
        held_to = last[groups[g + 1] - 1]
        n = groups[g]
        for k in range(begin, held_to):
            while k >= last[n]:
                n += 1
            if k + 1 < min(end, held_to) and headroom[k] > 0.0:
                at_risk[k + 1] += 1.0
                if worst[k + 1] < 0.0:
                    calls[k + 1] += 1.0
            if k < first_row or k >= last_row or not open_legs[k]:
                continue
            counts[0] += 1
            ready = True
            for leg in range(leg_start[n], leg_start[n + 1]):
                ready = ready and usable[k, leg_symbol[leg]]
            if not ready or np.isnan(headroom[k]):
                counts[1] += 1
                continue
            if headroom[k] <= 0.0:
                counts[2] += 1
                continue
            if k + longest >= end:
                counts[3] += 1
                continue
            step, complete, closed = NEVER, True, False
            for j in range(k + 1, k + longest + 1):
                if np.isnan(worst[j]):
                    complete = False
                    break
                if step > longest and worst[j] < 0.0:
                    step = j - k
                if not open_legs[j] and step > longest:
                    closed = True
            if not complete:
                counts[3] += 1
                continue
            if closed:
                counts[4] += 1
                continue
            key = _mix(keys[account[n]] + np.uint64(times[k]) * np.uint64(0x9E3779B97F4A7C15))
            if key > threshold:
                continue
            if used == size:
                size *= 2
                out_segment = _grow(out_segment, size)
                out_row = _grow(out_row, size)
                out_headroom = _grow(out_headroom, size)
                out_margin = _grow(out_margin, size)
                out_step = _grow(out_step, size)
            out_segment[used], out_row[used], out_step[used] = n, k, step
            out_headroom[used], out_margin[used] = headroom[k], margin[k]
            used += 1
    return (
        out_segment[:used],
        out_row[:used],
        out_headroom[:used],
        out_margin[:used],
        out_step[:used],
        counts,
        calls,
        at_risk,
    )


@njit(cache=True)
def _grow(array, size):  # type: ignore[no-untyped-def]
    bigger = np.empty(size, array.dtype)
    bigger[: len(array)] = array
    return bigger
