"""The page of ``evaluate``: a bundle against its baselines, by horizon, month and segment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.reports.charts import review_charts
from training.reports.html_page import count, number
from training.reports.job_pages.layout import (
    Section,
    Table,
    job_page,
    named_charts,
    signed,
    signed_range,
    words,
)
from training.reports.review_tables import review_tables


def evaluation_page(report: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """The page of the object of ``evaluate --json``; `facts` says how and when it was made."""
    reasons = [
        f"Within {hours} h: log-loss skill {signed(h['log_loss_skill'])} "
        f"({signed_range(h['log_loss_skill_ci95'])}) against {words(h['best_baseline'])}"
        for hours, h in report["horizons"].items()
    ]
    headline = f"{report['rows']:,} rows, {report['span'][0]} to {report['span'][1]}"
    return job_page(
        "Evaluation", report, facts, ("", headline, reasons), _evaluation_sections(report)
    )


def _evaluation_sections(report: Mapping[str, Any]) -> list[Section]:
    charts, tables = review_charts(report), review_tables(report, {}, None)
    horizons = report["horizons"]
    metrics = {
        "log_loss": "log loss",
        "auc": "AUC",
        "average_precision": "average precision",
        "brier_skill": "Brier skill",
        "calibration_slope": "calibration slope",
    }
    models = tuple(
        Table(
            f"Within {hours} h: base rate {h['base_rate']:.3%}, {h['positives']:,} calls",
            ("model", *metrics.values()),
            [
                (name, *(number(values[metric]) for metric in metrics))
                for name, values in h["models"].items()
                if values
            ],
        )
        for hours, h in horizons.items()
    )
    summary = Table(
        "Skill by horizon",
        (
            *("within", "best baseline", "log-loss skill", "95% interval"),
            *("predicted / observed", "share of the oracle's gain"),
        ),
        [
            (
                f"{hours} h",
                words(h["best_baseline"]),
                signed(h["log_loss_skill"]),
                signed_range(h["log_loss_skill_ci95"]),
                number(h["predicted_over_observed"]),
                number(h["oracle_gap_closed"]),
            )
            for hours, h in horizons.items()
        ],
    )
    group = ("rows", "calls", "predicted / observed", "skill", "95% interval")
    sample = Table(
        "Account-times",
        ("", "number"),
        [
            ("considered", count(report["considered"])),
            ("evaluated", count(report["rows"])),
            *((f"left out: {words(k)}", count(n)) for k, n in report["dropped"].items()),
        ],
    )
    return [
        Section(
            "models",
            "Against the baselines",
            "Log loss in nats, lower is better; skill is the share of the best baseline's loss "
            "that the model saves. The volatility oracle knows the volatility to come: a limit, "
            "not a rival. Intervals resample whole days.",
            named_charts(charts, "log_loss_", "Log loss of every model"),
            (summary, *models),
            wide=True,
        ),
        Section(
            "calibration",
            "Calibration",
            "Observed share against forecast probability with 95% intervals; on the dashed line "
            "they agree. Hollow points have no call.",
            named_charts(charts, "reliability_", "Observed share against forecast probability"),
        ),
        Section(
            "months",
            "Months",
            "Log-loss skill of each month against the best baseline.",
            named_charts(charts, "months_", "Log-loss skill by month"),
            (
                Table(
                    "By month",
                    ("month", "hours", *group),
                    [
                        (row["month"], str(row["horizon"]), *_group(row))
                        for row in tables.get("months", ())
                    ],
                ),
            ),
        ),
        Section(
            "segments",
            "Segments",
            "The same model on parts of the book, cut at fixed bounds.",
            tables=(
                Table(
                    "By segment",
                    ("segment", "band", "hours", *group),
                    [
                        (words(row["segment"]), row["band"], str(row["horizon"]), *_group(row))
                        for row in tables.get("segments", ())
                    ],
                ),
            ),
        ),
        Section(
            "sample",
            "Sample",
            f"{report['span'][0]} to {report['span'][1]}; {', '.join(report['symbols'])}. "
            f"{report['overlap_with_training_hours']:,.0f} h of it overlap with the training data.",
            tables=(sample,),
        ),
    ]


def _group(row: Mapping[str, Any]) -> tuple[str, ...]:
    low = row["skill_low"]
    return (
        count(row["rows"]),
        count(row["observed"]),
        number(row["ratio_margincast"]),
        signed(row["skill"]),
        signed_range(None if low is None else (low, row["skill_high"])),
    )
