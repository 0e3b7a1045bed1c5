"""Plain LightGBM: usual parameters, no prior, no constraints. A baseline, and its variant that
reads the forecast distances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from market.core.arrays import Floats
from models.trees.lightgbm_trees import trees_from_booster
from models.trees.tree_table import TreeTable

if TYPE_CHECKING:
    import numpy as np

    from training.fitting.binned_rows import BinnedRows

PLAIN_PARAMETERS: Mapping[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}

MAX_ROUNDS = 1_000
PATIENCE = 50
"""Rounds without a smaller loss on the calibrate rows before the search for their number stops."""

FIT, ALL, CALIBRATE = "fit", "all", "calibrate"
"""Parts of the binned rows."""


def fit_plain(
    binned: BinnedRows,
    labels: npt.NDArray[np.int8],
    weight: Floats,
    n_features: int,
    *,
    seed: int,
    num_threads: int,
    max_rounds: int = MAX_ROUNDS,
    patience: int = PATIENCE,
) -> TreeTable:
    """Fit plain LightGBM as the model is fitted.

    The number of trees is the one with the smallest weighted log loss on the calibrate rows, of
    trees fitted to the fit rows; as many are then fitted to both.

    Parameters
    ----------
    binned:
        Rows with the parts `FIT`, `CALIBRATE` and `ALL`.
    labels, weight:
        Of all its rows, shape (N,).
    n_features:
        Number of its columns.
    seed, num_threads:
        Passed to LightGBM, which is deterministic for one seed and version.
    max_rounds, patience:
        Of the search, see `MAX_ROUNDS` and `PATIENCE`.

    References
    ----------
    Ke et al. (2017), "LightGBM: a highly efficient gradient boosting decision tree".
    """
    parameters = {**PLAIN_PARAMETERS, "seed": seed, "num_threads": num_threads}
    trial = binned.train(FIT, labels, weight, parameters, max_rounds, stop_on=(CALIBRATE, patience))
    booster = binned.train(ALL, labels, weight, parameters, int(trial.best_iteration))
    return trees_from_booster(booster, n_features, average=True)
