"""Auto-deleverage: which winners on the other side are closed when nobody else bears a loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from market.core.errors import CaseError


@dataclass(frozen=True, slots=True)
class Winner:
    """One position on the other side of the one that is closed; linear, settlement currency.

    Attributes
    ----------
    account_id:
        Whose it is.
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


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the queue.

    Attributes
    ----------
    account_id:
        Who stands there.
    score:
        The higher the earlier.
    quantile:
        Share of the side's size that stands here or before, rounded up to fifths: the lights that
        venues show, all five lit at 0.2.
    closed:
        Signed quantity that is closed of the position.
    """

    account_id: str
    score: float
    quantile: float
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
    leverage = _over(abs(winner.quantity) * winner.mark, winner.equity)
    if rate == 0.0:
        return 0.0
    return rate * leverage if rate > 0.0 else _over(rate, leverage)


def profit_margin_ratio(winner: Winner) -> float:
    """``profit / wallet * maintenance / equity``; Binance ranks by it.

    References
    ----------
    Binance, "What Is Auto-Deleveraging (ADL) and How Does It Work" (unrealised profit over
    collateral times the margin ratio).
    """
    profit = _profit(winner)
    if profit == 0.0:
        return 0.0
    return _over(profit, winner.wallet) * _over(winner.maintenance, winner.equity)


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
    return ratio * _over(abs(winner.quantity) * winner.mark, winner.equity)


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


def deleverage(quantity: float, winners: Sequence[Winner], ranking: str) -> tuple[Place, ...]:
    """The queue against a position, and how much of each place is closed.

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
    scored = sorted(
        ((score_of(winner), winner) for winner in winners),
        key=lambda pair: (-pair[0], pair[1].account_id),
    )
    sizes = np.array([abs(winner.quantity) for _, winner in scored])
    # Shares of the largest, so that no sum leaves the range of float64.
    standing = np.cumsum(sizes / sizes.max(initial=0.0))
    # The exact rest is handed on, so that what is closed adds up to the quantity.
    left = abs(quantity)
    places = []
    for (score, winner), size, here in zip(scored, sizes, standing, strict=True):
        closed = min(left, float(size))
        left -= closed
        fifths = math.ceil(round(5.0 * float(here) / float(standing[-1]), 9))
        places.append(
            Place(winner.account_id, score, fifths / 5.0, math.copysign(closed, winner.quantity))
        )
    return tuple(places)


def _check(quantity: float, winners: Sequence[Winner]) -> None:
    if not math.isfinite(quantity) or quantity == 0.0:
        raise CaseError(f"quantity to take off is {quantity}; expected a finite number, not 0")
    seen = set()
    for winner in winners:
        if not (winner.quantity < 0.0 < quantity or quantity < 0.0 < winner.quantity):
            raise CaseError(
                f"account {winner.account_id!r} holds {winner.quantity}; expected the other side "
                f"of {quantity}"
            )
        if winner.account_id in seen:
            raise CaseError(f"account {winner.account_id!r} is listed twice; net its positions")
        if not (winner.entry_price > 0.0 and winner.mark > 0.0):
            raise CaseError(
                f"account {winner.account_id!r} has entry price {winner.entry_price} and mark "
                f"{winner.mark}; expected prices above 0"
            )
        seen.add(winner.account_id)


def _profit(winner: Winner) -> float:
    return winner.quantity * (winner.mark - winner.entry_price)


def _over(value: float, by: float) -> float:
    """A ratio that is infinite, with the sign of `value`, where there is nothing to divide by."""
    return value / by if by > 0.0 else math.copysign(math.inf, value)
