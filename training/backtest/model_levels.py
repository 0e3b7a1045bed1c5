"""The model's level G at many account-times, as a function of one factor on every p*.

G falls as the factor rises. It is searched at a few factors once, and taken as linear in the log of
the factor between two neighbours, so that any number of budgets can be solved without the model.
Neighbours are chosen so that the average level grows by about the same share from one to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.account.frame import compute_aggregates
from features.state.market_state import MarketFeatures
from models.forecaster import Forecaster
from training.labels.account_panel import AccountPanel, take_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Progress = Callable[[float], None]

REACH = 2.8
"""Average levels that the factors reach beyond the highest budget and below the lowest, as a
factor: floor, cap and pacing move the average of the whole add-on away from that of G."""

_STEP = 1.35
"""Growth of the average level from one factor to the next."""

_TRIAL_FACTORS = np.geomspace(1e-6, 1e3, 37)
_TRIAL_ROWS = 500
_CHUNK = 4_096
_WORKERS = 2


@dataclass(frozen=True, slots=True)
class LevelCurves:
    """Levels of N account-times by the factor.

    Attributes
    ----------
    factors:
        Rising, shape (K,).
    levels:
        G at each, settlement currency, shape (N, K); NaN without a forecast.
    """

    factors: Floats
    levels: Floats

    def at(self, factor: float) -> Floats:
        """Levels at a factor, shape (N,); beyond the known factors those of the nearest."""
        place = np.interp(np.log(factor), np.log(self.factors), np.arange(len(self.factors)))
        low = min(int(place), len(self.factors) - 2)
        weight = place - low
        below, above = self.levels[:, low], self.levels[:, low + 1]
        return np.asarray(below + weight * (above - below))


def choose_factors(
    times: AccountPanel,
    counted: Ints,
    market: MarketFeatures,
    forecaster: Forecaster,
    targets: Mapping[int, float],
    budgets: tuple[float, float],
    reach: float = REACH,
) -> Floats:
    """Factors whose average levels over gross notional reach around the budgets, shape (K,).

    Parameters
    ----------
    times, market:
        Books, and market features on their grid.
    counted:
        Account-times that averages go over; an even choice of them is tried.
    forecaster, targets:
        The model, and the tolerated probability by horizon.
    budgets:
        Lowest and highest average level over gross notional.
    reach:
        See `REACH`.

    Raises
    ------
    ModelError
        A targeted horizon is not among the model's.
    """
    chosen = counted[:: max(1, len(counted) // _TRIAL_ROWS)]
    levels = search_levels(times, chosen, market, forecaster, targets, _TRIAL_FACTORS)
    gross = times.gross_notional()[chosen, np.newaxis]
    average = np.nanmean(levels / gross, axis=0)
    # Rising in the log of the average; equal averages say nothing of the factor between.
    keep = np.concatenate([[True], np.diff(average) < 0.0]) & (average > 0.0)
    known, factors = np.log(average[keep])[::-1], np.log(_TRIAL_FACTORS[keep])[::-1]
    highest, lowest = np.log(budgets[1] * reach), np.log(budgets[0] / reach)
    count = 2 + math.ceil((highest - lowest) / math.log(_STEP))
    return np.unique(np.exp(np.interp(np.linspace(highest, lowest, count), known, factors)))


def level_curves(
    times: AccountPanel,
    market: MarketFeatures,
    forecaster: Forecaster,
    targets: Mapping[int, float],
    factors: Floats,
    progress: Progress | None = None,
) -> LevelCurves:
    """Search G at every factor and account-time; NaN without usable market data."""
    usable = np.flatnonzero(times.usable & (times.gross_notional() > 0.0)).astype(np.int64)
    levels = np.full((len(times), len(factors)), np.nan)
    levels[usable] = search_levels(times, usable, market, forecaster, targets, factors, progress)
    return LevelCurves(factors, levels)


def search_levels(
    times: AccountPanel,
    chosen: Ints,
    market: MarketFeatures,
    forecaster: Forecaster,
    targets: Mapping[int, float],
    factors: Floats,
    progress: Progress | None = None,
) -> Floats:
    """G of chosen account-times at each factor, at most the gross notional, shape (n, K).

    Factors must rise. Threads share the account-times; each has the same bits in any share.
    """
    out = np.empty((len(chosen), len(factors)))
    gross = times.gross_notional()

    def search(begin: int) -> int:
        part = chosen[begin : begin + _CHUNK]
        aggregates = compute_aggregates(take_rows(times.rows, part), market)
        columns = forecaster.features(aggregates)
        level = gross[part]
        for k, factor in enumerate(factors.tolist()):
            tolerated = {hours: min(1.0, factor * p) for hours, p in targets.items()}
            # What suffices for a smaller factor suffices for a larger one.
            level = forecaster.levels_by_trees(aggregates, level, tolerated, columns)
            out[begin : begin + len(part), k] = level
        return begin + len(part)

    with ThreadPoolExecutor(_WORKERS) as pool:
        for done in pool.map(search, range(0, len(chosen), _CHUNK)):
            if progress is not None:
                progress(done / len(chosen))
    return out
