"""Gates on stress windows and segments: who is judged, and when a verdict may hang on it."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.registry.promotion_gates import LEAST_EVENTS, stress_and_segments


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
