"""Market features as a tidy frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from features.registry import MARKET_COLUMNS
from margincast.frames import Frame
from margincast.market_data import DEFAULT_RULES, Market, as_market


def features(
    market: Market | Frame | Mapping[str, Frame], *, ruleset: str | None = None
) -> pd.DataFrame:
    """Market features of every symbol at every close.

    The numbers are those that decisions and training read, by the same compiled kernels, to the
    last bit. `docs/features.md` gives the formula of each column.

    Parameters
    ----------
    market:
        A `Market`, or bars as it takes them.
    ruleset:
        Its outlier filter is applied to the bars; None: ``linear-tiers``.

    Returns
    -------
    Sorted by symbol and ts: symbol, ts (open of the bar), known_at (its close, from which on the
    features may be used), history_hours (since the last gap of over a day), and one column a
    feature. A symbol's rows begin with its first bar. NaN in warm-up, and where a series that the
    feature reads is not there.

    Raises
    ------
    DataError
        The bars cannot be used.

    Examples
    --------
    >>> import margincast as mc
    >>> columns = mc.features(mc.simulate(days=10, symbols=2, accounts=5).bars)
    >>> {"symbol", "ts", "ewma_volatility_72h"} <= set(columns.columns)
    True
    """
    found = as_market(market).with_features(str(ruleset or DEFAULT_RULES))
    bars, known = found.history.bars, found.features
    present = ~np.isnan(known.age)
    parts = []
    for s, symbol in enumerate(known.symbols):
        rows = present[:, s]
        part = pd.DataFrame(known.values[rows, s], columns=list(MARKET_COLUMNS))
        part.insert(0, "symbol", symbol)
        part.insert(1, "ts", pd.to_datetime(bars.opens[rows], unit="ns", utc=True))
        part.insert(2, "known_at", pd.to_datetime(bars.closes[rows], unit="ns", utc=True))
        part.insert(3, "history_hours", known.history[rows, s])
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
