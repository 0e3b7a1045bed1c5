from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

import training.fitting.logistic
from market.core.errors import ModelError
from training.fitting.logistic import LogisticModel, fit_logistic, separable, standard_scale


def sample(rows: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)) * [1.0, 20.0, 0.01] + [0.0, 500.0, -3.0]
    eta = -2.0 + 1.2 * x[:, 0] - 0.04 * (x[:, 1] - 500.0) + 30.0 * (x[:, 2] + 3.0)
    return x, (rng.random(rows) < expit(eta)).astype(float)


def unpenalised(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    mean, scale = standard_scale(x)
    return fit_logistic(x, y, mean=mean, scale=scale)


def test_unpenalised_fit_equals_sklearn() -> None:
    x, y = sample()
    coef, intercept = unpenalised(x, y)
    mean, scale = standard_scale(x)
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=2000).fit((x - mean) / scale, y)
    np.testing.assert_allclose(coef, oracle.coef_[0], rtol=1e-5)
    assert intercept == pytest.approx(oracle.intercept_[0], rel=1e-5)


def test_ridge_equals_sklearn_penalty() -> None:
    x, y = sample(rows=80)
    model = LogisticModel.fit(["a", "b", "c"], x, y, ridge=4.0)
    mean, scale = standard_scale(x)
    oracle = LogisticRegression(C=0.25, tol=1e-12, max_iter=2000).fit((x - mean) / scale, y)
    np.testing.assert_allclose(model.coef, oracle.coef_[0], rtol=1e-5)
    np.testing.assert_allclose(
        model.predict(x), oracle.predict_proba((x - mean) / scale)[:, 1], rtol=1e-5
    )


def test_gradient_vanishes_at_the_maximum() -> None:
    x, y = sample()
    mean, scale = standard_scale(x)
    coef, intercept = unpenalised(x, y)
    residual = y - expit((x - mean) / scale @ coef + intercept)
    gradient = np.column_stack(((x - mean) / scale, np.ones(len(x)))).T @ residual
    assert np.abs(gradient).max() < 1e-9


def test_weights_equal_repeated_rows() -> None:
    x, y = sample(rows=400)
    weight = np.random.default_rng(1).integers(0, 4, size=len(x))
    mean, scale = standard_scale(x)
    weighted = fit_logistic(x, y, weight, mean=mean, scale=scale)
    repeated = fit_logistic(
        np.repeat(x, weight, axis=0), np.repeat(y, weight), mean=mean, scale=scale
    )
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=1e-10)
    assert weighted[1] == pytest.approx(repeated[1], rel=1e-10)


def test_row_blocks_do_not_change_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sample()
    whole = unpenalised(x, y)
    monkeypatch.setattr(training.fitting.logistic, "BLOCK_ROWS", 137)
    np.testing.assert_allclose(unpenalised(x, y)[0], whole[0], rtol=1e-11)


@pytest.mark.parametrize("y", [[0, 0, 1, 1], [1, 1, 0, 0]])
def test_separable_classes_are_refused_without_ridge_and_finite_with_it(y: list[int]) -> None:
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert separable(x[:, 0], y)
    with pytest.raises(ModelError):
        unpenalised(x, np.array(y))
    assert np.isfinite(LogisticModel.fit(["x"], x, y).coef).all()


def test_collinear_columns_are_refused_without_ridge() -> None:
    x, y = sample(rows=200)
    doubled = np.column_stack((x[:, 0], x[:, 0]))
    with pytest.raises(ModelError):
        unpenalised(doubled, y)


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
    with pytest.raises(ModelError, match="targets"):
        LogisticModel.fit(["a", "b", "c"], x, np.full(100, np.nan))
    with pytest.raises(ModelError, match="weights"):
        LogisticModel.fit(["a", "b", "c"], x, y, np.full(100, -1.0))
