"""A candidate: everything that one training makes, before it becomes a bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt

from features.identity import digests_of
from features.registry import (
    ACCOUNT_COLUMNS,
    ACCOUNT_FEATURES,
    OPTION_FEATURES,
    prior_column,
)
from market.core.errors import ModelError
from models.bundle.schema import ModelSchema
from models.onnx.export import export
from models.onnx.scorer import Scorer
from models.prior.spline_prior import SplinePrior
from models.trees.lightgbm_trees import trees_from_booster
from models.trees.tree_table import TreeTable
from training.evaluation.bootstrap import utc_day
from training.evaluation.evaluate import (
    PLAIN_FILE,
    Forecasts,
    baseline_columns,
    forecasts_of,
    model_columns,
    plain_schema,
)
from training.fitting.baselines import fit_baselines, fit_plain
from training.fitting.fit import Ensemble, RoundSearch, fit_trees
from training.fitting.kalman_calibration import KalmanLine, fit_kalman_line
from training.labels.dataset import Dataset
from training.labels.splits import Block

MIN_PRESENCE = 0.6
"""A feature present in a smaller share of the fit rows is left out: it would date the row."""

SEED = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """Model and baselines of one training.

    Attributes
    ----------
    schema:
        Columns, constraints and horizons.
    ensembles, trees:
        The boosters and their tables, by horizon.
    lines:
        Calibration by horizon.
    baselines:
        Parameters of the fitted baselines, by horizon.
    plain:
        Graph of each horizon's plain LightGBM, by file name.
    priors:
        The spline prior of each horizon; empty where the schema names prior columns of logits.
    """

    schema: ModelSchema
    ensembles: dict[int, Ensemble]
    trees: dict[int, TreeTable]
    lines: dict[int, KalmanLine]
    baselines: dict[str, Any]
    plain: dict[str, bytes]
    priors: dict[int, SplinePrior] = field(default_factory=dict)

    @property
    def calibration(self) -> dict[int, tuple[float, float]]:
        """Slope and intercept by horizon."""
        return {hours: (line.slope, line.intercept) for hours, line in self.lines.items()}

    def forecast(self, data: Dataset) -> Forecasts:
        """Probabilities of the model and all baselines, as the bundle made from this gives them.

        Raises
        ------
        ModelError
            The data lack a horizon or a column.
        """
        onnx = export(self.schema, self.trees, self.calibration, self.priors)
        scorer = Scorer(onnx, self.schema)
        return forecasts_of(self.schema, scorer, self.baselines, self.plain.__getitem__, data)


def fit_candidate(data: Dataset, block: npt.NDArray[np.int8]) -> Candidate:
    """Fit trees, calibration and baselines of every horizon.

    Parameters
    ----------
    data:
        All rows.
    block:
        Code of `training.labels.splits.Block` of each row: trees and baselines see the fit rows,
        calibration those and the calibrate rows.

    Raises
    ------
    ModelError
        A block is too small to fit on; the message names it.
    """
    fit, calibrate = np.flatnonzero(block == Block.FIT), np.flatnonzero(block == Block.CALIBRATE)
    schema = trained_schema(data, fit)
    X = np.ascontiguousarray(data.features[fit][:, model_columns(schema)])
    X_calibrate = np.ascontiguousarray(data.features[calibrate][:, model_columns(schema)])
    columns = {name: column[fit] for name, column in baseline_columns(data).items()}
    threads = joblib.cpu_count()
    search = RoundSearch(SEED, threads)
    plain_search = RoundSearch(SEED, threads, max_rounds=1000, patience=50, tail_share=0.1)
    ensembles: dict[int, Ensemble] = {}
    trees: dict[int, TreeTable] = {}
    lines: dict[int, KalmanLine] = {}
    baselines: dict[str, Any] = {}
    plain: dict[str, bytes] = {}
    for h, hours in enumerate(data.horizons):
        y = data.labels[fit, h]
        ensemble = fit_trees(X, y, data.time[fit], schema, hours, search)
        ensembles[hours] = ensemble
        trees[hours] = (
            TreeTable.empty(len(schema.features))
            if ensemble.booster is None
            else trees_from_booster(ensemble.booster, len(schema.features))
        )
        prior = schema.prior_columns()[h]
        raw = [part[:, prior] + trees[hours].raw_score(part) for part in (X, X_calibrate)]
        known = np.concatenate((fit, calibrate))
        lines[hours] = fit_kalman_line(
            np.concatenate(raw), data.labels[known, h], utc_day(data.time[known])
        )
        baselines[str(hours)] = fit_baselines(columns, y, hours)
        schema_of_plain = plain_schema(schema, hours)
        booster = fit_plain(
            np.ascontiguousarray(data.features[fit][:, model_columns(schema_of_plain)]),
            y,
            data.time[fit],
            hours,
            schema_of_plain.features,
            plain_search,
        )
        table = trees_from_booster(booster, len(schema_of_plain.features), average=True)
        plain[PLAIN_FILE.format(hours=hours)] = export(
            schema_of_plain, {hours: table}, {hours: (1.0, 0.0)}
        )
    return Candidate(schema, ensembles, trees, lines, baselines, plain)


def trained_schema(data: Dataset, fit: npt.NDArray[np.intp]) -> ModelSchema:
    """Columns that are present often enough, with priors of the trained horizons only, and option
    columns only where accounts hold options."""
    priors = tuple(prior_column(hours) for hours in data.horizons)
    presence = 1.0 - np.isnan(data.features[fit]).mean(axis=0)
    without_options = {
        name
        for name in OPTION_FEATURES
        if not data.features[fit, ACCOUNT_COLUMNS.index(name)].any()
    }
    features = [
        feature
        for feature, share in zip(ACCOUNT_FEATURES, presence, strict=True)
        if share >= MIN_PRESENCE
        and feature.name not in without_options
        and (feature.name in priors or not feature.name.startswith("prior_logit_"))
    ]
    missing = [name for name in priors if name not in {feature.name for feature in features}]
    if missing:
        raise ModelError(f"prior column(s) {', '.join(missing)} are mostly missing; check the data")
    return ModelSchema.of_columns(
        features=tuple(feature.name for feature in features),
        monotone=tuple(feature.monotone for feature in features),
        horizons=data.horizons,
        prior=priors,
        feature_digests=digests_of(feature.name for feature in features),
    )
