"""Which share of every position to close so that an account meets a level, on its engine."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from margin.book.book_margins import BookMargins
from margin.book.book_portfolios import take_portfolios
from margin.book.portfolio_batch import Portfolios
from margin.book.segment_sums import row_sums
from margin.engines.registry import compute_margins
from margin.rules.ruleset import RuleSet

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_COARSE = 8
_HALVINGS = 13
"""Shares are found to 1 / (8 * 2^13), on the side that suffices."""


def reduction_fractions(margined: BookMargins, ruleset: RuleSet, level: Floats) -> Floats:
    """Smallest share s of every position to close at its mark with which nothing is missing.

    Nothing is where ``net maintenance margin after the cut >= (1 - s) * level``: the margin is the
    engine's own, which need not shrink in proportion (expiries whose offsets change sides, fixed
    haircuts); the level on top shrinks in proportion at least, as floors and cap do. Closing at the
    mark turns unrealised profit and the value of options into cash.

    The first eighth that suffices is narrowed by halves. Where the headroom does not rise all along
    the way, a share below it that happens to suffice for less than an eighth is not found.

    Parameters
    ----------
    margined:
        The book, from `margin.book.book_margins`.
    ruleset:
        Its rules.
    level:
        Wanted on top of maintenance margin, shape (N,).

    Returns
    -------
    Shape (N,): 0 where nothing is missing, 1 where no share suffices; NaN for accounts with a
    problem or without a level.
    """
    short = np.flatnonzero(margined.headroom < level)
    shares = np.where(np.isnan(margined.headroom) | np.isnan(level), np.nan, 0.0)
    if not len(short):
        return shares
    held = take_portfolios(margined.book.portfolios, short)
    value = row_sums(margined.book.portfolios.start, margined.exposures.value)[short]
    freed = row_sums(held.start, held.unrealised) + value
    wanted = level[short]

    def enough(share: Floats) -> npt.NDArray[np.bool_]:
        net = compute_margins(_cut(held, share, freed), ruleset).maintenance_net
        return net >= (1.0 - share) * wanted

    high, found = np.ones(len(short)), np.zeros(len(short), dtype=np.bool_)
    for step in range(1, _COARSE + 1):
        sufficient = ~found & enough(np.full(len(short), step / _COARSE))
        high[sufficient] = step / _COARSE
        found |= sufficient
        if found.all():
            break
    low = high - 1.0 / _COARSE
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        sufficient = enough(middle)
        high = np.where(sufficient, middle, high)
        low = np.where(sufficient, low, middle)
    shares[short] = np.where(found, high, 1.0)
    return shares


def _cut(held: Portfolios, share: Floats, freed: Floats) -> Portfolios:
    """The portfolios after closing a share of each, which frees so much of `freed`."""
    left = np.repeat(1.0 - share, np.diff(held.start))
    return dataclasses.replace(
        held,
        cash=held.cash + share * freed,
        quantity=held.quantity * left,
        unrealised=held.unrealised * left,
    )
