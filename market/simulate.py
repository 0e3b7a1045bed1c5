"""The simulated market: what Margincast runs on where there are no data at all.

The log price of coin i moves by sub-steps of length dt within each bar::

    dlog S_i = -σ_i²/2 dt + σ_i √dt (√w_i f + √(1 - w_i) e_i) + jumps
    σ_i      = s_i · season(hour) · exp(x + y_i - Var)

with a market shock f and an own shock e_i (standard normal), so that two coins correlate by about
√(w_i w_j). x and y_i are Ornstein-Uhlenbeck log-volatilities, one common and one own, whose shocks
lean against the bar's f and e_i (leverage effect). Common and own jumps arrive at random, sized in
daily standard deviations of the coin. Volatility has memory and returns have none, so direction
cannot be predicted. Highs and lows are those of the Brownian bridge within each sub-step, so the
ranges agree with the volatility of the closes.

References
----------
Heston (1993) and Merton (1976) for the ingredients; Glasserman (2003), *Monte Carlo Methods in
Financial Engineering*, section 6.4, for the extremes of a bridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from market.clock import DAY, HOUR, Interval, parse_time
from market.errors import ConfigError
from market.files import replace_file
from market.panel import CLOSE, HIGH, LOW, OPEN, VOLUME, BarPanel

Floats = npt.NDArray[np.float64]

DEFAULT_START = parse_time("2025-01-01T00:00:00Z")
"""Open of the first bar unless an end is given: the same data on every day."""

MAX_DAYS = 3_650

_DAYS_PER_YEAR = 365.0
_HOURS_PER_YEAR = _DAYS_PER_YEAR * 24.0
_CHUNK = 2_048  # bars drawn at once: bounds memory at about 30 MB for all coins
_SHAPE_NORMALS = 3  # beyond the sub-steps: log-volatility, jump size, volume


class Coin(NamedTuple):
    """A simulated coin.

    `price` in USD; `volatility` annualised, jumps included; `market_share`, the part of its
    variance that is the market's; `turnover`, average traded value in USD a day.
    """

    symbol: str
    price: float
    volatility: float
    market_share: float
    turnover: float


COINS = (
    Coin("BTCUSDT", 94_000.0, 0.48, 0.75, 2.4e9),
    Coin("ETHUSDT", 3_350.0, 0.62, 0.75, 1.5e9),
    Coin("SOLUSDT", 190.0, 0.78, 0.65, 7.0e8),
    Coin("XRPUSDT", 2.1, 0.82, 0.55, 8.0e8),
    Coin("BNBUSDT", 700.0, 0.50, 0.60, 2.5e8),
    Coin("DOGEUSDT", 0.32, 0.90, 0.60, 5.0e8),
    Coin("ADAUSDT", 0.85, 0.85, 0.60, 2.0e8),
    Coin("AVAXUSDT", 36.0, 0.86, 0.68, 1.0e8),
    Coin("LINKUSDT", 20.0, 0.84, 0.65, 1.2e8),
    Coin("LTCUSDT", 103.0, 0.72, 0.60, 1.0e8),
    Coin("DOTUSDT", 6.7, 0.84, 0.68, 6.0e7),
    Coin("TRXUSDT", 0.255, 0.45, 0.35, 6.0e7),
    Coin("BCHUSDT", 435.0, 0.76, 0.58, 5.0e7),
    Coin("UNIUSDT", 13.2, 0.92, 0.60, 6.0e7),
    Coin("ATOMUSDT", 6.3, 0.84, 0.65, 3.0e7),
    Coin("ETCUSDT", 25.0, 0.78, 0.65, 3.0e7),
    Coin("XLMUSDT", 0.33, 0.86, 0.50, 6.0e7),
    Coin("NEARUSDT", 5.0, 0.94, 0.66, 6.0e7),
    Coin("FILUSDT", 4.9, 0.90, 0.66, 3.0e7),
    Coin("APTUSDT", 8.7, 0.92, 0.64, 4.0e7),
    Coin("ARBUSDT", 0.72, 0.95, 0.66, 4.0e7),
    Coin("OPUSDT", 1.75, 0.97, 0.66, 4.0e7),
    Coin("SUIUSDT", 4.1, 1.00, 0.55, 2.5e8),
    Coin("INJUSDT", 19.8, 0.98, 0.62, 2.5e7),
    Coin("AAVEUSDT", 309.0, 0.92, 0.58, 5.0e7),
    Coin("MKRUSDT", 1_500.0, 0.80, 0.48, 1.5e7),
    Coin("SANDUSDT", 0.55, 0.95, 0.60, 3.0e7),
    Coin("MANAUSDT", 0.47, 0.94, 0.60, 1.5e7),
    Coin("GALAUSDT", 0.035, 1.00, 0.60, 3.0e7),
    Coin("ALGOUSDT", 0.33, 0.90, 0.58, 3.0e7),
    Coin("ICPUSDT", 9.9, 0.92, 0.62, 2.0e7),
    Coin("HBARUSDT", 0.27, 0.95, 0.48, 1.2e8),
)
"""All coins that can be simulated; the first n are taken."""


@dataclass(frozen=True, slots=True)
class MarketParameters:
    """What drives the simulated market, the same for all coins.

    Attributes
    ----------
    sub_steps:
        Steps of the price within one bar.
    common_spread, own_spread:
        Stationary standard deviation of the common and the own log-volatility.
    common_half_life_hours, own_half_life_hours:
        Time in which a log-volatility loses half of its distance from the mean.
    leverage:
        Correlation between a shock to price and the shock to log-volatility.
    common_jumps_per_year, own_jumps_per_year:
        Expected number of jumps of all coins together, and of each coin alone.
    jump_size:
        Standard deviation of a jump in daily standard deviations of the coin.
    season_swing, season_peak_hour:
        Swing of log-volatility over the day, and its UTC hour of highest volatility.
    volume_elasticity:
        Power of the volatility to which volume is proportional.
    volume_noise:
        Standard deviation of log volume beside that.
    """

    sub_steps: int = 12
    common_spread: float = 0.35
    own_spread: float = 0.25
    common_half_life_hours: float = 60.0
    own_half_life_hours: float = 20.0
    leverage: float = -0.3
    common_jumps_per_year: float = 20.0
    own_jumps_per_year: float = 30.0
    jump_size: float = 1.0
    season_swing: float = 0.25
    season_peak_hour: float = 15.0
    volume_elasticity: float = 1.2
    volume_noise: float = 0.4

    def __post_init__(self) -> None:
        if self.sub_steps < 1:
            raise ConfigError(f"sub_steps is {self.sub_steps}; expected 1 or more")
        if not -1.0 <= self.leverage <= 1.0:
            raise ConfigError(f"leverage is {self.leverage}; expected a correlation in [-1, 1]")
        if min(self.common_half_life_hours, self.own_half_life_hours) <= 0.0:
            raise ConfigError("half-lives of the log-volatility must be positive hours")
        if not self.jump_share < 1.0:
            raise ConfigError(
                f"jumps would make {self.jump_share:.2f} of all variance; expected less than 1: "
                "make them fewer or smaller"
            )

    @property
    def jump_share(self) -> float:
        """Part of a coin's variance that comes from jumps."""
        jumps = self.common_jumps_per_year + self.own_jumps_per_year
        return jumps * self.jump_size**2 / _DAYS_PER_YEAR


DEFAULT_PARAMETERS = MarketParameters()


def simulate_bars(
    seed: int,
    days: int,
    symbols: int,
    interval: Interval,
    end: int | None = None,
    parameters: MarketParameters = DEFAULT_PARAMETERS,
) -> BarPanel:
    """Simulate the bars of the first `symbols` coins of `COINS`.

    Each coin has random streams of its own, so more coins or more days never change the bars of
    fewer; another interval is another market.

    Parameters
    ----------
    seed:
        Not negative; the same seed gives the same bars.
    days:
        Length of the history, 1 to `MAX_DAYS`.
    symbols:
        Number of coins, 1 to ``len(COINS)``.
    interval:
        Length of a bar.
    end:
        Close of the last bar in nanoseconds, on the interval's grid. Without it the first bar
        opens at `DEFAULT_START`.
    parameters:
        Shape of the market.

    Returns
    -------
    BarPanel
        days · 24 · interval.per_hour bars, symbols sorted, prices in USD, no NaN.

    Raises
    ------
    ConfigError
        A value is out of its range.
    """
    _check(seed, days, symbols, interval, end)
    length = days * DAY // interval.nanoseconds
    start = DEFAULT_START if end is None else end - days * DAY
    opens = start + np.arange(length, dtype=np.int64) * interval.nanoseconds
    order = sorted(range(symbols), key=lambda position: COINS[position].symbol)
    coins = [COINS[position] for position in order]
    streams = [_Stream(seed, 0), *(_Stream(seed, 1 + position) for position in order)]
    season = _season(opens, interval, parameters)
    coefficients = _Coefficients.of(coins, interval, parameters)
    values = np.empty((length, symbols, 5))
    _fill(values, season, coins, streams, parameters.sub_steps, coefficients)
    return BarPanel(interval, tuple(coin.symbol for coin in coins), opens, values)


def write_bars(panel: BarPanel, folder: Path) -> tuple[Path, ...]:
    """Write a panel in the data contract: ``<SYMBOL>.parquet`` with ts (bar open, UTC), prices
    and volume.

    Bars that do not exist (NaN) are left out. Each file is replaced in one step.

    Returns
    -------
    tuple of Path
        One file a symbol, in the panel's order.
    """
    return tuple(_write_symbol(panel, column, folder) for column in range(len(panel.symbols)))


def _write_symbol(panel: BarPanel, column: int, folder: Path) -> Path:
    bars = panel.values[:, column]
    exists = np.isfinite(bars[:, CLOSE])
    arrays = {"ts": pa.array(panel.opens[exists], pa.timestamp("ns", tz="UTC"))}
    for name, field in (
        ("open", OPEN),
        ("high", HIGH),
        ("low", LOW),
        ("close", CLOSE),
        ("volume", VOLUME),
    ):
        arrays[name] = pa.array(bars[exists, field])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink)
    path = folder / f"{panel.symbols[column]}.parquet"
    replace_file(path, sink.getvalue().to_pybytes())
    return path


def _check(seed: int, days: int, symbols: int, interval: Interval, end: int | None) -> None:
    if seed < 0:
        raise ConfigError(f"simulate.seed is {seed}; expected 0 or more")
    if not 1 <= days <= MAX_DAYS:
        raise ConfigError(f"simulate.days is {days}; expected 1 to {MAX_DAYS}")
    if not 1 <= symbols <= len(COINS):
        raise ConfigError(f"simulate.symbols is {symbols}; expected 1 to {len(COINS)}")
    if end is not None and end % interval.nanoseconds:
        raise ConfigError(
            f"the simulated market cannot end at {end} ns: with {interval.name} bars the end "
            f"must be a multiple of {interval.nanoseconds} ns"
        )


class _Stream:
    """Random numbers of the market or of one coin.

    Each kind of number has a generator of its own and is drawn row by row, so that the numbers of
    a bar do not depend on how many are drawn at once.
    """

    def __init__(self, seed: int, position: int) -> None:
        def generator(kind: int) -> np.random.Generator:
            entropy = np.random.SeedSequence([seed, kind, position])
            return np.random.Generator(np.random.Philox(entropy))

        self._normal, self._uniform, self._exponential = (generator(kind) for kind in range(3))
        self.start = float(self._normal.standard_normal())

    def normals(self, bars: int, columns: int) -> Floats:
        return self._normal.standard_normal((bars, columns))

    def uniforms(self, bars: int) -> Floats:
        return self._uniform.random(bars)

    def exponentials(self, bars: int, columns: int) -> Floats:
        return self._exponential.standard_exponential((bars, columns))


def _season(
    opens: npt.NDArray[np.int64], interval: Interval, parameters: MarketParameters
) -> Floats:
    """Factor of volatility by time of day, shape (T,), with a mean square of 1 over a day."""
    clock = np.arange(0, DAY, interval.nanoseconds) / HOUR
    angle = 2.0 * np.pi * (clock - parameters.season_peak_hour) / 24.0
    factor = np.exp(parameters.season_swing * np.cos(angle))
    factor /= np.sqrt(np.mean(factor**2))
    return factor[opens % DAY // interval.nanoseconds]


class _Coefficients(NamedTuple):
    """`MarketParameters` and coins as the kernel wants them: per bar or per sub-step.

    `decay`, `spread` and `jump_chance` have shape (1 + S,), the market first; the scales,
    `market_share` and `turnover` (USD a bar) have shape (S,).
    """

    decay: Floats
    spread: Floats
    leverage: float
    jump_chance: Floats
    jump_scale: Floats
    step_scale: Floats
    market_share: Floats
    turnover: Floats
    elasticity: float
    noise: float

    @classmethod
    def of(
        cls, coins: Sequence[Coin], interval: Interval, parameters: MarketParameters
    ) -> _Coefficients:
        bar_hours = interval.nanoseconds / HOUR
        bar_years = bar_hours / _HOURS_PER_YEAR
        volatility = np.array([coin.volatility for coin in coins])

        def first_market(common: float, own: float) -> Floats:
            return np.array([common, *(own for _ in coins)])

        half_life = first_market(parameters.common_half_life_hours, parameters.own_half_life_hours)
        jumps = first_market(parameters.common_jumps_per_year, parameters.own_jumps_per_year)
        # Jumps take their share of the variance a coin declares; the rest diffuses.
        diffusing = np.sqrt((1.0 - parameters.jump_share) * bar_years / parameters.sub_steps)
        return cls(
            decay=0.5 ** (bar_hours / half_life),
            spread=first_market(parameters.common_spread, parameters.own_spread),
            leverage=parameters.leverage,
            jump_chance=jumps * bar_years,
            jump_scale=parameters.jump_size * volatility / np.sqrt(_DAYS_PER_YEAR),
            step_scale=diffusing * volatility,
            market_share=np.array([coin.market_share for coin in coins]),
            turnover=np.array([coin.turnover for coin in coins]) * bar_hours / 24.0,
            elasticity=parameters.volume_elasticity,
            noise=parameters.volume_noise,
        )


def _fill(
    values: Floats,
    season: Floats,
    coins: Sequence[Coin],
    streams: Sequence[_Stream],
    steps: int,
    coefficients: _Coefficients,
) -> None:
    log_price = np.log([coin.price for coin in coins])
    log_volatility = coefficients.spread * np.array([stream.start for stream in streams])
    for first in range(0, len(values), _CHUNK):
        chunk = slice(first, min(first + _CHUNK, len(values)))
        bars = chunk.stop - chunk.start
        _advance(
            np.stack([stream.normals(bars, steps + _SHAPE_NORMALS) for stream in streams]),
            np.stack([stream.uniforms(bars) for stream in streams]),
            np.stack([stream.exponentials(bars, 2 * steps) for stream in streams[1:]]),
            season[chunk],
            coefficients,
            log_price,
            log_volatility,
            values[chunk],
        )


@njit(cache=True)
def _advance(
    normals: Floats,
    uniforms: Floats,
    exponentials: Floats,
    season: Floats,
    coefficients: _Coefficients,
    log_price: Floats,
    log_volatility: Floats,
    values: Floats,
) -> None:
    """Fill the bars of one chunk; row 0 of what concerns streams is the market's.

    `log_price` (S,) and `log_volatility` (1 + S,) are the state, carried on in place.
    """
    c = coefficients
    bars, coins = values.shape[0], values.shape[1]
    steps = exponentials.shape[2] // 2
    # E exp(2(x + y)) = 1, so that the average variance is the declared one.
    centre = c.spread[0] ** 2 + c.spread[1] ** 2
    for t in range(bars):
        common = normals[0, t]
        common_jump = _jump_step(uniforms[0, t], c.jump_chance[0], steps)
        for i in range(coins):
            own = normals[1 + i, t]
            own_jump = _jump_step(uniforms[1 + i, t], c.jump_chance[1 + i], steps)
            level = season[t] * np.exp(log_volatility[0] + log_volatility[1 + i] - centre)
            sigma = level * c.step_scale[i]
            variance = sigma * sigma
            market = sigma * np.sqrt(c.market_share[i])
            alone = sigma * np.sqrt(1.0 - c.market_share[i])
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
                    last += c.jump_scale[i] * common[steps + 1]
                if k == own_jump:
                    last += c.jump_scale[i] * own[steps + 1]
                high = max(high, last)
                low = min(low, last)
            log_price[i] = last
            opening, closing = np.exp(first), np.exp(last)
            values[t, i, OPEN] = opening
            values[t, i, HIGH] = max(np.exp(high), opening, closing)
            values[t, i, LOW] = min(np.exp(low), opening, closing)
            values[t, i, CLOSE] = closing
            traded = c.turnover[i] * level**c.elasticity
            traded *= np.exp(c.noise * own[steps + 2] - 0.5 * c.noise * c.noise)
            values[t, i, VOLUME] = traded / closing
        for j in range(coins + 1):
            # Volatility of the next bar leans against this bar's shock to price.
            shock = normals[j, t, :steps].sum() / np.sqrt(steps)
            push = c.leverage * shock
            push += np.sqrt(1.0 - c.leverage * c.leverage) * normals[j, t, steps]
            fresh = c.spread[j] * np.sqrt(1.0 - c.decay[j] * c.decay[j])
            log_volatility[j] = c.decay[j] * log_volatility[j] + fresh * push


@njit(cache=True)
def _jump_step(uniform: float, chance: float, steps: int) -> int:
    """Sub-step of the bar's jump, or -1 where `uniform` says that there is none."""
    return int(uniform / chance * steps) if uniform < chance else -1
