"""The structural prior as a model of its own: no trees, no calibration, no file.

It has the columns, the horizons and the kernels of every trained model, so a warm-up can run them
where nothing has been trained yet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features.identity import digests_of
from features.registry import ACCOUNT_COLUMNS, ACCOUNT_FEATURES, HORIZONS, prior_column
from market.core.arrays import Floats
from models.bundle.bundle import Bundle
from models.bundle.schema import ModelSchema
from models.forecaster import Forecaster
from models.onnx.scorer import Scorer
from models.prior.score import prior_score
from models.trees.tree_table import TreeTable, as_rows


def prior_model(ruleset_sha256: str) -> Forecaster:
    """The prior as a model that was trained for a rule set."""
    schema = ModelSchema.of_columns(
        features=ACCOUNT_COLUMNS,
        monotone=tuple(feature.monotone for feature in ACCOUNT_FEATURES),
        horizons=HORIZONS,
        prior=tuple(prior_column(hours) for hours in HORIZONS),
        feature_digests=digests_of(ACCOUNT_COLUMNS),
    )
    return Forecaster(
        Bundle(
            sha256="0" * 64,
            path=Path(),
            manifest={"ruleset_sha256": ruleset_sha256, "training": {"event": "call"}},
            schema=schema,
            trees={hours: TreeTable.empty(len(ACCOUNT_COLUMNS)) for hours in HORIZONS},
            calibration=dict.fromkeys(HORIZONS, (1.0, 0.0)),
            scorer=_PriorScorer(schema),
            checksums={},
        )
    )


class _PriorScorer(Scorer):
    """``1 / (1 + exp(-prior_h))``, then the running maximum over horizons, as the graphs have it.

    Graphs are made where models are trained, with a package that the endpoint does without.
    """

    __slots__ = ()

    def __init__(self, schema: ModelSchema) -> None:
        self.schema = schema

    def probability(self, X: Floats) -> Floats:
        """As `Scorer.probability`."""
        rows = as_rows(X, len(self.schema.features))
        prior = prior_score(rows, self.schema)
        with np.errstate(over="ignore"):
            odds = 1.0 / (1.0 + np.exp(-prior))
        return np.maximum.accumulate(odds, axis=1)
