"""Platt calibration: a logistic line with a positive slope on a raw score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from market.core.errors import ModelError
from training.fitting.logistic import fit_logistic, separable, standard_scale

FloatArray = npt.NDArray[np.float64]


def fit_platt(
    raw: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> tuple[float, float]:
    """Slope and intercept of ``p = expit(slope · raw + intercept)``.

    The joint maximum of the log likelihood, in float64. Where a threshold on the score splits
    the classes perfectly that maximum does not exist, and Platt's own targets
    ``(N₊ + 1)/(N₊ + 2)`` and ``1/(N₋ + 2)`` take the place of 1 and 0.

    Parameters
    ----------
    raw:
        Raw scores (log odds), finite, shape (n,).
    y:
        Outcomes, 0 or 1, shape (n,).
    weight:
        Weights ≥ 0, shape (n,); None weighs every row 1. N₊ and N₋ are sums of weights.

    Returns
    -------
    tuple
        Slope > 0 and intercept.

    Raises
    ------
    ModelError
        Shapes disagree, a value is not finite, an outcome is not 0 or 1, only one class is
        present, the score is constant, or the best slope is not positive: such a calibrator
        would turn the order of the accounts around.

    References
    ----------
    Platt (1999), "Probabilistic outputs for support vector machines"; Lin, Lin and Weng (2007),
    "A note on Platt's probabilistic outputs for support vector machines".
    """
    slope, intercept = fit_line(raw, y, weight)
    if not slope > 0.0:
        raise ModelError(
            f"Platt calibration found slope {slope:g}; expected a positive one: the score ranks "
            "the calibration rows the wrong way, retrain the model"
        )
    return slope, intercept


def fit_line(
    raw: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> tuple[float, float]:
    """Like `fit_platt`, with a slope of either sign: one observation of the line, not a model."""
    score = np.asarray(raw, dtype=np.float64)
    outcome = np.asarray(y, dtype=np.float64)
    weights = np.ones(len(score)) if weight is None else np.asarray(weight, dtype=np.float64)
    if score.ndim != 1 or outcome.shape != score.shape or weights.shape != score.shape:
        raise ModelError(
            f"Platt calibration was given scores {score.shape}, outcomes {outcome.shape} and "
            f"weights {weights.shape}; expected three arrays of one shape (n,)"
        )
    if not np.isfinite(score).all() or not np.isfinite(weights).all():
        raise ModelError("Platt calibration needs finite scores and weights; score the rows again")
    if not ((outcome == 0.0) | (outcome == 1.0)).all():
        raise ModelError("Platt calibration needs outcomes of 0 or 1; check the labels")

    used = weights > 0.0
    if not used.all():
        score, outcome, weights = score[used], outcome[used], weights[used]
    positives = float((weights * outcome).sum())
    negatives = float((weights * (1.0 - outcome)).sum())
    if positives <= 0.0 or negatives <= 0.0:
        raise ModelError(
            f"Platt calibration was given {positives:g} positives and {negatives:g} negatives; "
            "it needs both: widen the calibration span"
        )
    if score.min() == score.max():
        raise ModelError(
            f"Platt calibration was given the constant score {score[0]:g}; its slope is undefined: "
            "train a model that tells accounts apart"
        )

    target = outcome
    if separable(score, outcome):
        high = (positives + 1.0) / (positives + 2.0)
        low = 1.0 / (negatives + 2.0)
        target = np.where(outcome > 0.0, high, low)
    columns = score[:, None]
    mean, scale = standard_scale(columns)
    coef, centre = fit_logistic(columns, target, weights, mean=mean, scale=scale)
    slope = float(coef[0] / scale[0])
    intercept = float(centre - slope * mean[0])
    return slope, intercept


def platt_probability(raw: npt.ArrayLike, slope: float, intercept: float) -> FloatArray:
    """``expit(slope · raw + intercept)``, of the shape of ``raw``; NaN stays NaN."""
    score = np.asarray(raw, dtype=np.float64)
    return np.asarray(expit(slope * score + intercept), dtype=np.float64)
