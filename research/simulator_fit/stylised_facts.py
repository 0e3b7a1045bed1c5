"""Stylised facts of a market, measured alike on real and on simulated bars.

Each fact is one number a panel: the median over its coins where it is measured coin by coin.
With r the log return of a bar, v = ln(range / its floor) the log of the bar's log range, daily
figures over 24 hours from 00:00 UTC, and ρ_k the autocorrelation at lag k.

References
----------
Cont (2001) for the catalogue of facts; Hill (1975) for the tail index; Parkinson (1980) for
volatility from ranges; Barndorff-Nielsen and Shephard (2004) for bipower variation; Corwin and
Schultz (2012) for the spread from highs and lows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from market.bars.panel import CLOSE, HIGH, LOW, VOLUME, BarPanel
from market.core.clock import DAY, HOUR
from market.core.errors import DataError
from research.simulator_fit.venue_statistics import correlation, memory

Floats = npt.NDArray[np.float64]

LEAST_DAYS = 60
"""Shortest history that facts are measured on."""

TAIL_SHARE = 0.005
"""Part of the largest moves that the tail index looks at."""

_SMALLEST_RANGE = 1e-5
_TREND_HOURS = 168


@dataclass(frozen=True, slots=True)
class StylisedFacts:
    """The facts of one panel.

    Attributes
    ----------
    volatility:
        Annualised standard deviation of r.
    tail_index, market_tail_index:
        Hill's index of the largest |r|, of a coin and of the mean coin (each scaled to a standard
        deviation of 1): the smaller, the fatter the tail.
    clustering_1h, clustering_24h, clustering_168h:
        Autocorrelation of |r|.
    range_memory_1h, range_memory_24h, range_memory_168h:
        Autocorrelation of v.
    daily_memory_1d, daily_memory_7d, daily_memory_30d:
        Autocorrelation of log daily volatility (Parkinson's).
    volatility_of_volatility:
        Standard deviation of log daily volatility.
    volatility_commonality:
        Mean correlation of two coins' log daily volatilities.
    leverage_effect:
        Correlation of r with the mean |r| of the next 24 hours.
    jump_share:
        Mean over days of 1 - bipower over realised variance, from returns over their hour's usual
        size.
    correlation_calm, correlation_stress:
        Mean correlation of two coins over the calmer half of the days and over the tenth with the
        highest volatility of the mean coin.
    season_swing:
        Mean |r| in the busiest hour of the day over that in the quietest.
    volume_elasticity:
        Slope of log turnover on v, both less their mean of 168 hours around.
    volume_noise, volume_memory_1h, volume_memory_24h:
        Standard deviation and autocorrelation of what that slope leaves of log turnover.
    spread:
        Corwin-Schultz spread over mid, negative estimates as zero, mean over bars.
    spread_elasticity:
        Slope of log daily spread on log daily volatility.
    """

    volatility: float
    tail_index: float
    market_tail_index: float
    clustering_1h: float
    clustering_24h: float
    clustering_168h: float
    range_memory_1h: float
    range_memory_24h: float
    range_memory_168h: float
    daily_memory_1d: float
    daily_memory_7d: float
    daily_memory_30d: float
    volatility_of_volatility: float
    volatility_commonality: float
    leverage_effect: float
    jump_share: float
    correlation_calm: float
    correlation_stress: float
    season_swing: float
    volume_elasticity: float
    volume_noise: float
    volume_memory_1h: float
    volume_memory_24h: float
    spread: float
    spread_elasticity: float

    def __getitem__(self, name: str) -> float:
        """A fact by its name."""
        return float(getattr(self, name))


FACTS = tuple(field.name for field in fields(StylisedFacts))
"""Names of all facts."""


TOLERANCE = {
    "volatility": 0.10,
    "tail_index": 0.5,
    "market_tail_index": 0.8,
    "clustering_1h": 0.05,
    "clustering_24h": 0.05,
    "clustering_168h": 0.05,
    "range_memory_1h": 0.07,
    "range_memory_24h": 0.10,
    "range_memory_168h": 0.12,
    "daily_memory_1d": 0.10,
    "daily_memory_7d": 0.15,
    "daily_memory_30d": 0.15,
    "volatility_of_volatility": 0.07,
    "volatility_commonality": 0.10,
    "leverage_effect": 0.02,
    "jump_share": 0.02,
    "correlation_calm": 0.06,
    "correlation_stress": 0.06,
    "season_swing": 0.20,
    "volume_elasticity": 0.10,
    "volume_noise": 0.05,
    "volume_memory_1h": 0.08,
    "volume_memory_24h": 0.08,
    "spread": 0.0005,
    "spread_elasticity": 0.20,
}
"""How far a simulated fact may lie from the real one, in the fact's own unit.

About twice the standard deviation of the fact between simulated histories of three years with
different seeds, rounded up: two histories of one and the same market differ by as much. Where a
fact is steadier than that the tolerance is what the model's shape leaves unexplained.
"""


def measure_facts(panel: BarPanel) -> StylisedFacts:
    """Measure the facts of hourly bars.

    Parameters
    ----------
    panel:
        Hourly, at least two coins over `LEAST_DAYS` days. Missing bars (NaN) are left out: a
        return needs two bars in a row, a day 24 of them.

    Raises
    ------
    DataError
        The bars are not hourly, too few, or of one coin.
    """
    days = len(panel) * panel.interval.nanoseconds // DAY
    if panel.interval.nanoseconds != HOUR or days < LEAST_DAYS or len(panel.symbols) < 2:
        raise DataError(
            f"stylised facts need hourly bars of 2 or more coins over {LEAST_DAYS} days or more; "
            f"given {panel.interval.name} bars of {len(panel.symbols)} coin(s) over {days} days"
        )
    logs = np.log(panel.values[:, :, [HIGH, LOW, CLOSE]])
    hour = panel.opens // HOUR % 24
    first = int(-hour[0] % 24)
    whole = slice(first, first + (len(panel) - first) // 24 * 24)
    returns = np.vstack([np.full((1, logs.shape[1]), np.nan), np.diff(logs[:, :, 2], axis=0)])
    size = np.abs(returns)
    ranges = np.log(np.maximum(logs[:, :, 0] - logs[:, :, 1], _SMALLEST_RANGE))
    daily_ranges = _by_day((logs[:, :, 0] - logs[:, :, 1])[whole])
    daily = 0.5 * np.log((daily_ranges**2).mean(axis=1) / (4.0 * np.log(2.0)) + 1e-12)
    scaled = returns / np.nanstd(returns, axis=0)
    mean_coin = np.nanmean(scaled[1:], axis=1)
    calm, stress = _correlations(_by_day(scaled[whole]))
    usual = np.array([np.nanmean(size[hour == h], axis=0) for h in range(24)])
    volume = _volume(panel, logs[:, :, 2], ranges)
    spread = _corwin_schultz(logs)
    daily_spread = np.log(_by_day(spread[whole]).mean(axis=1))
    later = _mean_ahead(size, 24)
    return StylisedFacts(
        volatility=_middle(np.nanstd(returns, axis=0) * np.sqrt(365.0 * 24.0)),
        tail_index=_middle([hill(column) for column in scaled.T]),
        market_tail_index=hill(mean_coin),
        clustering_1h=_memory(size, 1),
        clustering_24h=_memory(size, 24),
        clustering_168h=_memory(size, 168),
        range_memory_1h=_memory(ranges, 1),
        range_memory_24h=_memory(ranges, 24),
        range_memory_168h=_memory(ranges, 168),
        daily_memory_1d=_memory(daily, 1),
        daily_memory_7d=_memory(daily, 7),
        daily_memory_30d=_memory(daily, 30),
        volatility_of_volatility=_middle(np.nanstd(daily, axis=0)),
        volatility_commonality=_mean_correlation(daily),
        leverage_effect=_middle(
            [correlation(r, s) for r, s in zip(returns.T, later.T, strict=True)]
        ),
        jump_share=_jump_share(_by_day((returns / usual[hour])[whole])),
        correlation_calm=calm,
        correlation_stress=stress,
        season_swing=_middle(usual.max(axis=0) / usual.min(axis=0)),
        volume_elasticity=volume[0],
        volume_noise=volume[1],
        volume_memory_1h=volume[2],
        volume_memory_24h=volume[3],
        spread=_middle(np.nanmean(spread, axis=0)),
        spread_elasticity=_middle(
            [_slope(x, y) for x, y in zip(daily.T, daily_spread.T, strict=True)]
        ),
    )


def hill(series: Floats) -> float:
    """Hill's tail index of |x|: k / Σ ln(x_i / x_k) over the largest `TAIL_SHARE`; NaN ignored."""
    size = np.sort(np.abs(series[np.isfinite(series)]))
    tail = size[-max(10, int(TAIL_SHARE * len(size))) :]
    return float(len(tail[1:]) / np.log(tail[1:] / tail[0]).sum())


def _corwin_schultz(logs: Floats) -> Floats:
    """Spread over mid from the highs and lows of each bar and the one before, shape (T, S)."""
    high, low, close = logs[:, :, 0], logs[:, :, 1], logs[:, :, 2]
    # A bar that opens beyond the last close is moved by the jump between, as the authors do.
    gap = np.maximum(close[:-1] - high[1:], 0.0) + np.minimum(close[:-1] - low[1:], 0.0)
    high_now, low_now = high[1:] + gap, low[1:] + gap
    beta = (high[:-1] - low[:-1]) ** 2 + (high_now - low_now) ** 2
    gamma = (np.maximum(high[:-1], high_now) - np.minimum(low[:-1], low_now)) ** 2
    k = 3.0 - 2.0 * np.sqrt(2.0)
    alpha = (np.sqrt(2.0 * beta) - np.sqrt(beta)) / k - np.sqrt(gamma / k)
    spread = 2.0 * np.expm1(alpha) / (1.0 + np.exp(alpha))
    first = np.full((1, logs.shape[1]), np.nan)
    return np.vstack([first, np.maximum(spread, 0.0)])


def _jump_share(days: Floats) -> float:
    """Mean of 1 - bipower over realised variance, by days (D, 24, S)."""
    size = np.abs(days)
    realised = (size**2).sum(axis=1)
    bipower = (np.pi / 2.0) * (24.0 / 23.0) * (size[:, 1:] * size[:, :-1]).sum(axis=1)
    return _middle(np.nanmean(1.0 - bipower / np.where(realised > 0.0, realised, np.nan), axis=0))


def _correlations(days: Floats) -> tuple[float, float]:
    """Mean correlation of pairs in calm and in stress; `days` are scaled returns (D, 24, S)."""
    activity = np.nanmean(days**2, axis=(1, 2))
    low, high = np.nanquantile(activity, [0.5, 0.9])
    parts = (days[activity <= low], days[activity > high])
    calm, stress = (_mean_correlation(part.reshape(-1, part.shape[2])) for part in parts)
    return calm, stress


def _volume(panel: BarPanel, closes: Floats, ranges: Floats) -> tuple[float, float, float, float]:
    traded = panel.values[:, :, VOLUME]
    turnover = np.log(np.where(traded > 0.0, traded, np.nan)) + closes
    y, x = (_without_trend(series) for series in (turnover, ranges))
    slopes = np.array([_slope(a, b) for a, b in zip(x.T, y.T, strict=True)])
    rest = y - slopes * x
    noise = _middle(np.nanstd(rest, axis=0))
    return _middle(slopes), noise, _memory(rest, 1), _memory(rest, 24)


def _by_day(rows: Floats) -> Floats:
    return rows.reshape(-1, 24, rows.shape[1])


def _without_trend(series: Floats) -> Floats:
    """Less the mean of `_TREND_HOURS` around each row."""
    known = np.isfinite(series)
    total = np.cumsum(np.where(known, series, 0.0), axis=0)
    count = np.cumsum(known, axis=0)
    upper = np.minimum(np.arange(len(series)) + _TREND_HOURS // 2, len(series) - 1)
    lower = np.maximum(np.arange(len(series)) - _TREND_HOURS // 2, 0)
    spans = np.maximum(count[upper] - count[lower], 1)
    return np.asarray(series - (total[upper] - total[lower]) / spans)


def _mean_ahead(series: Floats, hours: int) -> Floats:
    """Mean of the next `hours` rows, NaN at the end and where one is missing."""
    ahead = np.full_like(series, np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(series[1:], hours, axis=0)
    ahead[: len(windows)] = windows.mean(axis=2)
    return ahead


def _memory(series: Floats, lag: int) -> float:
    """Median over coins of the autocorrelation at a lag."""
    return _middle([memory(x, lag) for x in series.T])


def _mean_correlation(series: Floats) -> float:
    columns = range(series.shape[1])
    pairs = [correlation(series[:, i], series[:, j]) for i in columns for j in columns if i < j]
    return float(np.mean(pairs))


def _slope(x: Floats, y: Floats) -> float:
    both = np.isfinite(x) & np.isfinite(y)
    dx = x[both] - x[both].mean()
    return float((dx @ (y[both] - y[both].mean())) / (dx @ dx))


def _middle(values: Floats | list[float]) -> float:
    return float(np.median(values))
