from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from market.bars.bar_cleaning import is_possible
from market.bars.panel import CLOSE, HIGH, LOW, OPEN, VOLUME, BarPanel
from market.core.clock import DAY, Interval, parse_time
from market.core.errors import ConfigError
from market.simulator.market_parameters import MarketParameters
from market.simulator.simulated_market import DEFAULT_START, simulate_bars

HOURLY = Interval.parse("1h")
COINS = MarketParameters.load().coins


def changed(table: str, **values: float) -> MarketParameters:
    """The stored market with some figures of one table changed."""
    whole = MarketParameters.load()
    figures = msgspec.structs.replace(getattr(whole, table), **values)
    return msgspec.structs.replace(whole, **{table: figures})


@pytest.fixture(scope="module")
def panel() -> BarPanel:
    return simulate_bars(seed=1, days=720, symbols=8, interval=HOURLY)


@pytest.fixture(scope="module")
def returns(panel: BarPanel) -> npt.NDArray[np.float64]:
    return np.diff(np.log(panel.values[:, :, CLOSE]), axis=0)


def autocorrelation(series: npt.NDArray[np.float64], lag: int) -> float:
    return float(np.corrcoef(series[lag:], series[:-lag])[0, 1])


def test_same_seed_same_bars_other_seed_other_bars() -> None:
    first, again, other = (simulate_bars(seed, 5, 3, HOURLY) for seed in (4, 4, 5))
    assert np.array_equal(first.values, again.values)
    assert not np.allclose(first.values, other.values)


def test_more_days_across_chunks_keep_the_earlier_bars() -> None:
    short, long = simulate_bars(3, 50, 2, HOURLY), simulate_bars(3, 200, 2, HOURLY)
    assert np.array_equal(long.values[: len(short)], short.values)


def test_more_coins_keep_the_bars_of_fewer() -> None:
    few, many = simulate_bars(3, 5, 4, HOURLY), simulate_bars(3, 5, len(COINS), HOURLY)
    columns = [many.symbols.index(symbol) for symbol in few.symbols]
    assert np.array_equal(many.values[:, columns], few.values)


def test_days_fall_on_the_same_dates_by_default_and_end_where_asked() -> None:
    fixed = simulate_bars(1, 2, 1, HOURLY)
    assert fixed.opens[0] == DEFAULT_START == parse_time("2025-01-01T00:00:00Z")
    end = parse_time("2024-03-05T06:00:00Z")
    moved = simulate_bars(1, 2, 1, HOURLY, end=end)
    assert moved.closes[-1] == end
    assert moved.opens[0] == end - 2 * DAY


@pytest.mark.parametrize("name", ["1m", "5m", "30m", "1h"])
def test_grid_is_even_and_complete(name: str) -> None:
    interval = Interval.parse(name)
    panel = simulate_bars(1, 2, 3, interval)
    assert len(panel) == 48 * interval.per_hour
    assert set(np.diff(panel.opens)) == {interval.nanoseconds}
    assert panel.symbols == tuple(sorted(panel.symbols))
    assert panel.values.shape == (len(panel), 3, 5)
    assert panel.values.flags.c_contiguous


def test_every_bar_can_exist_and_opens_at_the_last_close(panel: BarPanel) -> None:
    assert is_possible(panel.values.reshape(-1, 5)).all()
    assert (panel.values[:, :, VOLUME] > 0.0).all()
    assert np.array_equal(panel.values[1:, :, OPEN], panel.values[:-1, :, CLOSE])


def test_volatility_is_the_declared_one(panel: BarPanel, returns: npt.NDArray[np.float64]) -> None:
    declared = {coin.symbol: coin.volatility for coin in COINS}
    annual = returns.std(axis=0) * np.sqrt(24 * 365)
    expected = np.array([declared[symbol] for symbol in panel.symbols])
    # Volatility has a half-life of weeks: two years of it average to no better than this.
    assert (np.abs(annual / expected - 1.0) < 0.3).all()


def test_average_variance_is_the_declared_one_over_many_years() -> None:
    bars = simulate_bars(3, 3_650, 3, HOURLY)
    declared = np.array(
        [next(c.volatility for c in COINS if c.symbol == symbol) for symbol in bars.symbols]
    )
    returns = np.diff(np.log(bars.values[:, :, CLOSE]), axis=0)
    annual = returns.std(axis=0) * np.sqrt(24 * 365)
    assert (np.abs(annual / declared - 1.0) < 0.12).all()


@pytest.mark.parametrize("name", ["5m", "1h"])
def test_ranges_agree_with_the_volatility_of_closes(name: str) -> None:
    parameters = changed("jumps", common_per_year=0.0, own_per_year=0.0)
    interval = Interval.parse(name)
    bars = simulate_bars(2, 720 // interval.per_hour, 4, interval, parameters=parameters)
    logs = np.log(bars.values)
    variance = np.diff(logs[:, :, CLOSE], axis=0).var(axis=0)
    parkinson = ((logs[:, :, HIGH] - logs[:, :, LOW]) ** 2).mean(axis=0) / (4.0 * np.log(2.0))
    assert (np.abs(np.sqrt(parkinson / variance) - 1.0) < 0.025).all()
    above = (logs[:, :, HIGH] - logs[:, :, OPEN]).mean(axis=0)
    below = (logs[:, :, OPEN] - logs[:, :, LOW]).mean(axis=0)
    assert (np.abs(above / below - 1.0) < 0.05).all()


def test_tails_are_fat_and_volatility_clusters(returns: npt.NDArray[np.float64]) -> None:
    for series in returns.T:
        kurtosis = np.mean((series - series.mean()) ** 4) / series.var() ** 2
        assert kurtosis > 4.0
        assert autocorrelation(np.abs(series), 1) > 0.05
        assert autocorrelation(np.abs(series), 24) > 0.05


def test_direction_is_not_predictable(returns: npt.NDArray[np.float64]) -> None:
    assert all(abs(autocorrelation(series, 1)) < 0.05 for series in returns.T)


def test_coins_move_together(returns: npt.NDArray[np.float64]) -> None:
    matrix = np.asarray(np.corrcoef(returns.T))
    correlation = matrix[np.triu_indices(returns.shape[1], 1)]
    assert 0.5 < correlation.mean() < 0.75
    assert (correlation > 0.35).all()
    assert (correlation < 0.9).all()


def test_falls_raise_later_volatility_where_leverage_is_strong() -> None:
    bars = simulate_bars(1, 720, 8, HOURLY, parameters=changed("volatility", leverage=-0.6))
    market = np.diff(np.log(bars.values[:, :, CLOSE]), axis=0).mean(axis=1)
    after = np.convolve(np.abs(market), np.ones(24) / 24, mode="valid")[1:]
    assert np.corrcoef(market[: len(after)], after)[0, 1] < -0.01


def test_volatility_and_volume_have_an_hour_of_day(
    panel: BarPanel, returns: npt.NDArray[np.float64]
) -> None:
    hour = panel.opens // HOURLY.nanoseconds % 24
    variance = np.array([(returns[hour[1:] == h] ** 2).mean() for h in range(24)])
    near_peak, near_trough = variance[[13, 14, 15, 16, 17]], variance[[3, 4, 5, 6, 7]]
    assert near_peak.mean() > 1.3 * near_trough.mean()
    volume = panel.values[:, :, VOLUME]
    assert volume[hour == 14].mean() > volume[hour == 4].mean()


def test_volume_rises_with_volatility(panel: BarPanel, returns: npt.NDArray[np.float64]) -> None:
    turnover = np.log(panel.values[1:, :, VOLUME] * panel.values[1:, :, CLOSE])
    for coin in range(returns.shape[1]):
        assert np.corrcoef(turnover[:, coin], np.abs(returns[:, coin]))[0, 1] > 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 1, 1), "simulate.seed is -1"),
        ((1, 0, 1), "simulate.days is 0"),
        ((1, 10_000, 1), "simulate.days is 10000"),
        ((1, 1, 0), "simulate.symbols is 0"),
        ((1, 1, 99), f"simulate.symbols is 99; expected 1 to {len(COINS)}"),
    ],
)
def test_impossible_values_are_refused_by_key(
    arguments: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate_bars(*arguments, interval=HOURLY)


def test_end_off_the_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot end at"):
        simulate_bars(1, 1, 1, HOURLY, end=DEFAULT_START + 1)
