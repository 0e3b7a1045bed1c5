"""What is asked of accounts as they stand: remedies, marginal requirements, largest sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from decisions.messages import AccountChange, AccountIn, PositionChange
from decisions.opening_check import DecisionBasis, opening_fits
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
from serving.http.problems import invalid

MAX_WORK = 2_500
"""What one call may ask: the squares of the accounts' numbers of positions add up to no more. A
remedy margins some 200 portfolios for each position of an account, each with all its positions."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers in the order of the request; UNSET where nothing was asked."""

    remedies: list[RemediesOut] | UnsetType
    marginal: list[MarginalOut] | UnsetType
    largest: list[LargestOut] | UnsetType


def check_questions(request: WhatIfRequest) -> None:
    """Raise `ProblemError` (422) where nothing or too much is asked, or of an account that is not
    in the request."""
    accounts = {account.account_id: account for account in request.accounts}
    of_all = request.target_headroom is not None or request.marginal
    if not (request.changes or request.largest or of_all):
        raise invalid(
            "nothing is asked; give changes, target_headroom, marginal or largest, or post the "
            "accounts to /v1/score"
        )
    for kind, asked in (("a change", request.changes), ("largest", request.largest)):
        for one in asked:
            if one.account_id not in accounts:
                raise invalid(
                    f"{kind} names account {one.account_id!r}, which is not among the accounts of "
                    "the request; add it there or leave it out"
                )
    named = {one.account_id for one in request.largest}
    work = _work(request.accounts if of_all else (accounts[name] for name in named))
    if work > MAX_WORK:
        raise invalid(
            "target_headroom, marginal and largest are asked of too much at once: the squares of "
            f"the accounts' numbers of positions add up to {work}, and at most {MAX_WORK} are "
            "taken (25 accounts of 10 positions, one of 50); send fewer accounts a call"
        )


def answer_questions(
    request: WhatIfRequest, accounts: Mapping[str, Account], basis: DecisionBasis
) -> Answers:
    """Answers about accounts as they stand.

    Parameters
    ----------
    request:
        Checked.
    accounts:
        Those that could be decided on, by id; the others have no answers here, but a word in
        `largest` where it names them.
    basis:
        Of the decisions.
    """
    view, ruleset = basis.snapshot.view(), basis.ruleset
    # Sizes up to a million times an account are tried; what overflows does not fit.
    with np.errstate(over="ignore", invalid="ignore"):
        return Answers(
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
                _largest(asked, accounts.get(asked.account_id), basis, view)
                for asked in request.largest
            ]
            if request.largest
            else UNSET,
        )


def _remedies(account: Account, view: MarketView, ruleset: RuleSet, target: float) -> RemediesOut:
    portfolio = account_portfolio(account, view, ruleset).portfolio
    names = [position.name for position in portfolio.positions]
    costs = half_spreads(names, view, ruleset)
    found = find_remedies(portfolio, ruleset, target, costs)
    return msgspec.convert({"account_id": account.account_id, **asdict(found)}, RemediesOut)


def _marginal(account: Account, view: MarketView, ruleset: RuleSet) -> MarginalOut:
    found = marginal_requirements(account_portfolio(account, view, ruleset).portfolio, ruleset)
    return MarginalOut(
        account.account_id,
        [PositionMarginal(one.instrument, one.initial, one.maintenance) for one in found],
    )


def _largest(
    asked: LargestIn, account: Account | None, basis: DecisionBasis, view: MarketView
) -> LargestOut:
    """The largest trade after which equity still meets the opening requirement and what the
    decision on the changed account requires: no size that is advised triggers a call."""

    def answer(
        size: float | None, *, unlimited: bool = False, why: str | None = None
    ) -> LargestOut:
        return LargestOut(asked.account_id, asked.instrument, asked.side, size, unlimited, why)

    if account is None:
        return answer(None, why="the account could not be decided on, see the errors before")
    try:
        held = account_portfolio(account, view, basis.ruleset, [asked.instrument])
        unit = size_unit(held.portfolio, held.listed[asked.instrument], basis.ruleset)
    except (CaseError, DataError) as error:
        return answer(None, why=str(error))
    side = 1.0 if asked.side == "buy" else -1.0
    prices = trade_prices(view, basis.ruleset)

    def fits(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        trades = [PositionChange(asked.instrument, side * size) for size in sizes.tolist()]
        changes = [AccountChange(account.account_id, positions=[trade]) for trade in trades]
        changed = [
            apply_changes({account.account_id: account}, [change], prices) for change in changes
        ]
        return opening_fits([one[account.account_id] for one in changed], basis)

    try:
        size = search_largest(fits, unit)
    except ModelError as error:
        return answer(None, why=str(error))
    if np.isinf(size):
        return answer(None, unlimited=True)
    return answer(side * size)


def _work(accounts: Iterable[AccountIn]) -> int:
    return sum(len(account.positions) ** 2 for account in accounts)
