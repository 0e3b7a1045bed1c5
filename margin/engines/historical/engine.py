"""The historical simulation as an engine: portfolios in, margins in components out."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import Portfolios, row_sums
from margin.engines.base import Engine
from margin.engines.historical.losses import Losses, simulated_losses, tail_length
from margin.engines.historical.positions import ShockedPositions, shocked_positions
from margin.engines.historical.rules import (
    SimulationRules,
    StressedObservationRules,
    check_emir_simulation,
)
from margin.engines.historical.scenarios import Scenarios, ScenarioSet, historical_scenarios
from margin.engines.margins import Margins, Part, RankedScenario
from margin.rules.ruleset import RuleSet
from margin.valuation.collateral import collateral_values
from market.bars.daily_closes import DailyCloses, empty_daily_closes
from market.core.clock import format_time
from market.core.errors import CaseError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SimulatedMargin:
    """The simulated margin of N portfolios in parts that add up to it.

    Attributes
    ----------
    current:
        Losses at the volatility of now.
    measure:
        What the measure against procyclicality adds, shape (N,).
    leg:
        Margin of each leg, shape (L,).
    """

    current: Losses
    measure: Floats
    leg: Floats

    @property
    def margin(self) -> Floats:
        """Maintenance margin of the simulation, shape (N,), never negative."""
        return self.current.total + self.measure


class HistoricalEngine(Engine):
    """Margin from the losses that the past would bring today."""

    name = "scenario"
    table = "simulation"
    rules = SimulationRules
    needs_daily_history = True

    def margins(self, portfolios: Portfolios, ruleset: RuleSet) -> Margins:
        r"""Margins by historical simulation.

        With M the losses of `margin.engines.historical.losses.simulated_losses` in the current
        scenarios of `margin.engines.historical.scenarios.historical_scenarios`, the measure of
        Article 28(1) that is on makes of it

        * (a) ``M * (1 + buffer * remaining(stress))``, see `margin.floors.stressed_buffer`;
        * (b) ``(1 - weight) * M + weight * max(M, M of the stressed observations)``;
        * (c) ``max(M, M at the volatility of ten years)``.

        Net maintenance margin = cash + unrealised profit and loss + option value + collateral
        after haircuts − that; the initial margin takes `initial_multiple` of it. A leg takes its
        losses in the scenarios that make the margin, so that legs add up to it, apart from
        collateral that is shocked with its underlying.

        Raises
        ------
        CaseError
            The portfolios bring no history.

        References
        ----------
        Commission Delegated Regulation (EU) No 153/2013, Articles 24 to 28.
        """
        rules = ruleset.engine_rules(SimulationRules)
        positions, found, _ = _simulate(portfolios, rules)
        start, legs = portfolios.start, len(portfolios.kind)
        held = collateral_values(portfolios)
        pnl = row_sums(start, portfolios.unrealised)
        value = row_sums(start, positions.option_values(legs))
        extra = rules.initial_multiple - 1.0

        def components(haircut: Floats) -> dict[str, Floats]:
            return {
                "cash": portfolios.cash,
                "unrealised_pnl": pnl,
                "option_value": value,
                "collateral": held.value,
                "collateral_haircut": 0.0 - haircut,
                "simulated_loss": 0.0 - found.current.joint,
                "limited_offset": found.current.joint - found.current.netted,
                "unknown_history": 0.0 - found.current.unknown,
                "anti_procyclicality": 0.0 - found.measure,
            }

        return Margins(
            mark_to_market=portfolios.cash + pnl + value + held.value,
            equity=portfolios.cash + pnl + value + held.counted,
            initial_margin=rules.initial_multiple * found.margin + held.initial_extra,
            maintenance_margin=found.margin,
            collateral_haircut=held.maintenance_haircut,
            initial=components(held.initial_haircut)
            | {"initial_extra": 0.0 - extra * found.margin},
            maintenance=components(held.maintenance_haircut),
            leg_initial=rules.initial_multiple * found.leg,
            leg_maintenance=found.leg,
        )

    def parts(self, portfolios: Portfolios, account: int, ruleset: RuleSet) -> tuple[Part, ...]:
        """Cash, profits, option values, collateral, and of the margin the historical periods that
        it comes from, by their dates."""
        rules = ruleset.engine_rules(SimulationRules)
        positions, found, scenarios = _simulate(portfolios, rules)
        cash = float(portfolios.cash[account])
        parts = [Part("cash", "", cash, cash)]
        values = positions.option_values(len(portfolios.kind))
        for leg in range(portfolios.start[account], portfolios.start[account + 1]):
            name, pnl = portfolios.name[leg], float(portfolios.unrealised[leg])
            if pnl != 0.0:
                parts.append(Part("unrealised profit and loss", name, pnl, pnl))
            if values[leg] != 0.0:
                parts.append(Part("option value", name, float(values[leg]), float(values[leg])))
        parts += collateral_values(portfolios).parts(portfolios, account)

        def margin(name: str, amount: float) -> None:
            if amount != 0.0:
                parts.append(Part(name, "", -rules.initial_multiple * amount, -amount))

        current = found.current
        for name, amount in _periods(current, account, scenarios.current, rules):
            margin(name, amount)
        margin(
            f"offset between underlyings beyond {rules.offset_cap:.0%} of their difference",
            float(current.netted[account] - current.joint[account]),
        )
        margin(
            f"flat shock of {rules.unknown_move:.0%} or worse for want of history",
            float(current.unknown[account]),
        )
        margin(_measure_in_words(rules, scenarios), float(found.measure[account]))
        return tuple(parts)

    def worst_scenarios(
        self, portfolios: Portfolios, account: int, ruleset: RuleSet, count: int
    ) -> tuple[RankedScenario, ...]:
        """The worst periods by their dates: of the current scenarios as many as the tail of the
        measure holds."""
        rules = msgspec.structs.replace(ruleset.engine_rules(SimulationRules), measure="es")
        one = portfolios.between(account, account + 1)
        scenarios = historical_scenarios(_history(one), ruleset.engine_rules(SimulationRules))
        found = simulated_losses(
            shocked_positions(one),
            len(one.kind),
            _columns(one, _history(one)),
            scenarios.current,
            rules,
        )
        rows = found.tail_row[0][found.tail_row[0] >= 0]
        held = dict.fromkeys(one.underlyings.name[row] for row in one.underlying.tolist())
        return tuple(
            RankedScenario(
                _period(scenarios.current, row, rules),
                ", ".join(held),
                -len(rows) * float(found.tail_loss[0, k]),
            )
            for k, row in enumerate(rows.tolist()[:count])
        )

    def emir_measures(self, ruleset: RuleSet) -> tuple[str, ...]:
        rules = ruleset.engine_rules(SimulationRules)
        check_emir_simulation(rules)
        return tuple(f"{self.table}.{name}" for name in rules.measures())


def _simulate(
    portfolios: Portfolios, rules: SimulationRules
) -> tuple[ShockedPositions, SimulatedMargin, Scenarios]:
    history = _history(portfolios)
    scenarios = historical_scenarios(history, rules)
    positions = shocked_positions(portfolios)
    column = _columns(portfolios, history)

    def losses(moves: ScenarioSet) -> Losses:
        return simulated_losses(positions, len(portfolios.kind), column, moves, rules)

    current = losses(scenarios.current)
    margin, leg = current.total, current.leg
    measured, measured_leg = margin, leg
    if scenarios.buffer_share > 0.0 and rules.buffer:
        factor = 1.0 + rules.buffer.buffer * scenarios.buffer_share
        measured, measured_leg = factor * margin, factor * leg
    elif scenarios.stressed is not None and isinstance(
        rules.stressed_weight, StressedObservationRules
    ):
        weight = rules.stressed_weight.weight
        worse, worse_leg = _larger(portfolios, current, losses(scenarios.stressed))
        measured = (1.0 - weight) * margin + weight * worse
        measured_leg = (1.0 - weight) * leg + weight * worse_leg
    elif scenarios.long is not None:
        measured, measured_leg = _larger(portfolios, current, losses(scenarios.long))
    return positions, SimulatedMargin(current, measured - margin, measured_leg), scenarios


def _larger(portfolios: Portfolios, first: Losses, second: Losses) -> tuple[Floats, Floats]:
    """The larger of two margins of each portfolio, and the legs of it."""
    more = second.total > first.total
    owner = np.repeat(np.arange(len(portfolios)), np.diff(portfolios.start))
    return np.where(more, second.total, first.total), np.where(more[owner], second.leg, first.leg)


def _history(portfolios: Portfolios) -> DailyCloses:
    if portfolios.history is not None:
        return portfolios.history
    if len(portfolios.kind) == 0 and not portfolios.collateral.risk_cancelling.any():
        return empty_daily_closes(())
    raise CaseError(
        "the rule set simulates history and none is given; add to the portfolio "
        '"history": {"until": "2025-06-01T00:00:00Z", "closes": {"BTC": [...]}}, the daily closes '
        "of each underlying up to then, or score against a market of bars"
    )


def _columns(portfolios: Portfolios, history: DailyCloses) -> Ints:
    """Column of each underlying in the history; X is that of symbol X, else XUSDT, else −1."""
    at = {symbol: i for i, symbol in enumerate(history.symbols)}
    names = portfolios.underlyings.name
    return np.array([at.get(name, at.get(f"{name}USDT", -1)) for name in names], dtype=np.int64)


def _periods(
    losses: Losses, account: int, moves: ScenarioSet, rules: SimulationRules
) -> list[tuple[str, float]]:
    """Each historical period behind the joint loss, in words, and what it makes of it."""
    rows = losses.tail_row[account]
    count = int((rows >= 0).sum())
    if not count:
        return [("losses of each underlying apart", float(losses.joint[account]))]
    of = f"of {losses.used[account]} scenarios"
    worst = tail_length(int(losses.used[account]), rules.confidence)
    rank = f"1 of the {count} worst {of}" if rules.measure == "es" else f"number {worst} {of}"
    return [
        (f"{_period(moves, int(rows[k]), rules)}, {rank}", float(losses.tail_loss[account, k]))
        for k in range(count)
    ]


def _period(moves: ScenarioSet, row: int, rules: SimulationRules) -> str:
    days = "day" if rules.period_days == 1 else f"{rules.period_days} days"
    return f"the {days} to {format_time(int(moves.ended[row]))}"


def _measure_in_words(rules: SimulationRules, scenarios: Scenarios) -> str:
    if scenarios.long is not None:
        return "as much again as the volatility of ten years asks"
    if scenarios.stressed is not None:
        return "weight of the stressed observations"
    return f"buffer, {scenarios.buffer_share:.1%} of it left at a stress of {scenarios.stress:.2f}"
