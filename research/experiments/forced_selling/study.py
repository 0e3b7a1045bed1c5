"""Every window, seed, one-sided share and level, with and without feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from margin.rules.ruleset import RuleSet
from market.core.arrays import Floats
from market.core.errors import DataError
from research.experiments.forced_selling.levels import (
    FIXED,
    FLAT,
    NONE,
    Terms,
    make_plans,
    solve_scalar,
)
from research.experiments.forced_selling.simulate import FIGURES, simulate
from research.experiments.forced_selling.windows import (
    HOURS,
    Settings,
    VenueMarket,
    draw_book,
    windows,
)
from research.pages.markdown import table
from training.backtest.uncovered_loss import ratio_interval
from training.evaluation.stress import STRESS_WINDOWS

WEEKS = 60
"""Ordinary weeks over which the levels have the same average."""

FORECAST_LEVEL = "forecast"
MAIN_LEVELS = (NONE, FLAT, FIXED, FORECAST_LEVEL)

Runs = Sequence[Mapping[str, Any]]


def stress_rows(market: VenueMarket) -> dict[str, int]:
    """First row of each stress window that lies in the data with a week of usable rows before it.

    Raises
    ------
    DataError
        There is none.
    """
    closes = market.history.bars.closes
    begun = int(np.argmax(market.usable.any(axis=1))) + HOURS
    rows = {w.name: int(np.searchsorted(closes, w.start)) for w in STRESS_WINDOWS}
    rows = {name: row for name, row in rows.items() if begun <= row < len(closes) - HOURS}
    if not rows:
        raise DataError(
            "no stress window lies in the data with a week of usable bars before it; give more bars"
        )
    return rows


def study(
    market: VenueMarket,
    ruleset: RuleSet,
    settings: Settings,
    seeds: Sequence[int],
    shares: Sequence[float],
    rows: Mapping[str, int],
    ordinary_end: int | None = None,
) -> dict[str, Any]:
    """Figures of every run, and their summary.

    Parameters
    ----------
    seeds, shares:
        Of the accounts, and parts of the book that are on one side.
    rows:
        First row of each window.
    ordinary_end:
        Ordinary weeks end before it, nanoseconds; None: with the data.

    Raises
    ------
    DataError
        The bars are not hourly.
    RuleSetError
        The rule set has more than one margin rate.
    """
    terms, bars = Terms.of(ruleset), market.history.bars
    if bars.interval.per_hour != 1:
        raise DataError(
            f"the bars have an interval of {bars.interval.name}; the study goes hour by hour: give "
            '[market] interval = "1h"'
        )
    plans, closes = make_plans(ruleset), bars.closes
    first = int(np.argmax(market.usable.any(axis=1))) + HOURS
    last = len(closes) if ordinary_end is None else int(np.searchsorted(closes, ordinary_end))
    weeks = np.unique(np.linspace(first, last - HOURS - 1, WEEKS).astype(np.int64))
    ordinary = [
        (week, draw_book(week, market, terms.maintenance_rate, settings, seeds[0], 0.0))
        for week in windows(market, {str(row): row for row in weeks.tolist()})
    ]
    scalars = {
        name: solve_scalar(plan, ordinary, terms, settings.budget) for name, plan in plans.items()
    }
    runs = []
    for window in windows(market, rows):
        for seed in seeds:
            for share in shares:
                case = {"window": window.name, "seed": seed, "share": share}
                book = draw_book(window, market, terms.maintenance_rate, settings, seed, share)
                for name, plan in plans.items():
                    by = (book, plan, scalars[name], terms, settings)
                    for feedback in (False, True):
                        found = simulate(window, *by, feedback)
                        runs.append({**case, "level": name, "feedback": feedback, **found})
    return {
        "settings": asdict(settings),
        "scalars": scalars,
        "windows": list(rows),
        "seeds": list(seeds),
        "summary": summary(runs, list(plans)),
        "runs": runs,
    }


def summary(runs: Runs, levels: Sequence[str]) -> list[dict[str, Any]]:
    """Means over windows and seeds by share and level, without and with feedback.

    Ratios of means with 95% intervals, whole windows drawn with replacement: to the flat level, to
    the forecast level of the first hour, and with feedback to without.
    """
    names = sorted({run["window"] for run in runs})

    def pick(name: str, *case: object) -> Floats:
        keys = ("share", "level", "feedback")
        return np.array([run[name] for run in runs if tuple(run[key] for key in keys) == case])

    rows = []
    for share in sorted({run["share"] for run in runs}):
        block = np.searchsorted(names, pick("window", share, FLAT, False))
        for level in levels:
            row: dict[str, Any] = {"share": share, "level": level}
            for feedback, label in ((False, "without"), (True, "with")):
                case = (share, level, feedback)
                row[label] = {name: float(pick(name, *case).mean()) for name in FIGURES}
                for name in ("forced", "in_breach", "uncovered"):
                    for suffix, level_of in (("flat", FLAT), ("fixed", FIXED)):
                        other = pick(name, share, level_of, feedback)
                        ratio = ratio_interval(pick(name, *case), other, block)
                        row[label][f"{name}_to_{suffix}"] = ratio
            for name in ("forced", "uncovered"):
                after, static = (pick(name, share, level, f) for f in (True, False))
                row[f"{name}_with_to_without"] = ratio_interval(after, static, block)
            rows.append(row)
    return rows


def tables(report: Mapping[str, Any]) -> str:
    """The summary as Markdown, one table for each one-sided share.

    Figures separated by a semicolon are without and with feedback; ratios are with feedback.
    """
    head = ["level", "asked, first to highest", "placed", "paid on calls", "accounts sold"]
    head += ["forced", "in breach", "worst hour", "with / without", "to flat", "to first hour"]
    head += ["extra fall", "uncovered", "with / without", "to flat"]
    lines: dict[float, list[list[str]]] = {}
    for row in report["summary"]:
        static, after = row["without"], row["with"]

        def both(name: str, form: str, pair: tuple[Any, Any] = (static, after)) -> str:
            return "; ".join(f"{figures[name]:{form}}" for figures in pair)

        lines.setdefault(row["share"], []).append(
            [
                row["level"],
                f"{after['first_level']:.1%} to {after['highest_level']:.1%}",
                f"{after['placed']:.1%}",
                both("paid", ".1%"),
                both("accounts_sold", ".0%"),
                both("forced", ".1%"),
                both("in_breach", ".1%"),
                both("worst_hour", ".1%"),
                _ratio(*row["forced_with_to_without"]),
                _ratio(*after["forced_to_flat"]),
                _ratio(*after["forced_to_fixed"]) if "forecast" in row["level"] else "",
                f"{after['extra_fall']:.2%}",
                both("uncovered", ".3%"),
                _ratio(*row["uncovered_with_to_without"]),
                _ratio(*after["uncovered_to_flat"]),
            ]
        )
    texts = [
        f"{share:.0%} of the book on one side:\n\n{table(head, cells)}"
        for share, cells in lines.items()
    ]
    return "\n\n".join([*texts, f"Forced, by window:\n\n{window_table(report['runs'])}"])


def window_table(runs: Runs) -> str:
    """Forced volume in each window under the main levels, without and with feedback, and the extra
    fall under the forecast; means over seeds."""

    def mean(name: str, *case: object) -> float:
        keys = ("window", "share", "level", "feedback")
        found = [run[name] for run in runs if tuple(run[key] for key in keys) == case]
        return float(np.mean(found))

    lines = []
    for window, share in dict.fromkeys((run["window"], run["share"]) for run in runs):
        cells = [
            "; ".join(f"{mean('forced', window, share, level, f):.1%}" for f in (False, True))
            for level in MAIN_LEVELS
        ]
        fall = mean("extra_fall", window, share, FORECAST_LEVEL, True)
        lines.append([window, f"{share:.0%}", *cells, f"{fall:.2%}"])
    return table(["window", "on one side", *MAIN_LEVELS, "extra fall"], lines)


def _ratio(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    low, high = interval or (float("nan"), float("nan"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
