"""The figures of an evaluation as flat metrics, under one scheme of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HORIZON_FIGURES = (
    "base_rate",
    "positives",
    "oracle_gap_closed",
    "predicted_over_observed",
)


def evaluation_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The figures of ``evaluate --json``, flat.

    ``{model}_{metric}_{h}h`` for every model and horizon, as in ``margincast_log_loss_8h``;
    ``{figure}_{h}h`` for those of the horizon, the skill's interval as
    ``log_loss_skill_low_{h}h`` and ``_high_``; ``rows``. What an evaluation leaves undefined
    (null) has no metric.
    """
    metrics: dict[str, Any] = {}
    horizons = evaluation["horizons"]
    # MLflow lists metrics in the order they were logged: the headlines first.
    for hours, horizon in horizons.items():
        low, high = horizon.get("log_loss_skill_ci95") or (None, None)
        metrics[f"log_loss_skill_{hours}h"] = horizon.get("log_loss_skill")
        metrics[f"log_loss_skill_low_{hours}h"] = low
        metrics[f"log_loss_skill_high_{hours}h"] = high
    for hours, horizon in horizons.items():
        for figure in _HORIZON_FIGURES:
            metrics[f"{figure}_{hours}h"] = horizon.get(figure)
    metrics["rows"] = evaluation["rows"]
    for hours, horizon in horizons.items():
        for model, figures in horizon["models"].items():
            for figure, value in (figures or {}).items():
                metrics[f"{model}_{figure}_{hours}h"] = value
        for model, budgets in horizon.get("recall_at_alert_budget", {}).items():
            for budget, recall in budgets.items():
                share = f"{100 * float(budget):g}pct"
                metrics[f"{model}_recall_at_{share}_{hours}h"] = recall
    return {name: float(value) for name, value in metrics.items() if value is not None}


def training_metrics(
    evaluation: Mapping[str, Any],
    gates: Mapping[str, Mapping[str, Any]],
    backtest: Mapping[str, Any] | None = None,
    walk_forward: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Figures of the walk-forward, `evaluation_metrics`, gates and backtest.

    ``walk_forward_log_loss_skill_{h}h``, ``_low_``, ``_high_`` and
    ``walk_forward_predicted_over_observed_{h}h``; ``parity_max_difference``, how many gates of
    each kind failed, and ``uncovered_{policy}_{figure}_at_{coverage}pct`` for the loss of each
    policy and its ratios to the flat one and the best simple one at each budget.
    """
    metrics: dict[str, float] = {}
    for hours, table in ((walk_forward or {}).get("pooled") or {}).items():
        low, high = table["log_loss_skill_ci95"] or (None, None)
        pooled = {
            "log_loss_skill": table["log_loss_skill"],
            "log_loss_skill_low": low,
            "log_loss_skill_high": high,
            "predicted_over_observed": table["predicted_over_observed"],
        }
        metrics |= {
            f"walk_forward_{name}_{hours}h": float(value)
            for name, value in pooled.items()
            if value is not None
        }
    metrics |= evaluation_metrics(evaluation)
    parity = gates.get("parity", {}).get("value")
    if parity is not None:
        metrics["parity_max_difference"] = float(parity)
    for kind in {str(gate.get("kind", "safety")) for gate in gates.values()}:
        failed = [g for g in gates.values() if g.get("kind", "safety") == kind and not g["passed"]]
        metrics[f"gates_failed_{kind}"] = float(len(failed))
    for budget in (backtest or {}).get("uncovered", {}).get("budgets", ()):
        at = f"at_{100 * budget['flat_coverage']:g}pct"
        for policy, figures in budget["policies"].items():
            for figure in ("uncovered", "ratio_to_flat", "ratio_to_best_simple"):
                if figures[figure] is not None:
                    name = figure.replace("uncovered", "loss")
                    metrics[f"uncovered_{policy}_{name}_{at}"] = float(figures[figure])
    return metrics
