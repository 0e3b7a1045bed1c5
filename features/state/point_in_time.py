"""Point-in-time features: each row as known at its close, later rows on the corrected bars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from features.state.market_state import MarketFeatures, MarketState
from market.bars.filtered_bars import Corrections
from market.bars.panel import BarPanel


def advance_through(
    state: MarketState, bars: BarPanel, corrections: Corrections | None
) -> MarketFeatures:
    """Advance a state through bars as `MarketState.advance` does, applying corrections.

    The features of a corrected row are those of the row as known at its close. Then the state
    before it is advanced through the corrected row, and later rows build on that: what the
    endpoint does while a step is pending. No older row changes.

    Parameters
    ----------
    state:
        Before the first bar; moved.
    bars:
        As known at each close.
    corrections:
        Rows that were corrected before the next close; those outside `bars` do not count.
    """
    if corrections is None:
        return state.advance(bars)
    inside = np.flatnonzero(np.isin(corrections.opens, bars.opens))
    parts: list[MarketFeatures] = []
    days, days_at_decision = state.daily.days, {}
    done = 0

    def advance(panel: BarPanel) -> MarketFeatures:
        nonlocal days
        features = state.advance(panel)
        days = days if features.daily is None else days.followed_by(features.daily)
        return features

    for i in inside.tolist():
        row = int(np.searchsorted(bars.opens, corrections.opens[i]))
        parts.append(advance(bars.rows(done, row)))
        as_known = bars.rows(row, row + 1)
        features = state.copy().advance(as_known)
        if features.daily is not None and features.daily.until == as_known.closes[0]:
            days_at_decision[features.daily.until] = features.daily
        parts.append(features)
        advance(replace(as_known, values=corrections.values[i : i + 1]))
        done = row + 1
    parts.append(advance(bars.rows(done, None)))
    return MarketFeatures.concatenate(parts, days, days_at_decision)
