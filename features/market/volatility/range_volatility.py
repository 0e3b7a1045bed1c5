"""Range volatilities: from high, low, open and close of each bar.

Each is the root of the rolling mean of a one-bar variance, in units of the hourly log return.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from features.definition import Kernel, MarketFeature, feature
from features.market import joint_rolling, rolling
from features.market.inputs import BODY, DOWN, GAP, RESET, UP
from features.market.joint_rolling import HEADER as FIRST
from market.core.clock import Interval


def _range_volatility(
    name: str,
    hours: float,
    formula: str,
    reference: str,
    kernel: Kernel,
    state_size: Callable[[Interval], int] | None = None,
) -> MarketFeature:
    return MarketFeature(
        name=f"{name}_{hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula=formula,
        reference=reference,
        kernel=kernel,
        params=rolling.window_and_rate(hours),
        state_size=state_size or rolling.state_size(hours),
        settings=(hours,),
        book_form="volatility",
    )


@feature
def parkinson_volatility(hours: float) -> MarketFeature:
    """Volatility from high and low, about five times as efficient as from closes.

    Formula: ``sqrt(n * mean(ln(H/L)^2) / (4 ln 2))`` over the bars of the last `hours`, n bars an
    hour. Unit: standard deviation of the hourly log return. Missing bars are left out of the mean;
    NaN until the window is full or while under half of it is there.

    References
    ----------
    Parkinson, Journal of Business 53 (1980) 61-65.
    """
    formula = "sqrt(n mean(ln(H/L)^2) / (4 ln 2))"
    return _range_volatility("parkinson_volatility", hours, formula, "Parkinson (1980)", _parkinson)


@feature
def garman_klass_volatility(hours: float) -> MarketFeature:
    """Volatility from open, high, low and close.

    Formula: ``sqrt(n * mean(ln(H/L)^2 / 2 - (2 ln 2 - 1) ln(C/O)^2))`` over the bars of the last
    `hours`, n bars an hour. Unit: standard deviation of the hourly log return. Missing bars are
    left out of the mean; NaN until the window is full or while under half of it is there.

    References
    ----------
    Garman and Klass, Journal of Business 53 (1980) 67-78.
    """
    formula = "sqrt(n mean(ln(H/L)^2 / 2 - (2 ln 2 - 1) ln(C/O)^2))"
    return _range_volatility(
        "garman_klass_volatility", hours, formula, "Garman and Klass (1980)", _garman_klass
    )


@feature
def rogers_satchell_volatility(hours: float) -> MarketFeature:
    """Volatility from open, high, low and close that a trend within the bars does not raise.

    Formula: ``sqrt(n * mean(u (u - c) + d (d - c)))`` over the bars of the last `hours`, with
    ``u = ln(H/O)``, ``d = ln(L/O)``, ``c = ln(C/O)`` and n bars an hour. Unit: standard deviation
    of the hourly log return. Missing bars are left out of the mean; NaN until the window is full
    or while under half of it is there.

    References
    ----------
    Rogers and Satchell, Annals of Applied Probability 1 (1991) 504-512.
    """
    formula = "sqrt(n mean(u (u - c) + d (d - c)))"
    return _range_volatility(
        "rogers_satchell_volatility", hours, formula, "Rogers and Satchell (1991)", _rogers_satchell
    )


@feature
def yang_zhang_volatility(hours: float) -> MarketFeature:
    """Volatility from the gap between bars and from open, high, low and close, free of drift.

    Formula: ``sqrt(n (var(g) + k var(c) + (1 - k) mean(rs)))`` over the bars of the last `hours`,
    with the gap ``g = ln(O_t / C_(t-1))``, the body ``c = ln(C/O)``, the one-bar variance of
    Rogers and Satchell rs, ``k = 0.34 / (1.34 + (W + 1) / (W - 1))`` and variances with divisor
    W - 1 over the W bars there. Unit: standard deviation of the hourly log return. Missing bars
    are left out; the gap after one spans it, and the first bar has none (zero). NaN until the
    window is full or while under half of it is there.

    References
    ----------
    Yang and Zhang, Journal of Business 73 (2000) 477-491, equations 8 to 11.
    """
    formula = "sqrt(n (var(g) + k var(c) + (1 - k) mean(rs)))"
    return _range_volatility(
        "yang_zhang_volatility",
        hours,
        formula,
        "Yang and Zhang (2000)",
        _yang_zhang,
        joint_rolling.state_size(hours, 5),
    )


@njit(cache=True, error_model="numpy")
def _parkinson(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of squared log ranges."""
    span = inputs[UP] - inputs[DOWN]
    scale = per_hour / (4.0 * np.log(2.0))
    rolling.fold_root_mean(span * span, inputs[RESET], state, out, window, scale)


@njit(cache=True, error_model="numpy")
def _garman_klass(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of one-bar variances."""
    weight = 2.0 * np.log(2.0) - 1.0
    span, body = inputs[UP] - inputs[DOWN], inputs[BODY]
    variances = 0.5 * span * span - weight * body * body
    rolling.fold_root_mean(variances, inputs[RESET], state, out, window, per_hour)


@njit(cache=True, error_model="numpy")
def _rogers_satchell(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `features.market.rolling` of one-bar variances."""
    up, down, body = inputs[UP], inputs[DOWN], inputs[BODY]
    variances = up * (up - body) + down * (down - body)
    rolling.fold_root_mean(variances, inputs[RESET], state, out, window, per_hour)


@njit(cache=True, error_model="numpy")
def _yang_zhang(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `joint_rolling` of the one-bar variance, body, body squared, gap and gap
    squared."""
    for s in range(inputs.shape[1]):
        row = state[s]
        for t in range(inputs.shape[2]):
            gap, body = inputs[GAP, s, t], inputs[BODY, s, t]
            up, down = inputs[UP, s, t], inputs[DOWN, s, t]
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(row)
                gap = 0.0  # there is none before the first bar
            within = up * (up - body) + down * (down - body)
            joint_rolling.push(row, window, (within, body, body * body, gap, gap * gap))
            count = joint_rolling.count(row, window)
            spare = count - 1.0
            k = 0.34 / (1.34 + (count + 1.0) / spare)
            bodies = (row[FIRST + 2] - row[FIRST + 1] * row[FIRST + 1] / count) / spare
            gaps = (row[FIRST + 4] - row[FIRST + 3] * row[FIRST + 3] / count) / spare
            variance = gaps + k * bodies + (1.0 - k) * row[FIRST] / count
            out[s, t] = rolling.root(variance, per_hour)
