"""The columns every market kernel reads, derived from bars once.

Columns of the inputs, each of shape (S, T) so that a kernel runs down one symbol's bars in memory
order:

* open, high, low, close, volume;
* log return, which spans the distance to the symbol's last bar, so that a return over a gap
  carries the whole move; NaN for the first bar;
* reset, 1 at a symbol's first bar and at its first bar after a gap of over `MAX_GAP_HOURS`:
  features start anew there;
* the logarithms of high, low and close over the open (up, down, body) and of the open over the
  last close (gap), which the range estimators share;
* turnover, volume times close;
* hour, the bar's close in hours since 1970-01-01 (a Thursday) UTC;
* the exogenous series at the close: funding rate an hour, open interest, implied volatility, basis,
  and skew, term slope and curvature of the options' surface. Each value stands for at most its
  `HOLD_HOURS`, NaN beyond; a reset erases them.

A missing bar is NaN in all that comes from prices; kernels skip it and repeat what they know.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from market.bars.outlier_filter import MAX_GAP_HOURS
from market.bars.panel import EXOGENOUS_WIDTH, BarPanel
from market.core.clock import HOUR as HOUR_NANOSECONDS

Floats = npt.NDArray[np.float64]

(
    OPEN,
    HIGH,
    LOW,
    CLOSE,
    VOLUME,
    LOG_RETURN,
    RESET,
    UP,
    DOWN,
    BODY,
    GAP,
    TURNOVER,
    HOUR,
    FUNDING,
    OPEN_INTEREST,
    IMPLIED_VOLATILITY,
    BASIS,
    SKEW,
    TERM_SLOPE,
    CURVATURE,
) = range(20)
WIDTH = 20

HOLD_HOURS = (24.0, 48.0, 25.0, 1.0, 25.0, 25.0, 25.0)
"""How long values of funding, open interest, implied volatility, basis and the three figures of the
options' surface stand: funding is settled every few hours, open interest is published daily by some
sources, the hourly volatility index has holes of a day, a basis is that of one close, and surfaces
are fitted once a day."""

LAST_CLOSE, SINCE_LAST, SINCE_FIRST, BARS = range(4)
"""Columns of the input state: last close, bars since it, bars since the first one after a reset,
bars in all. Then the last values of the exogenous series and their ages in bars."""
_VALUES = 4
_AGES = _VALUES + EXOGENOUS_WIDTH
STATE_SIZE = _AGES + EXOGENOUS_WIDTH


def new_state(symbols: int) -> Floats:
    """State before any bar, shape (S, 18)."""
    state = np.zeros((symbols, STATE_SIZE))
    state[:, LAST_CLOSE] = np.nan
    state[:, SINCE_LAST] = np.nan
    state[:, _VALUES:_AGES] = np.nan
    return state


def new_inputs(panel: BarPanel) -> Floats:
    """An array for the columns of a panel, shape (20, S, T)."""
    return np.empty((WIDTH, len(panel.symbols), len(panel)))


class Ages(NamedTuple):
    """How long symbols have been listed and quiet, shape (T, S) each; NaN before the first bar.

    Attributes
    ----------
    age:
        Hours since the close of the newest bar.
    history:
        Hours since the first bar after the last reset.
    bar_hours:
        Hours of bars in all, without gaps.
    """

    age: Floats
    history: Floats
    bar_hours: Floats


class _Panel(NamedTuple):
    bars: Floats
    exogenous: Floats
    hours: Floats


def build(panel: BarPanel, state: Floats, inputs: Floats) -> Ages:
    """Fill `inputs`, shape (20, S, T), with the columns of a panel; moves `state`."""
    rows, symbols = len(panel), len(panel.symbols)
    ages = Ages(*(np.empty((rows, symbols)) for _ in range(3)))
    per_hour = panel.interval.per_hour
    exogenous = panel.exogenous
    if exogenous is None:
        # One row of NaN, read again for every bar.
        exogenous = np.broadcast_to(np.nan, (rows, symbols, EXOGENOUS_WIDTH))
    _build(
        _Panel(panel.values, exogenous, panel.closes / HOUR_NANOSECONDS),
        state,
        MAX_GAP_HOURS * per_hour,
        float(per_hour),
        np.maximum(1.0, np.array(HOLD_HOURS) * per_hour),
        inputs,
        ages,
    )
    return ages


@njit(cache=True, error_model="numpy")
def _build(panel, state, max_gap, per_hour, hold, inputs, ages):  # type: ignore[no-untyped-def]
    """`max_gap` and `hold` in bars; `panel` is a `_Panel`, `ages` the `Ages` to fill."""
    bars = panel.bars
    for s in range(bars.shape[1]):
        row = state[s]
        for t in range(bars.shape[0]):
            opening, close = bars[t, s, 0], bars[t, s, 3]
            for column in range(5):
                inputs[column, s, t] = bars[t, s, column]
            inputs[LOG_RETURN, s, t] = np.nan
            inputs[RESET, s, t] = 0.0
            inputs[GAP, s, t] = np.nan
            inputs[HOUR, s, t] = panel.hours[t]
            if np.isnan(close):
                row[SINCE_LAST] += 1.0
                row[SINCE_FIRST] += 1.0
                inputs[UP, s, t] = np.nan
                inputs[DOWN, s, t] = np.nan
                inputs[BODY, s, t] = np.nan
                inputs[TURNOVER, s, t] = np.nan
            else:
                if np.isnan(row[LAST_CLOSE]) or row[SINCE_LAST] > max_gap:
                    inputs[RESET, s, t] = 1.0
                    row[SINCE_FIRST] = 1.0
                    row[_VALUES:_AGES] = np.nan
                else:
                    inputs[LOG_RETURN, s, t] = np.log(close / row[LAST_CLOSE])
                    inputs[GAP, s, t] = np.log(opening / row[LAST_CLOSE])
                    row[SINCE_FIRST] += 1.0
                inputs[UP, s, t] = np.log(bars[t, s, 1] / opening)
                inputs[DOWN, s, t] = np.log(bars[t, s, 2] / opening)
                inputs[BODY, s, t] = np.log(close / opening)
                inputs[TURNOVER, s, t] = bars[t, s, 4] * close
                row[LAST_CLOSE] = close
                row[SINCE_LAST] = 0.0
                row[BARS] += 1.0
            listed = not np.isnan(row[LAST_CLOSE])
            ages.age[t, s] = row[SINCE_LAST] / per_hour
            ages.history[t, s] = row[SINCE_FIRST] / per_hour if listed else np.nan
            ages.bar_hours[t, s] = row[BARS] / per_hour if listed else np.nan
            for c in range(EXOGENOUS_WIDTH):
                value = panel.exogenous[t, s, c]
                if not np.isnan(value):
                    row[_VALUES + c] = value
                    row[_AGES + c] = 0.0
                else:
                    row[_AGES + c] += 1.0
                holds = row[_AGES + c] < hold[c]
                inputs[FUNDING + c, s, t] = row[_VALUES + c] if holds else np.nan
