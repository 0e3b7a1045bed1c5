"""Nodes and constants of an ONNX graph while it is put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper, numpy_helper

from models.onnx.scorer import INPUT
from models.trees.tree_table import TreeTable

_SUM, _NO_TRANSFORM, _LESS_OR_EQUAL = 1, 0, 0


class GraphParts:
    """Nodes and constants, in order."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node and give the name of its output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Add a constant and give its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def columns(self, of: str, columns: Sequence[int] | npt.NDArray[np.int64], output: str) -> str:
        """Add a node that takes some columns of a value."""
        picked = self.constant(f"{output}_columns", np.array(columns, np.int64))
        return self.add("Gather", [of, picked], output, axis=1)

    def ensemble(self, tables: Sequence[TreeTable], output: str) -> str:
        """Add trees that read the model's features; column i of the output sums those of table i.

        The operator numbers splits and leaves apart, and has no tree of a single leaf: such a tree
        becomes a split with that leaf on both sides.
        """
        attributes = _ensemble_attributes(tables)
        return self.add("TreeEnsemble", [INPUT], output, domain="ai.onnx.ml", **attributes)


def _ensemble_attributes(tables: Sequence[TreeTable]) -> dict[str, Any]:
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
