"""A bundle that is well-formed and fails at inference is refused when it is loaded."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from market.core.errors import BundleError
from models.bundle import self_test as self_test_module
from models.bundle.bundle import load_bundle, write_bundle
from models.bundle.schema import ModelSchema
from models.bundle.self_test import SelfTestError, self_test
from models.onnx.export import export
from models.onnx.scorer import Scorer
from models.trees.tree_table import TreeTable
from tests.models.broken_models import FAULTS, broken

if TYPE_CHECKING:
    from tests.models.conftest import SmallModel


@pytest.mark.parametrize("fault", FAULTS)
def test_a_well_formed_graph_that_fails_at_inference_is_refused(
    tmp_path: Path, small: SmallModel, fault: str
) -> None:
    files = small.files()
    files["model.onnx"] = broken(files["model.onnx"], fault)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError):
        load_bundle(tmp_path / write_bundle(tmp_path, files))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 * 1024, f"the refusal took {grown} KB"


@pytest.mark.parametrize("name", ["manifest.json", "trees.npz", "model.onnx"])
def test_a_file_of_nothing_but_brackets_or_noise_is_refused(
    tmp_path: Path, small: SmallModel, name: str
) -> None:
    for number, data in enumerate((b"[" * 100_000, b"\xff" * 1_000, b"", b"{}")):
        files = small.files() | {name: data}
        root = tmp_path / str(number)
        with pytest.raises(BundleError):
            load_bundle(root / write_bundle(root, files))


def test_a_slow_graph_is_refused(small: SmallModel, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(small.onnx, small.schema)
    self_test(scorer, small.schema, small.trees, small.calibration)
    monkeypatch.setattr(self_test_module, "SLOWEST_SECONDS", 0.0)
    with pytest.raises(SelfTestError, match="takes"):
        self_test(scorer, small.schema, small.trees, small.calibration)


def test_trees_against_their_constraint_are_refused() -> None:
    """Graph and trees agree, but more volatility lowers the probability."""
    table = TreeTable(
        2,
        np.array([0, 3]),
        np.array([1, -1, -1], np.int32),
        np.array([0.5, 0.0, 0.0]),
        np.array([1, -1, -1], np.int32),
        np.array([2, -1, -1], np.int32),
        np.array([True, False, False]),
        np.array([0.0, 1.0, -1.0]),
    )

    def parts(direction: int) -> tuple[Any, ...]:
        schema = ModelSchema(
            features=("prior_1", "volatility"),
            monotone=(1, direction),
            horizons=(1,),
            prior=("prior_1",),
            features_sha256="a" * 64,
        )
        trees, calibration = {1: table}, {1: (1.0, 0.0)}
        return Scorer(export(schema, trees, calibration), schema), schema, trees, calibration

    self_test(*parts(0))
    self_test(*parts(-1))
    with pytest.raises(SelfTestError, match="'volatility'"):
        self_test(*parts(1))


def test_any_error_of_a_graph_is_a_failed_self_test(small: SmallModel) -> None:
    class Raising(Scorer):
        __slots__ = ()

        def score(self, X: Any) -> Any:
            raise MemoryError("no memory")

    with pytest.raises(SelfTestError, match="no memory"):
        self_test(Raising(small.onnx, small.schema), small.schema, small.trees, small.calibration)
