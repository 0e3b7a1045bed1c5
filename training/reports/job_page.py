"""Pages of ``drift``, ``evaluate`` and ``backtest``: the object of ``--json``, laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.reports.backtest_tables import backtest_tables
from training.reports.charts import review_charts
from training.reports.drift_charts import bins_chart, weeks_chart
from training.reports.html_page import DASH, count, data_uri, number, render_page
from training.reports.review_tables import review_tables

TEMPLATE = "report.html"

_MOST_FEATURES = 12
_MOST_LINES = 6
_Pair = Sequence[float] | None


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture as a data address, and what it shows."""

    uri: str
    alt: str


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column heads its row."""

    caption: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page."""

    name: str
    title: str
    text: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    wide: bool = False


def drift_page(report: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """The page of the object of ``drift --json``; `facts` says how and when it was made."""
    verdict = report["verdict"]
    if verdict == "unavailable":
        return _page("Drift", report, facts, ("kept", "Unavailable", [report["reason"]]), [])
    monitors = report["monitors"]
    reasons = [
        f"{name}: effect {number(monitors[name]['effect'])}, limit "
        f"{number(monitors[name]['floor'])}, adjusted p {number(monitors[name]['p_holm'])}"
        for name in (*report["drifted"], *report["undecided"])
    ] or [f"all {len(monitors)} monitors are within their limits or explained by chance"]
    tone = {"stable": "promoted", "drift": "refused"}.get(verdict, "kept")
    return _page(
        "Drift", report, facts, (tone, verdict.capitalize(), reasons), _drift_sections(report)
    )


def evaluation_page(report: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """The page of the object of ``evaluate --json``; `facts` says how and when it was made."""
    reasons = [
        f"Within {hours} h: log-loss skill {_signed(h['log_loss_skill'])} "
        f"({_signed_range(h['log_loss_skill_ci95'])}) against {_words(h['best_baseline'])}"
        for hours, h in report["horizons"].items()
    ]
    headline = f"{report['rows']:,} rows, {report['span'][0]} to {report['span'][1]}"
    return _page("Evaluation", report, facts, ("", headline, reasons), _evaluation_sections(report))


def backtest_page(report: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """The page of the object of ``backtest --json``; `facts` says how and when it was made."""
    best = report["uncovered"]["best_simple"]
    reasons = []
    for budget in report["uncovered"]["budgets"]:
        figures = budget["policies"]["margincast"]
        reasons.append(
            f"Average add-on {budget['average_add_on']:.2%} of notional: uncovered loss "
            f"{number(figures['ratio_to_best_simple'])} times that of {_words(best)} "
            f"({_range(figures['ratio_to_best_simple_ci95'])})"
        )
    headline = (
        f"{report['account_hours']:,} account-hours, {report['span'][0]} to {report['span'][1]}"
    )
    return _page("Backtest", report, facts, ("", headline, reasons), _backtest_sections(report))


def _page(
    title: str,
    report: Mapping[str, Any],
    facts: Mapping[str, str],
    verdict: tuple[str, str, list[str]],
    sections: list[Section],
) -> str:
    tone, headline, reasons = verdict
    data, warnings = report.get("data") or {}, list(report.get("warnings") or ())
    if data.get("prices") == "simulated":
        warnings.insert(
            0, "Prices are simulated: no figure on this page says anything about a real market."
        )
    ruleset = report.get("ruleset")
    origin = {"Bundle": report["bundle"]}
    if ruleset:
        origin["Rule set"] = f"{ruleset['name']} {ruleset['version']}, {ruleset['sha256']}"
    origin |= {f"Data, {_words(key)}": str(value) for key, value in data.items()}
    return render_page(
        TEMPLATE,
        title=title,
        bundle=report["bundle"],
        tone=tone,
        headline=headline,
        reasons=reasons,
        warnings=warnings,
        sections=sections,
        facts=origin | dict(facts),
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
                _chart(
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
                _chart(bins_chart(n, columns[n]), f"Share of rows by bin of {n}, training and now")
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
                _chart(bins_chart(n, columns[n]), f"Share of rows by bin of {n}, training and now")
                for n in columns
                if monitors[n]["kind"] == "score"
            ),
            tuple(of_kind[kind] for kind in ("score", "labels") if of_kind[kind].rows),
        ),
    ]
    if report["expected_performance"]:
        sections.append(_expected_section(report["expected_performance"]))
    return sections


def _expected_section(expected: Mapping[str, Any]) -> Section:
    figures = ("expected_log_loss", "realised_log_loss", "difference")
    return Section(
        "expected",
        "Performance without labels",
        "Expected log loss in nats from the probabilities alone (confidence-based estimation). "
        "It assumes that the probabilities are still calibrated. The realised loss of the same "
        "rows is beside it: an interval of the difference that leaves out zero speaks against "
        "that assumption. 95% intervals resample whole weeks.",
        tables=(
            Table(
                "Expected and realised log loss",
                (
                    *("within", "expected", "95% interval", "realised", "95% interval"),
                    *("realised less expected", "95% interval", "expected calls"),
                    *("observed calls", "rows", "weeks"),
                ),
                [
                    (
                        f"{hours} h",
                        *(c for n in figures for c in (number(h[n]), _range(h[f"{n}_ci95"]))),
                        count(h["expected_calls"]),
                        count(h["observed_calls"]),
                        count(h["rows"]),
                        count(h["blocks"]),
                    )
                    for hours, h in expected.items()
                ],
            ),
        ),
    )


def _evaluation_sections(report: Mapping[str, Any]) -> list[Section]:
    charts, tables = review_charts(report), review_tables(report, {}, None)
    horizons = report["horizons"]
    metrics = ("log_loss", "auc", "average_precision", "brier_skill", "calibration_slope")
    models = tuple(
        Table(
            f"Within {hours} h: base rate {h['base_rate']:.3%}, {h['positives']:,} calls",
            ("model", *map(_words, metrics)),
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
                _words(h["best_baseline"]),
                _signed(h["log_loss_skill"]),
                _signed_range(h["log_loss_skill_ci95"]),
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
            *((f"left out: {_words(k)}", count(n)) for k, n in report["dropped"].items()),
        ],
    )
    return [
        Section(
            "models",
            "Against the baselines",
            "Log loss in nats, lower is better; skill is the share of the best baseline's loss "
            "that the model saves. The volatility oracle knows the volatility to come: a limit, "
            "not a rival. Intervals resample whole days.",
            _charts(charts, "log_loss_", "Log loss of every model"),
            (summary, *models),
            wide=True,
        ),
        Section(
            "calibration",
            "Calibration",
            "Observed share against forecast probability with 95% intervals; on the dashed line "
            "they agree. Hollow points have no call.",
            _charts(charts, "reliability_", "Observed share against forecast probability"),
        ),
        Section(
            "months",
            "Months",
            "Log-loss skill of each month against the best baseline.",
            _charts(charts, "months_", "Log-loss skill by month"),
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
                        (_words(row["segment"]), row["band"], str(row["horizon"]), *_group(row))
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


def _backtest_sections(report: Mapping[str, Any]) -> list[Section]:
    charts, tables = review_charts({"horizons": {}}, None, report), backtest_tables(report)
    calls = ("calls", "needed", "in_vain", "prevented_breaches", "missed_breaches", "collected")
    moves = [n for n in tables["procyclicality"][0] if n != "policy"]
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
                    _range(f["ratio_to_flat_ci95"]),
                    number(f["ratio_to_best_simple"]),
                    _range(f["ratio_to_best_simple_ci95"]),
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
            f"leaves less uncovered than {_words(report['uncovered']['best_simple'])}, the best "
            "simple estimate. Per cent beside a policy: coverage of the flat level at the budget.",
            _charts(charts, "uncovered_ratio", "Ratio of uncovered loss by policy and budget")
            + _charts(charts, "frontier", "Uncovered loss against average add-on by policy"),
            uncovered,
            wide=True,
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
                    ("policy", *map(_words, calls), "median lead, h", "flips an account-day"),
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
            tables=(
                Table(
                    "By policy",
                    ("policy", *map(_words, moves)),
                    [
                        (row["policy"], *(number(row[n]) for n in moves))
                        for row in tables["procyclicality"]
                    ],
                ),
            ),
        ),
    ]


def _group(row: Mapping[str, Any]) -> tuple[str, ...]:
    low = row["skill_low"]
    return (
        count(row["rows"]),
        count(row["observed"]),
        number(row["ratio_margincast"]),
        _signed(row["skill"]),
        _signed_range(None if low is None else (low, row["skill_high"])),
    )


def _charts(charts: Mapping[str, str], begin: str, alt: str) -> tuple[Chart, ...]:
    return tuple(
        _chart(svg, f"{alt}, {name.removeprefix(begin) or 'all'}")
        for name, svg in charts.items()
        if name.startswith(begin)
    )


def _chart(svg: str, alt: str) -> Chart:
    return Chart(data_uri(svg), alt)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _signed(value: float | None) -> str:
    return DASH if value is None else f"{value:+.2%}"


def _signed_range(pair: _Pair) -> str:
    return DASH if pair is None else f"{pair[0]:+.2%} to {pair[1]:+.2%}"


def _range(pair: _Pair) -> str:
    return DASH if pair is None else f"{number(pair[0])} to {number(pair[1])}"
