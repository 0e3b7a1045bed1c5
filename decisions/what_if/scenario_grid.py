"""Headroom and probability of a call of one account over many shocks of the market."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decisions.book_scoring import DecisionBasis, forecast_probability, value_book
from decisions.what_if.changes import trade_prices
from decisions.what_if.shocks import enter_before_shock, shock_market
from margin.book.account_requirement import concatenate_requirements
from margin.what_if.shocks import Shocks
from market.accounts.book import Account, Book
from market.core.arrays import Floats


@dataclass(frozen=True, slots=True)
class ScenarioGrid:
    """Figures of an account in C shocked markets.

    Attributes
    ----------
    headroom:
        As the decision in each market has it, shape (C,); NaN where the account cannot be valued.
    probability:
        Of a call within each horizon of the model, shape (C, H); NaN where the model does not
        answer; H is 0 without a model or where it was not asked.
    """

    headroom: Floats
    probability: Floats


def scenario_grid(
    account: Account, scenarios: Sequence[Shocks], basis: DecisionBasis, *, probability: bool
) -> ScenarioGrid:
    """Value an account in every scenario, and ask the model once for all of them.

    Each market is that of `decisions.what_if.shocks.shock_market`; the figures are those of the
    decision in it to the last bit.

    Parameters
    ----------
    account:
        As it stands before the shocks.
    scenarios:
        One or more.
    basis:
        Market before the shocks, rules and model.
    probability:
        Whether to ask the model.

    Raises
    ------
    RequestError
        A scenario names what is not in the market.
    """
    view = basis.snapshot.view()
    entered = enter_before_shock({"": account}, trade_prices(view, basis.ruleset))
    book = Book.of([entered[""]])
    valuations = [
        value_book(book, shock_market(basis.snapshot, shocks).view(), basis.ruleset)
        for shocks in scenarios
    ]
    headroom = np.array([float(one.column("headroom")[0]) for one in valuations])
    if basis.model is None or not probability:
        return ScenarioGrid(headroom, np.empty((len(scenarios), 0)))
    every = concatenate_requirements([one.last_good for one in valuations])
    return ScenarioGrid(headroom, forecast_probability(every, basis.model, basis.snapshot))
