"""Long-run volatility: the long look-back that rules compare the present with."""

from __future__ import annotations

import numpy as np
from numba import njit

from features.definition import MarketFeature, feature
from features.market.inputs import HOUR, LOG_RETURN
from market.core.clock import Interval

WEEKS = 522
"""Ten years in whole weeks."""
_WEEK_HOURS = 168.0


@feature
def long_volatility() -> MarketFeature:
    """Root of the mean squared log return of the last ten years, or of all there is.

    Formula: ``sqrt(n * sum r_i^2 / N)`` over the N returns of the present week and the 521 before
    it (weeks turn on Thursday 00:00 UTC), n bars an hour. Unit: standard deviation of the hourly
    log return. A missing bar takes no part, and no gap erases it. NaN in the first week.

    References
    ----------
    Regulation (EU) 153/2013, Article 28(1)(c) (look-back of ten years).
    """

    def params(interval: Interval) -> tuple[float, ...]:
        return (float(interval.per_hour),)

    return MarketFeature(
        name="long_volatility",
        family="volatility",
        unit="per sqrt(hour)",
        formula="sqrt(n sum r^2 / N), ten years in weeks",
        reference="EU 153/2013, Article 28(1)(c)",
        kernel=kernel,
        constants=(WEEKS,),
        params=params,
        state_size=lambda _: 4 + 2 * WEEKS,
        settings=(_WEEK_HOURS,),
        book_form="volatility",
        survives_gaps=True,
    )


@njit(cache=True, error_model="numpy")
def kernel(inputs, state, out, per_hour):  # type: ignore[no-untyped-def]
    """State: week in hand, bars since the first return, sum of squares and count, then a ring of
    both by week."""
    for s in range(inputs.shape[1]):
        row = state[s]
        squares, counts = row[4 : 4 + WEEKS], row[4 + WEEKS :]
        for t in range(inputs.shape[2]):
            r = inputs[LOG_RETURN, s, t]
            week = np.floor((inputs[HOUR, s, t] - 0.5 / per_hour) / _WEEK_HOURS)
            if row[1] > 0.0 and week > row[0]:
                # Empty the slots of all weeks that have passed, and sum anew.
                for passed in range(int(min(week - row[0], WEEKS))):
                    slot = int(week - passed) % WEEKS
                    squares[slot], counts[slot] = 0.0, 0.0
                row[2], row[3] = 0.0, 0.0
                for slot in range(WEEKS):
                    row[2] += squares[slot]
                    row[3] += counts[slot]
                row[0] = week
            if not np.isnan(r):
                if row[1] == 0.0:
                    row[0] = week
                slot = int(week) % WEEKS
                squares[slot] += r * r
                counts[slot] += 1.0
                row[2] += r * r
                row[3] += 1.0
            if not np.isnan(r) or row[1] > 0.0:
                row[1] += 1.0
            if row[1] < _WEEK_HOURS * per_hour or row[3] == 0.0:
                out[s, t] = np.nan
            else:
                out[s, t] = np.sqrt(per_hour * row[2] / row[3])
