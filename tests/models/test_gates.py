from __future__ import annotations

import json
from typing import Any

import pytest

from market.core.errors import ModelError
from models.gates import (
    COUNT_RANGE,
    SLOPE_RANGE,
    TOP_DECILE_RANGE,
    Acceptance,
    Gate,
    accept_gates,
    bounds_gate,
    calibration_gates,
    check_acceptances,
    decide_promotion,
    ece_limit,
    event_gate,
    not_worse_gate,
    parity_gate,
    procyclicality_gates,
    requirement_change_gate,
    stress_gate,
    uncovered_loss_gate,
    weak_segments_gate,
)


def gate(kind: str, passed: bool) -> Gate:
    return Gate(f"{kind}_{passed}", kind, passed, 1.0, 0.5, f"the {kind} figure")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("safety", "promotion", "champion", "verdict"),
    [
        (True, True, True, "promoted"),
        (True, False, True, "kept"),
        (False, True, True, "refused"),
        (False, False, True, "refused"),
        (True, True, False, "promoted"),
        (True, False, False, "promoted"),
        (False, True, False, "refused"),
    ],
)
def test_report_gates_decide_nothing(
    safety: bool, promotion: bool, champion: bool, verdict: str
) -> None:
    gates = [gate("promotion", promotion), gate("safety", safety), gate("report", False)]
    decision = decide_promotion(gates, has_champion=champion)
    assert decision.verdict == verdict
    assert "report" not in " ".join(decision.reasons)
    assert "report_False" in decision.gates


@pytest.mark.parametrize(
    ("safety", "promotion", "champion", "verdict"),
    [
        (True, True, True, "promoted"),
        (True, False, True, "kept"),
        (False, True, True, "refused"),
        (False, False, True, "refused"),
        (True, True, False, "promoted"),
        (True, False, False, "promoted"),
        (False, True, False, "refused"),
    ],
)
def test_verdict(safety: bool, promotion: bool, champion: bool, verdict: str) -> None:
    gates = [gate("promotion", promotion), gate("safety", safety)]
    assert decide_promotion(gates, has_champion=champion).verdict == verdict


def test_reasons_name_the_failed_safety_gates_only() -> None:
    decision = decide_promotion(
        [gate("safety", False), gate("safety", True), gate("promotion", False)], has_champion=True
    )
    assert decision.reasons == ("the safety figure is 1, limit 0.5",)
    assert len(decision.gates) == 3


def test_champion_that_is_trained_again_is_not_reported_as_the_first() -> None:
    first = decide_promotion([], has_champion=False)
    again = decide_promotion([], has_champion=False, is_champion=True)
    assert first.verdict == again.verdict == "promoted"
    assert first.reasons == ("all safety gates passed; there was no champion",)
    assert again.reasons == ("all safety gates passed; this very bundle is the champion",)


def test_gates_are_plain_json() -> None:
    found = parity_gate(0.0, 10, 1e-12).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False))["passed"] is True


@pytest.mark.parametrize(
    ("difference", "rows", "passed"),
    [(1e-12, 5, True), (1.0000001e-12, 5, False), (0.0, 0, False), (float("nan"), 5, False)],
)
def test_parity_limit_is_inclusive_and_nothing_checked_fails(
    difference: float, rows: int, passed: bool
) -> None:
    assert parity_gate(difference, rows, 1e-12).passed is passed


@pytest.mark.parametrize(
    ("violations", "checked", "passed"), [(0, 5, True), (1, 5, False), (0, 0, False)]
)
def test_bounds_gate(violations: int, checked: int, passed: bool) -> None:
    assert bounds_gate(violations, checked).passed is passed


def figures(**changes: float | None) -> dict[str, Any]:
    return {"ece_over_base_rate": 0.1, "calibration_slope": 1.0, "top_decile_ratio": 1.0} | changes


def failed(figures: dict[str, Any], quantile: float | None, counts: float | None) -> list[str]:
    return [g.name for g in calibration_gates(8, figures, quantile, counts) if not g.passed]


def test_sound_calibration_passes_all() -> None:
    gates = calibration_gates(8, figures(), 0.05, 1.0)
    assert len(gates) == 4
    assert all(g.passed and g.kind == "safety" for g in gates)


@pytest.mark.parametrize("end", [0, 1])
def test_ranges_are_inclusive(end: int) -> None:
    at = figures(
        calibration_slope=SLOPE_RANGE[end],
        top_decile_ratio=TOP_DECILE_RANGE[end],
        ece_over_base_rate=ece_limit(8),
    )
    assert failed(at, None, COUNT_RANGE[end]) == []
    step = (-1e-9, 1e-9)[end]
    beyond = figures(
        calibration_slope=SLOPE_RANGE[end] + step,
        top_decile_ratio=TOP_DECILE_RANGE[end] + step,
        ece_over_base_rate=ece_limit(8) + 1e-9,
    )
    assert failed(beyond, None, COUNT_RANGE[end] + step) == [
        "calibration_error_8h",
        "calibration_slope_8h",
        "top_decile_8h",
        "predicted_over_observed_8h",
    ]


def test_calibration_error_within_chance_passes() -> None:
    assert failed(figures(ece_over_base_rate=0.3), 0.1, 1.0) == []
    assert failed(figures(ece_over_base_rate=0.3), 0.2, 1.0) == ["calibration_error_8h"]


def test_undefined_figures_fail() -> None:
    nothing = figures(ece_over_base_rate=None, calibration_slope=None, top_decile_ratio=None)
    assert len(failed(nothing, None, None)) == 4


@pytest.mark.parametrize(
    ("skill", "interval", "passed"),
    [
        (-0.1, (-0.2, 0.0), True),
        (-0.1, (-0.2, -1e-9), False),
        (0.1, (0.0, 0.2), True),
        (0.0, None, True),
        (-1e-9, None, False),
    ],
)
def test_not_worse_beyond_chance(
    skill: float, interval: tuple[float, float] | None, passed: bool
) -> None:
    assert not_worse_gate(1, "champion", skill, interval, "promotion").passed is passed


@pytest.mark.parametrize(
    ("horizon", "passed"), [(1, False), (8, False), (9, True), (24, True), (168, True)]
)
def test_limit_of_the_calibration_error_is_wider_beyond_eight_hours(
    horizon: int, passed: bool
) -> None:
    found = calibration_gates(horizon, figures(ece_over_base_rate=0.18), None, 1.0)[0]
    assert found.passed is passed


@pytest.mark.parametrize(
    ("skill", "interval", "passed"),
    [
        (-0.1, (-0.2, 0.0), True),
        (-0.1, (-0.2, -1e-9), False),
        (0.1, (0.0, 0.2), True),
        (0.0, None, True),
        (-1e-9, None, False),
    ],
)
def test_stress_is_not_worse_beyond_chance_over_all_windows(
    skill: float, interval: tuple[float, float] | None, passed: bool
) -> None:
    found = stress_gate(8, "first_passage_isotonic", skill, interval, 3, "stress")
    assert found.passed is passed
    assert (found.name, found.kind, found.value, found.limit) == ("stress_8h", "stress", skill, 0.0)


def test_weak_segments_are_named_and_none_at_all_pass() -> None:
    found = weak_segments_gate({"fine": 0.4, "weak": 0.05, "weaker": 0.001}, 200, "stress")
    assert not found.passed
    assert found.value == 0.001
    assert "weak, weaker" in found.detail
    assert "fine" not in found.detail
    assert weak_segments_gate({"fine": 0.0501}, 200, "stress").passed
    empty = weak_segments_gate({}, 200, "stress")
    assert (empty.passed, empty.value) == (True, None)


def test_calibration_error_has_a_limit_at_every_horizon() -> None:
    assert [ece_limit(hours) for hours in (1, 2, 8, 9, 24, 48)] == [0.15] * 3 + [0.2] * 3


def test_only_models_of_calls_may_serve() -> None:
    calls, debts = event_gate("call"), event_gate("bad_debt")
    assert calls.passed
    assert decide_promotion([debts], has_champion=False).verdict == "refused"


@pytest.mark.parametrize(
    ("change", "passed"), [(0.05, True), (-0.05, True), (0.0500001, False), (-0.06, False)]
)
def test_requirement_may_move_by_the_limit_in_either_direction(change: float, passed: bool) -> None:
    found = requirement_change_gate(change, 0.05, 2000)
    assert found.passed is passed
    assert "margincast promote" in found.detail


@pytest.mark.parametrize("champion", [True, False])
def test_failed_stress_gate_keeps_a_model_with_and_without_a_champion(champion: bool) -> None:
    gates = [gate("safety", True), gate("stress", False)]
    decision = decide_promotion(gates, has_champion=champion)
    assert decision.verdict == "kept"
    assert decision.reasons == ("the stress figure is 1, limit 0.5",)


@pytest.mark.parametrize("champion", [True, False])
def test_accepted_stress_gate_holds_nothing_back_and_stays_on_record(champion: bool) -> None:
    acceptance = Acceptance("an operator", "one window of seven days")
    gates = accept_gates(
        [gate("safety", True), gate("stress", False), gate("promotion", True)],
        {"stress_False": acceptance, "promotion_True": acceptance, "elsewhere": acceptance},
    )
    decision = decide_promotion(gates, has_champion=champion)
    assert decision.verdict == "promoted"
    assert "but those accepted" in decision.reasons[0]
    assert "accepted by an operator: one window of seven days" in decision.reasons[1]
    plain = decision.gates["stress_False"].to_dict()
    assert plain["passed"] is False
    assert plain["accepted"] == {"by": "an operator", "reason": "one window of seven days"}
    assert decision.gates["promotion_True"].accepted is None


def test_acceptance_of_a_stress_gate_overrides_no_other_gate() -> None:
    accepted = {"stress_False": Acceptance("an operator", "reviewed")}
    for kind, verdict in (("safety", "refused"), ("promotion", "kept")):
        gates = accept_gates([gate("stress", False), gate(kind, False)], accepted)
        assert decide_promotion(gates, has_champion=True).verdict == verdict


@pytest.mark.parametrize(
    "name", ["parity", "calibration_slope_8h", "not_worse_than_champion_8h", "stress_12h", "x"]
)
def test_only_stress_and_segment_gates_can_be_accepted(name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} cannot be accepted.*stress_8h, no_weak_segment"):
        check_acceptances(["stress_8h", name], (1, 8))
    check_acceptances(["stress_1h", "stress_8h", "no_weak_segment"], (1, 8))


MOVES = {
    "peak_to_trough": 1.8,
    "n_day_max_increase": {"1": 0.2, "5": 0.4, "20": None},
    "response_to_one_extreme_return": 0.1,
}
LIMITS = {
    "peak_to_trough": 1.0,
    "increase_1d": 1.0,
    "increase_5d": 1.0,
    "increase_20d": 1.0,
    "response_to_one_extreme_return": 1.05,
}


def test_margin_may_move_no_more_than_under_the_best_simple_estimate() -> None:
    other = {
        "peak_to_trough": 2.0,
        "n_day_max_increase": {"1": 0.0, "5": 0.4, "20": None},
        "response_to_one_extreme_return": 0.06,
    }
    gates = {gate.name: gate for gate in procyclicality_gates(MOVES, other, LIMITS)}
    assert {gate.kind for gate in gates.values()} == {"promotion"}
    passed = {name.removeprefix("procyclicality_"): gate.passed for name, gate in gates.items()}
    assert passed == {
        "peak_to_trough": True,
        "increase_1d": False,
        "increase_5d": True,
        "response_to_one_extreme_return": True,
    }
    assert gates["procyclicality_peak_to_trough"].value == pytest.approx(0.9)
    assert gates["procyclicality_increase_1d"].value == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("ratio", "interval", "passed"),
    [(1.1, (0.98, 1.3), True), (1.1, (1.02, 1.3), False), (0.9, None, True), (1.01, None, False)],
)
def test_uncovered_loss_may_not_be_worse_beyond_chance(
    ratio: float, interval: tuple[float, float] | None, passed: bool
) -> None:
    gate = uncovered_loss_gate(ratio, interval)
    assert (gate.passed, gate.kind, gate.value) == (passed, "promotion", ratio)
