"""Prior, trees, calibration and horizon order in one float64 ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from market.core.errors import ExportError
from models.bundle.schema import ModelSchema
from models.onnx.scorer import INPUT, PROBABILITY, RAW_SCORE, SCHEMA_KEY
from models.trees.tree_table import TreeTable

OPSET = 22
ML_OPSET = 5
IR_VERSION = 10
_LANES = 8  # doubles in the widest SIMD vector
_SUM, _NO_TRANSFORM, _LESS_OR_EQUAL = 1, 0, 0


def export(
    schema: ModelSchema,
    trees: Mapping[int, TreeTable],
    calibration: Mapping[int, tuple[float, float]],
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
    tables = [trees[horizon] for horizon in schema.horizons]
    graph = _Graph()
    _add_raw_score(graph, schema, tables)
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


class _Graph:
    """Nodes and constants of a graph while it is put together."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _add_raw_score(graph: _Graph, schema: ModelSchema, tables: Sequence[TreeTable]) -> None:
    terms = []
    if schema.prior:
        columns = graph.constant("prior_columns", np.array(schema.prior_columns(), np.int64))
        terms.append(graph.add("Gather", [INPUT, columns], "prior", axis=1))
    if any(table.n_trees for table in tables):
        attributes = _ensemble_attributes(tables)
        terms.append(graph.add("TreeEnsemble", [INPUT], "trees", domain="ai.onnx.ml", **attributes))
    if not terms:
        raise ExportError(
            "model has neither a prior nor a tree; name the prior columns or train trees"
        )
    graph.add("Add" if len(terms) == 2 else "Identity", terms, RAW_SCORE)


def _add_probability(graph: _Graph, calibration: Sequence[tuple[float, float]]) -> None:
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


def _ensemble_attributes(tables: Sequence[TreeTable]) -> dict[str, Any]:
    """Attributes of one `TreeEnsemble` whose target h is the horizon h.

    The operator numbers splits and leaves apart, and has no tree of a single leaf: such a tree
    becomes a split with that leaf on both sides.
    """
    first_node = np.cumsum([0] + [len(table.feature) for table in tables])
    feature = np.concatenate([table.feature for table in tables])
    threshold = np.concatenate([table.threshold for table in tables])
    default_left = np.concatenate([table.default_left for table in tables])
    left, right, roots = (
        np.concatenate([part + first for part, first in zip(parts, first_node, strict=False)])
        for parts in (
            [table.left.astype(np.int64) for table in tables],
            [table.right.astype(np.int64) for table in tables],
            [table.tree_start[:-1] for table in tables],
        )
    )
    target = np.repeat(np.arange(len(tables)), np.diff(first_node))
    value = np.concatenate([table.value for table in tables])

    is_leaf = feature < 0
    is_node = ~is_leaf
    is_node[roots] = True
    node_index = np.cumsum(is_node) - 1
    leaf_index = np.cumsum(is_leaf) - 1
    own = np.flatnonzero(is_node)
    true_child = np.where(is_leaf, np.arange(len(feature)), left)[own]
    false_child = np.where(is_leaf, np.arange(len(feature)), right)[own]

    def link(child: Any) -> list[int]:
        return [int(i) for i in np.where(is_leaf[child], leaf_index[child], node_index[child])]

    def tensor(name: str, array: Any) -> Any:
        return numpy_helper.from_array(array, name)

    return {
        "n_targets": len(tables),
        "aggregate_function": _SUM,
        "post_transform": _NO_TRANSFORM,
        "tree_roots": node_index[roots].tolist(),
        "nodes_featureids": np.maximum(feature[own], 0).tolist(),
        "nodes_splits": tensor("nodes_splits", threshold[own]),
        "nodes_modes": tensor("nodes_modes", np.full(len(own), _LESS_OR_EQUAL, np.uint8)),
        "nodes_missing_value_tracks_true": default_left[own].astype(np.int64).tolist(),
        "nodes_truenodeids": link(true_child),
        "nodes_falsenodeids": link(false_child),
        "nodes_trueleafs": is_leaf[true_child].astype(np.int64).tolist(),
        "nodes_falseleafs": is_leaf[false_child].astype(np.int64).tolist(),
        "leaf_targetids": target[is_leaf].tolist(),
        "leaf_weights": tensor("leaf_weights", value[is_leaf]),
    }


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
