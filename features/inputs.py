"""The columns every market kernel reads, derived from bars once.

Columns of an input row: open, high, low, close, volume, log return, reset.

* The log return spans the distance to the symbol's last bar, so a return over a gap carries the
  whole move. It is NaN for the first bar.
* Reset is 1 at a symbol's first bar and at its first bar after a gap of over `MAX_GAP_HOURS`: the
  kernels forget what was before, because it says nothing about now.
* A missing bar is NaN in all price columns; kernels skip it and repeat what they know.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from market.history import MAX_GAP_HOURS
from market.panel import BarPanel

LOG_RETURN, RESET = 5, 6
WIDTH = 7
LAST_CLOSE, SINCE_LAST, SINCE_FIRST = range(3)
"""Columns of the input state: last close, bars since it, bars since the first one."""
STATE_SIZE = 3


def new_state(symbols: int) -> npt.NDArray[np.float64]:
    """State before any bar, shape (S, 3)."""
    state = np.zeros((symbols, STATE_SIZE))
    state[:, LAST_CLOSE] = np.nan
    state[:, SINCE_LAST] = np.nan
    return state


def build(
    panel: BarPanel, state: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Input rows of a panel; moves `state`.

    Returns
    -------
    inputs, age, history:
        Shape (T, S, 7); hours since the close of the newest bar, and hours of history since the
        first one, both of shape (T, S) and NaN before the first bar.
    """
    rows, symbols = len(panel), len(panel.symbols)
    inputs = np.empty((rows, symbols, WIDTH))
    age = np.empty((rows, symbols))
    history = np.empty((rows, symbols))
    per_hour = panel.interval.per_hour
    _build(panel.values, state, MAX_GAP_HOURS * per_hour, float(per_hour), inputs, age, history)
    return inputs, age, history


@njit(cache=True, error_model="numpy")
def _build(bars, state, max_gap, per_hour, inputs, age, history):  # type: ignore[no-untyped-def]
    for t in range(bars.shape[0]):
        for s in range(bars.shape[1]):
            close = bars[t, s, 3]
            inputs[t, s, :5] = bars[t, s]
            inputs[t, s, 5] = np.nan
            inputs[t, s, 6] = 0.0
            if np.isnan(close):
                state[s, 1] += 1.0
                state[s, 2] += 1.0
            else:
                if np.isnan(state[s, 0]) or state[s, 1] > max_gap:
                    inputs[t, s, 6] = 1.0
                    state[s, 2] = 1.0
                else:
                    inputs[t, s, 5] = np.log(close / state[s, 0])
                    state[s, 2] += 1.0
                state[s, 0] = close
                state[s, 1] = 0.0
            age[t, s] = state[s, 1] / per_hour
            history[t, s] = np.nan if np.isnan(state[s, 0]) else state[s, 2] / per_hour
