"""Hour-of-week seasonality: which hours are wild, learned from the past only."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market.inputs import HOUR, LOG_RETURN
from market.core.clock import Interval

SLOTS = 168
PRIOR_WEEKS = 8.0
"""Weeks of average hours that every hour of the week starts with."""


@feature
def hour_of_week_seasonality() -> MarketFeature:
    """Expected size of a return in the hour to come against that of an average hour.

    Formula: ``(A_k + 8 m a) / (N_k + 8 m) / a``: for the hour of the week k that begins with the
    bar's close, the mean absolute return of all past bars in such hours, shrunk towards that of
    all past bars a as if 8 more weeks of m bars had been average. Unit: factor, 1 for an
    average hour. A missing bar takes no part; 1 where nothing has ever moved. Remembers the whole
    history, whatever its gaps. NaN in the first week.

    References
    ----------
    Andersen and Bollerslev, Journal of Empirical Finance 4 (1997) 115-158; James-Stein shrinkage.
    """

    def params(interval: Interval) -> tuple[float, ...]:
        return (float(interval.per_hour), PRIOR_WEEKS * interval.per_hour)

    return MarketFeature(
        name="hour_of_week_seasonality",
        family="volatility",
        unit="factor",
        formula="(A_k + 8 m a) / (N_k + 8 m) / a, A_k = sum |r| in hour k of the week",
        reference="Andersen and Bollerslev (1997)",
        kernel=kernel,
        constants=(SLOTS, PRIOR_WEEKS),
        params=params,
        state_size=lambda _: 2 * SLOTS + 3,
        settings=(float(SLOTS), PRIOR_WEEKS),
        book_form="mean",
        survives_gaps=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, per_hour, prior):  # type: ignore[no-untyped-def]
    """State: sums of |r| by slot, counts by slot, total of both, bars since the first one."""
    for s in range(inputs.shape[1]):
        sums, counts, total = state[s, :SLOTS], state[s, SLOTS : 2 * SLOTS], state[s, 2 * SLOTS :]
        for t in range(inputs.shape[2]):
            r, hour = inputs[LOG_RETURN, s, t], inputs[HOUR, s, t]
            if not np.isnan(r):
                # The bar's own hour: its close may already be the next one.
                slot = int(hour - 0.5 / per_hour) % SLOTS
                sums[slot] += abs(r)
                counts[slot] += 1.0
                total[0] += abs(r)
                total[1] += 1.0
            if not np.isnan(r) or total[2] > 0.0:
                total[2] += 1.0
            if total[2] < SLOTS * per_hour:
                out[s, t] = np.nan
            elif total[0] > 0.0:
                average = total[0] / total[1]
                coming = int(hour) % SLOTS
                out[s, t] = (sums[coming] / average + prior) / (counts[coming] + prior)
            else:
                out[s, t] = 1.0
