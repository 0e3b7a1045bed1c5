"""Platt calibration of a drifting market: a Kalman filter over the lines of quarters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market.core.errors import ModelError
from training.fitting.calibration import fit_line, platt_probability

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

QUARTER_DAYS = 91
MIN_BREACH_DAYS = 10
"""Days with a positive outcome that one line needs; shorter stretches are joined."""

DRIFTS: tuple[float, ...] = (0.0, *np.geomspace(1e-3, 10.0, 81).tolist())
"""Drifts that are tried, twenty a decade."""


@dataclass(frozen=True, slots=True)
class KalmanLine:
    """The line at the end of the sample.

    Attributes
    ----------
    slope, intercept:
        Of ``p = expit(slope * raw + intercept)``; the slope is above 0.
    drift:
        Variance of one quarter's step over the mean sampling variance of a quarter's line;
        0 where the quarters do not differ beyond chance.
    quarters:
        Number of lines that were filtered.
    """

    slope: float
    intercept: float
    drift: float
    quarters: int


def fit_kalman_line(
    raw: npt.ArrayLike,
    y: npt.ArrayLike,
    day: npt.ArrayLike,
    drifts: Sequence[float] = DRIFTS,
) -> KalmanLine:
    """Fit the calibration line at the end of the sample, filtered from the lines of its quarters.

    Model: quarter k has the line theta_k (slope, intercept), of which its rows give the estimate
    t_k with cluster-robust covariance ``V_k = H^-1 (sum_d g_d g_d') H^-1`` (H the Hessian, g_d
    the gradient summed over day d, times D/(D - 1)); the line itself walks:
    ``theta_k = theta_{k-1} + N(0, q mean(V))``. The result is the Kalman filter's mean after the
    last quarter, at the drift q among `drifts` with the largest likelihood of the quarters after
    the first. At q = 0 that is the precision-weighted mean of all quarters; the larger q, the more
    the last ones count.

    Rows of one day share one market, so a quarter holds ninety observations rather than its
    many rows. Quarters are 91 days counted back from the last day; a stretch with fewer than
    `MIN_BREACH_DAYS` days of positive outcomes is joined with the one before it.

    Parameters
    ----------
    raw:
        Raw scores (log odds), finite, shape (n,).
    y:
        Outcomes, 0 or 1, shape (n,).
    day:
        Number of the day of each row, shape (n,), in any order.
    drifts:
        Drifts to choose from, at least 0; by default 0 and 0.001 to 10.

    Raises
    ------
    ModelError
        As `training.fitting.calibration.fit_platt` on the whole sample, or the filtered slope is
        not positive.

    References
    ----------
    Harvey (1989), "Forecasting, structural time series models and the Kalman filter", ch. 4;
    Liang and Zeger, Biometrika 73 (1986) 13-22 (clustered covariance).
    """
    score, outcome = np.asarray(raw, dtype=np.float64), np.asarray(y, dtype=np.float64)
    days = np.asarray(day, dtype=np.int64)
    if not score.shape == outcome.shape == days.shape:
        raise ModelError(
            f"calibration was given scores {score.shape}, outcomes {outcome.shape} and days "
            f"{days.shape}; expected three arrays of one shape (n,)"
        )
    stretches = _quarters(days, outcome)
    if len(stretches) == 1:
        lines, drift = np.array([fit_line(score, outcome)]), 0.0
        line = lines[0]
    else:
        lines = np.empty((len(stretches), 2))
        covariances = np.empty((len(stretches), 2, 2))
        for k, rows in enumerate(stretches):
            lines[k] = fit_line(score[rows], outcome[rows])
            covariances[k] = _clustered_covariance(score[rows], outcome[rows], days[rows], lines[k])
        filtered = [local_level(lines, covariances, q) for q in drifts]
        best = int(np.argmax([likelihood for _, likelihood in filtered]))
        line, drift = filtered[best][0], float(drifts[best])
    if not line[0] > 0.0:
        raise ModelError(
            f"the calibration slope is {line[0]:.4g}; expected it above 0: the score ranks the "
            "rows the wrong way, retrain on more data"
        )
    return KalmanLine(float(line[0]), float(line[1]), drift, len(stretches))


def local_level(
    observed: FloatArray, covariance: FloatArray, drift: float
) -> tuple[FloatArray, float]:
    """Last filtered mean, shape (2,), and log likelihood (without its constant) of a random walk.

    Parameters
    ----------
    observed:
        Noisy observations of the level, shape (K, 2), oldest first.
    covariance:
        Their covariances, shape (K, 2, 2).
    drift:
        Variance of one step in units of the mean covariance, at least 0.
    """
    step = drift * covariance.mean(axis=0)
    mean, spread, likelihood = observed[0], covariance[0], 0.0
    for line, noise in zip(observed[1:], covariance[1:], strict=True):
        spread = spread + step
        total, surprise = spread + noise, line - mean
        likelihood -= 0.5 * float(
            surprise @ np.linalg.solve(total, surprise) + np.linalg.slogdet(total)[1]
        )
        gain = np.linalg.solve(total, spread).T
        mean, spread = mean + gain @ surprise, spread - gain @ spread
    return mean, likelihood


def _quarters(day: IntArray, y: FloatArray) -> list[npt.NDArray[np.intp]]:
    """Rows of each stretch, oldest first; every stretch but a lone one has enough breach days."""
    age = (day.max() - day) // QUARTER_DAYS
    rows = np.arange(len(day))
    stretches: list[npt.NDArray[np.intp]] = []
    pending = rows[:0]
    for k in range(int(age.max()) + 1):
        pending = np.concatenate((pending, rows[age == k]))
        hit = y[pending] > 0.0
        if len(np.unique(day[pending[hit]])) >= MIN_BREACH_DAYS and not hit.all():
            stretches.append(pending)
            pending = rows[:0]
    if len(pending):
        older = stretches.pop() if stretches else rows[:0]
        stretches.append(np.concatenate((older, pending)))
    return stretches[::-1]


def _clustered_covariance(
    raw: FloatArray, y: FloatArray, day: IntArray, line: FloatArray
) -> FloatArray:
    names, index = np.unique(day, return_inverse=True)
    p = platt_probability(raw, line[0], line[1])
    columns = np.stack([raw, np.ones(len(raw))])
    hessian = (columns * (p * (1.0 - p))) @ columns.T
    gradient = np.stack([np.bincount(index, weights=(p - y) * column) for column in columns])
    meat = gradient @ gradient.T * (len(names) / (len(names) - 1.0))
    bread = np.linalg.inv(hessian)
    covariance: FloatArray = bread @ meat @ bread
    return covariance
