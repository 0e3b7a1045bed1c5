from __future__ import annotations

import msgspec
import numpy as np
import pytest

from market.bars.panel import BarPanel
from market.core.clock import Interval
from market.core.errors import DataError
from market.simulator.market_parameters import MarketParameters
from market.simulator.simulated_market import simulate_bars
from research.simulator_fit.market_fit import FIT_SEEDS, fit_bars, usable_coins
from research.simulator_fit.stylised_facts import FACTS, TOLERANCE, StylisedFacts, measure_facts

HOURLY = Interval.parse("1h")
ASSUMED = MarketParameters.load("assumed")
DAYS = 240


@pytest.fixture(scope="module")
def truth() -> MarketParameters:
    """A market unlike the assumed one: livelier, with milder jumps and coins closer together."""
    volatility = msgspec.structs.replace(
        ASSUMED.volatility, fast_spread=0.45, season=tuple(1.0 + 0.4 * (h == 14) for h in range(24))
    )
    coins = tuple(
        msgspec.structs.replace(coin, market_share=0.85, volatility=0.4 + 0.2 * i)
        for i, coin in enumerate(ASSUMED.coins[:4])
    )
    return msgspec.structs.replace(
        ASSUMED,
        volatility=volatility,
        jumps=msgspec.structs.replace(ASSUMED.jumps, size=0.3),
        volume=msgspec.structs.replace(ASSUMED.volume, elasticity=0.8),
        coins=coins,
    )


@pytest.fixture(scope="module")
def bars(truth: MarketParameters) -> BarPanel:
    return simulate_bars(5, DAYS, 4, HOURLY, parameters=truth)


@pytest.fixture(scope="module")
def fitted(bars: BarPanel) -> MarketParameters:
    return fit_bars(bars, ASSUMED, steps=5)


def distance(parameters: MarketParameters, real: StylisedFacts, symbols: tuple[str, ...]) -> float:
    coins = tuple(coin for coin in parameters.coins if coin.symbol in symbols)
    own = msgspec.structs.replace(parameters, coins=coins)
    facts = [
        measure_facts(simulate_bars(seed, DAYS, len(coins), HOURLY, parameters=own))
        for seed in FIT_SEEDS
    ]
    means = {name: np.mean([f[name] for f in facts]) for name in FACTS}
    return float(
        sum(((means[n] - real[n]) / TOLERANCE[n]) ** 2 for n in FACTS if n != "volatility")
    )


def test_search_brings_the_facts_nearer(bars: BarPanel, fitted: MarketParameters) -> None:
    real = measure_facts(bars)
    assert distance(fitted, real, bars.symbols) < 0.5 * distance(ASSUMED, real, bars.symbols)


def test_direct_figures_are_those_of_the_bars(
    bars: BarPanel, fitted: MarketParameters, truth: MarketParameters
) -> None:
    coins = {coin.symbol: coin for coin in fitted.coins}
    for coin in truth.coins:
        own = coins[coin.symbol]
        assert own.volatility == pytest.approx(coin.volatility, rel=0.35)
        assert own.turnover == pytest.approx(coin.turnover, rel=0.6)
        assert own.market_share > 0.75
        column = bars.symbols.index(coin.symbol)
        assert own.price == bars.values[-1, column, 3]
        assert own.fitted == ("bars",)
    season = np.array(fitted.volatility.season)
    assert np.argmax(season) == 14
    assert season[14] / np.median(season) == pytest.approx(1.4, abs=0.12)


def test_volume_elasticity_is_recovered(fitted: MarketParameters, truth: MarketParameters) -> None:
    assert fitted.volume.elasticity == pytest.approx(truth.volume.elasticity, abs=0.2)


def test_figures_beyond_the_bars_and_the_order_of_coins_stay(fitted: MarketParameters) -> None:
    assert fitted.basis == ASSUMED.basis
    assert fitted.liquidity == ASSUMED.liquidity
    assert fitted.implied_volatility == ASSUMED.implied_volatility
    assert fitted.volatility.sub_steps == ASSUMED.volatility.sub_steps
    assert [c.symbol for c in fitted.coins] == [c.symbol for c in ASSUMED.coins]
    assert fitted.coins[10] == ASSUMED.coins[10]


def test_coins_with_too_few_bars_are_left_out_and_one_coin_is_refused() -> None:
    bars = simulate_bars(1, 90, 3, HOURLY)
    bars.values[: len(bars) // 3, 1] = np.nan
    assert usable_coins(bars).symbols == (bars.symbols[0], bars.symbols[2])
    bars.values[: len(bars) // 3, 2] = np.nan
    with pytest.raises(DataError, match="1 of 3 coins have 80% of the bars"):
        usable_coins(bars)
