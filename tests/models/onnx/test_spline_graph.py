"""The graph of a spline prior: parity, equal bits in every batch, monotone to the last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from features.account.log_distance import LOG_LIMIT
from market.core.arrays import Floats
from market.core.errors import ModelError
from models.bundle.self_test import self_test
from models.onnx.audit import ALLOWED_OPERATORS, audit_onnx
from models.onnx.export import export
from models.onnx.parity import check_parity, threshold_adjacent_rows
from models.onnx.scorer import Scorer
from models.prior.score import prior_score
from models.prior.spline_basis import FORECAST_KNOTS, LONG_RUN_KNOTS
from models.prior.spline_prior import SplinePrior
from models.trees.tree_table import TreeTable
from tests.models.prior.test_pieces import by_pieces

if TYPE_CHECKING:
    from tests.models.conftest import SplineModel


def alone(spline: SplineModel) -> Scorer:
    """The prior without trees."""
    trees = {h: TreeTable.empty(8) for h in spline.schema.horizons}
    onnx_bytes = export(spline.schema, trees, spline.calibration, spline.priors)
    return Scorer(onnx_bytes, spline.schema)


def rows_around_knots() -> Floats:
    """Rows that rise in every distance by ulps around each knot and limit."""
    knots = sorted([*FORECAST_KNOTS, *LONG_RUN_KNOTS, -LOG_LIMIT, LOG_LIMIT])
    x = []
    for knot in knots:
        around = [knot]
        for _ in range(4):
            around = [np.nextafter(around[0], -np.inf), *around, np.nextafter(around[-1], np.inf)]
        x += around
    rows = np.zeros((len(x), 8))
    rows[:, [0, 1, 2, 7]] = np.sort(x)[:, None]
    return rows


def test_graph_agrees_with_prior_trees_and_lightgbm(spline: SplineModel) -> None:
    X = threshold_adjacent_rows(spline.schema, spline.trees, 5_000, seed=3, priors=spline.priors)
    scorer = Scorer(spline.onnx, spline.schema)
    report = check_parity(
        scorer,
        spline.trees,
        spline.calibration,
        X,
        priors=spline.priors,
        boosters=spline.raw(),
    )
    assert report.passed
    assert report.max_difference < 1e-12


def test_graph_has_the_bits_of_the_kernel(spline: SplineModel) -> None:
    X = np.random.default_rng(5).uniform(-16.0, 16.0, (3_000, 8))
    raw, _ = alone(spline).score(X)
    for h, hours in enumerate(spline.schema.horizons):
        np.testing.assert_array_equal(raw[:, h], by_pieces(spline.priors[hours], X[:, [h, 7]]))


def test_a_row_has_the_same_bits_in_every_batch(spline: SplineModel) -> None:
    X = threshold_adjacent_rows(spline.schema, spline.trees, 1_000, seed=4, priors=spline.priors)
    scorer = Scorer(spline.onnx, spline.schema)
    raw, probability = scorer.score(X)
    for n in (1, 2, 3, 7, 50, 51, 999):
        for start in (0, 1, 13):
            part = X[start : start + n].copy()
            some_raw, some_probability = scorer.score(part)
            assert some_raw.tobytes() == raw[start : start + len(part)].tobytes()
            assert some_probability.tobytes() == probability[start : start + len(part)].tobytes()


def test_more_headroom_never_raises_the_prior_by_a_bit(spline: SplineModel) -> None:
    raw, probability = alone(spline).score(rows_around_knots())
    assert (np.diff(raw, axis=0) <= 0.0).all()
    assert (np.diff(probability, axis=0) <= 0.0).all()
    X = np.repeat(spline.X[:200], 2, axis=0)
    distances = [0, 1, 2, 7]
    X[1::2, distances] = np.nextafter(X[1::2][:, distances], np.inf)
    raw, _ = Scorer(spline.onnx, spline.schema).score(X)
    assert (raw[1::2] <= raw[::2]).all()


def test_missing_distances_stay_within_their_horizons(spline: SplineModel) -> None:
    for n in (1, 3, 9):
        X = np.zeros((n, 8))
        X[-1, 1] = np.nan
        raw, probability = alone(spline).score(X)
        np.testing.assert_array_equal(np.isnan(raw[-1]), [False, True, False])
        np.testing.assert_array_equal(np.isnan(probability[-1]), [False, True, True])
        assert np.isfinite(raw[:-1]).all()
        X[-1, [1, 7]] = 0.0, np.nan
        assert np.isnan(alone(spline).score(X)[0][-1]).all()


def test_graph_is_audited_double_and_deterministic(spline: SplineModel) -> None:
    audit_onnx(spline.onnx)
    assert export(spline.schema, spline.trees, spline.calibration, spline.priors) == spline.onnx
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(spline.onnx))
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    assert {v.type.tensor_type.elem_type for v in values} == {onnx.TensorProto.DOUBLE}
    assert {(n.domain, n.op_type) for n in model.graph.node} == ALLOWED_OPERATORS
    self_test(
        Scorer(spline.onnx, spline.schema),
        spline.schema,
        spline.trees,
        spline.calibration,
        spline.priors,
    )


def test_another_number_of_distances_and_knots(spline: SplineModel) -> None:
    schema = replace(
        spline.schema,
        horizons=(1, 8),
        prior_distances=(("forecast_1",), ("forecast_8",)),
    )
    priors = {
        1: SplinePrior(0.5, ((0.0, 1.0),), ((-1.0, -2.0),)),
        8: SplinePrior(0.0, ((-1.0, 0.0, 2.0, 3.0),), ((0.0, -1.0, 0.0, -0.5),)),
    }
    trees = {hours: spline.trees[hours] for hours in (1, 8)}
    calibration = dict.fromkeys((1, 8), (1.0, 0.0))
    scorer = Scorer(export(schema, trees, calibration, priors), schema)
    self_test(scorer, schema, trees, calibration, priors)
    np.testing.assert_array_equal(
        prior_score(spline.X, schema, priors)[:, 1], priors[8].score(spline.X[:, 1:2])
    )


def test_priors_that_do_not_fit_the_schema_are_refused(spline: SplineModel) -> None:
    schema, trees, calibration = spline.schema, spline.trees, spline.calibration
    with pytest.raises(ModelError, match="given for horizons \\[\\]"):
        export(schema, trees, calibration)
    with pytest.raises(ModelError, match="given for horizons \\[1, 8\\]"):
        export(schema, trees, calibration, {h: spline.priors[h] for h in (1, 8)})
    narrow = SplinePrior(0.0, ((0.0, 1.0),), ((0.0, 0.0),))
    with pytest.raises(ModelError, match="1 h reads 1 distances"):
        export(schema, trees, calibration, {**spline.priors, 1: narrow})
    with pytest.raises(ModelError, match="schema has prior distances for \\[\\]"):
        export(replace(schema, prior_distances=()), trees, calibration, spline.priors)
