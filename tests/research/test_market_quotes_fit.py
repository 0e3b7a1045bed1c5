from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from market.bars.panel import BASIS, CLOSE, FUNDING, IMPLIED_VOLATILITY, OPEN_INTEREST
from market.core.clock import Interval
from market.core.errors import DataError
from market.simulator.market_parameters import MarketParameters
from market.simulator.simulated_market import SimulatedMarket, simulate_market
from research.simulator_fit.market_quotes_fit import (
    DailyInterest,
    Depths,
    PairBars,
    fit_basis,
    fit_index,
    fit_interest,
    fit_liquidity,
)

HOURLY = Interval.parse("1h")
ASSUMED = MarketParameters.load("assumed")
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    """Nine years of six coins whose figures are far from the assumed ones."""
    whole = MarketParameters.load()
    coins = tuple(
        msgspec.structs.replace(coin, basis_mean=-6e-4 + 3e-5 * i, basis_spread=1e-4 + 2e-5 * i)
        for i, coin in enumerate(whole.coins[:6])
    )
    return simulate_market(
        11, 3_285, 6, HOURLY, parameters=msgspec.structs.replace(whole, coins=coins)
    )


def context(market: SimulatedMarket, symbol: str, field: int) -> Floats:
    assert market.panel.exogenous is not None
    return market.panel.exogenous[:, market.panel.symbols.index(symbol), field]


def closes(market: SimulatedMarket, symbol: str) -> Floats:
    return market.panel.values[:, market.panel.symbols.index(symbol), CLOSE]


def pair(market: SimulatedMarket, symbol: str) -> PairBars:
    spot = closes(market, symbol)
    return PairBars(spot, spot * np.exp(context(market, symbol, BASIS)))


def funding(market: SimulatedMarket, symbol: str) -> Floats:
    rates = context(market, symbol, FUNDING)
    return rates[np.isfinite(rates)] * 8.0


def test_basis_is_recovered_from_what_it_was_simulated_with(market: SimulatedMarket) -> None:
    symbols = market.panel.symbols
    found = fit_basis(ASSUMED, {s: pair(market, s) for s in symbols[:4]}, {})
    truth = market.parameters.basis
    assert found.basis.momentum == pytest.approx(truth.momentum, abs=0.05)
    assert found.basis.slow_share == pytest.approx(truth.slow_share, abs=0.1)
    assert found.basis.slow_half_life_hours == pytest.approx(truth.slow_half_life_hours, rel=0.3)
    assert found.basis.fast_half_life_hours == pytest.approx(truth.fast_half_life_hours, rel=0.4)
    assert found.basis.common_share == pytest.approx(truth.common_share, abs=0.15)
    coins = {coin.symbol: coin for coin in found.coins}
    for coin in market.parameters.coins:
        if coin.symbol in symbols[:4]:
            own = coins[coin.symbol]
            assert own.basis_mean == pytest.approx(coin.basis_mean, abs=0.1 * coin.basis_spread)
            assert own.basis_spread == pytest.approx(coin.basis_spread, rel=0.05)
            assert "basis" in own.fitted


def test_noise_of_the_premium_is_recovered_from_settled_rates(market: SimulatedMarket) -> None:
    symbols = market.panel.symbols[:4]
    # Bars open at 00:00 and so does the first rate; the market's first settles at 08:00.
    rates = {s: np.r_[0.0, funding(market, s)] for s in symbols}
    found = fit_basis(ASSUMED, {s: pair(market, s) for s in symbols}, rates)
    assert found.funding.noise == pytest.approx(market.parameters.funding.noise, rel=0.2)


def test_basis_of_a_coin_is_estimated_from_funding_alone(market: SimulatedMarket) -> None:
    symbols = market.panel.symbols
    only = symbols[5]
    found = fit_basis(
        ASSUMED, {s: pair(market, s) for s in symbols[:3]}, {only: funding(market, only)}
    )
    own = next(coin for coin in found.coins if coin.symbol == only)
    truth = next(coin for coin in market.parameters.coins if coin.symbol == only)
    assert own.basis_mean == pytest.approx(truth.basis_mean, abs=0.3 * truth.basis_spread)
    assert own.basis_spread == pytest.approx(truth.basis_spread, rel=0.25)
    assert "basis" in own.fitted


def test_coin_without_basis_takes_the_medians_and_is_not_marked_as_fitted(
    market: SimulatedMarket,
) -> None:
    found = fit_basis(ASSUMED, {s: pair(market, s) for s in market.panel.symbols[:3]}, {})
    known = [coin for coin in found.coins if "basis" in coin.fitted]
    other = found.coins[-1]
    assert len(known) == 3
    assert other.basis_mean == pytest.approx(np.median([coin.basis_mean for coin in known]))
    assert "basis" not in other.fitted


def test_premium_of_the_index_is_recovered(market: SimulatedMarket) -> None:
    found = fit_index(
        ASSUMED,
        {"BTCUSDT": context(market, "BTCUSDT", IMPLIED_VOLATILITY)},
        {"BTCUSDT": closes(market, "BTCUSDT")},
    )
    truth = market.parameters.implied_volatility
    assert found.implied_volatility.premium == pytest.approx(truth.premium, abs=0.06)
    # The assumed market's expectation varies about as much as the stored one's.
    assert found.implied_volatility.noise == pytest.approx(truth.noise, abs=0.06)
    assert found.implied_volatility.half_life_hours > 48.0


def depths(level: float, spread_slope: float, cost_slope: float, seed: int) -> Depths:
    rng = np.random.default_rng(seed)
    movement = np.exp(rng.normal(-5.0, 0.5, 60))
    noise = np.exp(rng.normal(0.0, 0.05, (2, 60)))
    scaled = movement / np.exp(-5.0)
    return Depths(
        half_spread=level * scaled**spread_slope * noise[0],
        cost=10.0 * level * scaled**cost_slope * noise[1],
        movement=movement,
    )


def test_liquidity_takes_levels_from_the_venue_and_the_steeper_elasticity() -> None:
    own = {"BTCUSDT": depths(1e-6, 0.8, 0.9, 1), "XRPUSDT": depths(4e-5, 0.8, 0.9, 2)}
    found = fit_liquidity(ASSUMED, own, {("binance", s): d for s, d in own.items()})
    assert found.liquidity.spread_elasticity == pytest.approx(0.8, abs=0.03)
    assert found.liquidity.depth_elasticity == pytest.approx(0.9, abs=0.03)
    assert found.liquidity.noise == pytest.approx(0.05, rel=0.3)
    coins = {coin.symbol: coin for coin in found.coins}
    assert coins["BTCUSDT"].half_spread == pytest.approx(1e-6, rel=0.15)
    assert coins["XRPUSDT"].depth == pytest.approx(1e6 * 1e-3 / 4e-4, rel=0.15)
    # BNB has a quarter of the turnover of XRP or so: wider by its root, thinner in proportion.
    size = coins["BNBUSDT"].turnover / coins["XRPUSDT"].turnover
    wider = coins["BNBUSDT"].half_spread / coins["XRPUSDT"].half_spread
    assert wider == pytest.approx(size**-0.5)
    assert coins["BNBUSDT"].depth / coins["XRPUSDT"].depth == pytest.approx(size)
    assert "liquidity" not in coins["BNBUSDT"].fitted


def test_flat_quotes_fall_back_on_the_elasticities_of_theory() -> None:
    own = {"BTCUSDT": depths(1e-6, 0.0, 0.0, 1)}
    found = fit_liquidity(ASSUMED, own, {("binance", "BTCUSDT"): own["BTCUSDT"]})
    elasticity = ASSUMED.volume.elasticity
    assert found.liquidity.spread_elasticity == pytest.approx((2.0 - elasticity) / 3.0, abs=0.03)
    assert found.liquidity.depth_elasticity == pytest.approx((4.0 - 2.0 * elasticity) / 3.0)


def test_open_interest_is_recovered(market: SimulatedMarket) -> None:
    own = {}
    for symbol in market.panel.symbols:
        volume = market.panel.values[:, market.panel.symbols.index(symbol), 4]
        own[symbol] = DailyInterest(
            context(market, symbol, OPEN_INTEREST)[23::24],
            volume.reshape(-1, 24).sum(axis=1),
            closes(market, symbol)[23::24],
        )
    found, truth = fit_interest(ASSUMED, own).open_interest, market.parameters.open_interest
    assert found.spread == pytest.approx(truth.spread, rel=0.25)
    assert found.half_life_hours == pytest.approx(truth.half_life_hours, rel=0.4)
    assert 0.5 * truth.trend < found.trend < 1.1 * truth.trend


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(DataError, match="at least one pair"):
        fit_basis(ASSUMED, {}, {})
    with pytest.raises(DataError, match="liquidity is given for"):
        fit_liquidity(ASSUMED, {}, {})
    with pytest.raises(DataError, match="no open interest"):
        fit_interest(ASSUMED, {})
