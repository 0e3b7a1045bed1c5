"""Kyle's lambda: the price impact of signed turnover."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market import joint_rolling, rolling
from features.market.inputs import BODY, LOG_RETURN, RESET, TURNOVER
from features.market.joint_rolling import HEADER as FIRST


@feature
def kyle_lambda(hours: float) -> MarketFeature:
    """Slope of returns on signed turnover over the last `hours`, through the origin.

    Formula: ``sum r_i q_i / sum q_i^2`` with ``q = sign(C - O) V C / 10^6``: a bar's turnover
    signed by its body, as trades are not at hand. Unit: log return per million of the settlement
    currency. Bars without volume or without a return are left out; NaN until the window is full
    or while under half of it is there.

    References
    ----------
    Kyle, Econometrica 53 (1985) 1315-1335; Goyenko, Holden and Trzcinka, Journal of Financial
    Economics 92 (2009) 153-181 (low-frequency proxies).
    """
    return MarketFeature(
        name=f"kyle_lambda_{hours:g}h",
        family="liquidity",
        unit="return per 10^6 turnover",
        formula="sum r q / sum q^2, q = sign(C - O) V C / 10^6",
        reference="Kyle (1985)",
        kernel=kernel,
        params=rolling.window_params(hours),
        state_size=joint_rolling.state_size(hours, 2),
        settings=(hours,),
        book_form="mean",
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, window):  # type: ignore[no-untyped-def]
    """State: `features.market.joint_rolling` of r q and of q squared."""
    for s in range(inputs.shape[1]):
        row = state[s]
        for t in range(inputs.shape[2]):
            if inputs[RESET, s, t] == 1.0:
                rolling.clear(row)
            turnover = inputs[TURNOVER, s, t] * 1e-6
            signed = turnover * np.sign(inputs[BODY, s, t])
            product = inputs[LOG_RETURN, s, t] * signed if turnover > 0.0 else np.nan
            joint_rolling.push(row, window, (product, signed * signed))
            if row[FIRST + 1] > 0.0 and not np.isnan(joint_rolling.count(row, window)):
                out[s, t] = row[FIRST] / row[FIRST + 1]
            else:
                out[s, t] = np.nan
