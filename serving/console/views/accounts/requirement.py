"""The total requirement of an explained decision, in parts that add up to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from serving.console.charts import Chart, waterfall_chart

_OF_EQUITY = frozenset(
    {"cash", "unrealised profit and loss", "option value", "collateral", "base collateral"}
    | {"collateral after haircut", "collateral haircut", "debt premium"}
)
"""Parts of the engine that make the equity, not the requirement."""

VALUE_OF_OPTIONS = "value of options, counted in the equity"
"""Name of the part by which the value of options enters margins that are net of it."""

_ROUNDING = 1e-9

_BY_LEVEL = {
    "floor": "model",
    "model": "model, beyond the floor",
    "cap": "model up to the cap, beyond the floor",
    "dead_band": "model, kept by the dead-band",
    "step": "model, paced by the step",
    "release": "model, released slowly",
    "fallback": "level without a model",
}
"""What the add-on holds beyond the largest rule floor, by what bound it."""


def requirement_parts(explanation: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The parts of ``total_requirement``: of the engine, of the largest floor, of the model.

    Parameters
    ----------
    explanation:
        ``explain`` of a decision, see `margin.add_on.explain.Explanation`.

    Returns
    -------
    Names and amounts, settlement currency; their sum is the total requirement up to rounding.
    """
    parts = _engine_parts(explanation)
    floors: Mapping[str, float] = explanation["floors"]
    largest = max(sorted(floors), key=floors.__getitem__, default=None)
    floor = 0.0
    if largest is not None and floors[largest] > 0.0:
        floor = floors[largest]
        parts += _floor_parts(largest, floor, explanation["floor_parts"][largest])
    beyond = explanation["add_on"] - floor
    if beyond != 0.0:
        parts.append((_BY_LEVEL[explanation["binding"]], beyond))
    return parts


def requirement_chart(explanation: Mapping[str, Any]) -> Chart:
    """The parts as a waterfall."""
    title = "Total requirement: maintenance margin, rule floor, model"
    parts = requirement_parts(explanation)
    return waterfall_chart(title, parts, "total requirement", y_title="settlement currency")


def _engine_parts(explanation: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Maintenance margin by what the engine asks for.

    The parts of an engine add up to the headroom, so one that nets options against their value
    (``isolated sum``, ``max loss``) leaves that value, which the equity counts, as the last part.
    """
    by_name: dict[str, float] = {}
    for part in explanation["engine"]["parts"]:
        amount = -part["maintenance"]
        if part["name"] not in _OF_EQUITY and amount != 0.0:
            by_name[part["name"]] = by_name.get(part["name"], 0.0) + amount
    margin: float = explanation["maintenance_margin"]
    rest = margin - sum(by_name.values())
    if abs(rest) > _ROUNDING * max(1.0, abs(margin)):
        options = sum(part.get("value", 0.0) for part in explanation["positions"])
        is_value = math.isclose(rest, options, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
        by_name[VALUE_OF_OPTIONS if is_value else "other rules of the engine"] = rest
    return list(by_name.items())


def _floor_parts(
    name: str, floor: float, parts: list[Mapping[str, Any]]
) -> list[tuple[str, float]]:
    label = name.replace("_", " ")
    shown = [(f"{label}: {part['name'].replace('_', ' ')}", part["amount"]) for part in parts]
    return shown or [(f"{label} floor", floor)]
