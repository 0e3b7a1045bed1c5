"""Skew, term slope and curvature of the surface of options.

They enter the market features as exogenous series (`market.bars.panel`): from files in history,
from quotes in the live market.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from margin.valuation.marks import YEAR, option_vol
from market.core.clock import DAY
from market.core.instruments import parse_expiry
from market.quotes.quotes import ExpiryQuote, QuoteBoard

QUARTILE = 0.6744897501960817
"""Quantile of the normal distribution at 3/4: d1 of an undiscounted delta of 25%."""

_SHORTEST = DAY
"""Options with less time left depend on single hours, not on the surface."""
_ITERATIONS = 64
_NEAR = 1e-9
_WIDEST = 100.0
"""Bound of ``|ln(K / F)|`` in the search of a delta: a total deviation of 13, ten times that of any
option; SVI wings steep enough to lead beyond it have no strike of 25 delta."""


class SurfaceFigures(NamedTuple):
    """Three figures of a surface, annual vol; in the order of the exogenous series."""

    skew: float
    term_slope: float
    curvature: float


def surface_figures(board: QuoteBoard, underlying: str, as_of: int) -> SurfaceFigures | None:
    """Skew, term slope and curvature of the options on an underlying.

    ``skew = C - P`` (risk reversal) and ``curvature = (P + C) / 2 - A`` at 30 days,
    ``term slope = A(90 d) - A(7 d)``, where A is the vol at the forward and P and C those of the
    put and the call of 25 delta (undiscounted, ``N(d1) = 1/4``). Between two expiries the total
    variance of each is linear in time, beyond the first and last the vol stays.

    Parameters
    ----------
    board:
        What is quoted.
    underlying:
        As in the identifiers of its expiries, ``BTC``.
    as_of:
        From when the time left counts, nanoseconds; expiries within a day of it say nothing.

    Returns
    -------
    None with fewer than two expiries whose vols are known.

    References
    ----------
    Malz (1997), "Estimating the Probability Distribution of the Future Exchange Rate from Option
    Prices"; Gatheral (2006), "The Volatility Surface", chapter 3.
    """
    points = []
    for name, quote in board.expiries.items():
        on, _, _ = name.rpartition("-")
        end = parse_expiry(name)
        if on == underlying and end - as_of >= _SHORTEST:
            smile = _smile(quote, end, (end - as_of) / YEAR)
            if smile is not None:
                points.append(((end - as_of) / YEAR, *smile))
    points.sort()
    if len({years for years, *_ in points}) < 2:
        return None
    years = [point[0] for point in points]
    at_money, put, call = ([point[i] for point in points] for i in (1, 2, 3))
    month = 30 * DAY / YEAR
    middle, low, high = (_at(month, years, vols) for vols in (at_money, put, call))
    slope = _at(90 * DAY / YEAR, years, at_money) - _at(7 * DAY / YEAR, years, at_money)
    return SurfaceFigures(high - low, slope, 0.5 * (low + high) - middle)


def _smile(quote: ExpiryQuote, expiry: int, years: float) -> tuple[float, float, float] | None:
    """Vol at the forward, of the 25-delta put and of the 25-delta call."""
    if not 0.0 < quote.forward < math.inf:
        return None

    def vol(k: float) -> float:
        known = option_vol(quote.forward * math.exp(k), expiry, None, quote)
        return math.nan if known is None else known[0]

    root = math.sqrt(years)
    smile = (vol(0.0), _vol_of_delta(vol, root, -QUARTILE), _vol_of_delta(vol, root, QUARTILE))
    return smile if all(math.isfinite(value) and value > 0.0 for value in smile) else None


def _vol_of_delta(vol: Callable[[float], float], root: float, side: float) -> float:
    """Vol where ``k = s^2 / 2 + side * s`` with ``s = vol(k) * sqrt(tau)``; NaN where no strike has
    that delta: the search leaves ``|k| <= 100`` or does not settle."""
    k = 0.0
    for _ in range(_ITERATIONS):
        sigma = vol(k)
        spread = sigma * root
        if not math.isfinite(spread):
            return math.nan
        target = 0.5 * spread * spread + side * spread
        if abs(target - k) < _NEAR:
            return sigma
        if abs(target) > _WIDEST:
            return math.nan
        k = target
    return math.nan


def _at(target: float, years: Sequence[float], vols: Sequence[float]) -> float:
    if target <= years[0]:
        return vols[0]
    for (before, low), (after, high) in zip(
        zip(years[:-1], vols[:-1], strict=True), zip(years[1:], vols[1:], strict=True), strict=True
    ):
        if target <= after and after > before:
            share = (target - before) / (after - before)
            variance = (1.0 - share) * low * low * before + share * high * high * after
            return math.sqrt(variance / target)
    return vols[-1]
