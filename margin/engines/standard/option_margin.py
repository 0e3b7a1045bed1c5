"""Isolated margin of a short option."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.book.portfolio_batch import OPTION, Portfolios
from margin.engines.standard.figures import Figures
from margin.pricing.black76 import black76_price

Floats = npt.NDArray[np.float64]

YEAR_SECONDS = 365 * 86_400.0


def option_marks(portfolios: Portfolios) -> Floats:
    """Undiscounted Black-76 value of one unit of each option, quote currency, shape (L,).

    Intrinsic value at expiry or without vol; 0 for legs that are no options.
    """
    marks = np.zeros(len(portfolios.name))
    legs = np.flatnonzero(portfolios.kind == OPTION)
    if len(legs):
        row = portfolios.expiry[legs]
        marks[legs] = black76_price(
            portfolios.expiries.forward[row],
            portfolios.strike[legs],
            portfolios.expiries.seconds[row] / YEAR_SECONDS,
            portfolios.vol[legs],
            portfolios.call[legs],
        )
    return marks


def isolated_margins(
    portfolios: Portfolios, marks: Floats, figures: Figures
) -> tuple[Floats, Floats]:
    """Initial and maintenance margin of one unit of each option if short, its mark included.

    Quote currency, shape (L,) each; 0 for legs that are no options.
    """
    initial, maintenance = np.zeros((2, len(portfolios.name)))
    legs = np.flatnonzero(portfolios.kind == OPTION)
    row = portfolios.underlying[legs]
    initial[legs], maintenance[legs] = _isolated_margins(
        portfolios.call[legs],
        portfolios.strike[legs],
        portfolios.underlyings.spot[row],
        marks[legs],
        figures["max_spot"][row],
        figures["min_spot"][row],
        figures["mm_call_spot"][row],
        figures["mm_put_spot"][row],
        figures["mm_put_mtm"][row],
        figures["mm_offset"][row],
    )
    return initial, maintenance


@njit(cache=True, error_model="numpy")
def isolated_margin(  # type: ignore[no-untyped-def]
    call, strike, spot, mark, max_spot, min_spot, mm_call_spot, mm_put_spot, mm_put_mtm, mm_offset
):
    """Initial and maintenance margin of one short unit, for use in kernels.

    ``IM = max(min_spot, max_spot - OTM / S) * S + mark``, for a put at least ``mm_offset * MM``;
    ``MM = mm_call_spot * S + mark``, for a put ``max(mm_put_spot * S, mm_put_mtm * mark) + mark``.

    References
    ----------
    Derive, "Standard Margin": Isolated Margin.
    """
    otm = max(strike - spot, 0.0) if call else max(spot - strike, 0.0)
    initial = max(min_spot, max_spot - otm / spot) * spot + mark
    if call:
        return initial, mm_call_spot * spot + mark
    maintenance = max(mm_put_spot * spot, mm_put_mtm * mark) + mark
    return max(initial, mm_offset * maintenance), maintenance


@njit(cache=True, error_model="numpy")
def _isolated_margins(  # type: ignore[no-untyped-def]
    call, strike, spot, mark, max_spot, min_spot, mm_call_spot, mm_put_spot, mm_put_mtm, mm_offset
):
    initial = np.empty(len(mark))
    maintenance = np.empty(len(mark))
    for i in range(len(mark)):
        initial[i], maintenance[i] = isolated_margin(
            call[i],
            strike[i],
            spot[i],
            mark[i],
            max_spot[i],
            min_spot[i],
            mm_call_spot[i],
            mm_put_spot[i],
            mm_put_mtm[i],
            mm_offset[i],
        )
    return initial, maintenance
