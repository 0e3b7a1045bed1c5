"""The fit of the two-scale prior: a weighted logistic regression with signed weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from market.core.arrays import Floats
from market.core.errors import ModelError
from models.prior.spline_basis import ramps
from models.prior.spline_prior import DEFAULT_KNOTS, SplinePrior
from training.fitting.hyperparameters import DEFAULTS

CELL = 1.0 / 64.0
"""Side of a cell in log distance; a cell's rows are fitted as one at their mean distances."""

RIDGE = DEFAULTS.prior_ridge
"""Default penalty on the squared weights, in log loss. Neighbouring ramps of two correlated
distances tell little apart: the penalty shares their weight, and leaves at 0 a ramp where no rows
lie. It is negligible beside thousands of breaches."""

TOLERANCE = 1e-6
"""Largest projected gradient at the minimum, in log loss a breach."""

_MOST_STEPS = 5_000


def fit_prior(
    distances: Floats,
    labels: npt.NDArray[np.int8],
    weight: Floats,
    knots: Sequence[Sequence[float]] = DEFAULT_KNOTS,
    *,
    penalty: float = RIDGE,
) -> SplinePrior:
    """Fit the log odds of a call to log distances, monotone in each.

    Minimises ``sum_i w_i L(y_i, f(x_i)) + penalty / 2 |v|^2`` over the intercept and the weights
    ``v <= 0`` of the ramps (`models.prior.spline_basis`), L the log loss, by L-BFGS-B with the
    analytic gradient ``sum_i w_i (p_i - y_i) R(x_i) + penalty v``. The problem is convex, so the
    minimum is the only one. The intercept is not penalised.

    Rows are first gathered into cells of side `CELL` in every distance: the log odds are smooth,
    and at a cell's mean distances they are right to second order in its width. The cost of a step
    depends on the cells that are occupied, not on the rows.

    Parameters
    ----------
    distances:
        Log distances without NaN, shape (N, D).
    labels:
        0 or 1, shape (N,).
    weight:
        How often each row counts, above 0, shape (N,).
    knots:
        Of each distance.
    penalty:
        On the squared weights, in log loss, above 0.

    Raises
    ------
    ModelError
        Shapes disagree, a distance is missing, a weight is not positive, the rows are all of one
        class, or the search did not converge.

    References
    ----------
    Ramsay (1988), "Monotone regression splines in action"; Byrd, Lu, Nocedal and Zhu (1995), "A
    limited memory algorithm for bound constrained optimization".
    """
    if distances.shape != (len(labels), len(knots)) or weight.shape != labels.shape:
        raise ModelError(
            f"the prior was given distances {distances.shape}, labels {labels.shape} and weights "
            f"{weight.shape}; expected (N, {len(knots)}), (N,) and (N,)"
        )
    # Written so that NaN fails too.
    if not np.isfinite(distances).all() or not ((weight > 0.0) & (weight < np.inf)).all():
        raise ModelError(
            "the prior needs finite distances and weights above 0; leave out the other rows"
        )
    total, positive = float(weight.sum()), float(weight @ labels)
    if not 0.0 < positive < total:
        raise ModelError(
            f"the prior was given {len(labels)} rows with {positive:g} breaches of {total:g} by "
            "weight; it needs both classes: widen the fit span"
        )
    centres, count, breaches = _cells(distances, labels, weight)
    design = np.column_stack(
        [np.ones(len(centres)), *(ramps(x, k) for x, k in zip(centres.T, knots, strict=True))]
    )

    start = np.full(design.shape[1], -0.1)
    start[0] = np.log(positive / (total - positive))
    p = expit(design @ start)
    curvature = (count * p * (1.0 - p)) @ np.square(design) + penalty
    # Of one curvature along every axis the search takes a tenth of the steps; signs stay.
    scale = np.sqrt(positive / curvature)
    design *= scale
    ridge = penalty * scale * scale
    ridge[0] = 0.0

    def objective(parameters: Floats) -> tuple[float, Floats]:
        score = design @ parameters
        loss = count @ np.logaddexp(0.0, score) - breaches @ score
        gradient = design.T @ (count * expit(score) - breaches)
        loss += 0.5 * float(parameters @ (ridge * parameters))
        return float(loss) / positive, (gradient + ridge * parameters) / positive

    bounds = [(None, None)] + [(None, 0.0)] * (design.shape[1] - 1)
    found = minimize(
        objective,
        start / scale,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={
            "maxiter": _MOST_STEPS,
            "maxfun": 2 * _MOST_STEPS,
            "maxcor": 30,
            "ftol": 1e-11,
            "gtol": TOLERANCE,
        },
    )
    if not found.success:
        raise ModelError(
            f"the prior's weights did not converge in {found.nit} steps ({found.message}); check "
            "the distances for outliers"
        )
    return SplinePrior.of_parameters(scale * np.asarray(found.x, dtype=np.float64), knots)


def _cells(
    distances: Floats, labels: npt.NDArray[np.int8], weight: Floats
) -> tuple[Floats, Floats, Floats]:
    """Mean distances (C, D), weight (C,) and breaches by weight (C,) of the occupied cells."""
    cell = np.zeros(len(distances), dtype=np.int64)
    for column in distances.T:
        place = np.floor(column / CELL).astype(np.int64)
        place -= place.min()
        cell = cell * (int(place.max()) + 1) + place
    _, cell = np.unique(cell, return_inverse=True)
    count = np.bincount(cell, weight)
    means = [np.bincount(cell, weight * column) / count for column in distances.T]
    breaches = np.bincount(cell, weight * labels).astype(np.float64)
    return np.column_stack(means), count.astype(np.float64), breaches
