"""The figures of a backtest as flat tables: rows of the review page, CSV artifacts of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]


def backtest_tables(backtest: Mapping[str, Any] | None) -> dict[str, list[Row]]:
    """``uncovered``, ``calls`` and ``procyclicality`` (with coverage), one row a policy.

    Parameters
    ----------
    backtest:
        The object of ``backtest --json``, or None: there are no tables then.

    Returns
    -------
    dict
        Rows of one table have the same keys in one order; an interval is two columns, None where
        it is not defined.
    """
    if backtest is None:
        return {}
    coverage = backtest["coverage"]["policies"]
    return {
        "uncovered": [
            {"flat_coverage": budget["flat_coverage"], "policy": name, **_uncovered(figures)}
            for budget in backtest["uncovered"]["budgets"]
            for name, figures in budget["policies"].items()
        ],
        "calls": [
            {"policy": name, **figures} for name, figures in backtest["calls"]["policies"].items()
        ],
        "procyclicality": [
            {
                "policy": name,
                "peak_to_trough": figures["peak_to_trough"],
                **{
                    f"increase_{days}d": increase
                    for days, increase in figures["n_day_max_increase"].items()
                },
                "response_to_one_extreme_return": figures["response_to_one_extreme_return"],
                **coverage[name],
            }
            for name, figures in backtest["procyclicality"]["policies"].items()
        ],
    }


def _uncovered(figures: Mapping[str, Any]) -> Row:
    row: Row = {
        name: figures[name] for name in ("average_add_on", "matched", "uncovered", "breach_rate")
    }
    for other in ("flat", "best_simple"):
        low, high = figures[f"ratio_to_{other}_ci95"] or (None, None)
        row[f"ratio_to_{other}"] = figures[f"ratio_to_{other}"]
        row[f"ratio_to_{other}_low"], row[f"ratio_to_{other}_high"] = low, high
    return row
