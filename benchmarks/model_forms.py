"""The two forms of a model: few small trees on a spline prior, many on a column of logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from benchmarks.measure import Result, median_seconds
from models.bundle.schema import ModelSchema
from models.onnx.export import export
from models.onnx.scorer import Scorer
from models.prior.score import prior_score
from models.prior.spline_prior import SplinePrior
from models.trees.lightgbm_trees import trees_from_booster

Floats = npt.NDArray[np.float64]

HORIZONS = (1, 8, 24)
COLUMNS, TRAINING_ROWS, SEED = 40, 20_000, 1
ROW_REPEATS, BATCH_ROWS, BATCH_REPEATS = 2_000, 1_000, 30
SPLINE_TREES, LOGIT_TREES = {1: 160, 8: 120, 24: 90}, dict.fromkeys(HORIZONS, 300)
"""Trees a horizon: 80, 60 and 45 rounds under two seeds, and 300 rounds."""
SPLINE_LEAVES, LOGIT_LEAVES = 7, 15

_NAMES = tuple(f"column_{k}" for k in range(COLUMNS))
_SIGNS = (-1,) * 4 + (1,) * 3 + (0,) * (COLUMNS - 7)
_HASH = "0" * 64
SPLINE_SCHEMA = ModelSchema(
    _NAMES, _SIGNS, HORIZONS, (), _HASH, (), tuple((_NAMES[h], _NAMES[3]) for h in range(3))
)
LOGIT_SCHEMA = ModelSchema(_NAMES, _SIGNS, HORIZONS, _NAMES[4:7], _HASH)


@dataclass(frozen=True, slots=True)
class _Form:
    schema: ModelSchema
    trees: Mapping[int, int]
    leaves: int
    priors: Mapping[int, SplinePrior]


def run() -> Result:
    """Time of one row and of a thousand, and the one form's over the other's."""
    rng = np.random.default_rng(SEED)
    priors = {
        hours: SplinePrior.of_parameters(np.array([1.0, *-rng.exponential(0.4, 27)]))
        for hours in HORIZONS
    }
    batch = rng.normal(0.0, 1.5, (BATCH_ROWS, COLUMNS))
    medians: dict[str, float] = {}
    for name, form in (
        ("spline", _Form(SPLINE_SCHEMA, SPLINE_TREES, SPLINE_LEAVES, priors)),
        ("logit", _Form(LOGIT_SCHEMA, LOGIT_TREES, LOGIT_LEAVES, {})),
    ):
        scorer, row = _trained(form), batch[:1]

        def one_row(scorer: Scorer = scorer, row: Floats = row) -> Floats:
            return scorer.probability(row)

        def many_rows(scorer: Scorer = scorer) -> Floats:
            return scorer.probability(batch)

        for _ in range(50):  # warms up
            one_row()
        medians[f"{name}_row_microseconds"] = 1e6 * median_seconds(one_row, ROW_REPEATS)
        medians[f"{name}_batch_microseconds"] = 1e6 * median_seconds(many_rows, BATCH_REPEATS)
    return Result(
        "model_forms",
        settings={
            "horizons": len(HORIZONS),
            "columns": COLUMNS,
            "spline_trees": "160, 120, 90",
            "spline_leaves": SPLINE_LEAVES,
            "logit_trees": "300, 300, 300",
            "logit_leaves": LOGIT_LEAVES,
            "batch_rows": BATCH_ROWS,
            "threads": 1,
        },
        medians=medians,
        ratios={
            f"spline_over_logit_{size}": medians[f"spline_{size}_microseconds"]
            / medians[f"logit_{size}_microseconds"]
            for size in ("row", "batch")
        },
    )


def _trained(form: _Form) -> Scorer:
    """Trees of the given numbers on random columns: their predictions do not matter here."""
    rng = np.random.default_rng(SEED)
    X = rng.normal(0.0, 1.5, (TRAINING_ROWS, COLUMNS))
    start = prior_score(X, form.schema, form.priors)
    parameters: dict[str, Any] = {
        "objective": "binary",
        "num_leaves": form.leaves,
        "learning_rate": 0.05,
        "boost_from_average": False,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        "monotone_constraints": list(form.schema.monotone),
    }
    trees = {}
    for h, hours in enumerate(HORIZONS):
        score = start[:, h] + np.sin(2.0 * X).mean(axis=1) * 4.0
        y = (score + rng.logistic(size=TRAINING_ROWS) > 0.0).astype(np.float64)
        data = lightgbm.Dataset(X, y, init_score=start[:, h].copy())
        booster = lightgbm.train(parameters, data, form.trees[hours])
        trees[hours] = trees_from_booster(booster, COLUMNS)
    graph = export(form.schema, trees, dict.fromkeys(HORIZONS, (1.0, 0.0)), form.priors)
    return Scorer(graph, form.schema)
