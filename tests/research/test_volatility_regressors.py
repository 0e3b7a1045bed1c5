"""Comparison of further regressors of the volatility forecast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from market.core.arrays import Floats
from market.core.clock import HOUR
from market.core.errors import DataError
from research.experiments.volatility_regressors import (
    HORIZONS,
    LEAST_HOURS,
    Panel,
    compare,
    finer_variance,
    implied_volatility,
)

HOURS, SYMBOLS = 2 * LEAST_HOURS + 4_500, 3
FIRST = pd.Timestamp("2023-01-01", tz="UTC").value


def signals() -> Floats:
    return np.random.default_rng(5).normal(size=(HOURS, SYMBOLS, 4))


def hidden() -> Floats:
    return signals()[:, :, 2:3].copy()


@pytest.fixture(scope="module")
def panel() -> Panel:
    """A log volatility that is the sum of a known regressor, a hidden one and noise."""
    x = signals()
    own = np.concatenate([x[:, :, :2], np.ones((HOURS, SYMBOLS, 1))], axis=2)
    target = x[:, :, 0] + x[:, :, 2] + x[:, :, 3] - 5.0
    return Panel(
        FIRST + HOUR * np.arange(1, HOURS + 1),
        own,
        dict.fromkeys(HORIZONS, np.zeros((HOURS, SYMBOLS))),
        dict.fromkeys(HORIZONS, target),
    )


def test_an_informative_candidate_halves_the_squared_error_and_noise_gains_nothing(
    panel: Panel,
) -> None:
    end = int(panel.closes[-1])
    found = compare(panel, hidden(), end)
    noise = compare(panel, np.random.default_rng(6).normal(size=(HOURS, SYMBOLS, 1)), end)
    for h in map(str, HORIZONS):
        assert found[h]["gain"] == pytest.approx(0.5, abs=0.02)
        assert found[h]["rmse"] == pytest.approx(np.sqrt(2.0), rel=0.02)
        low, high = found[h]["gain_ci95"]
        assert low < found[h]["gain"] < high
        assert abs(noise[h]["gain"]) < 0.002
    assert found["symbols"] == SYMBOLS
    assert found["blocks"] == 2


def test_rows_without_the_candidate_count_for_neither_side(panel: Panel) -> None:
    candidate = hidden()
    candidate[:, 1:] = np.nan
    found = compare(panel, candidate, int(panel.closes[-1]))
    assert found["symbols"] == 1
    assert found["1"]["rows"] < HOURS


def test_a_short_history_is_refused(panel: Panel) -> None:
    with pytest.raises(DataError, match="hours have the candidate"):
        compare(panel, hidden(), int(panel.closes[LEAST_HOURS // 2]))


def test_finer_variance_by_hand(panel: Panel, tmp_path: Path) -> None:
    times = pd.date_range("2023-01-01", periods=12, freq="30min", tz="UTC")
    reach = np.linspace(0.01, 0.12, 12)
    bars = pd.DataFrame(
        {"ts": times, "open": 100.0, "high": 100.0 * np.exp(reach), "low": 100.0, "close": 100.0}
    )
    bars.drop(index=5).to_parquet(tmp_path / "BTCUSDT.parquet")
    out = finer_variance(panel, ["BTCUSDT-PERP", "ETHUSDT", "XRPUSDT"], tmp_path)
    each = 0.5 * reach**2
    assert out[0, 0, 0] == pytest.approx(0.5 * np.log(each[0] + each[1]))
    assert np.isnan(out[2, 0, 0])  # half of the third hour is missing
    assert out[3, 0, 0] == pytest.approx(0.5 * np.log(each[6] + each[7]))
    assert np.isnan(out[:, 1:]).all()
    with pytest.raises(DataError, match="no SYMBOL"):
        finer_variance(panel, ["SOLUSDT"], tmp_path)


def test_the_index_of_an_hour_counts_from_its_end(panel: Panel, tmp_path: Path) -> None:
    times = pd.date_range("2023-01-01", periods=3, freq="1h", tz="UTC")
    file = tmp_path / "index.parquet"
    pd.DataFrame({"ts": times, "dvol_close": [50.0, 60.0, 70.0]}).to_parquet(file)
    out = implied_volatility(panel, file)
    assert out[0, :, 0] == pytest.approx(np.log(0.5 / np.sqrt(8_760.0)))
    assert out[2, 0, 0] == pytest.approx(np.log(0.7 / np.sqrt(8_760.0)))
    assert np.isnan(out[3:]).all()
