"""A candidate: everything that one training makes, before it becomes a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt

from features.identity import digests_of
from features.registry import OPTION_FEATURES, account_feature, prior_distances
from market.core.arrays import Floats
from market.core.errors import ModelError
from models.bundle.schema import ModelSchema
from models.onnx.export import export
from models.onnx.scorer import Scorer
from models.prior.spline_prior import SplinePrior
from models.trees.tree_table import TreeTable
from training.evaluation.evaluate import (
    PLAIN,
    PLAIN_FORECAST,
    PLAIN_MODELS,
    Forecasts,
    baseline_columns,
    forecasts_of,
    plain_schema,
)
from training.evaluation.metrics import log_loss_rows
from training.fitting.baselines import fit_baselines
from training.fitting.calibration import fit_platt, platt_probability
from training.fitting.column_sets import (
    PLAIN_COLUMNS,
    SMALL_COLUMNS,
    forecast_distances,
)
from training.fitting.hyperparameters import DEFAULTS, Hyperparameters
from training.fitting.learning_rows import LearningRows
from training.fitting.plain import ALL, CALIBRATE, FIT, PLAIN_PARAMETERS, fit_plain
from training.fitting.prior_fit import fit_prior
from training.fitting.trees import (
    ColumnSet,
    Ensemble,
    TrainingRows,
    TreePart,
    learning_curve,
)
from training.labels.dataset import Dataset

MIN_PRESENCE = 0.6
"""A feature present in a smaller share of the fit rows is left out: it would date the row."""

SEED = 1

_CHUNK = 200_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """Model and baselines of one training.

    Attributes
    ----------
    schema:
        Columns, constraints and horizons.
    priors:
        The fitted prior of each horizon.
    ensembles, trees:
        The boosters and their tables, by horizon.
    calibration:
        Slope and intercept of the Platt line, by horizon.
    baselines:
        Parameters of the fitted baselines, by horizon.
    plain:
        Graphs of each horizon's plain LightGBM models, by file name.
    settings:
        With which prior and trees were fitted.
    """

    schema: ModelSchema
    priors: dict[int, SplinePrior]
    ensembles: dict[int, Ensemble]
    trees: dict[int, TreeTable]
    calibration: dict[int, tuple[float, float]]
    baselines: dict[str, Any]
    plain: dict[str, bytes]
    settings: Hyperparameters = DEFAULTS

    def forecast(self, data: Dataset) -> Forecasts:
        """Probabilities of the model and all baselines, as the bundle made from this gives them.

        Raises
        ------
        ModelError
            The data lack a horizon or a column.
        """
        graph = export(self.schema, self.trees, self.calibration, self.priors)
        scorer = Scorer(graph, self.schema)
        return forecasts_of(self.schema, scorer, self.baselines, self.plain.__getitem__, data)


def fit_candidate(
    data: Dataset,
    block: npt.NDArray[np.int8],
    *,
    with_plain_forecast: bool = False,
    threads: int | None = None,
    settings: Hyperparameters = DEFAULTS,
) -> Candidate:
    """Fit prior, trees, calibration and baselines of every horizon.

    Rows count by `Dataset.weight`; those without weight take no part. Prior and trees are fitted
    to the fit rows first, and the trees are dropped unless their log loss on the calibrate rows is
    smaller than that of the prior alone. The Platt line of these first fits is fitted on both
    blocks. Then prior and trees are fitted to both blocks with the same number of trees, and keep
    the line. The baselines are fitted to both blocks too; plain LightGBM finds its number of trees
    on the calibrate rows.

    Parameters
    ----------
    data:
        All rows.
    block:
        Code of `training.labels.splits.Block` of each row.
    with_plain_forecast:
        Whether to fit plain LightGBM with the forecast distances too, which is reported and is no
        baseline.
    threads:
        Of LightGBM; None for those that the process may use. The result does not depend on it.
    settings:
        Of prior and trees; the baselines have their own, which stay.

    Raises
    ------
    ModelError
        A block is too small to fit on; the message names it.
    """
    rows = LearningRows.of_block(data, block)
    schema = trained_schema(data, rows.rows[rows.fit])
    threads = threads or joblib.cpu_count()
    labels = {hours: rows.labels(hours) for hours in data.horizons}
    priors: dict[int, SplinePrior] = {}
    ensembles: dict[int, Ensemble] = {}
    lines: dict[int, tuple[float, float]] = {}
    small, wide = column_sets(rows, schema, settings)
    for hours in data.horizons:
        sets = (small, wide) if hours >= settings.blend_from_hours else (small,)
        fitted = _fit_model(rows, labels[hours], schema, hours, sets, threads)
        priors[hours], ensembles[hours], lines[hours] = fitted
    del small, wide, sets
    trees = {hours: ensemble.table(len(schema.features)) for hours, ensemble in ensembles.items()}
    columns = {name: column[rows.rows] for name, column in baseline_columns(data).items()}
    baselines = {
        str(hours): fit_baselines(columns, labels[hours], hours, rows.weight)
        for hours in data.horizons
    }
    del columns
    columns_of: dict[str, Sequence[str]] = {PLAIN: PLAIN_COLUMNS}
    if with_plain_forecast:
        columns_of[PLAIN_FORECAST] = (*PLAIN_COLUMNS, *forecast_distances(schema.horizons))
    plain = _fit_plain_models(rows, labels, schema, baselines, columns_of, threads)
    return Candidate(schema, priors, ensembles, trees, lines, baselines, plain, settings)


def _fit_plain_models(
    rows: LearningRows,
    labels: Mapping[int, npt.NDArray[np.int8]],
    schema: ModelSchema,
    baselines: dict[str, Any],
    columns_of: Mapping[str, Sequence[str]],
    threads: int,
) -> dict[str, bytes]:
    """Graphs of plain models by file name; adds columns and rounds to `baselines`.

    `columns_of` has the columns of each, some of `PLAIN_MODELS`. The one with forecast distances
    takes over the number of trees of the one without, which comes first.
    """
    graphs: dict[str, bytes] = {}
    rounds: dict[int, int] = {}
    for name, read in columns_of.items():
        features = tuple(column for column in schema.features if column in read)
        binned = _binned(rows, features, PLAIN_PARAMETERS)
        for hours in schema.horizons:
            y = labels[hours]
            table = fit_plain(
                binned, y, rows.weight, seed=SEED, num_threads=threads, rounds=rounds.get(hours)
            )
            rounds[hours] = table.n_trees
            fitted = baselines[str(hours)]
            fitted[name] = {"features": list(features), "rounds": table.n_trees}
            own = plain_schema(schema, hours, fitted, name)
            if own is not None:
                file = PLAIN_MODELS[name].format(hours=hours)
                graphs[file] = export(own, {hours: table}, {hours: (1.0, 0.0)})
    return graphs


def _fit_model(
    rows: LearningRows,
    labels: npt.NDArray[np.int8],
    schema: ModelSchema,
    hours: int,
    sets: Sequence[ColumnSet],
    threads: int,
) -> tuple[SplinePrior, Ensemble, tuple[float, float]]:
    """Prior, trees and Platt line of one horizon."""
    trial = trial_fit(rows, labels, schema, hours, sets, threads)
    weight, fit, calibrate = rows.weight, rows.fit, rows.calibrate
    settings, start, corrected = sets[0].settings, trial.rows.start, trial.corrected
    shares, rounds = _blend_shares(sets), settings.rounds(hours)
    curve = learning_curve(sets, trial.boosters, shares, trial.rows, (fit, calibrate), rounds)
    y, w = labels[calibrate], weight[calibrate]
    losses = _platt_loss(start[calibrate], y, w), _platt_loss(corrected[calibrate], y, w)

    distances = _gather(rows, schema.prior_distances[schema.horizons.index(hours)])
    prior = fit_prior(distances, labels, weight, penalty=settings.prior_ridge)
    if not losses[1] < losses[0]:
        return prior, Ensemble((), 0, *losses, curve), fit_platt(start, labels, weight)
    final = TrainingRows(ALL, labels, weight, prior.score(distances))
    parts = tuple(
        TreePart(one.fit(final, rounds, threads), one.columns, share)
        for one, share in zip(sets, shares, strict=True)
    )
    return prior, Ensemble(parts, rounds, *losses, curve), fit_platt(corrected, labels, weight)


@dataclass(frozen=True, slots=True)
class TrialFit:
    """Prior and trees of one seed fitted to the fit rows.

    Attributes
    ----------
    rows:
        What the trees were fitted to; ``start`` is the score of the prior.
    boosters:
        One of each set of columns.
    corrected:
        Score of prior and trees of all learning rows, shape (N,).
    """

    rows: TrainingRows
    boosters: Sequence[Any]
    corrected: Floats


def trial_fit(
    rows: LearningRows,
    labels: npt.NDArray[np.int8],
    schema: ModelSchema,
    hours: int,
    sets: Sequence[ColumnSet],
    threads: int,
) -> TrialFit:
    """Fit the prior, then the trees of the first seed, of one horizon to the fit rows."""
    distances = _gather(rows, schema.prior_distances[schema.horizons.index(hours)])
    weight, fit, settings = rows.weight, rows.fit, sets[0].settings
    prior = fit_prior(distances[fit], labels[fit], weight[fit], penalty=settings.prior_ridge)
    trial = TrainingRows(FIT, labels, weight, prior.score(distances))
    rounds = settings.rounds(hours)
    corrected = trial.start.copy()
    boosters = [one.fit(trial, rounds, threads, seeds=1)[0] for one in sets]
    for one, booster, share in zip(sets, boosters, _blend_shares(sets), strict=True):
        corrected += share * one.binned.raw_score([booster], np.arange(len(labels)))
    return TrialFit(trial, boosters, corrected)


def shape_losses(score: Floats, labels: npt.NDArray[np.int8], weight: Floats) -> Floats:
    """Log loss of each row under the Platt line of these scores: compares shapes."""
    return log_loss_rows(labels, platt_probability(score, *fit_platt(score, labels, weight)))


def _platt_loss(score: Floats, labels: npt.NDArray[np.int8], weight: Floats) -> float:
    return float(weight @ shape_losses(score, labels, weight) / weight.sum())


def _blend_shares(sets: Sequence[ColumnSet]) -> tuple[float, ...]:
    share = sets[0].settings.wide_share
    return (1.0,) if len(sets) == 1 else (1.0 - share, share)


def _gather(rows: LearningRows, names: Sequence[str]) -> Floats:
    """Some columns of the learning rows, without a missing value.

    Raises
    ------
    ModelError
        A value is missing.
    """
    places = [rows.data.feature_names.index(name) for name in names]
    values = np.column_stack([rows.data.features[rows.rows, place] for place in places])
    if np.isnan(values).any():
        raise ModelError(
            f"{int(np.isnan(values).any(axis=1).sum())} training rows lack one of "
            f"{', '.join(names)}; rows in warm-up must be left out of the data set"
        )
    return values


def column_sets(
    rows: LearningRows, schema: ModelSchema, settings: Hyperparameters
) -> tuple[ColumnSet, ColumnSet]:
    """Small set and set of all columns of the model; rows binned."""
    read = (*SMALL_COLUMNS, *forecast_distances(schema.horizons))
    small = tuple(name for name in schema.features if name in read)

    def column_set(names: tuple[str, ...], seeds: tuple[int, ...]) -> ColumnSet:
        places = tuple(schema.features.index(name) for name in names)
        monotone = tuple(schema.monotone[place] for place in places)
        return ColumnSet(
            _binned(rows, names, settings.lightgbm()), places, monotone, seeds, settings
        )

    return column_set(small, settings.seeds), column_set(schema.features, settings.seeds[:1])


def _binned(rows: LearningRows, names: Sequence[str], parameters: Any) -> Any:
    # Four seconds of import that only training pays.
    from training.fitting.binned_rows import BinnedRows

    columns = {name: rows.data.feature_names.index(name) for name in names}
    binned = BinnedRows(rows.data, rows.rows, columns, parameters)
    binned.add_part(FIT, rows.fit)
    binned.add_part(CALIBRATE, rows.calibrate)
    binned.add_part(ALL, np.arange(len(rows.rows)))
    return binned


def trained_schema(data: Dataset, fit: npt.NDArray[np.intp]) -> ModelSchema:
    """Columns that are present often enough, and option columns only where accounts hold options.

    The logits of the first-passage prior are left out: they are functions of the distances.
    """
    columns = data.feature_names
    present, used = np.zeros(len(columns)), np.zeros(len(columns), dtype=np.bool_)
    for begin in range(0, len(fit), _CHUNK):
        part = data.features[fit[begin : begin + _CHUNK]]
        present += (~np.isnan(part)).sum(axis=0)
        used |= part.any(axis=0)
    of_horizons = tuple(prior_distances(hours) for hours in data.horizons)
    features = [
        feature
        for feature, count, nonzero in zip(
            map(account_feature, columns), present, used, strict=True
        )
        if count >= MIN_PRESENCE * len(fit)
        and (nonzero or feature.name not in OPTION_FEATURES)
        and not feature.name.startswith("prior_logit_")
    ]
    names = tuple(feature.name for feature in features)
    missing = sorted({name for pair in of_horizons for name in pair} - set(names))
    if missing:
        raise ModelError(
            f"prior distance(s) {', '.join(missing)} are mostly missing; check the data"
        )
    return ModelSchema.of_columns(
        features=names,
        monotone=tuple(feature.monotone for feature in features),
        horizons=data.horizons,
        prior=(),
        feature_digests=digests_of(names),
        prior_distances=of_horizons,
    )
