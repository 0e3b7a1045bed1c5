"""The prior of a whole model, in either form: a column of logits or splines of log distances."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from market.core.arrays import Floats
from market.core.errors import ModelError
from models.bundle.schema import ModelSchema
from models.prior.spline_prior import SplinePrior

Priors = Mapping[int, SplinePrior]
"""The prior of each horizon in hours; empty for a schema without `prior_distances`."""


def checked_priors(schema: ModelSchema, priors: Priors | None) -> Priors:
    """The splines of a schema, empty for None; refused where they do not belong to it.

    Raises
    ------
    ModelError
        They are of other horizons than the schema, of a schema without `prior_distances`, or read
        another number of distances.
    """
    priors = priors or {}
    expected = schema.horizons if schema.prior_distances else ()
    if set(priors) != set(expected):
        raise ModelError(
            f"spline priors are given for horizons {sorted(priors)} h; the schema has prior "
            f"distances for {list(expected)} h"
        )
    for horizon, names in zip(schema.horizons, schema.prior_distances, strict=False):
        if len(priors[horizon].knots) != len(names):
            raise ModelError(
                f"spline prior of {horizon} h reads {len(priors[horizon].knots)} distances; the "
                f"schema names {list(names)}"
            )
    return priors


def prior_score(X: Floats, schema: ModelSchema, priors: Priors | None = None) -> Floats:
    """Log odds of the prior of every horizon, the score that the trees of a model correct.

    Parameters
    ----------
    X:
        float64, shape (N, F), columns as in the schema.
    schema, priors:
        Of the model.

    Returns
    -------
    float64, shape (N, H): zeros without a prior; NaN where a column that the prior reads is NaN.

    Raises
    ------
    ModelError
        The splines do not fit the schema, see `checked_priors`.
    """
    priors = checked_priors(schema, priors)
    if schema.prior:
        return X[:, schema.prior_columns()]
    score = np.zeros((len(X), len(schema.horizons)))
    if priors:
        for h, columns in enumerate(schema.prior_inputs()):
            score[:, h] = priors[schema.horizons[h]].score(X[:, columns])
    return score
