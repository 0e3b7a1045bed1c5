"""Promotion gates: a pure function from the figures of an evaluation to a verdict with reasons.

Safety gates decide whether a model may ever serve. Stress gates (stress windows and segments) and
promotion gates decide whether it is promoted: stress gates with and without a champion, promotion
gates against a champion only. A failed stress gate can be accepted by a person, with a reason that
is kept. Gates of kind ``report`` are shown and decide nothing: those on stress and segments of a
simulated market, which has neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from market.core.errors import ModelError

Kind = Literal["safety", "stress", "promotion", "report"]
Verdict = Literal["promoted", "kept", "refused"]

SLOPE_RANGE = (0.9, 1.1)
TOP_DECILE_RANGE = (0.85, 1.18)
COUNT_RANGE = (0.8, 1.25)
WEAK_GROUP_LEVEL = 0.05
STRESS_GATE = "stress_{horizon}h"
SEGMENT_GATE = "no_weak_segment"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A person's decision that a failed stress or segment gate does not hold a model back."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition.

    Attributes
    ----------
    name:
        The figure that is compared with a limit.
    kind:
        ``safety``, ``stress``, ``promotion`` or ``report``.
    passed:
        Whether it holds.
    value, limit:
        The figure and its limit, a number or a range.
    detail:
        One sentence for the reader.
    accepted:
        Who accepted its failure, and why; None: nobody.
    """

    name: str
    kind: Kind
    passed: bool
    value: float | None
    limit: float | tuple[float, float]
    detail: str
    accepted: Acceptance | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PromotionVerdict:
    """Verdict of all gates on a model.

    Attributes
    ----------
    verdict:
        ``refused`` if a safety gate failed, ``kept`` as challenger if another gate failed that
        applies and was not accepted, else ``promoted``.
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


def event_gate(event: str) -> Gate:
    """Decisions rest on margin calls: a model of another event never serves."""
    return Gate(
        "forecasts_calls",
        "safety",
        event == "call",
        float(event == "call"),
        1.0,
        f"whether the model forecasts margin calls (it forecasts the event {event!r})",
    )


def ece_limit(horizon: int) -> float:
    """Largest calibration error over base rate: 0.15 up to 8 hours, 0.2 beyond, where a month of
    rows holds too few independent outcomes for less."""
    return 0.15 if horizon <= 8 else 0.2


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
    limit = ece_limit(horizon)
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
    horizon: int,
    baseline: str,
    skill: float,
    interval: tuple[float, float] | None,
    windows: int,
    kind: Kind,
) -> Gate:
    """Over all stress windows together, log loss is not worse than a baseline's beyond chance.

    Counts per window are no gate: no honest model predicts days that were picked for their
    outcome.

    Parameters
    ----------
    horizon:
        In hours.
    baseline:
        Its name.
    skill, interval:
        Log-loss skill against it on the rows of all windows, with its paired 95% interval; None
        with fewer than two days: the skill itself must then not be negative.
    windows:
        Number of windows, for the reader.
    kind:
        Of the gate.
    """
    upper = skill if interval is None else interval[1]
    return Gate(
        STRESS_GATE.format(horizon=horizon),
        kind,
        upper >= 0.0,
        skill,
        0.0,
        f"log-loss skill against {baseline} at {horizon} h in {windows} stress window(s) together, "
        f"upper bound {_text(upper)}",
    )


def weak_segments_gate(adjusted: Mapping[str, float], least_events: int, kind: Kind) -> Gate:
    """No segment is worse than the best baseline beyond chance.

    Parameters
    ----------
    adjusted:
        Holm-adjusted one-sided p-values of the segments with more than `least_events` events;
        small means worse. May be empty.
    least_events:
        Least events of a segment, for the reader.
    kind:
        Of the gate.
    """
    worse = sorted(name for name, p in adjusted.items() if p <= WEAK_GROUP_LEVEL)
    smallest = min(adjusted.values(), default=None)
    segments = f"; worse in {', '.join(worse)}" if worse else ""
    return Gate(
        SEGMENT_GATE,
        kind,
        not worse,
        smallest,
        WEAK_GROUP_LEVEL,
        f"smallest adjusted p-value of being worse than the best baseline among {len(adjusted)} "
        f"segments of over {least_events} events{segments}",
    )


def requirement_change_gate(change: float, limit: float, accounts: int) -> Gate:
    """The total requirement of the reference book does not move by more than the rule set allows.

    Parameters
    ----------
    change:
        Requirement under the candidate over that under the champion, minus 1.
    limit:
        Largest change in either direction, of the rule set.
    accounts:
        Number of accounts of the book, for the reader.
    """
    return Gate(
        "requirement_change",
        "promotion",
        abs(change) <= limit,
        change,
        limit,
        f"change of the total requirement of {accounts} reference accounts (in either direction; "
        "`margincast promote` adopts it all the same)",
    )


def check_acceptances(names: Iterable[str], horizons: Iterable[int]) -> None:
    """Refuse acceptances of anything but stress and segment gates.

    Raises
    ------
    ModelError
        A name is that of another gate, or of none.
    """
    known = (*(STRESS_GATE.format(horizon=hours) for hours in horizons), SEGMENT_GATE)
    others = sorted(set(names) - set(known))
    if others:
        raise ModelError(
            f"gate(s) {', '.join(others)} cannot be accepted; only a stress or segment gate can: "
            f"{', '.join(known)}"
        )


def accept_gates(gates: Iterable[Gate], acceptances: Mapping[str, Acceptance]) -> list[Gate]:
    """The gates, those stress gates that failed and were accepted marked so."""
    return [
        replace(gate, accepted=acceptances.get(gate.name))
        if gate.kind == "stress" and not gate.passed
        else gate
        for gate in gates
    ]


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
    applies = {"stress", "promotion"} if has_champion else {"stress"}
    failed = [g for g in gates if g.kind in applies and not g.passed and g.accepted is None]
    accepted = tuple(
        f"{gate.name} failed and was accepted by {gate.accepted.by}: {gate.accepted.reason}"
        for gate in gates
        if gate.accepted is not None
    )
    by_name = {gate.name: gate for gate in gates}
    if failed_safety:
        return PromotionVerdict("refused", _sentences(failed_safety) + accepted, by_name)
    if failed:
        return PromotionVerdict("kept", _sentences(failed) + accepted, by_name)
    if has_champion:
        why = "all gates passed but those accepted" if accepted else "all gates passed"
    else:
        state = "this very bundle is the champion" if is_champion else "there was no champion"
        stress = any(gate.kind == "stress" for gate in gates)
        why = f"all {'safety, stress and segment' if stress else 'safety'} gates passed"
        why += f"{' but those accepted' if accepted else ''}; {state}"
    return PromotionVerdict("promoted", (why, *accepted), by_name)


def _within(name: str, value: float | None, limits: tuple[float, float], detail: str) -> Gate:
    passed = value is not None and limits[0] <= value <= limits[1]
    return Gate(name, "safety", passed, value, limits, detail)


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
