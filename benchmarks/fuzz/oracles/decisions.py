"""What must hold of every decision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_REQUIRED = (
    "equity",
    "initial_margin",
    "maintenance_margin",
    "headroom",
    "add_on",
    "total_requirement",
    "deposit_to_meet",
    "floor",
    "cap",
)
_ABSENT_IN_EXPLANATION = ("model_by_horizon", "model_level", "before_clamp")
"""Keys of an explanation whose figures may be null."""

_MOST_REASONS = 3
_RELATIVE = 1e-12
_CENT = 0.01


def decision_faults(decision: Json, account: Json | None = None) -> Iterator[str]:
    """What is wrong with a decision, each as ``name: figures``.

    Parameters
    ----------
    decision:
        As returned.
    account:
        As sent; None where it is not known.
    """
    for name in _REQUIRED:
        value = decision.get(name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            yield f"required number missing: {name} is {value!r}"
            return
    yield from _bound_faults(decision)
    yield from _sum_faults(decision)
    yield from _probability_faults(decision)
    yield from _opening_faults(decision)
    yield from _mark_faults(decision, account)
    yield from _reason_faults(decision)


def _reason_faults(decision: Json) -> Iterator[str]:
    reasons, explain = decision["reasons"], decision.get("explain")
    if not 1 <= len(reasons) <= _MOST_REASONS or reasons[0]["name"] != decision["binding"]:
        yield f"reasons do not lead with what bound the level: {reasons}"
    if explain is None:
        return
    values = {name: value for name, value in explain.items() if name != "reasons"}
    for path in _nulls(values, "explain"):
        yield f"null in the explanation: {path}"
    if not all(reason in explain.get("reasons", ()) for reason in reasons):
        yield f"a reason is not among all reasons: {reasons}"
    for name in ("maintenance_margin", "add_on", "total_requirement", "floor", "cap", "binding"):
        if explain.get(name) != decision[name]:
            yield f"explanation of another decision: {name} {explain.get(name)!r}"


def _bound_faults(decision: Json) -> Iterator[str]:
    level, floor, cap = decision["add_on"], decision["floor"], decision["cap"]
    highest = max(floor, cap)
    bounds = f"add_on {level!r}, floor {floor!r}, cap {cap!r}, binding {decision['binding']}"
    if not (floor >= 0.0 and floor <= level <= highest):
        yield f"add-on outside its bounds: {bounds}"
    if decision["initial_margin"] < 0.0 or decision["maintenance_margin"] < 0.0:
        yield (
            f"negative margin: initial {decision['initial_margin']!r}, "
            f"maintenance {decision['maintenance_margin']!r}"
        )
    model, binding = decision["model_add_on"], decision["binding"]
    degraded = decision["degraded"] is not None
    if (binding == "fallback") != degraded:
        yield f"binding does not fit degraded: {bounds}, degraded {decision['degraded']!r}"
    if degraded and (model is not None or decision["probability"] is not None or level != floor):
        yield f"degraded decision is not the floor: {bounds}, model_add_on {model!r}"
    if not degraded and (model is None or decision["probability"] is None):
        yield f"decision without a model is not degraded: {bounds}"
    expected = {"floor": floor, "cap": highest, "model": model}.get(binding, level)
    if expected is None or level != expected:
        yield f"binding does not fit the level: {bounds}, model_add_on {model!r}"


def _sum_faults(decision: Json) -> Iterator[str]:
    equity, maintenance = decision["equity"], decision["maintenance_margin"]
    headroom, level = decision["headroom"], decision["add_on"]
    if not _near(headroom, equity - maintenance, equity, maintenance):
        yield f"headroom {headroom!r} is not equity {equity!r} less maintenance {maintenance!r}"
    total = decision["total_requirement"]
    if not _near(total, maintenance + level, maintenance, level):
        yield f"total {total!r} is not maintenance {maintenance!r} plus add-on {level!r}"
    deposit, missing = decision["deposit_to_meet"], max(0.0, level - headroom)
    slack = _CENT * 1.000001 + _RELATIVE * max(abs(level), abs(headroom))
    if not missing <= deposit + _RELATIVE * max(abs(level), abs(headroom)) <= missing + 2 * slack:
        yield f"deposit {deposit!r} is not what is missing, {missing!r}"


def _probability_faults(decision: Json) -> Iterator[str]:
    probability = decision["probability"]
    if probability is None:
        return
    values = [probability[key] for key in sorted(probability, key=int)]
    if not all(0.0 <= value <= 1.0 for value in values):
        yield f"probability outside 0 to 1: {probability}"
    if values != sorted(values):
        yield f"probability falls with the horizon: {probability}"


def _opening_faults(decision: Json) -> Iterator[str]:
    if "opening_requirement" not in decision:
        return
    opening, maintenance = decision["opening_requirement"], decision["maintenance_margin"]
    level = max(decision["floor"], decision["model_add_on"] or 0.0)
    expected = max(decision["initial_margin"], maintenance + level)
    if opening is None or not _near(opening, expected, expected, maintenance):
        yield (
            f"opening_requirement {opening!r} is not max(initial, maintenance + add-on unpaced), "
            f"{expected!r}"
        )


def _mark_faults(decision: Json, account: Json | None) -> Iterator[str]:
    if "marks" not in decision:
        return
    marks = {mark["instrument"]: mark for mark in decision["marks"]}
    for name, mark in marks.items():
        price, age = mark["price"], mark["age_seconds"]
        sound = isinstance(price, int | float) and 0.0 <= price < math.inf
        if sound and price == 0.0:  # an option may be worth less than any float, but not -0.0
            sound = name.endswith(("-C", "-P")) and math.copysign(1.0, price) > 0.0
        if (
            not sound
            or mark["source"] not in ("quote", "bar")
            or not (age is not None and age >= 0)
        ):
            yield f"mark of {name}: {mark}"
    names = [] if account is None else [leg["instrument"] for leg in account["positions"]]
    for name in names:
        if name not in marks:
            yield f"no mark of a position: {name} is not among {sorted(marks)}"


def _near(value: float, expected: float, *sizes: float) -> bool:
    # Half an ulp for each operation; the smallest float where figures are denormal.
    scale = max(abs(value), abs(expected), *(abs(size) for size in sizes))
    return abs(value - expected) <= _RELATIVE * scale + 1e-300


def _nulls(value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _ABSENT_IN_EXPLANATION:
                yield from _nulls(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from _nulls(item, f"{path}[]")
