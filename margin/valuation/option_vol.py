"""The vol of an option from what is quoted of it and of its expiry."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from market.core.clock import DAY
from market.quotes.quotes import ExpiryQuote, InstrumentQuote

YEAR = 365 * DAY
"""Nanoseconds."""


def option_vol(
    strike: float, expiry: int, own: InstrumentQuote | None, quote: ExpiryQuote
) -> tuple[float, int] | None:
    """Annual vol of an option and when it held, nanoseconds; None where nothing tells it.

    Its own quoted vol goes first, then the vols of its expiry by strike, see `vol_at_strike`, then
    the SVI of its expiry: ``sqrt(w(k) / tau)`` with ``k = ln(strike / forward)`` and tau the years
    from the quote to the expiry, because w is the variance that was left then.

    Parameters
    ----------
    strike, expiry:
        Of the option; nanoseconds.
    own, quote:
        What is quoted of the option (None: nothing) and of its expiry.

    Returns
    -------
    A vol that is no finite number of 0 or more counts as none.
    """
    if own is not None and own.vol is not None:
        return _sound(own.vol, own.ts)
    if quote.vols:
        return _sound(vol_at_strike(strike, quote.forward, quote.vols), quote.ts)
    if quote.svi is None or quote.ts >= expiry:
        return None
    variance = svi_variance(_log_ratio(strike, quote.forward), quote.svi)
    if not variance >= 0.0:
        return None
    return _sound(math.sqrt(variance / ((expiry - quote.ts) / YEAR)), quote.ts)


def vol_at_strike(strike: float, forward: float, vols: Mapping[float, float]) -> float:
    """The vol quoted at a strike; between strikes the total variance is linear in
    ``ln(strike / forward)``, beyond the outermost ones the vol stays as it is.

    At one expiry total variance is the square of the vol times the same years, so the squares are
    interpolated.
    """
    if strike in vols:
        return vols[strike]
    strikes = sorted(vols)
    places = [_log_ratio(own, forward) for own in strikes]
    squares = [_square(vols[own]) for own in strikes]
    return math.sqrt(float(np.interp(_log_ratio(strike, forward), places, squares)))


def svi_variance(k: float, svi: tuple[float, float, float, float, float]) -> float:
    """Total variance ``a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))`` at log-moneyness k.

    References
    ----------
    Gatheral and Jacquier, "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14 (2014)
    59-71 (raw parametrisation).
    """
    a, b, rho, m, sigma = svi
    return a + b * (rho * (k - m) + math.sqrt(_square(k - m) + _square(sigma)))


def _sound(vol: float, ts: int) -> tuple[float, int] | None:
    return (vol, ts) if 0.0 <= vol < math.inf else None


def _log_ratio(value: float, by: float) -> float:
    """``ln(value / by)`` of numbers above 0, also where the ratio leaves the range of float64."""
    ratio = value / by
    return math.log(ratio) if 0.0 < ratio < math.inf else math.log(value) - math.log(by)


def _square(value: float) -> float:
    """The square; infinite where it leaves the range of float64."""
    try:
        return float(value**2)
    except OverflowError:
        return math.inf
