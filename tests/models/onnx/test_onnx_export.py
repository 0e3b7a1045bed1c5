from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from market.core.errors import ExportError
from models.bundle.schema import ModelSchema
from models.onnx.audit import audit_onnx
from models.onnx.export import export
from models.onnx.parity import check_parity, threshold_adjacent_rows
from models.onnx.scorer import Scorer
from models.trees.tree_table import TreeTable

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel


def stump(value: float, n_features: int = 7) -> TreeTable:
    """One tree of a single leaf."""
    table = TreeTable.empty(n_features)
    leaf: dict[str, list[Any]] = {
        "tree_start": [0, 1],
        "feature": [-1],
        "threshold": [0.0],
        "left": [-1],
        "right": [-1],
    }
    leaf |= {"default_left": [False], "value": [value]}
    arrays: dict[str, Any] = {
        name: np.array(values, getattr(table, name).dtype) for name, values in leaf.items()
    }
    return replace(table, **arrays)


def test_same_model_gives_same_bytes(small: SmallModel) -> None:
    assert export(small.schema, small.trees, small.calibration) == small.onnx


def test_graph_is_double_from_end_to_end(small: SmallModel) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(small.onnx))
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    assert not [v.name for v in values if v.type.tensor_type.elem_type in floats]
    assert not [t.name for t in model.graph.initializer if t.data_type in floats]


def test_graph_passes_its_own_audit(small: SmallModel) -> None:
    audit_onnx(small.onnx)


def test_empty_ensembles_leave_the_calibrated_prior(small: SmallModel) -> None:
    trees = {h: TreeTable.empty(7) for h in small.schema.horizons}
    identity = dict.fromkeys(small.schema.horizons, (1.0, 0.0))
    scorer = Scorer(export(small.schema, trees, identity), small.schema)
    raw, probability = scorer.score(small.X)
    np.testing.assert_array_equal(raw, small.X[:, :3])
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-small.X[:, :3])), atol=1e-15)


def test_one_empty_ensemble_among_others(small: SmallModel) -> None:
    trees = {**small.trees, 8: TreeTable.empty(7)}
    X = threshold_adjacent_rows(small.schema, trees, 2_000, seed=0)
    scorer = Scorer(export(small.schema, trees, small.calibration), small.schema)
    assert check_parity(scorer, trees, small.calibration, X).passed
    np.testing.assert_array_equal(scorer.score(X)[0][:, 1], X[:, 1])


def test_trees_of_a_single_leaf(small: SmallModel) -> None:
    trees = {1: stump(0.5), 8: small.trees[8], 24: stump(-0.25)}
    X = threshold_adjacent_rows(small.schema, trees, 500, seed=0)
    scorer = Scorer(export(small.schema, trees, small.calibration), small.schema)
    np.testing.assert_array_equal(scorer.score(X)[0][:, 0], X[:, 0] + 0.5)
    assert check_parity(scorer, trees, small.calibration, X).passed


def test_one_horizon_without_prior(small: SmallModel) -> None:
    schema = ModelSchema(small.schema.features, small.schema.monotone, (8,), (), "a" * 64)
    trees, calibration = {8: small.trees[8]}, {8: (0.7, 0.1)}
    scorer = Scorer(export(schema, trees, calibration), schema)
    X = threshold_adjacent_rows(schema, trees, 500, seed=0)
    assert check_parity(scorer, trees, calibration, X).passed


def test_probability_never_falls_with_the_horizon(small: SmallModel) -> None:
    X = threshold_adjacent_rows(small.schema, small.trees, 5_000, seed=1)
    crossing = {1: (1.0, 2.0), 8: (1.0, -2.0), 24: (0.5, 0.0)}
    scorer = Scorer(export(small.schema, small.trees, crossing), small.schema)
    raw, probability = scorer.score(X)
    alone = 1 / (1 + np.exp(-(raw * [1.0, 1.0, 0.5] + [2.0, -2.0, 0.0])))
    assert (np.diff(alone, axis=1) < 0).any(), "the maximum must have work to do"
    assert (np.diff(probability, axis=1) >= 0).all()


def test_probability_rises_with_the_prior(small: SmallModel) -> None:
    scorer = Scorer(small.onnx, small.schema)
    rows = np.repeat(small.X[:50], 40, axis=0)
    rows[:, :3] = np.tile(np.linspace(-6, 6, 40), 50)[:, None] + [0.0, 0.5, 1.0]
    probability = scorer.probability(rows).reshape(50, 40, 3)
    assert (np.diff(probability, axis=1) > 0).all()


def test_small_probabilities_keep_their_digits(small: SmallModel) -> None:
    """ONNX Runtime's double Sigmoid answers 0 here."""
    trees = {h: TreeTable.empty(7) for h in small.schema.horizons}
    identity = dict.fromkeys(small.schema.horizons, (1.0, 0.0))
    scorer = Scorer(export(small.schema, trees, identity), small.schema)
    X = np.full((1, 7), -40.0)
    np.testing.assert_allclose(scorer.probability(X), np.exp(-40.0), rtol=1e-14)


def test_nan_prior_gives_nan_and_never_a_number(small: SmallModel) -> None:
    X = small.X[:4].copy()
    X[:, 1] = np.nan
    probability = Scorer(small.onnx, small.schema).probability(X)
    assert np.isfinite(probability[:, 0]).all()
    assert np.isnan(probability[:, 1:]).all()


@pytest.mark.parametrize("slope", [0.0, -1.0, np.nan, np.inf])
def test_slope_that_is_not_positive_is_refused(small: SmallModel, slope: float) -> None:
    with pytest.raises(ExportError, match="slope"):
        export(small.schema, small.trees, {**small.calibration, 8: (slope, 0.0)})


def test_missing_horizon_is_refused(small: SmallModel) -> None:
    with pytest.raises(ExportError, match="horizons"):
        export(small.schema, {1: small.trees[1]}, small.calibration)


def test_other_width_is_refused(small: SmallModel) -> None:
    with pytest.raises(ExportError, match="features"):
        export(small.schema, {**small.trees, 8: TreeTable.empty(6)}, small.calibration)


def test_neither_prior_nor_trees_is_refused(small: SmallModel) -> None:
    schema = replace(small.schema, prior=())
    with pytest.raises(ExportError, match="neither"):
        export(schema, {h: TreeTable.empty(7) for h in schema.horizons}, small.calibration)
