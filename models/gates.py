"""Promotion gates: a pure function from the figures of an evaluation to a verdict with reasons.

Safety gates decide whether a model may ever serve; promotion gates whether it replaces the
champion. Without a champion only the safety gates apply. Gates of kind ``report`` are shown and
decide nothing: those on stress and segments of a simulated market, which has neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["safety", "promotion", "report"]
Verdict = Literal["promoted", "kept", "refused"]

ECE_LIMITS: Mapping[int, float] = {1: 0.15, 8: 0.15, 24: 0.2}
SLOPE_RANGE = (0.9, 1.1)
TOP_DECILE_RANGE = (0.85, 1.18)
COUNT_RANGE = (0.8, 1.25)
WEAK_GROUP_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition.

    Attributes
    ----------
    name:
        The figure that is compared with a limit.
    kind:
        ``safety``, ``promotion`` or ``report``.
    passed:
        Whether it holds.
    value, limit:
        The figure and its limit, a number or a range.
    detail:
        One sentence for the reader.
    """

    name: str
    kind: Kind
    passed: bool
    value: float | None
    limit: float | tuple[float, float]
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PromotionVerdict:
    """Verdict of all gates on a model.

    Attributes
    ----------
    verdict:
        ``refused`` if a safety gate failed, ``kept`` as challenger if a promotion gate failed,
        else ``promoted``.
    reasons:
        Why, one sentence each.
    gates:
        All gates by name.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    gates: Mapping[str, Gate]


def parity_gate(max_difference: float, rows: int, limit: float) -> Gate:
    """The ONNX graph equals LightGBM plus prior plus calibration."""
    return Gate(
        "parity",
        "safety",
        rows > 0 and max_difference <= limit,
        max_difference,
        limit,
        f"largest difference of ONNX and LightGBM on {rows} rows beside the thresholds",
    )


def bounds_gate(violations: int, checked: int) -> Gate:
    """Every add-on lies within [floor, max(floor, cap)]."""
    return Gate(
        "floor_and_cap",
        "safety",
        checked > 0 and violations == 0,
        float(violations),
        0.0,
        f"add-ons outside [floor, max(floor, cap)] among {checked} accounts",
    )


def calibration_gates(
    horizon: int, figures: Mapping[str, Any], ece_quantile: float | None, counts: float | None
) -> list[Gate]:
    """Calibration of one horizon on the test block.

    Parameters
    ----------
    horizon:
        In hours.
    figures:
        The model's metrics, as in the evaluation.
    ece_quantile:
        5% quantile of the day bootstrap of ece / base rate: passes where the figure itself is
        above its limit by no more than chance allows.
    counts:
        Predicted over observed breaches, pooled over all test days.
    """
    ece = figures["ece_over_base_rate"]
    limit = ECE_LIMITS[horizon]
    below = [value for value in (ece, ece_quantile) if value is not None]
    return [
        Gate(
            f"calibration_error_{horizon}h",
            "safety",
            bool(below) and min(below) <= limit,
            ece,
            limit,
            f"calibration error over base rate at {horizon} h (5% quantile {_text(ece_quantile)})",
        ),
        _within(
            f"calibration_slope_{horizon}h",
            figures["calibration_slope"],
            SLOPE_RANGE,
            f"calibration slope at {horizon} h",
        ),
        _within(
            f"top_decile_{horizon}h",
            figures["top_decile_ratio"],
            TOP_DECILE_RANGE,
            f"predicted over observed in the top decile at {horizon} h",
        ),
        _within(
            f"predicted_over_observed_{horizon}h",
            counts,
            COUNT_RANGE,
            f"predicted over observed breaches at {horizon} h",
        ),
    ]


def not_worse_gate(
    horizon: int, baseline: str, skill: float, interval: tuple[float, float] | None, kind: Kind
) -> Gate:
    """Log loss is not worse than a baseline's beyond chance: the skill's interval reaches 0."""
    upper = skill if interval is None else interval[1]
    return Gate(
        f"not_worse_than_{baseline}_{horizon}h",
        kind,
        upper >= 0.0,
        skill,
        0.0,
        f"log-loss skill against {baseline} at {horizon} h, upper bound {_text(upper)}",
    )


def stress_gate(
    window: str,
    horizon: int,
    baseline: str,
    ratio: float | None,
    baseline_ratio: float | None,
    kind: Kind,
) -> Gate | None:
    """Predicted over observed in a stress window is no farther from 1 than a baseline's.

    The distance of a ratio r is ``|ln r|``, so that half and double are equally far. None where
    nothing was observed, for there is no ratio then.
    """
    if ratio is None or baseline_ratio is None:
        return None
    return Gate(
        f"stress_{window}_{horizon}h",
        kind,
        _distance(ratio) <= _distance(baseline_ratio),
        ratio,
        baseline_ratio,
        f"predicted over observed in {window} at {horizon} h (the limit is that of {baseline}; "
        "nearer to 1 passes)",
    )


def weak_groups_gate(adjusted: Mapping[str, float], least_events: int, kind: Kind) -> Gate:
    """No stress window or segment is worse than the best baseline beyond chance.

    Parameters
    ----------
    adjusted:
        Holm-adjusted one-sided p-values of the groups with more than `least_events` events;
        small means worse. May be empty.
    least_events:
        Least events of a group, for the reader.
    kind:
        Of the gate.
    """
    worse = sorted(name for name, p in adjusted.items() if p <= WEAK_GROUP_LEVEL)
    smallest = min(adjusted.values(), default=None)
    groups = f"; worse in {', '.join(worse)}" if worse else ""
    return Gate(
        "no_weak_stress_or_segment",
        kind,
        not worse,
        smallest,
        WEAK_GROUP_LEVEL,
        f"smallest adjusted p-value of being worse than the best baseline among {len(adjusted)} "
        f"stress windows and segments of over {least_events} events{groups}",
    )


def uncovered_loss_gate(ratio: float, interval: tuple[float, float] | None) -> Gate:
    """The uncovered loss is not worse than the champion's beyond chance.

    Parameters
    ----------
    ratio:
        Uncovered loss of the candidate over the champion's, at equal average add-on.
    interval:
        Its paired 95% interval, None where it has none: the ratio itself must then not exceed 1.
    """
    lower = ratio if interval is None else interval[0]
    return Gate(
        "uncovered_loss",
        "promotion",
        lower <= 1.0,
        ratio,
        1.0,
        f"uncovered loss over the champion's at equal average add-on, lower bound {_text(lower)}",
    )


def decide_promotion(
    gates: list[Gate], *, has_champion: bool, is_champion: bool = False
) -> PromotionVerdict:
    """The verdict of the gates.

    Parameters
    ----------
    gates:
        All of them.
    has_champion:
        Whether another model is champion, which promotion gates compare with.
    is_champion:
        Whether the model itself is champion.
    """
    failed_safety = [gate for gate in gates if gate.kind == "safety" and not gate.passed]
    failed = [gate for gate in gates if gate.kind == "promotion" and not gate.passed]
    by_name = {gate.name: gate for gate in gates}
    if failed_safety:
        return PromotionVerdict("refused", _sentences(failed_safety), by_name)
    if has_champion and failed:
        return PromotionVerdict("kept", _sentences(failed), by_name)
    if has_champion:
        return PromotionVerdict("promoted", ("all gates passed",), by_name)
    why = "this very bundle is the champion" if is_champion else "there was no champion"
    return PromotionVerdict("promoted", (f"all safety gates passed; {why}",), by_name)


def _within(name: str, value: float | None, limits: tuple[float, float], detail: str) -> Gate:
    passed = value is not None and limits[0] <= value <= limits[1]
    return Gate(name, "safety", passed, value, limits, detail)


def _distance(ratio: float) -> float:
    return abs(math.log(ratio)) if ratio > 0.0 else math.inf


def _sentences(gates: list[Gate]) -> tuple[str, ...]:
    return tuple(f"{gate.detail} is {_text(gate.value)}, limit {_limit(gate)}" for gate in gates)


def _limit(gate: Gate) -> str:
    if isinstance(gate.limit, tuple):
        return f"{gate.limit[0]:g} to {gate.limit[1]:g}"
    return f"{gate.limit:g}"


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def procyclicality_gates(
    ours: Mapping[str, Any], other: Mapping[str, Any], limits: Mapping[str, float]
) -> list[Gate]:
    """Margin under the add-on moves no more than under the best simple estimate at equal margin.

    One gate for each limit: peak to trough, and the growth ``1 + increase`` within 1, 5 and 20
    days and across one extreme return, each over that of the other. A figure that the span is too
    short for has no gate.

    Parameters
    ----------
    ours, other:
        ``peak_to_trough``, ``n_day_max_increase`` by days and ``response_to_one_extreme_return``.
    limits:
        Largest ratio by name: ``peak_to_trough``, ``increase_1d``, ``increase_5d``,
        ``increase_20d`` and ``response_to_one_extreme_return``.
    """
    growth, others = _growth(ours), _growth(other)
    return [
        Gate(
            f"procyclicality_{name}",
            "promotion",
            growth[name] / others[name] <= limit,
            growth[name] / others[name],
            limit,
            f"{name.replace('_', ' ')} of margin over that under the best simple estimate",
        )
        for name, limit in limits.items()
        if name in growth and name in others
    ]


def _growth(figures: Mapping[str, Any]) -> dict[str, float]:
    """Factors by which margin grows; those that are not defined are left out."""
    rises = {f"increase_{days}d": rise for days, rise in figures["n_day_max_increase"].items()}
    rises["response_to_one_extreme_return"] = figures["response_to_one_extreme_return"]
    known = {name: 1.0 + rise for name, rise in rises.items() if rise is not None}
    return {"peak_to_trough": figures["peak_to_trough"], **known}
