"""Size of a graph's values for one row, computed without running it.

A graph of allowed operators can still be built to exhaust memory: a column joined to itself forty
times, or constants that multiply the rows. So every value must be a matrix of one row an account,
and the widths of all values together are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from market.core.errors import BundleError
from models.onnx.protobuf import fields, integers, message, text

MOST_NODES = 1_024
MOST_COLUMNS = 4_096
"""Widths of all values of a graph together; a model of three horizons and fifty columns has some
200. With `models.onnx.scorer.CHUNK_ROWS` this bounds the memory of a call."""

_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT = 1, 5, 11
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 3
_TENSOR_DIMS, _TENSOR_NAME = 1, 8
_INFO_NAME, _INFO_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE = 1, 2, 1, 2, 1, 1


@dataclass(slots=True)
class _Node:
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)


def check_extent(graph: memoryview) -> None:
    """Refuse a graph that holds more numbers a row than a model needs.

    Raises
    ------
    BundleError
        It has too many nodes or columns, a constant with several rows, a value that is used
        before it is there, or an operator along the rows.

    References
    ----------
    ONNX, "Multidirectional broadcasting".
    """
    width: dict[str, int] = {}
    constants: dict[str, list[int]] = {}
    nodes: list[_Node] = []
    for number, value in fields(graph):
        if number == _GRAPH_INITIALIZER:
            name, dims = _tensor(message(value))
            constants[name] = dims
            width[name] = _constant_width(name, dims)
        elif number == _GRAPH_INPUT:
            name, columns = _input(message(value))
            width[name] = columns
        elif number == _GRAPH_NODE:
            nodes.append(_node(message(value)))
    if len(nodes) > MOST_NODES:
        raise BundleError(f"ONNX graph has {len(nodes)} nodes; a model has at most {MOST_NODES}")
    total = sum(width.values())
    for node in nodes:
        columns = _node_width(node, width, constants)
        width |= dict.fromkeys(node.outputs, columns)
        total += columns * len(node.outputs)
        if total > MOST_COLUMNS:
            raise BundleError(
                f"ONNX graph holds over {MOST_COLUMNS} numbers a row, more than a model needs; "
                "export it with models.onnx.export"
            )


def _node_width(node: _Node, width: dict[str, int], constants: dict[str, list[int]]) -> int:
    unknown = [name for name in node.inputs if name not in width]
    if unknown or not node.inputs:
        raise BundleError(
            f"ONNX node {node.operator} reads {unknown}, which is not there yet; export it again"
        )
    if node.operator in ("Gather", "Concat") and node.numbers.get("axis", 0) != 1:
        raise BundleError(f"ONNX node {node.operator} works along the rows; export it again")
    if node.operator == "Gather":
        indices = constants.get(node.inputs[-1], [])
        if len(indices) != 1:
            raise BundleError("ONNX node Gather needs a constant list of columns; export it again")
        return indices[0]
    if node.operator == "Concat":
        return sum(width[name] for name in node.inputs)
    if node.operator == "TreeEnsemble":
        return node.numbers.get("n_targets", 1)
    return max(width[name] for name in node.inputs)


def _constant_width(name: str, dims: list[int]) -> int:
    if len(dims) > 2 or (len(dims) == 2 and dims[0] != 1):
        raise BundleError(
            f"ONNX constant {name!r} has shape {dims}; one row is allowed, export it again"
        )
    return dims[-1] if dims else 1


def _tensor(data: memoryview) -> tuple[str, list[int]]:
    name, dims = "", []
    for number, value in fields(data):
        if number == _TENSOR_NAME:
            name = text(value)
        elif number == _TENSOR_DIMS:
            dims += integers(value)
    return name, dims


def _input(data: memoryview) -> tuple[str, int]:
    """Name and columns of an input of the graph: the last dimension that is a number, else 1."""
    name, columns = "", 1
    for number, value in fields(data):
        if number == _INFO_NAME:
            name = text(value)
        elif number == _INFO_TYPE:
            path = [message(value)]
            for part in (_TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM):
                path = [message(v) for inner in path for n, v in fields(inner) if n == part]
            sizes = [v for inner in path for n, v in fields(inner) if n == _DIM_VALUE]
            columns = max([1, *(size for size in sizes if isinstance(size, int))])
    return name, columns


def _node(data: memoryview) -> _Node:
    node = _Node()
    for number, value in fields(data):
        if number == _NODE_INPUT:
            node.inputs.append(text(value))
        elif number == _NODE_OUTPUT:
            node.outputs.append(text(value))
        elif number == _NODE_OPERATOR:
            node.operator = text(value)
        elif number == _NODE_ATTRIBUTE:
            name, whole = "", None
            for part, inner in fields(message(value)):
                if part == _ATTRIBUTE_NAME:
                    name = text(inner)
                elif part == _ATTRIBUTE_INT and isinstance(inner, int):
                    whole = inner
            if whole is not None:
                node.numbers[name] = whole
    return node
