"""Parity of the exported graph and its trees, tested at the split thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market.core.errors import ModelError
from models.bundle.schema import ModelSchema
from models.onnx.scorer import Scorer
from models.prior.score import Priors, checked_priors, prior_score
from models.trees.tree_table import Floats, TreeTable, as_rows

RawScore = Callable[[Floats], Floats]
"""Raw score of one ensemble, without the prior: X (N, F) to (N,), in log odds."""

LIMIT = 1e-12
_SHARE_ADJACENT = 0.5
_SHARE_NAN_ROWS = 0.2
_SHARE_NAN = 0.3


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Outcome of a parity check.

    Attributes
    ----------
    rows:
        Number of rows compared.
    max_difference:
        Largest absolute difference in raw score or probability; infinity where one side is NaN
        and the other is not.
    limit:
        Largest difference that passes.
    """

    rows: int
    max_difference: float
    limit: float = LIMIT

    @property
    def passed(self) -> bool:
        """Whether rows were compared and none differs by more than the limit."""
        return self.rows > 0 and self.max_difference <= self.limit


def threshold_adjacent_rows(
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    n: int,
    seed: int,
    priors: Priors | None = None,
) -> Floats:
    """Rows that sit on the splits: at a threshold, one ulp below and one ulp above.

    The knots of spline priors count as thresholds of the distances that they are on.

    Row i holds the i-th of all (column, threshold, step) triples, so every one occurs once n
    exceeds their number; half of the other cells are threshold-adjacent too, the rest uniform
    over the range of the column's thresholds. A fifth of the rows has missing values, the columns
    that a prior reads excepted.

    Parameters
    ----------
    schema:
        The model's columns.
    trees:
        Its ensembles.
    n:
        Number of rows N.
    seed:
        Seed of the random choices; equal seeds give equal rows.
    priors:
        The splines of the model, where it has any.

    Returns
    -------
    float64, shape (N, F).
    """
    rng = np.random.default_rng(seed)
    width = len(schema.features)
    X = rng.normal(0.0, 2.0, (n, width))
    pools = _thresholds(trees, width)
    prior_inputs = schema.prior_inputs()
    for horizon, prior in checked_priors(schema, priors).items():
        columns_read = prior_inputs[schema.horizons.index(horizon)]
        for column, knots in zip(columns_read, prior.knots, strict=True):
            pools[column] = np.union1d(pools[column], knots)
    for column, pool in enumerate(pools):
        if not len(pool):
            continue
        margin = 0.1 * (pool[-1] - pool[0]) + 1e-3
        X[:, column] = rng.uniform(pool[0] - margin, pool[-1] + margin, n)
        adjacent = rng.random(n) < _SHARE_ADJACENT
        chosen = rng.choice(pool, adjacent.sum())
        X[adjacent, column] = _step(chosen, rng.integers(-1, 2, adjacent.sum()))

    missing = (rng.random((n, 1)) < _SHARE_NAN_ROWS) & (rng.random((n, width)) < _SHARE_NAN)
    missing[:, [column for columns in prior_inputs for column in columns]] = False
    X[missing] = np.nan

    columns = np.repeat(np.arange(width), [3 * len(pool) for pool in pools])
    if len(columns):
        values = np.repeat(np.concatenate(pools), 3)
        steps = np.tile([-1, 0, 1], len(values) // 3)
        triple = rng.permutation(len(columns))[np.arange(n) % len(columns)]
        X[np.arange(n), columns[triple]] = _step(values[triple], steps[triple])
    return X


def _thresholds(trees: Mapping[int, TreeTable], width: int) -> list[Floats]:
    feature = np.concatenate([table.feature for table in trees.values()])
    threshold = np.concatenate([table.threshold for table in trees.values()])
    return [np.unique(threshold[feature == column]) for column in range(width)]


def _step(values: Floats, ulps: npt.NDArray[np.int64]) -> Floats:
    towards = np.array([-np.inf, 0.0, np.inf])[ulps + 1]
    return np.where(ulps == 0, values, np.nextafter(values, towards))


def reference_score(
    X: Floats,
    schema: ModelSchema,
    raw: Mapping[int, RawScore],
    priors: Priors | None = None,
) -> Floats:
    """Prior plus trees in numpy: ``s_h = prior_h + raw_h(X)``, float64, shape (N, H)."""
    rows = as_rows(X, len(schema.features))
    score = np.column_stack([raw[horizon](rows) for horizon in schema.horizons])
    return prior_score(rows, schema, priors) + score


def reference_probability(
    score: Floats, schema: ModelSchema, calibration: Mapping[int, tuple[float, float]]
) -> Floats:
    """Probabilities of raw scores of shape (N, H) in numpy, as the graph must give them.

    ``p_h = max over k ≤ h of 1 / (1 + exp(-(a_k·s_k + b_k)))`` with slope a and intercept b of
    each horizon; NaN where the prior is NaN, and at every longer horizon.
    """
    slope, intercept = np.array([calibration[horizon] for horizon in schema.horizons]).T
    # Overflow of exp gives infinity and so the right limit, 0.
    with np.errstate(over="ignore"):
        alone = 1.0 / (1.0 + np.exp(-(score * slope + intercept)))
    return np.maximum.accumulate(alone, axis=1)


def check_parity(
    scorer: Scorer,
    trees: Mapping[int, TreeTable],
    calibration: Mapping[int, tuple[float, float]],
    X: Floats,
    *,
    priors: Priors | None = None,
    boosters: Mapping[int, RawScore] | None = None,
    limit: float = LIMIT,
) -> ParityReport:
    """Compare ONNX Runtime with our tree kernel and, where given, with the booster itself.

    Parameters
    ----------
    scorer:
        The exported graph.
    trees, calibration, priors:
        What it was exported from.
    X:
        float64, shape (N, F), best from `threshold_adjacent_rows`.
    boosters:
        Raw score of each horizon by the library that trained it, for instance
        ``lambda X: booster.predict(X, raw_score=True)``.
    limit:
        Largest absolute difference that passes.

    Raises
    ------
    ModelError
        X is not float64 of shape (N, F), or a reference lacks a horizon.
    """
    schema = scorer.schema
    references: list[Mapping[int, RawScore]] = [
        {horizon: table.raw_score for horizon, table in trees.items()}
    ]
    if boosters is not None:
        references.append(boosters)
    for reference in (*references, calibration):
        if set(reference) != set(schema.horizons):
            raise ModelError(
                f"parity reference has horizons {sorted(reference)}; the schema has "
                f"{schema.horizons}"
            )
    raw, probability = scorer.score(X)
    difference = 0.0
    for reference in references:
        score = reference_score(X, schema, reference, priors)
        difference = max(
            difference,
            _max_difference(raw, score),
            _max_difference(probability, reference_probability(score, schema, calibration)),
        )
    return ParityReport(rows=len(X), max_difference=difference, limit=limit)


def _max_difference(values: Floats, expected: Floats) -> float:
    equal = (values == expected) | (np.isnan(values) & np.isnan(expected))
    if equal.all():
        return 0.0
    difference = np.abs(values[~equal] - expected[~equal])
    return float(np.max(np.where(np.isnan(difference), np.inf, difference)))
