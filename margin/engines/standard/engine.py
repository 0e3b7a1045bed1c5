"""The standard engine: what `standard` computes, in the form that every engine answers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, Portfolios, row_sums
from margin.engines.margins import Margins
from margin.engines.standard.breakdown import Breakdown, break_down
from margin.engines.standard.expiry_margin import ExpiryMargins
from margin.rules.ruleset import RuleSet

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def standard_margins(portfolios: Portfolios, ruleset: RuleSet) -> Margins:
    """Margins under the standard rules, see `margin.engines.standard`.

    Components: ``cash``, ``unrealised_pnl``, ``perp_margin``; of expiries that the isolated sum
    decides ``option_value`` and ``option_margin``, of the others ``max_loss`` and
    ``unpaired_calls``; ``base_collateral`` and other ``collateral`` after haircuts; ``depeg`` and
    ``perp_confidence``, ``option_confidence``, ``base_confidence``, which maintenance has at 0.

    `mark_to_market` counts long options at their mark, whatever the margin does.

    Raises
    ------
    InstrumentError
        A leg has no price, or is not of the coin in which the account settles.
    RuleSetError
        The rule set is of another engine.
    """
    found = break_down(portfolios, ruleset)
    linear, options, collateral = found.linear, found.options, found.collateral
    start, balance_start = portfolios.start, portfolios.collateral.start
    positions = portfolios.cash + row_sums(start, linear.pnl) + row_sums(start, options.value)
    extra = found.extra.depeg + found.extra.confidence
    initial_margin = row_sums(start, linear.initial + extra) + _option_requirement(
        portfolios,
        options,
        options.leg_initial,
        options.initial_by_loss,
        options.unpaired_initial,
    )
    initial_margin += row_sums(
        balance_start, collateral.maintenance - collateral.initial + collateral.confidence
    )
    maintenance_margin = row_sums(start, linear.maintenance) + _option_requirement(
        portfolios,
        options,
        options.leg_maintenance,
        options.maintenance_by_loss,
        options.unpaired_maintenance,
    )
    return Margins(
        mark_to_market=positions + row_sums(balance_start, collateral.value),
        equity=positions + row_sums(balance_start, collateral.maintenance),
        initial_margin=initial_margin,
        maintenance_margin=maintenance_margin,
        collateral_haircut=row_sums(balance_start, collateral.value - collateral.maintenance),
        initial=_components(
            portfolios,
            found,
            linear.initial,
            options.leg_initial,
            options.initial_by_loss,
            options.unpaired_initial,
            collateral.initial,
        )
        | _contingencies(portfolios, found),
        maintenance=_components(
            portfolios,
            found,
            linear.maintenance,
            options.leg_maintenance,
            options.maintenance_by_loss,
            options.unpaired_maintenance,
            collateral.maintenance,
        )
        | dict.fromkeys(CONTINGENCIES, np.zeros(len(portfolios))),
        leg_initial=linear.initial + (options.value - options.leg_initial) + extra,
        leg_maintenance=linear.maintenance + (options.value - options.leg_maintenance),
    )


def _option_requirement(
    portfolios: Portfolios,
    options: ExpiryMargins,
    leg_net: Floats,
    by_loss: Bools,
    unpaired: Floats,
) -> Floats:
    """Margin of the options of N portfolios: their mark value less their net margin, (N,)."""
    in_loss = options.legs_by_loss(by_loss)
    legs = np.where(in_loss, options.value, options.value - leg_net)
    loss = np.where(by_loss, options.worst_payoff + unpaired, 0.0)
    return row_sums(portfolios.start, legs) - row_sums(options.start, loss)


CONTINGENCIES = ("depeg", "perp_confidence", "option_confidence", "base_confidence")
"""Components of the initial margin alone."""


def _components(
    portfolios: Portfolios,
    found: Breakdown,
    linear_margin: Floats,
    leg_net: Floats,
    by_loss: Bools,
    unpaired: Floats,
    credit: Floats,
) -> dict[str, Floats]:
    options, collateral = found.options, found.collateral
    start, balance_start = portfolios.start, portfolios.collateral.start
    in_loss = options.legs_by_loss(by_loss)
    counted = np.where(in_loss, 0.0, options.counted)
    isolated = np.where(in_loss, 0.0, leg_net - options.counted)
    return {
        "cash": portfolios.cash,
        "unrealised_pnl": row_sums(start, found.linear.pnl),
        "perp_margin": 0.0 - row_sums(start, linear_margin),
        "option_value": row_sums(start, counted),
        "option_margin": row_sums(start, isolated),
        "max_loss": row_sums(options.start, np.where(by_loss, options.worst_payoff, 0.0)),
        "unpaired_calls": row_sums(options.start, np.where(by_loss, unpaired, 0.0)),
        "base_collateral": row_sums(balance_start, np.where(collateral.base, credit, 0.0)),
        "collateral": row_sums(balance_start, np.where(collateral.base, 0.0, credit)),
    }


def _contingencies(portfolios: Portfolios, found: Breakdown) -> dict[str, Floats]:
    option = portfolios.kind == OPTION
    doubt = found.extra.confidence
    charges = (
        row_sums(portfolios.start, found.extra.depeg),
        row_sums(portfolios.start, np.where(option, 0.0, doubt)),
        row_sums(portfolios.start, np.where(option, doubt, 0.0)),
        row_sums(portfolios.collateral.start, found.collateral.confidence),
    )
    return {name: 0.0 - charge for name, charge in zip(CONTINGENCIES, charges, strict=True)}
