from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np
import pytest

from market.core.errors import ExportError
from models.trees.lightgbm_trees import ZERO_BAND, trees_from_booster
from models.trees.tree_table import Floats, trees_sha256

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel


PARAMETERS = {
    "objective": "binary",
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "boost_from_average": False,
    "verbose": -1,
    "num_leaves": 7,
}


def rows(n: int = 800) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    X[:, 2] = rng.integers(0, 5, n)
    return X, (X[:, 0] + X[:, 2] + rng.normal(size=n) > 2).astype(float)


def train(changes: dict[str, Any] | None = None, **dataset: Any) -> lightgbm.Booster:
    X, y = rows()
    parameters = PARAMETERS | (changes or {})
    data = lightgbm.Dataset(X, y, params=parameters, **dataset)
    return lightgbm.train(parameters, data, 5)


@pytest.mark.parametrize(
    ("hazard", "changes", "dataset"),
    [
        ("category", {}, {"categorical_feature": [2]}),
        ("zero", {"zero_as_missing": True}, {}),
        ("linear", {"linear_tree": True}, {}),
        ("forest", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, {}),
        ("multiclass", {"objective": "multiclass", "num_class": 2}, {}),
        ("base rate", {"boost_from_average": True}, {}),
        ("base rate", {"min_data_in_leaf": 700}, {}),
    ],
)
def test_model_that_cannot_be_exported_exactly_is_refused(
    hazard: str, changes: dict[str, Any], dataset: dict[str, Any]
) -> None:
    with pytest.raises(ExportError, match=hazard):
        trees_from_booster(train(changes, **dataset), 3)


def test_other_width_is_refused() -> None:
    with pytest.raises(ExportError, match="3 features"):
        trees_from_booster(train(), 4)


def test_base_rate_is_exact_where_it_is_accepted() -> None:
    booster = train({"boost_from_average": True})
    X, _ = rows()
    table = trees_from_booster(booster, 3, average=True)
    np.testing.assert_array_equal(table.raw_score(X), booster.predict(X, raw_score=True))


@pytest.mark.parametrize("boosting", ["gbdt", "dart"])
def test_boosting_kinds_are_exact(boosting: str) -> None:
    booster = train({"boosting": boosting})
    X, _ = rows()
    table = trees_from_booster(booster, 3)
    np.testing.assert_array_equal(table.raw_score(X), booster.predict(X, raw_score=True))


def test_nan_where_training_had_none_is_compared_as_zero() -> None:
    booster = train()
    X, _ = rows()
    X[::2, 0] = np.nan
    X[1::2, 2] = np.nan
    table = trees_from_booster(booster, 3)
    np.testing.assert_array_equal(table.raw_score(X), booster.predict(X, raw_score=True))


def test_values_in_the_zero_band_go_where_lightgbm_sends_them() -> None:
    rng = np.random.default_rng(1)
    X = rng.choice([-1.0, 0.0, 1.0], (900, 1))
    y = (X[:, 0] != 0).astype(float)
    parameters = PARAMETERS | {"min_data_in_leaf": 5}
    booster = lightgbm.train(parameters, lightgbm.Dataset(X, y), 3)
    table = trees_from_booster(booster, 1)
    tiny = np.array([0.0, -0.0, 1e-300, 1e-36, ZERO_BAND, 2e-35])
    edges = np.concatenate([tiny, np.nextafter(tiny, 1), np.nextafter(tiny, -1)])
    probe = np.concatenate([edges, -edges, [np.inf, -np.inf]])[:, None]
    np.testing.assert_array_equal(table.raw_score(probe), booster.predict(probe, raw_score=True))


def test_infinite_inputs_are_exact(small: SmallModel) -> None:
    X = small.X[:200].copy()
    X[::3, 3] = np.inf
    X[1::3, 6] = -np.inf
    for horizon, raw in small.raw().items():
        np.testing.assert_array_equal(small.trees[horizon].raw_score(X), raw(X))


def test_best_iteration_is_used() -> None:
    booster = train()
    booster.best_iteration = 2
    X, _ = rows()
    table = trees_from_booster(booster, 3)
    assert table.n_trees == 2
    np.testing.assert_array_equal(table.raw_score(X), booster.predict(X, raw_score=True))


def test_equal_training_gives_equal_hash_and_a_reload_keeps_it() -> None:
    booster = train()
    sha = trees_sha256(trees_from_booster(booster, 3))
    assert sha == trees_sha256(trees_from_booster(train(), 3))
    reloaded = lightgbm.Booster(model_str=booster.model_to_string())
    assert sha == trees_sha256(trees_from_booster(reloaded, 3))
    assert sha != trees_sha256(trees_from_booster(train({"num_leaves": 6}), 3))
