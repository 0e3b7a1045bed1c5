"""A column's numbers change only with a new revision of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from features.registry import ACCOUNT_FEATURES, CROSS_FEATURES, GROUP_FEATURES, MARKET_FEATURES

FEATURES: tuple[Any, ...] = (
    *MARKET_FEATURES,
    *CROSS_FEATURES,
    *GROUP_FEATURES,
    *ACCOUNT_FEATURES,
)
TOLERANCE = 1e-9
"""Relative, for processors differ in the last bits; the kept values have 15 digits."""

NOISE = {"edge_spread_24h": 1e-8, "book_edge_spread_24h": 1e-8}
"""Absolute tolerance of columns that are differences of nearly equal terms: the golden market has
no spread, and what rounding leaves (under 1e-8, where a spread counts from 1e-5) differs between
processors."""


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    path = Path(__file__).with_name("golden_columns.py")
    spec = importlib.util.spec_from_file_location("golden_columns", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def now(golden: ModuleType) -> dict[str, list[float | None]]:
    found: dict[str, list[float | None]] = golden.values()
    return found


@pytest.fixture(scope="module")
def kept(golden: ModuleType) -> dict[str, list[float | None]]:
    known: dict[str, list[float | None]] = golden.read()
    return known


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_column_has_the_values_of_its_revision(
    feature: Any, golden: ModuleType, now: dict[str, Any], kept: dict[str, Any]
) -> None:
    key = f"{feature.name}@{feature.revision}"
    assert key in kept, f"{key} is new: run tests/features/golden_columns.py to keep its values"
    np.testing.assert_allclose(
        golden.as_array(now[key]),
        golden.as_array(kept[key]),
        rtol=TOLERANCE,
        atol=NOISE.get(feature.name, TOLERANCE * _scale(golden.as_array(kept[key]))),
        err_msg=f"the numbers of {feature.name} changed: raise its revision, then run "
        "tests/features/golden_columns.py; models trained on it cannot be served any more",
    )


def _scale(values: Any) -> float:
    known = np.abs(values[np.isfinite(values)])
    return float(np.median(known)) if len(known) else 0.0


def test_every_column_varies_in_the_golden_market(kept: dict[str, Any]) -> None:
    for feature in FEATURES:
        values = [x for x in kept[f"{feature.name}@{feature.revision}"] if x is not None]
        assert len(set(values)) > 1, feature.name


def test_a_new_revision_is_added_and_an_old_one_is_never_replaced(
    golden: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "golden.json"
    path.write_text('{"headroom_share@1": [1.5, null]}')
    monkeypatch.setattr(golden, "FILE", path)
    monkeypatch.setattr(golden, "values", lambda: {"headroom_share@1": [2.0], "new@1": [3.0]})
    golden.main()
    assert golden.read() == {"headroom_share@1": [1.5, None], "new@1": [3.0]}
