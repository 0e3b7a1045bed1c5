"""Logistic regression by scikit-learn's Newton solver, kept as plain numbers.

One fit serves the calibration line of the metrics, Platt's calibrator and the logistic baselines.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from market.core.errors import ModelError

FloatArray = npt.NDArray[np.float64]

RIDGE = 1.0
"""Penalty of the baselines: negligible beside thousands of rows, it keeps separable or collinear
columns finite."""
TOLERANCE = 1e-13
"""The solver stops at this gradient of the mean log loss; see `docs/experiments/logistic.md`."""
BASELINE_TOLERANCE = 1e-10
"""That of the baselines, whose probabilities are then right to 1e-7 in half the time."""
_WARNINGS = Lock()
"""Filters of warnings belong to the process: one thread at a time changes them."""
MAX_GRADIENT = 1e-8
"""Largest gradient of the mean log loss that counts as converged."""


def standard_scale(
    x: FloatArray, weight: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the columns of ``x``, shape (n, k), under row weights.

    A constant column gets scale 1: centring makes it 0.
    """
    if weight is None:
        mean, deviation = x.mean(axis=0), x.std(axis=0)
    else:
        share = weight / weight.sum()
        mean = share @ x
        deviation = np.sqrt(share @ np.square(x - mean))
    constant = x.min(axis=0) == x.max(axis=0)
    # The rounded mean of a constant column can miss the constant by one bit.
    mean = np.where(constant, x[0], mean)
    return mean, np.where(constant, 1.0, deviation)


def weighted_median(x: FloatArray, weight: FloatArray) -> float:
    """Median of ``x``, shape (n,), each value counted ``weight`` times; NaN counts nowhere.

    Where the weights split into equal halves it is the mean of the two middle values, so that
    whole weights give the median of the repeated values.
    """
    known = ~np.isnan(x) & (weight > 0.0)
    order = np.argsort(x[known], kind="stable")
    values, below = x[known][order], np.cumsum(weight[known][order])
    half = 0.5 * below[-1]
    lower, upper = np.searchsorted(below, half, side="left"), np.searchsorted(below, half, "right")
    return float(0.5 * (values[lower] + values[min(upper, len(values) - 1)]))


def separable(x: FloatArray, y: npt.ArrayLike) -> bool:
    """Whether one threshold on ``x`` splits the two classes of ``y``, ties allowed.

    Then the likelihood of a one-variable logistic has no finite maximum (Albert and Anderson,
    1984, "On the existence of maximum likelihood estimates in logistic regression models").
    A sample of one class is separable too.
    """
    positive = np.asarray(y) > 0
    if positive.all() or not positive.any():
        return True
    ones, zeros = x[positive], x[~positive]
    return bool(ones.min() >= zeros.max() or ones.max() <= zeros.min())


def fit_logistic(
    z: FloatArray,
    y: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    ridge: float = 0.0,
    tolerance: float = TOLERANCE,
) -> tuple[FloatArray, float]:
    """Coefficients and intercept of a logistic regression on standardised columns.

    Maximises ``Σ w (y log p + (1 − y) log(1 − p)) − ridge/2 · |coef|²`` with
    ``p = expit(intercept + z·coef)``. The intercept is never penalised.

    Parameters
    ----------
    z:
        Standardised columns (see `standard_scale`), shape (n, k), finite.
    y:
        Outcomes, 0 or 1, shape (n,).
    weight:
        Weights ≥ 0, shape (n,); None weighs every row 1.
    ridge:
        Penalty on the coefficients, ≥ 0.
    tolerance:
        Gradient of the mean log loss at which the solver stops.

    Returns
    -------
    tuple
        ``coef`` of shape (k,), and the intercept.

    Raises
    ------
    ModelError
        Shapes disagree, an outcome or weight is impossible, only one class is present, or the
        solver did not reach the maximum.

    References
    ----------
    Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, 4.4.1;
    scikit-learn, ``LogisticRegression``.
    """
    # scikit-learn takes seconds to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    outcome = np.asarray(y, dtype=np.float64)
    weights = np.ones(len(z)) if weight is None else np.asarray(weight, dtype=np.float64)
    if z.ndim != 2 or outcome.shape != (len(z),) or weights.shape != (len(z),):
        raise ModelError(
            f"logistic regression was given columns of shape {z.shape}, outcomes {outcome.shape} "
            f"and weights {weights.shape}; expected (n, k), (n,) and (n,)"
        )
    if not ((outcome == 0.0) | (outcome == 1.0)).all():
        raise ModelError("logistic regression needs outcomes of 0 or 1; check the labels")
    # Written so that NaN fails too.
    if not ((weights >= 0.0) & (weights < np.inf)).all():
        raise ModelError("logistic weights must be finite and at least 0; check the weights")
    total, positive = float(weights.sum()), float(weights @ outcome)
    if not 0.0 < positive < total:
        raise ModelError(
            f"logistic regression was given {len(z)} rows with {positive:g} positives of "
            f"{total:g} by weight; it needs both classes: widen the fit span"
        )
    solver = LogisticRegression(
        C=1.0 / ridge if ridge else np.inf, solver="newton-cholesky", tol=tolerance
    )
    with _WARNINGS, warnings.catch_warnings():
        # It warns of every fallback to another solver; the gradient shows whether one succeeded.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(z, outcome, sample_weight=weights)
    coef, intercept = np.asarray(solver.coef_[0], dtype=np.float64), float(solver.intercept_[0])
    residual = weights * (outcome - expit(z @ coef + intercept))
    gradient = np.append(z.T @ residual - ridge * coef, residual.sum()) / total
    if not np.abs(gradient).max() <= MAX_GRADIENT:
        raise ModelError(
            f"logistic regression of {len(z)} rows did not converge: the gradient of its mean log "
            f"loss is {np.abs(gradient).max():.3g}, expected at most {MAX_GRADIENT:g}; the classes "
            "may be separable or the columns collinear: add ridge or drop columns"
        )
    return coef, intercept


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """A fitted logistic regression with its own standardisation, as plain floats.

    ``p = expit(intercept + Σ coef_j (x_j − mean_j)/scale_j)``. A NaN is replaced by the
    column's training median, at fit and at prediction alike.

    Attributes
    ----------
    features:
        Column names, length k.
    median, mean, scale:
        Training median (for NaN), mean and standard deviation of each column, in its units.
    coef:
        Coefficients of the standardised columns.
    intercept:
        Log odds at the training means.
    """

    features: tuple[str, ...]
    median: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coef: tuple[float, ...]
    intercept: float

    @classmethod
    def fit(
        cls,
        features: Sequence[str],
        x: FloatArray,
        y: npt.ArrayLike,
        weight: FloatArray | None = None,
    ) -> LogisticModel:
        """Fit on the columns of ``x``, shape (n, k), named by ``features``, with `RIDGE`.

        A row of weight w counts w times, in the medians and the standardisation too; None
        weighs every row 1.

        Raises
        ------
        ModelError
            A column holds an infinity or nothing but NaN, or `fit_logistic` refuses.
        """
        x = _matrix(x, features)
        empty = [name for name, column in zip(features, x.T, strict=True) if np.isnan(column).all()]
        if empty:
            raise ModelError(
                f"columns {empty} have no value in training; drop them or widen the fit span"
            )
        median = (
            np.nanmedian(x, axis=0)
            if weight is None
            else np.array([weighted_median(column, weight) for column in x.T])
        )
        filled = np.where(np.isnan(x), median, x)
        mean, scale = standard_scale(filled, weight)
        filled -= mean
        filled /= scale
        coef, intercept = fit_logistic(filled, y, weight, ridge=RIDGE, tolerance=BASELINE_TOLERANCE)
        return cls(
            features=tuple(features),
            median=tuple(median.tolist()),
            mean=tuple(mean.tolist()),
            scale=tuple(scale.tolist()),
            coef=tuple(coef.tolist()),
            intercept=intercept,
        )

    def predict(self, x: FloatArray) -> FloatArray:
        """Probabilities, shape (n,), of the columns of ``x``, shape (n, k), in order.

        Raises
        ------
        ModelError
            The number of columns is wrong or a value is infinite.
        """
        x = _matrix(x, self.features)
        filled = np.where(np.isnan(x), np.array(self.median), x)
        z = (filled - np.array(self.mean)) / np.array(self.scale)
        return np.asarray(expit(z @ np.array(self.coef) + self.intercept), dtype=np.float64)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able parameters; floats survive JSON bit for bit."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, params: Mapping[str, Any]) -> LogisticModel:
        """Inverse of `to_dict`; raises `ModelError` on missing or uneven parameters."""
        try:
            columns = {
                name: tuple(float(value) for value in params[name])
                for name in ("median", "mean", "scale", "coef")
            }
            model = cls(
                features=tuple(str(name) for name in params["features"]),
                intercept=float(params["intercept"]),
                **columns,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"logistic parameters are malformed ({error!r}); expected those of "
                "LogisticModel.to_dict: rebuild the bundle"
            ) from error
        if any(len(values) != len(model.features) for values in columns.values()):
            raise ModelError(
                f"logistic parameters are uneven: {len(model.features)} features but "
                f"{ {name: len(values) for name, values in columns.items()} }; rebuild the bundle"
            )
        return model


def _matrix(x: FloatArray, features: Sequence[str]) -> FloatArray:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != len(features) or len(x) == 0:
        raise ModelError(
            f"logistic model was given columns of shape {x.shape}; expected (n > 0, "
            f"{len(features)}) for features {list(features)}"
        )
    infinite = [name for name, column in zip(features, x.T, strict=True) if np.isinf(column).any()]
    if infinite:
        raise ModelError(f"columns {infinite} hold infinities; bound them before the model")
    return x
