"""Prices within the bars of a simulated market: what a venue quotes before a bar closes.

Within a bar the price goes from its open through both extremes to its close, in straight lines of
the log price; the lower extreme comes first in a bar that rises, the upper one in a bar that falls.
The extremes are at a quarter and at three quarters of the bar. The path is a function of the bar
alone: no random numbers, and the bar of its prices is the bar.
"""

from __future__ import annotations

import numpy as np

from market.bars.panel import CLOSE, HIGH, LOW, OPEN
from market.core.arrays import Floats

KNOTS = (0.0, 0.25, 0.75, 1.0)
"""Parts of the bar at which the price is the open, the first and second extreme, the close."""


def mark_within(bars: Floats, part: float) -> Floats:
    """Prices at a part of one bar of each coin.

    Parameters
    ----------
    bars:
        Open, high, low, close and volume, shape (S, 5); NaN where a coin has no bar.
    part:
        Part of the bar that has passed, 0 to 1.

    Returns
    -------
    Floats
        Shape (S,), NaN where there is no bar.
    """
    rises = bars[:, CLOSE] >= bars[:, OPEN]
    first = np.where(rises, bars[:, LOW], bars[:, HIGH])
    second = np.where(rises, bars[:, HIGH], bars[:, LOW])
    knots = (bars[:, OPEN], first, second, bars[:, CLOSE])
    for price, knot in zip(knots, KNOTS, strict=True):
        if part == knot:
            return price.copy()  # exact, where the logarithm would round
    left = int(np.searchsorted(KNOTS, part)) - 1
    share = (part - KNOTS[left]) / (KNOTS[left + 1] - KNOTS[left])
    prices: Floats = np.exp((1.0 - share) * np.log(knots[left]) + share * np.log(knots[left + 1]))
    return prices
