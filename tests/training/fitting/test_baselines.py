from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from market.core.errors import ModelError
from training.evaluation.metrics import log_loss_rows
from training.fitting.baselines import (
    BASELINES,
    ORACLE,
    fit_baselines,
    predict_baselines,
)
from training.fitting.logistic import LogisticModel

Columns = dict[str, np.ndarray]


def sample(rows: int = 4000, seed: int = 0) -> tuple[Columns, np.ndarray]:
    rng = np.random.default_rng(seed)
    distance = np.exp(rng.normal(0.7, 0.6, size=rows))
    y = (rng.random(rows) < 0.7 * 2.0 * norm.cdf(-1.2 * distance)).astype(float)
    columns = {
        "margin_ratio": 1.0 / (1.0 + distance),
        "lagged_breach_rate": rng.choice([0.0, 0.01, 0.05], size=rows),
        "first_passage_8": 2.0 * norm.cdf(-distance),
        "oracle_first_passage_8": 2.0 * norm.cdf(-1.2 * distance),
        "distance_ewma": distance,
        "distance_parkinson": distance * np.exp(rng.normal(0.0, 0.2, size=rows)),
    }
    return columns, y


def test_every_baseline_and_the_oracle_are_predicted() -> None:
    columns, y = sample()
    predictions = predict_baselines(fit_baselines(columns, y, 8), columns)
    assert set(predictions) == {*BASELINES, ORACLE} - {"lightgbm_plain"}
    for p in predictions.values():
        assert p.shape == y.shape
        assert ((p >= 0.0) & (p <= 1.0)).all()


def test_isotonic_knots_equal_sklearn_predict_exactly() -> None:
    columns, y = sample()
    unseen, _ = sample(seed=1)
    unseen["first_passage_8"][:2] = [0.0, 1.0]
    oracle = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    oracle.fit(columns["first_passage_8"], y)
    predictions = predict_baselines(fit_baselines(columns, y, 8), unseen)
    np.testing.assert_array_equal(
        predictions["first_passage_isotonic"], oracle.predict(unseen["first_passage_8"])
    )
    # The oracle goes through the same knots, not through a fit of its own.
    np.testing.assert_array_equal(
        predictions[ORACLE], oracle.predict(unseen["oracle_first_passage_8"])
    )


def test_isotonic_never_falls() -> None:
    columns, y = sample()
    knots = fit_baselines(columns, y, 8)["first_passage_isotonic"]
    assert (np.diff(knots["x"]) > 0.0).all()
    assert (np.diff(knots["y"]) >= 0.0).all()


def test_raw_first_passage_passes_unchanged() -> None:
    columns, y = sample()
    predictions = predict_baselines(fit_baselines(columns, y, 8), columns)
    np.testing.assert_array_equal(predictions["first_passage"], columns["first_passage_8"])


def test_json_round_trip_is_bit_for_bit() -> None:
    columns, y = sample()
    params = fit_baselines(columns, y, 8)
    again = json.loads(json.dumps(params, allow_nan=False))
    assert again == params
    before, after = predict_baselines(params, columns), predict_baselines(again, columns)
    for name, p in before.items():
        np.testing.assert_array_equal(p, after[name])


def test_logistics_read_logs() -> None:
    columns, y = sample()
    predictions = predict_baselines(fit_baselines(columns, y, 8), columns)
    names = ["distance_ewma", "distance_parkinson"]
    x = np.log(np.column_stack([columns[name] for name in names]))
    np.testing.assert_allclose(
        predictions["logistic_distance"], LogisticModel.fit(names, x, y).predict(x), rtol=1e-12
    )
    rate = np.log(1e-6 + columns["lagged_breach_rate"])[:, None]
    np.testing.assert_allclose(
        predictions["lagged_breaches"], LogisticModel.fit(["r"], rate, y).predict(rate), rtol=1e-12
    )


def test_logistic_distance_beats_the_base_rate_on_unseen_rows() -> None:
    columns, y = sample()
    unseen, outcome = sample(seed=1)
    p = predict_baselines(fit_baselines(columns, y, 8), unseen)["logistic_distance"]
    constant = log_loss_rows(outcome, np.full(len(y), y.mean())).mean()
    assert log_loss_rows(outcome, p).mean() < 0.8 * constant


def test_nan_becomes_the_training_median_or_base_rate() -> None:
    columns, y = sample()
    params = fit_baselines(columns, y, 8)
    row = {name: column[:3].copy() for name, column in columns.items()}
    for column in row.values():
        column[0] = np.nan
    predictions = predict_baselines(params, row)
    for name in ("first_passage", "first_passage_isotonic", ORACLE):
        assert predictions[name][0] == y.mean()
    median = {name: np.full(1, np.median(column)) for name, column in columns.items()}
    expected = predict_baselines(params, median)
    for name in ("margin_ratio", "lagged_breaches"):
        assert predictions[name][0] == pytest.approx(expected[name][0], rel=1e-12)


def test_isotonic_is_fitted_without_the_missing_rows() -> None:
    columns, y = sample()
    holed = {name: column.copy() for name, column in columns.items()}
    holed["first_passage_8"][:500] = np.nan
    known = {name: column[500:] for name, column in columns.items()}
    knots = fit_baselines(holed, y, 8)["first_passage_isotonic"]
    assert knots == fit_baselines(known, y[500:], 8)["first_passage_isotonic"]


def test_account_without_risk_is_far_not_infinite() -> None:
    columns, y = sample()
    columns["distance_ewma"][0] = np.inf
    columns["distance_parkinson"][0] = np.inf
    p = predict_baselines(fit_baselines(columns, y, 8), columns)["logistic_distance"]
    assert np.isfinite(p).all()
    assert p[0] == p.min()


def test_oracle_is_left_out_without_its_column() -> None:
    columns, y = sample()
    params = fit_baselines(columns, y, 8)
    del columns["oracle_first_passage_8"]
    assert ORACLE not in predict_baselines(params, columns)


def test_bad_inputs_are_refused() -> None:
    columns, y = sample(rows=200)
    with pytest.raises(ModelError, match="first_passage_24"):
        fit_baselines(columns, y, 24)
    with pytest.raises(ModelError, match="shape"):
        fit_baselines({**columns, "margin_ratio": np.ones(3)}, y, 8)
    with pytest.raises(ModelError, match="outside"):
        fit_baselines({**columns, "first_passage_8": np.full(200, 1.5)}, y, 8)
    with pytest.raises(ModelError, match="no value"):
        fit_baselines({**columns, "first_passage_8": np.full(200, np.nan)}, y, 8)
    with pytest.raises(ModelError, match="both classes"):
        fit_baselines(columns, np.zeros(200), 8)
    with pytest.raises(ModelError, match="distances"):
        fit_baselines({n: c for n, c in columns.items() if not n.startswith("distance_")}, y, 8)
    with pytest.raises(ModelError, match="malformed"):
        predict_baselines({"horizon": 8}, columns)


def test_weight_counts_as_so_many_equal_rows() -> None:
    columns, y = sample(1500)
    count = np.random.default_rng(4).integers(1, 4, len(y))
    weighted = fit_baselines(columns, y, 8, count)
    repeated = fit_baselines({n: c.repeat(count) for n, c in columns.items()}, y.repeat(count), 8)
    assert weighted["base_rate"] == pytest.approx(repeated["base_rate"])
    for name, p in predict_baselines(weighted, columns).items():
        np.testing.assert_allclose(p, predict_baselines(repeated, columns)[name], rtol=1e-6)


def test_row_without_weight_is_refused() -> None:
    columns, y = sample(200)
    with pytest.raises(ModelError, match="above 0"):
        fit_baselines(columns, y, 8, np.zeros(200))
