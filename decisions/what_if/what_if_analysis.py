"""What-if analysis of accounts as they stand: remedies, marginal requirements, largest sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from decisions.book_scoring import DecisionBasis, meets_opening_requirement
from decisions.errors import RequestError
from decisions.messages import AccountChange, PositionChange
from decisions.what_if.changes import apply_changes, trade_prices
from decisions.what_if.messages import (
    LargestIn,
    LargestOut,
    MarginalOut,
    PositionMarginal,
    RemediesOut,
    WhatIfRequest,
)
from margin.book.account_portfolio import account_portfolio
from margin.floors.depth import half_spreads
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from margin.what_if.outcome import marginal_requirements
from margin.what_if.remedies import find_remedies
from margin.what_if.sizing import search_largest, size_unit
from market.accounts.book import Account
from market.core.errors import CaseError, DataError, ModelError
from market.sources.http import AccountIn

MAX_WORK = 2_500
"""Most work of one call: the sum of the squared numbers of positions of its accounts. A remedy
margins some 200 portfolios for each position of an account, each with all its positions."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """Results in the order of the request; UNSET for what was not requested."""

    remedies: list[RemediesOut] | UnsetType
    marginal: list[MarginalOut] | UnsetType
    largest: list[LargestOut] | UnsetType


def check_analysis(request: WhatIfRequest) -> None:
    """Check that a request asks for something, not too much, and only about its own accounts.

    Raises
    ------
    RequestError
        It does not.
    """
    accounts = {account.account_id: account for account in request.accounts}
    of_all = request.target_headroom is not None or request.marginal
    if not (request.changes or request.shocks or request.largest or of_all):
        raise RequestError(
            "nothing is asked; give changes, shocks, target_headroom, marginal or largest, or post "
            "the accounts to /v1/score"
        )
    for kind, items in (("a change", request.changes), ("largest", request.largest)):
        for item in items:
            if item.account_id not in accounts:
                raise RequestError(
                    f"{kind} names account {item.account_id!r}, which is not among the accounts of "
                    "the request; add it there or leave it out"
                )
    named = {item.account_id for item in request.largest}
    work = _work(request.accounts if of_all else (accounts[name] for name in named))
    if work > MAX_WORK:
        raise RequestError(
            "target_headroom, marginal and largest are asked of too much at once: the squares of "
            f"the accounts' numbers of positions add up to {work}, and at most {MAX_WORK} are "
            "taken (25 accounts of 10 positions, one of 50); send fewer accounts a call"
        )


def check_size(request: WhatIfRequest, most: int) -> None:
    """Check that a request has no more accounts than are decided on, before and after, at once.

    With `explain` an account counts twice.

    Raises
    ------
    RequestError
        It has more.
    """
    size = len(request.accounts) * (2 if request.explain else 1)
    if size > most:
        raise RequestError(
            f"the request has {len(request.accounts)} accounts"
            f"{', which count twice with explain' if request.explain else ''}; at most {most} are "
            "taken in one what-if, send fewer a call"
        )


def analyse(
    request: WhatIfRequest, accounts: Mapping[str, Account], basis: DecisionBasis
) -> Analysis:
    """Analysis about accounts as they stand.

    Parameters
    ----------
    request:
        Checked.
    accounts:
        Those that could be decided on, by id; of the others only `largest` says that they could
        not.
    basis:
        Market, rules, model and add-ons in force of the decisions.
    """
    view, ruleset = basis.snapshot.view(), basis.ruleset
    # Sizes up to a million times an account are tried; what overflows does not fit.
    with np.errstate(over="ignore", invalid="ignore"):
        return Analysis(
            remedies=UNSET
            if request.target_headroom is None
            else [
                _remedies(account, view, ruleset, request.target_headroom)
                for account in accounts.values()
            ],
            marginal=[_marginal(account, view, ruleset) for account in accounts.values()]
            if request.marginal
            else UNSET,
            largest=[
                _largest(item, accounts.get(item.account_id), basis, view)
                for item in request.largest
            ]
            if request.largest
            else UNSET,
        )


def _remedies(account: Account, view: MarketView, ruleset: RuleSet, target: float) -> RemediesOut:
    portfolio = account_portfolio(account, view, ruleset).portfolio
    names = [position.name for position in portfolio.positions]
    costs = half_spreads(names, view, ruleset)
    remedies = find_remedies(portfolio, ruleset, target, costs)
    return msgspec.convert({"account_id": account.account_id, **asdict(remedies)}, RemediesOut)


def _marginal(account: Account, view: MarketView, ruleset: RuleSet) -> MarginalOut:
    marginal = marginal_requirements(account_portfolio(account, view, ruleset).portfolio, ruleset)
    return MarginalOut(
        account.account_id,
        [PositionMarginal(part.instrument, part.initial, part.maintenance) for part in marginal],
    )


def _largest(
    trade: LargestIn, account: Account | None, basis: DecisionBasis, view: MarketView
) -> LargestOut:
    """The largest trade after which equity still meets the opening requirement and what the
    decision on the changed account requires: no size that it returns triggers a call."""

    def result(
        size: float | None, *, unlimited: bool = False, detail: str | None = None
    ) -> LargestOut:
        return LargestOut(trade.account_id, trade.instrument, trade.side, size, unlimited, detail)

    if account is None:
        return result(None, detail="the account could not be decided on, see the errors before")
    try:
        current = account_portfolio(account, view, basis.ruleset, [trade.instrument])
        unit = size_unit(current.portfolio, current.listed[trade.instrument], basis.ruleset)
    except (CaseError, DataError) as error:
        return result(None, detail=str(error))
    side = 1.0 if trade.side == "buy" else -1.0
    prices = trade_prices(view, basis.ruleset)

    def fits(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        orders = [PositionChange(trade.instrument, side * size) for size in sizes.tolist()]
        changes = [AccountChange(account.account_id, positions=[order]) for order in orders]
        changed = [
            apply_changes({account.account_id: account}, [change], prices) for change in changes
        ]
        return meets_opening_requirement([book[account.account_id] for book in changed], basis)

    try:
        size = search_largest(fits, unit)
    except ModelError as error:
        return result(None, detail=str(error))
    if np.isinf(size):
        return result(None, unlimited=True)
    return result(side * size)


def _work(accounts: Iterable[AccountIn]) -> int:
    return sum(len(account.positions) ** 2 for account in accounts)
