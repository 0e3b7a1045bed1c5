from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from market.bars.panel import BASIS, CLOSE, FUNDING, IMPLIED_VOLATILITY, OPEN_INTEREST
from market.core.clock import HOUR, Interval
from market.core.errors import ConfigError
from market.simulator.market_parameters import MarketParameters
from market.simulator.simulated_market import SimulatedMarket, simulate_bars, simulate_market

HOURLY = Interval.parse("1h")
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    return simulate_market(seed=1, days=1_095, symbols=8, interval=HOURLY)


def context(market: SimulatedMarket) -> Floats:
    assert market.panel.exogenous is not None
    return market.panel.exogenous


def with_tables(**tables: dict[str, object]) -> MarketParameters:
    whole = MarketParameters.load()
    return msgspec.structs.replace(
        whole,
        **{k: msgspec.structs.replace(getattr(whole, k), **v) for k, v in tables.items()},
    )


def memory(series: Floats, lag: int) -> float:
    return float(np.corrcoef(series[lag:], series[:-lag])[0, 1])


def test_bars_are_the_same_with_and_without_quotes(market: SimulatedMarket) -> None:
    bars = simulate_bars(1, 1_095, 8, HOURLY)
    assert np.array_equal(bars.values, market.panel.values)
    assert bars.exogenous is None


def test_more_days_and_more_coins_keep_every_earlier_number(market: SimulatedMarket) -> None:
    few = simulate_market(1, 90, 3, HOURLY)  # beyond one chunk of bars
    columns = [market.panel.symbols.index(symbol) for symbol in few.panel.symbols]
    rows = len(few.panel)
    for name in ("half_spread", "depth", "volatility"):
        assert np.array_equal(getattr(market, name)[:rows, columns], getattr(few, name))
    assert np.array_equal(context(market)[:rows][:, columns], context(few), equal_nan=True)
    assert np.array_equal(market.stress[:rows], few.stress)


def test_only_funding_between_settlements_and_missing_indices_are_nan(
    market: SimulatedMarket,
) -> None:
    values = context(market)
    settles = market.panel.closes // HOUR % 8 == 0
    assert np.isfinite(values[settles, :, FUNDING]).all()
    assert np.isnan(values[~settles, :, FUNDING]).all()
    indexed = [s in ("BTCUSDT", "ETHUSDT") for s in market.panel.symbols]
    assert np.array_equal(np.isfinite(values[:, :, IMPLIED_VOLATILITY]).all(axis=0), indexed)
    assert np.isfinite(values[:, :, [OPEN_INTEREST, BASIS]]).all()
    assert (values[:, :, OPEN_INTEREST] > 0.0).all()
    assert (market.half_spread > 0.0).all()
    assert (market.depth > 0.0).all()


def test_funding_is_the_exchange_formula_of_the_mean_basis() -> None:
    market = simulate_market(1, 70, 6, HOURLY, parameters=with_tables(funding={"noise": 0.0}))
    values = context(market)
    terms = market.parameters.funding
    rows = np.flatnonzero(market.panel.closes // HOUR % 8 == 0)[1:]
    for row in rows[:200]:
        mean = values[row - 7 : row + 1, :, BASIS].mean(axis=0)
        rate = mean + np.clip(terms.interest - mean, -terms.clamp, terms.clamp)
        np.testing.assert_allclose(
            values[row, :, FUNDING] * 8, np.clip(rate, -terms.cap, terms.cap), atol=1e-15
        )


def test_noise_of_the_premium_moves_rates_off_the_formula_by_its_size() -> None:
    quiet, noisy = (
        context(
            simulate_market(
                1,
                1_500,
                3,
                HOURLY,
                # No clamp: the rate is the premium itself.
                parameters=with_tables(funding={"noise": n, "clamp": 0.0, "cap": 0.1}),
            )
        )[:, :, FUNDING]
        for n in (0.0, 0.5)
    )
    off = 8.0 * (noisy - quiet)
    spreads = {coin.symbol: coin.basis_spread for coin in MarketParameters.load().coins}
    for i, symbol in enumerate(("BTCUSDT", "ETHUSDT", "SOLUSDT")):
        assert np.nanstd(off[:, i]) == pytest.approx(0.5 * spreads[symbol], rel=0.05)


def test_funding_never_passes_its_cap() -> None:
    parameters = with_tables(funding={"cap": 0.0001})
    values = context(simulate_market(1, 60, 4, HOURLY, parameters=parameters))
    rates = values[:, :, FUNDING] * 8
    assert np.nanmax(np.abs(rates)) == pytest.approx(0.0001)


def test_stress_takes_its_share_of_the_time_and_raises_volatility_and_correlation(
    market: SimulatedMarket,
) -> None:
    assert 0.05 < market.stress.mean() < 0.17
    spells = np.flatnonzero(np.diff(market.stress.astype(int)) == 1)
    assert 24 < market.stress.sum() / len(spells) < 90
    returns = np.diff(np.log(market.panel.values[:, :, CLOSE]), axis=0)
    stress = market.stress[:-1]  # known at the close before
    assert returns[stress].std() > 1.2 * returns[~stress].std()
    upper = np.triu_indices(returns.shape[1], 1)
    calm_share = np.corrcoef(returns[~stress].T)[upper].mean()
    assert np.corrcoef(returns[stress].T)[upper].mean() > calm_share + 0.05


def test_no_stress_where_none_is_asked_for() -> None:
    market = simulate_market(
        1, 60, 2, HOURLY, parameters=with_tables(regimes={"stress_share": 0.0})
    )
    assert not market.stress.any()


def test_spread_widens_and_depth_thins_by_their_powers_of_volatility(
    market: SimulatedMarket,
) -> None:
    liquidity = market.parameters.liquidity
    for i in range(len(market.panel.symbols)):
        level = np.log(market.volatility[:, i])
        widening = np.polyfit(level, np.log(market.half_spread[:, i]), 1)[0]
        thinning = np.polyfit(level, np.log(market.depth[:, i]), 1)[0]
        assert widening == pytest.approx(liquidity.spread_elasticity, abs=0.02)
        assert thinning == pytest.approx(-liquidity.depth_elasticity, abs=0.02)


def test_basis_has_its_declared_mean_spread_and_follows_momentum(market: SimulatedMarket) -> None:
    coins = {coin.symbol: coin for coin in market.parameters.coins}
    decay = 0.5 ** (1.0 / market.parameters.basis.momentum_half_life_hours)
    follows = []
    for i, symbol in enumerate(market.panel.symbols):
        basis, coin = context(market)[:, i, BASIS], coins[symbol]
        assert basis.mean() == pytest.approx(coin.basis_mean, abs=0.25 * coin.basis_spread)
        assert basis.std() == pytest.approx(coin.basis_spread, rel=0.2)
        returns = np.r_[0.0, np.diff(np.log(market.panel.values[:, i, CLOSE]))]
        weights = decay ** np.arange(1_000)
        momentum = np.convolve(returns, weights)[: len(returns)]
        follows.append(np.corrcoef(basis, momentum)[0, 1])
    assert np.mean(follows) == pytest.approx(market.parameters.basis.momentum, abs=0.08)


def test_index_forecasts_the_variance_of_the_next_month() -> None:
    """Without premium and noise the squared index is the mean of what is realised after it.

    Over 30 years the mean ratio of realised to squared index lies within 10% of 1 whether the
    index is high or low: a wrong quadrature, regime or decay shows as a slope.
    """
    parameters = with_tables(
        implied_volatility={"premium": 0.0, "noise": 0.0},
        jumps={"common_per_year": 0.0, "own_per_year": 0.0},
        volatility={"sub_steps": 1},
    )
    ahead, index = [], []
    for seed in range(4):
        market = simulate_market(seed, 2_700, 2, HOURLY, parameters=parameters)
        squared = market.volatility**2
        total = np.cumsum(np.vstack([np.zeros((1, 2)), squared]), axis=0)
        ahead.append((total[721:] - total[1:-720]) / 720)
        index.append(context(market)[:-720, :, IMPLIED_VOLATILITY] ** 2)
    realised, forecast = np.concatenate(ahead), np.concatenate(index)
    middle = np.median(forecast, axis=0)
    for own in (forecast > middle, forecast <= middle):
        assert realised[own].mean() / forecast[own].mean() == pytest.approx(1.0, abs=0.10)


def test_index_stands_above_realised_volatility_by_its_premium(market: SimulatedMarket) -> None:
    values = context(market)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        i = market.panel.symbols.index(symbol)
        returns = np.diff(np.log(market.panel.values[:, i, CLOSE]))
        realised = np.sqrt((returns**2).mean() * 24 * 365)
        index = np.sqrt((values[:, i, IMPLIED_VOLATILITY] ** 2).mean())
        premium = market.parameters.implied_volatility.premium
        assert index / realised - 1.0 == pytest.approx(premium, abs=0.1)


def test_open_interest_follows_returns_and_keeps_its_level(market: SimulatedMarket) -> None:
    coins = {coin.symbol: coin for coin in market.parameters.coins}
    table = market.parameters.open_interest
    trends = []
    for i, symbol in enumerate(market.panel.symbols):
        log = np.log(context(market)[:, i, OPEN_INTEREST])
        coin = coins[symbol]
        usual = np.log(coin.open_interest_days * coin.turnover / coin.price)
        assert abs(log.mean() - usual) < table.spread
        returns = np.diff(np.log(market.panel.values[:, i, CLOSE]))
        trends.append(np.corrcoef(np.diff(log), returns)[0, 1])
    assert 0.6 * table.trend < np.mean(trends) < 1.1 * table.trend


@pytest.mark.parametrize("name", ["1m", "5m", "30m"])
def test_finer_bars_settle_at_the_same_hours(name: str) -> None:
    interval = Interval.parse(name)
    market = simulate_market(1, 2, 2, interval)
    known = market.panel.closes[np.isfinite(context(market)[:, 0, FUNDING])]
    assert len(known) == 6
    assert (known % (8 * HOUR) == 0).all()


def test_basis_reverts(market: SimulatedMarket) -> None:
    basis = context(market)[:, 0, BASIS]
    assert memory(basis, 1) > memory(basis, 24) > memory(basis, 336)


def test_a_halted_coin_shows_nothing_later_and_everything_before(market: SimulatedMarket) -> None:
    close = int(market.panel.closes[-7])
    halted = market.halted({"AVAXUSDT": close})
    column = market.panel.symbols.index("AVAXUSDT")
    later = np.zeros(market.panel.values.shape[:2], dtype=bool)
    later[-6:, column] = True
    assert np.isnan(halted.panel.values[later]).all()
    assert np.array_equal(halted.panel.values[~later], market.panel.values[~later])
    assert np.isnan(context(halted)[later]).all()
    assert np.array_equal(context(halted)[~later], context(market)[~later], equal_nan=True)
    for name in ("half_spread", "depth"):
        assert np.array_equal(np.isnan(getattr(halted, name)), later)
    assert np.isfinite(market.panel.values).all(), "the market itself is unchanged"


def test_a_halt_of_an_unknown_coin_is_refused(market: SimulatedMarket) -> None:
    with pytest.raises(ConfigError, match="halts names XUSDT"):
        market.halted({"XUSDT": 0})
