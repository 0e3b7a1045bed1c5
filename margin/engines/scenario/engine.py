"""The scenario engine: portfolio margin of N accounts, its parts, and its worst scenarios."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, Portfolios, row_sums
from margin.engines.base import Engine
from margin.engines.margins import Margins, Part, RankedScenario
from margin.engines.scenario.contingencies import Contingencies, contingencies
from margin.engines.scenario.grid import BASIS, scenario_name
from margin.engines.scenario.kernel import NO_LOSS
from margin.engines.scenario.results import ScenarioResults, scenario_results
from margin.engines.scenario.rules import ScenarioRules
from margin.engines.scenario.units import Units, units_of
from margin.rules.ruleset import RuleSet
from margin.valuation.collateral import CollateralValues, collateral_values

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Calculation:
    """Everything that margins and parts are read from."""

    units: Units
    held: CollateralValues
    results: ScenarioResults
    charges: Contingencies
    im_factor: float
    peg_factor: Floats  # of each portfolio, (N,)
    mm_factor: float


class ScenarioEngine(Engine):
    """Portfolio margin: the worst of a grid of scenarios, and contingencies."""

    name = "scenario"
    table = "scenario"
    rules = ScenarioRules

    def margins(self, portfolios: Portfolios, ruleset: RuleSet) -> Margins:
        """Margins under a grid of scenarios, see `margin.engines.scenario`.

        Components: cash, options at their value, unrealised profit and loss of perps, collateral
        before haircuts; the worst scenario or the basis contingency times the factor; what a
        stable coin below its peg adds to the factor of initial margin (``depeg``); the least loss
        by deltas beyond that (``delta_floor``); contingencies, and what initial margin adds to
        them.

        Raises
        ------
        InstrumentError
            An account holds more than one underlying under a rule set that allows one, or a price
            that is needed is missing.
        """
        calculation = _calculate(portfolios, ruleset)
        units, held = calculation.units, calculation.held
        results, charges = calculation.results, calculation.charges
        start = portfolios.start
        by_portfolio = np.searchsorted(units.portfolio, np.arange(len(portfolios) + 1))
        options = row_sums(start, results.value)
        unrealised = row_sums(start, portfolios.unrealised)
        is_basis = results.worst == results.pnl.shape[1]
        scenario = row_sums(by_portfolio, np.where(is_basis, 0.0, results.worst_pnl))
        basis = row_sums(by_portfolio, np.where(is_basis, results.worst_pnl, 0.0))
        lacking = row_sums(by_portfolio, results.delta_floor)

        def components(factor: float) -> dict[str, Floats]:
            return {
                "cash": portfolios.cash,
                "options_value": options,
                "unrealised_pnl": unrealised,
                "collateral": held.value,
                "worst_scenario": factor * scenario,
                "basis_contingency": factor * basis,
                "delta_floor": 0.0 - factor * lacking,
                "perp_contingency": 0.0 - row_sums(start, charges.perp),
                "naked_short_contingency": 0.0 - row_sums(start, charges.naked_short),
                "collateral_haircut": 0.0 - held.maintenance_haircut,
            }

        oracle = row_sums(start, charges.oracle)
        oracle += row_sums(portfolios.collateral.start, charges.oracle_of_balance)
        initial = components(calculation.im_factor) | {
            "depeg": 0.0 + calculation.peg_factor * (scenario + basis - lacking),
            "perp_initial_extra": 0.0 - row_sums(start, charges.perp_initial_extra),
            "naked_short_initial_extra": 0.0 - row_sums(start, charges.naked_short_initial_extra),
            "collateral_initial_extra": 0.0 - held.initial_extra,
            "oracle_contingency": 0.0 - oracle,
        }
        factor = calculation.im_factor + calculation.peg_factor
        leg_factor = np.repeat(factor, np.diff(start))
        lost = lacking - (scenario + basis)
        maintenance_charges = row_sums(start, charges.perp) + row_sums(start, charges.naked_short)
        initial_charges = row_sums(start, charges.perp_initial_extra)
        initial_charges += row_sums(start, charges.naked_short_initial_extra) + oracle
        return Margins(
            mark_to_market=portfolios.cash + options + unrealised + held.value,
            equity=portfolios.cash + options + unrealised + held.counted,
            initial_margin=factor * lost
            + maintenance_charges
            + initial_charges
            + held.initial_extra,
            maintenance_margin=calculation.mm_factor * lost + maintenance_charges,
            collateral_haircut=held.maintenance_haircut,
            initial=initial,
            maintenance=components(calculation.mm_factor),
            leg_initial=charges.leg_initial - leg_factor * results.leg_pnl,
            leg_maintenance=charges.leg_maintenance - calculation.mm_factor * results.leg_pnl,
            scenario_pnl=_by_portfolio(results.pnl, by_portfolio),
        )

    def parts(self, portfolios: Portfolios, account: int, ruleset: RuleSet) -> tuple[Part, ...]:
        """Cash, values and collateral, the worst scenario by name, each contingency."""
        alone = portfolios.between(account, account + 1)
        return _parts(alone, _calculate(alone, ruleset), ruleset)

    def worst_scenarios(
        self, portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
    ) -> tuple[RankedScenario, ...]:
        """The worst rows of the grid, of equals the first; the basis contingency is one row."""
        alone = portfolios.between(account, account + 1)
        return _ranked(alone, _calculate(alone, ruleset), ruleset, count)

    def explain(
        self, portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
    ) -> tuple[tuple[Part, ...], tuple[RankedScenario, ...]]:
        """`parts` and `worst_scenarios`, revalued once."""
        alone = portfolios.between(account, account + 1)
        calculation = _calculate(alone, ruleset)
        return _parts(alone, calculation, ruleset), _ranked(alone, calculation, ruleset, count)


def _parts(alone: Portfolios, calculation: _Calculation, ruleset: RuleSet) -> tuple[Part, ...]:
    cash = float(alone.cash[0])
    parts = [Part("cash", "", cash, cash)]
    for leg, name in enumerate(alone.name):
        is_option = alone.kind[leg] == OPTION
        worth = float(calculation.results.value[leg] if is_option else alone.unrealised[leg])
        if worth != 0.0:
            kind = "option value" if is_option else "unrealised profit and loss"
            parts.append(Part(kind, name, worth, worth))
    parts += calculation.held.parts(alone, 0)
    parts += _worst_parts(alone, calculation, ruleset)
    charges = calculation.charges
    for kind, least, extra in (
        ("perp contingency", charges.perp, charges.perp_initial_extra),
        ("naked short options", charges.naked_short, charges.naked_short_initial_extra),
        ("oracle confidence", np.zeros_like(charges.oracle), charges.oracle),
    ):
        parts += [
            Part(kind, name, -float(least[leg] + extra[leg]), -float(least[leg]))
            for leg, name in enumerate(alone.name)
            if least[leg] != 0.0 or extra[leg] != 0.0
        ]
    first = alone.collateral.start[0]
    parts += [
        Part("oracle confidence", alone.collateral.asset[first + b], -float(amount), 0.0)
        for b, amount in enumerate(charges.oracle_of_balance)
        if amount != 0.0
    ]
    return tuple(parts)


def _ranked(
    alone: Portfolios, calculation: _Calculation, ruleset: RuleSet, count: int
) -> tuple[RankedScenario, ...]:
    names = [*(scenario_name(row) for row in ruleset.engine_rules(ScenarioRules).grid), BASIS]
    ranked = [
        RankedScenario(name, _underlying(alone, calculation.units, unit), float(pnl))
        for unit in range(len(calculation.results.basis))
        for name, pnl in zip(
            names, [*calculation.results.pnl[unit], calculation.results.basis[unit]], strict=True
        )
    ]
    return tuple(sorted(ranked, key=lambda scenario: scenario.pnl)[:count])


def _calculate(portfolios: Portfolios, ruleset: RuleSet) -> _Calculation:
    rules = ruleset.engine_rules(ScenarioRules)
    units = units_of(portfolios, ruleset)
    held = collateral_values(portfolios)
    return _Calculation(
        units=units,
        held=held,
        results=scenario_results(portfolios, units, held, ruleset),
        charges=contingencies(portfolios, units, held, rules),
        im_factor=rules.im_factor,
        peg_factor=np.maximum(rules.peg_threshold - portfolios.stable_price, 0.0)
        * rules.peg_factor,
        mm_factor=rules.mm_factor,
    )


def _worst_parts(alone: Portfolios, calculation: _Calculation, ruleset: RuleSet) -> list[Part]:
    results, grid = calculation.results, ruleset.engine_rules(ScenarioRules).grid
    peg = float(calculation.peg_factor[0])
    parts = []
    for unit, worst in enumerate(results.worst):
        if worst == NO_LOSS and results.delta_floor[unit] == 0.0:
            continue
        name = _underlying(alone, calculation.units, unit)
        lost, lacking = float(results.worst_pnl[unit]), float(results.delta_floor[unit])
        if worst != NO_LOSS:
            kind = BASIS if worst == len(grid) else scenario_name(grid[worst])
            parts.append(
                Part(kind, name, calculation.im_factor * lost, calculation.mm_factor * lost)
            )
        if lacking > 0.0:
            parts.append(
                Part(
                    "least for deltas",
                    name,
                    -calculation.im_factor * lacking,
                    -calculation.mm_factor * lacking,
                )
            )
        if peg > 0.0:
            parts.append(Part("depeg of the stable coin", name, peg * (lost - lacking), 0.0))
    return parts


def _underlying(portfolios: Portfolios, units: Units, unit: int) -> str:
    row = int(units.underlying[unit])
    return portfolios.underlyings.name[row] if row >= 0 else ""


def _by_portfolio(pnl: Floats, start: npt.NDArray[np.int64]) -> Floats:
    """Sum of the units of each portfolio, shape (N, R); as it is where each has one."""
    if len(pnl) == len(start) - 1:
        return pnl
    owner = np.repeat(np.arange(len(start) - 1), np.diff(start))
    out = np.zeros((len(start) - 1, pnl.shape[1]))
    np.add.at(out, owner, pnl)
    return out
