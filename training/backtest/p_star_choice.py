"""The economic rule that chooses p*: least expected cost of collateral, calls and uncovered loss.

A year of an account costs, as a share of its gross notional,

    k a + c n + v u * 8,766 / 24

with k the cost of collateral a year, a the average add-on, c the cost of a call, n the calls of a
year, v the value of a unit of uncovered loss, and u the mean uncovered loss of a window of 24
hours, of which a year has 365.25. The cost of an account-hour is that over 8,766, so both have the
same minimum.

The factor of least cost takes the place of 1 only if the 95% interval of its difference in cost
lies below 0; else p* stays as it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from training.backtest.account_hours import FOLLOW_HOURS
from training.backtest.p_star_frontier import (
    HOURS_A_YEAR,
    PStarFrontier,
    frontier_figures,
    interval,
)

Floats = npt.NDArray[np.float64]

MULTIPLES = (0.01, 0.1, 10.0, 100.0)
"""Of each cost in turn, for `sensitivity`."""


@dataclass(frozen=True, slots=True)
class PolicyCosts:
    """What a margin policy costs.

    Attributes
    ----------
    collateral:
        Share of the add-on a year.
    call:
        Of each call, a share of the gross notional of the account that is called.
    uncovered:
        Value of a unit of uncovered loss.
    """

    collateral: float
    call: float
    uncovered: float


@dataclass(frozen=True, slots=True)
class PStarChoice:
    """The factor that is chosen on a frontier.

    Attributes
    ----------
    factor:
        The chosen one; 1 where the incumbent is kept.
    cheapest:
        The factor of least cost.
    kept:
        Whether the incumbent is kept.
    at_edge:
        Whether the cheapest factor is the first or last of the grid.
    difference, interval:
        Cost of the cheapest factor less that of the incumbent, share of gross notional a year, and
        its 95% interval over blocks of days; None with fewer than two blocks.
    """

    factor: float
    cheapest: float
    kept: bool
    at_edge: bool
    difference: float
    interval: list[float] | None


def yearly_cost(sums: Floats, costs: PolicyCosts) -> dict[str, Floats]:
    """Parts of the cost of a year of an account, and their ``total``; shape (..., K).

    Parameters
    ----------
    sums:
        Of a frontier, shape (..., C, K).
    costs:
        See the formula at the head of this module.
    """
    figures = frontier_figures(sums)
    windows = HOURS_A_YEAR / FOLLOW_HOURS
    parts = {
        "collateral": costs.collateral * figures["average_add_on"],
        "calls": costs.call * figures["calls_per_account_year"],
        "uncovered": costs.uncovered * windows * figures["uncovered"],
    }
    return {**parts, "total": parts["collateral"] + parts["calls"] + parts["uncovered"]}


def choose_factor(frontier: PStarFrontier, costs: PolicyCosts, seed: int) -> PStarChoice:
    """Choose the factor on p* by the rule at the head of this module."""
    total = yearly_cost(frontier.sums.sum(axis=0), costs)["total"]
    cheapest, incumbent = int(np.argmin(total)), frontier.incumbent
    drawn = frontier.resampled(seed)
    bounds = None if drawn is None else interval(_differences(drawn, costs, frontier)[:, cheapest])
    kept = cheapest == incumbent or bounds is None or bounds[1] >= 0.0
    return PStarChoice(
        1.0 if kept else float(frontier.factors[cheapest]),
        float(frontier.factors[cheapest]),
        kept,
        cheapest in (0, len(total) - 1),
        float(total[cheapest] - total[incumbent]),
        bounds,
    )


def cost_table(frontier: PStarFrontier, costs: PolicyCosts, seed: int) -> list[dict[str, Any]]:
    """Cost of each factor in parts, its difference to the incumbent, and the 95% interval of that:
    shares of gross notional a year."""
    parts = yearly_cost(frontier.sums.sum(axis=0), costs)
    drawn = frontier.resampled(seed)
    differences = None if drawn is None else _differences(drawn, costs, frontier)
    total = parts["total"]
    return [
        {
            "factor": factor,
            **{name: float(values[k]) for name, values in parts.items()},
            "difference": float(total[k] - total[frontier.incumbent]),
            "difference_ci95": None if differences is None else interval(differences[:, k]),
        }
        for k, factor in enumerate(frontier.factors.tolist())
    ]


def sensitivity(frontier: PStarFrontier, costs: PolicyCosts, seed: int) -> list[dict[str, Any]]:
    """What would be chosen if one of the costs were another, by `MULTIPLES` of it: costs and
    choice."""
    alternatives = [
        replace(costs, **{field.name: multiple * getattr(costs, field.name)})
        for field in fields(costs)
        for multiple in MULTIPLES
    ]
    return [
        {"costs": asdict(each), **asdict(choose_factor(frontier, each, seed))}
        for each in dict.fromkeys(alternatives)
    ]


def _differences(drawn: Floats, costs: PolicyCosts, frontier: PStarFrontier) -> Floats:
    """Cost less that of the incumbent under each resample, shape (n, K)."""
    total = yearly_cost(drawn, costs)["total"]
    at_one = frontier.incumbent
    return total - total[:, at_one : at_one + 1]
