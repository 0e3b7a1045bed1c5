"""What a window says when half of its bars are missing, by the policy each docstring states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from features.registry import MARKET_COLUMNS
from features.state.market_state import MarketFeatures
from market.bars.panel import BarPanel

Advance = Callable[[BarPanel], MarketFeatures]
MakePanel = Callable[..., BarPanel]

ROWS = 400
SETTLED = 345

MEANS_OF_BARS = (
    "parkinson_volatility_24h",
    "garman_klass_volatility_24h",
    "rogers_satchell_volatility_24h",
    "yang_zhang_volatility_24h",
    "volatility_of_volatility_168h",
    "amihud_illiquidity_24h",
    "kyle_lambda_24h",
    "volume_zscore_168h",
    "relative_turnover_24h",
    "average_daily_volume_168h",
    "open_interest_days_168h",
)
"""Means over the bars that are there: unknown while those are under half of the window."""

MEANS_OF_PAIRS = (
    "jump_share_24h",
    "roll_spread_24h",
    "corwin_schultz_spread_24h",
    "edge_spread_24h",
)
"""Means over pairs of neighbouring bars."""

OTHERS = tuple(n for n in MARKET_COLUMNS if n not in MEANS_OF_BARS + MEANS_OF_PAIRS)
"""Sums in which a missing bar is zero, memories in which it takes no part, and what the context
says whether there are bars or not."""


@pytest.fixture(scope="module")
def every(make_panel: MakePanel, advance: Advance) -> Callable[[int, int], MarketFeatures]:
    """Features of a market of which the first `there` of every `period` bars are there."""
    known: dict[tuple[int, int], MarketFeatures] = {}

    def features(there: int, period: int) -> MarketFeatures:
        if (there, period) not in known:
            panel = make_panel(ROWS, symbols=("A", "B"), seed=81)
            panel.values[np.arange(ROWS) % period >= there] = np.nan
            known[there, period] = advance(panel)
        return known[there, period]

    return features


Every = Callable[[int, int], MarketFeatures]


@pytest.mark.parametrize("name", MEANS_OF_BARS)
def test_mean_of_bars_needs_half_of_its_window(name: str, every: Every) -> None:
    # 12 of 24 and 84 of 168 are half; 8 of 24 and 56 of 168 are not.
    assert np.isfinite(every(1, 2).column(name)[SETTLED:]).all()
    assert np.isnan(every(1, 3).column(name)).all()


@pytest.mark.parametrize("name", MEANS_OF_PAIRS)
def test_mean_of_pairs_needs_half_of_its_window(name: str, every: Every) -> None:
    # Three of four bars are two pairs of four; of two of three bars every third is a pair.
    assert np.isfinite(every(3, 4).column(name)[SETTLED:]).all()
    assert np.isnan(every(2, 3).column(name)).all()


@pytest.mark.parametrize("name", OTHERS)
def test_everything_else_is_known_however_few_bars_there_are(name: str, every: Every) -> None:
    assert np.isfinite(every(1, 3).column(name)[SETTLED:]).all()
