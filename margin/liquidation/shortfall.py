"""What an account that ends below zero owes, and the winners who bear it by auto-deleverage.

A loss L that nobody else pays is split over the positions that were taken off, in proportion to
their notional. A position of quantity q, whose part of the loss is l, is closed against the other
side at ``mark + l / q`` instead of the mark: with one position and all of the shortfall that is the
bankruptcy price of the account. Winners on the other side stand in the order of the venue's
ranking; each closes what is left of q, as far as its own position goes. Nobody loses more than its
profit on what is closed of it, nor more than its equity: what is beyond stays uncovered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import row_sums
from margin.book.requirement import Requirement
from margin.liquidation.deleverage import Winner, deleverage
from market.accounts.book import Book

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClosedPosition:
    """A position that a liquidation took off.

    `quantity` is signed, of all lines of the instrument together; `notional` is absolute,
    settlement currency.
    """

    instrument: str
    quantity: float
    notional: float


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a winner gives up, settlement currency.

    Attributes
    ----------
    account:
        Index of the winner in the book.
    instrument, quantity, share:
        What is closed: the signed quantity, and its share of every line of the instrument.
    price, loss:
        Of the close; beside the mark the winner loses this much.
    rank:
        Place in the queue of the instrument, from 1.
    """

    account: int
    instrument: str
    quantity: float
    share: float
    price: float
    loss: float
    rank: int


def closed_positions(
    book: Book, requirement: Requirement, account: int, shares: Sequence[float]
) -> tuple[ClosedPosition, ...]:
    """What closing `shares` of the positions of one account of a book takes off, by instrument."""
    quantity: dict[str, float] = defaultdict(float)
    notional: dict[str, float] = defaultdict(float)
    first = int(book.leg_start[account])
    for leg, share in enumerate(shares, first):
        quantity[book.leg_instrument[leg]] += share * float(book.leg_quantity[leg])
        notional[book.leg_instrument[leg]] += share * abs(float(requirement.leg_notional[leg]))
    return tuple(ClosedPosition(name, quantity[name], notional[name]) for name in sorted(quantity))


def share_loss(
    loss: float,
    closed: Sequence[ClosedPosition],
    book: Book,
    requirement: Requirement,
    eligible: Bools,
    ranking: str,
) -> list[Contribution]:
    """Let the winners of a book bear a loss by auto-deleverage.

    Options have no entry price and so no profit to give up: nobody is deleveraged in one, and
    their part of the loss stays uncovered.

    Parameters
    ----------
    loss:
        Above 0, settlement currency.
    closed:
        The positions that were taken off.
    book, requirement:
        The accounts that are left, at the marks of the close.
    eligible:
        Which of them may be closed, shape (N,).
    ranking:
        One of `margin.liquidation.deleverage.RANKINGS`.

    Returns
    -------
    By instrument, then in the order of the queue. The losses add up to `loss` at most.
    """
    total = sum(position.notional for position in closed)
    equity = requirement.equity.tolist()
    contributions = []
    left = loss
    for position in closed:
        if position.quantity == 0.0 or position.notional == 0.0:
            continue
        unit_loss = loss * (position.notional / total) / abs(position.quantity)
        winners = _winners(position, book, requirement, eligible)
        places = deleverage(position.quantity, list(winners.values()), ranking)
        index = {winner.account_id: i for i, winner in winners.items()}
        for rank, place in enumerate(places, 1):
            if place.closed == 0.0:
                break
            i, size = index[place.winner.account_id], abs(place.closed)
            share = size / abs(place.winner.quantity)
            part = max(0.0, min(size * unit_loss, share * place.winner.profit, equity[i], left))
            equity[i] -= part
            left -= part
            price = place.winner.mark - part / place.closed
            contributions.append(
                Contribution(i, position.instrument, place.closed, share, price, part, rank)
            )
    return contributions


def _winners(
    position: ClosedPosition, book: Book, requirement: Requirement, eligible: Bools
) -> dict[int, Winner]:
    """Accounts with a profit on the other side of a position, by their index in the book."""
    names = np.array(book.leg_instrument, dtype=np.str_)
    lines = np.where(names == position.instrument, 1.0, 0.0)
    quantity = row_sums(book.leg_start, lines * book.leg_quantity)
    with np.errstate(invalid="ignore"):
        notional = row_sums(book.leg_start, lines * np.nan_to_num(requirement.leg_notional))
        profit = row_sums(book.leg_start, lines * np.nan_to_num(requirement.leg_unrealised_pnl))
        wallet = requirement.equity - row_sums(book.leg_start, requirement.leg_unrealised_pnl)
        gross = row_sums(book.leg_start, np.abs(requirement.leg_unrealised_pnl))
        wallet[np.abs(wallet) <= 1e-12 * (np.abs(requirement.equity) + gross)] = 0.0  # rounding
        other_side = quantity * np.sign(position.quantity) < 0.0
        chosen = eligible & other_side & (profit > 0.0) & (requirement.equity > 0.0)
    winners = {}
    for i in np.flatnonzero(chosen).tolist():
        size, mark = float(quantity[i]), float(notional[i] / quantity[i])
        entry = mark - float(profit[i]) / size
        if mark > 0.0 and entry > 0.0:
            winners[i] = Winner(
                book.account_ids[i],
                size,
                entry,
                mark,
                equity=float(requirement.equity[i]),
                maintenance=float(requirement.maintenance_margin[i]),
                wallet=float(wallet[i]),
            )
    return winners
