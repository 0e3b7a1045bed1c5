"""Scenarios of history: daily closes turned into moves of today's prices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from msgspec import UNSET
from numba import njit

from margin.engines.historical.rules import (
    LongVolatilityRules,
    SimulationRules,
    StressedObservationRules,
    VolatilityFilter,
)
from margin.rules.floors import remaining_share
from market.bars.daily_closes import DailyCloses

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScenarioSet:
    """K scenarios of S symbols.

    Attributes
    ----------
    ended:
        End of the period that each repeats, nanoseconds, rising, shape (K,).
    growth:
        Relative move of the price, ``exp(scaled log return) - 1``, shape (K, S); NaN where the
        symbol has none.
    known:
        Symbols with enough of them, shape (S,).
    """

    ended: Ints
    growth: Floats
    known: Bools


@dataclass(frozen=True, slots=True)
class Scenarios:
    """Scenario sets of a rule set at one time.

    Attributes
    ----------
    current:
        The look-back, at the volatility of now where it is filtered.
    long:
        The look-back at the volatility of ten years; None unless (c) is on.
    stressed:
        The stressed observations as they were; None unless (b) is on.
    stress:
        Volatility of now over that of ten years, the median over the symbols; NaN if unknown.
    buffer_share:
        Share of the buffer that remains at this stress; 0 unless (a) is on.
    """

    current: ScenarioSet
    long: ScenarioSet | None
    stressed: ScenarioSet | None
    stress: float
    buffer_share: float


@lru_cache(maxsize=8)
def historical_scenarios(history: DailyCloses, rules: SimulationRules) -> Scenarios:
    r"""The scenarios of a history; the result is cached.

    With daily variance v_d, its half-life H and the period p, everything by symbol::

        volatility_d = sqrt(sum(w_j * v_j) / sum(w_j)),  w_j = 2^(-(d - j) / H), j <= d
        return_d     = ln(close_d / close_(d - p))
        scaled_d     = return_d * clip(target / volatility_(d - p), least_ratio, most_ratio)

    The volatility of a period is the one known when it began, so no return scales itself. The
    target is the volatility of the newest day (filtered historical simulation); that of all days
    of ten years for the long scenarios; without the filter the current scenarios are
    the returns themselves. Stressed observations are never scaled: they are the periods of the ten
    years that ended in the highest market volatility, the median over the symbols of volatility
    over long volatility.

    A return is unknown where a close at one of its ends is, and, where it is scaled, where one of
    the volatilities is, that of the first H days, or where both are 0. A symbol is known to a set
    where it has `least_known_share` of the look-back, or of the stressed observations, and one
    return at least.

    Parameters
    ----------
    history:
        Daily closes up to now.
    rules:
        ``[simulation]``.

    References
    ----------
    Barone-Adesi, Giannopoulos, Vosper (1999), "VaR without correlations for portfolios of
    derivative securities"; Hull, White (1998), "Incorporating volatility updating into the
    historical simulation method for value-at-risk"; Commission Delegated Regulation (EU) No
    153/2013, Articles 25 and 28.
    """
    period = rules.period_days
    volatility = ewma_volatility(history.variance, rules.volatility_half_life_days)
    long = _long_volatility(history.variance)
    newest = volatility[-1] if len(history) else np.full(len(history.symbols), np.nan)
    returns = np.log(history.close[period:] / history.close[:-period])
    before, ended = volatility[:-period], history.ended[period:]
    window = slice(-rules.lookback_days, None)

    def at(target: Floats | None, bounds: VolatilityFilter) -> ScenarioSet:
        scaled = returns[window]
        if target is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = target / before[window]
            scaled = scaled * np.clip(ratio, bounds.least_ratio, bounds.most_ratio)
        return _scenario_set(ended[window], scaled, rules.lookback_days, rules.least_known_share)

    filtered = rules.filter
    with np.errstate(divide="ignore", invalid="ignore"):
        stress = _median(newest / long)
        stress_by_day = volatility[period:] / long
    stressed = None
    own = rules.stressed_weight
    if isinstance(own, StressedObservationRules) and own.enabled:
        chosen = _most_volatile(stress_by_day, own.observations)
        stressed = _scenario_set(
            ended[chosen], returns[chosen], own.observations, rules.least_known_share
        )
    floor = rules.long_volatility
    on = isinstance(floor, LongVolatilityRules) and floor.enabled
    bounds = VolatilityFilter() if filtered is UNSET else filtered
    buffer = rules.buffer
    share = 0.0 if buffer is UNSET or not buffer.enabled else remaining_share(stress, buffer)
    return Scenarios(
        current=at(None if filtered is UNSET else newest, bounds),
        long=at(long, bounds) if on else None,
        stressed=stressed,
        stress=stress,
        buffer_share=share,
    )


def ewma_volatility(variance: Floats, half_life_days: float) -> Floats:
    """Daily volatility with exponentially falling weights, shape (D, S).

    NaN until days of one half-life have been seen; a day without variance changes nothing. A
    half-life of 0 keeps no memory: the root of the newest variance.
    """
    decay = 0.5 ** (1.0 / half_life_days) if half_life_days > 0.0 else 0.0
    volatility: Floats = _ewma(variance, decay, half_life_days)
    return volatility


@njit(cache=True, error_model="numpy")
def _ewma(variance, decay, warm_up):  # type: ignore[no-untyped-def]
    out = np.full(variance.shape, np.nan)
    for s in range(variance.shape[1]):
        total, weight, seen = 0.0, 0.0, 0.0
        for d in range(variance.shape[0]):
            v = variance[d, s]
            if v == v:
                total = decay * total + v
                weight = decay * weight + 1.0
                seen += 1.0
            if seen >= warm_up and seen > 0.0:
                out[d, s] = np.sqrt(total / weight)
    return out


def _long_volatility(variance: Floats) -> Floats:
    """Root of the mean of all daily variances, shape (S,); NaN without one."""
    known = ~np.isnan(variance)
    days = known.sum(axis=0)
    total = np.where(known, variance, 0.0).sum(axis=0)
    mean = np.full(len(days), np.nan)
    np.divide(total, days, out=mean, where=days > 0)
    volatility: Floats = np.sqrt(mean)
    return volatility


def _scenario_set(ended: Ints, scaled: Floats, expected: int, share: float) -> ScenarioSet:
    enough = np.isfinite(scaled).sum(axis=0) >= max(share * expected, 1.0)
    growth = np.where(np.isfinite(scaled), np.expm1(scaled), np.nan)
    return ScenarioSet(ended, np.ascontiguousarray(growth), enough)


def _most_volatile(stress: Floats, count: int) -> Ints:
    """Rows of the highest median stress in order of time; ties go to the older ones."""
    finite = np.where(np.isfinite(stress), stress, np.nan)
    by_day = np.full(len(stress), np.nan)
    some = ~np.isnan(finite).all(axis=1)
    by_day[some] = np.nanmedian(finite[some], axis=1)
    ranked = np.argsort(-np.nan_to_num(by_day, nan=-np.inf), kind="stable")
    known = ranked[np.isfinite(by_day[ranked])]
    return np.sort(known[:count])


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
