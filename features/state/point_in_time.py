"""History with corrections: each row as it was decided, later rows on what was known by then."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from features.state.market_state import MarketFeatures, MarketState
from market.bars.filtered_bars import Corrections
from market.bars.panel import BarPanel


def advance_through(
    state: MarketState, bars: BarPanel, corrections: Corrections | None
) -> MarketFeatures:
    """Move a state through bars as `MarketState.advance` does, minding corrections.

    The features of a corrected row are those of the row as it was known at its close. Then it is
    taken again as corrected, from the state before it, and later rows build on that: what the
    endpoint does while a step is pending. No older row changes.

    Parameters
    ----------
    state:
        Before the first bar; moved.
    bars:
        As known at each close.
    corrections:
        Rows that became known otherwise before the next close; those outside `bars` do not count.
    """
    if corrections is None:
        return state.advance(bars)
    inside = np.flatnonzero(np.isin(corrections.opens, bars.opens))
    parts: list[MarketFeatures] = []
    days, decided_days = state.daily.ended, {}
    done = 0

    def advance(panel: BarPanel) -> MarketFeatures:
        nonlocal days
        moved = state.advance(panel)
        days = days if moved.daily is None else days.followed_by(moved.daily)
        return moved

    for i in inside.tolist():
        row = int(np.searchsorted(bars.opens, corrections.opens[i]))
        parts.append(advance(bars.rows(done, row)))
        as_decided = bars.rows(row, row + 1)
        decided = state.copy().advance(as_decided)
        if decided.daily is not None and decided.daily.until == as_decided.closes[0]:
            decided_days[decided.daily.until] = decided.daily
        parts.append(decided)
        advance(replace(as_decided, values=corrections.values[i : i + 1]))
        done = row + 1
    parts.append(advance(bars.rows(done, None)))
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in (column.name for column in fields(MarketFeatures))
        if name not in ("symbols", "daily", "daily_as_decided", "unrecorded")
    }
    return MarketFeatures(
        symbols=bars.symbols,
        **joined,
        daily=days,
        daily_as_decided=decided_days,
        unrecorded=(),
    )
