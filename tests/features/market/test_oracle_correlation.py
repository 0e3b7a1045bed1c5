"""Correlations against the weighted means of pandas and plain matrix algebra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from features.registry import (
    CORRELATION_HALF_LIFE_HOURS,
    CROSS_VOLATILITY,
    FAST_CORRELATION_HALF_LIFE_HOURS,
)
from features.state.market_state import MarketFeatures
from market.bars.panel import CLOSE, BarPanel

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
Gappy = Callable[[str], BarPanel]
MakePanel = Callable[..., BarPanel]


def _pair(a: Floats, b: Floats, half_life: float, rows: int) -> Floats:
    # Log returns over gaps, then only the bars that both have.
    returns = [pd.Series(np.log(pd.Series(x).dropna())).diff() for x in (a, b)]
    both = pd.concat(returns, axis=1, keys=["a", "b"]).dropna()
    products = pd.DataFrame(
        {"ab": both["a"] * both["b"], "aa": both["a"] ** 2, "bb": both["b"] ** 2}
    )
    mean = products.ewm(halflife=half_life, adjust=True, min_periods=int(half_life)).mean()
    correlation: pd.Series = mean["ab"] / np.sqrt(mean["aa"] * mean["bb"])
    return correlation.reindex(range(rows)).ffill().to_numpy()


every_speed = pytest.mark.parametrize(
    ("field", "hours"),
    [
        ("correlation", CORRELATION_HALF_LIFE_HOURS),
        ("fast_correlation", FAST_CORRELATION_HALF_LIFE_HOURS),
    ],
)


@every_speed
@pytest.mark.parametrize("interval", ["1h", "30m"])
def test_ewma_correlation(
    field: str, hours: float, interval: str, gappy_panel: Gappy, advance: Advance
) -> None:
    panel = gappy_panel(interval)
    half_life = hours * panel.interval.per_hour
    close = panel.values[:, :, CLOSE]
    got = getattr(advance(panel), field)
    for i in range(3):
        for j in range(i):
            expected = _pair(close[:, i], close[:, j], half_life, len(panel))
            np.testing.assert_allclose(got[:, i, j], expected, rtol=1e-10, atol=1e-13)


@every_speed
def test_mean_correlations_and_their_difference(
    field: str, hours: float, gappy_panel: Gappy, advance: Advance
) -> None:
    # From the pairs of pandas, without our matrices.
    panel = gappy_panel("1h")
    close = panel.values[:, :, CLOSE]
    pairs = {
        (i, j): _pair(close[:, i], close[:, j], hours, len(panel))
        for i in range(3)
        for j in range(3)
        if i != j
    }
    features = advance(panel)
    name = "mean_correlation" if field == "correlation" else "mean_correlation_fast"
    for i in range(3):
        others = [pairs[i, j] for j in range(3) if j != i]
        expected = np.mean(others, axis=0)
        np.testing.assert_allclose(features.column(name)[:, i], expected, rtol=1e-9, atol=1e-12)
    shift = features.column("mean_correlation_fast") - features.column("mean_correlation")
    got = features.column("correlation_shift")
    np.testing.assert_allclose(got, shift, rtol=1e-9, atol=1e-13)


def test_fast_correlation_follows_a_change_of_regime_first(
    make_panel: MakePanel, advance: Advance
) -> None:
    # Two markets that move alike for 200 hours and by opposite amounts for a day after.
    panel = make_panel(225, symbols=("A", "B"), common=0.0)
    returns = np.diff(np.log(panel.values[:, 0, CLOSE]), prepend=0.0)
    returns[0] = 0.0
    other = np.where(np.arange(225) <= 200, returns, -returns)
    panel.values[:, 0, :4] = np.exp(np.cumsum(returns))[:, None]
    panel.values[:, 1, :4] = np.exp(np.cumsum(other))[:, None]
    features = advance(panel)
    assert features.column("correlation_shift")[200, 0] == pytest.approx(0.0, abs=1e-12)
    assert features.column("mean_correlation_fast")[-1, 0] < -0.2
    assert features.column("mean_correlation")[-1, 0] > 0.2
    assert features.column("correlation_shift")[-1, 0] < -0.4


def test_mean_correlation_is_the_mean_off_the_diagonal(
    gappy_panel: Gappy, advance: Advance
) -> None:
    features = advance(gappy_panel("1h"))
    pairs = features.correlation[100:].copy()
    pairs[:, range(3), range(3)] = np.nan
    expected = np.nanmean(pairs, axis=2)
    np.testing.assert_allclose(features.column("mean_correlation")[100:], expected, rtol=1e-12)


def test_market_correlation_is_that_with_the_sum_of_returns(
    make_panel: MakePanel, advance: Advance
) -> None:
    # With the same weights throughout, the correlation of a symbol with the sum of all returns
    # follows from the returns alone, without a correlation matrix.
    panel = make_panel(400, symbols=("A", "B", "C", "D", "E"))
    features = advance(panel)
    returns = pd.DataFrame(np.diff(np.log(panel.values[:, :, CLOSE]), axis=0))
    market = returns.sum(axis=1)
    hours = CORRELATION_HALF_LIFE_HOURS
    together = returns.mul(market, axis=0).ewm(halflife=hours, adjust=True).mean()
    own = (returns**2).ewm(halflife=hours, adjust=True).mean()
    whole = (market**2).ewm(halflife=hours, adjust=True).mean()
    expected = together.div(np.sqrt(own.mul(whole, axis=0))).to_numpy()
    got = features.column("market_correlation")
    np.testing.assert_allclose(got[80:], expected[79:], rtol=1e-9)


def test_cross_volatility_has_the_half_life_of_the_correlation() -> None:
    assert f"ewma_volatility_{CORRELATION_HALF_LIFE_HOURS:g}h" == CROSS_VOLATILITY


def test_same_and_opposite_returns_correlate_by_one(
    make_panel: MakePanel, advance: Advance
) -> None:
    panel = make_panel(100)
    panel.values[:, 1] = panel.values[:, 0]
    panel.values[:, 2, CLOSE] = 1.0 / panel.values[:, 0, CLOSE]
    correlation = advance(panel).correlation[-1]
    np.testing.assert_allclose(correlation[0], [1.0, 1.0, -1.0], rtol=1e-12)


def test_symbol_that_never_moves_correlates_by_zero(
    make_panel: MakePanel, advance: Advance
) -> None:
    panel = make_panel(100)
    panel.values[:, 1, :4] = 5.0
    assert advance(panel).correlation[-1, 1].tolist() == [0.0, 1.0, 0.0]
