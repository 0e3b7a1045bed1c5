"""Windows of which half the bars are missing, by the policy that each docstring states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from features.definition import MarketFeature
from features.registry import MARKET_COLUMNS, MARKET_FEATURES
from features.state.market_state import MarketFeatures
from market.bars.panel import BarPanel

Advance = Callable[[BarPanel], MarketFeatures]
MakePanel = Callable[..., BarPanel]

ROWS = 400
SETTLED = 345


def _doc(feature: MarketFeature) -> str:
    return " ".join(feature.doc.split())


MEANS = [feature for feature in MARKET_FEATURES if "under half of" in _doc(feature)]
MEANS_OF_PAIRS = tuple(feature.name for feature in MEANS if " pair" in _doc(feature))
"""Means over pairs of neighbouring bars."""

MEANS_OF_BARS = tuple(
    feature.name
    for feature in MEANS
    if feature.name not in MEANS_OF_PAIRS
    and ("issing bar" in _doc(feature) or not feature.needs_exogenous)
)
"""Means over the bars that are there: unknown while those are under half of the window."""

OTHERS = tuple(n for n in MARKET_COLUMNS if n not in MEANS_OF_BARS + MEANS_OF_PAIRS)
"""Sums in which a missing bar is zero, long memories in which it takes no part, and means of the
exogenous series, which are known whether there are bars or not."""


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
