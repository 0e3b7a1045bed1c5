"""Realised volatility over a window, that of the falls alone, and the highest so far."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import rolling
from features.market.inputs import LOG_RETURN, RESET
from market.core.clock import Interval


@feature
def realised_volatility(hours: float) -> MarketFeature:
    """Root of the mean squared log return over the last `hours`.

    Formula: ``sqrt(n * sum r_i^2 / W)`` over the W bars of the window, n bars an hour. Unit:
    standard deviation of the hourly log return. A missing bar counts as a return of zero, because
    the return after the gap carries the whole move. NaN until the window is full.

    References
    ----------
    Andersen, Bollerslev, Diebold and Labys, Econometrica 71 (2003); the windows of Corsi's HAR,
    Journal of Financial Econometrics 7 (2009).
    """
    return MarketFeature(
        name=f"realised_volatility_{hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula="sqrt(n sum r^2 / W)",
        reference="Andersen et al. (2003)",
        kernel=_root_mean_square,
        params=_window_below(hours, np.inf),
        state_size=rolling.state_size(hours),
        settings=(hours,),
        book_form="volatility",
    )


@feature
def downside_volatility(hours: float) -> MarketFeature:
    """Root of the realised semivariance of negative returns over the last `hours`.

    Formula: ``sqrt(n * sum min(r_i, 0)^2 / W)`` over the W bars of the window, n bars an hour.
    Unit: per sqrt(hour); the square is the falls' part of `realised_volatility` squared. A missing
    bar counts as a return of zero. NaN until the window is full.

    References
    ----------
    Barndorff-Nielsen, Kinnebrock and Shephard, in Volatility and Time Series Econometrics (2010).
    """
    return MarketFeature(
        name=f"downside_volatility_{hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula="sqrt(n sum min(r, 0)^2 / W)",
        reference="Barndorff-Nielsen, Kinnebrock and Shephard (2010)",
        kernel=_root_mean_square,
        params=_window_below(hours, 0.0),
        state_size=rolling.state_size(hours),
        settings=(hours,),
        book_form="mean",
    )


@feature
def stressed_volatility(hours: float) -> MarketFeature:
    """Highest realised volatility over `hours` so far: the wildest window of the whole history.

    Formula: ``max_(i <= t) realised_volatility_i`` of the same window. Unit: standard deviation of
    the hourly log return. No gap erases it: the window starts anew, the maximum stays. NaN until
    the first window is full.

    References
    ----------
    Regulation (EU) 153/2013, Article 28(1)(b) (stressed observations).
    """
    return MarketFeature(
        name=f"stressed_volatility_{hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula="max so far of sqrt(n sum r^2 / W)",
        reference="EU 153/2013, Article 28(1)(b)",
        kernel=_highest,
        params=rolling.window_and_rate(hours),
        state_size=lambda interval: rolling.state_size(hours)(interval) + 3,
        settings=(hours,),
        book_form="mean",
        survives_gaps=True,
    )


def _window_below(hours: float, bound: float) -> Callable[[Interval], tuple[float, ...]]:
    return lambda interval: (*rolling.window_and_rate(hours)(interval), bound)


@njit(cache=True, error_model="numpy")
def _root_mean_square(inputs, state, out, window, per_hour, bound):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of the squares of returns below `bound`."""
    for s in range(inputs.shape[1]):
        row = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(row)
            else:
                r = inputs[LOG_RETURN, s, t]
                rolling.push(row, window, r * r if r < bound else 0.0)
            out[s, t] = rolling.root(rolling.mean(row, window), per_hour)


@njit(cache=True, error_model="numpy")
def _highest(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `rolling` of squared returns, then the highest mean, whether there is one,
    and whether the symbol has been listed."""
    width = state.shape[1] - 3
    for s in range(inputs.shape[1]):
        ring, highest = state[s, :width], state[s, width:]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(ring)
                highest[2] = 1.0
            elif highest[2] == 1.0:
                r = inputs[LOG_RETURN, s, t]
                rolling.push(ring, window, 0.0 if np.isnan(r) else r * r)
            variance = rolling.mean(ring, window)
            if variance == variance:
                highest[0] = max(highest[0], variance)
                highest[1] = 1.0
            out[s, t] = np.sqrt(per_hour * highest[0]) if highest[1] == 1.0 else np.nan
