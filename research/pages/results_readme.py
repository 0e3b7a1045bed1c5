"""The result tables of the README, between two marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from research.pages.markdown import table
from research.pages.results_jobs import CONFIG

README = Path("README.md")
BEGIN = "<!-- results: written by make results -->"
END = "<!-- end of results -->"

POLICIES = (
    "margincast",
    "margincast_with_hysteresis",
    "margincast_with_hysteresis_uncapped",
    "sigma_forecast",
    "flat",
    "volatility_oracle",
)


def write_readme(reports: dict[str, dict[str, Any]]) -> None:
    """Replace the tables of the README.

    Raises
    ------
    SystemExit
        The README lacks one of the marks.
    """
    before, begin, rest = README.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{README} lacks {BEGIN} or {END}; put both where the tables belong")
    README.write_text(f"{before}{begin}\n{readme_tables(reports)}\n{end}{after}")


def readme_tables(reports: dict[str, dict[str, Any]]) -> str:
    """The add-on's table first, then the forecasts'."""
    return "\n\n".join([*_add_on(reports["backtest"]), *_forecasts(reports)])


def _add_on(backtest: dict[str, Any]) -> list[str]:
    found = backtest["uncovered"]
    simple = found["best_simple"]
    head = ["add-on by", *(f"{budget['flat_coverage']:.0%} budget" for budget in found["budgets"])]
    rows = []
    for name in (*POLICIES[:4], simple, *POLICIES[4:]):
        figures = [budget["policies"].get(name) for budget in found["budgets"]]
        if all(figures):
            rows.append([f"`{name}`", *(_ratio(values) for values in figures)])
    return [
        f"**Add-on.** Uncovered loss over that of `{simple}`, the simple volatility estimate that "
        "was best on the calibration months, with its 95% interval. All policies ask for the same "
        "average add-on: the one at which a flat add-on covers 90, 95 or 99% of the falls within "
        f"24 hours. {backtest['account_hours']:,} account-hours, {backtest['span'][0][:10]} to "
        f"{backtest['span'][1][:10]}. Lower is better; `volatility_oracle` knows the volatility "
        "to come.",
        table(head, rows),
    ]


def _ratio(values: dict[str, Any]) -> str:
    ratio, interval = values["ratio_to_best_simple"], values["ratio_to_best_simple_ci95"]
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _forecasts(reports: dict[str, dict[str, Any]]) -> list[str]:
    evaluation, walk = reports["retrain"]["evaluation"], reports.get("walk_forward")
    test = evaluation["horizons"]
    first, last = (time[:10] for time in evaluation["span"])
    rows = [[f"test block {first} to {last}", *(_skill(figures) for figures in test.values())]]
    if walk is not None:
        first, last = walk["blocks"][0]["from"][:10], walk["blocks"][-1]["to"][:10]
        seeds = ", ".join(str(seed) for seed in walk["seeds"])
        pooled = [_skill(walk["pooled"][hours]) for hours in test]
        sample = f"{len(walk['blocks'])} blocks, seed {seeds}, {walk['max_rows']:,} rows"
        rows.insert(0, [f"walk-forward {first} to {last}, {sample}", *pooled])
    return [
        "**Forecast.** Log-loss skill against the best of six baselines, with its 95% interval. "
        f"Everything is fitted to the time before the rows, under `{CONFIG}`.",
        table(["rows", *(f"{hours} h" for hours in test)], rows),
    ]


def _skill(figures: dict[str, Any]) -> str:
    low, high = figures["log_loss_skill_ci95"] or (float("nan"), float("nan"))
    return f"{figures['log_loss_skill']:+.1%} [{low:+.1%}, {high:+.1%}]"
