"""Isolated margin of a short option."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, Portfolios
from margin.engines.standard.rules import FiguresByName
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
    portfolios: Portfolios, marks: Floats, figures: FiguresByName
) -> tuple[Floats, Floats]:
    """Initial and maintenance margin of one unit of each short option, its mark included.

    ``IM = max(min_spot, max_spot - OTM / S) * S + mark``, for a put at least ``mm_offset * MM``;
    ``MM = mm_call_spot * S + mark``, for a put ``max(mm_put_spot * S, mm_put_mtm * mark) + mark``.

    Quote currency, shape (L,) each; 0 for all other legs.

    References
    ----------
    Derive, "Standard Margin": Isolated Margin.
    """
    legs = np.flatnonzero((portfolios.kind == OPTION) & (portfolios.quantity < 0.0))
    row = portfolios.underlying[legs]
    call, strike, mark = portfolios.call[legs], portfolios.strike[legs], marks[legs]
    spot = portfolios.underlyings.spot[row]
    otm = np.maximum(np.where(call, strike - spot, spot - strike), 0.0)
    rate = np.maximum(figures["min_spot"][row], figures["max_spot"][row] - otm / spot)
    of_put = np.maximum(figures["mm_put_spot"][row] * spot, figures["mm_put_mtm"][row] * mark)
    initial, maintenance = np.zeros((2, len(portfolios.name)))
    maintenance[legs] = np.where(call, figures["mm_call_spot"][row] * spot, of_put) + mark
    least = np.where(call, 0.0, figures["mm_offset"][row] * maintenance[legs])
    initial[legs] = np.maximum(rate * spot + mark, least)
    return initial, maintenance
