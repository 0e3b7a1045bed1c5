"""Backtests of value at risk: number and independence of exceedances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import xlog1py, xlogy
from scipy.stats import chi2

from market.core.errors import DataError

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LikelihoodRatio:
    """Outcome of a likelihood-ratio test.

    Attributes
    ----------
    statistic:
        At least 0.
    p_value:
        Probability of a larger statistic under the stated rate (chi-squared).
    """

    statistic: float
    p_value: float


def kupiec(exceedances: int, windows: int, rate: float) -> LikelihoodRatio:
    """Test whether exceedances come at the stated rate (proportion of failures).

    ``LR = 2 [ln L(x/n) - ln L(rate)]`` with ``ln L(q) = x ln q + (n - x) ln(1 - q)``, chi-squared
    with one degree of freedom.

    Parameters
    ----------
    exceedances, windows:
        x of n windows, ``0 <= x <= n``, n at least 1.
    rate:
        Stated probability of an exceedance, in (0, 1).

    Raises
    ------
    DataError
        A count or the rate is out of its range.

    References
    ----------
    Kupiec (1995), "Techniques for verifying the accuracy of risk measurement models", Journal of
    Derivatives 3(2), 73-84.
    """
    if not 0 <= exceedances <= windows or windows == 0 or not 0.0 < rate < 1.0:
        raise DataError(
            f"{exceedances} exceedances of {windows} windows at rate {rate} cannot be tested; "
            "expected 0 to n of n >= 1 windows and a rate between 0 and 1"
        )
    covered = windows - exceedances
    ratio = _log_likelihood(exceedances, covered, exceedances / windows) - _log_likelihood(
        exceedances, covered, rate
    )
    return _test(ratio, 1)


def christoffersen_independence(hits: Bools) -> LikelihoodRatio:
    """Test whether an exceedance is as likely after an exceedance as after none.

    With n_ij the transitions from i to j, ``LR = 2 [ln L(pi_0, pi_1) - ln L(pi)]`` for the
    first-order Markov chain against one rate, chi-squared with one degree of freedom. Where no
    transition starts or ends in an exceedance the statistic is 0.

    Parameters
    ----------
    hits:
        Exceedances in order of time, shape (n,), n at least 2.

    Raises
    ------
    DataError
        There are under two windows.

    References
    ----------
    Christoffersen (1998), "Evaluating interval forecasts", International Economic Review 39(4),
    841-862.
    """
    if len(hits) < 2:
        raise DataError(f"{len(hits)} window(s) have no transitions; expected at least 2")
    before, after = hits[:-1], hits[1:]
    n00, n01 = int((~before & ~after).sum()), int((~before & after).sum())
    n10, n11 = int((before & ~after).sum()), int((before & after).sum())
    chain = _max_log_likelihood(n01, n00) + _max_log_likelihood(n11, n10)
    return _test(chain - _max_log_likelihood(n01 + n11, n00 + n10), 1)


def conditional_coverage(hits: Bools, rate: float) -> LikelihoodRatio:
    """Test rate and independence together: the sum of both statistics, two degrees of freedom.

    Parameters and errors as for `kupiec` and `christoffersen_independence`.

    References
    ----------
    Christoffersen (1998), "Evaluating interval forecasts", section 3.3.
    """
    parts = kupiec(int(hits.sum()), len(hits), rate), christoffersen_independence(hits)
    return _test(0.5 * sum(part.statistic for part in parts), 2)


def _log_likelihood(exceeded: int, covered: int, rate: float) -> float:
    return float(xlogy(exceeded, rate) + xlog1py(covered, -rate))


def _max_log_likelihood(exceeded: int, covered: int) -> float:
    """Log likelihood at the observed rate; 0 without observations."""
    total = exceeded + covered
    return _log_likelihood(exceeded, covered, exceeded / total) if total else 0.0


def _test(log_ratio: float, degrees: int) -> LikelihoodRatio:
    statistic = max(0.0, 2.0 * log_ratio)  # rounding can leave a hair below zero
    return LikelihoodRatio(statistic, float(chi2.sf(statistic, degrees)))
