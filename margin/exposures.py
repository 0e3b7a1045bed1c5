"""What legs are worth and how their worth moves: value and cash greeks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.portfolios import OPTION, PERP, Portfolios

Floats = npt.NDArray[np.float64]

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


def leg_exposures(portfolios: Portfolios, *, discounted: bool = True) -> Exposures:
    """Exposures of the legs, options by Black-76.

    Parameters
    ----------
    portfolios:
        What is held.
    discounted:
        Whether options are worth their discounted value, at ``max(rate, 0)``, as most venues
        mark them.
    """
    on, expiries = portfolios.underlyings, portfolios.expiries
    row = portfolios.underlying
    linear = portfolios.kind != OPTION
    price = np.where(portfolios.kind == PERP, on.perp_price[row], on.spot[row])
    forward, years, df = np.ones(len(row)), np.zeros(len(row)), np.ones(len(row))
    options = np.flatnonzero(~linear)
    own = portfolios.expiry[options]
    forward[options] = expiries.forward[own]
    years[options] = expiries.seconds[own] / YEAR_SECONDS
    if discounted:
        df[options] = np.exp(-np.maximum(expiries.rate[own], 0.0) * years[options])
    value, delta, gamma, vega = _black_greeks(
        options, forward, portfolios.strike, portfolios.vol, years, df, portfolios.call
    )
    with np.errstate(over="ignore", invalid="ignore"):  # found with the figures
        quantity = portfolios.quantity
        return Exposures(
            delta=np.where(linear, quantity * price, quantity * delta * forward),
            value=quantity * value,
            gamma=quantity * gamma * (forward * forward),
            vega=quantity * vega,
        )


@njit(cache=True, error_model="numpy")
def _black_greeks(options, forward, strike, vol, years, df, call):  # type: ignore[no-untyped-def]
    """Value, delta, gamma and vega of one unit against the forward; 0 where no option is."""
    n = forward.shape[0]
    value, delta, gamma, vega = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for leg in options:
        f, k = forward[leg], strike[leg]
        root = math.sqrt(years[leg])
        spread = vol[leg] * root
        side = 1.0 if call[leg] else -1.0
        if spread <= 0.0:  # what is left is certain: intrinsic value
            inside = side * (f - k)
            value[leg] = df[leg] * max(0.0, inside)
            delta[leg] = df[leg] * side if inside > 0.0 else 0.0
            continue
        d1 = math.log(f / k) / spread + 0.5 * spread
        d2 = d1 - spread
        in1 = 0.5 * math.erfc(-side * d1 / math.sqrt(2.0))
        in2 = 0.5 * math.erfc(-side * d2 / math.sqrt(2.0))
        density = math.exp(-0.5 * d1 * d1) / math.sqrt(2.0 * math.pi)
        value[leg] = df[leg] * side * (f * in1 - k * in2)
        delta[leg] = df[leg] * side * in1
        gamma[leg] = df[leg] * density / (f * spread)
        vega[leg] = df[leg] * f * density * root
    return value, delta, gamma, vega
