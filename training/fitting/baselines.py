"""The baselines that a model must beat, fitted on training rows only.

All but the plain LightGBM are a handful of floats and travel in the bundle as JSON. A missing
value (NaN) becomes the column's training median where a logistic regression reads it, and a
missing first-passage probability becomes the training base rate: knowing nothing of an account
is knowing the average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from market.core.errors import ModelError
from training.fitting.logistic import LogisticModel

FloatArray = npt.NDArray[np.float64]

BASELINES = (
    "margin_ratio",
    "lagged_breaches",
    "first_passage",
    "first_passage_isotonic",
    "logistic_distance",
    "lightgbm_plain",
)
"""Baselines that skill is stated against, the best of them."""

ORACLE = "volatility_oracle"
"""A limit, never a baseline: it knows the volatility to come."""

DISTANCE_PREFIX = "distance_"
DISTANCE_BOUNDS = (1e-6, 1e6)
BREACH_RATE_OFFSET = 1e-6


def fit_baselines(
    columns: Mapping[str, npt.ArrayLike],
    y: npt.ArrayLike,
    horizon: int,
    weight: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """Fit every baseline but the plain LightGBM on training rows.

    - ``margin_ratio``: logistic regression on maintenance margin over equity.
    - ``lagged_breaches``: logistic regression on ``log(1e-6 + trailing breach rate)``.
    - ``first_passage``: the probability 2Φ(−d) as it stands; nothing to fit.
    - ``first_passage_isotonic``: the same through a rising isotonic regression, kept as knots.
    - ``logistic_distance``: logistic regression on the logs of all distances, the columns named
      ``distance_*``.

    Parameters
    ----------
    columns:
        ``margin_ratio``, ``lagged_breach_rate``, ``first_passage_{horizon}`` (a probability)
        and the distances (headroom over σ, dimensionless), each of shape (n,).
    y:
        Outcomes, 0 or 1, shape (n,).
    horizon:
        Horizon in hours; it picks the first-passage column.
    weight:
        How often each row counts, above 0, shape (n,); None weighs every row 1.

    Returns
    -------
    dict
        JSON-able parameters, read by `predict_baselines`. Floats survive JSON bit for bit.

    Raises
    ------
    ModelError
        A column is missing, of another shape or without a value, a probability lies outside
        [0, 1], or only one class is present.

    References
    ----------
    Barlow, Bartholomew, Bremner and Brunk (1972), Statistical Inference under Order
    Restrictions; scikit-learn, "Isotonic regression".
    """
    outcome = np.asarray(y, dtype=np.float64)
    if outcome.ndim != 1 or not ((outcome == 0.0) | (outcome == 1.0)).all():
        raise ModelError(
            f"baselines were given outcomes of shape {outcome.shape}; expected zeros and ones of "
            "shape (n,)"
        )
    rows = len(outcome)
    weights = np.ones(rows) if weight is None else np.asarray(weight, dtype=np.float64)
    # Written so that NaN fails too.
    if weights.shape != (rows,) or not (weights > 0.0).all():
        raise ModelError(
            f"baselines were given weights of shape {weights.shape} for {rows} rows; expected one "
            "above 0 a row: leave out the others"
        )

    def logistic(names: Sequence[str], x: FloatArray) -> dict[str, Any]:
        return LogisticModel.fit(names, x, outcome, weights).to_dict()

    distance_columns = sorted(name for name in columns if name.startswith(DISTANCE_PREFIX))
    if not distance_columns:
        raise ModelError(
            f"logistic_distance was given no distances; expected columns {DISTANCE_PREFIX}*"
        )
    first_passage = _probability(columns, _first_passage_name(horizon), rows)
    known = ~np.isnan(first_passage)
    if not known.any():
        raise ModelError(
            f"column {_first_passage_name(horizon)!r} has no value in training; widen the fit span"
        )
    return {
        "horizon": int(horizon),
        "base_rate": float(weights @ outcome / weights.sum()),
        "margin_ratio": logistic(["margin_ratio"], _margin_ratio(columns, rows)),
        "lagged_breaches": logistic(["log_lagged_breach_rate"], _log_breach_rate(columns, rows)),
        "logistic_distance": logistic(
            distance_columns, _log_distances(columns, distance_columns, rows)
        ),
        "first_passage_isotonic": _fit_isotonic(
            first_passage[known], outcome[known], weights[known]
        ),
    }


def predict_baselines(
    params: Mapping[str, Any], columns: Mapping[str, npt.ArrayLike]
) -> dict[str, FloatArray]:
    """Probabilities of every fitted baseline, and of the oracle where its column is present.

    ``volatility_oracle`` is ``oracle_first_passage_{horizon}`` through the isotonic knots of
    ``first_passage_isotonic``; without that column (1 h on hourly bars) it is left out.

    Parameters
    ----------
    params:
        What `fit_baselines` returned, also after a round trip through JSON.
    columns:
        As at the fit; ``oracle_first_passage_{horizon}`` may be absent.

    Returns
    -------
    dict
        Name to probabilities in [0, 1], shape (n,), without NaN.

    Raises
    ------
    ModelError
        Parameters are malformed, or a column is missing, uneven or outside its range.
    """
    try:
        horizon, base_rate = int(params["horizon"]), float(params["base_rate"])
        margin_ratio = LogisticModel.from_dict(params["margin_ratio"])
        lagged_breaches = LogisticModel.from_dict(params["lagged_breaches"])
        logistic_distance = LogisticModel.from_dict(params["logistic_distance"])
        knots_x = np.array(params["first_passage_isotonic"]["x"], dtype=np.float64)
        knots_y = np.array(params["first_passage_isotonic"]["y"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"baseline parameters are malformed ({error!r}); expected those of fit_baselines: "
            "rebuild the bundle"
        ) from error

    name = _first_passage_name(horizon)
    rows = len(_column(columns, name))
    first_passage = _probability(columns, name, rows)

    def isotonic(p: FloatArray) -> FloatArray:
        return np.where(np.isnan(p), base_rate, np.interp(p, knots_x, knots_y))

    predictions = {
        "margin_ratio": margin_ratio.predict(_margin_ratio(columns, rows)),
        "lagged_breaches": lagged_breaches.predict(_log_breach_rate(columns, rows)),
        "first_passage": np.where(np.isnan(first_passage), base_rate, first_passage),
        "first_passage_isotonic": isotonic(first_passage),
        "logistic_distance": logistic_distance.predict(
            _log_distances(columns, logistic_distance.features, rows)
        ),
    }
    if f"oracle_{name}" in columns:
        predictions[ORACLE] = isotonic(_probability(columns, f"oracle_{name}", rows))
    return predictions


def _fit_isotonic(p: FloatArray, y: FloatArray, weight: FloatArray) -> dict[str, list[float]]:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True, out_of_bounds="clip")
    fitted.fit(p, y, sample_weight=weight)
    return {"x": fitted.X_thresholds_.tolist(), "y": fitted.y_thresholds_.tolist()}


def _first_passage_name(horizon: int) -> str:
    return f"first_passage_{int(horizon)}"


def _column(columns: Mapping[str, npt.ArrayLike], name: str) -> FloatArray:
    try:
        return np.asarray(columns[name], dtype=np.float64)
    except KeyError:
        raise ModelError(
            f"baselines need column {name!r} but were given {sorted(columns)}; "
            "build the data set with it"
        ) from None


def _sized(columns: Mapping[str, npt.ArrayLike], name: str, rows: int) -> FloatArray:
    column = _column(columns, name)
    if column.shape != (rows,):
        raise ModelError(f"column {name!r} has shape {column.shape}; expected ({rows},)")
    return column


def _probability(columns: Mapping[str, npt.ArrayLike], name: str, rows: int) -> FloatArray:
    column = _sized(columns, name, rows)
    if (column < 0.0).any() or (column > 1.0).any():
        raise ModelError(f"column {name!r} holds values outside [0, 1]; expected probabilities")
    return column


def _margin_ratio(columns: Mapping[str, npt.ArrayLike], rows: int) -> FloatArray:
    return _sized(columns, "margin_ratio", rows)[:, None]


def _log_breach_rate(columns: Mapping[str, npt.ArrayLike], rows: int) -> FloatArray:
    rate = _probability(columns, "lagged_breach_rate", rows)
    return np.log(BREACH_RATE_OFFSET + rate)[:, None]


def _log_distances(
    columns: Mapping[str, npt.ArrayLike], names: Sequence[str], rows: int
) -> FloatArray:
    # An account without risk is infinitely far; the bounds keep its logarithm finite.
    return np.column_stack(
        [np.log(np.clip(_sized(columns, name, rows), *DISTANCE_BOUNDS)) for name in names]
    )
