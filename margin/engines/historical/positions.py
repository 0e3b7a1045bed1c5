"""What of a portfolio moves with its underlyings, and its profit when they do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.pricing.black76 import price

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_YEAR_SECONDS = 365.0 * 86_400.0

(
    LINEAR,
    IS_OPTION,
    FORWARD,
    STRIKE,
    YEARS,
    VOL,
    IS_CALL,
    DISCOUNT,
    VALUE,
) = range(9)
"""Columns in `ShockedPositions.terms`."""
_WIDTH = 9


class ShockedPositions(NamedTuple):
    """The legs of N portfolios, and the collateral that moves with its underlying; compiled
    kernels take it as it is.

    Attributes
    ----------
    start:
        Offsets of each portfolio, shape (N + 1,).
    underlying, leg:
        Row of the underlying, and the leg, −1 for collateral, shape (X,).
    terms:
        Shape (X, 9): the value that moves one to one, of an option its quantity; whether it is
        one; its forward, strike, years, vol, whether it is a call, discount factor and value of
        one unit now.
    """

    start: Ints
    underlying: Ints
    leg: Ints
    terms: Floats

    def option_values(self, legs: int) -> Floats:
        """Value of each option leg, settlement currency, shape (L,); 0 for the others."""
        out = np.zeros(legs)
        options = self.terms[:, IS_OPTION] != 0.0
        out[self.leg[options]] = self.terms[options, LINEAR] * self.terms[options, VALUE]
        return out


def shocked_positions(portfolios: Portfolios) -> ShockedPositions:
    """What of N portfolios moves: every leg and the risk-cancelling collateral."""
    balances, underlyings, expiries = (
        portfolios.collateral,
        portfolios.underlyings,
        portfolios.expiries,
    )
    n, legs = len(portfolios), len(portfolios.kind)
    balance_owner = np.repeat(np.arange(n), np.diff(balances.start))
    shocked = np.flatnonzero(balances.risk_cancelling & (balances.underlying >= 0) & ~balances.cash)
    terms = np.zeros((legs + len(shocked), _WIDTH))
    at = portfolios.underlying
    mark = np.where(portfolios.kind == PERP, underlyings.perp_price[at], underlyings.spot[at])
    options = np.flatnonzero(portfolios.kind == OPTION)
    terms[:legs, LINEAR] = portfolios.quantity * mark
    terms[options, LINEAR] = portfolios.quantity[options]
    expiry = portfolios.expiry[options]
    years = expiries.seconds[expiry] / _YEAR_SECONDS
    terms[options, IS_OPTION] = 1.0
    terms[options, FORWARD] = expiries.forward[expiry]
    terms[options, STRIKE] = portfolios.strike[options]
    terms[options, YEARS] = years
    terms[options, VOL] = portfolios.vol[options]
    terms[options, IS_CALL] = portfolios.call[options]
    terms[options, DISCOUNT] = np.exp(-years * np.maximum(expiries.rate[expiry], 0.0))
    _fill_values(terms)
    worth = balances.amount * balances.price / portfolios.stable_price[balance_owner]
    terms[legs:, LINEAR] = worth[shocked]
    owner = np.repeat(np.arange(n), np.diff(portfolios.start))
    owner = np.concatenate([owner, balance_owner[shocked]])
    order = np.argsort(owner, kind="stable")
    start = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(owner, minlength=n), out=start[1:])
    return ShockedPositions(
        start=start,
        underlying=np.concatenate([at, balances.underlying[shocked]])[order],
        leg=np.concatenate([np.arange(legs), np.full(len(shocked), -1)])[order],
        terms=terms[order],
    )


@njit(cache=True, error_model="numpy")
def profit(term, growth):  # type: ignore[no-untyped-def]
    """Profit of a row of `ShockedPositions.terms` when its underlying moves by `growth`."""
    if term[IS_OPTION] == 0.0:
        return term[LINEAR] * growth
    return term[LINEAR] * (_value(term, growth) - term[VALUE])


@njit(cache=True, error_model="numpy")
def _value(term, growth):  # type: ignore[no-untyped-def]
    return price(
        term[FORWARD] * (1.0 + growth),
        term[STRIKE],
        term[YEARS],
        term[VOL],
        term[IS_CALL] == 1.0,
        term[DISCOUNT],
    )


@njit(cache=True, error_model="numpy")
def _fill_values(terms):  # type: ignore[no-untyped-def]
    for x in range(terms.shape[0]):
        if terms[x, IS_OPTION] == 1.0:
            terms[x, VALUE] = _value(terms[x], 0.0)
