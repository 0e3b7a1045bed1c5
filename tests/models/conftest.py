"""A small model with real LightGBM boosters, priors, missing values and zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import pytest

from models.bundle.bundle import bundle_files
from models.bundle.manifest import TrainingRecord
from models.bundle.schema import ModelSchema
from models.onnx.export import export
from models.prior.score import prior_score
from models.prior.spline_prior import SplinePrior
from models.trees.lightgbm_trees import trees_from_booster
from models.trees.tree_table import Floats, TreeTable

HORIZONS = (1, 8, 24)
BASE_PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "boost_from_average": False,
    "verbose": -1,
    "num_leaves": 15,
    "learning_rate": 0.2,
}
RECORD = TrainingRecord(
    training_data_sha256="1" * 64,
    ruleset_sha256="2" * 64,
    versions={"lightgbm": lightgbm.__version__},
    metrics={"auc": 0.9},
)


@dataclass(frozen=True)
class SmallModel:
    """Everything a test may want to compare."""

    schema: ModelSchema
    boosters: dict[int, lightgbm.Booster]
    trees: dict[int, TreeTable]
    calibration: dict[int, tuple[float, float]]
    onnx: bytes
    X: Floats

    def raw(self) -> dict[int, Any]:
        """LightGBM's own raw score of each horizon."""

        def scorer(booster: lightgbm.Booster) -> Any:
            return lambda X: booster.predict(X, raw_score=True, num_threads=1)

        return {h: scorer(booster) for h, booster in self.boosters.items()}

    def files(self) -> dict[str, bytes]:
        """Files of its bundle."""
        return bundle_files(
            model=self.onnx,
            schema=self.schema,
            trees=self.trees,
            calibration=self.calibration,
            record=RECORD,
        )


def training_rows(n: int = 3000, seed: int = 7) -> tuple[Floats, dict[int, Floats]]:
    """Columns prior_1, prior_8, prior_24, volatility, momentum (NaN), jumps (zeros), trend."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 7))
    X[:, 1] = X[:, 0] + 0.5
    X[:, 2] = X[:, 1] + 0.5
    X[rng.random(n) < 0.25, 4] = np.nan
    X[rng.random(n) < 0.6, 5] = 0.0
    signal = 0.8 * X[:, 3] + np.nan_to_num(X[:, 4], nan=1.0) + np.sign(X[:, 5])
    labels = {
        horizon: (signal + X[:, h] + rng.logistic(size=n) > 1.0 - 0.3 * h).astype(np.float64)
        for h, horizon in enumerate(HORIZONS)
    }
    return X, labels


@pytest.fixture(scope="session")
def small() -> SmallModel:
    X, labels = training_rows()
    schema = ModelSchema(
        features=("prior_1", "prior_8", "prior_24", "volatility", "momentum", "jumps", "trend"),
        monotone=(1, 1, 1, 1, 0, 0, 0),
        horizons=HORIZONS,
        prior=("prior_1", "prior_8", "prior_24"),
        features_sha256="a" * 64,
    )
    parameters = BASE_PARAMETERS | {"monotone_constraints": list(schema.monotone)}
    boosters = {
        horizon: lightgbm.train(
            parameters, lightgbm.Dataset(X, labels[horizon], init_score=X[:, h].copy()), 25
        )
        for h, horizon in enumerate(HORIZONS)
    }
    trees = {h: trees_from_booster(booster, 7) for h, booster in boosters.items()}
    calibration = {1: (0.9, 0.1), 8: (1.05, -0.2), 24: (1.0, 0.0)}
    return SmallModel(schema, boosters, trees, calibration, export(schema, trees, calibration), X)


DISTANCES = ("forecast_1", "forecast_8", "forecast_24")


@dataclass(frozen=True)
class SplineModel(SmallModel):
    """The same with a spline prior on two log distances at each horizon."""

    priors: dict[int, SplinePrior]

    def files(self) -> dict[str, bytes]:
        """Files of its bundle."""
        return bundle_files(
            model=self.onnx,
            schema=self.schema,
            trees=self.trees,
            calibration=self.calibration,
            record=RECORD,
            priors=self.priors,
        )


def random_prior(seed: int, sparse: float = 0.5) -> SplinePrior:
    """A prior with random weights, a share of them 0, on the default knots."""
    rng = np.random.default_rng(seed)
    weights = -rng.exponential(0.5, 27) * (rng.random(27) > sparse)
    return SplinePrior.of_parameters(np.array([1.0 + rng.normal(), *weights]))


@pytest.fixture(scope="session")
def spline() -> SplineModel:
    rng = np.random.default_rng(17)
    X, labels = training_rows(seed=17)
    X[:, :3] = rng.normal(1.0, 1.5, (len(X), 3))
    X = np.column_stack([X, X[:, 1] + 1.5 + rng.normal(0.0, 0.3, len(X))])
    schema = ModelSchema(
        features=(*DISTANCES, "volatility", "momentum", "jumps", "trend", "long_run"),
        monotone=(-1, -1, -1, 1, 0, 0, 0, -1),
        horizons=HORIZONS,
        prior=(),
        features_sha256="a" * 64,
        prior_distances=tuple((name, "long_run") for name in DISTANCES),
    )
    priors = {hours: random_prior(hours) for hours in HORIZONS}
    start = prior_score(X, schema, priors)
    parameters = BASE_PARAMETERS | {"monotone_constraints": list(schema.monotone)}
    boosters = {
        horizon: lightgbm.train(
            parameters, lightgbm.Dataset(X, labels[horizon], init_score=start[:, h].copy()), 25
        )
        for h, horizon in enumerate(HORIZONS)
    }
    trees = {h: trees_from_booster(booster, 8) for h, booster in boosters.items()}
    calibration = {1: (0.9, 0.1), 8: (1.05, -0.2), 24: (1.0, 0.0)}
    onnx = export(schema, trees, calibration, priors)
    return SplineModel(schema, boosters, trees, calibration, onnx, X, priors)
