"""Gates on stress windows and segments: who is judged, and when a verdict may hang on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from margin.rules.ruleset import load_ruleset
from market.core.errors import DataError
from models.gates import Gate
from pipelines.registry import promotion_gates
from pipelines.registry.promotion_gates import LEAST_EVENTS, add_on_gates, stress_and_segments
from training.backtest.backtest import BacktestSettings
from training.backtest.release_checks import UncoveredRatio


def group(observed: int, p: float | None, own: float | None, other: float | None) -> dict[str, Any]:
    ratios = {"margincast": own, "first_passage_isotonic": other}
    return {"observed": observed, "worse_p": p, "predicted_over_observed": ratios}


def evaluation(prices: str = "real", p: float = 0.4) -> dict[str, Any]:
    return {
        "data": {"prices": prices},
        "stress": {"tariffs": {"8": group(LEAST_EVENTS + 1, 0.3, 1.1, 1.3)}},
        "horizons": {
            "8": {
                "segments": {
                    "leverage": {
                        "over 20": group(LEAST_EVENTS + 1, p, 1.0, 1.0),
                        "under 3": group(LEAST_EVENTS, 1e-9, 1.0, 1.0),
                        "one day": group(LEAST_EVENTS + 1, None, 1.0, 1.0),
                    }
                }
            }
        },
    }


def test_every_stress_window_and_horizon_has_a_gate_and_all_groups_share_a_gate() -> None:
    gates = {gate.name: gate for gate in stress_and_segments(evaluation())}
    assert set(gates) == {"stress_tariffs_8h", "no_weak_stress_or_segment"}
    assert all(gate.passed for gate in gates.values())
    assert "among 2 stress windows and segments" in gates["no_weak_stress_or_segment"].detail


def test_segment_worse_beyond_chance_after_correction_fails() -> None:
    assert stress_and_segments(evaluation(p=0.03))[-1].passed, "two groups: 0.06 after Holm"
    failed = stress_and_segments(evaluation(p=0.02))[-1]
    assert not failed.passed
    assert "leverage over 20 at 8 h" in failed.detail


@pytest.mark.parametrize(("prices", "kind"), [("real", "promotion"), ("simulated", "report")])
def test_no_verdict_hangs_on_stress_or_segments_of_a_simulated_market(
    prices: str, kind: str
) -> None:
    assert {gate.kind for gate in stress_and_segments(evaluation(prices))} == {kind}


def test_market_without_stress_and_events_passes() -> None:
    quiet = {"data": {"prices": "real"}, "stress": {}, "horizons": {"8": {"segments": {}}}}
    (gate,) = stress_and_segments(quiet)
    assert gate.passed


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
