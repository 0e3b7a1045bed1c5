"""Apply trades and deposits to accounts as they stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache

from decisions.messages import AccountChange
from margin.rules.ruleset import RuleSet
from margin.valuation.account_marks import TradePrice, trade_price
from margin.valuation.view import MarketView
from market.accounts.book import Account, Position

Prices = Callable[[str], TradePrice]
"""Price at which a trade in an instrument is done."""


def trade_prices(view: MarketView, ruleset: RuleSet) -> Prices:
    """Prices in a market under a rule set, each looked up once."""
    return cache(lambda instrument: trade_price(instrument, view, ruleset))


def apply_changes(
    accounts: Mapping[str, Account], changes: Iterable[AccountChange], prices: Prices
) -> dict[str, Account]:
    """Accounts after the changes, in the same order; several changes of one account add up.

    A trade is done at the mark, so at the mark the account's equity stays as it is: an increase
    enters at the mark (the entry price becomes the average by quantity), a reduction realises its
    share of the profit or loss in cash, and a position that turns does both. An option is paid for
    in cash, or pays when it is sold. A position that closes is gone.

    Parameters
    ----------
    accounts:
        By id; every change names one of them.
    changes:
        Deposits (negative: withdrawals) and traded quantities.
    prices:
        See `trade_prices`. An instrument without a mark is taken as it is: the decision on the
        account says what is wrong with it.
    """
    changed = dict(accounts)
    for change in changes:
        account = changed[change.account_id]
        account = replace(account, cash=account.cash + change.deposit)
        for trade in change.positions:
            account = _trade(account, trade.instrument, trade.quantity_delta, prices)
        changed[change.account_id] = account
    return changed


def _trade(account: Account, instrument: str, delta: float, prices: Prices) -> Account:
    at = prices(instrument)
    if at.premium:
        account = replace(account, cash=account.cash - delta * at.price)
    for i, leg in enumerate(account.positions):
        if leg.instrument == instrument:
            before, after = account.positions[:i], account.positions[i + 1 :]
            leg, realised = _merge(leg, delta, at.price)
            remaining = (leg,) if leg.quantity != 0.0 else ()
            # The premium holds all that an option realises.
            profit = 0.0 if at.premium else realised
            return replace(
                account, cash=account.cash + profit, positions=(*before, *remaining, *after)
            )
    return replace(account, positions=(*account.positions, Position(instrument, delta)))


def _merge(leg: Position, delta: float, mark: float) -> tuple[Position, float]:
    """The position after a trade at the mark, and the profit it realises."""
    quantity, entry = leg.quantity + delta, leg.entry_price
    if entry is None or not math.isfinite(mark):
        return replace(leg, quantity=quantity), 0.0
    if leg.quantity * delta >= 0.0:
        if quantity == 0.0:
            return leg, 0.0
        average = (leg.quantity * entry + delta * mark) / quantity
        return Position(leg.instrument, quantity, average), 0.0
    closed = min(abs(delta), abs(leg.quantity))
    realised = math.copysign(closed, leg.quantity) * (mark - entry)
    turned = quantity * leg.quantity < 0.0
    return Position(leg.instrument, quantity, mark if turned else entry), realised
