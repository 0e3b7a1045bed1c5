"""The standard engine: margins of N portfolios and their parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import (
    OPTION,
    PERP,
    CollateralBalances,
    Portfolios,
    Underlyings,
    row_sums,
)
from margin.engines.base import Engine
from margin.engines.margins import Margins, Part
from margin.engines.standard.breakdown import Breakdown, break_down
from margin.engines.standard.rules import StandardRules
from margin.rules.ruleset import RuleSet

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


CONTINGENCIES = ("depeg", "perp_confidence", "option_confidence", "base_confidence")
"""Components of the initial margin alone."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One of the two margins of N portfolios, in the terms of `Breakdown`."""

    linear: Floats
    legs: Floats
    by_loss: Bools
    unpaired: Floats
    collateral: Floats


class StandardEngine(Engine):
    """Rule margin, position by position, with the loss of an expiry as a bound."""

    name = "standard"
    table = "standard"
    rules = StandardRules
    discounts_options = False

    def margins(self, portfolios: Portfolios, ruleset: RuleSet) -> Margins:
        """Margins under the standard rules, see `margin.engines.standard`.

        Components: ``cash``, ``unrealised_pnl``, ``perp_margin``; of expiries that the isolated
        sum decides ``option_value`` and ``option_margin``, of the others ``max_loss`` and
        ``unpaired_calls``; ``base_collateral`` and other ``collateral`` after haircuts; ``depeg``
        and ``perp_confidence``, ``option_confidence``, ``base_confidence``, which maintenance has
        at 0.

        `mark_to_market` counts long options at their mark, whatever the margin does.

        Raises
        ------
        InstrumentError
            A leg has no price, or is not of the coin in which the account settles.
        """
        breakdown = break_down(portfolios, ruleset)
        linear, options, collateral = breakdown.linear, breakdown.options, breakdown.collateral
        start, balance_start = portfolios.start, portfolios.collateral.start
        initial, maintenance = _levels(breakdown)
        positions = portfolios.cash + row_sums(start, linear.pnl) + row_sums(start, options.value)
        extra = breakdown.extra.depeg + breakdown.extra.confidence
        lacking = collateral.maintenance - collateral.initial + collateral.confidence
        return Margins(
            mark_to_market=positions + row_sums(balance_start, collateral.value),
            equity=positions + row_sums(balance_start, collateral.maintenance),
            initial_margin=row_sums(start, linear.initial + extra)
            + _option_requirement(portfolios, breakdown, initial)
            + row_sums(balance_start, lacking),
            maintenance_margin=row_sums(start, linear.maintenance)
            + _option_requirement(portfolios, breakdown, maintenance),
            collateral_haircut=row_sums(balance_start, collateral.value - collateral.maintenance),
            initial=_components(portfolios, breakdown, initial)
            | _contingencies(portfolios, breakdown),
            maintenance=_components(portfolios, breakdown, maintenance)
            | dict.fromkeys(CONTINGENCIES, np.zeros(len(portfolios))),
            leg_initial=linear.initial + (options.value - options.leg_initial) + extra,
            leg_maintenance=linear.maintenance + (options.value - options.leg_maintenance),
        )

    def parts(self, portfolios: Portfolios, account: int, ruleset: RuleSet) -> tuple[Part, ...]:
        """The parts of one portfolio.

        An expiry has ``isolated sum`` or ``max loss at`` the settlement price and ``unpaired
        calls`` with their number; where initial and maintenance margin are decided differently it
        has both.
        """
        breakdown = break_down(portfolios, ruleset)
        cash = float(portfolios.cash[account])
        return (
            Part("cash", "", cash, cash),
            *_linear_parts(portfolios, breakdown, account),
            *_expiry_parts(portfolios, breakdown, account),
            *_collateral_parts(portfolios, breakdown, account),
            *_depeg_parts(portfolios, breakdown, account),
            *_confidence_parts(portfolios, breakdown, account),
        )

    def collateral_haircuts(
        self, balances: CollateralBalances, underlyings: Underlyings, ruleset: RuleSet
    ) -> Floats:
        """A coin of an underlying has its ``base_factor`` in the haircut's place."""
        rules = ruleset.engine_rules(StandardRules)
        haircut = super().collateral_haircuts(balances, underlyings, ruleset)
        factor = np.array([rules.figure("base_factor", name) for name in (*underlyings.name, "")])
        base = (balances.underlying >= 0) & ~balances.cash
        return np.where(base, np.clip(1.0 - factor[balances.underlying], 0.0, 1.0), haircut)

    def settles_in_coin(self, ruleset: RuleSet) -> bool:
        return ruleset.engine_rules(StandardRules).settlement == "coin"


def _levels(breakdown: Breakdown) -> tuple[_Level, _Level]:
    """Initial and maintenance margin."""
    linear, options, collateral = breakdown.linear, breakdown.options, breakdown.collateral
    return (
        _Level(
            linear.initial,
            options.leg_initial,
            options.initial_by_loss,
            options.unpaired_initial,
            collateral.initial,
        ),
        _Level(
            linear.maintenance,
            options.leg_maintenance,
            options.maintenance_by_loss,
            options.unpaired_maintenance,
            collateral.maintenance,
        ),
    )


def _option_requirement(portfolios: Portfolios, breakdown: Breakdown, level: _Level) -> Floats:
    """Margin of the options of N portfolios: their mark value less their net margin, (N,)."""
    options = breakdown.options
    in_loss = options.legs_by_loss(level.by_loss)
    legs = np.where(in_loss, options.value, options.value - level.legs)
    loss = np.where(level.by_loss, options.worst_payoff + level.unpaired, 0.0)
    return row_sums(portfolios.start, legs) - row_sums(options.start, loss)


def _components(portfolios: Portfolios, breakdown: Breakdown, level: _Level) -> dict[str, Floats]:
    options, base = breakdown.options, breakdown.collateral.base
    start, balance_start = portfolios.start, portfolios.collateral.start
    in_loss = options.legs_by_loss(level.by_loss)
    counted = np.where(in_loss, 0.0, options.counted)
    isolated = np.where(in_loss, 0.0, level.legs - options.counted)
    return {
        "cash": portfolios.cash,
        "unrealised_pnl": row_sums(start, breakdown.linear.pnl),
        "perp_margin": 0.0 - row_sums(start, level.linear),
        "option_value": row_sums(start, counted),
        "option_margin": row_sums(start, isolated),
        "max_loss": row_sums(options.start, np.where(level.by_loss, options.worst_payoff, 0.0)),
        "unpaired_calls": row_sums(options.start, np.where(level.by_loss, level.unpaired, 0.0)),
        "base_collateral": row_sums(balance_start, np.where(base, level.collateral, 0.0)),
        "collateral": row_sums(balance_start, np.where(base, 0.0, level.collateral)),
    }


def _contingencies(portfolios: Portfolios, breakdown: Breakdown) -> dict[str, Floats]:
    option = portfolios.kind == OPTION
    doubt = breakdown.extra.confidence
    charges = (
        row_sums(portfolios.start, breakdown.extra.depeg),
        row_sums(portfolios.start, np.where(option, 0.0, doubt)),
        row_sums(portfolios.start, np.where(option, doubt, 0.0)),
        row_sums(portfolios.collateral.start, breakdown.collateral.confidence),
    )
    return {name: 0.0 - charge for name, charge in zip(CONTINGENCIES, charges, strict=True)}


def _linear_parts(portfolios: Portfolios, breakdown: Breakdown, account: int) -> Iterator[Part]:
    linear = breakdown.linear
    for leg in _legs(portfolios, account):
        if portfolios.kind[leg] == OPTION:
            continue
        name, pnl = portfolios.name[leg], float(linear.pnl[leg])
        if pnl != 0.0:
            yield Part("unrealised profit and loss", name, pnl, pnl)
        initial, maintenance = float(linear.initial[leg]), float(linear.maintenance[leg])
        yield Part("perp margin", name, 0.0 - initial, 0.0 - maintenance)


def _expiry_parts(portfolios: Portfolios, breakdown: Breakdown, account: int) -> Iterator[Part]:
    options = breakdown.options
    for g in range(options.start[account], options.start[account + 1]):
        legs = slice(options.begin[g], options.end[g])
        subject = expiry_name(portfolios.name[options.begin[g]])
        by_loss = (bool(options.initial_by_loss[g]), bool(options.maintenance_by_loss[g]))
        sums = (float(options.leg_initial[legs].sum()), float(options.leg_maintenance[legs].sum()))
        if not all(by_loss):
            isolated = [0.0 if loss else amount for loss, amount in zip(by_loss, sums, strict=True)]
            yield Part("isolated sum", subject, *isolated)
        if any(by_loss):
            payoff = float(options.worst_payoff[g])
            lost = [payoff if loss else 0.0 for loss in by_loss]
            yield Part(f"max loss at {options.worst_price[g]:.12g}", subject, *lost)
            if options.unpaired_calls[g] < 0.0:
                costs = (options.unpaired_initial[g], options.unpaired_maintenance[g])
                paid = [
                    float(cost) if loss else 0.0 for loss, cost in zip(by_loss, costs, strict=True)
                ]
                yield Part(f"unpaired calls {options.unpaired_calls[g]:.12g}", subject, *paid)


def _collateral_parts(portfolios: Portfolios, breakdown: Breakdown, account: int) -> Iterator[Part]:
    balances, held = portfolios.collateral, breakdown.collateral
    for b in range(balances.start[account], balances.start[account + 1]):
        name = "base collateral" if held.base[b] else "collateral after haircut"
        yield Part(name, balances.asset[b], float(held.initial[b]), float(held.maintenance[b]))


def _depeg_parts(portfolios: Portfolios, breakdown: Breakdown, account: int) -> Iterator[Part]:
    charges: dict[int, float] = {}
    for leg in _legs(portfolios, account):
        row = int(portfolios.underlying[leg])
        charges[row] = charges.get(row, 0.0) + float(breakdown.extra.depeg[leg])
    price = portfolios.stable_price[account]
    for row, charge in charges.items():
        if charge != 0.0:
            name = portfolios.underlyings.name[row]
            yield Part(f"depeg, stable price {price:.12g}", name, 0.0 - charge, 0.0)


def _confidence_parts(portfolios: Portfolios, breakdown: Breakdown, account: int) -> Iterator[Part]:
    for leg in _legs(portfolios, account):
        charge = float(breakdown.extra.confidence[leg])
        if charge != 0.0:
            feed, trust = _least_trusted(portfolios, leg)
            kind = "option" if portfolios.kind[leg] == OPTION else "perp"
            name = f"low {kind} confidence: {feed} {trust:.12g}"
            yield Part(name, portfolios.name[leg], 0.0 - charge, 0.0)
    balances = portfolios.collateral
    for b in range(balances.start[account], balances.start[account + 1]):
        charge = float(breakdown.collateral.confidence[b])
        if charge != 0.0:
            trust = portfolios.underlyings.spot_confidence[balances.underlying[b]]
            name = f"low base confidence: spot {trust:.12g}"
            yield Part(name, balances.asset[b], 0.0 - charge, 0.0)


def _least_trusted(portfolios: Portfolios, leg: int) -> tuple[str, float]:
    """The feed that a leg's confidence comes from; of equal ones the first."""
    row, expiry = portfolios.underlying[leg], portfolios.expiry[leg]
    feeds = {"spot": float(portfolios.underlyings.spot_confidence[row])}
    if portfolios.kind[leg] == PERP:
        feeds["perp"] = float(portfolios.underlyings.perp_confidence[row])
    elif portfolios.kind[leg] == OPTION:
        feeds["forward"] = float(portfolios.expiries.forward_confidence[expiry])
        feeds["vol"] = float(portfolios.expiries.vol_confidence[expiry])
    feed = min(feeds, key=feeds.__getitem__)
    return feed, feeds[feed]


def expiry_name(option: str) -> str:
    """The name of an option without strike and type: ``BTC-27MAR26`` of
    ``BTC-27MAR26-60000-C``."""
    return option.rsplit("-", 2)[0]


def _legs(portfolios: Portfolios, account: int) -> range:
    return range(portfolios.start[account], portfolios.start[account + 1])
