"""Margin of perpetuals and spot: a rate of the notional that may rise with the size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.engines.standard.rules import FiguresByName, StandardRules
from market.core.errors import RuleSetError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LinearMargins:
    """Settlement currency, shape (L,) each; 0 for options.

    Attributes
    ----------
    pnl:
        Unrealised profit and loss and funding.
    initial, maintenance:
        Margins, 0 or more.
    """

    pnl: Floats
    initial: Floats
    maintenance: Floats


def linear_margins(
    portfolios: Portfolios, rules: StandardRules, figures: FiguresByName, unit: Floats
) -> LinearMargins:
    """``(rate + per_unit * |size|) * price * |size|``, like a perpetual for spot too.

    The price is that of the perpetual, or with ``perp_reference = "spot"`` that of the underlying.
    In coin, where a position of ``size_usd`` has the quantity ``size_usd / mark``, the profit and
    loss is ``size_usd * (1 / entry - 1 / mark)``.

    Parameters
    ----------
    portfolios, rules, figures:
        The positions and the rules.
    unit:
        Of the settlement currency, shape (U,).

    References
    ----------
    Deribit, "Linear Perpetual"; Derive, "Standard Margin": Perpetuals Margin.
    """
    row = portfolios.underlying
    underlyings = portfolios.underlyings
    price = underlyings.spot[row]
    if rules.perp_reference == "perp":
        price = np.where(portfolios.kind == PERP, underlyings.perp_price[row], price)
    size = np.where(portfolios.kind == OPTION, 0.0, np.abs(portfolios.quantity))
    notional = size * price / unit[row]
    notional[portfolios.kind == OPTION] = 0.0
    pnl = portfolios.unrealised
    if rules.settlement == "coin":
        if portfolios.unrealised_inverse is None:
            raise RuleSetError(
                "settlement is 'coin', and the portfolios have no profit and loss in coin; build "
                "them with margin.book.portfolio_batch.flatten"
            )
        pnl = portfolios.unrealised_inverse
    initial, maintenance = (
        (figures[f"{level}_perp"][row] + figures[f"{level}_perp_per_unit"][row] * size) * notional
        for level in ("im", "mm")
    )
    return LinearMargins(pnl, initial, maintenance)
