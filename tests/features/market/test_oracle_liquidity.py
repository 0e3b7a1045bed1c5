"""Liquidity against DuckDB windows and the paper of Corwin and Schultz."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from features.state.market_state import MarketFeatures
from market.bars.panel import HIGH, LOW, VOLUME, BarPanel
from market.core.clock import INTERVALS

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
Gappy = Callable[[str], BarPanel]
MakePanel = Callable[..., BarPanel]
BySql = Callable[[BarPanel, str, dict[str, float]], Floats]

every_interval = pytest.mark.parametrize("interval", ["1h", "30m"])


@every_interval
def test_amihud_illiquidity(
    interval: str, gappy_panel: Gappy, advance: Advance, by_sql: BySql
) -> None:
    panel = gappy_panel(interval)
    expected = by_sql(
        panel,
        f"CASE WHEN bars >= {24 * panel.interval.per_hour} "
        "THEN avg(abs(r) / nullif(volume * close / 1e6, 0)) OVER w END",
        {"hours": 24},
    )
    got = advance(panel).column("amihud_illiquidity_24h")
    np.testing.assert_allclose(got, expected, rtol=1e-9)


@every_interval
def test_average_daily_volume(
    interval: str, gappy_panel: Gappy, advance: Advance, by_sql: BySql
) -> None:
    panel = gappy_panel(interval)
    n = panel.interval.per_hour
    expected = by_sql(
        panel,
        f"CASE WHEN bars >= {168 * n} THEN {24 * n} * avg(volume * close) OVER w END",
        {"hours": 168},
    )
    got = advance(panel).column("average_daily_volume_168h")
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@every_interval
def test_volume_zscore(interval: str, gappy_panel: Gappy, advance: Advance, by_sql: BySql) -> None:
    panel = gappy_panel(interval)
    x = "ln(1 + volume * close)"
    expected = by_sql(
        panel,
        f"CASE WHEN bars >= {168 * panel.interval.per_hour} "
        f"THEN ({x} - avg({x}) OVER w) / stddev_pop({x}) OVER w END",
        {"hours": 168},
    )
    missing = np.isnan(panel.values[:, :, 0])
    for row, s in np.argwhere(missing):  # a missing bar leaves the last score standing
        expected[row, s] = expected[row - 1, s]
    got = advance(panel).column("volume_zscore_168h")
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10)


@every_interval
def test_relative_turnover(
    interval: str, holed_panel: Gappy, advance: Advance, by_sql: BySql
) -> None:
    panel = holed_panel(interval)
    n = panel.interval.per_hour
    turnover = "volume * close"
    means = [
        by_sql(
            panel,
            f"CASE WHEN bars >= {168 * n} AND 2 * count({turnover}) OVER w >= {hours * n} "
            f"THEN ln(1 + avg({turnover}) OVER w) END",
            {"hours": hours},
        )
        for hours in (24, 168)
    ]
    expected = means[0] - means[1]
    assert np.isnan(expected[168 * n :]).any()
    got = advance(panel).column("relative_turnover_24h")
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-11)


def test_relative_turnover_of_a_day_without_trades_is_finite(
    make_panel: MakePanel, advance: Advance
) -> None:
    panel = make_panel(200, symbols=("A",))
    panel.values[:, 0] = [2.0, 2.0, 2.0, 2.0, 500.0]
    panel.values[-24:, 0, VOLUME] = 0.0
    got = advance(panel).column("relative_turnover_24h")[-1, 0]
    assert got == pytest.approx(-math.log(1.0 + 1_000.0 * 144.0 / 168.0), rel=1e-12)


def test_volume_zscore_is_zero_where_volume_never_varies(advance: Advance) -> None:
    values = np.full((170, 1, 5), 3.0)
    opens = np.arange(170, dtype=np.int64) * INTERVALS["1h"].nanoseconds
    got = advance(BarPanel(INTERVALS["1h"], ("A",), opens, values)).column("volume_zscore_168h")
    assert got[167:, 0].tolist() == [0.0, 0.0, 0.0]


def _corwin_schultz(high: float, low: float, next_high: float, next_low: float) -> float:
    """Equations 14 and 18 of the paper, with beta and gamma of its equations 8 and 10."""
    beta = math.log(high / low) ** 2 + math.log(next_high / next_low) ** 2
    gamma = math.log(max(high, next_high) / min(low, next_low)) ** 2
    denominator = 3.0 - 2.0 * math.sqrt(2.0)
    alpha = (math.sqrt(2.0 * beta) - math.sqrt(beta)) / denominator - math.sqrt(gamma / denominator)
    return max(0.0, 2.0 * (math.exp(alpha) - 1.0) / (1.0 + math.exp(alpha)))


@every_interval
def test_corwin_schultz_spread(interval: str, gappy_panel: Gappy, advance: Advance) -> None:
    panel = gappy_panel(interval)
    width = 24 * panel.interval.per_hour
    got = advance(panel).column("corwin_schultz_spread_24h")
    for s in range(len(panel.symbols)):
        pairs: list[float | None] = [None]
        for t in range(1, len(panel)):
            first, second = panel.values[t - 1, s], panel.values[t, s]
            whole = not (math.isnan(first[HIGH]) or math.isnan(second[HIGH]))
            pairs.append(
                _corwin_schultz(first[HIGH], first[LOW], second[HIGH], second[LOW])
                if whole
                else None
            )
        for t in range(len(panel)):
            window = [x for x in pairs[max(0, t - width + 1) : t + 1] if x is not None]
            expected = math.fsum(window) / len(window) if t >= width - 1 else math.nan
            assert got[t, s] == pytest.approx(expected, rel=1e-9, abs=1e-15, nan_ok=True)


def test_corwin_schultz_finds_a_pure_spread(advance: Advance) -> None:
    # A price that stands still, traded at bid 99 and ask 101: H/L is the same in one bar and in
    # two, so alpha = ln(101/99), and the spread is 2 (101 - 99) / (101 + 99) = 2 %.
    values = np.empty((30, 1, 5))
    values[:, 0] = [100.0, 101.0, 99.0, 100.0, 1.0]
    opens = np.arange(30, dtype=np.int64) * INTERVALS["1h"].nanoseconds
    panel = BarPanel(INTERVALS["1h"], ("A",), opens, values)
    got = advance(panel).column("corwin_schultz_spread_24h")[-1, 0]
    assert got == pytest.approx(0.02, rel=1e-12)
