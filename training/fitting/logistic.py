"""Logistic regression by Newton's method, kept as plain numbers.

One solver serves the calibration line of the metrics, Platt's calibrator and the logistic
baselines. It walks the rows in blocks, so that four million of them need no second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit

from market.core.errors import ModelError

FloatArray = npt.NDArray[np.float64]

BLOCK_ROWS = 1 << 18
MAX_ITERATIONS = 100
MAX_HALVINGS = 40
NEWTON_DECREMENT = 1e-14
"""Convergence: the squared Newton decrement, in units of log likelihood."""
RELATIVE_STEP = 1e-6
"""Convergence too: on separable classes the likelihood flattens while the steps stay long."""


def standard_scale(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the columns of ``x``, shape (n, k).

    A constant column gets scale 1: centring makes it 0, and it then says nothing.
    """
    mean = x.mean(axis=0)
    constant = x.min(axis=0) == x.max(axis=0)
    # The rounded mean of a constant column can miss the constant by one bit.
    mean = np.where(constant, x[0], mean)
    return mean, np.where(constant, 1.0, x.std(axis=0))


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
    x: FloatArray,
    y: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    mean: FloatArray,
    scale: FloatArray,
    ridge: float = 0.0,
) -> tuple[FloatArray, float]:
    """Coefficients and intercept of a logistic regression on standardised columns.

    Maximises ``Σ w (y log p + (1 − y) log(1 − p)) − ridge/2 · |coef|²`` with
    ``p = expit(intercept + z·coef)`` and ``z = (x − mean)/scale``, by Newton steps that are
    halved until the objective does not fall. The intercept is never penalised.

    Parameters
    ----------
    x:
        Shape (n, k), finite.
    y:
        Targets in [0, 1], shape (n,); soft targets are allowed.
    weight:
        Weights ≥ 0, shape (n,); None weighs every row 1.
    mean, scale:
        Shape (k,), as `standard_scale` gives them.
    ridge:
        Penalty on the coefficients of the standardised columns, ≥ 0.

    Returns
    -------
    tuple
        ``coef`` of shape (k,) for the standardised columns, and the intercept.

    Raises
    ------
    ModelError
        Shapes disagree, a value is not finite, only one class is present, or the maximum does
        not exist (separable or collinear columns without ridge).

    References
    ----------
    Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, 4.4.1.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ModelError(
            f"logistic regression was given columns of shape {x.shape} or non-finite values; "
            "give a finite matrix (n, k), with missing values replaced first"
        )
    targets, weights = _checked_targets(y, weight, len(x))
    total = weights.sum()
    share = float((weights * targets).sum() / total) if total > 0 else 0.0
    if not 0.0 < share < 1.0:
        raise ModelError(
            f"logistic regression was given {len(x)} rows with a base rate of {share:g}; "
            "it needs both classes: widen the fit span"
        )

    beta = np.zeros(x.shape[1] + 1)
    beta[-1] = np.log(share) - np.log1p(-share)
    value = _objective(x, targets, weights, mean, scale, ridge, beta)
    for _ in range(MAX_ITERATIONS):
        gradient, hessian = _derivatives(x, targets, weights, mean, scale, ridge, beta)
        step = _newton_step(gradient, hessian)
        decrement = float(gradient @ step)
        # Rounding in a sum of n logs must not be mistaken for a descent.
        slack = 1e-13 * abs(value)
        for _ in range(MAX_HALVINGS):
            candidate = _objective(x, targets, weights, mean, scale, ridge, beta + step)
            if candidate >= value - slack:
                break
            step *= 0.5
        else:
            break
        beta, value = beta + step, candidate
        settled = np.abs(step).max() <= RELATIVE_STEP * max(1.0, float(np.abs(beta).max()))
        if decrement <= NEWTON_DECREMENT and settled:
            return beta[:-1], float(beta[-1])
    raise ModelError(
        f"logistic regression of {len(x)} rows did not converge; the classes are separable or "
        "the columns collinear: add ridge or drop columns"
    )


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
        weight: npt.ArrayLike | None = None,
        *,
        ridge: float = 1.0,
    ) -> LogisticModel:
        """Fit on the columns of ``x``, shape (n, k), named by ``features``.

        ``ridge`` is the penalty of `fit_logistic`; its default of 1 is negligible beside
        thousands of rows, and keeps separable or collinear columns finite.

        Raises
        ------
        ModelError
            A column holds an infinity or nothing but NaN, or `fit_logistic` refuses.
        """
        x = _matrix(x, features)
        empty = [name for name, column in zip(features, x.T, strict=True) if _all_nan(column)]
        if empty:
            raise ModelError(
                f"columns {empty} have no value in training; drop them or widen the fit span"
            )
        median = np.nanmedian(x, axis=0)
        filled = _fill(x, median)
        mean, scale = standard_scale(filled)
        coef, intercept = fit_logistic(filled, y, weight, mean=mean, scale=scale, ridge=ridge)
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
        filled = _fill(_matrix(x, self.features), np.array(self.median))
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


def _checked_targets(
    y: npt.ArrayLike, weight: npt.ArrayLike | None, rows: int
) -> tuple[FloatArray, FloatArray]:
    targets = np.asarray(y, dtype=np.float64)
    weights = np.ones(rows) if weight is None else np.asarray(weight, dtype=np.float64)
    if targets.shape != (rows,) or weights.shape != (rows,):
        raise ModelError(
            f"logistic regression was given {rows} rows, targets of shape {targets.shape} and "
            f"weights of shape {weights.shape}; expected one of each a row"
        )
    # Written so that NaN fails too.
    if not ((targets >= 0.0) & (targets <= 1.0)).all():
        raise ModelError("logistic targets must be finite and in [0, 1]; check the labels")
    if not ((weights >= 0.0) & (weights < np.inf)).all():
        raise ModelError("logistic weights must be finite and at least 0; check the weights")
    return targets, weights


def _objective(
    x: FloatArray,
    y: FloatArray,
    weight: FloatArray,
    mean: FloatArray,
    scale: FloatArray,
    ridge: float,
    beta: FloatArray,
) -> float:
    value = -0.5 * ridge * float(beta[:-1] @ beta[:-1])
    for start in range(0, len(x), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        eta = ((x[rows] - mean) / scale) @ beta[:-1] + beta[-1]
        row_value = y[rows] * log_expit(eta) + (1.0 - y[rows]) * log_expit(-eta)
        value += float(weight[rows] @ row_value)
    return value


def _derivatives(
    x: FloatArray,
    y: FloatArray,
    weight: FloatArray,
    mean: FloatArray,
    scale: FloatArray,
    ridge: float,
    beta: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Gradient of the objective and the negative of its Hessian, intercept last."""
    penalty = np.full(len(beta), ridge)
    penalty[-1] = 0.0
    gradient = -penalty * beta
    hessian = np.diag(penalty)
    for start in range(0, len(x), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        z = (x[rows] - mean) / scale
        z = np.column_stack((z, np.ones(len(z))))
        eta = z @ beta
        p = expit(eta)
        gradient += z.T @ (weight[rows] * (y[rows] - p))
        # 1 − p would lose every digit where p rounds to 1.
        hessian += z.T @ (z * (weight[rows] * p * expit(-eta))[:, None])
    return gradient, hessian


def _newton_step(gradient: FloatArray, hessian: FloatArray) -> FloatArray:
    try:
        return np.asarray(np.linalg.solve(hessian, gradient), dtype=np.float64)
    except np.linalg.LinAlgError:
        raise ModelError(
            "logistic regression has no unique maximum: a column is constant or collinear; "
            "drop it or add ridge"
        ) from None


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


def _fill(x: FloatArray, median: FloatArray) -> FloatArray:
    return np.where(np.isnan(x), median, x)


def _all_nan(column: FloatArray) -> bool:
    return bool(np.isnan(column).all())
