"""What else a simulated venue shows: spread, depth, basis, funding, implied volatility, interest.

Written after the bars of a chunk from their hidden state, with random streams of their own, so
bars are the same whether quotes are asked for or not::

    half_spread = base · (level / mean)^a · noise        depth = base · (level / mean)^-b / noise
    basis       = mean + sd · (β momentum + √(1 - β²) (√q slow + √(1 - q) fast))
    funding     = P + clamp(interest - P, ±clamp) within ±cap, P = mean basis of 8 h + noise
    index²      = s² ((1 - J) E[level² over 30 days] + J) · ((1 + premium) · noise)²

level is volatility over the coin's average and J the share of jumps in variance. Spreads widen and
depth thins as volatility rises; momentum pushes the basis and so the funding. The expected level
is exact: each Ornstein-Uhlenbeck part and the chain of regimes have a known mean at every lag,
averaged over 30 days by Gauss-Legendre quadrature.

References
----------
Binance, "Introduction to Binance Futures Funding Rates", for the formula of funding; Carr and Wu
(2009) for the variance risk premium; Kyle and Obizhaeva (2016) for liquidity against volatility.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from market.bars.panel import BASIS, CLOSE, FUNDING, IMPLIED_VOLATILITY, OPEN, OPEN_INTEREST
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import HOUR, Interval
from market.simulator.market_parameters import (
    HOURS_PER_YEAR,
    Coin,
    MarketParameters,
)
from market.simulator.prices import FAST, FIRST_OWN, SLOW, PriceChunk, mean_power
from market.simulator.streams import MARKET, Stream

SETTLEMENT_HOURS = 8
"""Hours between two settlements of funding, at 00:00, 08:00 and 16:00 UTC."""

INDEX_HOURS = 30.0 * 24.0
"""Span that the index of implied volatility looks ahead."""

_NODES = 24
# Quote normals of a coin, by column; the market's stream uses the first alone.
_BASIS_SLOW, _BASIS_FAST, _LIQUIDITY, _DEPTH, _INDEX, _INTEREST, _PREMIUM = range(7)
_COLUMNS = 7
# State of a coin, by row.
_MOMENTUM, _SLOW_BASIS, _FAST_BASIS, _SPREAD_NOISE, _DEPTH_NOISE, _INDEX_NOISE, _LEVEL = range(7)
_STATES = 7


class _Coefficients(NamedTuple):
    """Per bar: decays and loadings; per coin: (S,) levels. Rows of `decay` are the states."""

    decay: Floats
    return_scale: Floats
    basis_mean: Floats
    basis_spread: Floats
    momentum: float
    slow_share: float
    common_share: float
    interest: float
    clamp: float
    cap: float
    premium_noise: Floats
    half_spread: Floats
    depth: Floats
    spread_elasticity: float
    depth_elasticity: float
    noise: float
    open_interest: Floats
    interest_spread: float
    trend: float
    indexed: Bools
    index_scale: Floats
    index_noise: float
    jump_share: float
    spread: Floats
    node_decay: Floats
    node_weight: Floats
    stress_mean: Floats


class ShownQuotes(NamedTuple):
    """What a venue shows beside bars: `context` (T, S, 7) as in `market.bars.panel.BarPanel`,
    `half_spread` and `depth` (T, S)."""

    exogenous: Floats
    half_spread: Floats
    depth: Floats

    def rows(self, rows: slice) -> ShownQuotes:
        """Some rows; a view."""
        return ShownQuotes(self.exogenous[rows], self.half_spread[rows], self.depth[rows])


class Quotes:
    """Writes the quotes of one chunk after another; carries the state between them.

    Parameters
    ----------
    interval, coins, streams, parameters:
        As for `market.simulator.prices.fill_bars`.
    """

    def __init__(
        self,
        interval: Interval,
        coins: Sequence[Coin],
        streams: Sequence[Stream],
        parameters: MarketParameters,
    ) -> None:
        self._interval = interval
        self._streams = streams
        self._coefficients = _coefficients(interval, coins, parameters)
        first = np.stack([stream.quotes(1, _STATES)[0] for stream in streams])
        self._state = first[1:].T.copy()
        common = parameters.basis.common_share
        self._state[_SLOW_BASIS] *= np.sqrt(1.0 - common)
        self._state[_SLOW_BASIS] += np.sqrt(common) * first[MARKET, 0]
        self._state[_MOMENTUM] = 0.0
        self._paid = np.zeros((2, len(coins)))  # sum of basis and bars since the last settlement

    def fill(self, chunk: PriceChunk, opens: Ints, values: Floats, shown: ShownQuotes) -> None:
        """Fill the chunk's rows of `shown`, from the bars `values` (T, S, 5)."""
        rows = chunk.bars
        bars = rows.stop - rows.start
        closes = opens[rows] + self._interval.nanoseconds
        _advance(
            np.stack([stream.quotes(bars, _COLUMNS) for stream in self._streams]),
            closes % (SETTLEMENT_HOURS * HOUR) == 0,
            chunk,
            values[rows],
            self._coefficients,
            self._state,
            self._paid,
            shown.rows(rows),
        )


def _coefficients(
    interval: Interval, coins: Sequence[Coin], parameters: MarketParameters
) -> _Coefficients:
    bar_hours = interval.nanoseconds / HOUR
    v, regimes, basis = parameters.volatility, parameters.regimes, parameters.basis
    liquidity, index = parameters.liquidity, parameters.implied_volatility
    interest = parameters.open_interest
    states = np.empty(_STATES)
    states[_MOMENTUM] = basis.momentum_half_life_hours
    states[_SLOW_BASIS] = basis.slow_half_life_hours
    states[_FAST_BASIS] = basis.fast_half_life_hours
    states[_SPREAD_NOISE] = states[_DEPTH_NOISE] = liquidity.half_life_hours
    states[_INDEX_NOISE] = index.half_life_hours
    states[_LEVEL] = interest.half_life_hours

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    lag = 0.5 * INDEX_HOURS * (nodes + 1.0)
    half_lives = (v.slow_half_life_hours, v.fast_half_life_hours, v.own_half_life_hours)
    calm, stress = parameters.regime_levels
    # The chain forgets at the sum of both rates of leaving.
    memory = np.exp(-lag / (regimes.stress_hours * (1.0 - regimes.stress_share)))
    share = regimes.stress_share
    now = np.array([[0.0], [1.0]])
    chance = share + (now - share) * memory
    volatility = np.array([coin.volatility for coin in coins])
    return _Coefficients(
        decay=0.5 ** (bar_hours / states),
        return_scale=1.0 / (volatility * np.sqrt(bar_hours / HOURS_PER_YEAR)),
        basis_mean=np.array([coin.basis_mean for coin in coins]),
        basis_spread=np.array([coin.basis_spread for coin in coins]),
        momentum=basis.momentum,
        slow_share=basis.slow_share,
        common_share=basis.common_share,
        interest=parameters.funding.interest,
        clamp=parameters.funding.clamp,
        cap=parameters.funding.cap,
        premium_noise=parameters.funding.noise * np.array([coin.basis_spread for coin in coins]),
        half_spread=np.array([coin.half_spread for coin in coins])
        / mean_power(parameters, liquidity.spread_elasticity),
        depth=np.array([coin.depth for coin in coins])
        / mean_power(parameters, -liquidity.depth_elasticity),
        spread_elasticity=liquidity.spread_elasticity,
        depth_elasticity=liquidity.depth_elasticity,
        noise=liquidity.noise,
        open_interest=np.array(
            [coin.open_interest_days * coin.turnover / coin.price for coin in coins]
        ),
        interest_spread=interest.spread,
        trend=interest.trend,
        indexed=np.array([coin.symbol in index.symbols for coin in coins]),
        index_scale=volatility * (1.0 + index.premium),
        index_noise=index.noise,
        jump_share=parameters.jump_share,
        spread=np.array([v.slow_spread, v.fast_spread, v.own_spread]),
        node_decay=np.stack([0.5 ** (lag / half_life) for half_life in half_lives]),
        node_weight=0.5 * weights,
        stress_mean=(1.0 - chance) * calm**2 + chance * stress**2,
    )


@njit(cache=True, error_model="numpy")
def _advance(
    normals: Floats,
    settles: Bools,
    hidden: PriceChunk,
    values: Floats,
    coefficients: _Coefficients,
    state: Floats,
    paid: Floats,
    shown: ShownQuotes,
) -> None:
    """Fill one chunk; `state` (states, S) and `paid` (2, S) are carried on in place."""
    c = coefficients
    _, level, log_volatility, stress = hidden
    context, half_spread, depth = shown
    bars, coins = level.shape
    fresh = np.sqrt(1.0 - c.decay * c.decay)
    follow, rest = c.momentum, np.sqrt(1.0 - c.momentum * c.momentum)
    slow, fast = np.sqrt(c.slow_share), np.sqrt(1.0 - c.slow_share)
    together, apart = np.sqrt(c.common_share), np.sqrt(1.0 - c.common_share)
    for t in range(bars):
        for i in range(coins):
            draw = normals[1 + i, t]
            move = np.log(values[t, i, CLOSE] / values[t, i, OPEN]) * c.return_scale[i]
            # Interest answers to a move of ordinary size, not to the size of a crash.
            trend = c.trend * min(max(move / level[t, i], -3.0), 3.0)
            trend += np.sqrt(1.0 - c.trend * c.trend) * draw[_INTEREST]
            shared = together * normals[0, t, 0] + apart * draw[_BASIS_SLOW]
            _carry(state, _MOMENTUM, i, c.decay, fresh, move)
            _carry(state, _SLOW_BASIS, i, c.decay, fresh, shared)
            _carry(state, _FAST_BASIS, i, c.decay, fresh, draw[_BASIS_FAST])
            _carry(state, _SPREAD_NOISE, i, c.decay, fresh, draw[_LIQUIDITY])
            _carry(state, _DEPTH_NOISE, i, c.decay, fresh, draw[_DEPTH])
            _carry(state, _INDEX_NOISE, i, c.decay, fresh, draw[_INDEX])
            _carry(state, _LEVEL, i, c.decay, fresh, trend)

            widened = level[t, i] ** c.spread_elasticity
            noise = c.noise * state[_SPREAD_NOISE, i] - 0.5 * c.noise * c.noise
            half_spread[t, i] = c.half_spread[i] * widened * np.exp(noise)
            thinned = level[t, i] ** -c.depth_elasticity
            noise = c.noise * state[_DEPTH_NOISE, i] - 0.5 * c.noise * c.noise
            depth[t, i] = c.depth[i] * thinned * np.exp(noise)

            around = slow * state[_SLOW_BASIS, i] + fast * state[_FAST_BASIS, i]
            deviation = follow * state[_MOMENTUM, i] + rest * around
            basis = c.basis_mean[i] + c.basis_spread[i] * deviation
            context[t, i, BASIS] = basis
            paid[0, i] += basis
            paid[1, i] += 1.0
            context[t, i, FUNDING] = np.nan
            if settles[t]:
                premium = paid[0, i] / paid[1, i] + c.premium_noise[i] * draw[_PREMIUM]
                rate = premium + min(max(c.interest - premium, -c.clamp), c.clamp)
                context[t, i, FUNDING] = min(max(rate, -c.cap), c.cap) / SETTLEMENT_HOURS
                paid[0, i] = 0.0
                paid[1, i] = 0.0
            level_of_interest = c.interest_spread * state[_LEVEL, i]
            context[t, i, OPEN_INTEREST] = c.open_interest[i] * np.exp(level_of_interest)
            context[t, i, IMPLIED_VOLATILITY] = np.nan
            if c.indexed[i]:
                ahead = _expected_level(
                    log_volatility[t, SLOW],
                    log_volatility[t, FAST],
                    log_volatility[t, FIRST_OWN + i],
                    1 if stress[t] else 0,
                    c.spread,
                    c.node_decay,
                    c.node_weight,
                    c.stress_mean,
                )
                variance = (1.0 - c.jump_share) * ahead + c.jump_share
                noise = c.index_noise * state[_INDEX_NOISE, i] - 0.5 * c.index_noise**2
                index = c.index_scale[i] * np.sqrt(variance) * np.exp(noise)
                context[t, i, IMPLIED_VOLATILITY] = index


@njit(cache=True, error_model="numpy")
def _carry(state: Floats, row: int, i: int, decay: Floats, fresh: Floats, push: float) -> None:
    """One step of an Ornstein-Uhlenbeck state of variance 1."""
    state[row, i] = decay[row] * state[row, i] + fresh[row] * push


@njit(cache=True, error_model="numpy")
def _expected_level(
    slow: float,
    fast: float,
    own: float,
    regime: int,
    spread: Floats,
    node_decay: Floats,
    node_weight: Floats,
    stress_mean: Floats,
) -> float:
    """Mean of E[level²] over the span ahead, given the state now.

    E exp(2 (x_h - s²)) = exp(2 d x - 2 d² s²) for a part x of spread s and decay d to lag h.
    """
    total = 0.0
    for k in range(len(node_weight)):
        power = node_decay[0, k] * slow - (node_decay[0, k] * spread[0]) ** 2
        power += node_decay[1, k] * fast - (node_decay[1, k] * spread[1]) ** 2
        power += node_decay[2, k] * own - (node_decay[2, k] * spread[2]) ** 2
        total += node_weight[k] * np.exp(2.0 * power) * stress_mean[regime, k]
    return total
