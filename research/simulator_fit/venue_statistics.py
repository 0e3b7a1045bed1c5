"""Statistics of a venue's data other than bars, with one method for real and simulated data.

References
----------
Brunnermeier and Pedersen (2009) for liquidity against volatility; Carr and Wu (2009) for the
premium of implied over realised variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_HOURS_PER_YEAR = 24.0 * 365.0
_MONTH_HOURS = 720


@dataclass(frozen=True, slots=True)
class FundingFacts:
    """Medians over coins of the rates settled every eight hours.

    `mean` and `spread` (standard deviation), fractions of notional a settlement; `at_interest`,
    the share of rates equal to the interest, and `negative`, the share below zero;
    autocorrelations over one settlement, a day and a week.
    """

    mean: float
    spread: float
    at_interest: float
    negative: float
    memory_8h: float
    memory_1d: float
    memory_7d: float


@dataclass(frozen=True, slots=True)
class BasisFacts:
    """Medians over coins of hourly log(perpetual / spot): mean, standard deviation and
    autocorrelations."""

    mean: float
    spread: float
    memory_1h: float
    memory_8h: float
    memory_24h: float
    memory_168h: float


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """An hourly index of implied volatility against the closes of its coin.

    `premium`, root mean square of the index over that of the returns of the same hours, less 1;
    `spread`, standard deviation of its logarithm; `follows`, correlation of its logarithm with
    that of the realised volatility of the 30 days before; autocorrelations over a day and 30 days.
    """

    premium: float
    spread: float
    follows: float
    memory_1d: float
    memory_30d: float


def measure_funding(rates: Sequence[Floats], interest: float) -> FundingFacts:
    """Facts of settled rates, one array a coin in order of time, no NaN."""
    return FundingFacts(
        mean=_middle([float(r.mean()) for r in rates]),
        spread=_middle([float(r.std()) for r in rates]),
        at_interest=_middle([float((np.abs(r - interest) < 1e-9).mean()) for r in rates]),
        negative=_middle([float((r < 0.0).mean()) for r in rates]),
        memory_8h=_middle([memory(r, 1) for r in rates]),
        memory_1d=_middle([memory(r, 3) for r in rates]),
        memory_7d=_middle([memory(r, 21) for r in rates]),
    )


def measure_basis(basis: Sequence[Floats]) -> BasisFacts:
    """Facts of hourly basis, one array a coin in order of time, no NaN."""
    return BasisFacts(
        mean=_middle([float(b.mean()) for b in basis]),
        spread=_middle([float(b.std()) for b in basis]),
        memory_1h=_middle([memory(b, 1) for b in basis]),
        memory_8h=_middle([memory(b, 8) for b in basis]),
        memory_24h=_middle([memory(b, 24) for b in basis]),
        memory_168h=_middle([memory(b, 168) for b in basis]),
    )


def measure_index(index: Floats, closes: Floats) -> IndexFacts:
    """Facts of an index (annualised decimals) and closes at the same hours; NaN is left out."""
    squared = np.r_[np.nan, np.diff(np.log(closes)) ** 2] * _HOURS_PER_YEAR
    both = np.isfinite(index) & np.isfinite(squared)
    past = np.full(len(squared), np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(squared, _MONTH_HOURS)
    past[_MONTH_HOURS - 1 :] = 0.5 * np.log(windows.mean(axis=1))
    log = np.log(index)
    return IndexFacts(
        premium=float(np.sqrt((index[both] ** 2).mean() / squared[both].mean()) - 1.0),
        spread=float(np.nanstd(log)),
        follows=correlation(log, past),
        memory_1d=memory(log, 24),
        memory_30d=memory(log, _MONTH_HOURS),
    )


def memory(series: Floats, lag: int) -> float:
    """Autocorrelation at a lag, over the pairs without NaN."""
    return correlation(series[lag:], series[:-lag])


def correlation(x: Floats, y: Floats) -> float:
    """Correlation over the pairs without NaN."""
    both = np.isfinite(x) & np.isfinite(y)
    return float(np.corrcoef(x[both], y[both])[0, 1])


def _middle(values: list[float]) -> float:
    return float(np.median(values))
