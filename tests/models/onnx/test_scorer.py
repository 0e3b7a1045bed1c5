from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from market.core.errors import BundleError, ModelError
from models.onnx import scorer as scorer_module
from models.onnx.scorer import Scorer
from models.trees.tree_table import Floats

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel


def test_one_row_and_a_batch_agree_to_the_last_bit(small: SmallModel) -> None:
    scorer = Scorer(small.onnx, small.schema)
    raw, probability = scorer.score(small.X[:300])
    for i in range(300):
        one_raw, one_probability = scorer.score(small.X[i : i + 1])
        np.testing.assert_array_equal(one_raw[0], raw[i])
        np.testing.assert_array_equal(one_probability[0], probability[i])


def test_chunks_leave_no_seam(small: SmallModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Scorer(small.onnx, small.schema).probability(small.X[:1000])
    monkeypatch.setattr(scorer_module, "CHUNK_ROWS", 7)
    np.testing.assert_array_equal(
        Scorer(small.onnx, small.schema).probability(small.X[:1000]), whole
    )


def test_no_rows_give_no_probabilities(small: SmallModel) -> None:
    scorer = Scorer(small.onnx, small.schema)
    raw, probability = scorer.score(np.empty((0, 7)))
    assert raw.shape == probability.shape == (0, 3)
    answer = scorer._session.run(["probability"], {"features": np.empty((0, 7))})[0]
    assert answer.shape == (0, 3)


def test_rows_in_column_order_of_memory_score_alike(small: SmallModel) -> None:
    scorer = Scorer(small.onnx, small.schema)
    np.testing.assert_array_equal(
        scorer.probability(np.asfortranarray(small.X[:50])), scorer.probability(small.X[:50])
    )


@pytest.mark.parametrize(
    "X", [np.ones((2, 6)), np.ones((2, 8)), np.ones(7), np.ones((2, 7), np.float32)]
)
def test_wrong_input_is_refused(small: SmallModel, X: Floats) -> None:
    with pytest.raises(ModelError, match="float64 of shape"):
        Scorer(small.onnx, small.schema).probability(X)


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x00" * 64])
def test_noise_is_refused(small: SmallModel, data: bytes) -> None:
    with pytest.raises(BundleError, match="ONNX"):
        Scorer(data, small.schema)


def test_schema_of_another_export_is_refused(small: SmallModel) -> None:
    with pytest.raises(BundleError, match="exported with schema"):
        Scorer(small.onnx, replace(small.schema, features_sha256="b" * 64))
    with pytest.raises(BundleError, match="probability"):
        Scorer(small.onnx, replace(small.schema, horizons=(1, 8), prior=("prior_1", "prior_8")))


@pytest.mark.parametrize("hazard", ["float32", "fixed rows", "other name"])
def test_other_inputs_and_outputs_are_refused(small: SmallModel, hazard: str) -> None:
    kind = TensorProto.FLOAT if hazard == "float32" else TensorProto.DOUBLE
    count = 5 if hazard == "fixed rows" else "N"
    name = "answer" if hazard == "other name" else "probability"
    head = helper.make_tensor_value_info("features", kind, [count, 7])
    outputs = [helper.make_tensor_value_info(o, kind, [count, 3]) for o in (name, "raw_score")]
    columns = onnx.numpy_helper.from_array(np.array([0, 1, 2]), "columns")
    nodes = [
        helper.make_node("Gather", ["features", "columns"], [o], axis=1)
        for o in (name, "raw_score")
    ]
    graph = helper.make_graph(nodes, "g", [head], outputs, [columns])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    with pytest.raises(BundleError, match="expected"):
        Scorer(model.SerializeToString(), small.schema)


def test_serving_side_imports_none_of_the_slow_libraries() -> None:
    # numba looks up the version of an installed scipy: its bare root, not its routines.
    code = (
        "import sys; import models.bundle.bundle, models.onnx.scorer, models.bundle.pointer, "
        "models.trees.contributions, "
        "models.bundle.schema, models.trees.tree_table; "
        "slow = {'lightgbm', 'onnx', 'sklearn', 'mlflow', 'pandas', 'scipy.stats', "
        "'scipy.special', 'scipy.linalg', 'scipy.optimize', 'scipy.sparse'} & set(sys.modules); "
        "sys.exit(str(slow) if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
