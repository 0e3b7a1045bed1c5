"""The volatility forecast against a slow and plain computation from its definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from features.market.volatility.forecast.coefficients import (
    FORECAST_HORIZONS,
    shipped_coefficients,
)
from features.registry import REGRESSORS
from features.state.market_state import MarketFeatures
from market.bars.panel import BarPanel
from market.core.clock import INTERVALS

Floats = npt.NDArray[np.float64]
Advance = Callable[[BarPanel], MarketFeatures]
MakePanel = Callable[..., BarPanel]
Frames = Callable[[BarPanel], list[pd.DataFrame]]

WEEK, HOURS = 168, 900
GAP, LONG_GAP, HOLE, LISTED = range(250, 256), range(400, 440), 500, 300


def _hourly(frame: pd.DataFrame) -> pd.DataFrame:
    """Bars of whole hours by the hour at which they close; an hour without a bar is left out."""
    hour = frame["closed"].dt.ceil("h")
    bars = frame.dropna(subset="close").copy()
    # A return over more than a day is none.
    bars.loc[bars["closed"].diff() > pd.Timedelta(hours=25), "r"] = np.nan
    there = bars.groupby(hour)
    bars = there.agg(
        open=("open", "first"), high=("high", "max"), low=("low", "min"), close=("close", "last")
    )
    bars["turnover"] = there["turnover"].sum()
    bars["r"] = there["r"].sum(min_count=1)
    reach, body = np.log(bars["high"] / bars["low"]), np.log(bars["close"] / bars["open"])
    bars["g"] = (0.5 * reach**2 - (2 * np.log(2) - 1) * body**2).clip(lower=2.5e-8)
    apart = bars.index.to_series().diff() > pd.Timedelta(hours=25)
    bars["part"] = apart.cumsum()
    return bars


def _slot(time: pd.Timestamp) -> int:
    """Hour since Thursday 00:00 of the hour that begins at a time."""
    return int((time - pd.Timestamp("1970-01-01")) / pd.Timedelta(hours=1)) % WEEK


def _profile(sums: Floats, counts: Floats) -> Floats:
    c = sums / (counts + 4.0)
    weights = {-2: 0.1, -1: 0.2, 0: 0.4, 1: 0.2, 2: 0.1}
    smooth = sum((w * np.roll(c, -shift) for shift, w in weights.items()), np.zeros(WEEK))
    centred: Floats = smooth - smooth.mean()
    return centred


def _profiles(markets: list[pd.DataFrame], hours: pd.DatetimeIndex) -> dict[pd.Timestamp, Floats]:
    """The profile known before each hour, and after the last one, by the hour's begin."""
    deviations = []
    for bars in markets:
        log = np.log(bars["g"])
        parts = log.groupby(bars["part"])
        usual = parts.transform(lambda x: x.rolling(WEEK).mean().shift(1))
        deviations.append((log - usual).reindex(hours))
    mean = pd.concat(deviations, axis=1).mean(axis=1)
    sums, counts, found = np.zeros(WEEK), np.zeros(WEEK), {}
    for close, d in mean.items():
        begin = pd.Timestamp(str(close)) - pd.Timedelta(hours=1)
        found[begin] = _profile(sums, counts)
        if np.isfinite(d):
            slot = _slot(begin)
            sums[slot] = 2.0 ** (-1 / 52) * sums[slot] + d
            counts[slot] = 2.0 ** (-1 / 52) * counts[slot] + 1.0
        found[begin + pd.Timedelta(hours=1)] = _profile(sums, counts)
    return found


def _regressors(bars: pd.DataFrame, profiles: dict[pd.Timestamp, Floats]) -> pd.DataFrame:
    """A row for every hourly bar, from all bars up to it."""
    begins = pd.DatetimeIndex(bars.index) - pd.Timedelta(hours=1)
    s = pd.Series([profiles[b][_slot(b)] for b in begins], bars.index)
    w = bars["g"] * np.exp(-s)
    out = pd.DataFrame(index=bars.index)
    for k in (1, 2, 4, 8, 16, 24, 48, 96, 168, 336, 720):
        out[f"log_volatility_{k}h"] = 0.5 * np.log(w.rolling(k, min_periods=1).mean())
    squares = (bars["r"] ** 2 * np.exp(-s)).dropna()
    for k in (16, 64, 256):
        mean = squares.ewm(halflife=k).mean().reindex(bars.index).ffill()
        out[f"log_ewma_volatility_{k}h"] = 0.5 * np.log(mean.clip(lower=2.5e-8))
    out["log_volatility_long_run"] = (0.5 * np.log(w)).rolling(8760, min_periods=1).mean()
    four = out["log_volatility_4h"]
    out["log_volatility_dispersion_168h"] = four.rolling(WEEK, min_periods=1).std(ddof=0)
    sigma = np.sqrt(w.rolling(WEEK, min_periods=1).mean())
    r = bars["r"].fillna(0.0)
    for k in (1, 6, 24, 168):
        scaled = r.rolling(k, min_periods=1).sum() / (
            sigma * np.sqrt(np.minimum(np.arange(1, len(r) + 1), k))
        )
        out[f"scaled_return_{k}h"] = scaled.clip(-6.0, 6.0)
    for k in (1, 24):
        out[f"absolute_scaled_return_{k}h"] = out[f"scaled_return_{k}h"].abs()
    out["seasonal_log_volatility"] = 0.5 * s
    x = np.log1p(bars["turnover"])
    for k in (1, 6):
        out[f"log_turnover_ratio_{k}h"] = (
            x.rolling(k, min_periods=1).mean() - x.rolling(WEEK, min_periods=1).mean()
        )
    return out


@pytest.fixture(scope="module", params=["1h", "30m"])
def panel(request: pytest.FixtureRequest, make_panel: MakePanel) -> BarPanel:
    """Four symbols: whole, with gaps, listed late, and one that trades flat without volume."""
    interval = INTERVALS[request.param]
    n = interval.per_hour
    panel = make_panel(HOURS * n, symbols=("A", "B", "C", "D"), seed=5, interval=interval.name)
    # Wild hours of the day, so that there is a season to find.
    hour = np.arange(HOURS * n) // n % 24
    panel.values[:, :, 1] *= np.where((hour == 13) | (hour == 20), 1.02, 1.0)[:, None]
    panel.values[GAP.start * n : GAP.stop * n, 1] = np.nan
    panel.values[LONG_GAP.start * n : LONG_GAP.stop * n, 1] = np.nan
    panel.values[HOLE * n, 0] = np.nan
    panel.values[: LISTED * n, 2] = np.nan
    panel.values[600 * n : 620 * n, 3] = [5.0, 5.0, 5.0, 5.0, 0.0]
    return panel


@pytest.fixture(scope="module")
def expected(panel: BarPanel, frames: Frames) -> list[pd.DataFrame]:
    """Every column of every symbol at each row of the panel."""
    closed = pd.DatetimeIndex(pd.to_datetime(panel.closes, unit="ns"))
    hours = closed[closed == closed.floor("h")]
    markets = [_hourly(frame) for frame in frames(panel)]
    profiles = _profiles(markets, hours)
    beta = shipped_coefficients().values
    found = []
    for bars, frame in zip(markets, frames(panel), strict=True):
        table = _regressors(bars, profiles)[list(REGRESSORS)].reindex(hours).ffill()
        for k, horizon in enumerate(FORECAST_HORIZONS):
            ahead = []
            for hour in hours:
                coming = (_slot(hour) + np.arange(horizon)) % WEEK
                s = profiles[hour][coming]
                ahead.append(0.5 * np.log(np.mean(np.exp(s))))
            x = table[list(REGRESSORS)].to_numpy()
            s_ahead = np.array(ahead)
            full = np.column_stack([x, np.ones(len(x)), s_ahead])
            table[f"seasonal_log_volatility_ahead_{horizon}h"] = s_ahead
            table[f"volatility_forecast_{horizon}h"] = np.exp(s_ahead + full @ beta[k])
        # Nothing in the first week of a part, nor more than a day after its last bar.
        for hour in hours:
            past = bars.loc[:hour]
            if not len(past):
                table.loc[hour] = np.nan
                continue
            first = past.index[past["part"] == past["part"].iloc[-1]][0]
            listed = (hour - first) / pd.Timedelta(hours=1) + 1
            quiet = (hour - past.index[-1]) / pd.Timedelta(hours=1)
            if listed < WEEK or quiet > 24:
                table.loc[hour] = np.nan
        newest = frame["closed"].where(frame["close"].notna()).ffill()
        absent = ~((frame["closed"] - newest) <= pd.Timedelta(hours=24)).to_numpy()
        found.append(table.reindex(closed, method="ffill"))
        found[-1].loc[absent] = np.nan
    return found


def test_every_column_is_that_of_the_definition(
    panel: BarPanel, expected: list[pd.DataFrame], advance: Advance
) -> None:
    features = advance(panel)
    for s, table in enumerate(expected):
        for name in table.columns:
            np.testing.assert_allclose(
                features.column(name)[:, s],
                table[name].to_numpy(),
                rtol=1e-8,
                atol=1e-10,
                err_msg=f"{name} of {panel.symbols[s]}",
            )


def test_the_oracle_sees_a_season_and_all_hazards(expected: list[pd.DataFrame]) -> None:
    ahead = expected[0]["seasonal_log_volatility_ahead_1h"].dropna()
    assert ahead.iloc[-48:].max() - ahead.iloc[-48:].min() > 0.1
    assert expected[2].notna().all(axis=1).sum() > 400
    late, gone = expected[2], expected[1]
    assert late.isna().all(axis=1).sum() > LISTED
    assert gone.isna().all(axis=1).sum() > WEEK + LONG_GAP.stop - LONG_GAP.start
