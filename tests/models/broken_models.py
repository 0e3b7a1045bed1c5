"""Graphs that are well-formed and still no models: each fails in its own way once it is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def broken(model: bytes, kind: str) -> bytes:
    """A graph with a fault that no look at operators, inputs and outputs shows."""
    proto = onnx.load_from_string(model)
    FAULTS[kind](proto.graph)
    return bytes(proto.SerializeToString(deterministic=True))


def _set_constant(graph: Any, name: str, value: Any) -> None:
    (tensor,) = [tensor for tensor in graph.initializer if tensor.name == name]
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def _gather_out_of_range(graph: Any) -> None:
    _set_constant(graph, "prior_columns", np.array([0, 1, 9_999]))


def _bad_feature_ids(graph: Any) -> None:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_featureids":
                attribute.ints[0] = 100_000_000


def _nan_output(graph: Any) -> None:
    _set_constant(graph, "slope", np.array([[1.0, np.nan, 1.0]]))


def _above_one(graph: Any) -> None:
    _set_constant(graph, "one", -0.5)


def _wrong_shape(graph: Any) -> None:
    _set_constant(graph, "column_0", np.array([0, 0]))


def _upside_down(graph: Any) -> None:
    """The riskier an account, the lower its probability."""
    _set_constant(graph, "slope", np.array([[-1.0, -1.0, -1.0]]))


def _huge_memory(graph: Any) -> None:
    """A value that is joined to itself forty times over: 2^40 columns."""
    (last,) = [node for node in graph.node if node.output[0] == "probability"]
    name = "alone"
    for step in range(40):
        node = helper.make_node("Concat", [name, name], [f"doubled_{step}"], axis=1)
        graph.node.insert(len(graph.node) - 1, node)
        name = f"doubled_{step}"
    columns = numpy_helper.from_array(np.array([0]), "first")
    graph.initializer.append(columns)
    first = helper.make_node("Gather", [name, "first"], ["first_of_doubled"], axis=1)
    graph.node.insert(len(graph.node) - 1, first)
    last.input[0] = "first_of_doubled"


def _many_rows(graph: Any) -> None:
    """A constant of a million rows, which multiplies those of the call."""
    _set_constant(graph, "intercept", np.zeros((1_000_000, 1)))


FAULTS: dict[str, Callable[[Any], None]] = {
    "gather_out_of_range": _gather_out_of_range,
    "bad_feature_ids": _bad_feature_ids,
    "nan_output": _nan_output,
    "above_one": _above_one,
    "wrong_shape": _wrong_shape,
    "upside_down": _upside_down,
    "huge_memory": _huge_memory,
    "many_rows": _many_rows,
}
