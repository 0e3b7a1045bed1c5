"""The share of every position to close so that an account meets a level, by its engine."""

from __future__ import annotations

import dataclasses

import numpy as np

from margin.book.account_requirement import Requirement
from margin.book.portfolio_batch import Portfolios, row_sums
from margin.engines.registry import compute_margins, engine_of
from margin.rules.ruleset import RuleSet
from margin.valuation.exposures import leg_exposures
from market.core.arrays import Bools, Floats

_COARSE = 8
_HALVINGS = 13
"""Fractions are resolved to 1 / (8 * 2^13), on the side that suffices."""


def reduction_fractions(requirement: Requirement, ruleset: RuleSet, level: Floats) -> Floats:
    """Smallest share s of every position to close at its mark that leaves no shortfall.

    There is none where ``net maintenance margin after it >= (1 - s) * level``: the margin is the
    engine's own, which need not shrink in proportion (expiries whose offsets change sides, fixed
    haircuts); the level on top shrinks in proportion at least, as floors and cap do. Closing at the
    mark turns unrealised profit and the value of options into cash.

    The first eighth that suffices is narrowed by halves. Where the headroom does not rise all along
    the way, a share below it that happens to suffice for less than an eighth is not found.

    Parameters
    ----------
    requirement:
        Of a book.
    ruleset:
        Its rules.
    level:
        Required on top of maintenance margin, shape (N,).

    Returns
    -------
    Shape (N,): 0 where there is no shortfall, 1 where no share suffices; NaN for accounts with a
    problem or without a level.
    """
    headroom = requirement.headroom
    short = np.flatnonzero(headroom < level)
    fractions = np.where(np.isnan(headroom) | np.isnan(level), np.nan, 0.0)
    if not len(short):
        return fractions
    portfolios, required = requirement.portfolios.take(short), level[short]
    exposures = leg_exposures(portfolios, discounted=engine_of(ruleset).discounts_options)
    proceeds = row_sums(portfolios.start, portfolios.unrealised)
    proceeds = proceeds + row_sums(portfolios.start, exposures.value)

    def suffices(fraction: Floats) -> Bools:
        reduced = _reduce(portfolios, fraction, proceeds)
        net = compute_margins(reduced, ruleset).maintenance_net
        return net >= (1.0 - fraction) * required

    high, met = np.ones(len(short)), np.zeros(len(short), dtype=np.bool_)
    for step in range(1, _COARSE + 1):
        sufficient = ~met & suffices(np.full(len(short), step / _COARSE))
        high[sufficient] = step / _COARSE
        met |= sufficient
        if met.all():
            break
    low = high - 1.0 / _COARSE
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        sufficient = suffices(middle)
        high = np.where(sufficient, middle, high)
        low = np.where(sufficient, low, middle)
    fractions[short] = np.where(met, high, 1.0)
    return fractions


def _reduce(portfolios: Portfolios, fraction: Floats, proceeds: Floats) -> Portfolios:
    """The portfolios after closing a fraction of each, which pays so much of `proceeds`."""
    left = np.repeat(1.0 - fraction, np.diff(portfolios.start))
    return dataclasses.replace(
        portfolios,
        cash=portfolios.cash + fraction * proceeds,
        quantity=portfolios.quantity * left,
        unrealised=portfolios.unrealised * left,
    )
