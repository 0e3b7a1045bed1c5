"""Self-test of a model: fixed rows are scored and checked against the promises of a model.

A graph can be well-formed and still fail on its first row, answer something else than its trees, or
take seconds for it. All of it has to show before the model answers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from market.core.errors import BundleError
from models.bundle.schema import ModelSchema
from models.onnx.parity import check_parity, threshold_adjacent_rows
from models.onnx.scorer import Scorer
from models.prior.score import Priors
from models.trees.tree_table import Floats, TreeTable

ROWS = 512
"""Rows at the splits of the trees, a fifth of them with missing values."""

MONOTONE_ROWS = 16
"""Rows of which each monotone column is moved."""

SLOWEST_SECONDS = 5.0
"""Longest time for `ROWS` rows; a model of 3 times 200 trees takes some 0.02 s."""

_ROUNDING = 1e-12
_EXTREMES = (0.0, -0.0, 1e-312, 1.0, -1.0, 1e18, -1e18, 1e300, -1e300, np.inf, -np.inf)


class SelfTestError(BundleError):
    """A model breaks a promise on the fixed rows of its self-test."""


def self_test(
    scorer: Scorer,
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    calibration: Mapping[int, tuple[float, float]],
    priors: Priors | None = None,
) -> None:
    """Score fixed rows: at the splits, with missing values, extreme ones, one row and none.

    Held to: the graph runs, in time; it agrees with trees and calibration; probabilities are in
    [0, 1], do not fall from one horizon to the next, and are NaN only where the prior is; a row
    alone gets the bits that it gets among others; a monotone column moves the probability its way.

    Parameters
    ----------
    scorer, schema, trees, calibration, priors:
        The parts of the model.

    Raises
    ------
    SelfTestError
        One of these does not hold, or the graph fails in whatever way.
    """
    try:
        _check(scorer, schema, trees, calibration, priors)
    except SelfTestError:
        raise
    except Exception as error:
        raise SelfTestError(
            f"the model fails on the rows of its self-test ({error}); export it again"
        ) from error


def _check(
    scorer: Scorer,
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    calibration: Mapping[int, tuple[float, float]],
    priors: Priors | None,
) -> None:
    rows = threshold_adjacent_rows(schema, trees, ROWS, seed=0, priors=priors)
    started = time.monotonic()
    probability = scorer.probability(rows)
    seconds = time.monotonic() - started
    if seconds > SLOWEST_SECONDS:
        raise SelfTestError(
            f"the model takes {seconds:.1f} s for {ROWS} rows; at most {SLOWEST_SECONDS:g} s are "
            "allowed, train a smaller one"
        )
    extreme = _extreme_rows(schema)
    for X in (rows, extreme):
        report = check_parity(scorer, trees, calibration, X, priors=priors)
        if not report.passed:
            raise SelfTestError(
                f"the graph differs from its prior and trees by {report.max_difference:.3g} on "
                f"{report.rows} rows; at most {report.limit:.0e} is allowed, export the model again"
            )
    _check_bounds(rows, probability, schema)
    _check_bounds(extreme, scorer.probability(extreme), schema)
    alone = np.vstack([scorer.probability(row[None]) for row in rows[:3]])
    if alone.tobytes() != probability[:3].tobytes() or len(scorer.probability(rows[:0])):
        raise SelfTestError("a row alone gets another answer than among others; export it again")
    _check_monotone(scorer, schema, rows[:MONOTONE_ROWS])


def _extreme_rows(schema: ModelSchema) -> Floats:
    """Rows of one value each, and of nothing but missing values, with and without a prior."""
    width = len(schema.features)
    X = np.repeat(np.array([*_EXTREMES, np.nan, np.nan])[:, None], width, axis=1)
    X[-1, [column for columns in schema.prior_inputs() for column in columns]] = 0.0
    return X


def _check_bounds(X: Floats, probability: Floats, schema: ModelSchema) -> None:
    missing = np.isnan(probability)
    within = missing | ((probability >= 0.0) & (probability <= 1.0))
    if not within.all():
        raise SelfTestError("a probability is outside of 0 to 1; export the model again")
    read = schema.prior_inputs()
    expected = np.column_stack([np.isnan(X[:, columns]).any(axis=1) for columns in read])
    if (missing & ~np.logical_or.accumulate(expected, axis=1)).any():
        raise SelfTestError("a probability is no number though its prior is; export it again")
    if (np.diff(probability, axis=1) < 0.0).any():
        raise SelfTestError("a probability falls from one horizon to the next; export it again")


def _check_monotone(scorer: Scorer, schema: ModelSchema, rows: Floats) -> None:
    """Move each monotone column up by itself, by a lot and by little."""
    columns = np.flatnonzero(schema.monotone)
    base = np.where(np.isnan(rows), 0.0, rows)
    before = scorer.probability(base)
    for column in columns.tolist():
        for step in (1e-3, 1.0, 1e3):
            moved = base.copy()
            moved[:, column] += step
            change = (scorer.probability(moved) - before) * schema.monotone[column]
            if (change < -_ROUNDING).any():
                raise SelfTestError(
                    f"the probability moves against column {schema.features[column]!r}, which the "
                    "schema says is monotone; train the model with this constraint"
                )
