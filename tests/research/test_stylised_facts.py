from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from statsmodels.tsa.stattools import acf

from market.bars.history import load_history
from market.bars.panel import CLOSE, HIGH, LOW, OPEN, VOLUME, BarPanel
from market.core.clock import HOUR, Interval, parse_time
from market.core.errors import DataError
from market.simulator.market_parameters import MarketParameters
from market.simulator.simulated_market import simulate_bars
from market.sources.parquet import BarFolder
from research.simulator_fit.stylised_facts import FACTS, TOLERANCE, hill, measure_facts
from research.simulator_fit.venue_statistics import measure_index, memory

HOURLY = Interval.parse("1h")
START = parse_time("2024-01-01T00:00:00Z")
Floats = npt.NDArray[np.float64]


def panel_of(fine: Floats, spread: float = 0.0, volume: Floats | None = None) -> BarPanel:
    """Hourly bars of log-price steps (T, k, S); quotes bounce by half of `spread` around them."""
    rows, steps, coins = fine.shape
    path = np.cumsum(fine.reshape(-1, coins), axis=0)
    side = np.random.default_rng(1).choice([-1.0, 1.0], path.shape)
    path = (path + 0.5 * spread * side).reshape(rows, steps, coins)
    values = np.empty((rows, coins, 5))
    values[:, :, OPEN], values[:, :, CLOSE] = path[:, 0], path[:, -1]
    values[:, :, HIGH], values[:, :, LOW] = path.max(axis=1), path.min(axis=1)
    values[:, :, :4] = np.exp(values[:, :, :4])
    values[:, :, VOLUME] = 1.0 if volume is None else volume
    opens = START + np.arange(rows, dtype=np.int64) * HOUR
    return BarPanel(HOURLY, tuple(f"C{i}USDT" for i in range(coins)), opens, values)


def steps(rows: int = 4_800, coins: int = 3, size: float = 0.002, share: float = 0.0) -> Floats:
    """Normal steps, 30 an hour, of coins that correlate by `share`."""
    rng = np.random.default_rng(2)
    own, common = rng.normal(size=(rows, 30, coins)), rng.normal(size=(rows, 30, 1))
    moved: Floats = size * (np.sqrt(share) * common + np.sqrt(1.0 - share) * own)
    return moved


@pytest.mark.parametrize("index", [2.0, 3.0, 4.5])
def test_hill_finds_the_index_of_a_pareto_tail(index: float) -> None:
    draws = stats.pareto.rvs(index, size=400_000, random_state=3)
    assert hill(np.r_[draws, -draws]) == pytest.approx(index, rel=0.05)


def test_memory_agrees_with_statsmodels() -> None:
    noise = np.random.default_rng(4).normal(size=20_000)
    series = stats.zscore(np.convolve(noise, 0.9 ** np.arange(80), mode="valid"))
    theirs = acf(series, nlags=24, fft=True)
    for lag in (1, 8, 24):
        assert memory(series, lag) == pytest.approx(theirs[lag], abs=0.002)


def test_a_random_walk_has_none_of_the_facts() -> None:
    facts = measure_facts(panel_of(steps(share=0.5), volume=np.ones((4_800, 3))))
    for name in ("clustering_1h", "clustering_24h", "range_memory_24h", "leverage_effect"):
        assert abs(facts[name]) < 0.04
    assert abs(facts.jump_share) < 0.02
    assert facts.tail_index > 5.0
    # Days are chosen by how much coins move, so those chosen as calm lack common moves even here.
    assert facts.correlation_calm == pytest.approx(0.5, abs=0.08)
    assert 0.5 < facts.correlation_stress < 0.65
    assert facts.season_swing < 1.3
    assert facts.volatility == pytest.approx(0.002 * np.sqrt(30 * 24 * 365), rel=0.02)


def test_jumps_thicken_tails_and_show_as_jump_share() -> None:
    jumpy = steps()
    rng = np.random.default_rng(5)
    where = rng.random(jumpy.shape) < 0.0003
    jumpy[where] += rng.normal(0.0, 0.06, int(where.sum()))
    plain, jumped = measure_facts(panel_of(steps())), measure_facts(panel_of(jumpy))
    assert jumped.tail_index < plain.tail_index - 1.5
    assert jumped.jump_share > plain.jump_share + 0.03


def test_clusters_and_hours_are_seen() -> None:
    rows = 4_800
    noise = np.random.default_rng(6).normal(size=(rows + 400, 3))
    slow = np.stack([np.convolve(c, 0.97 ** np.arange(401), "valid") for c in noise.T], axis=1)
    season = 0.3 * np.cos(2 * np.pi * np.arange(rows) / 24)
    level = np.exp(0.15 * slow + season[:, None])
    facts = measure_facts(panel_of(steps(rows) * level[:, None, :]))
    assert facts.clustering_1h > 0.3
    assert facts.clustering_1h > facts.clustering_24h + 0.03
    assert facts.daily_memory_1d > 0.4
    assert facts.season_swing == pytest.approx(np.exp(0.6), rel=0.25)


def test_falls_that_raise_volatility_show_as_leverage() -> None:
    fine = steps()
    for t in range(1, len(fine)):
        # Volatility of the day after a fall is higher than after a rise.
        past = fine[max(0, t - 24) : t].sum(axis=(0, 1))
        fine[t] *= np.exp(-6.0 * np.clip(past, -0.1, 0.1))
    assert measure_facts(panel_of(fine)).leverage_effect < -0.1


def test_corwin_schultz_sees_a_bounce_that_is_there() -> None:
    """Where quotes bounce by 1% around a nearly still price the estimator finds about 1%."""
    quiet = steps(size=0.0002)
    narrow, wide = (measure_facts(panel_of(quiet, spread=s)).spread for s in (0.001, 0.01))
    assert wide == pytest.approx(0.01, rel=0.1)
    assert narrow < 0.25 * wide


def test_volume_slope_and_noise_are_recovered() -> None:
    rng = np.random.default_rng(7)
    level = np.exp(rng.normal(0.0, 0.5, (4_800, 3)))
    fine = steps() * level[:, None, :]
    bars = panel_of(fine)
    ranges = np.log(bars.values[:, :, HIGH] / bars.values[:, :, LOW])
    noise = rng.normal(0.0, 0.3, ranges.shape)
    volume = ranges**1.4 * np.exp(noise) / bars.values[:, :, CLOSE]
    facts = measure_facts(panel_of(fine, volume=volume))
    assert facts.volume_elasticity == pytest.approx(1.4, abs=0.03)
    assert facts.volume_noise == pytest.approx(0.3, abs=0.02)
    assert abs(facts.volume_memory_1h) < 0.05


def test_order_of_coins_and_unit_of_prices_do_not_matter() -> None:
    bars = simulate_bars(3, 90, 4, HOURLY)
    scaled = bars.values[:, ::-1] * np.array([8.0, 8.0, 8.0, 8.0, 0.125])
    other = BarPanel(HOURLY, bars.symbols[::-1], bars.opens, scaled)
    first, second = measure_facts(bars), measure_facts(other)
    for name in FACTS:
        assert first[name] == pytest.approx(second[name], rel=1e-9)


def test_missing_bars_are_left_out_and_do_not_spread() -> None:
    bars = simulate_bars(3, 400, 3, HOURLY)
    whole = measure_facts(bars)
    bars.values[:600, 1] = np.nan
    holed = measure_facts(bars)
    for name in FACTS:
        assert np.isfinite(holed[name])
        assert holed[name] == pytest.approx(whole[name], abs=2.0 * TOLERANCE[name])


@pytest.mark.parametrize(
    ("days", "symbols", "interval"), [(59, 3, "1h"), (90, 1, "1h"), (90, 3, "30m")]
)
def test_too_little_to_measure_is_refused(days: int, symbols: int, interval: str) -> None:
    panel = simulate_bars(1, days, symbols, Interval.parse(interval))
    with pytest.raises(DataError, match="stylised facts need hourly bars of 2 or more coins"):
        measure_facts(panel)


def test_index_of_twice_the_volatility_has_a_premium_of_one() -> None:
    returns = np.random.default_rng(8).normal(0.0, 0.01, 20_000)
    facts = measure_index(
        np.full(20_000, 2.0 * 0.01 * np.sqrt(24 * 365))
        * np.exp(0.01 * np.sin(np.arange(20_000) / 500)),
        np.exp(np.cumsum(returns)),
    )
    assert facts.premium == pytest.approx(1.0, abs=0.03)
    assert facts.memory_1d > 0.95


@pytest.mark.realdata
@pytest.mark.slow
def test_simulated_facts_lie_near_the_real_ones(data_dir: Path) -> None:
    """Every fact of three simulated histories, averaged, against 17 coins of 2022-06 to 2025-08.

    `TOLERANCE` states how near. It fails where the model loses a fact (no regimes: correlation in
    stress falls by 0.04 to 0.06; one time scale: memory over a week or of a bar; no noise or
    jumps: tails), where a stored figure is changed by hand, or where a kernel no longer does what
    the parameters were fitted for.
    """
    folders = [
        BarFolder(data_dir / "ohlcv_1h_binance_spot", "spot"),
        BarFolder(data_dir / "ohlcv_1h_binance_perp", "perp"),
    ]
    bars = load_history(folders, HOURLY).bars
    parameters = MarketParameters.load()
    coins = tuple(coin for coin in parameters.coins if "bars" in coin.fitted)
    first = int(np.searchsorted(bars.closes, parse_time("2022-06-08T00:00:00Z")))
    columns = [bars.symbols.index(coin.symbol) for coin in coins]
    real = measure_facts(
        BarPanel(
            HOURLY,
            tuple(bars.symbols[i] for i in columns),
            bars.opens[first:],
            np.ascontiguousarray(bars.values[first:, columns]),
        )
    )
    fitted = msgspec.structs.replace(parameters, coins=coins)
    days = len(bars.opens[first:]) // 24
    simulated = [
        measure_facts(simulate_bars(seed, days, len(coins), HOURLY, parameters=fitted))
        for seed in (1, 2, 3)
    ]
    far = {
        name: (real[name], mean)
        for name in FACTS
        if abs((mean := np.mean([facts[name] for facts in simulated])) - real[name])
        > TOLERANCE[name]
    }
    assert not far
