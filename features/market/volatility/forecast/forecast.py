"""The volatility forecast: all columns of one group, from one pass through the hourly bars."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.market.volatility.forecast import hours, regressors, seasonal_profile
from features.market.volatility.forecast.regressors import COUNT


def state_shapes(symbols: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays that `kernel` keeps, by name and in its order."""
    return {
        "hours": (symbols, hours.STATE_SIZE),
        "seasonal_symbols": (symbols, seasonal_profile.SYMBOL_WIDTH),
        "seasonal_profile": (seasonal_profile.WIDTH,),
        "regressors": (symbols, regressors.STATE_SIZE),
    }


@njit(cache=True, error_model="numpy")
def forecast_volatility(values, ahead, coefficients):  # type: ignore[no-untyped-def]
    """``exp(S + beta . [x, 1, S])`` of one symbol at one horizon.

    Parameters
    ----------
    values, ahead:
        Regressors x, shape (25,), and the log seasonality ahead S.
    coefficients:
        Shape (27,).
    """
    total = 0.0
    for i in range(COUNT):
        total += coefficients[i] * values[i]
    total += coefficients[COUNT]
    total += coefficients[COUNT + 1] * ahead
    return np.exp(ahead + total)


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, horizons, coefficients):  # type: ignore[no-untyped-def]
    """Regressors, log seasonality ahead and forecasts of every symbol.

    Parameters
    ----------
    inputs:
        Shape (20, S, T), `features.market.inputs`.
    state:
        Arrays of `state_shapes`; moved.
    out:
        Filled, shape (33, S, T): 25 regressors, 4 values ahead, 4 forecasts. Between the closes of
        hours they stand still; where an hour has no bar, only the last 8 move.
    horizons, coefficients:
        Hours, shape (4,), and coefficients of each, shape (4, 27).
    """
    symbols, rows = inputs.shape[1], inputs.shape[2]
    hourly = np.empty((hours.WIDTH, symbols, rows))
    hours.kernel(inputs, state[0], hourly)
    known, ahead = np.empty(rows), np.empty((rows, len(horizons)))
    seasonal_profile.kernel(inputs, hourly, horizons, (state[1], state[2]), known, ahead)
    regressors.kernel(inputs, hourly, known, state[3], out)
    x = np.empty(COUNT)
    for s in range(symbols):
        for t in range(rows):
            for i in range(COUNT):
                x[i] = out[i, s, t]
            for k in range(len(horizons)):
                # NaN in warm-up, as the regressors are.
                known_ahead = ahead[t, k] if x[0] == x[0] else np.nan
                out[COUNT + k, s, t] = known_ahead
                out[COUNT + len(horizons) + k, s, t] = forecast_volatility(
                    x, known_ahead, coefficients[k]
                )
