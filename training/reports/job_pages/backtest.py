"""The page of ``backtest``: uncovered loss, calls and procyclicality at equal average level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.reports.backtest_tables import backtest_tables
from training.reports.charts import review_charts
from training.reports.html_page import count, number
from training.reports.job_pages.layout import (
    Section,
    Table,
    interval,
    job_page,
    named_charts,
    words,
)


def backtest_page(report: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """The page of the object of ``backtest --json``; `facts` says how and when it was made."""
    best = report["uncovered"]["best_simple"]
    reasons = []
    for budget in report["uncovered"]["budgets"]:
        figures = budget["policies"]["margincast"]
        reasons.append(
            f"Average add-on {budget['average_add_on']:.2%} of notional: uncovered loss "
            f"{number(figures['ratio_to_best_simple'])} times that of {words(best)} "
            f"({interval(figures['ratio_to_best_simple_ci95'])})"
        )
    headline = (
        f"{report['account_hours']:,} account-hours, {report['span'][0]} to {report['span'][1]}"
    )
    return job_page("Backtest", report, facts, ("", headline, reasons), _backtest_sections(report))


def _backtest_sections(report: Mapping[str, Any]) -> list[Section]:
    charts, tables = review_charts({"horizons": {}}, None, report), backtest_tables(report)
    calls = ("calls", "needed", "in_vain", "prevented_breaches", "missed_breaches", "collected")
    moves = [n for n in tables["procyclicality"][0] if n != "policy"]
    tested = next(iter(report["coverage"]["policies"].values()))
    uncovered = tuple(
        Table(
            f"Average add-on {budget['average_add_on']:.2%} of notional, at which a flat level "
            f"covers {budget['flat_coverage']:.0%}",
            (
                *("policy", "uncovered loss", "breach rate", "ratio to flat", "95% interval"),
                *("ratio to best simple", "95% interval", "same average"),
            ),
            [
                (
                    name,
                    number(f["uncovered"]),
                    number(f["breach_rate"]),
                    number(f["ratio_to_flat"]),
                    interval(f["ratio_to_flat_ci95"]),
                    number(f["ratio_to_best_simple"]),
                    interval(f["ratio_to_best_simple_ci95"]),
                    "yes" if f["matched"] else "no",
                )
                for name, f in budget["policies"].items()
            ],
        )
        for budget in report["uncovered"]["budgets"]
    )
    return [
        Section(
            "uncovered",
            "Uncovered loss",
            f"How far the worst fall of headroom within {report['uncovered']['horizon_hours']} h "
            "exceeds the level asked for, over notional, at equal average level. A ratio below 1 "
            f"leaves less uncovered than {words(report['uncovered']['best_simple'])}, the best "
            "simple estimate. Per cent beside a policy: coverage of the flat level at the budget.",
            named_charts(
                charts,
                "uncovered_ratio",
                "Ratio of uncovered loss by policy and budget",
                broad=True,
            )
            + named_charts(
                charts, "frontier", "Uncovered loss against average add-on by policy", broad=True
            ),
            uncovered,
        ),
        Section(
            "calls",
            "Calls",
            "Accounts whose owners act. A call is needed if the account breaches within a day "
            "without it, else it is in vain. Every policy asks for the same average level, "
            f"{report['calls']['average_add_on']:.2%} of notional, on "
            f"{report['calls']['account_hours']:,} account-hours.",
            tables=(
                Table(
                    "Calls by policy",
                    ("policy", *map(words, calls), "median lead, h", "flips an account-day"),
                    [
                        (
                            row["policy"],
                            *(count(row[n]) for n in calls[:-1]),
                            number(row["collected"]),
                            number(row["median_lead_hours"]),
                            number(row["flips_per_account_day"]),
                        )
                        for row in tables["calls"]
                    ],
                ),
            ),
        ),
        Section(
            "procyclicality",
            "Procyclicality and coverage",
            f"{report['procyclicality']['portfolios']} portfolios of fixed quantities: how margin "
            "over notional moves at equal average level, and tests of how often it covered the "
            "loss of a day.",
            tables=tuple(
                Table(
                    caption,
                    ("policy", *map(words, names)),
                    [
                        (row["policy"], *(number(row[n]) for n in names))
                        for row in tables["procyclicality"]
                    ],
                )
                for caption, names in (
                    ("Procyclicality by policy", [n for n in moves if n not in tested]),
                    ("Coverage by policy", [n for n in moves if n in tested]),
                )
            ),
        ),
    ]
