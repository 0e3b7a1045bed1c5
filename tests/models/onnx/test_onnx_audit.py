from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given, strategies as st
from onnx import TensorProto, helper, numpy_helper

from market.core.errors import BundleError
from models.onnx.audit import audit_onnx

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel


def model_of(
    *nodes: Any,
    initializers: Sequence[Any] = (),
    opsets: Sequence[str] = ("", "ai.onnx.ml"),
    **extra: Any,
) -> bytes:
    value = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N"])
    graph = helper.make_graph(nodes, "g", [value], [], list(initializers))
    imports = [helper.make_opsetid(domain, 5) for domain in opsets]
    model = helper.make_model(graph, opset_imports=imports, **extra)
    return bytes(model.SerializeToString())


def test_plain_graph_passes() -> None:
    audit_onnx(model_of(helper.make_node("Neg", ["x"], ["y"])))


@pytest.mark.parametrize(
    ("operator", "domain"),
    [("Sigmoid", ""), ("If", ""), ("Neg", "com.microsoft"), ("TreeEnsemble", "")],
)
def test_other_operators_are_refused(operator: str, domain: str) -> None:
    with pytest.raises(BundleError, match=f"operator '{operator}'"):
        audit_onnx(model_of(helper.make_node(operator, ["x"], ["y"], domain=domain)))


def test_other_domain_is_refused() -> None:
    with pytest.raises(BundleError, match="evil"):
        audit_onnx(model_of(helper.make_node("Neg", ["x"], ["y"]), opsets=("", "evil")))


def test_tensor_in_another_file_is_refused() -> None:
    tensor = numpy_helper.from_array(np.ones(3), "w")
    onnx.external_data_helper.set_external_data(tensor, "../../secret")
    with pytest.raises(BundleError, match="other files"):
        audit_onnx(model_of(initializers=[tensor]))


def test_attribute_tensor_in_another_file_is_refused() -> None:
    tensor = numpy_helper.from_array(np.ones(3), "w")
    onnx.external_data_helper.set_external_data(tensor, "secret")
    node = helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", leaf_weights=tensor)
    with pytest.raises(BundleError, match="other files"):
        audit_onnx(model_of(node))


def test_sub_graph_is_refused() -> None:
    inner = helper.make_graph([helper.make_node("Loop", [], ["z"])], "inner", [], [])
    with pytest.raises(BundleError, match="sub-graphs"):
        audit_onnx(model_of(helper.make_node("Neg", ["x"], ["y"], body=inner)))


def test_function_is_refused() -> None:
    function = helper.make_function(
        "", "Neg", ["x"], ["y"], [helper.make_node("Exp", ["x"], ["y"])], []
    )
    with pytest.raises(BundleError, match="functions"):
        audit_onnx(model_of(helper.make_node("Neg", ["x"], ["y"]), functions=[function]))


def test_second_graph_that_protobuf_would_merge_is_refused() -> None:
    data = model_of(helper.make_node("Neg", ["x"], ["y"]))
    with pytest.raises(BundleError, match="2 graphs"):
        audit_onnx(data + data)


@given(st.binary(max_size=200))
def test_noise_is_refused_without_a_crash(data: bytes) -> None:
    with pytest.raises(BundleError):
        audit_onnx(data)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_cut_graph_is_refused(small: SmallModel, share: float) -> None:
    with pytest.raises(BundleError):
        audit_onnx(small.onnx[: int(len(small.onnx) * share)])
