"""Auto-deleverage: which winners are closed when the insurance fund cannot pay a loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from market.core.errors import CaseError


@dataclass(frozen=True, slots=True)
class Winner:
    """A position on the other side of the one that is closed; linear, settlement currency.

    Attributes
    ----------
    account_id:
        Its owner.
    quantity:
        Signed, units of the underlying.
    entry_price, mark:
        Of the position.
    equity:
        Of the account, or the position's own where it is isolated.
    maintenance:
        Maintenance margin, of the same.
    wallet:
        Equity without unrealised profit, of the same.
    """

    account_id: str
    quantity: float
    entry_price: float
    mark: float
    equity: float
    maintenance: float
    wallet: float

    @property
    def profit(self) -> float:
        """Unrealised profit of the position."""
        return self.quantity * (self.mark - self.entry_price)


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """A place in the queue: the winner, its score (the higher the earlier), the signed quantity
    that is closed of its position."""

    winner: Winner
    score: float
    closed: float


def profit_leverage(winner: Winner) -> float:
    """Profit rate times leverage; a loss divided by it.

    Profit rate = profit / entry value, leverage = mark value / equity: what the position is worth
    beyond its bankruptcy value. Infinite where nothing is left of a profitable account.

    References
    ----------
    BitMEX, "Auto-Deleveraging"; CoinEx and MEXC publish the same.
    """
    side = math.copysign(1.0, winner.quantity)
    rate = side * ((winner.mark - winner.entry_price) / winner.entry_price)
    leverage = _ratio(abs(winner.quantity) * winner.mark, winner.equity)
    if rate == 0.0:
        return 0.0
    return rate * leverage if rate > 0.0 else _ratio(rate, leverage)


def profit_margin_ratio(winner: Winner) -> float:
    """``profit / wallet * maintenance / equity``; Binance ranks by it.

    References
    ----------
    Binance, "What Is Auto-Deleveraging (ADL) and How Does It Work" (unrealised profit over
    collateral times the margin ratio).
    """
    profit = winner.profit
    if profit == 0.0 or winner.maintenance == 0.0:
        return 0.0
    return _ratio(profit, winner.wallet) * _ratio(winner.maintenance, winner.equity)


def price_leverage(winner: Winner) -> float:
    """``mark / entry * notional / equity`` of a long; of a short ``entry / mark``.

    Hyperliquid publishes one formula for both sides, with mark over entry; read to the letter it
    would rank the least profitable short first, so the ratio is turned here.

    References
    ----------
    Hyperliquid, "Auto-deleveraging".
    """
    ratio = winner.mark / winner.entry_price
    if winner.quantity < 0.0:
        ratio = 1.0 / ratio
    return ratio * _ratio(abs(winner.quantity) * winner.mark, winner.equity)


def account_order(winner: Winner) -> float:
    """No rank: accounts in the order of their ids, for venues that choose at random (dYdX)."""
    del winner
    return 0.0


RANKINGS: Mapping[str, Callable[[Winner], float]] = {
    "profit_leverage": profit_leverage,
    "profit_margin_ratio": profit_margin_ratio,
    "price_leverage": price_leverage,
    "account": account_order,
}
"""By the names of ``[liquidation.deleverage] ranking``."""


def deleverage(quantity: float, winners: Sequence[Winner], ranking: str) -> tuple[QueuePlace, ...]:
    """The queue against a position, and how much of each winner's position is closed.

    Parameters
    ----------
    quantity:
        Signed quantity of the position that must be taken off; all of it is matched while the
        other side has so much, and never more.
    winners:
        Positions of the other side, in any order.
    ranking:
        One of `RANKINGS`; equal scores stand in the order of account ids.

    Raises
    ------
    CaseError
        An unknown ranking, a position of the same side, or an account listed twice.

    References
    ----------
    BitMEX, "Auto Deleveraging Examples".
    """
    score_of = RANKINGS.get(ranking)
    if score_of is None:
        raise CaseError(f"ranking {ranking!r} is not known; choose one of {', '.join(RANKINGS)}")
    _check(quantity, winners)
    queue = sorted(
        ((score_of(winner), winner) for winner in winners),
        key=lambda place: (-place[0], place[1].account_id),
    )
    # The exact rest is handed on, so that what is closed adds up to the quantity.
    left = abs(quantity)
    places = []
    for score, winner in queue:
        closed = min(left, abs(winner.quantity))
        left -= closed
        places.append(QueuePlace(winner, score, math.copysign(closed, winner.quantity)))
    return tuple(places)


def _check(quantity: float, winners: Sequence[Winner]) -> None:
    if not math.isfinite(quantity) or quantity == 0.0:
        raise CaseError(f"quantity to take off is {quantity}; expected a finite number, not 0")
    accounts = set()
    for winner in winners:
        if not (winner.quantity < 0.0 < quantity or quantity < 0.0 < winner.quantity):
            raise CaseError(
                f"account {winner.account_id!r} holds {winner.quantity}; expected the other side "
                f"of {quantity}"
            )
        if winner.account_id in accounts:
            raise CaseError(f"account {winner.account_id!r} is listed twice; net its positions")
        if not (winner.entry_price > 0.0 and winner.mark > 0.0):
            raise CaseError(
                f"account {winner.account_id!r} has entry price {winner.entry_price} and mark "
                f"{winner.mark}; expected prices above 0"
            )
        accounts.add(winner.account_id)


def _ratio(value: float, by: float) -> float:
    """``value / by``; infinite with the sign of `value` where `by` is not above 0."""
    return value / by if by > 0.0 else math.copysign(math.inf, value)
