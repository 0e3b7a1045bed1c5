"""The columns of `pandas_columns` as polars expressions over the bars of one symbol."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from benchmarks.workloads.pandas_columns import exogenous_of
from market.bars.panel import BASIS, FUNDING, OPEN_INTEREST, BarPanel

PRICES = ("open", "high", "low", "close", "volume")


def frame_of(panel: BarPanel, s: int) -> pl.DataFrame:
    """The bars of one symbol, with shared terms."""
    exogenous = exogenous_of(panel)
    columns = {name: panel.values[:, s, column] for column, name in enumerate(PRICES)}
    series = {"funding": FUNDING, "basis": BASIS, "open_interest": OPEN_INTEREST}
    columns |= {name: exogenous[:, s, column] for name, column in series.items()}
    frame = pl.DataFrame({name: np.ascontiguousarray(column) for name, column in columns.items()})
    o, h, l, c = (pl.col(name) for name in PRICES[:4])  # noqa: E741
    return frame.with_columns(
        pl.col("funding").fill_nan(None).forward_fill(),
        r=(c / c.shift()).log(),
        u=(h / o).log(),
        d=(l / o).log(),
        b=(c / o).log(),
        g=(o / c.shift()).log(),
        v=c * pl.col("volume"),
    )


def columns(per_hour: int) -> Mapping[str, pl.Expr]:
    """Feature names with their expression."""
    r, u, d, b, g, v = (pl.col(name) for name in "rudbgv")
    n = float(per_hour)

    def mean(x: pl.Expr, hours: int) -> pl.Expr:
        window = hours * per_hour
        return x.rolling_mean(window, min_samples=window - 1)

    def ewma(hours: int) -> pl.Expr:
        bars = hours * per_hour
        return (n * (r**2).ewm_mean(half_life=bars, min_samples=bars)).sqrt()

    def realised(hours: int) -> pl.Expr:
        return (n * mean(r**2, hours)).sqrt()

    day, week = 24 * per_hour, 168 * per_hour
    k = 0.34 / (1.34 + (day + 1.0) / (day - 1.0))
    within = u * (u - b) + d * (d - b)
    span = u - d
    pairs = r.abs() * r.abs().shift()
    explained = 0.5 * math.pi * mean(pairs, 24)
    explained = explained / mean(pl.when(pairs.is_not_null()).then(r**2), 24)
    signed = v / 1e6 * b.sign()
    second = pl.when(r.shift().is_not_null()).then(r)
    covariance = mean(r.shift() * r, 24) - mean(r.shift(), 24) * mean(second, 24)
    root = 3.0 - 2.0 * math.sqrt(2.0)
    beta = span**2 + span.shift() ** 2
    high = pl.max_horizontal(u, (u - b).shift() - g)
    low = pl.min_horizontal(d, (d - b).shift() - g)
    alpha = ((2.0 * beta).sqrt() - beta.sqrt()) / root - ((high - low) ** 2 / root).sqrt()
    x = v.log1p()
    daily = 24.0 * n * mean(v, 168)
    interest = pl.col("open_interest")
    return {
        **{f"ewma_volatility_{hours}h": ewma(hours) for hours in (3, 12, 72)},
        **{f"realised_volatility_{hours}h": realised(hours) for hours in (1, 6, 24, 168)},
        "parkinson_volatility_24h": (mean(span**2, 24) * (n / (4.0 * math.log(2.0)))).sqrt(),
        "garman_klass_volatility_24h": (
            n * mean(0.5 * span**2 - (2.0 * math.log(2.0) - 1.0) * b**2, 24)
        ).sqrt(),
        "rogers_satchell_volatility_24h": (n * mean(within, 24)).sqrt(),
        "yang_zhang_volatility_24h": (
            n * (g.rolling_var(day) + k * b.rolling_var(day) + (1.0 - k) * mean(within, 24))
        ).sqrt(),
        "long_volatility": (n * (r**2).cum_sum() / r.cum_count()).sqrt(),
        "stressed_volatility_168h": (n * (r**2).rolling_mean(week).cum_max()).sqrt(),
        "downside_volatility_24h": (n * mean(r.clip(upper_bound=0.0) ** 2, 24)).sqrt(),
        "jump_share_24h": (1.0 - explained).clip(0.0, 1.0),
        "volatility_of_volatility_168h": ewma(12).log().rolling_std(week, min_samples=1, ddof=0),
        "drawdown_168h": (pl.col("close").rolling_max(week) / pl.col("close")).log(),
        "return_zscore_72h": (r * math.sqrt(n) / ewma(72).shift()).clip(-100.0, 100.0),
        "trailing_return_24h": day * mean(r, 24),
        "amihud_illiquidity_24h": mean(r.abs() / (v / 1e6), 24),
        "kyle_lambda_24h": mean(r * signed, 24)
        / mean(pl.when(r.is_not_null()).then(signed**2), 24),
        "roll_spread_24h": 2.0 * (-covariance).clip(lower_bound=0.0).sqrt(),
        "corwin_schultz_spread_24h": mean((2.0 * (0.5 * alpha).tanh()).clip(lower_bound=0.0), 24),
        "volume_zscore_168h": (x - mean(x, 168)) / x.rolling_std(week, ddof=0),
        "relative_turnover_24h": ((1.0 + mean(v, 24)) / (1.0 + mean(v, 168))).log(),
        "average_daily_volume_168h": daily,
        "funding_rate_24h": mean(pl.col("funding"), 24),
        "basis_24h": mean(pl.col("basis"), 24),
        "open_interest_change_24h": (interest / interest.shift(day)).log(),
        "open_interest_days_168h": (interest * pl.col("close") / daily).log(),
    }
