"""Gradient-boosted trees that correct the structural prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from market.core.errors import ModelError
from models.bundle.schema import ModelSchema
from training.evaluation.bootstrap import skill_interval, utc_day
from training.evaluation.metrics import log_loss_rows
from training.fitting.calibration import fit_platt, platt_probability
from training.labels.splits import time_ordered_tail

if TYPE_CHECKING:
    import lightgbm

Floats = npt.NDArray[np.float64]

PARAMETERS: Mapping[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "boost_from_average": False,  # the prior is the starting point
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 500,
    "lambda_l2": 10.0,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "max_bin": 255,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True, slots=True)
class RoundSearch:
    """How the number of trees is chosen: by early stopping on the latest part of the rows.

    Attributes
    ----------
    seed, num_threads:
        Passed to LightGBM, which is deterministic for one seed and version.
    max_rounds, patience:
        Most trees, and rounds without improvement before stopping.
    tail_share:
        Share of the time span that validates.
    """

    seed: int
    num_threads: int
    max_rounds: int = 300
    patience: int = 25
    tail_share: float = 0.15

    def train(
        self,
        data: lightgbm.Dataset,
        parameters: Mapping[str, Any],
        train: npt.NDArray[np.intp],
        tail: npt.NDArray[np.intp],
    ) -> lightgbm.Booster:
        """Train on the rows `train` of `data` until the loss on `tail` stops falling.

        ``best_iteration`` of the result is the number of trees.
        """
        import lightgbm  # four seconds that only training pays

        # Subsets share the binned matrix, so the rows are not copied a second time.
        data.construct()
        return lightgbm.train(
            dict(parameters),
            data.subset(train.tolist()),
            num_boost_round=self.max_rounds,
            valid_sets=[data.subset(tail.tolist())],
            callbacks=[lightgbm.early_stopping(self.patience, verbose=False)],
        )


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trees of one horizon.

    Attributes
    ----------
    booster:
        The trained booster, or None: the prior alone was better.
    rounds:
        Number of trees.
    prior_loss, tree_loss:
        Log loss on the tail of the fit block, each after a Platt line.
    """

    booster: lightgbm.Booster | None
    rounds: int
    prior_loss: float
    tree_loss: float


def fit_trees(
    features: Floats,
    labels: npt.NDArray[np.int8],
    time: npt.NDArray[np.int64],
    schema: ModelSchema,
    horizon: int,
    search: RoundSearch,
) -> Ensemble:
    """Fit the trees of one horizon on rows of the fit block.

    The prior logit of the horizon is the initial score. The number of trees is chosen on the
    latest rows (see `RoundSearch`), purged by label end; then the trees are fitted anew on all
    rows, so that the latest market is not left out. Where trees do not beat the prior on the tail
    beyond chance (95% interval over days) there are none: the model is the structural model.

    Parameters
    ----------
    features:
        Shape (n, F), columns of `schema`.
    labels:
        0 or 1, shape (n,).
    time:
        Decision times in nanoseconds, shape (n,).
    schema:
        Columns, constraints and priors.
    horizon:
        In hours.
    search:
        How the number of trees is chosen.

    Raises
    ------
    ModelError
        A part of the block has no breach or nothing but breaches.

    References
    ----------
    Ke et al., LightGBM, NeurIPS 30 (2017); Friedman, Annals of Statistics 29 (2001) 1189-1232.
    """
    import lightgbm  # four seconds that only training pays

    prior = features[:, schema.prior_columns()[schema.horizons.index(horizon)]].copy()
    train, tail = time_ordered_tail(time, horizon, search.tail_share)
    for name, part in (("earlier part", train), ("tail", tail)):
        if not 0 < int(labels[part].sum()) < len(part):
            raise ModelError(
                f"the {name} of the fit block has {int(labels[part].sum())} breaches within "
                f"{horizon} h in {len(part)} rows; widen the span or raise [training] max_rows"
            )
    parameters = {
        **PARAMETERS,
        "monotone_constraints": list(schema.monotone),
        "seed": search.seed,
        "num_threads": search.num_threads,
    }
    data = lightgbm.Dataset(
        features,
        labels,
        init_score=prior,
        feature_name=list(schema.features),
        params=parameters,
        free_raw_data=False,
    )
    trial = search.train(data, parameters, train, tail)
    corrected = prior[tail] + np.asarray(trial.predict(features[tail], raw_score=True))
    prior_loss = _platt_loss(prior[tail], labels[tail])
    tree_loss = _platt_loss(corrected, labels[tail])
    if not _beats_prior(corrected, prior[tail], labels[tail], time[tail]):
        return Ensemble(None, 0, prior_loss, tree_loss)
    rounds = int(trial.best_iteration)
    booster = lightgbm.train(parameters, data, num_boost_round=rounds)
    return Ensemble(booster, rounds, prior_loss, tree_loss)


def _beats_prior(
    corrected: Floats,
    prior: Floats,
    labels: npt.NDArray[np.int8],
    time: npt.NDArray[np.int64],
) -> bool:
    """Whether the trees' skill against the prior is above zero beyond chance, day by day."""
    trees, structure = _platt_losses(corrected, labels), _platt_losses(prior, labels)
    interval = skill_interval(trees, structure, utc_day(time), seed=0)
    return interval is not None and interval[0] > 0.0


def _platt_loss(score: Floats, labels: npt.NDArray[np.int8]) -> float:
    return float(_platt_losses(score, labels).mean())


def _platt_losses(score: Floats, labels: npt.NDArray[np.int8]) -> Floats:
    """Log loss of each row once level and scale are right: compares shapes, not calibration."""
    slope, intercept = fit_platt(score, labels)
    return log_loss_rows(labels, platt_probability(score, slope, intercept))
