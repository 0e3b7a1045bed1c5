"""The columns every market kernel reads, derived from bars once.

Columns of the inputs, each of shape (S, T) so that a kernel runs down one symbol's bars in memory
order:

* open, high, low, close, volume;
* log return, which spans the distance to the symbol's last bar, so that a return over a gap
  carries the whole move; NaN for the first bar;
* reset, 1 at a symbol's first bar and at its first bar after a gap of over `MAX_GAP_HOURS`: what
  was before says nothing about now;
* the logarithms of high, low and close over the open (up, down, body) and of the open over the
  last close (gap), which the range estimators share;
* turnover, volume times close;
* hour, the bar's close in hours since 1970-01-01 (a Thursday) UTC;
* what else is known at the close: funding rate an hour, open interest, implied volatility, basis,
  and skew, term slope and curvature of the options' surface. Each is held for so many hours as
  `HOLD_HOURS` says and NaN beyond; a reset forgets them.

A missing bar is NaN in all that comes from prices; kernels skip it and repeat what they know.
"""

from __future__ import annotations

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
"""How long funding, open interest, implied volatility, basis and the three figures of the options'
surface still count: funding is settled every few hours, open interest is published daily by some
sources, the hourly volatility index has holes of a day, a basis is only of its own moment, and
surfaces are fitted once a day."""

LAST_CLOSE, SINCE_LAST, SINCE_FIRST, SEEN = range(4)
"""Columns of the input state: last close, bars since it, bars since the first one after a reset,
bars seen in all. Then the held values of the context and their ages in bars."""
_HELD = 4
_AGES = _HELD + EXOGENOUS_WIDTH
STATE_SIZE = _AGES + EXOGENOUS_WIDTH


def new_state(symbols: int) -> Floats:
    """State before any bar, shape (S, 18)."""
    state = np.zeros((symbols, STATE_SIZE))
    state[:, LAST_CLOSE] = np.nan
    state[:, SINCE_LAST] = np.nan
    state[:, _HELD:_AGES] = np.nan
    return state


def room_for(panel: BarPanel) -> Floats:
    """An array for the columns of a panel, shape (20, S, T)."""
    return np.empty((WIDTH, len(panel.symbols), len(panel)))


def build(panel: BarPanel, state: Floats, inputs: Floats) -> tuple[Floats, Floats, Floats]:
    """Fill `inputs`, shape (20, S, T), with the columns of a panel; moves `state`.

    Returns
    -------
    age, history, seen:
        Hours since the close of the newest bar, hours of history since the first one after the
        last reset, and hours of bars seen in all, gaps left out: each of shape (T, S) and NaN
        before the first bar.
    """
    rows, symbols = len(panel), len(panel.symbols)
    age = np.empty((rows, symbols))
    history = np.empty((rows, symbols))
    seen = np.empty((rows, symbols))
    per_hour = panel.interval.per_hour
    context = panel.exogenous
    if context is None:
        # One row of nothing, read again for every bar.
        context = np.broadcast_to(np.nan, (rows, symbols, EXOGENOUS_WIDTH))
    _build(
        panel.values,
        context,
        panel.closes / HOUR_NANOSECONDS,
        state,
        MAX_GAP_HOURS * per_hour,
        float(per_hour),
        np.maximum(1.0, np.array(HOLD_HOURS) * per_hour),
        inputs,
        age,
        history,
        seen,
    )
    return age, history, seen


@njit(cache=True, error_model="numpy")
def _build(  # type: ignore[no-untyped-def]
    bars, context, hours, state, max_gap, per_hour, hold, inputs, age, history, seen
):
    for s in range(bars.shape[1]):
        own = state[s]
        for t in range(bars.shape[0]):
            opening, close = bars[t, s, 0], bars[t, s, 3]
            for column in range(5):
                inputs[column, s, t] = bars[t, s, column]
            inputs[LOG_RETURN, s, t] = np.nan
            inputs[RESET, s, t] = 0.0
            inputs[GAP, s, t] = np.nan
            inputs[HOUR, s, t] = hours[t]
            if np.isnan(close):
                own[SINCE_LAST] += 1.0
                own[SINCE_FIRST] += 1.0
                inputs[UP, s, t] = np.nan
                inputs[DOWN, s, t] = np.nan
                inputs[BODY, s, t] = np.nan
                inputs[TURNOVER, s, t] = np.nan
            else:
                if np.isnan(own[LAST_CLOSE]) or own[SINCE_LAST] > max_gap:
                    inputs[RESET, s, t] = 1.0
                    own[SINCE_FIRST] = 1.0
                    own[_HELD:_AGES] = np.nan
                else:
                    inputs[LOG_RETURN, s, t] = np.log(close / own[LAST_CLOSE])
                    inputs[GAP, s, t] = np.log(opening / own[LAST_CLOSE])
                    own[SINCE_FIRST] += 1.0
                inputs[UP, s, t] = np.log(bars[t, s, 1] / opening)
                inputs[DOWN, s, t] = np.log(bars[t, s, 2] / opening)
                inputs[BODY, s, t] = np.log(close / opening)
                inputs[TURNOVER, s, t] = bars[t, s, 4] * close
                own[LAST_CLOSE] = close
                own[SINCE_LAST] = 0.0
                own[SEEN] += 1.0
            age[t, s] = own[SINCE_LAST] / per_hour
            history[t, s] = np.nan if np.isnan(own[LAST_CLOSE]) else own[SINCE_FIRST] / per_hour
            seen[t, s] = np.nan if np.isnan(own[LAST_CLOSE]) else own[SEEN] / per_hour
            for c in range(EXOGENOUS_WIDTH):
                news = context[t, s, c]
                if not np.isnan(news):
                    own[_HELD + c] = news
                    own[_AGES + c] = 0.0
                else:
                    own[_AGES + c] += 1.0
                held = own[_AGES + c] < hold[c]
                inputs[FUNDING + c, s, t] = own[_HELD + c] if held else np.nan
