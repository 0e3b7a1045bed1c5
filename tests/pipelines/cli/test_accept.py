"""``retrain --accept`` is refused before any training unless its gate is of stress or segments."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import pytest

from market.core.errors import ConfigError
from pipelines.cli.options import reasons_by_gate

# Defined in conftest.py, which pytest does not let us import.
Workspace: TypeAlias = Any


def test_gates_and_reasons_are_read_and_a_reason_may_hold_a_sign() -> None:
    given = ["stress_8h = one window, p = 0.04", "no_weak_segment=reviewed"]
    assert reasons_by_gate(given) == {
        "stress_8h": "one window, p = 0.04",
        "no_weak_segment": "reviewed",
    }
    assert reasons_by_gate([]) == {}


@pytest.mark.parametrize("text", ["stress_8h", "stress_8h=", "=reason", "  = "])
def test_half_an_acceptance_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="GATE=REASON"):
        reasons_by_gate([text])


def test_a_gate_has_one_reason() -> None:
    with pytest.raises(ConfigError, match="twice"):
        reasons_by_gate(["stress_8h=a", "stress_8h=b"])


def test_other_gates_are_refused_by_name_before_training(bare: Workspace) -> None:
    out = bare.folder / "retrain.json"
    line = bare.refusal("retrain", "--accept", "calibration_slope_8h=reviewed", "--json", out)
    assert "calibration_slope_8h cannot be accepted" in line
    assert "stress_1h, stress_8h, stress_24h, no_weak_segment" in line
    assert json.loads(out.read_text())["verdict"] == "failed"
    assert not bare.bundles.exists()
