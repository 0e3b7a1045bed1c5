"""Extra initial margin where the stable coin slips or a price is not trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.engines.standard.rules import FiguresByName

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contingencies:
    """Initial margin of each leg, settlement currency, 0 or more, shape (L,).

    Attributes
    ----------
    depeg:
        For a stable coin under its threshold.
    confidence:
        For a price under the threshold of its kind.
    """

    depeg: Floats
    confidence: Floats


def contingencies(portfolios: Portfolios, figures: FiguresByName, unit: Floats) -> Contingencies:
    """``depeg_factor * (threshold - stable price) * S * size`` and ``(1 - confidence) * oc_factor
    * S * size``, the size being that of perps and spot and of short options.

    Parameters
    ----------
    portfolios, figures:
        The positions and the rules.
    unit:
        Of the settlement currency, shape (U,).

    References
    ----------
    Derive, "Standard Margin": Depeg Contingency, Oracle Contingency.
    """
    row = portfolios.underlying
    option = portfolios.kind == OPTION
    short = np.maximum(0.0 - portfolios.quantity, 0.0)
    size = np.where(option, short, np.abs(portfolios.quantity))
    exposure = portfolios.underlyings.spot[row] * size / unit[row]
    owner = np.repeat(np.arange(len(portfolios)), np.diff(portfolios.start))
    slip = np.maximum(figures["depeg_threshold"][row] - portfolios.stable_price[owner], 0.0)
    depeg = figures["depeg_factor"][row] * slip * exposure
    trust = leg_confidence(portfolios)
    threshold = np.where(option, figures["option_threshold"][row], figures["perp_threshold"][row])
    doubt = np.where(trust < threshold, (1.0 - trust) * figures["oc_factor"][row], 0.0)
    return Contingencies(depeg, doubt * exposure)


def leg_confidence(portfolios: Portfolios) -> Floats:
    """The smallest confidence that concerns a leg, shape (L,): spot, with the perpetual's for
    perps, with forward and vol for options."""
    trust = portfolios.underlyings.spot_confidence[portfolios.underlying]
    perp = portfolios.kind == PERP
    trust[perp] = np.minimum(
        trust[perp], portfolios.underlyings.perp_confidence[portfolios.underlying[perp]]
    )
    option = portfolios.kind == OPTION
    expiry = portfolios.expiry[option]
    for known in (portfolios.expiries.forward_confidence, portfolios.expiries.vol_confidence):
        trust[option] = np.minimum(trust[option], known[expiry])
    return trust
