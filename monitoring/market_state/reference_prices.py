"""Reference prices of bars: the quoted marks that the outlier filter holds a close against.

A mark is a reference of every bar that closes within `SOURCE_INTERVALS` of its time, suspect or
good. Of the marks of one instrument the newest counts until the bar is there, and from then on the
one nearest to its close: so a bar that a mark has confirmed stays confirmed.

They travel with the context that quotes tell (`monitoring.market_state.exogenous_updates`), in the
last columns of its rows, and are recorded with it: a restart filters every bar by the references
it had.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from market.bars.panel import CONTEXT_WIDTH
from market.core.clock import Interval
from market.quotes.quote_filter import SOURCE_INTERVALS
from monitoring.market_state.live_steps import Floats

SPOT_MARK, PERPETUAL_MARK = -2, -1
"""Columns of a row of posted context, from its end: marks of the symbol and of its perpetual."""

POSTED_WIDTH = CONTEXT_WIDTH + 2
"""Columns of a row of posted context: those of `BarPanel.context` and the marks."""


def reference_prices(posted: Floats | None) -> Floats | None:
    """Quoted marks near the close of a step, shape (S, 2); None where nothing was quoted.

    Parameters
    ----------
    posted:
        What quotes tell beside its bars, shape (S, `POSTED_WIDTH`).
    """
    return None if posted is None else np.ascontiguousarray(posted[:, SPOT_MARK:])


def steps_near(ts: int, interval: Interval) -> Iterator[int]:
    """Ints of the steps that close within `SOURCE_INTERVALS` of a time, rising."""
    step = interval.nanoseconds
    reach = SOURCE_INTERVALS * step
    first = -(-(ts - reach) // step) * step
    yield from range(first - step, ts + reach - step + 1, step)


def is_better(price: float, known: float, close: float) -> bool:
    """Whether a newer mark takes the place of the one known: always before the bar has a close,
    and only where it is nearer to it after. NaN where there is none."""
    if math.isnan(known) or math.isnan(close):
        return True
    return abs(math.log(price / close)) < abs(math.log(known / close))
