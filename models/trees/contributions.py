"""Which column moved a score, and by how much: path contributions that add up to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit

from models.bundle.schema import ModelSchema
from models.trees.tree_table import Floats, TreeTable, as_rows, goes_left

BIAS = "bias"
PRIOR = "prior"


def contributions(X: Floats, trees: TreeTable) -> Floats:
    """Path contributions of one ensemble.

    On the way from the root to a leaf, each split's feature receives the change of the node
    value; the roots make the bias: ``raw = Σ_tree v(root) + Σ_split (v(child) - v(split))``.

    Parameters
    ----------
    X:
        float64, shape (N, F); NaN follows the default side.
    trees:
        The ensemble to explain.

    Returns
    -------
    float64, shape (N, F + 1), in log odds: one column a feature, then the bias. Each row adds up
    to `TreeTable.raw_score` but for rounding (1e-12).

    Raises
    ------
    ModelError
        X is not float64 of shape (N, F).

    References
    ----------
    Saabas (2014), "Interpreting random forests".
    """
    rows = as_rows(X, trees.n_features)
    parts = np.zeros((len(rows), trees.n_features + 1))
    _add_paths(rows, trees.arrays, parts)
    return parts


def contribution_names(schema: ModelSchema) -> tuple[str, ...]:
    """Columns of `score_contributions`: the features, the bias, the prior, length F + 2."""
    return (*schema.features, BIAS, PRIOR)


def score_contributions(X: Floats, schema: ModelSchema, trees: Mapping[int, TreeTable]) -> Floats:
    """Contributions to the raw score of every horizon, the prior's additive term on its own.

    A prior column may appear twice: as the feature that trees split on, and as `PRIOR`, the
    logit that they correct.

    Parameters
    ----------
    X:
        float64, shape (N, F).
    schema:
        The model's columns and horizons.
    trees:
        The ensemble of each horizon.

    Returns
    -------
    float64, shape (N, H, F + 2), in log odds before calibration, its last axis named by
    `contribution_names`; the prior is 0 for a schema without one. Each row and horizon adds up
    to the raw score (1e-12). A NaN prior gives a NaN in its own column only.

    Raises
    ------
    ModelError
        X is not float64 of shape (N, F).
    """
    by_horizon = [horizon_contributions(X, schema, trees, horizon) for horizon in schema.horizons]
    return np.stack(by_horizon, axis=1)


def horizon_contributions(
    X: Floats, schema: ModelSchema, trees: Mapping[int, TreeTable], horizon: int
) -> Floats:
    """`score_contributions` of one horizon in hours, shape (N, F + 2)."""
    rows = as_rows(X, len(schema.features))
    parts = np.zeros((len(rows), len(schema.features) + 2))
    parts[:, :-1] = contributions(rows, trees[horizon])
    if schema.prior:
        parts[:, -1] = rows[:, schema.prior_columns()[schema.horizons.index(horizon)]]
    return parts


@njit(cache=True)
def _add_paths(X, trees, parts):  # type: ignore[no-untyped-def]
    bias = parts.shape[1] - 1
    for i in range(X.shape[0]):
        for tree in range(len(trees.tree_start) - 1):
            node = trees.tree_start[tree]
            parts[i, bias] += trees.value[node]
            while trees.feature[node] >= 0:
                column = trees.feature[node]
                left = goes_left(trees, node, X[i, column])
                child = np.int64(trees.left[node] if left else trees.right[node])
                parts[i, column] += trees.value[child] - trees.value[node]
                node = child
