"""Prior, trees, calibration and horizon order in one float64 ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from market.core.errors import ExportError
from models.bundle.schema import ModelSchema
from models.onnx.graph import GraphParts
from models.onnx.scorer import INPUT, PROBABILITY, RAW_SCORE, SCHEMA_KEY
from models.onnx.spline_graph import add_spline_prior
from models.prior.score import Priors, checked_priors
from models.trees.tree_table import TreeTable

OPSET = 22
ML_OPSET = 5
IR_VERSION = 10
_LANES = 8  # doubles in the widest SIMD vector


def export(
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    calibration: Mapping[int, tuple[float, float]],
    priors: Priors | None = None,
) -> bytes:
    """The model as ONNX, the same bytes for the same model.

    For each horizon h: ``s_h = prior_h + trees_h(X)``, ``p_h = 1 / (1 + exp(-(a_h·s_h + b_h)))``,
    then the running maximum over horizons. Double precision end to end. The logistic function is
    spelt out because ONNX Runtime's double `Sigmoid` subtracts from 1 and loses small
    probabilities.

    Parameters
    ----------
    schema:
        Columns, horizons and prior.
    trees:
        The ensemble of each horizon; one without trees leaves the prior alone.
    calibration:
        Slope a > 0 and intercept b of each horizon.
    priors:
        The spline of each horizon, where the schema has `prior_distances`.

    Returns
    -------
    bytes
        Input `features` double [N, F]; outputs `probability` and `raw_score` double [N, H].
        A NaN prior gives NaN from that horizon on; other NaN follow the trees.

    Raises
    ------
    ExportError
        Trees or calibration do not fit the schema, or a slope is not positive.

    References
    ----------
    ONNX operator `ai.onnx.ml.TreeEnsemble`, version 5.
    """
    _check_parts(schema, trees, calibration)
    splines = checked_priors(schema, priors)
    tables = [trees[horizon] for horizon in schema.horizons]
    graph = GraphParts()
    _add_raw_score(graph, schema, tables, splines)
    _add_probability(graph, [calibration[horizon] for horizon in schema.horizons])

    def matrix(name: str, width: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N", width])

    width = len(schema.horizons)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "margincast",
            [matrix(INPUT, len(schema.features))],
            [matrix(PROBABILITY, width), matrix(RAW_SCORE, width)],
            initializer=graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="margincast",
    )
    helper.set_model_props(model, {SCHEMA_KEY: schema.sha256()})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _add_raw_score(
    graph: GraphParts, schema: ModelSchema, tables: Sequence[TreeTable], priors: Priors
) -> None:
    terms = []
    if schema.prior:
        terms.append(graph.columns(INPUT, schema.prior_columns(), "prior"))
    if priors:
        terms.append(add_spline_prior(graph, schema, priors, "prior"))
    if any(table.n_trees for table in tables):
        terms.append(graph.ensemble(tables, "trees"))
    if not terms:
        raise ExportError(
            "model has neither a prior nor a tree; name the prior columns or train trees"
        )
    graph.add("Add" if len(terms) == 2 else "Identity", terms, RAW_SCORE)


def _add_probability(graph: GraphParts, calibration: Sequence[tuple[float, float]]) -> None:
    horizons = len(calibration)
    slope = graph.constant("slope", np.array([[a for a, _ in calibration]]))
    intercept = graph.constant("intercept", np.array([[b for _, b in calibration]]))
    scaled = graph.add("Mul", [RAW_SCORE, slope], "scaled")
    logit = graph.add("Add", [scaled, intercept], "logit")

    # ONNX Runtime takes exp of full SIMD vectors and of the rest by different routines, which
    # differ in the last bit: rows of whole vectors keep a row's answer the same in every batch.
    width = -(-horizons // _LANES) * _LANES
    filled = np.minimum(np.arange(width), horizons - 1)
    lanes = graph.add("Gather", [logit, graph.constant("lanes", filled)], "filled", axis=1)
    odds_against = graph.add("Exp", [graph.add("Neg", [lanes], "minus_logit")], "odds_against")
    denominator = graph.add("Add", [odds_against, graph.constant("one", 1.0)], "denominator")
    alone = graph.add("Reciprocal", [denominator], "alone")

    columns = [
        graph.add(
            "Gather", [alone, graph.constant(f"column_{h}", np.array([h]))], f"alone_{h}", axis=1
        )
        for h in range(horizons)
    ]
    running = [columns[0]]
    for h, column in enumerate(columns[1:], start=1):
        running.append(graph.add("Max", [running[-1], column], f"running_{h}"))
    graph.add("Concat", running, PROBABILITY, axis=1)


def _check_parts(
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    calibration: Mapping[int, tuple[float, float]],
) -> None:
    for name, part in (("trees", trees), ("calibration", calibration)):
        if set(part) != set(schema.horizons):
            raise ExportError(
                f"{name} given for horizons {sorted(part)}; the schema has {schema.horizons}"
            )
    for horizon in schema.horizons:
        if trees[horizon].n_features != len(schema.features):
            raise ExportError(
                f"trees of {horizon} h have {trees[horizon].n_features} features; the schema has "
                f"{len(schema.features)}"
            )
        slope, intercept = calibration[horizon]
        if not (np.isfinite([slope, intercept]).all() and slope > 0.0):
            raise ExportError(
                f"calibration of {horizon} h is slope {slope}, intercept {intercept}; the slope "
                "must be positive and both finite, or more risk would lower the probability"
            )
