"""The figures of a training as flat tables: CSV artifacts of its run, rows of its page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = dict[str, Any]

TABLES = (
    "walk_forward",
    "walk_forward_models",
    "metrics",
    "reliability",
    "months",
    "segments",
    "stress",
    "contributions",
    "ablation",
    "folds",
    "gates",
)
"""Names of all tables."""


def review_tables(
    evaluation: Mapping[str, Any],
    gates: Mapping[str, Mapping[str, Any]],
    review: Mapping[str, Any] | None,
) -> dict[str, list[Row]]:
    """Every table that the figures at hand allow, by name; empty ones are left out.

    Parameters
    ----------
    evaluation:
        The object of ``evaluate --json`` on the test span.
    gates:
        By name ``{"kind", "passed", "value", "limit", "detail"}``.
    review:
        ``contributions``, ``ablation``, ``walk_forward`` and ``folds``, each of which may be null;
        or None.

    Returns
    -------
    dict
        Some of `TABLES`; rows of one table have the same keys in one order.
    """
    parts = review or {}
    pooled = (parts.get("walk_forward") or {}).get("pooled") or {}
    folds = [fold for fold in parts.get("folds") or [] if "evaluation" in fold]
    tables = {
        "walk_forward": _walk_forward(folds, pooled),
        "walk_forward_models": [
            {"horizon": int(hours), "model": model, **_skill(figures)}
            for hours, table in pooled.items()
            for model, figures in table["models"].items()
        ],
        "metrics": _metrics(evaluation),
        "reliability": _reliability(evaluation),
        "months": [
            {"month": name, "horizon": int(hours), **group_row(figures)}
            for hours, horizon in evaluation["horizons"].items()
            for name, figures in horizon.get("months", {}).items()
        ],
        "segments": [
            {"segment": segment, "band": band, "horizon": int(hours), **group_row(figures)}
            for hours, horizon in evaluation["horizons"].items()
            for segment, bands in horizon.get("segments", {}).items()
            for band, figures in bands.items()
        ],
        "stress": [
            *_stress("test", evaluation),
            *(
                row
                for fold in folds
                if fold["kind"] == "walk_forward"
                for row in _stress(fold["name"], fold["evaluation"])
            ),
        ],
        "contributions": _contributions(parts.get("contributions") or {}),
        "ablation": _ablation(parts.get("ablation") or {}),
        "folds": list(_folds(folds)),
        "gates": [
            {
                "gate": name,
                "kind": gate.get("kind", ""),
                "passed": gate["passed"],
                "value": gate.get("value"),
                "limit": _range(gate.get("limit")),
                "detail": gate.get("detail", ""),
                "accepted_by": (gate.get("accepted") or {}).get("by"),
                "accepted_because": (gate.get("accepted") or {}).get("reason"),
            }
            for name, gate in gates.items()
        ],
    }
    return {name: rows for name, rows in tables.items() if rows}


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """A table as CSV in UTF-8; null is an empty cell, floats keep all their digits."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def group_row(figures: Mapping[str, Any]) -> Row:
    """One group of `training.evaluation.breakdown.breakdown`, flat."""
    low, high = figures["log_loss_skill_ci95"] or (None, None)
    return {
        "rows": figures["rows"],
        "observed": figures["observed"],
        **{f"predicted_{name}": count for name, count in figures["predicted"].items()},
        **{f"ratio_{name}": ratio for name, ratio in figures["predicted_over_observed"].items()},
        "skill": figures["log_loss_skill"],
        "skill_low": low,
        "skill_high": high,
        "worse_p": figures["worse_p"],
    }


def _walk_forward(
    folds: Sequence[Mapping[str, Any]], pooled: Mapping[str, Mapping[str, Any]]
) -> list[Row]:
    """A row for each block and horizon, then the blocks together."""
    blocks: list[tuple[Any, ...]] = [
        (fold["name"], *fold["held_out"], fold["rows"], hours, table)
        for fold in folds
        if fold["kind"] == "walk_forward"
        for hours, table in fold.get("skill", {}).items()
    ]
    together: list[tuple[Any, ...]] = [
        ("pooled", None, None, {}, hours, table) for hours, table in pooled.items()
    ]
    return [
        {
            "block": name,
            "from": begin,
            "to": end,
            "rows_learnt": rows["fit"] + rows["calibrate"] if rows else None,
            "rows": table["rows"],
            "days": table["days"],
            "horizon": int(hours),
            "positives": table["positives"],
            "best_baseline": table["best_baseline"],
            **_skill(table),
        }
        for name, begin, end, rows, hours, table in (*blocks, *together)
    ]


def _skill(figures: Mapping[str, Any]) -> Row:
    """Skill, its interval and the counts of one model of `training.folds.skill_figures`."""
    low, high = figures["log_loss_skill_ci95"] or (None, None)
    loss = {"log_loss": figures["log_loss"]} if "log_loss" in figures else {}
    return {
        **loss,
        "skill": figures["log_loss_skill"],
        "skill_low": low,
        "skill_high": high,
        "predicted_over_observed": figures["predicted_over_observed"],
    }


def _stress(block: str, evaluation: Mapping[str, Any]) -> Iterator[Row]:
    """A row for each stress window and horizon of an evaluation."""
    for window, horizons in evaluation.get("stress", {}).items():
        for hours, figures in horizons.items():
            lead = figures.get("lead_time") or {}
            low, high = lead.get("median_hours") or (None, None)
            yield {
                "window": window,
                "evaluated_in": block,
                "horizon": int(hours),
                **group_row(figures),
                "lead_hours_from": low,
                "lead_hours_to": high,
                "found": json.dumps(lead["found"]) if lead else None,
            }


def _metrics(evaluation: Mapping[str, Any]) -> list[Row]:
    return [
        {"horizon": int(hours), "model": model, **figures}
        for hours, horizon in evaluation["horizons"].items()
        for model, figures in horizon["models"].items()
        if figures
    ]


def _reliability(evaluation: Mapping[str, Any]) -> list[Row]:
    keys = ("count", "predicted", "observed", "low", "high")
    return [
        {"horizon": int(hours), "bin": i + 1, **dict(zip(keys, values, strict=True))}
        for hours, horizon in evaluation["horizons"].items()
        if "low" in horizon["reliability"]
        for i, values in enumerate(zip(*(horizon["reliability"][key] for key in keys), strict=True))
    ]


def _contributions(contributions: Mapping[str, Any]) -> list[Row]:
    return [
        {"horizon": int(hours), "of": of, "name": name, "spread": value}
        for hours, kinds in contributions.items()
        for of, kind in (("family", "families"), ("feature", "features"))
        for name, value in kinds[kind].items()
    ]


def _ablation(ablation: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    if "not_evaluated" in ablation:
        return rows
    for hours, report in ablation.items():
        for family, figures in report["without"].items():
            low, high = figures["loss_increase_ci95"] or (None, None)
            rows.append(
                {
                    "horizon": int(hours),
                    "without": family,
                    "columns": figures["columns"],
                    "log_loss_full": report["log_loss"],
                    "log_loss": figures["log_loss"],
                    "loss_increase": figures["loss_increase"],
                    "loss_increase_low": low,
                    "loss_increase_high": high,
                }
            )
    return rows


def _folds(folds: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """A row for each evaluated fold and horizon."""
    for fold in folds:
        for hours, horizon in fold["evaluation"]["horizons"].items():
            low, high = horizon["log_loss_skill_ci95"] or (None, None)
            model = horizon["models"]["margincast"]
            yield {
                "fold": fold["name"],
                "kind": fold["kind"],
                "held_out_from": fold["held_out"][0],
                "held_out_to": fold["held_out"][1],
                "rows_learnt": fold["rows"]["fit"] + fold["rows"]["calibrate"],
                "rows_held_out": fold["rows"]["test"],
                "horizon": int(hours),
                "positives": horizon["positives"],
                "log_loss": model["log_loss"],
                "best_baseline": horizon["best_baseline"],
                "skill": horizon["log_loss_skill"],
                "skill_low": low,
                "skill_high": high,
                "predicted_over_observed": horizon["predicted_over_observed"],
                "calibration_slope": model["calibration_slope"],
            }


def _range(limit: Any) -> str | float | None:
    if isinstance(limit, (list, tuple)):
        return " to ".join(f"{end:g}" for end in limit)
    return None if limit is None else float(limit)
