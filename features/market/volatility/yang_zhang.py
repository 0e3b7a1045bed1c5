"""Yang-Zhang volatility: gaps between bars, bodies and ranges together."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature
from features.market import joint_rolling, rolling
from features.market.inputs import BODY, DOWN, GAP, RESET, UP
from features.market.joint_rolling import HEADER as FIRST
from market.core.clock import Interval


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

    def params(interval: Interval) -> tuple[float, ...]:
        return (rolling.bars_in(hours, interval), float(interval.per_hour))

    return MarketFeature(
        name=f"yang_zhang_volatility_{hours:g}h",
        family="volatility",
        unit="per sqrt(hour)",
        formula="sqrt(n (var(g) + k var(c) + (1 - k) mean(rs)))",
        reference="Yang and Zhang (2000)",
        kernel=kernel,
        params=params,
        state_size=joint_rolling.state_size(hours, 5),
        settings=(hours,),
        is_volatility=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window, per_hour):  # type: ignore[no-untyped-def]
    """State: `joint_rolling` of the one-bar variance, body, body squared, gap and gap
    squared."""
    for s in range(inputs.shape[1]):
        own = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(own)
            gap, body = inputs[GAP, s, t], inputs[BODY, s, t]
            up, down = inputs[UP, s, t], inputs[DOWN, s, t]
            if inputs[RESET, s, t] == 1.0:
                gap = 0.0  # there is none before the first bar
            within = up * (up - body) + down * (down - body)
            joint_rolling.push(own, window, (within, body, body * body, gap, gap * gap))
            count = joint_rolling.count(own, window)
            spare = count - 1.0
            k = 0.34 / (1.34 + (count + 1.0) / spare)
            bodies = (own[FIRST + 2] - own[FIRST + 1] * own[FIRST + 1] / count) / spare
            gaps = (own[FIRST + 4] - own[FIRST + 3] * own[FIRST + 3] / count) / spare
            variance = gaps + k * bodies + (1.0 - k) * own[FIRST] / count
            out[s, t] = np.sqrt(per_hour * max(variance, 0.0)) if variance == variance else np.nan
