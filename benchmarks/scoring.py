"""Scoring: the exported ONNX graph beside LightGBM, for one account and for a whole book."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from benchmarks.measure import Result, median_seconds, seconds_of_each
from features.identity import digests_of
from features.registry import (
    ACCOUNT_COLUMNS,
    ACCOUNT_FEATURES,
    HORIZONS,
    prior_column,
)
from models.bundle.schema import ModelSchema
from models.onnx.export import export
from models.onnx.scorer import Scorer
from models.trees.lightgbm_trees import trees_from_booster

Floats = npt.NDArray[np.float64]

TREES, TRAINING_ROWS, BATCH_ROWS = 200, 20_000, 100_000
ONE_ROW_REPEATS, BATCH_REPEATS = 2_000, 3

SCHEMA = ModelSchema.of_columns(
    features=ACCOUNT_COLUMNS,
    monotone=tuple(feature.monotone for feature in ACCOUNT_FEATURES),
    horizons=HORIZONS,
    prior=tuple(prior_column(hours) for hours in HORIZONS),
    feature_digests=digests_of(ACCOUNT_COLUMNS),
)

_PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "boost_from_average": False,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
    "monotone_constraints": list(SCHEMA.monotone),
}


@dataclass(frozen=True, slots=True)
class Model:
    """The same trees twice: as boosters, one a horizon, and as one graph."""

    boosters: tuple[lightgbm.Booster, ...]
    scorer: Scorer

    def by_lightgbm(self, X: Floats) -> Floats:
        """Raw scores of all horizons, shape (N, H)."""
        scores = [
            X[:, column] + np.asarray(booster.predict(X, raw_score=True, num_threads=1))
            for column, booster in zip(SCHEMA.prior_columns(), self.boosters, strict=True)
        ]
        return np.stack(scores, axis=1)


def run() -> Result:
    """Latency of one row, time of a batch, and the difference of the raw scores."""
    model = train()
    batch = np.random.default_rng(2).standard_normal((BATCH_ROWS, len(ACCOUNT_COLUMNS)))
    row = batch[:1]
    for _ in range(50):  # warms up
        model.scorer.probability(row)
        model.by_lightgbm(row)
    onnx_row = 1e6 * np.array(
        seconds_of_each(lambda: model.scorer.probability(row), ONE_ROW_REPEATS)
    )
    lightgbm_row = 1e6 * median_seconds(lambda: model.by_lightgbm(row), ONE_ROW_REPEATS)
    onnx_batch = median_seconds(lambda: model.scorer.probability(batch), BATCH_REPEATS)
    lightgbm_batch = median_seconds(lambda: model.by_lightgbm(batch), BATCH_REPEATS)
    row_median = float(np.median(onnx_row))
    return Result(
        "scoring",
        settings={
            "horizons": len(HORIZONS),
            "trees_per_horizon": TREES,
            "leaves_per_tree": _PARAMETERS["num_leaves"],
            "columns": len(ACCOUNT_COLUMNS),
            "batch_rows": BATCH_ROWS,
            "threads": 1,
            "note": "onnx answers calibrated probabilities of all horizons in one call, lightgbm "
            "raw scores of the same trees in a call for each horizon",
        },
        medians={
            "onnx_row_microseconds": row_median,
            "onnx_row_99th_percentile_microseconds": float(np.quantile(onnx_row, 0.99)),
            "lightgbm_row_microseconds": lightgbm_row,
            "onnx_batch_seconds": onnx_batch,
            "lightgbm_batch_seconds": lightgbm_batch,
            "onnx_batch_rows_per_second": BATCH_ROWS / onnx_batch,
        },
        ratios={
            "lightgbm_over_onnx_row": lightgbm_row / row_median,
            "lightgbm_over_onnx_batch": lightgbm_batch / onnx_batch,
            "largest_raw_score_difference": float(
                np.abs(model.scorer.score(batch)[0] - model.by_lightgbm(batch)).max()
            ),
        },
    )


def train() -> Model:
    """Trees of the usual size on random columns: their predictions do not matter here."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((TRAINING_ROWS, len(ACCOUNT_COLUMNS)))
    boosters = []
    for column in SCHEMA.prior_columns():
        score = X[:, column] + np.sin(2.0 * X).mean(axis=1) * 4.0
        y = (score + rng.logistic(size=TRAINING_ROWS) > 1.0).astype(np.float64)
        data = lightgbm.Dataset(X, y, init_score=X[:, column].copy())
        boosters.append(lightgbm.train(_PARAMETERS, data, TREES))
    trees = {
        hours: trees_from_booster(booster, len(ACCOUNT_COLUMNS))
        for hours, booster in zip(HORIZONS, boosters, strict=True)
    }
    graph = export(SCHEMA, trees, dict.fromkeys(HORIZONS, (1.0, 0.0)))
    return Model(tuple(boosters), Scorer(graph, SCHEMA))
