"""The figures of a portfolio after a change, and the marginal requirement of each position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from margin.book.case_batch import flatten
from margin.book.case_portfolio import Holding, Portfolio
from margin.engines.margins import Margins
from margin.engines.registry import compute_margins
from margin.rules.ruleset import RuleSet
from margin.what_if.trades import Change, apply_trades, coin_settled
from market.core.arrays import Floats


@dataclass(frozen=True, slots=True)
class Outcome:
    """A portfolio and its figures, settlement currency, unrounded.

    `initial_requirement` and `maintenance_requirement` are what the rules take from
    `mark_to_market`, margins and haircuts of maintenance: the net margins are what is left.
    """

    portfolio: Portfolio
    mark_to_market: float
    initial_net_margin: float
    maintenance_net_margin: float
    initial_requirement: float
    maintenance_requirement: float


@dataclass(frozen=True, slots=True)
class MarginalRequirement:
    """What one position adds to the requirement: with it less without it; negative: it hedges."""

    instrument: str
    initial: float
    maintenance: float


def outcome(portfolio: Portfolio, ruleset: RuleSet) -> Outcome:
    """The figures of a portfolio as it is."""
    return outcomes(portfolio, [Change()], ruleset)[0]


def outcomes(
    portfolio: Portfolio, changes: Sequence[Change], ruleset: RuleSet
) -> tuple[Outcome, ...]:
    """The figures of a portfolio after each of some changes; the portfolio stays as it is.

    A trade at the mark leaves the mark-to-market as it is: cash pays what a bought option is
    worth, and takes what a closed position has gained. All changes are margined in one go.

    Parameters
    ----------
    portfolio:
        Checked, see `margin.book.case_portfolio.check_portfolio`.
    changes:
        Each on its own, from the portfolio as it is.
    ruleset:
        The rules.

    Raises
    ------
    CaseError, InstrumentError
        A changed portfolio cannot be valued.
    """
    in_coin = coin_settled(ruleset)
    changed = [apply_trades(portfolio, change.trades, in_coin=in_coin) for change in changes]
    margins = _margins([portfolio, *changed], ruleset)
    value = margins.mark_to_market
    deposits = np.array([change.deposit for change in changes])
    paid = deposits - (value[1:] - value[0])
    columns = (
        value[1:] + paid,
        margins.initial_net[1:] + paid,
        margins.maintenance_net[1:] + paid,
        (margins.initial_margin + margins.collateral_haircut)[1:],
        (margins.maintenance_margin + margins.collateral_haircut)[1:],
    )
    return tuple(
        Outcome(msgspec.structs.replace(other, cash=other.cash + added), *row)
        for other, added, row in zip(
            changed, paid.tolist(), np.column_stack(columns).tolist(), strict=True
        )
    )


def marginal_requirements(
    portfolio: Portfolio, ruleset: RuleSet
) -> tuple[MarginalRequirement, ...]:
    """What each position adds to the requirement of the portfolio, in the order given.

    Each is closed at its mark in turn, the others held. The figures do not add up to the
    requirement where positions offset each other.
    """
    closing = [Change(trades=(closing_trade(position),)) for position in portfolio.positions]
    now, *without = outcomes(portfolio, [Change(), *closing], ruleset)
    return tuple(
        MarginalRequirement(
            position.name,
            now.initial_requirement - other.initial_requirement,
            now.maintenance_requirement - other.maintenance_requirement,
        )
        for position, other in zip(portfolio.positions, without, strict=True)
    )


def closing_trade(position: Holding, share: float = 1.0) -> Holding:
    """The trade that closes a share of a position."""
    return msgspec.structs.replace(position, quantity=-share * position.quantity)


def margins_of(
    portfolios: Sequence[Portfolio], ruleset: RuleSet
) -> list[tuple[float, float, float]]:
    """Mark-to-market, net initial and net maintenance margin of each portfolio."""
    margins = _margins(portfolios, ruleset)
    columns: tuple[Floats, ...] = (
        margins.mark_to_market,
        margins.initial_net,
        margins.maintenance_net,
    )
    return [tuple(row) for row in np.column_stack(columns).tolist()]


def _margins(portfolios: Sequence[Portfolio], ruleset: RuleSet) -> Margins:
    with np.errstate(over="ignore", invalid="ignore"):  # whoever reads a figure checks it
        return compute_margins(flatten(portfolios, ruleset.collateral), ruleset)
