"""The page of ``drift``: verdict, weeks, bins of each feature, performance without labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.reports.html_page import count, number
from training.reports.job_pages.drift_charts import bins_chart, weeks_chart
from training.reports.job_pages.layout import Section, Table, chart, interval, job_page

_MOST_FEATURES = 12
_MOST_LINES = 6


def drift_page(report: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """The page of the object of ``drift --json``; `facts` says how and when it was made."""
    verdict = report["verdict"]
    if verdict == "unavailable":
        return job_page("Drift", report, facts, ("kept", "Unavailable", [report["reason"]]), [])
    monitors = report["monitors"]
    reasons = [
        f"{name}: effect {number(monitors[name]['effect'])}, limit "
        f"{number(monitors[name]['floor'])}, adjusted p {number(monitors[name]['p_holm'])}"
        for name in (*report["drifted"], *report["undecided"])
    ] or [f"all {len(monitors)} monitors are within their limits or explained by chance"]
    tone = {"stable": "promoted", "drift": "refused"}.get(verdict, "kept")
    return job_page(
        "Drift", report, facts, (tone, verdict.capitalize(), reasons), _drift_sections(report)
    )


def _drift_sections(report: Mapping[str, Any]) -> list[Section]:
    monitors, columns = report["monitors"], report["distributions"]
    ranked = sorted(monitors.values(), key=lambda m: -(m["effect"] or 0.0) / m["floor"])
    worst = [m["name"] for m in ranked if m["name"] in columns]
    features = [name for name in worst if monitors[name]["kind"] == "feature"]
    head = ("monitor", "training", "now", "effect", "limit", "p", "adjusted p", "verdict")
    keys = ("reference", "current", "effect", "floor", "p_value", "p_holm")
    of_kind = {
        kind: Table(
            f"{title}, largest effect over its limit first",
            head,
            [
                (m["name"], *(number(m[key]) for key in keys), m["verdict"])
                for m in ranked
                if m["kind"] == kind
            ],
        )
        for kind, title in (
            ("feature", "Features (KS distance)"),
            ("missing", "Missing shares"),
            ("score", "Scores and mean probabilities"),
            ("labels", "Outcomes"),
        )
    }
    floor = monitors[worst[0]]["floor"]
    spans = Table(
        "Rows that are compared",
        ("span", "from", "to", "rows", "weeks"),
        [
            (name, *report[key]["span"], count(report[key]["rows"]), count(report[key]["blocks"]))
            for name, key in (("training", "reference"), ("now", "current"))
        ],
    )
    missing = Table(
        "Share of rows without a value",
        ("column", "training", "now"),
        [(name, *(f"{share:.2%}" for share in columns[name]["missing"])) for name in features],
    )
    sections = [
        Section(
            "timeline",
            "Week by week",
            f"Distance of each week's rows from training, for the {min(_MOST_LINES, len(worst))} "
            "columns that moved most. Single weeks vary more than the whole span, so a week above "
            "the limit is no alarm by itself; the line shows when a change began.",
            (
                chart(
                    weeks_chart({n: columns[n] for n in worst[:_MOST_LINES]}, floor),
                    "Kolmogorov-Smirnov distance from training by week, with the limit",
                ),
            ),
            (spans,),
            wide=True,
        ),
        Section(
            "features",
            "Features",
            "Share of rows in bins that hold equally many training rows (fewer bins where values "
            "repeat). In the table, training and now are the median bin as a quantile of training. "
            f"Drawn are the {min(_MOST_FEATURES, len(features))} features with the largest effect.",
            tuple(
                chart(bins_chart(n, columns[n]), f"Share of rows by bin of {n}, training and now")
                for n in features[:_MOST_FEATURES]
            ),
            (of_kind["feature"], of_kind["missing"], missing),
        ),
        Section(
            "scores",
            "Forecasts and outcomes",
            "Scores are logits of the probabilities. The effect of a mean probability is the log "
            "of the factor by which it changed.",
            tuple(
                chart(bins_chart(n, columns[n]), f"Share of rows by bin of {n}, training and now")
                for n in columns
                if monitors[n]["kind"] == "score"
            ),
            tuple(of_kind[kind] for kind in ("score", "labels") if of_kind[kind].rows),
        ),
    ]
    return [*sections, _expected_section(report)]


def _expected_section(report: Mapping[str, Any]) -> Section:
    expected, (begin, end) = report["expected_performance"], report["current"]["span"]
    names = {"log_loss": "log loss, nats", "brier": "Brier score", "auc": "AUC"}
    head = (
        *("within", "metric", "expected", "95% interval", "realised", "95% interval"),
        *("realised less expected", "95% interval"),
    )
    return Section(
        "expected",
        "Performance without labels",
        f"Expected from the probabilities alone (confidence-based estimation), {begin} to {end}. "
        "It assumes that the probabilities are still calibrated. These are rows whose outcomes are "
        "known: newer ones, whose outcomes are still open, are not covered. The realised "
        "performance of the same rows is beside it: an interval of the difference that leaves out "
        "zero speaks against the assumption. 95% intervals resample whole weeks.",
        tables=(
            Table(
                "Expected and realised performance",
                head,
                [
                    (
                        f"{hours} h",
                        name,
                        *(
                            cell
                            for side in ("expected", "realised", "difference")
                            for cell in (number(h[key][side]), interval(h[key][f"{side}_ci95"]))
                        ),
                    )
                    for hours, h in expected.items()
                    for key, name in names.items()
                ],
            ),
            Table(
                "Calls",
                ("within", "expected", "observed", "rows", "weeks"),
                [
                    (
                        f"{hours} h",
                        *(
                            count(h[key])
                            for key in ("expected_calls", "observed_calls", "rows", "blocks")
                        ),
                    )
                    for hours, h in expected.items()
                ],
            ),
        ),
    )
