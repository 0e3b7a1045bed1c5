"""Drawdown: how far a price stands below its high."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import CLOSE, RESET

_HEADER = 4
_BARS, _HEAD, _LENGTH, _LAST = range(_HEADER)


@feature
def drawdown(hours: float) -> MarketFeature:
    """Distance of the close below the highest close of the last `hours`.

    Formula: ``ln(max_(i > t - W) C_i / C_t)`` over the W bars of the window. Unit: log return, at
    least zero. A missing bar repeats the last close; NaN until the window is full.

    References
    ----------
    Magdon-Ismail and Atiya, Risk 17 (2004) 99-102; the running maximum is that of Lemire, Nordic
    Journal of Computing 13 (2006) 328-339.
    """
    return MarketFeature(
        name=f"drawdown_{hours:g}h",
        family="volatility",
        unit="log return",
        formula="ln(max C / C_t)",
        reference="Magdon-Ismail and Atiya (2004)",
        kernel=kernel,
        params=rolling.window_params(hours),
        state_size=lambda interval: _HEADER + 2 * rolling.bars_in(hours, interval),
        settings=(hours,),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: bars seen, head and length of the queue, last close; then the queue, a ring of
    falling closes and of their bar numbers."""
    for s in range(inputs.shape[1]):
        row = state[s]
        closes, bars = row[_HEADER : _HEADER + window], row[_HEADER + window :]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                row[:] = 0.0
            number = row[_BARS]
            row[_BARS] += 1.0
            head, length = int(row[_HEAD]), int(row[_LENGTH])
            if length > 0 and bars[head] <= number - window:
                head = head + 1 if head + 1 < window else 0
                length -= 1
            if not np.isnan(inputs[CLOSE, s, t]):
                row[_LAST] = inputs[CLOSE, s, t]
            close = row[_LAST]
            if close > 0.0:
                end = head + length
                end = end if end < window else end - window
                # What is no higher and older can never be the maximum again.
                while length > 0 and closes[end - 1] <= close:  # slot -1 is the last one
                    end = end - 1 if end > 0 else window - 1
                    length -= 1
                closes[end], bars[end] = close, number
                length += 1
            row[_HEAD], row[_LENGTH] = head, length
            out[s, t] = np.log(closes[head] / close) if row[_BARS] >= window else np.nan
