"""The classifier in scikit-learn's conventions, and as our model where the columns say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import margincast as mc
from margincast.learning import TrainingDataError


def rows(count: int = 4_000) -> tuple[pd.DataFrame, np.ndarray, pd.DatetimeIndex]:
    """Accounts whose call gets less likely with the distance, in time order."""
    rng = np.random.default_rng(7)
    distance = rng.uniform(-1.0, 2.0, count)
    X = pd.DataFrame(
        {
            "forecast_distance_24h": distance,
            "long_run_distance": distance + rng.normal(0.0, 0.1, count),
            "herfindahl": rng.uniform(0.0, 1.0, count),
        }
    )
    y = (rng.uniform(size=count) < 1.0 / (1.0 + np.exp(3.0 * distance))).astype(int)
    return X, y, pd.date_range("2025-01-01", periods=count, freq="h", tz="UTC")


def test_estimator_passes_every_check_of_scikit_learn() -> None:
    results = check_estimator(mc.MarginCallClassifier(), on_skip=None)
    assert len(results) > 50
    assert {one["status"] for one in results} <= {"passed", "skipped"}
    skipped = [one["check_name"] for one in results if one["status"] == "skipped"]
    assert set(skipped) <= {"check_array_api_input"}


def test_columns_by_name_give_a_prior_and_probabilities_that_fall_with_distance() -> None:
    X, y, _ = rows()
    model = mc.MarginCallClassifier().fit(X, y)
    assert model.prior_ is not None
    p = model.predict_proba(X)[:, 1]
    assert p.mean() == pytest.approx(y.mean(), abs=0.02)
    path = pd.DataFrame(
        {
            "forecast_distance_24h": np.linspace(-1.0, 2.0, 200),
            "long_run_distance": np.linspace(-1.0, 2.0, 200),
            "herfindahl": 0.5,
        }
    )
    assert (np.diff(model.predict_proba(path)[:, 1]) <= 0.0).all()


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_mean_probability_is_the_share_of_calls_by_weight(share: float) -> None:
    X, _, _ = rows(1_500)
    rng = np.random.default_rng(11)
    # Few calls, and more of them early: the first stage learns another level than all rows have.
    odds = np.log(share / (1.0 - share)) - 2.0 * X["forecast_distance_24h"]
    y = (rng.uniform(size=len(X)) < 1.0 / (1.0 + np.exp(-odds + np.linspace(-1, 1, 1_500)))) * 1
    weight = rng.uniform(0.5, 2.0, len(X))
    model = mc.MarginCallClassifier().fit(X, y, sample_weight=weight)
    mean = np.average(model.predict_proba(X)[:, 1], weights=weight)
    assert mean == pytest.approx(np.average(y, weights=weight), rel=1e-6)
    assert model.calibration_[0] > 0.0


def test_an_array_without_names_has_no_prior_and_only_the_given_directions() -> None:
    X, y, _ = rows()
    model = mc.MarginCallClassifier(monotone=[-1, -1, 0]).fit(X.to_numpy(), y)
    assert model.prior_ is None
    path = np.column_stack([np.linspace(-1.0, 2.0, 200)] * 2 + [np.full(200, 0.5)])
    assert (np.diff(model.predict_proba(path)[:, 1]) <= 0.0).all()


def test_pipeline_cross_validation_and_grid_search_take_purged_splits() -> None:
    X, y, times = rows(2_000)
    cv = mc.PurgedTimeSeriesSplit(3)
    pipeline: Any = make_pipeline(StandardScaler(), mc.MarginCallClassifier(rounds=10))
    scores = cross_val_score(pipeline, X, y, groups=times, cv=cv, scoring="roc_auc")
    assert scores.shape == (3,)
    assert (scores > 0.7).all()
    search = GridSearchCV(
        mc.MarginCallClassifier(rounds=5), {"num_leaves": [3, 7]}, cv=cv, scoring="neg_log_loss"
    )
    search.fit(X, y, groups=times)
    assert search.best_params_["num_leaves"] in (3, 7)


def test_clone_refits_to_the_last_bit() -> None:
    X, y, _ = rows(1_000)
    model = mc.MarginCallClassifier(rounds=8, seeds=(3,))
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert_array_equal(model.fit(X, y).predict_proba(X), copy.fit(X, y).predict_proba(X))


def test_what_cannot_be_trained_on_is_refused() -> None:
    X, y, _ = rows(500)
    missing = X.assign(long_run_distance=np.nan)
    for model, columns, message in (
        (mc.MarginCallClassifier(), missing, "is missing; leave rows in warm-up out"),
        (mc.MarginCallClassifier(monotone=[1]), X, "for 3 columns"),
        (mc.MarginCallClassifier(calibration_share=1.5), X, "share between 0 and 1"),
    ):
        with pytest.raises(TrainingDataError, match=message):
            model.fit(columns, y)
    with pytest.raises(TrainingDataError, match="one class only"):
        mc.MarginCallClassifier().fit(X, np.zeros(500))
