from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import expit

from market.core.errors import ModelError
from training.fitting.logistic import (
    RIDGE,
    LogisticModel,
    fit_logistic,
    separable,
    standard_scale,
)

Floats = npt.NDArray[np.float64]


def sample(rows: int = 3000, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)) * [1.0, 20.0, 0.01] + [0.0, 500.0, -3.0]
    eta = -2.0 + 1.2 * x[:, 0] - 0.04 * (x[:, 1] - 500.0) + 30.0 * (x[:, 2] + 3.0)
    return x, (rng.random(rows) < expit(eta)).astype(float)


def standardised(x: Floats) -> Floats:
    mean, scale = standard_scale(x)
    return (x - mean) / scale


def newton(z: Floats, y: Floats, ridge: float) -> Floats:
    """Twelve plain Newton steps from the base rate: coefficients, then the intercept."""
    columns = np.column_stack((z, np.ones(len(z))))
    penalty = np.append(np.full(z.shape[1], ridge), 0.0)
    beta = np.append(np.zeros(z.shape[1]), np.log(y.mean() / (1.0 - y.mean())))
    for _ in range(12):
        p = expit(columns @ beta)
        gradient = columns.T @ (y - p) - penalty * beta
        hessian = columns.T @ (columns * (p * (1.0 - p))[:, None]) + np.diag(penalty)
        beta = beta + np.linalg.solve(hessian, gradient)
    return beta


@pytest.mark.parametrize(("rows", "ridge"), [(3000, 0.0), (3000, 1.0), (80, 4.0)])
def test_coefficients_equal_plain_newton_steps(rows: int, ridge: float) -> None:
    x, y = sample(rows=rows)
    coef, intercept = fit_logistic(standardised(x), y, ridge=ridge)
    np.testing.assert_allclose([*coef, intercept], newton(standardised(x), y, ridge), rtol=1e-10)


def test_gradient_vanishes_at_the_maximum() -> None:
    x, y = sample()
    z = standardised(x)
    coef, intercept = fit_logistic(z, y)
    residual = y - expit(z @ coef + intercept)
    gradient = np.column_stack((z, np.ones(len(x)))).T @ residual
    assert np.abs(gradient).max() < 1e-9


def test_weights_equal_repeated_rows() -> None:
    x, y = sample(rows=400)
    z = standardised(x)
    weight = np.random.default_rng(1).integers(0, 4, size=len(x))
    weighted = fit_logistic(z, y, weight)
    repeated = fit_logistic(np.repeat(z, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=1e-10)
    assert weighted[1] == pytest.approx(repeated[1], rel=1e-10)


@pytest.mark.parametrize("y", [[0, 0, 1, 1], [1, 1, 0, 0]])
def test_ridge_keeps_separable_classes_finite(y: list[int]) -> None:
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert separable(x[:, 0], y)
    assert np.isfinite(LogisticModel.fit(["x"], x, y).coef).all()


def test_collinear_columns_share_the_weight_under_ridge() -> None:
    x, y = sample(rows=200)
    model = LogisticModel.fit(["a", "b"], np.column_stack((x[:, 0], x[:, 0])), y)
    assert model.coef[0] == pytest.approx(model.coef[1], rel=1e-9)


def test_unreached_maximum_is_refused() -> None:
    x, y = sample(rows=300)
    with pytest.raises(ModelError, match="did not converge"):
        fit_logistic(standardised(x), y, tolerance=1.0)


def test_separable_by_a_tie_but_not_by_overlap() -> None:
    assert separable(np.array([0.0, 1.0, 1.0]), [0, 0, 1])
    assert not separable(np.array([0.0, 2.0, 1.0]), [0, 0, 1])
    assert separable(np.array([0.0, 1.0]), [1, 1])


def test_constant_column_gets_no_weight() -> None:
    x, y = sample(rows=300)
    x[:, 1] = 0.1
    model = LogisticModel.fit(["a", "b", "c"], x, y)
    assert model.coef[1] == 0.0
    assert model.scale[1] == 1.0


def test_nan_is_the_training_median_at_fit_and_at_predict() -> None:
    x, y = sample(rows=300)
    x[:40, 0] = np.nan
    model = LogisticModel.fit(["a", "b", "c"], x, y)
    filled = x.copy()
    filled[:40, 0] = np.median(x[40:, 0])
    assert model.median[0] == np.median(x[40:, 0])
    np.testing.assert_array_equal(model.predict(x), model.predict(filled))
    assert model.coef == LogisticModel.fit(["a", "b", "c"], filled, y).coef


def test_prediction_uses_the_training_scale() -> None:
    x, y = sample(rows=300)
    model = LogisticModel.fit(["a", "b", "c"], x, y)
    beta = newton(standardised(x), y, RIDGE)
    expected = expit(standardised(x) @ beta[:-1] + beta[-1])
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-9)


def test_json_round_trip_is_bit_for_bit() -> None:
    x, y = sample(rows=300)
    model = LogisticModel.fit(["a", "b", "c"], x, y)
    again = LogisticModel.from_dict(json.loads(json.dumps(model.to_dict(), allow_nan=False)))
    assert again == model
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_malformed_parameters_are_refused() -> None:
    params = LogisticModel.fit(["a", "b", "c"], *sample(rows=300)).to_dict()
    with pytest.raises(ModelError, match="malformed"):
        LogisticModel.from_dict({k: v for k, v in params.items() if k != "coef"})
    with pytest.raises(ModelError, match="uneven"):
        LogisticModel.from_dict({**params, "coef": [1.0]})


def test_bad_inputs_are_refused() -> None:
    x, y = sample(rows=100)
    with pytest.raises(ModelError, match="both classes"):
        LogisticModel.fit(["a", "b", "c"], x, np.zeros(100))
    with pytest.raises(ModelError, match="infinities"):
        LogisticModel.fit(["a", "b", "c"], np.where(x > 500, np.inf, x), y)
    with pytest.raises(ModelError, match="no value"):
        LogisticModel.fit(["a", "b", "c"], np.where([True, False, False], np.nan, x), y)
    with pytest.raises(ModelError, match="shape"):
        LogisticModel.fit(["a"], x, y)
    with pytest.raises(ModelError, match="outcomes of 0 or 1"):
        LogisticModel.fit(["a", "b", "c"], x, np.full(100, np.nan))
    with pytest.raises(ModelError, match="weights"):
        fit_logistic(x, y, np.full(100, -1.0))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_weight_counts_as_so_many_equal_rows(seed: int) -> None:
    """Medians, standardisation and coefficients alike, with missing values."""
    rng = np.random.default_rng(seed)
    x, y = sample(300, seed)
    x[rng.random(x.shape) < 0.1] = np.nan
    count = rng.integers(1, 5, len(x))
    weighted = LogisticModel.fit(["a", "b", "c"], x, y, count.astype(np.float64))
    repeated = LogisticModel.fit(["a", "b", "c"], x.repeat(count, axis=0), y.repeat(count))
    assert weighted.median == repeated.median
    np.testing.assert_allclose(weighted.predict(x), repeated.predict(x), rtol=1e-6)


def test_weights_of_one_change_nothing_but_rounding() -> None:
    x, y = sample(300)
    plain, weighted = (LogisticModel.fit(["a", "b", "c"], x, y, w) for w in (None, np.ones(300)))
    np.testing.assert_allclose(weighted.predict(x), plain.predict(x), rtol=1e-9)
