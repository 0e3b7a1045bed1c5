"""Prices and volumes of the simulated market, chunk by chunk.

The log price of coin i moves by sub-steps of length dt within each bar::

    dlog S_i = -σ_i²/2 dt + σ_i √dt (√w_i f + √(1 - w_i) e_i) + jumps
    σ_i      = s_i · season(hour) · regime · exp(slow + fast + own_i + noise_i - Var)

with a market shock f and an own shock e_i (standard normal), so that two coins correlate by about
√(w_i w_j). In stress σ is higher and w_i is w_i + lift · (1 - w_i): coins move together when it
matters. slow, fast and own_i are Ornstein-Uhlenbeck log-volatilities whose shocks lean against the
bar's f and e_i (leverage effect); noise_i is drawn anew each bar. Common and own jumps arrive at
random, Laplace in daily standard deviations of the coin. Volatility has memory and returns have
none, so direction cannot be predicted. Highs and lows are those of the Brownian bridge within each
sub-step, so the ranges agree with the volatility of the closes. Volume rises with a power of
volatility.

References
----------
Heston (1993), Kou (2002) and Hamilton (1989) for the ingredients; Corsi (2009) for volatility on
several time scales; Glasserman (2003), *Monte Carlo Methods in Financial Engineering*, section
6.4, for the extremes of a bridge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from market.bars.panel import CLOSE, HIGH, LOW, OPEN, VOLUME
from market.core.arrays import Bools, Floats, Ints
from market.core.clock import DAY, HOUR, Interval
from market.simulator.market_parameters import (
    DAYS_PER_YEAR,
    HOURS_PER_YEAR,
    Coin,
    MarketParameters,
)
from market.simulator.streams import MARKET, Stream

CHUNK = 2_048
"""Bars drawn at once: bounds memory at about 30 MB for all coins."""

SLOW, FAST, FIRST_OWN = 0, 1, 2
"""Rows of the log-volatilities: two of the market, then one a coin."""

_SHAPE_NORMALS = 4  # beyond the sub-steps, in this order:
_PART, _JUMP, _OTHER, _NOISE = range(4)  # fast or own volatility; jump; slow or volume; noise


class PriceChunk(NamedTuple):
    """What one chunk of B bars of S coins leaves behind beside the bars.

    Attributes
    ----------
    bars:
        Rows of the whole history that were filled.
    level:
        Volatility of each bar over the coin's average, season included, shape (B, S).
    log_volatility:
        slow, fast and each coin's own part at each bar's close, shape (B, 2 + S).
    stress:
        Whether the market is in stress at each bar's close, shape (B,).
    """

    bars: slice
    level: Floats
    log_volatility: Floats
    stress: Bools


class _Draws(NamedTuple):
    """Random numbers of B bars: `normals` (1 + S, B, steps + 4) and `uniforms` (1 + S, B, 2), the
    market's in row 0; `exponentials` (S, B, 2 · steps)."""

    normals: Floats
    uniforms: Floats
    exponentials: Floats


class _State(NamedTuple):
    """State at the close of a bar, carried on in place: `log_price` and `volume_noise` (S,),
    `log_volatility` (2 + S,), `regime` (1,)."""

    log_price: Floats
    log_volatility: Floats
    volume_noise: Floats
    regime: Ints


class _Coefficients(NamedTuple):
    """`MarketParameters` and coins as the kernel wants them: per bar or per sub-step.

    `decay` and `spread` have shape (2 + S,); `jump_chance` (1 + S,), the market first; the scales,
    `market_share` (2, S) in calm and stress, `turnover` (USD a bar) (S,); `switch` is the chance
    to leave calm and to leave stress, `regime` the volatility in each.
    """

    decay: Floats
    spread: Floats
    noise: float
    leverage: float
    jump_chance: Floats
    jump_scale: Floats
    step_scale: Floats
    market_share: Floats
    switch: Floats
    regime: Floats
    turnover: Floats
    elasticity: float
    volume_noise: float
    volume_decay: float

    @classmethod
    def of(
        cls, coins: Sequence[Coin], interval: Interval, parameters: MarketParameters
    ) -> _Coefficients:
        bar_hours = interval.nanoseconds / HOUR
        bar_years = bar_hours / HOURS_PER_YEAR
        v, jumps, regimes = parameters.volatility, parameters.jumps, parameters.regimes
        volatility = np.array([coin.volatility for coin in coins])
        own = np.ones(len(coins))
        half_life = np.r_[
            v.slow_half_life_hours, v.fast_half_life_hours, v.own_half_life_hours * own
        ]
        share = np.array([coin.market_share for coin in coins])
        # Jumps take their share of the variance a coin declares; the rest diffuses.
        diffusing = np.sqrt((1.0 - parameters.jump_share) * bar_years / v.sub_steps)
        return cls(
            decay=0.5 ** (bar_hours / half_life),
            spread=np.r_[v.slow_spread, v.fast_spread, v.own_spread * own],
            noise=v.noise,
            leverage=v.leverage,
            jump_chance=np.r_[jumps.common_per_year, jumps.own_per_year * own] * bar_years,
            jump_scale=jumps.size * volatility / np.sqrt(DAYS_PER_YEAR),
            step_scale=diffusing * volatility,
            market_share=np.stack([share, share + regimes.stress_lift * (1.0 - share)]),
            switch=-np.expm1(-bar_hours / _spells(parameters)),
            regime=np.array(parameters.regime_levels),
            turnover=np.array([coin.turnover for coin in coins])
            * (bar_hours / 24.0 / mean_power(parameters, parameters.volume.elasticity)),
            elasticity=parameters.volume.elasticity,
            volume_noise=parameters.volume.noise,
            volume_decay=0.5 ** (bar_hours / parameters.volume.half_life_hours),
        )


def fill_bars(
    values: Floats,
    opens: Ints,
    interval: Interval,
    coins: Sequence[Coin],
    streams: Sequence[Stream],
    parameters: MarketParameters,
) -> Iterator[PriceChunk]:
    """Fill `values` (T, S, 5) chunk by chunk, yielding the hidden state of each.

    Parameters
    ----------
    values:
        Filled in place as the iterator is drained.
    opens:
        Bar opens in nanoseconds, shape (T,).
    interval, coins, parameters:
        What to simulate.
    streams:
        The market's, then one a coin in the order of `coins`.
    """
    coefficients = _Coefficients.of(coins, interval, parameters)
    season = _season(opens, interval, parameters)
    steps = parameters.volatility.sub_steps
    starts = [stream.start(3) for stream in streams]
    market, own = starts[MARKET], starts[MARKET + 1 :]
    in_stress = 0.5 * math.erfc(market[2] / math.sqrt(2.0)) < parameters.regimes.stress_share
    state = _State(
        log_price=np.log([coin.price for coin in coins]),
        log_volatility=coefficients.spread * np.r_[market[:2], [start[0] for start in own]],
        volume_noise=coefficients.volume_noise * np.array([start[1] for start in own]),
        regime=np.array([in_stress], dtype=np.int64),
    )
    for first in range(0, len(values), CHUNK):
        chunk = slice(first, min(first + CHUNK, len(values)))
        bars = chunk.stop - chunk.start
        hidden = PriceChunk(
            bars=chunk,
            level=np.empty((bars, len(coins))),
            log_volatility=np.empty((bars, 2 + len(coins))),
            stress=np.empty(bars, dtype=np.bool_),
        )
        draws = _Draws(
            np.stack([stream.normals(bars, steps + _SHAPE_NORMALS) for stream in streams]),
            np.stack([stream.uniforms(bars, 2) for stream in streams]),
            np.stack([stream.exponentials(bars, 2 * steps) for stream in streams[1:]]),
        )
        _advance(draws, season[chunk], coefficients, state, values[chunk], hidden)
        yield hidden


def mean_power(parameters: MarketParameters, power: float) -> float:
    """Mean of level**power over the stationary states, level being volatility over its average.

    exp(power² V / 2 - power V) for log-volatility of variance V, times the mean over the regimes;
    the season is left out.
    """
    v, share = parameters.volatility, parameters.regimes.stress_share
    variance = v.slow_spread**2 + v.fast_spread**2 + v.own_spread**2 + v.noise**2
    calm, stress = parameters.regime_levels
    return float(
        np.exp(0.5 * power**2 * variance - power * variance)
        * ((1.0 - share) * calm**power + share * stress**power)
    )


def _spells(parameters: MarketParameters) -> Floats:
    """Mean hours of a spell of calm and of stress."""
    regimes = parameters.regimes
    if regimes.stress_share == 0.0:
        return np.array([np.inf, regimes.stress_hours])
    calm = regimes.stress_hours * (1.0 - regimes.stress_share) / regimes.stress_share
    return np.array([calm, regimes.stress_hours])


def _season(opens: Ints, interval: Interval, parameters: MarketParameters) -> Floats:
    """Factor of volatility by time of day, shape (T,), with a mean square of 1 over a day."""
    clock = np.arange(0, DAY, interval.nanoseconds) / HOUR
    factor = np.array(parameters.volatility.season)[clock.astype(np.int64)]
    factor /= np.sqrt(np.mean(factor**2))
    return factor[opens % DAY // interval.nanoseconds]


@njit(cache=True, error_model="numpy")
def _advance(
    draws: _Draws,
    season: Floats,
    coefficients: _Coefficients,
    state: _State,
    values: Floats,
    hidden: PriceChunk,
) -> None:
    """Fill `values` (B, S, 5) and `hidden` with the bars of one chunk and carry `state` on."""
    c = coefficients
    normals, uniforms, exponentials = draws
    log_price, log_volatility, volume_noise, regime = state
    _, levels, log_volatilities, stress = hidden
    bars, coins = values.shape[0], values.shape[1]
    steps = exponentials.shape[2] // 2
    # E exp(2 · log-volatility) = 1, so that the average variance is the declared one.
    centre = c.spread[SLOW] ** 2 + c.spread[FAST] ** 2 + c.noise * c.noise
    half_noise = c.noise * np.sqrt(0.5)
    fresh_noise = c.volume_noise * np.sqrt(1.0 - c.volume_decay * c.volume_decay)
    for t in range(bars):
        now = regime[0]
        common = normals[0, t]
        common_jump = _jump_step(uniforms[0, t, 0], c.jump_chance[0], steps)
        common_size = _laplace(common[steps + _JUMP])
        shared = season[t] * c.regime[now]
        noise = half_noise * common[steps + _NOISE]
        shared *= np.exp(log_volatility[SLOW] + log_volatility[FAST] + noise - centre)
        for i in range(coins):
            own = normals[1 + i, t]
            own_jump = _jump_step(uniforms[1 + i, t, 0], c.jump_chance[1 + i], steps)
            spread = c.spread[FIRST_OWN + i]
            noise = half_noise * own[steps + _NOISE]
            level = shared * np.exp(log_volatility[FIRST_OWN + i] + noise - spread * spread)
            sigma = level * c.step_scale[i]
            variance = sigma * sigma
            market = sigma * np.sqrt(c.market_share[now, i])
            alone = sigma * np.sqrt(1.0 - c.market_share[now, i])
            first = log_price[i]
            last, high, low = first, first, first
            for k in range(steps):
                move = market * common[k] + alone * own[k] - 0.5 * variance
                # Extremes of a Brownian bridge: (move ± √(move² + 2σ²E)) / 2, E exponential.
                up = np.sqrt(move * move + 2.0 * variance * exponentials[i, t, 2 * k])
                down = np.sqrt(move * move + 2.0 * variance * exponentials[i, t, 2 * k + 1])
                high = max(high, last + 0.5 * (move + up))
                low = min(low, last + 0.5 * (move - down))
                last += move
                if k == common_jump:
                    last += c.jump_scale[i] * common_size
                if k == own_jump:
                    last += c.jump_scale[i] * _laplace(own[steps + _JUMP])
                high = max(high, last)
                low = min(low, last)
            log_price[i] = last
            opening, closing = np.exp(first), np.exp(last)
            values[t, i, OPEN] = opening
            values[t, i, HIGH] = max(np.exp(high), opening, closing)
            values[t, i, LOW] = min(np.exp(low), opening, closing)
            values[t, i, CLOSE] = closing
            levels[t, i] = level
            volume_noise[i] = c.volume_decay * volume_noise[i] + fresh_noise * own[steps + _OTHER]
            traded = c.turnover[i] * level**c.elasticity
            traded *= np.exp(volume_noise[i] - 0.5 * c.volume_noise * c.volume_noise)
            values[t, i, VOLUME] = traded / closing
        for j in range(coins + 2):
            # Volatility of the next bar leans against this bar's shock to price.
            stream = max(0, j - 1)
            shock = normals[stream, t, :steps].sum() / np.sqrt(steps)
            push = c.leverage * shock
            draw = normals[stream, t, steps + (_OTHER if j == SLOW else _PART)]
            push += np.sqrt(1.0 - c.leverage * c.leverage) * draw
            fresh = c.spread[j] * np.sqrt(1.0 - c.decay[j] * c.decay[j])
            log_volatility[j] = c.decay[j] * log_volatility[j] + fresh * push
            log_volatilities[t, j] = log_volatility[j]
        if uniforms[0, t, 1] < c.switch[now]:
            regime[0] = 1 - now
        stress[t] = regime[0] == 1


@njit(cache=True, error_model="numpy")
def _jump_step(uniform: float, chance: float, steps: int) -> int:
    """Sub-step of the bar's jump, or -1 where `uniform` says that there is none."""
    return int(uniform / chance * steps) if uniform < chance else -1


@njit(cache=True, error_model="numpy")
def _laplace(normal: float) -> float:
    """A standard normal turned into a Laplace number of variance 1, by its quantile."""
    tail = math.erfc(abs(normal) / math.sqrt(2.0))
    size = -math.log(max(tail, 1e-300)) / math.sqrt(2.0)
    return size if normal > 0.0 else -size
