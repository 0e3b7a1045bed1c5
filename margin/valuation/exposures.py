"""What legs are worth and how their worth moves: value and cash greeks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.pricing.black76 import black76_greeks, black76_price
from market.core.arrays import Floats

YEAR_SECONDS = 365.0 * 86_400.0


@dataclass(frozen=True, slots=True)
class Exposures:
    """Of L legs, settlement currency, every array of shape (L,).

    Attributes
    ----------
    delta:
        What the leg gains for each 100% that its underlying rises, to the first order:
        ``quantity * price`` of spot and perps, ``quantity * dV/dF * F`` of an option, whose
        forward moves in proportion to the spot, so that this is its delta against the spot times
        the spot.
    value:
        Of options, ``quantity * V``; 0 for others.
    gamma:
        ``quantity * d²V/dF² * F²``, 0 for others: a move of x adds ``gamma * x² / 2``.
    vega:
        ``quantity * dV/dvol``, for each 1.00 of annual vol; 0 for others.
    """

    delta: Floats
    value: Floats
    gamma: Floats
    vega: Floats


def leg_exposures(portfolios: Portfolios, *, discounted: bool) -> Exposures:
    """Exposures of the legs, options by Black-76.

    Parameters
    ----------
    portfolios:
        What is held.
    discounted:
        Whether options are worth their value discounted at ``max(rate, 0)``, or without.
    """
    on, expiries = portfolios.underlyings, portfolios.expiries
    row, quantity = portfolios.underlying, portfolios.quantity
    price = np.where(portfolios.kind == PERP, on.perp_price[row], on.spot[row])
    with np.errstate(over="ignore", invalid="ignore"):  # found with the figures
        delta = quantity * price
    value, gamma, vega = (np.zeros(len(row)) for _ in range(3))
    options = np.flatnonzero(portfolios.kind == OPTION)
    if not len(options):
        return Exposures(delta, value, gamma, vega)
    expiry = portfolios.expiry[options]
    forward = expiries.forward[expiry]
    option = (
        forward,
        portfolios.strike[options],
        expiries.seconds[expiry] / YEAR_SECONDS,
        portfolios.vol[options],
        portfolios.call[options],
        np.maximum(expiries.rate[expiry], 0.0) if discounted else 0.0,
    )
    greeks = black76_greeks(*option)
    with np.errstate(over="ignore", invalid="ignore"):
        size = quantity[options]
        value[options] = size * black76_price(*option)
        delta[options] = size * (greeks.delta * forward)
        gamma[options] = size * (greeks.gamma * (forward * forward))
        vega[options] = size * greeks.vega
    return Exposures(delta, value, gamma, vega)
