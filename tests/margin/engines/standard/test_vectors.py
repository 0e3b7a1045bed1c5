"""Every public case of Derive's standard margin, each expected figure within its tolerance."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from margin.cases.margin_cases import run_case, run_cases

KNOWN = {"initial_net_margin", "maintenance_net_margin", "mark_to_market"}


@pytest.fixture(scope="module")
def vectors(data_dir: Path) -> Path:
    return data_dir.parent / "vectors" / "derive_srm.jsonl"


@pytest.mark.realdata
def test_every_case_is_met(vectors: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run_cases(vectors, out) == 0
    cases = [json.loads(line) for line in vectors.read_text().splitlines()]
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert [case["id"] for case in cases] == [result["id"] for result in results]
    assert len(cases) >= 14
    for case, result in zip(cases, results, strict=True):
        expected, tolerance = case["expected"], case["tolerance"]
        assert expected
        assert set(expected) <= KNOWN
        for key, value in expected.items():
            assert math.isclose(
                result[key],
                value,
                rel_tol=tolerance["relative"],
                abs_tol=tolerance["absolute"],
            ), (case["id"], key)
        for level in ("initial", "maintenance"):
            parts = result["components"][level].values()
            assert math.fsum(parts) == result[f"{level}_net_margin"]


@pytest.mark.realdata
def test_figures_of_the_preset_are_those_of_the_cases(vectors: Path) -> None:
    first = json.loads(vectors.read_text().splitlines()[1])
    named = {**first, "ruleset": "derive-srm"}
    assert run_case(json.dumps(named).encode()) == run_case(json.dumps(first).encode())
