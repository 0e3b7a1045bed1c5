"""Audit of an ONNX file before ONNX Runtime loads it.

ONNX Runtime reports inputs and outputs but neither operators nor files outside the graph, and
the `onnx` package is not part of serving: so the few protobuf fields that matter are walked here.
"""

from __future__ import annotations

from market.core.errors import BundleError
from models.onnx.extent import check_extent
from models.onnx.protobuf import fields, message, text

ALLOWED_OPERATORS = frozenset(
    {("ai.onnx.ml", "TreeEnsemble")}
    | {
        ("", operator)
        for operator in (
            "Add",
            "Concat",
            "Exp",
            "Gather",
            "Identity",
            "Max",
            "Min",
            "Mul",
            "Neg",
            "Reciprocal",
        )
    }
)
"""Operators that `models.onnx.export` writes, as (domain, name); no others are loaded."""

_MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_OPSET_DOMAIN = 1
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 6, 11, 22, 23
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


def audit_onnx(data: bytes) -> None:
    """Refuse a graph that goes beyond plain scoring.

    Refused: operators and domains other than `ALLOWED_OPERATORS`, sub-graphs, functions, training
    information, sparse tensors, tensors kept in other files, and graphs that take more memory than
    a model needs (`models.onnx.extent`).

    Raises
    ------
    BundleError
        The file is not an ONNX model or uses something refused.

    References
    ----------
    ONNX IR specification, ``onnx.proto``; Protocol Buffers encoding.
    """
    graphs = 0
    for number, value in fields(memoryview(data)):
        if number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise _refusal("training information or functions")
        if number == _MODEL_OPSET:
            domains = {domain for domain, _ in ALLOWED_OPERATORS}
            for part, domain in fields(message(value)):
                if part == _OPSET_DOMAIN and text(domain) not in domains:
                    raise _refusal(f"operator domain {text(domain)!r}")
        elif number == _MODEL_GRAPH:
            graphs += 1
            _audit_graph(message(value))
            check_extent(message(value))
    if graphs != 1:
        raise BundleError(f"ONNX file holds {graphs} graphs; expected one, export it again")


def _audit_graph(graph: memoryview) -> None:
    for number, value in fields(graph):
        if number == _GRAPH_NODE:
            _audit_node(message(value))
        elif number == _GRAPH_INITIALIZER:
            _audit_tensor(message(value))
        elif number == _GRAPH_SPARSE:
            raise _refusal("sparse tensors")


def _audit_node(node: memoryview) -> None:
    operator = domain = ""
    for number, value in fields(node):
        if number == _NODE_OPERATOR:
            operator = text(value)
        elif number == _NODE_DOMAIN:
            domain = text(value)
        elif number == _NODE_ATTRIBUTE:
            _audit_attribute(message(value))
    if (domain, operator) not in ALLOWED_OPERATORS:
        raise _refusal(f"operator {operator!r} of domain {domain!r}")


def _audit_attribute(attribute: memoryview) -> None:
    for number, value in fields(attribute):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _audit_tensor(message(value))
        elif number in (
            _ATTRIBUTE_GRAPH,
            _ATTRIBUTE_GRAPHS,
            _ATTRIBUTE_SPARSE,
            _ATTRIBUTE_SPARSES,
        ):
            raise _refusal("sub-graphs or sparse tensors")


def _audit_tensor(tensor: memoryview) -> None:
    for number, value in fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise _refusal("tensors kept in other files")


def _refusal(what: str) -> BundleError:
    return BundleError(
        f"ONNX file uses {what}, which a bundle may not; export it with models.onnx.export"
    )
