"""The figures of an evaluation as flat metrics, under one scheme of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MODEL = "margincast"
_HORIZON_FIGURES = (
    "base_rate",
    "positives",
    "oracle_gap_closed",
    "predicted_over_observed",
)


def evaluation_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The figures of ``evaluate --json``, flat and grouped by ``/``.

    ``{h}h/{metric}`` for the model, as in ``8h/log_loss``, and ``{h}h/baselines/{name}/{metric}``
    for every other one; ``{h}h/{figure}`` for the figures of the horizon, with the interval of the
    skill in ``{h}h/log_loss_skill_low`` and ``_high``; ``rows``. What an evaluation leaves
    undefined (null) has no metric.
    """
    metrics: dict[str, Any] = {}
    horizons = evaluation["horizons"]
    # MLflow lists metrics in the order they were logged: the headlines first.
    for hours, horizon in horizons.items():
        metrics |= _skill(f"{hours}h", horizon)
    for hours, horizon in horizons.items():
        for figure in _HORIZON_FIGURES:
            metrics[f"{hours}h/{figure}"] = horizon.get(figure)
    metrics["rows"] = evaluation["rows"]
    for hours, horizon in horizons.items():
        for model, figures in horizon["models"].items():
            for figure, value in (figures or {}).items():
                metrics[f"{_group(hours, model)}/{figure}"] = value
        for model, budgets in horizon.get("recall_at_alert_budget", {}).items():
            for budget, recall in budgets.items():
                share = f"{100 * float(budget):g}pct"
                metrics[f"{_group(hours, model)}/recall_at_{share}"] = recall
    return {name: float(value) for name, value in metrics.items() if value is not None}


def _skill(group: str, table: Mapping[str, Any]) -> dict[str, Any]:
    low, high = table.get("log_loss_skill_ci95") or (None, None)
    skill = f"{group}/log_loss_skill"
    return {skill: table.get("log_loss_skill"), f"{skill}_low": low, f"{skill}_high": high}


def _group(hours: str, model: str) -> str:
    return f"{hours}h" if model == _MODEL else f"{hours}h/baselines/{model}"


def training_metrics(
    evaluation: Mapping[str, Any],
    gates: Mapping[str, Mapping[str, Any]],
    backtest: Mapping[str, Any] | None = None,
    walk_forward: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Figures of the walk-forward, `evaluation_metrics`, gates and backtest.

    ``walk_forward/{h}h/log_loss_skill`` with ``_low`` and ``_high``, and
    ``walk_forward/{h}h/predicted_over_observed``; ``gates/{gate}/value`` of each gate that has a
    number, ``gates/failed/{kind}``, how many of each kind failed; and
    ``backtest/{policy}/{figure}_at_{coverage}pct`` for the loss of each policy and its ratios to
    the flat one and the best simple one at each budget.
    """
    metrics: dict[str, Any] = {}
    for hours, table in ((walk_forward or {}).get("pooled") or {}).items():
        group = f"walk_forward/{hours}h"
        metrics |= _skill(group, table)
        metrics[f"{group}/predicted_over_observed"] = table["predicted_over_observed"]
    metrics |= evaluation_metrics(evaluation)
    for name, gate in gates.items():
        value = gate.get("value")
        if isinstance(value, int | float):
            metrics[f"gates/{name}/value"] = value
    for kind in {str(gate.get("kind", "safety")) for gate in gates.values()}:
        failed = [g for g in gates.values() if g.get("kind", "safety") == kind and not g["passed"]]
        metrics[f"gates/failed/{kind}"] = len(failed)
    for budget in (backtest or {}).get("uncovered", {}).get("budgets", ()):
        at = f"at_{100 * budget['flat_coverage']:g}pct"
        for policy, figures in budget["policies"].items():
            for figure in ("uncovered", "ratio_to_flat", "ratio_to_best_simple"):
                name = figure.replace("uncovered", "loss")
                metrics[f"backtest/{policy}/{name}_{at}"] = figures[figure]
    return {name: float(value) for name, value in metrics.items() if value is not None}
