"""Fit the simulated market to real bars.

Price, volatility, turnover and market share of each coin and the hours of the day are measured on
the bars. The hidden parameters (log-volatility, leverage, jumps, regimes,
volume) are found by the simulated method of moments: simulate as long a history as the real one
with fixed seeds, measure the same stylised facts on both, and move the parameters until the facts
agree. Sample facts of long-memory series are biased in short histories; equal lengths give both
the same bias.

Each fact counts in units of its tolerance; a weak pull to the starting values decides between
parameters that the facts do not identify.

References
----------
McFadden (1989) and Duffie and Singleton (1993) for simulated moments; Gouriéroux, Monfort and
Renault (1993) for matching a biased statistic at equal length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import expit, logit

from market.bars.panel import CLOSE, HIGH, LOW, VOLUME, BarPanel
from market.core.clock import DAY, HOUR
from market.core.errors import DataError
from market.simulator.market_parameters import HOURS_PER_YEAR, Coin, MarketParameters
from market.simulator.simulated_market import simulate_bars
from research.simulator_fit.stylised_facts import FACTS, TOLERANCE, measure_facts

Floats = npt.NDArray[np.float64]

FIT_SEEDS = (101, 102)
"""Seeds of the histories that are simulated at every step of a fit."""

MIN_COVERAGE = 0.8
"""Part of the bars that a coin must have to enter a fit."""

TURNOVER_DAYS = 365
"""Most recent days that turnover is averaged over."""

_FIT_SUB_STEPS = 2  # the law of a bar does not depend on them, only the time it takes
_DIRECT = ("volatility", "season_swing", "spread")  # facts that the direct figures settle
_PULL = 0.3
_STEP = 0.05


@dataclass(frozen=True, slots=True)
class _FreeParameter:
    """A parameter that the simulated moments decide: its place, and its map to the search line."""

    table: str
    key: str
    encode: Callable[[float], float]
    decode: Callable[[float], float]


def _log(table: str, key: str, most: float) -> _FreeParameter:
    return _FreeParameter(table, key, lambda x: float(np.log(max(x, 1e-6))), _exp_below(most))


def _exp_below(most: float) -> Callable[[float], float]:
    return lambda y: float(min(np.exp(y), most))


_FREE = (
    _log("volatility", "slow_spread", 1.0),
    _log("volatility", "fast_spread", 1.0),
    _log("volatility", "own_spread", 1.0),
    _log("volatility", "slow_half_life_hours", 3_000.0),
    _log("volatility", "fast_half_life_hours", 200.0),
    _log("volatility", "own_half_life_hours", 500.0),
    _log("volatility", "noise", 1.0),
    _FreeParameter(
        "volatility", "leverage", lambda x: float(np.arctanh(x)), lambda y: float(np.tanh(y))
    ),
    _log("jumps", "common_per_year", 200.0),
    _log("jumps", "own_per_year", 400.0),
    _log("jumps", "size", 2.0),
    _FreeParameter(
        "regimes",
        "stress_volatility",
        lambda x: float(np.log(max(x - 1.0, 1e-3))),
        lambda y: 1.0 + float(min(np.exp(y), 4.0)),
    ),
    _FreeParameter("regimes", "stress_lift", lambda x: float(logit(x)), lambda y: float(expit(y))),
    _log("volume", "elasticity", 4.0),
    _log("volume", "noise", 2.0),
    _log("volume", "half_life_hours", 500.0),
)


def usable_coins(panel: BarPanel) -> BarPanel:
    """The coins that have at least `MIN_COVERAGE` of the bars."""
    known = np.isfinite(panel.values[:, :, CLOSE]).mean(axis=0)
    usable = np.flatnonzero(known >= MIN_COVERAGE)
    if len(usable) < 2:
        raise DataError(
            f"{len(usable)} of {len(panel.symbols)} coins have {MIN_COVERAGE:.0%} of the bars; a "
            "market is fitted to 2 or more: choose a span that the bars cover"
        )
    symbols = tuple(panel.symbols[i] for i in usable)
    return BarPanel(
        panel.interval, symbols, panel.opens, np.ascontiguousarray(panel.values[:, usable])
    )


def fit_bars(panel: BarPanel, start: MarketParameters, steps: int = 8) -> MarketParameters:
    """Fit what hourly bars can identify.

    Parameters
    ----------
    panel:
        Hourly bars of two or more coins; see `usable_coins`.
    start:
        Where the search starts, and what is kept of the rest: coins without bars stay as they
        are, after those that are fitted.
    steps:
        Most iterations of the search.

    Returns
    -------
    MarketParameters
        With `start`'s name and provenance.

    Raises
    ------
    DataError
        The bars are too few; see `measure_facts`.
    """
    target = measure_facts(panel)
    season = _season(panel)
    coins = _coins(panel, start)
    fitted = msgspec.structs.replace(
        start,
        volatility=msgspec.structs.replace(
            start.volatility, season=season, sub_steps=_FIT_SUB_STEPS
        ),
        implied_volatility=msgspec.structs.replace(start.implied_volatility, symbols=()),
        coins=coins,
    )
    days = len(panel) * panel.interval.nanoseconds // DAY
    names = [name for name in FACTS if name not in _DIRECT]
    scale = np.array([TOLERANCE[name] for name in names])
    goal = np.array([target[name] for name in names])
    origin = np.array([free.encode(_parameter_value(start, free)) for free in _FREE] + [0.0])

    def residuals(point: Floats) -> Floats:
        candidate = _parameters_at(fitted, origin + point - 1.0)
        mean = np.zeros(len(names))
        for seed in FIT_SEEDS:
            end = int(panel.closes[-1])
            bars = simulate_bars(seed, days, len(coins), panel.interval, end, candidate)
            facts = measure_facts(bars)
            mean += [facts[name] for name in names]
        return np.asarray(np.r_[(mean / len(FIT_SEEDS) - goal) / scale, _PULL * (point - 1.0)])

    # Around 1, because the step of the numeric derivative is relative.
    search = least_squares(
        residuals,
        np.ones(len(origin)),
        diff_step=[_STEP] * len(origin),
        max_nfev=steps,
        loss="soft_l1",
    )
    best = _parameters_at(fitted, origin + search.x - 1.0)
    return msgspec.structs.replace(
        best,
        volatility=msgspec.structs.replace(best.volatility, sub_steps=start.volatility.sub_steps),
        implied_volatility=start.implied_volatility,
        coins=_in_order_of(best.coins, start.coins),
    )


def _parameter_value(parameters: MarketParameters, free: _FreeParameter) -> float:
    return float(getattr(getattr(parameters, free.table), free.key))


def _parameters_at(parameters: MarketParameters, point: Floats) -> MarketParameters:
    """The parameters at a point of the search; its last coordinate shifts all market shares."""
    tables: dict[str, dict[str, float]] = {}
    for free, value in zip(_FREE, point[:-1], strict=True):
        tables.setdefault(free.table, {})[free.key] = free.decode(float(value))
    jumps = tables["jumps"]
    share = (jumps["common_per_year"] + jumps["own_per_year"]) * jumps["size"] ** 2 / 365.0
    if share > 0.5:
        jumps["size"] *= (0.5 / share) ** 0.5
    changes = {
        name: msgspec.structs.replace(getattr(parameters, name), **values)
        for name, values in tables.items()
    }
    coins = tuple(
        msgspec.structs.replace(
            coin, market_share=float(expit(logit(coin.market_share) + point[-1]))
        )
        for coin in parameters.coins
    )
    return msgspec.structs.replace(parameters, coins=coins, **changes)


def _in_order_of(fitted: tuple[Coin, ...], start: tuple[Coin, ...]) -> tuple[Coin, ...]:
    """Coins in the order of the start, new ones last, so that "the first n" stays what it was."""
    by_symbol = {coin.symbol: coin for coin in fitted}
    known = [by_symbol.pop(coin.symbol, coin) for coin in start]
    return (*known, *by_symbol.values())


def _season(panel: BarPanel) -> tuple[float, ...]:
    """Volatility by UTC hour over its mean, from Parkinson variances of all coins."""
    variance = np.log(panel.values[:, :, HIGH] / panel.values[:, :, LOW]) ** 2
    variance /= np.nanmean(variance, axis=0)
    hour = panel.opens // HOUR % 24
    # Medians over coins of the mean root variance: single crashes have no hour.
    profile = np.array(
        [np.median(np.nanmean(np.sqrt(variance[hour == h]), axis=0)) for h in range(24)]
    )
    return tuple(float(x) for x in profile / profile.mean())


def _coins(panel: BarPanel, start: MarketParameters) -> tuple[Coin, ...]:
    close = panel.values[:, :, CLOSE]
    returns = np.diff(np.log(close), axis=0)
    volatility = np.nanstd(returns, axis=0) * np.sqrt(HOURS_PER_YEAR)
    turnover = np.nanmean((close * panel.values[:, :, VOLUME])[-TURNOVER_DAYS * 24 :], axis=0) * 24
    shares = _market_shares(returns)
    known = {coin.symbol: coin for coin in start.coins}
    plainest = start.coins[-1]
    fitted = []
    for i, symbol in enumerate(panel.symbols):
        last = close[np.flatnonzero(np.isfinite(close[:, i]))[-1], i]
        fitted.append(
            msgspec.structs.replace(
                known.get(symbol, plainest),
                symbol=symbol,
                price=float(last),
                volatility=float(volatility[i]),
                market_share=float(shares[i]),
                turnover=float(turnover[i]),
                fitted=("bars",),
            )
        )
    return tuple(fitted)


def _market_shares(returns: Floats) -> Floats:
    """w with √(w_i w_j) nearest to the correlations, by iterated principal factor."""
    known = returns[np.isfinite(returns).all(axis=1)]
    correlation = np.array(np.corrcoef(known.T), dtype=np.float64, ndmin=2)
    share = (correlation.sum(axis=1) - 1.0) / (len(correlation) - 1)
    for _ in range(200):
        np.fill_diagonal(correlation, share)
        values, vectors = np.linalg.eigh(correlation)
        share = np.clip(values[-1] * vectors[:, -1] ** 2, 0.02, 0.98)
    return np.asarray(share)
