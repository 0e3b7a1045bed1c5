"""The terms that the standard margins are summed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.engines.standard.base_collateral import BaseCollateral, base_collateral
from margin.engines.standard.contingencies import Contingencies, contingencies
from margin.engines.standard.expiry_margin import ExpiryMargins, expiry_margins
from margin.engines.standard.linear_margin import LinearMargins, linear_margins
from margin.engines.standard.option_margin import option_marks
from margin.engines.standard.rules import FiguresByName, StandardRules
from margin.rules.ruleset import RuleSet
from market.core.errors import InstrumentError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Perps and spot, options by expiry, collateral and contingencies of N portfolios."""

    figures: FiguresByName
    linear: LinearMargins
    options: ExpiryMargins
    collateral: BaseCollateral
    extra: Contingencies


def break_down(portfolios: Portfolios, ruleset: RuleSet) -> Breakdown:
    """Compute every part of the margins; raises as `StandardEngine.margins` does."""
    rules = ruleset.engine_rules(StandardRules)
    _check_priced(portfolios)
    figures = rules.figures(portfolios.underlyings.name)
    unit = settlement_unit(portfolios, rules)
    marks = option_marks(portfolios)
    return Breakdown(
        figures,
        linear_margins(portfolios, rules, figures, unit),
        expiry_margins(portfolios, rules, figures, unit, marks),
        base_collateral(portfolios, rules, figures, unit, ruleset.collateral),
        contingencies(portfolios, figures, unit),
    )


def settlement_unit(portfolios: Portfolios, rules: StandardRules) -> Floats:
    """Value of one unit of the settlement currency in the quote currency, shape (U,): 1, or the
    spot of the coin.

    Raises
    ------
    InstrumentError
        Settlement is in coin, and a portfolio has positions or collateral of more than one of them.
    """
    if rules.settlement == "quote":
        return np.ones(len(portfolios.underlyings.name))
    balances = portfolios.collateral
    counts = (np.diff(portfolios.start), np.diff(balances.start))
    legs, balance_owner = (np.repeat(np.arange(len(portfolios)), count) for count in counts)
    owner = np.concatenate([legs, balance_owner[~balances.cash]])
    row = np.concatenate([portfolios.underlying, balances.underlying[~balances.cash]])
    coin = np.full(len(portfolios), -1)
    coin[owner[::-1]] = row[::-1]  # of several the first stays
    wrong = np.flatnonzero((row != coin[owner]) | (row < 0))
    if len(wrong):
        assets = [
            asset for asset, cash in zip(balances.asset, balances.cash, strict=True) if not cash
        ]
        name = (*portfolios.name, *assets)[wrong[0]]
        first = coin[owner[wrong[0]]]
        settles = "its coin" if first < 0 else portfolios.underlyings.name[first]
        raise InstrumentError(
            f"{name!r} is not of {settles}, in which the account settles; give an account for "
            "each coin, and collateral the underlying that it is",
            name,
        )
    return portfolios.underlyings.spot


def _check_priced(portfolios: Portfolios) -> None:
    """Raise `InstrumentError`, naming the leg, where a price that it needs is not above 0."""
    row = portfolios.underlying
    perp, option = portfolios.kind == PERP, portfolios.kind == OPTION
    forward = np.ones(len(row))
    forward[option] = portfolios.expiries.forward[portfolios.expiry[option]]
    needed = (
        ("spot", portfolios.underlyings.spot[row]),
        ("perp_price", np.where(perp, portfolios.underlyings.perp_price[row], 1.0)),
        ("forward", forward),
        ("strike", np.where(option, portfolios.strike, 1.0)),
    )
    for key, price in needed:
        _check_valid(portfolios, key, price, "a price above 0", (price > 0.0) & np.isfinite(price))
    vol = np.where(option, portfolios.vol, 0.0)
    _check_valid(portfolios, "vol", vol, "0 or more", (vol >= 0.0) & np.isfinite(vol))


def _check_valid(
    portfolios: Portfolios, key: str, values: Floats, expected: str, valid: npt.NDArray[np.bool_]
) -> None:
    wrong = np.flatnonzero(~valid)
    if len(wrong):
        name = portfolios.name[wrong[0]]
        raise InstrumentError(f"{name!r} has {key} {values[wrong[0]]}; expected {expected}", name)
