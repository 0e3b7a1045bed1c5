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
    *,
    seed: int,
    num_threads: int,
    rounds: int | None = None,
) -> TreeTable:
    """Fit plain LightGBM as the model is fitted: the last trees see both blocks.

    Parameters
    ----------
    binned:
        Rows with the parts `FIT`, `CALIBRATE` and `ALL`.
    labels, weight:
        Of all its rows, shape (N,).
    seed, num_threads:
        Passed to LightGBM, which is deterministic for one seed and version.
    rounds:
        Number of trees; None for the one with the smallest weighted log loss on the calibrate
        rows, of trees fitted to the fit rows.

    References
    ----------
    Ke et al. (2017), "LightGBM: a highly efficient gradient boosting decision tree".
    """
    parameters = {**PLAIN_PARAMETERS, "seed": seed, "num_threads": num_threads}
    if rounds is None:
        trial = binned.train(
            FIT, labels, weight, parameters, MAX_ROUNDS, stop_on=(CALIBRATE, PATIENCE)
        )
        rounds = int(trial.best_iteration)
    booster = binned.train(ALL, labels, weight, parameters, rounds)
    return trees_from_booster(booster, booster.num_feature(), average=True)
