"""The economic rule on frontiers whose optimum is known, and the frontier of a small market."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.forecaster import Forecaster
from tests.training.backtest.conftest import World
from training.backtest.margin_calls import simulate_calls
from training.backtest.p_star_choice import (
    MULTIPLES,
    PolicyCosts,
    choose_factor,
    cost_table,
    sensitivity,
    yearly_cost,
)
from training.backtest.p_star_frontier import (
    FACTORS,
    HOURS_A_YEAR,
    PStarFrontier,
    frontier_figures,
    frontier_table,
    sample_frontier,
)
from training.backtest.policies import PACED

Floats = npt.NDArray[np.float64]

HOURS, BLOCKS = 1000.0, 12
DECAY = 40.0


def levels() -> Floats:
    """Average add-ons that fall by one point a step."""
    return np.linspace(0.25, 0.05, len(FACTORS))


def frontier_of(uncovered: Floats, calls: Floats | float = 0.0) -> PStarFrontier:
    """Blocks of 1,000 account-hours; figures of each block and factor, shape (B, K) or (K,)."""
    shape = (BLOCKS, len(FACTORS))
    ones = np.ones(shape)
    columns = [
        *(HOURS * ones, 0.02 * HOURS * ones, HOURS * levels() * ones),
        *(HOURS * uncovered * ones, 0.5 * HOURS * uncovered * ones),
        *(HOURS * ones, calls * ones, 0.0 * ones, 2.0 * ones, ones),
    ]
    return PStarFrontier(np.array(FACTORS), np.stack(columns, axis=1), 12_000, 50)


def test_figures_are_the_sums_over_what_they_are_shares_of() -> None:
    frontier = frontier_of(np.full(len(FACTORS), 0.004), calls=3.0)
    figures = {name: x[10] for name, x in frontier_figures(frontier.sums.sum(axis=0)).items()}
    assert figures == pytest.approx(
        {
            "average_add_on": 0.15,
            "add_on_over_maintenance": 7.5,
            "uncovered": 0.004,
            "calls_per_account_year": 3.0 * HOURS_A_YEAR / HOURS,
            "breaches_per_account_year": 0.0,
            "prevented_share": 1.0,
            "oracle_uncovered": 0.002,
            "oracle_prevented_share": 0.5,
        }
    )


@pytest.mark.parametrize("best", [3, 10, 17])
def test_the_rule_finds_the_optimum_in_closed_form(best: int) -> None:
    """``k a + W u0 exp(-d a)`` is least at ``a = ln(d W u0 / k) / d``, with W windows a year."""
    k, windows = 0.2, HOURS_A_YEAR / 24
    optimum = levels()[best]
    u0 = k * math.exp(DECAY * optimum) / (DECAY * windows)
    frontier = frontier_of(u0 * np.exp(-DECAY * levels()))
    choice = choose_factor(frontier, PolicyCosts(k, 0.0, 1.0), seed=1)
    assert choice.cheapest == FACTORS[best]
    assert choice.factor == FACTORS[best]
    assert choice.kept == (best == frontier.incumbent)
    assert not choice.at_edge
    least = k * optimum + k / DECAY
    total = yearly_cost(frontier.sums.sum(axis=0), PolicyCosts(k, 0.0, 1.0))["total"]
    assert total[best] == pytest.approx(least)
    assert choice.difference == pytest.approx(least - total[frontier.incumbent])


def test_calls_cost_by_the_call() -> None:
    calls = np.linspace(40.0, 0.0, len(FACTORS))
    frontier = frontier_of(np.zeros(len(FACTORS)), calls)
    cost = yearly_cost(frontier.sums.sum(axis=0), PolicyCosts(0.0, 0.001, 1.0))
    assert cost["total"] == pytest.approx(0.001 * calls / HOURS * HOURS_A_YEAR)
    choice = choose_factor(frontier, PolicyCosts(0.0, 0.001, 1.0), seed=1)
    assert (choice.factor, choice.at_edge) == (FACTORS[-1], True)


def noisy(gain: float, noise: float) -> PStarFrontier:
    """The next factor leaves less uncovered by `gain`, up to noise between blocks."""
    uncovered = np.full((BLOCKS, len(FACTORS)), 0.02)
    at = int(np.flatnonzero(np.array(FACTORS) == 1.0)[0])
    draws = np.random.default_rng(3).normal(size=BLOCKS)
    draws -= draws.mean()
    uncovered[:, at] = 0.01
    uncovered[:, at + 1] = 0.01 - gain + noise * draws
    return frontier_of(uncovered)


def test_an_incumbent_within_noise_is_kept() -> None:
    costs = PolicyCosts(0.0, 0.0, 1.0)
    lost = choose_factor(noisy(0.001, 0.005), costs, seed=1)
    assert (lost.kept, lost.factor, lost.cheapest) == (True, 1.0, FACTORS[11])
    assert lost.difference < 0.0
    assert lost.interval is not None
    assert lost.interval[0] < lost.difference < 0.0 <= lost.interval[1]
    won = choose_factor(noisy(0.001, 0.0005), costs, seed=1)
    assert (won.kept, won.factor) == (False, FACTORS[11])
    assert won.interval is not None
    assert won.interval[1] < 0.0


def test_one_block_of_days_has_no_interval_and_keeps_the_incumbent() -> None:
    found = noisy(0.001, 0.0)
    single = PStarFrontier(found.factors, found.sums[:1], 1000, 5)
    choice = choose_factor(single, PolicyCosts(0.0, 0.0, 1.0), seed=1)
    assert (choice.kept, choice.interval, choice.cheapest) == (True, None, FACTORS[11])
    assert frontier_table(single, seed=1)["points"][0]["uncovered_ci95"] is None


def test_other_costs_are_tried_in_turn() -> None:
    rows = sensitivity(noisy(0.001, 0.0), PolicyCosts(0.05, 0.0, 1.0), seed=1)
    assert [row["costs"]["collateral"] for row in rows][:4] == [0.05 * m for m in MULTIPLES]
    assert len(rows) == 9, "no multiple of a call without cost is another cost"


def test_frontier_of_a_market_is_that_of_its_parts(world: World, forecaster: Forecaster) -> None:
    hours = world.hours()
    policies = world.sources(forecaster).policies(hours.times, hours.interval)
    frontier = sample_frontier(hours, policies, FACTORS)
    table = frontier_table(frontier, seed=1)
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    levels = policies[PACED].levels(1.0)
    own = table["points"][10]
    calls = simulate_calls(hours, levels)
    assert own["factor"] == 1.0
    names = ("calls", "prevented_breaches", "missed_breaches")
    assert [own[name] for name in names] == [calls[name] for name in names]
    assert own["average_add_on"] == pytest.approx(float(hours.share(levels).mean()))
    fall = hours.share(hours.fall)
    excess = np.maximum(0.0, fall - hours.share(levels))
    assert own["uncovered"] == pytest.approx(float(excess.mean()))
    average: list[Any] = [point["average_add_on"] for point in table["points"]]
    loss: list[Any] = [point["uncovered"] for point in table["points"]]
    assert average == sorted(average, reverse=True), "more tolerated, less asked"
    assert loss == sorted(loss)
    for point in table["points"]:
        low, high = point["average_add_on_ci95"]
        assert low <= point["average_add_on"] <= high
    rows = cost_table(frontier, PolicyCosts(0.05, 0.0001, 1.0), seed=1)
    assert rows[10]["difference"] == 0.0
    assert rows[10]["difference_ci95"] == [0.0, 0.0]
