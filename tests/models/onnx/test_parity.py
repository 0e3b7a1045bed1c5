from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from market.core.errors import ModelError
from models.onnx.export import export
from models.onnx.parity import (
    ParityReport,
    check_parity,
    reference_probability,
    reference_score,
    threshold_adjacent_rows,
)
from models.onnx.scorer import Scorer

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel


def test_graph_equals_lightgbm_on_100_000_threshold_adjacent_rows(small: SmallModel) -> None:
    X = threshold_adjacent_rows(small.schema, small.trees, 100_000, seed=3)
    scorer = Scorer(small.onnx, small.schema)
    report = check_parity(scorer, small.trees, small.calibration, X, boosters=small.raw())
    assert report.rows == 100_000
    assert report.passed, report
    assert np.isnan(X).any()


def test_tree_kernel_equals_lightgbm_to_the_last_bit(small: SmallModel) -> None:
    X = threshold_adjacent_rows(small.schema, small.trees, 20_000, seed=4)
    for horizon, raw in small.raw().items():
        np.testing.assert_array_equal(small.trees[horizon].raw_score(X), raw(X))


def test_rows_hold_every_threshold_and_both_neighbours(small: SmallModel) -> None:
    n = 3 * sum(len(table.feature) for table in small.trees.values())
    X = threshold_adjacent_rows(small.schema, small.trees, n, seed=0)
    for table in small.trees.values():
        for node in np.flatnonzero(table.feature >= 0):
            threshold, column = table.threshold[node], X[:, table.feature[node]]
            for wanted in (
                threshold,
                np.nextafter(threshold, -np.inf),
                np.nextafter(threshold, np.inf),
            ):
                assert wanted in column


def test_rows_are_seeded(small: SmallModel) -> None:
    first, again, other = (
        threshold_adjacent_rows(small.schema, small.trees, 50, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other, equal_nan=True)


def test_wrong_calibration_fails_parity(small: SmallModel) -> None:
    X = threshold_adjacent_rows(small.schema, small.trees, 200, seed=0)
    other = {**small.calibration, 8: (1.05, -0.2 + 1e-9)}
    scorer = Scorer(export(small.schema, small.trees, other), small.schema)
    assert not check_parity(scorer, small.trees, small.calibration, X).passed


def test_one_ulp_in_one_threshold_fails_parity(small: SmallModel) -> None:
    table = small.trees[1]
    shifted = table.threshold.copy()
    shifted[0] = np.nextafter(shifted[0], np.inf)
    arrays = {name: getattr(table, name) for name in table.__slots__} | {"threshold": shifted}
    trees = {**small.trees, 1: type(table)(**arrays)}
    X = threshold_adjacent_rows(small.schema, small.trees, 2_000, seed=0)
    scorer = Scorer(export(small.schema, trees, small.calibration), small.schema)
    assert not check_parity(scorer, small.trees, small.calibration, X).passed


def test_nan_on_one_side_only_is_an_infinite_difference(small: SmallModel) -> None:
    X = threshold_adjacent_rows(small.schema, small.trees, 10, seed=0)
    broken = {h: lambda rows: np.full(len(rows), np.nan) for h in small.schema.horizons}
    scorer = Scorer(small.onnx, small.schema)
    report = check_parity(scorer, small.trees, small.calibration, X, boosters=broken)
    assert report.max_difference == np.inf
    assert not report.passed


def test_nothing_compared_is_not_passed() -> None:
    assert not ParityReport(rows=0, max_difference=0.0).passed


def test_reference_without_a_horizon_is_refused(small: SmallModel) -> None:
    with pytest.raises(ModelError, match="horizons"):
        check_parity(Scorer(small.onnx, small.schema), small.trees, {1: (1.0, 0.0)}, small.X[:2])


def test_reference_is_stable_in_both_tails(small: SmallModel) -> None:
    X = np.zeros((2, 7))
    X[:, :3] = [[-800.0], [800.0]]
    flat = {h: lambda rows: np.zeros(len(rows)) for h in small.schema.horizons}
    identity = dict.fromkeys(small.schema.horizons, (1.0, 0.0))
    score = reference_score(X, small.schema, flat)
    p = reference_probability(score, small.schema, identity)
    np.testing.assert_array_equal(p, [[0.0] * 3, [1.0] * 3])
