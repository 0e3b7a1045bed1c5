"""Liquidation steps of accounts of a book, through the requirement that the endpoint computes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from margin.book.requirement import compute_requirement
from margin.liquidation.partial import Step, next_step
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.accounts.book import Account, Book, Position
from market.core.errors import DataError

Floats = npt.NDArray[np.float64]


def book_step(
    account: Account,
    view: MarketView,
    ruleset: RuleSet,
    *,
    elapsed_seconds: float = 0.0,
    since_last_seconds: float = np.inf,
) -> tuple[Account, Step]:
    """One step of closing an account, and the account after it.

    Closing at the mark leaves equity as it was, but for the fee: what a position was worth
    becomes cash. Closed positions are gone.

    Parameters
    ----------
    account:
        Not changed.
    view:
        The market.
    ruleset, elapsed_seconds, since_last_seconds:
        As in `margin.liquidation.partial.next_step`; the requirement is the maintenance margin
        and is counted from equity.

    Raises
    ------
    DataError
        The account cannot be valued.
    """
    held = _BookAccount(account, view, ruleset)
    step = next_step(
        held,
        ruleset.liquidation_or_default,
        elapsed_seconds=elapsed_seconds,
        since_last_seconds=since_last_seconds,
    )
    return held.after(step), step


class _BookAccount:
    """An account of a book in one market."""

    def __init__(self, account: Account, view: MarketView, ruleset: RuleSet) -> None:
        self._account, self._view, self._ruleset = account, view, ruleset
        found = compute_requirement(Book.of([account]), view, ruleset)
        if found.problems:
            raise DataError(str(found.problems[0]))
        self.net, self.value = float(found.headroom[0]), float(found.equity[0])
        self.requirement = float(found.maintenance_margin[0])
        self.notionals = np.abs(found.leg_notional)
        self._taken = found.leg_maintenance_margin

    def requirement_after(self, shares: Floats) -> Floats:
        book = Book.of([self._reduced(row) for row in shares])
        margin: Floats = compute_requirement(book, self._view, self._ruleset).maintenance_margin
        return margin

    def largest_first(self) -> list[int]:
        names = [position.instrument for position in self._account.positions]
        return sorted(range(len(names)), key=lambda i: (-self._taken[i], names[i], i))

    def after(self, step: Step) -> Account:
        """The account once the step is done, its positions' worth turned into cash."""
        left = self._reduced(np.array(step.shares))
        now = compute_requirement(Book.of([left]), self._view, self._ruleset)
        cash = left.cash + (self.value - step.fee - float(now.equity[0]))
        held = tuple(one for one in left.positions if one.quantity != 0.0)
        return Account(left.account_id, cash, held, left.collateral)

    def _reduced(self, shares: Floats) -> Account:
        account = self._account
        return Account(
            account.account_id,
            account.cash,
            tuple(
                Position(one.instrument, one.quantity * (1.0 - share), one.entry_price)
                for one, share in zip(account.positions, shares.tolist(), strict=True)
            ),
            account.collateral,
        )
