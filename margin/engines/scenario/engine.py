"""The scenario engine: portfolio margin of N accounts, its parts, and its worst scenarios."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, Portfolios, row_sums
from margin.engines.margins import Margins, Part, RankedScenario
from margin.engines.scenario.contingencies import Contingencies, contingencies
from margin.engines.scenario.grid import BASIS, scenario_name
from margin.engines.scenario.kernel import NOTHING
from margin.engines.scenario.results import ScenarioResults, scenario_results
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
    asked: Contingencies
    im_factor: float
    peg_factor: Floats  # of each portfolio, (N,)
    mm_factor: float


def scenario_margins(portfolios: Portfolios, ruleset: RuleSet) -> Margins:
    """Margins under a grid of scenarios, see `margin.engines.scenario`.

    Components: cash, options at their value, unrealised profit and loss of perps, collateral
    before haircuts; the worst scenario or the basis contingency times the factor; what a stable
    coin below its peg adds to the factor of initial margin (``depeg``); what the deltas ask beyond
    (``delta_floor``); contingencies, and what initial margin adds to them.

    Raises
    ------
    InstrumentError
        An account holds more than one underlying under a rule set that allows one, or a price that
        is needed is missing.
    """
    found = _calculate(portfolios, ruleset)
    units, held, results, asked = found.units, found.held, found.results, found.asked
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
            "perp_contingency": 0.0 - row_sums(start, asked.perp),
            "naked_short_contingency": 0.0 - row_sums(start, asked.naked_short),
            "collateral_haircut": 0.0 - held.maintenance_haircut,
        }

    oracle = row_sums(start, asked.oracle)
    oracle += row_sums(portfolios.collateral.start, asked.oracle_of_balance)
    initial = components(found.im_factor) | {
        "depeg": 0.0 + found.peg_factor * (scenario + basis - lacking),
        "perp_initial_extra": 0.0 - row_sums(start, asked.perp_initial_extra),
        "naked_short_initial_extra": 0.0 - row_sums(start, asked.naked_short_initial_extra),
        "collateral_initial_extra": 0.0 - held.initial_extra,
        "oracle_contingency": 0.0 - oracle,
    }
    factor = found.im_factor + found.peg_factor
    leg_factor = np.repeat(factor, np.diff(start))
    lost = lacking - (scenario + basis)
    asked_maintenance = row_sums(start, asked.perp) + row_sums(start, asked.naked_short)
    asked_initial = row_sums(start, asked.perp_initial_extra)
    asked_initial += row_sums(start, asked.naked_short_initial_extra) + oracle
    return Margins(
        mark_to_market=portfolios.cash + options + unrealised + held.value,
        equity=portfolios.cash + options + unrealised + held.counted,
        initial_margin=factor * lost + asked_maintenance + asked_initial + held.initial_extra,
        maintenance_margin=found.mm_factor * lost + asked_maintenance,
        collateral_haircut=held.maintenance_haircut,
        initial=initial,
        maintenance=components(found.mm_factor),
        leg_initial=asked.leg_initial - leg_factor * results.leg_pnl,
        leg_maintenance=asked.leg_maintenance - found.mm_factor * results.leg_pnl,
        scenario_pnl=_by_portfolio(results.pnl, by_portfolio),
    )


def scenario_parts(portfolios: Portfolios, account: int, ruleset: RuleSet) -> tuple[Part, ...]:
    """The parts of one portfolio: what it has, its worst scenario by name, each contingency."""
    one = portfolios.between(account, account + 1)
    return _parts(one, _calculate(one, ruleset), ruleset)


def parts_and_worst(
    portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
) -> tuple[tuple[Part, ...], tuple[RankedScenario, ...]]:
    """`scenario_parts` and `worst_scenarios` of one account, revalued once."""
    one = portfolios.between(account, account + 1)
    found = _calculate(one, ruleset)
    return _parts(one, found, ruleset), _ranked(one, found, ruleset, count)


def _parts(one: Portfolios, found: _Calculation, ruleset: RuleSet) -> tuple[Part, ...]:
    cash = float(one.cash[0])
    parts = [Part("cash", "", cash, cash)]
    for leg, name in enumerate(one.name):
        is_option = one.kind[leg] == OPTION
        worth = float(found.results.value[leg] if is_option else one.unrealised[leg])
        if worth != 0.0:
            kind = "option value" if is_option else "unrealised profit and loss"
            parts.append(Part(kind, name, worth, worth))
    parts += found.held.parts(one, 0)
    parts += _worst_parts(one, found, ruleset)
    asked = found.asked
    for kind, least, extra in (
        ("perp contingency", asked.perp, asked.perp_initial_extra),
        ("naked short options", asked.naked_short, asked.naked_short_initial_extra),
        ("oracle confidence", np.zeros_like(asked.oracle), asked.oracle),
    ):
        parts += [
            Part(kind, name, -float(least[leg] + extra[leg]), -float(least[leg]))
            for leg, name in enumerate(one.name)
            if least[leg] != 0.0 or extra[leg] != 0.0
        ]
    first = one.collateral.start[0]
    parts += [
        Part("oracle confidence", one.collateral.asset[first + b], -float(amount), 0.0)
        for b, amount in enumerate(asked.oracle_of_balance)
        if amount != 0.0
    ]
    return tuple(parts)


def worst_scenarios(
    portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
) -> tuple[RankedScenario, ...]:
    """The `count` worst scenarios of one account by name, the worst first, of equals the first in
    the grid; the basis contingency is one of them."""
    one = portfolios.between(account, account + 1)
    return _ranked(one, _calculate(one, ruleset), ruleset, count)


def _ranked(
    one: Portfolios, found: _Calculation, ruleset: RuleSet, count: int
) -> tuple[RankedScenario, ...]:
    names = [*(scenario_name(row) for row in ruleset.scenarios.grid), BASIS]
    ranked = [
        RankedScenario(name, _underlying(one, found.units, unit), float(pnl))
        for unit in range(len(found.results.basis))
        for name, pnl in zip(
            names, [*found.results.pnl[unit], found.results.basis[unit]], strict=True
        )
    ]
    return tuple(sorted(ranked, key=lambda one: one.pnl)[:count])


def _calculate(portfolios: Portfolios, ruleset: RuleSet) -> _Calculation:
    rules = ruleset.scenarios
    units = units_of(portfolios, ruleset)
    held = collateral_values(portfolios)
    return _Calculation(
        units=units,
        held=held,
        results=scenario_results(portfolios, units, held, ruleset),
        asked=contingencies(portfolios, units, held, rules),
        im_factor=rules.im_factor,
        peg_factor=np.maximum(rules.peg_threshold - portfolios.stable_price, 0.0)
        * rules.peg_factor,
        mm_factor=rules.mm_factor,
    )


def _worst_parts(one: Portfolios, found: _Calculation, ruleset: RuleSet) -> list[Part]:
    results, grid = found.results, ruleset.scenarios.grid
    peg = float(found.peg_factor[0])
    parts = []
    for unit, worst in enumerate(results.worst):
        if worst == NOTHING and results.delta_floor[unit] == 0.0:
            continue
        name = _underlying(one, found.units, unit)
        lost, lacking = float(results.worst_pnl[unit]), float(results.delta_floor[unit])
        if worst != NOTHING:
            kind = BASIS if worst == len(grid) else scenario_name(grid[worst])
            parts.append(Part(kind, name, found.im_factor * lost, found.mm_factor * lost))
        if lacking > 0.0:
            parts.append(
                Part(
                    "least for deltas", name, -found.im_factor * lacking, -found.mm_factor * lacking
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
