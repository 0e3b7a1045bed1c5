"""Loss sharing: what nobody else pays is split pro rata among the accounts of a venue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from margin.book.portfolio_batch import row_sums
from margin.book.requirement import Requirement
from margin.liquidation.shortfall import ClosedPosition
from market.accounts.book import Book
from market.core.arrays import Bools, Floats


@dataclass(frozen=True, slots=True)
class LossShare:
    """What one account gives up; `account` is its index in the book, `loss` above 0."""

    account: int
    loss: float


def pro_rata(loss: float, weights: Floats, limits: Floats) -> Floats:
    """``min(limit_i, loss * w_i / sum(w))``: one rate for all, and nobody gives more than it can.

    What a limit cuts off is not passed on to the others.

    Parameters
    ----------
    loss:
        0 or more, settlement currency.
    weights, limits:
        Shape (N,); negative ones and NaN count as 0.

    Returns
    -------
    Shape (N,), all 0 where no weight is above 0.

    References
    ----------
    Crypto.com Help Center, "Insurance Fund and Socialised Loss Mechanism" (worked example).
    """
    weights = np.where(weights > 0.0, weights, 0.0)
    limits = np.where(limits > 0.0, limits, 0.0)
    total = float(weights.sum())
    if not total > 0.0:
        return np.zeros(len(weights))
    shares: Floats = np.minimum(loss * (weights / total), limits)
    return shares


def share_among_accounts(
    loss: float,
    closed: Sequence[ClosedPosition],
    book: Book,
    requirement: Requirement,
    eligible: Bools,
    basis: str,
) -> list[LossShare]:
    """Split a loss among the accounts of a book.

    ``profit``: by unrealised profit, the sum over positions where it is above 0, which is also the
    most that an account gives. ``equity``: by equity. ``open_interest``: each closed instrument's
    part of the loss, by notional, is split by the size that accounts hold in it, long or short.
    Nobody gives more than its equity.

    Parameters
    ----------
    loss:
        Above 0, settlement currency.
    closed:
        Positions that were taken off; counts for ``open_interest``.
    book, requirement:
        The accounts that are left, at the marks of the close.
    eligible:
        Which of them share, shape (N,).
    basis:
        ``profit``, ``equity`` or ``open_interest``.

    Returns
    -------
    By account; the losses add up to `loss` at most.
    """
    equity = np.where(eligible, np.nan_to_num(requirement.equity, nan=0.0), 0.0)
    if basis == "open_interest":
        given = _by_open_interest(loss, closed, book, equity)
    elif basis == "profit":
        profit = row_sums(book.leg_start, _gain(requirement))
        given = pro_rata(loss, np.where(equity > 0.0, profit, 0.0), np.minimum(profit, equity))
    else:
        given = pro_rata(loss, equity, equity)
    return [LossShare(i, float(given[i])) for i in np.flatnonzero(given > 0.0).tolist()]


def _gain(requirement: Requirement) -> Floats:
    gain: Floats = np.maximum(0.0, np.nan_to_num(requirement.leg_unrealised_pnl, nan=0.0))
    return gain


def _by_open_interest(
    loss: float, closed: Sequence[ClosedPosition], book: Book, equity: Floats
) -> Floats:
    total = sum(position.notional for position in closed)
    given, left = np.zeros(len(book)), equity.copy()
    if not total > 0.0:
        return given
    names = np.array(book.leg_instrument, dtype=np.str_)
    for position in closed:
        held = np.where(names == position.instrument, np.abs(book.leg_quantity), 0.0)
        size = np.where(equity > 0.0, row_sums(book.leg_start, held), 0.0)
        part = pro_rata(loss * (position.notional / total), size, left)
        given += part
        left -= part
    return given
