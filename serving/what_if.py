"""What would change: trades and deposits applied to accounts as they stand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from margin.view import MarketView
from market.book import Account, Position
from market.errors import InstrumentError
from market.instruments import parse_instrument
from serving.messages import AccountChange


def apply_changes(
    accounts: Mapping[str, Account], changes: Iterable[AccountChange], view: MarketView
) -> dict[str, Account]:
    """Accounts after the changes, in the same order; several changes of one account add up.

    A trade is done at the mark, so at the mark the account's equity stays as it is: an increase
    enters at the mark (the entry price becomes the average by quantity), a reduction realises its
    share of the profit or loss in cash, and a position that turns does both. A position that
    closes is gone.

    Parameters
    ----------
    accounts:
        By id; every change names one of them.
    changes:
        Deposits (negative: withdrawals) and traded quantities.
    view:
        Where the marks are. An instrument without a mark is taken as it is: the decision on the
        account says what is wrong with it.
    """
    changed = dict(accounts)
    for change in changes:
        account = changed[change.account_id]
        account = replace(account, cash=account.cash + change.deposit)
        for trade in change.positions:
            account = _trade(account, trade.instrument, trade.quantity_delta, view)
        changed[change.account_id] = account
    return changed


def _trade(account: Account, instrument: str, delta: float, view: MarketView) -> Account:
    for i, leg in enumerate(account.positions):
        if leg.instrument == instrument:
            before, after = account.positions[:i], account.positions[i + 1 :]
            leg, realised = _merge(leg, delta, _mark(instrument, view))
            kept = (leg,) if leg.quantity != 0.0 else ()
            return replace(
                account, cash=account.cash + realised, positions=(*before, *kept, *after)
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


def _mark(instrument: str, view: MarketView) -> float:
    try:
        symbol = parse_instrument(instrument).symbol
    except InstrumentError:
        return math.nan
    row = view.index().get(symbol)
    return math.nan if row is None else float(view.mark[row])
