"""Results of the scenarios for N portfolios: losses, and the share of each leg."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import Portfolios, row_sums
from margin.engines.scenario.contingencies import position_deltas
from margin.engines.scenario.grid import Grid
from margin.engines.scenario.kernel import NO_LOSS, Inputs, Legs, Terms, scenario_kernel
from margin.engines.scenario.parameters import Parameters
from margin.engines.scenario.rules import ScenarioRules
from margin.engines.scenario.units import Units, leg_prices
from margin.rules.ruleset import RuleSet
from margin.valuation.collateral import CollateralValues

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScenarioResults:
    """Results of G units with L legs, settlement currency.

    Attributes
    ----------
    pnl:
        Of every scenario, shape (G, R).
    basis:
        Basis contingency, at most 0, shape (G,).
    worst:
        Row of the worst, R for the basis contingency, −1 where nothing loses, shape (G,).
    worst_pnl:
        Result of the worst, at most 0, shape (G,).
    delta_floor:
        Shortfall of the worst loss below the least loss by deltas, 0 or more, shape (G,).
    value:
        Of each option today, discounted, 0 for other legs, shape (L,).
    leg_pnl:
        Share of each leg in ``worst_pnl - delta_floor``, shape (L,).
    """

    pnl: Floats
    basis: Floats
    worst: Ints
    worst_pnl: Floats
    delta_floor: Floats
    value: Floats
    leg_pnl: Floats


def scenario_results(
    portfolios: Portfolios, units: Units, held: CollateralValues, ruleset: RuleSet
) -> ScenarioResults:
    """Run the grid of a rule set over every unit."""
    rules = ruleset.engine_rules(ScenarioRules)
    legs = Legs(
        portfolios.kind,
        portfolios.expiry,
        portfolios.quantity,
        portfolios.strike,
        portfolios.vol,
        portfolios.call,
        leg_prices(portfolios),
    )
    expiries = portfolios.expiries
    terms = Terms(expiries.seconds, expiries.forward, expiries.rate)
    moved = np.where(portfolios.collateral.risk_cancelling, held.balance_value, 0.0)
    collateral = np.zeros(len(units.portfolio))
    np.add.at(collateral, units.of_balance, moved)
    pnl, basis, worst, value, leg_pnl = scenario_kernel(
        units.start, Inputs(legs, terms, Grid.of(rules), Parameters.of(rules)), collateral
    )
    rows = pnl.shape[1]
    scenario = pnl[np.arange(len(worst)), np.clip(worst, 0, rows - 1)]
    worst_pnl = np.where(worst == rows, basis, np.where(worst == NO_LOSS, 0.0, scenario))
    lacking = np.zeros(len(worst))
    if rules.delta_net_rate > 0.0 or rules.delta_hedged_rate > 0.0:
        lacking, leg_pnl = _delta_floor(
            portfolios, units, rules, position_deltas(legs, terms), worst_pnl, leg_pnl
        )
    return ScenarioResults(pnl, basis, worst, worst_pnl, lacking, value, leg_pnl)


def _delta_floor(
    portfolios: Portfolios,
    units: Units,
    rules: ScenarioRules,
    deltas: Floats,
    worst_pnl: Floats,
    leg_pnl: Floats,
) -> tuple[Floats, Floats]:
    """What is lacking to ``(net_rate * |net| + hedged_rate * (gross - |net|) / 2) * spot``.

    Where something is, the legs share the floor by its derivative in their deltas (Euler), which
    adds up to it.
    """
    spot = portfolios.underlyings.spot[portfolios.underlying]
    net = row_sums(units.start, deltas)
    of_leg = units.legs()
    per_leg = spot * (
        (rules.delta_net_rate - 0.5 * rules.delta_hedged_rate) * np.sign(net)[of_leg] * deltas
        + 0.5 * rules.delta_hedged_rate * np.abs(deltas)
    )
    floor = row_sums(units.start, per_leg)
    lacking = np.maximum(floor + worst_pnl, 0.0)
    return lacking, np.where((lacking > 0.0)[of_leg], -per_leg, leg_pnl)
