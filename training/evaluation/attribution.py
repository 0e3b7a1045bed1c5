"""Attribution: contributions of features to the score, and the loss without a feature family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt

from features.registry import ACCOUNT_FEATURES
from models.bundle.schema import ModelSchema
from models.prior.score import prior_score
from models.trees.contributions import (
    BIAS,
    PRIOR,
    contribution_names,
    of_prior,
    score_contributions,
)
from training.evaluation.bootstrap import skill_interval, utc_day
from training.evaluation.evaluate import BOOTSTRAP_SEED, model_columns
from training.evaluation.metrics import log_loss_rows, log_loss_skill
from training.fitting.calibration import fit_platt, platt_probability
from training.fitting.candidate import SEED, Candidate
from training.fitting.trees import tree_parameters
from training.labels.dataset import Dataset
from training.labels.splits import Block

Floats = npt.NDArray[np.float64]

CONTRIBUTION_ROWS = 20_000
ABLATION_ROWS = 40_000
"""Most rows of each block for an ablation; a seeded draw takes them."""

STRUCTURE = "structural prior"
"""Family of the prior columns: they are what the trees correct, whatever they are made of."""

_DRAW_SEED = 20_240_103


def feature_families(schema: ModelSchema) -> dict[str, str]:
    """Family of each column of a model, from the registry; those of the prior are `STRUCTURE`."""
    structure = {*schema.prior, *schema.distance_names()}
    registered = {feature.name: str(feature.family) for feature in ACCOUNT_FEATURES}
    return {name: STRUCTURE if name in structure else registered[name] for name in schema.features}


def mean_contributions(candidate: Candidate, test: Dataset) -> dict[str, Any]:
    """Measure how much each column moves the raw score between accounts, on the test block.

    The figure is the mean absolute deviation of a column's path contribution from its own mean,
    ``mean_i |c_i − mean c|`` in log odds; for ``prior`` (the logit that the trees correct) and
    ``prior.<distance>`` (its part from one distance) that of the logit itself. The mean of a
    contribution is left out, for it is a constant like the bias.

    Parameters
    ----------
    candidate:
        The model.
    test:
        Rows; at most `CONTRIBUTION_ROWS` of them are drawn.

    Returns
    -------
    dict
        By horizon ``features`` (all that are not 0, largest first) and ``families``, whose
        figure is that of the sum of their columns.
    """
    schema = candidate.schema
    rows = _draw(np.arange(len(test)), CONTRIBUTION_ROWS)
    X = np.ascontiguousarray(test.features[rows][:, model_columns(schema, test)])
    parts = score_contributions(X, schema, candidate.trees, candidate.priors)
    names = contribution_names(schema)
    families = {**feature_families(schema), **{n: PRIOR for n in names if of_prior(n)}}
    report: dict[str, Any] = {}
    for h, hours in enumerate(schema.horizons):
        columns = {name: parts[:, h, i] for i, name in enumerate(names) if name != BIAS}
        sums: dict[str, Floats] = {}
        for name, column in columns.items():
            family = families[name]
            sums[family] = sums.get(family, np.zeros(len(rows))) + column
        report[str(hours)] = {"features": _spreads(columns), "families": _spreads(sums)}
    return report


def ablation(
    candidate: Candidate,
    data: Dataset,
    block: npt.NDArray[np.int8],
    threads: int | None = None,
) -> dict[str, Any]:
    """Measure what the trees lose without each family of features.

    For each horizon that has trees the small trees are fitted anew with all their columns, without
    each family, and not at all (the prior alone): the same weighted rows, the same number of
    rounds, seed and constraints, each with its own Platt line from the calibrate rows. The fitted
    prior stays, for the trees correct it. At most `ABLATION_ROWS` rows of each block are drawn:
    the figures compare refits with each other, not with the model.

    Parameters
    ----------
    candidate:
        Gives columns, families and rounds.
    data, block:
        All rows and the block of each.
    threads:
        Of LightGBM; None for those that the process may use. The result does not depend on it.

    Returns
    -------
    dict
        By horizon ``rounds`` and ``without``: by family (and ``trees``) its number of
        ``columns``, its ``log_loss`` and ``loss_increase`` = 1 − log loss with all columns over
        log loss without, with its paired 95% interval ``loss_increase_ci95``. Above 0: the
        family helps. No entry for a horizon whose model is the prior alone.

    References
    ----------
    Lei et al. (2018), "Distribution-free predictive inference for regression", 6 (leave one
    covariate out).
    """
    schema = candidate.schema
    weighted = data.weight > 0.0
    fit, calibrate, test = (
        _draw(np.flatnonzero(rows), ABLATION_ROWS)
        for rows in (
            (block == Block.FIT) & weighted,
            (block == Block.CALIBRATE) & weighted,
            block == Block.TEST,
        )
    )
    weight = data.weight[calibrate]
    columns = model_columns(schema, data)
    X: dict[str, Floats] = {
        name: data.features[rows[:, np.newaxis], columns]
        for name, rows in (("fit", fit), ("calibrate", calibrate), ("test", test))
    }
    refits = _Refits(candidate, X, data.weight[fit], threads or joblib.cpu_count())
    priors = {name: prior_score(part, schema, candidate.priors) for name, part in X.items()}
    families = feature_families(schema)
    days = utc_day(data.time[test])
    report: dict[str, Any] = {}
    for h, hours in enumerate(schema.horizons):
        rounds = candidate.ensembles[hours].rounds
        if not rounds:
            continue
        y = {
            name: data.labels[rows, h]
            for name, rows in (("fit", fit), ("calibrate", calibrate), ("test", test))
        }
        prior = {name: one[:, h] for name, one in priors.items()}

        def losses(keep: list[int], *, y: Any = y, prior: Any = prior, rounds: int = rounds) -> Any:
            score = refits.score(keep, y["fit"], prior, rounds)
            line = fit_platt(score["calibrate"], y["calibrate"], weight)
            return log_loss_rows(y["test"], platt_probability(score["test"], *line))

        small = candidate.ensembles[hours].parts[0]
        everything = sorted(small.columns)
        full = losses(everything)
        without: dict[str, Any] = {}
        present = dict.fromkeys(families[schema.features[i]] for i in everything)
        for family in [*present, "trees"]:
            if family == STRUCTURE:
                continue
            keep = [i for i in everything if families[schema.features[i]] != family]
            reduced = losses([] if family == "trees" else keep)
            without[family] = {
                "columns": len(everything) - (0 if family == "trees" else len(keep)),
                "log_loss": float(reduced.mean()),
                "loss_increase": log_loss_skill(float(full.mean()), float(reduced.mean())),
                "loss_increase_ci95": skill_interval(full, reduced, days, seed=BOOTSTRAP_SEED),
            }
        report[str(hours)] = {
            "rounds": rounds,
            "rows": {"fit": len(fit), "calibrate": len(calibrate), "test": len(test)},
            "log_loss": float(full.mean()),
            "without": without,
        }
    return report


class _Refits:
    """Trees refitted on some of the columns, which are binned once for all horizons.

    Parameters
    ----------
    candidate:
        Gives constraints of the columns and settings.
    X:
        All columns of the ``fit``, ``calibrate`` and ``test`` rows.
    weight:
        Of the fit rows.
    threads:
        Of LightGBM.
    """

    def __init__(
        self, candidate: Candidate, X: Mapping[str, Floats], weight: Floats, threads: int
    ) -> None:
        self._schema, self._settings = candidate.schema, candidate.settings
        self._X, self._weight, self._threads = X, weight, threads
        self._binned: dict[tuple[int, ...], Any] = {}

    def score(
        self,
        keep: Sequence[int],
        labels: npt.NDArray[np.int8],
        start: Mapping[str, Floats],
        rounds: int,
    ) -> dict[str, Floats]:
        """Raw scores, prior included, of calibrate and test rows by trees on the columns `keep`;
        without columns those of the prior, `start`."""
        if not keep:
            return dict(start)
        import lightgbm  # four seconds that only training pays

        parameters = tree_parameters(
            len(labels),
            [self._schema.monotone[i] for i in keep],
            SEED,
            self._threads,
            self._settings,
        )
        rows = self._binned.get(tuple(keep))
        if rows is None:
            rows = lightgbm.Dataset(
                np.ascontiguousarray(self._X["fit"][:, keep]),
                weight=self._weight,
                params=parameters,
            ).construct()
            self._binned[tuple(keep)] = rows
        rows.set_label(labels.astype(np.float32))
        rows.set_init_score(start["fit"].copy())
        booster = lightgbm.train(parameters, rows, num_boost_round=rounds)
        return {
            name: start[name] + np.asarray(booster.predict(self._X[name][:, keep], raw_score=True))
            for name in ("calibrate", "test")
        }


def _spreads(columns: Mapping[str, Floats]) -> dict[str, float]:
    spreads = {
        name: float(np.abs(column - column.mean()).mean()) for name, column in columns.items()
    }
    ranked = sorted(spreads.items(), key=lambda item: -item[1])
    return {name: value for name, value in ranked if value > 0.0}


def _draw(rows: npt.NDArray[np.intp], most: int) -> npt.NDArray[np.intp]:
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(_DRAW_SEED).choice(rows, most, replace=False))
