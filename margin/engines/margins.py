"""Results of an engine: net margins in components that add up, and each leg's share of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from market.core.errors import CaseError

Floats = npt.NDArray[np.float64]
Floats2d = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Margins:
    """Margins of N portfolios with L legs and B balances, settlement currency, unrounded.

    Attributes
    ----------
    mark_to_market:
        Cash, marked positions and collateral before haircuts, shape (N,).
    equity:
        Cash, marked positions and collateral as it counts for maintenance, shape (N,).
    initial_margin, maintenance_margin:
        The requirement, shape (N,): summed from its own parts, never from equity, so that its
        precision does not depend on the cash. What an option counts below its mark, and what
        collateral counts less initially, is part of the margin.
    collateral_haircut:
        What maintenance haircuts take from the collateral, shape (N,).
    initial, maintenance:
        Signed components by name, shape (N,) each: they add up to the net margin, and 0 or more is
        healthy.
    leg_initial, leg_maintenance:
        Margin that each leg is charged with, shape (L,): negative where it hedges. Their sum
        differs from the portfolio's requirement by what no single leg causes.
    scenario_pnl:
        Of every scenario, shape (N, R); None where the engine has none.
    """

    mark_to_market: Floats
    equity: Floats
    initial_margin: Floats
    maintenance_margin: Floats
    collateral_haircut: Floats
    initial: Mapping[str, Floats]
    maintenance: Mapping[str, Floats]
    leg_initial: Floats
    leg_maintenance: Floats
    scenario_pnl: Floats2d | None = None

    @property
    def initial_net(self) -> Floats:
        """``equity - initial_margin``, shape (N,)."""
        return _net(self.equity, self.initial_margin)

    @property
    def maintenance_net(self) -> Floats:
        """``equity - maintenance_margin``, shape (N,): the headroom."""
        return _net(self.equity, self.maintenance_margin)


def _net(equity: Floats, margin: Floats) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):  # readers check that figures are finite
        net: Floats = equity - margin
    return net


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a requirement, settlement currency.

    Attributes
    ----------
    name:
        What it is, in the field's terms: ``scenario spot -18% vol up``, ``naked short options``.
    subject:
        The instrument, expiry or asset it comes from; empty where it is the portfolio's.
    initial, maintenance:
        Signed as in the components of `Margins`: the parts of a portfolio add up to its net
        margins.
    """

    name: str
    subject: str
    initial: float
    maintenance: float


@dataclass(frozen=True, slots=True)
class RankedScenario:
    """One scenario of one account, settlement currency.

    Attributes
    ----------
    name:
        ``scenario spot -18%, vol up`` or ``basis contingency``.
    underlying:
        What is stressed; empty where the account holds none.
    pnl:
        Profit and loss, the contingencies apart.
    """

    name: str
    underlying: str
    pnl: float


def total(values: Iterable[float]) -> float:
    """The correctly rounded sum; raises `CaseError` where it is not a finite number."""
    try:
        amount = math.fsum(values)
    except (OverflowError, ValueError):
        amount = math.inf
    if not math.isfinite(amount):
        raise CaseError("the figures exceed what float64 can hold; check the sizes given")
    return amount
