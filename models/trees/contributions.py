"""Which column moved a score, and by how much: path contributions that add up to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit

from models.bundle.schema import ModelSchema
from models.prior.score import Priors, checked_priors
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
    """Columns of `score_contributions`, length C: the features, the bias, and what the prior adds.

    That is `PRIOR`, the whole logit, or for a prior of log distances ``prior.<column>`` for each
    distance of any horizon.
    """
    shares = tuple(f"{PRIOR}.{name}" for name in schema.distance_names())
    return (*schema.features, BIAS, *(shares or (PRIOR,)))


def of_prior(name: str) -> bool:
    """Whether a column of `contribution_names` is what the prior adds, not what trees do."""
    return name == PRIOR or name.startswith(f"{PRIOR}.")


def score_contributions(
    X: Floats,
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    priors: Priors | None = None,
) -> Floats:
    """Contributions to the raw score of every horizon, the prior's additive terms on their own.

    A prior column may appear twice: as the feature that trees split on, and as what the prior
    adds, which they correct. The share of a distance in a spline prior is its sum of weighted ramps
    (`models.prior.SplinePrior.shares`): 0 at its lowest knot and the more below 0 the farther the
    call; the intercept is part of the bias.

    Parameters
    ----------
    X:
        float64, shape (N, F).
    schema:
        The model's columns and horizons.
    trees:
        The ensemble of each horizon.
    priors:
        The spline of each horizon, where the schema has `prior_distances`.

    Returns
    -------
    float64, shape (N, H, C), in log odds before calibration, its last axis named by
    `contribution_names`; the prior is 0 for a schema without one. Each row and horizon adds up
    to the raw score (1e-12). A NaN in the prior shows in its own columns only.

    Raises
    ------
    ModelError
        X is not float64 of shape (N, F).
    """
    by_horizon = [
        horizon_contributions(X, schema, trees, horizon, priors) for horizon in schema.horizons
    ]
    return np.stack(by_horizon, axis=1)


def horizon_contributions(
    X: Floats,
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    horizon: int,
    priors: Priors | None = None,
) -> Floats:
    """`score_contributions` of one horizon in hours, shape (N, C)."""
    rows, splines = as_rows(X, len(schema.features)), checked_priors(schema, priors)
    names = contribution_names(schema)
    parts = np.zeros((len(rows), len(names)))
    after_bias = len(schema.features) + 1
    parts[:, :after_bias] = contributions(rows, trees[horizon])
    h = schema.horizons.index(horizon)
    columns = schema.prior_inputs()[h]
    if splines:
        places = [names.index(f"{PRIOR}.{name}") for name in schema.prior_distances[h]]
        # A column may serve twice.
        np.add.at(parts.T, places, splines[horizon].shares(rows[:, columns]).T)
        parts[:, after_bias - 1] += splines[horizon].intercept
    elif columns:
        parts[:, after_bias] = rows[:, columns[0]]
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
