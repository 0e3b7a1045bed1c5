"""Open interest: whether positions are being built, and how crowded a market is."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import CLOSE, OPEN_INTEREST, RESET, TURNOVER

_HEADER = 2


@feature
def open_interest_change(hours: float) -> MarketFeature:
    """Log change of the open interest over the last `hours`.

    Formula: ``ln(OI_t / OI_(t-W))`` in base units, each the last one known at its close. Unit: log
    ratio. NaN until the window is full and where either is not known.

    References
    ----------
    Bessembinder and Seguin, Journal of Financial and Quantitative Analysis 28 (1993) 21-39.
    """
    return MarketFeature(
        name=f"open_interest_change_{hours:g}h",
        family="liquidity",
        unit="log ratio",
        formula="ln(OI_t / OI_(t-W))",
        reference="Bessembinder and Seguin (1993)",
        kernel=_change,
        inputs=("context.open_interest",),
        params=rolling.window_params(hours),
        state_size=lambda interval: _HEADER + rolling.bars_in(hours, interval),
        settings=(hours,),
        book_form="mean",
        needs_exogenous=True,
    )


@feature
def open_interest_days(hours: float) -> MarketFeature:
    """Log of the open interest's value over the mean turnover a day of the last `hours`.

    Formula: ``ln(OI C / (24 n mean(V C)))``, n bars an hour. Unit: log days of all trading.
    Missing bars are left out of the mean and leave the last close standing; NaN until the window is
    full, while under half of it is there, without turnover and where the open interest is not
    known.

    References
    ----------
    Bessembinder and Seguin, Journal of Financial and Quantitative Analysis 28 (1993) 21-39.
    """
    return MarketFeature(
        name=f"open_interest_days_{hours:g}h",
        family="liquidity",
        unit="log days",
        formula="ln(OI C / (24 n mean(V C)))",
        reference="Bessembinder and Seguin (1993)",
        kernel=_days,
        inputs=("context.open_interest",),
        params=rolling.window_and_rate(hours, 24.0),
        state_size=lambda interval: rolling.state_size(hours)(interval) + 1,
        settings=(hours,),
        book_form="mean",
        needs_exogenous=True,
    )


@njit(cache=True, error_model="numpy")
def _change(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: position, filled slots, then a ring of the open interests of the window."""
    for s in range(inputs.shape[1]):
        row = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                row[:] = 0.0
            now = inputs[OPEN_INTEREST, s, t]
            slot = _HEADER + int(row[0])
            before = row[slot] if row[1] == window else np.nan
            row[slot] = now
            row[0] = row[0] + 1.0 if row[0] + 1.0 < window else 0.0
            row[1] = min(row[1] + 1.0, float(window))
            out[s, t] = np.log(now / before) if now > 0.0 and before > 0.0 else np.nan


@njit(cache=True, error_model="numpy")
def _days(inputs, state, out, window, per_day):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of turnover, then the last close."""
    for s in range(inputs.shape[1]):
        row = state[s]
        ring = row[:-1]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(ring)
            if not np.isnan(inputs[CLOSE, s, t]):
                row[-1] = inputs[CLOSE, s, t]
            rolling.push(ring, window, inputs[TURNOVER, s, t])
            value = inputs[OPEN_INTEREST, s, t] * row[-1]
            daily = per_day * rolling.mean(ring, window)
            out[s, t] = np.log(value / daily) if value > 0.0 and daily > 0.0 else np.nan
