"""Gates on stress windows and segments: who is judged, and when a verdict may hang on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from margin.rules.ruleset import load_ruleset, ruleset_from_content
from market.core.errors import DataError
from models.gates import Gate
from pipelines.registry import promotion_gates
from pipelines.registry.promotion_gates import (
    LEAST_EVENTS,
    add_on_gates,
    requirement_change,
    stress_and_segments,
)
from training.backtest.backtest import BacktestSettings
from training.backtest.release_checks import UncoveredRatio


def group(observed: int, p: float | None) -> dict[str, Any]:
    return {"observed": observed, "worse_p": p}


def evaluation(
    prices: str = "real", p: float = 0.4, upper: float = 0.01, windows: int = 2
) -> dict[str, Any]:
    pooled = {
        "windows": ["ftx", "tariffs"][:windows],
        "rows": 100 * windows,
        "log_loss_skill": -0.02,
        "log_loss_skill_ci95": [-0.05, upper],
    }
    return {
        "data": {"prices": prices},
        "stress_pooled": {"8": pooled},
        "horizons": {
            "8": {
                "segments": {
                    "leverage": {
                        "over 20": group(LEAST_EVENTS + 1, p),
                        "under 3": group(LEAST_EVENTS, 1e-9),
                        "one day": group(LEAST_EVENTS + 1, None),
                    },
                    "direction": {"mixed": group(LEAST_EVENTS + 1, 0.3)},
                }
            }
        },
    }


def test_all_windows_of_a_horizon_share_a_gate_and_all_segments_another() -> None:
    gates = {gate.name: gate for gate in stress_and_segments(evaluation())}
    assert set(gates) == {"stress_8h", "no_weak_segment"}
    assert all(gate.passed for gate in gates.values())
    assert "among 2 segments" in gates["no_weak_segment"].detail
    assert "2 stress window(s)" in gates["stress_8h"].detail


def test_worse_log_loss_in_stress_beyond_chance_fails() -> None:
    assert not stress_and_segments(evaluation(upper=-0.001))[0].passed


def test_segment_worse_beyond_chance_after_correction_fails() -> None:
    assert stress_and_segments(evaluation(p=0.03))[-1].passed, "two segments: 0.06 after Holm"
    failed = stress_and_segments(evaluation(p=0.02))[-1]
    assert not failed.passed
    assert "leverage over 20 at 8 h" in failed.detail


@pytest.mark.parametrize(("prices", "kind"), [("real", "stress"), ("simulated", "report")])
def test_no_verdict_hangs_on_stress_or_segments_of_a_simulated_market(
    prices: str, kind: str
) -> None:
    assert {gate.kind for gate in stress_and_segments(evaluation(prices))} == {kind}


def test_test_span_without_stress_windows_has_no_stress_gate() -> None:
    assert [gate.name for gate in stress_and_segments(evaluation(windows=0))] == ["no_weak_segment"]


def test_requirement_change_is_held_to_the_limit_of_the_rule_set() -> None:
    default = load_ruleset("linear-tiers")
    change = {"material": False, "accounts": 10, "total_requirement": {"change": 0.06}}
    (gate,) = requirement_change(change, default)
    assert (gate.passed, gate.kind, gate.limit) == (False, "promotion", 0.05)
    wide = default.content() | {"promotion": {"max_requirement_change": 0.1}}
    (gate,) = requirement_change(change, ruleset_from_content(wide))
    assert gate.passed


def test_without_a_comparable_champion_there_is_no_such_gate() -> None:
    rules = load_ruleset("linear-tiers")
    assert requirement_change(None, rules) == []
    assert requirement_change({"material": None, "reason": "other features"}, rules) == []


MOVES = {
    "peak_to_trough": 1.5,
    "n_day_max_increase": {"1": 0.1, "5": 0.2, "20": 0.3},
    "response_to_one_extreme_return": 0.05,
}


def gates_of_add_on(monkeypatch: pytest.MonkeyPatch, **replaced: Any) -> list[Gate]:
    """`add_on_gates` with its comparisons replaced."""
    monkeypatch.setattr(promotion_gates, "Forecaster", lambda bundle: bundle)
    monkeypatch.setattr(promotion_gates, "load_bundle", lambda path: path)
    for name, value in replaced.items():
        monkeypatch.setattr(promotion_gates, name, value)
    settings = BacktestSettings((0, 1), (1, 2), 7)
    nothing: Any = None
    rules = load_ruleset("linear-tiers")
    return add_on_gates(nothing, nothing, rules, nothing, Path("champion"), settings)


def test_a_release_is_held_to_procyclicality_and_to_the_champions_uncovered_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = gates_of_add_on(
        monkeypatch,
        compare_procyclicality=lambda *_: (MOVES, MOVES),
        compare_uncovered=lambda *_: UncoveredRatio(1.2, (1.1, 1.3)),
    )
    gates = {gate.name: gate for gate in found}
    assert len(gates) == 6
    assert {gate.kind for gate in found} == {"promotion"}
    assert not gates.pop("uncovered_loss").passed
    assert all(gate.passed and gate.value == 1.0 for gate in gates.values())


def test_an_add_on_that_cannot_be_compared_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise DataError("the span holds no whole day")

    (gate,) = gates_of_add_on(monkeypatch, compare_procyclicality=refuse)
    assert (gate.kind, gate.passed) == ("report", False)
    assert "no whole day" in gate.detail
