"""``python -m research.pages.results``: run the jobs on real data, write docs/results.md and the
result tables of the README.

With ``--pages-only`` it writes both from the reports of the last run, with ``--only NAME`` it runs
one job before it does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from research.experiments.walk_forward import tables as walk_forward_tables
from research.pages.pictures.album import write_pictures
from research.pages.results_jobs import JOBS, read_reports, run_jobs
from research.pages.results_readme import write_readme
from training.reports.backtest_tables import backtest_tables

PAGE = Path("docs/results.md")

METRICS = ("auc", "average_precision", "brier_skill", "log_loss", "ece_over_base_rate")
FAULTS = ("duplicates", "conflicts", "misaligned", "impossible", "dead", "stale", "suspect",
          "rejected", "limited", "gaps")  # fmt: skip
CALLS = ("calls", "needed", "in_vain", "prevented_breaches", "missed_breaches", "collected",
         "median_lead_hours", "flips_per_account_day")  # fmt: skip


def results_page(reports: dict[str, dict[str, Any]]) -> str:
    """The page, from the report of each job by name."""
    retrain, backtest, score = reports["retrain"], reports["backtest"], reports["score"]
    evaluation = retrain["evaluation"]
    start, end = evaluation["span"]
    data = evaluation["data"]
    lines = [
        "# Results on real prices",
        "",
        f"Prices are {data['prices']}, accounts {data['accounts']} ({data['population']}), labels "
        f'{data["labels"]} at hourly closes (`extremes = "{data["extremes"]}"`), books '
        f"{data['book']}. {len(evaluation['symbols'])} coins; test span {start} to {end}, "
        f"{evaluation['rows']:,} rows; fitted on {retrain['rows']['fit']:,}, calibrated with "
        f"{retrain['rows']['calibrate']:,} more.",
        "",
        f"Verdict of the gates: **{retrain['verdict']}** ({'; '.join(retrain['reasons'])}).",
        "",
        _bars(retrain["bars"]["files"]),
        "",
        "## Commands",
        "",
        "`make results` runs these commands and writes this page:",
        "",
        "```sh",
        *(job.line for job in JOBS),
        "```",
        "",
        *_add_on(backtest),
        *(_walk_forward(reports["walk_forward"]) if "walk_forward" in reports else []),
        "## Forecasts of the test block",
        "",
    ]
    for hours, figures in evaluation["horizons"].items():
        low, high = figures["log_loss_skill_ci95"]
        lines += [
            f"### {hours} h",
            "",
            f"Base rate {figures['base_rate']:.3%}, {figures['positives']:,} calls. Log-loss skill "
            f"against the best baseline ({figures['best_baseline']}) "
            f"{figures['log_loss_skill']:+.2%}, 95% interval {low:+.2%} to {high:+.2%}. "
            f"Predicted over observed {figures['predicted_over_observed']:.3f}, calibration slope "
            f"{figures['models']['margincast']['calibration_slope']:.3f}.",
            "",
            "| model | " + " | ".join(METRICS) + " |",
            "|---|" + "---|" * len(METRICS),
            *(
                f"| {name} | " + " | ".join(_cell(values, key) for key in METRICS) + " |"
                for name, values in figures["models"].items()
            ),
            "",
        ]
    lines += [*_stress(evaluation["stress"]), *_gates(retrain["gates"])]
    lines += [
        "## Scores of a book",
        "",
        f"{score['decisions']:,} decisions on {score['accounts']:,} accounts; "
        f"{score['with_model_add_on']:,} where the model asked for more than the floor, "
        f"{score['degraded']:,} degraded, {score['deposit_to_meet']:,.2f} of deposits "
        "required in total (the initial equity of an account is 1).",
        "",
    ]
    return "\n".join(lines)


def _add_on(backtest: dict[str, Any]) -> list[str]:
    """Uncovered loss at each budget, calls, procyclicality and coverage."""
    tables, found = backtest_tables(backtest), backtest["uncovered"]
    lines = [
        "## The add-on at equal average level",
        "",
        f"Uncovered loss: how far the worst fall of headroom within {found['horizon_hours']} h "
        "exceeds the level asked for, over notional. "
        f"{backtest['account_hours']:,} account-hours, {backtest['span'][0]} to "
        f"{backtest['span'][1]}; the best simple estimate on the calibration months is "
        f"{found['best_simple']}. Brackets: 95% intervals, paired bootstrap over blocks of three "
        "days. volatility_oracle knows the volatility to come.",
        "",
    ]
    for budget in found["budgets"]:
        lines += [
            f"Average add-on {budget['average_add_on']:.2%} of notional, at which a flat level "
            f"covers {budget['flat_coverage']:.0%}:",
            "",
            "| policy | uncovered | breach rate | to flat | to best simple |",
            "|---|---|---|---|---|",
            *(
                f"| {row['policy']} | {row['uncovered']:.3e} | {row['breach_rate']:.2%} | "
                f"{_ratio(row, 'flat')} | {_ratio(row, 'best_simple')} |"
                for row in tables["uncovered"]
                if row["flat_coverage"] == budget["flat_coverage"]
            ),
            "",
        ]
    lines += [
        "### Calls from where accounts stand",
        "",
        f"{backtest['calls']['account_hours']:,} account-hours of accounts whose owners top up, "
        "withdraw, reduce and close, at the average level of the 95% budget.",
        "",
        *_rows(tables["calls"], CALLS),
        "### Procyclicality and coverage",
        "",
        f"{backtest['procyclicality']['portfolios']} portfolios of fixed quantities.",
        "",
        *_rows(tables["procyclicality"], tuple(tables["procyclicality"][0])[1:]),
    ]
    return lines


def _walk_forward(report: dict[str, Any]) -> list[str]:
    """Skill by half-year, by account seed and pooled."""
    spans = [report["blocks"][0]["from"][:10], report["blocks"][-1]["to"][:10]]
    return [
        "## Forecasts in walk-forward",
        "",
        f"Blocks of {report['block_length']} from {spans[0]} to {spans[1]}, account seeds "
        f"{', '.join(str(seed) for seed in report['seeds'])}, at most {report['max_rows']:,} rows "
        "up to the end of the last block. Before each block model, baselines "
        "and the coefficients of the volatility forecast are fitted to what came before it. Skill "
        "is that against the baseline that is best over all rows of the line, with its 95% "
        "interval by a paired bootstrap over days.",
        "",
        walk_forward_tables(report),
        "",
    ]


def _ratio(row: dict[str, Any], other: str) -> str:
    ratio, low, high = (row[f"ratio_to_{other}{end}"] for end in ("", "_low", "_high"))
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" if low is None else f"{ratio:.2f} [{low:.2f}, {high:.2f}]"


def _rows(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    return [
        "| policy | " + " | ".join(name.replace("_", " ") for name in columns) + " |",
        "|---|" + "---|" * len(columns),
        *(
            f"| {row['policy']} | " + " | ".join(_cell(row, name) for name in columns) + " |"
            for row in rows
        ),
        "",
    ]


def _bars(files: list[dict[str, Any]]) -> str:
    """What was found wrong in the bars, in a sentence."""
    rows = sum(file["rows"] for file in files)
    counts = {name: sum(file.get(name, 0) for file in files) for name in FAULTS}
    found = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"Of {rows:,} bars in {len(files)} files: {found or 'no faults'}."


def _stress(windows: dict[str, dict[str, Any]]) -> list[str]:
    """Predicted and observed calls of the stress windows within the test span."""
    if not windows:
        return []
    return [
        "## Stress windows in the test span",
        "",
        "| window | hours | calls | margincast predicted | first_passage_isotonic predicted | "
        "log-loss skill against the best baseline |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {hours} | {found['observed']:,} | "
            f"{found['predicted']['margincast']:.1f} | "
            f"{found['predicted']['first_passage_isotonic']:.1f} | "
            f"{found['log_loss_skill']:+.2%} |"
            for name, horizons in windows.items()
            for hours, found in horizons.items()
        ),
        "",
    ]


def _gates(gates: dict[str, dict[str, Any]]) -> list[str]:
    """Every gate with its figure and limit; only those of safety decide without a champion."""
    return [
        "## Gates",
        "",
        "| gate | kind | passed | value | limit |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {gate['kind']} | {'yes' if gate['passed'] else '**no**'} | "
            f"{_figure(gate['value'])} | {_figure(gate['limit'])} |"
            for name, gate in gates.items()
        ),
        "",
    ]


def _figure(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(_figure(part) for part in value)
    return "-" if value is None else f"{value:.4g}"


def _cell(values: dict[str, Any] | None, key: str) -> str:
    value = None if values is None else values.get(key)
    return "-" if value is None else f"{value:.4g}"


def main() -> None:
    """Run the jobs, then write the page, the README's tables and the charts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages-only", action="store_true", help="run no job")
    parser.add_argument("--only", action="append", default=[], help="run the job of this report")
    given = parser.parse_args()
    if not given.pages_only:
        run_jobs(tuple(given.only))
    reports = read_reports()
    PAGE.write_text(results_page(reports))
    write_readme(reports)
    write_pictures()


if __name__ == "__main__":
    main()
