"""Fit the quotes of a simulated venue: basis, funding, index, liquidity, open interest.

Every figure is a moment of the data; each function changes one table of the parameters and the
coins that the data name, and keeps the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from market.bars.panel import IMPLIED_VOLATILITY
from market.core.clock import Interval
from market.core.errors import DataError
from market.simulator.market_parameters import (
    HOURS_PER_YEAR,
    Coin,
    FundingParameters,
    MarketParameters,
)
from market.simulator.quotes import INDEX_HOURS
from market.simulator.simulated_market import simulate_market
from research.simulator_fit.venue_statistics import memory

Floats = npt.NDArray[np.float64]

_LAGS = np.array([1, 2, 4, 8, 24, 48, 96, 168])
_MOMENTUM_HALF_LIVES = (6.0, 12.0, 24.0, 48.0, 96.0)
_TENTH = 1.2816  # the lower tenth of a normal lies so many standard deviations below its mean
_MONTH = 30
_AT_INTEREST = 1e-5  # a rate nearer to the interest than this does not show the premium
_INDEX_SEEDS = (201, 202, 203, 204)


@dataclass(frozen=True, slots=True)
class PairBars:
    """Hourly closes of one coin's spot and perpetual at the same times, shape (T,), no NaN."""

    spot: Floats
    perpetual: Floats


@dataclass(frozen=True, slots=True)
class Depths:
    """Quotes of one coin on one venue, by the hour.

    `half_spread` over mid and `cost` of one million USD on one side over mid, means of the hour;
    `movement`, the range of log mid within it; shape (H,).
    """

    half_spread: Floats
    cost: Floats
    movement: Floats


@dataclass(frozen=True, slots=True)
class DailyInterest:
    """Open interest and volume (base units) and close of one coin by the day, shape (D,)."""

    open_interest: Floats
    volume: Floats
    close: Floats


def fit_basis(
    parameters: MarketParameters,
    pairs: Mapping[str, PairBars],
    funding: Mapping[str, Floats],
) -> MarketParameters:
    """Basis of each coin and how it moves, from spot and perpetual closes and settled funding.

    A coin with funding only takes its mean from the median rate, which is the mean basis plus
    the clamp where it lies below the interest, and its spread from the distance of the lowest
    tenth; a coin with neither takes the medians of the others.

    Parameters
    ----------
    pairs:
        By symbol, at least one; bars begin with a settlement.
    funding:
        Settled rates a settlement, by symbol, the first at the first bar of a pair of that symbol.

    Raises
    ------
    DataError
        No pair is given.
    """
    if not pairs:
        raise DataError("no spot and perpetual bars of one coin; the basis needs at least one pair")
    basis = {symbol: np.log(pair.perpetual / pair.spot) for symbol, pair in pairs.items()}
    standard = {symbol: (b - b.mean()) / b.std() for symbol, b in basis.items()}
    correlation, half_life = max(
        (
            float(
                np.mean([_momentum_correlation(standard[s], pairs[s].perpetual, h) for s in pairs])
            ),
            h,
        )
        for h in _MOMENTUM_HALF_LIVES
    )
    rest = {
        symbol: deviation - correlation * _momentum(pairs[symbol].perpetual, half_life)
        for symbol, deviation in standard.items()
    }
    decayed = np.mean([[memory(b, lag) for lag in _LAGS] for b in rest.values()], axis=0)
    slow_share, slow, fast = _two_decays(decayed)
    tables = msgspec.structs.replace(
        parameters.basis,
        momentum=correlation,
        momentum_half_life_hours=half_life,
        slow_share=slow_share,
        slow_half_life_hours=slow,
        fast_half_life_hours=fast,
        common_share=_common_share(list(rest.values())),
    )
    # Eight hours of basis vary less than one; a rate is as wide as the first.
    narrowing = float(np.median([_eight_hours(b).std() / b.std() for b in basis.values()]))
    measured = {symbol: (float(b.mean()), float(b.std())) for symbol, b in basis.items()}
    terms = parameters.funding
    noises = [
        _premium_noise(basis[symbol], funding[symbol], terms)
        for symbol in basis
        if symbol in funding
    ]
    for symbol, rates in funding.items():
        middle = float(np.median(rates))
        if symbol not in measured and middle < terms.interest:
            lowest = float(np.quantile(rates, 0.1))
            measured[symbol] = (middle - terms.clamp, (middle - lowest) / _TENTH / narrowing)
    if noises:
        terms = msgspec.structs.replace(terms, noise=float(np.median(noises)))
    usual = tuple(float(np.median(column)) for column in zip(*measured.values(), strict=True))

    def change(coin: Coin) -> Coin:
        mean, spread = measured.get(coin.symbol, usual)
        changed = msgspec.structs.replace(coin, basis_mean=mean, basis_spread=spread)
        return _with_group(changed, "basis") if coin.symbol in measured else changed

    return msgspec.structs.replace(
        parameters, basis=tables, funding=terms, coins=_map_coins(parameters, change)
    )


def fit_index(
    parameters: MarketParameters, index: Mapping[str, Floats], closes: Mapping[str, Floats]
) -> MarketParameters:
    """Premium and noise of the implied-volatility index.

    The premium compares the mean squared index with the mean squared return of the same hours.
    The noise is what the model's own expectation lacks of the real spread of the log index, in
    simulated histories of the same length. Its half-life is that of what a regression of the log
    index on log realised volatility over 1, 7 and 30 days leaves, by the memory over 30 days.

    Parameters
    ----------
    index:
        Hourly, annualised decimals, by symbol; NaN where missing, shape (T,).
    closes:
        Hourly closes at the same times, shape (T,).
    """
    premiums, excess, memories = [], [], []
    for symbol, level in index.items():
        squared = np.r_[np.nan, np.diff(np.log(closes[symbol])) ** 2] * HOURS_PER_YEAR
        both = np.isfinite(level) & np.isfinite(squared)
        premiums.append(np.sqrt((level[both] ** 2).mean() / squared[both].mean()) - 1.0)
        excess.append(
            np.nanvar(np.log(level)) - _expected_variance(parameters, symbol, len(level) // 24)
        )
        past = np.stack([_trailing_mean(squared, hours) for hours in (24, 168, int(INDEX_HOURS))])
        known = np.isfinite(level) & np.isfinite(past).all(axis=0)
        design = np.column_stack([np.ones(int(known.sum())), np.log(past[:, known]).T])
        rest = np.full(len(level), np.nan)
        log_level = np.log(level[known])
        rest[known] = log_level - design @ np.linalg.lstsq(design, log_level, rcond=None)[0]
        memories.append(memory(rest, int(INDEX_HOURS)))
    persistence = float(np.clip(np.mean(memories), 0.05, 0.95))
    table = msgspec.structs.replace(
        parameters.implied_volatility,
        premium=float(np.mean(premiums)),
        noise=float(np.sqrt(max(0.0, np.mean(excess)))),
        half_life_hours=float(INDEX_HOURS * np.log(0.5) / np.log(persistence)),
    )
    return msgspec.structs.replace(parameters, implied_volatility=table)


def _expected_variance(parameters: MarketParameters, symbol: str, days: int) -> float:
    """Variance over time of the log index without noise, mean over simulated histories."""
    coin = next((coin for coin in parameters.coins if coin.symbol == symbol), None)
    if coin is None:
        raise DataError(f"the index of {symbol} has no coin; leave it out, or give its bars")
    table = msgspec.structs.replace(parameters.implied_volatility, noise=0.0, symbols=(symbol,))
    alone = msgspec.structs.replace(parameters, implied_volatility=table, coins=(coin,))
    hourly = Interval.parse("1h")
    variances = []
    for seed in _INDEX_SEEDS:
        exogenous = simulate_market(seed, days, 1, hourly, parameters=alone).panel.exogenous
        if exogenous is not None:
            variances.append(np.log(exogenous[:, 0, IMPLIED_VOLATILITY]).var())
    return float(np.mean(variances))


def fit_liquidity(
    parameters: MarketParameters,
    venue: Mapping[str, Depths],
    all_venues: Mapping[tuple[str, str], Depths],
) -> MarketParameters:
    """Spread and depth: level and noise as quoted, elasticities as quoted or as theory has them.

    The slope of log half-spread (log cost) on log movement within each venue and coin is a lower
    bound of an elasticity: a day of quotes holds little volatility and the movement of an hour
    measures it badly. Market microstructure invariance says 2/3 - e/3 for the spread and
    4/3 - 2 e/3 for depth where volume rises with volatility to the power e; the larger of slope
    and theory is taken. The noise and its half-life are those of the log cost that the slope
    leaves. A coin that is not quoted takes the level of the quoted coin with the least turnover,
    scaled by the root of turnover for the spread and by turnover for depth: an assumption.

    Parameters
    ----------
    venue:
        Quotes of the venue that sets the level, by symbol, at least one.
    all_venues:
        Quotes by venue and symbol.

    Raises
    ------
    DataError
        A coin of `venue` is not among the coins, or no coin is given.

    References
    ----------
    Kyle and Obizhaeva (2016), "Market Microstructure Invariance".
    """
    turnover = {coin.symbol: coin.turnover for coin in parameters.coins}
    elasticity = parameters.volume.elasticity
    if not venue or not set(venue) <= set(turnover):
        raise DataError(
            f"liquidity is given for {sorted(venue)}; expected one or more of {sorted(turnover)}"
        )
    spread_slope, _, _ = _pooled_regression(
        [(d.movement, d.half_spread) for d in all_venues.values()]
    )
    cost_slope, noise, persistence = _pooled_regression(
        [(d.movement, d.cost) for d in all_venues.values()]
    )
    level = {
        symbol: (float(np.median(d.half_spread)), 1e6 * 1e-3 / float(np.median(d.cost)))
        for symbol, d in venue.items()
    }
    anchor = min(level, key=lambda symbol: turnover[symbol])

    def change(coin: Coin) -> Coin:
        if coin.symbol in level:
            spread, depth = level[coin.symbol]
            quoted = msgspec.structs.replace(coin, half_spread=spread, depth=depth)
            return _with_group(quoted, "liquidity")
        size = coin.turnover / turnover[anchor]
        return msgspec.structs.replace(
            coin, half_spread=level[anchor][0] / size**0.5, depth=level[anchor][1] * size
        )

    table = msgspec.structs.replace(
        parameters.liquidity,
        spread_elasticity=max(spread_slope, (2.0 - elasticity) / 3.0, 0.0),
        depth_elasticity=max(cost_slope, (4.0 - 2.0 * elasticity) / 3.0, 0.0),
        noise=noise,
        half_life_hours=float(np.log(0.5) / np.log(np.clip(persistence, 0.05, 0.99))),
    )
    return msgspec.structs.replace(
        parameters, liquidity=table, coins=_map_coins(parameters, change)
    )


def fit_interest(
    parameters: MarketParameters, interest: Mapping[str, DailyInterest]
) -> MarketParameters:
    """Open interest in days of turnover, its spread, memory over 30 days, and trend: medians over
    the coins that are simulated too."""
    symbols = {coin.symbol for coin in parameters.coins}
    simulated = {symbol: daily for symbol, daily in interest.items() if symbol in symbols}
    if not simulated:
        raise DataError("no open interest of a simulated coin; expected at least one")
    days = {s: float(np.median(d.open_interest / d.volume)) for s, d in simulated.items()}
    logs = [np.log(d.open_interest) for d in simulated.values()]
    trends = [
        float(np.corrcoef(np.diff(log), np.diff(np.log(d.close)))[0, 1])
        for log, d in zip(logs, simulated.values(), strict=True)
    ]
    persistence = float(np.clip(np.median([memory(log, _MONTH) for log in logs]), 0.05, 0.99))
    table = msgspec.structs.replace(
        parameters.open_interest,
        spread=float(np.median([log.std() for log in logs])),
        half_life_hours=float(_MONTH * 24.0 * np.log(0.5) / np.log(persistence)),
        trend=float(np.median(trends)),
    )
    usual = float(np.median(list(days.values())))

    def change(coin: Coin) -> Coin:
        changed = msgspec.structs.replace(coin, open_interest_days=days.get(coin.symbol, usual))
        return _with_group(changed, "interest") if coin.symbol in days else changed

    return msgspec.structs.replace(
        parameters, open_interest=table, coins=_map_coins(parameters, change)
    )


def _map_coins(parameters: MarketParameters, change: Callable[[Coin], Coin]) -> tuple[Coin, ...]:
    return tuple(change(coin) for coin in parameters.coins)


def _with_group(coin: Coin, group: str) -> Coin:
    return msgspec.structs.replace(coin, fitted=tuple(dict.fromkeys((*coin.fitted, group))))


def _momentum(closes: Floats, half_life: float) -> Floats:
    """Exponentially weighted mean of past returns, scaled to a standard deviation of 1."""
    decay = 0.5 ** (1.0 / half_life)
    moved = np.zeros(len(closes))
    for t, r in enumerate(np.diff(np.log(closes)), start=1):
        moved[t] = decay * moved[t - 1] + r
    return np.asarray(moved / moved.std())


def _momentum_correlation(deviation: Floats, closes: Floats, half_life: float) -> float:
    return float(np.corrcoef(deviation, _momentum(closes, half_life))[0, 1])


def _two_decays(decayed: Floats) -> tuple[float, float, float]:
    """q, slow and fast half-life with decayed(k) nearest to q·2^(-k/slow) + (1 - q)·2^(-k/fast)."""

    def residuals(x: Floats) -> Floats:
        slow = 0.5 ** (_LAGS / np.exp(x[1]))
        fast = 0.5 ** (_LAGS / np.exp(x[2]))
        return np.asarray(x[0] * slow + (1.0 - x[0]) * fast - decayed)

    solution = least_squares(
        residuals,
        [0.6, np.log(100.0), np.log(1.0)],
        bounds=([0.0, np.log(8.0), np.log(0.1)], [1.0, np.log(2_000.0), np.log(8.0)]),
    ).x
    return float(solution[0]), float(np.exp(solution[1])), float(np.exp(solution[2]))


def _eight_hours(series: Floats) -> Floats:
    return np.asarray(series[: len(series) // 8 * 8].reshape(-1, 8).mean(axis=1))


def _premium_noise(basis: Floats, rates: Floats, terms: FundingParameters) -> float:
    """What the formula leaves of rates below the interest, in standard deviations of the basis."""
    mean = _eight_hours(basis)
    settled = rates[1 : len(mean) + 1]  # the first settles what went before
    mean = mean[: len(settled)]
    formula = mean + np.clip(terms.interest - mean, -terms.clamp, terms.clamp)
    moved = settled < terms.interest - _AT_INTEREST
    return float((settled - formula)[moved].std() / basis.std())


def _common_share(series: list[Floats]) -> float:
    """Mean correlation of the coins' daily means, which the fast part hardly reaches."""
    if len(series) < 2:
        return 0.0
    length = min(map(len, series)) // 24 * 24
    daily = np.stack([s[:length].reshape(-1, 24).mean(axis=1) for s in series])
    pairs = np.corrcoef(daily)[np.triu_indices(len(daily), 1)]
    return float(np.clip(pairs.mean(), 0.0, 1.0))


def _trailing_mean(series: Floats, hours: int) -> Floats:
    """Mean of the last `hours` values, NaN while one is missing."""
    past = np.full(len(series), np.nan)
    past[hours - 1 :] = np.lib.stride_tricks.sliding_window_view(series, hours).mean(axis=1)
    return past


def _pooled_regression(groups: list[tuple[Floats, Floats]]) -> tuple[float, float, float]:
    """Slope of log y on log x within groups; spread and memory of what it leaves."""
    logs = [(np.log(x), np.log(y)) for x, y in groups]
    inner = [(x - x.mean(), y - y.mean()) for x, y in logs]
    slope = sum(float(x @ y) for x, y in inner) / sum(float(x @ x) for x, _ in inner)
    rest = [y - slope * x for x, y in inner]
    spread = float(np.median([r.std() for r in rest]))
    return slope, spread, float(np.median([memory(r, 1) for r in rest]))
