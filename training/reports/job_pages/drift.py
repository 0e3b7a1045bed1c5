"""The page of ``drift``: verdict, weeks, bins of each feature, performance without labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from training.reports.html_page import count, number
from training.reports.job_pages.drift_charts import bins_chart, weeks_chart
from training.reports.job_pages.layout import (
    Chart,
    Fold,
    Section,
    Table,
    chart,
    interval,
    job_page,
)

_MOST_FEATURES = 12
_MOST_LINES = 6
_ALARMS = ("drift", "undecided")
_VERDICTS = (*_ALARMS, "stable")


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
    of_features = [m for m in ranked if m["kind"] in ("feature", "missing")]
    alarms = {m["name"] for m in of_features if m["verdict"] in _ALARMS}
    quiet = [m for m in of_features if m["verdict"] not in _ALARMS]
    features = [name for name in worst if monitors[name]["kind"] == "feature"]
    drawn = sorted(features, key=lambda name: name not in alarms)[:_MOST_FEATURES]
    head = ("monitor", "training", "now", "effect", "limit", "p", "adjusted p", "verdict")
    keys = ("reference", "current", "effect", "floor", "p_value", "p_holm")

    def table(title: str, kind: str, verdicts: tuple[str, ...]) -> tuple[Table, ...]:
        rows = [
            (m["name"], *(number(m[key]) for key in keys), m["verdict"])
            for m in ranked
            if m["kind"] == kind and m["verdict"] in verdicts
        ]
        caption = f"{title}, largest effect over its limit first"
        return (Table(caption, head, rows),) if rows else ()

    def bins(names: Iterable[str]) -> tuple[Chart, ...]:
        return tuple(
            chart(bins_chart(n, columns[n]), f"Share of rows by bin of {n}, training and now")
            for n in names
        )

    floor = monitors[worst[0]]["floor"]
    spans = Table(
        "Rows that are compared",
        ("span", "from", "to", "rows", "weeks"),
        [
            (name, *report[key]["span"], count(report[key]["rows"]), count(report[key]["blocks"]))
            for name, key in (("training", "reference"), ("now", "current"))
        ],
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
                    broad=True,
                ),
            ),
            (spans,),
        ),
        Section(
            "features",
            "Features",
            "Share of rows in bins that hold equally many training rows (fewer bins where values "
            "repeat). In the tables, training and now are the median bin as a quantile of "
            "training, or the share of rows without a value. "
            f"Drawn are {len(drawn)} features: those with an alarm, then the largest effects. "
            + ("" if alarms else "No feature has an alarm."),
            bins(name for name in drawn if name in alarms),
            (
                *table("Features with an alarm (KS distance)", "feature", _ALARMS),
                *table("Missing shares with an alarm", "missing", _ALARMS),
            ),
            (
                Fold(
                    f"{len(quiet)} monitors of features within their limits, or explained by "
                    "chance",
                    bins(name for name in drawn if name not in alarms),
                    (
                        *table("Features without an alarm (KS distance)", "feature", ("stable",)),
                        *table("Missing shares without an alarm", "missing", ("stable",)),
                    ),
                ),
            )
            if quiet
            else (),
        ),
        Section(
            "scores",
            "Forecasts and outcomes",
            "Scores are logits of the probabilities. The effect of a mean probability is the log "
            "of the factor by which it changed.",
            bins(name for name in columns if monitors[name]["kind"] == "score"),
            (
                *table("Scores and mean probabilities", "score", _VERDICTS),
                *table("Outcomes", "labels", _VERDICTS),
            ),
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
