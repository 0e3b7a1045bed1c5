"""The parameters of the standard engine by underlying, and the unit that results are in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from margin.book.portfolio_batch import Portfolios
from margin.engines.standard.rules import FIGURES, StandardRules
from margin.rules.ruleset import RuleSet
from market.core.errors import InstrumentError, RuleSetError

Floats = npt.NDArray[np.float64]
Figures = Mapping[str, Floats]


def standard_rules(ruleset: RuleSet) -> StandardRules:
    """``[standard]``; raises `RuleSetError` where another engine computes."""
    if ruleset.standard is UNSET:
        raise RuleSetError(
            f"rule set {ruleset.name!r} has the engine {ruleset.engine!r}; choose one of the "
            "engine 'standard'"
        )
    return ruleset.standard


def underlying_figures(rules: StandardRules, names: tuple[str, ...]) -> Figures:
    """Every figure of U underlyings by its key, shape (U,) each."""
    own = {name: i for i, name in enumerate(dict.fromkeys(names))}
    row = np.array([own[name] for name in names], dtype=np.int64)
    return {
        key: np.array([rules.figure(key, name) for name in own], dtype=np.float64)[row]
        for key in FIGURES
    }


def settlement_unit(portfolios: Portfolios, rules: StandardRules) -> Floats:
    """What one unit of the settlement currency is worth in the quote currency, shape (U,): 1, or
    the spot of the coin.

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
