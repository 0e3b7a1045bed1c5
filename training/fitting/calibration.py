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
    """Fit `fit_line` and refuse a slope that is not positive.

    Raises
    ------
    ModelError
        As `fit_line`, or the slope is not positive: such a calibrator would turn the order of the
        accounts around.
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
    """Fit slope and intercept of ``p = expit(slope · raw + intercept)``.

    The joint maximum of the log likelihood, in float64. Where a threshold on the score splits
    the classes perfectly that maximum does not exist, and Platt's own targets
    ``(N₊ + 1)/(N₊ + 2)`` and ``1/(N₋ + 2)`` take the place of 1 and 0.

    Parameters
    ----------
    raw:
        Raw scores (log odds), finite, shape (n,).
    y:
        Outcomes, 0 or 1, shape (n,); N₊ ones and N₋ zeros by weight.
    weight:
        How often each row counts, above 0, shape (n,); None weighs every row 1.

    Returns
    -------
    tuple
        Slope, of either sign, and intercept.

    Raises
    ------
    ModelError
        Shapes disagree, a score is not finite, an outcome is not 0 or 1, only one class is
        present, or the score is constant.

    References
    ----------
    Platt (1999), "Probabilistic outputs for support vector machines"; Lin, Lin and Weng (2007),
    "A note on Platt's probabilistic outputs for support vector machines".
    """
    score = np.asarray(raw, dtype=np.float64)
    outcome = np.asarray(y, dtype=np.float64)
    if score.ndim != 1 or outcome.shape != score.shape:
        raise ModelError(
            f"Platt calibration was given scores {score.shape} and outcomes {outcome.shape}; "
            "expected two arrays of one shape (n,)"
        )
    if not np.isfinite(score).all():
        raise ModelError("Platt calibration needs finite scores; score the rows again")
    if not ((outcome == 0.0) | (outcome == 1.0)).all():
        raise ModelError("Platt calibration needs outcomes of 0 or 1; check the labels")
    weights = np.ones(len(score)) if weight is None else np.asarray(weight, dtype=np.float64)
    # Written so that NaN fails too.
    if weights.shape != score.shape or not ((weights > 0.0) & (weights < np.inf)).all():
        raise ModelError(
            f"Platt calibration was given weights of shape {weights.shape} for scores "
            f"{score.shape}; expected one finite weight above 0 a row: leave out the others"
        )
    positives = float(weights @ outcome)
    negatives = float(weights @ (1.0 - outcome))
    if not positives or not negatives:
        raise ModelError(
            f"Platt calibration was given {positives:g} positives and {negatives:g} negatives; "
            "it needs both: widen the calibration span"
        )
    if score.min() == score.max():
        raise ModelError(
            f"Platt calibration was given the constant score {score[0]:g}; its slope is undefined: "
            "train a model that tells accounts apart"
        )

    if separable(score, outcome):
        # A soft target is a positive and a negative row that share the weight.
        high, low = (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0)
        target = np.where(outcome > 0.0, high, low)
        weights = np.concatenate((target * weights, (1.0 - target) * weights))
        score, outcome = np.tile(score, 2), np.repeat([1.0, 0.0], len(target))
    columns = score[:, None]
    mean, scale = standard_scale(columns)
    coef, centre = fit_logistic((columns - mean) / scale, outcome, weights)
    slope = float(coef[0] / scale[0])
    return slope, float(centre - slope * mean[0])


def platt_probability(raw: npt.ArrayLike, slope: float, intercept: float) -> FloatArray:
    """``expit(slope · raw + intercept)``, of the shape of ``raw``; NaN stays NaN."""
    score = np.asarray(raw, dtype=np.float64)
    return np.asarray(expit(slope * score + intercept), dtype=np.float64)
