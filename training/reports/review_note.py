"""The description of a run in MLflow: its outcome in a screenful of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.reports.model_card import MODEL, limits, reliance
from training.reports.run_record import RunRecord

_HEADER = (
    "| horizon | calls | log loss | best baseline | its log loss | skill | 95% interval | "
    "predicted / observed | slope |\n|---|---:|---:|---|---:|---:|---|---:|---:|"
)


def training_note(subject: RunRecord) -> str:
    """Verdict, reasons, figures by horizon, failed gates, data, and where to read on."""
    evaluation = subject.evaluation
    data = evaluation["data"]
    start, end = evaluation["span"]
    failed = [
        f"- **{name}** ({gate.get('kind', '')}): {gate.get('detail', '')}"
        + (
            "; accepted by {by}: {reason}".format(**gate["accepted"])
            if gate.get("accepted")
            else ""
        )
        for name, gate in subject.gates.items()
        if not gate["passed"]
    ]
    walk = (subject.review or {}).get("walk_forward") or {}
    search = subject.manifest["training"].get("search")
    children = "the folds" if search is None else "the folds, and the trials of the search"
    made_from = ", ".join(f"{key} {value}" for key, value in data.items())
    lines = [
        f"**{subject.verdict.capitalize()}**: {'; '.join(subject.reasons)}",
        "",
        f"Prices {data['prices']}, accounts {data['accounts']}; evaluated on "
        f"{evaluation['rows']:,} rows, {start} to {end}.",
        "",
        *_pooled(walk),
        _figures(evaluation),
        "",
        *([] if search is None else [f"**Search for hyperparameters**: {search['reason']}.", ""]),
        *(["Gates that failed:", "", *failed, ""] if failed else []),
        "**Who may rely on it.** " + " ".join(reliance(data, subject.verdict)),
        "",
        f"**Limits** ({made_from}). " + " ".join(limits(data)),
        "",
        "Read on in the artifacts: `review.html` (the whole review on one page), `model_card.md`, "
        f"`tables/`, `plots/`, `evaluation.json`, `gates.json`. Child runs are {children}.",
    ]
    return "\n".join(lines)


def fold_note(fold: Mapping[str, Any]) -> str:
    """Training span, test span and figures of a fold, or why it has none."""
    if "evaluation" not in fold:
        return f"Not evaluated: {fold['not_evaluated']}"
    train, test = fold["learnt_from"], fold["held_out"]
    return (
        f"Trained on {train[0]} to {train[1]}, evaluated on {test[0]} to {test[1]}.\n\n"
        f"{_figures(fold['evaluation'])}"
    )


def _figures(evaluation: Mapping[str, Any]) -> str:
    rows = [_HEADER]
    for hours, horizon in evaluation["horizons"].items():
        model, best = horizon["models"][MODEL], horizon["best_baseline"]
        low, high = horizon["log_loss_skill_ci95"] or (None, None)
        rows.append(
            f"| {hours} h | {horizon['positives']:,} | {_number(model['log_loss'])} | {best} | "
            f"{_number(horizon['models'][best]['log_loss'])} | "
            f"{_percent(horizon['log_loss_skill'])} | {_percent(low)} to {_percent(high)} | "
            f"{_number(horizon['predicted_over_observed'])} | "
            f"{_number(model['calibration_slope'])} |"
        )
    return "\n".join(rows)


def _pooled(walk: Mapping[str, Any]) -> list[str]:
    """Lines on the walk-forward, over all its blocks; none without one."""
    lines = []
    for hours, table in (walk.get("pooled") or {}).items():
        low, high = table["log_loss_skill_ci95"] or (None, None)
        lines.append(
            f"- {hours} h: skill {_percent(table['log_loss_skill'])} ({_percent(low)} to "
            f"{_percent(high)}) against {table['best_baseline']}, {table['positives']:,} calls, "
            f"predicted / observed {_number(table['predicted_over_observed'])}"
        )
    if not lines:
        return []
    return [f"Walk-forward by {walk['block_length']}, pooled:", "", *lines, "", "Test block:", ""]


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.2%}"
