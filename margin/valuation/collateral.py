"""What collateral is worth, and what its haircuts take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin.book.portfolio_batch import Portfolios
from margin.book.segment_sums import row_sums
from margin.engines.margins import Part

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PledgeValues:
    """Collateral of N portfolios and of its B balances, settlement currency.

    Attributes
    ----------
    value, initial_haircut, maintenance_haircut:
        Of each portfolio, shape (N,): the value before haircuts and what they take.
    counted:
        What it counts with for maintenance, shape (N,): the sum over the balances of value less
        haircut.
    initial_extra:
        What initial margin takes beyond the haircuts of maintenance, shape (N,).
    own_value, own_initial_haircut, own_maintenance_haircut:
        The same of each balance, shape (B,).
    """

    value: Floats
    initial_haircut: Floats
    maintenance_haircut: Floats
    counted: Floats
    initial_extra: Floats
    own_value: Floats
    own_initial_haircut: Floats
    own_maintenance_haircut: Floats

    def parts(self, portfolios: Portfolios, account: int) -> tuple[Part, ...]:
        """Value and haircut of each balance of one portfolio."""
        pledges = portfolios.pledges
        parts = []
        for b in range(pledges.start[account], pledges.start[account + 1]):
            asset, value = pledges.asset[b], float(self.own_value[b])
            parts.append(Part("collateral", asset, value, value))
            initial, maintenance = self.own_initial_haircut[b], self.own_maintenance_haircut[b]
            if initial != 0.0 or maintenance != 0.0:
                name = "collateral haircut" if value >= 0.0 else "debt premium"
                parts.append(Part(name, asset, -float(initial), -float(maintenance)))
        return tuple(parts)


def pledge_values(portfolios: Portfolios) -> PledgeValues:
    """``amount * price / stable price``, cash assets 1 each; a haircut takes its share of a
    positive value, for it never makes a debt smaller, and a premium its share of a debt."""
    pledges = portfolios.pledges
    owner = np.repeat(np.arange(len(portfolios)), np.diff(pledges.start))
    worth = pledges.amount * pledges.price / portfolios.stable_price[owner]
    value = np.where(pledges.cash, pledges.amount, worth)
    positive = np.where(value > 0.0, value, 0.0)
    initial, maintenance = (
        positive * np.where(pledges.cash, 0.0, haircut)
        for haircut in (pledges.initial_haircut, pledges.maintenance_haircut)
    )
    if pledges.initial_premium is not None and pledges.maintenance_premium is not None:
        debt = np.where(value < 0.0, -value, 0.0)
        initial = initial + debt * pledges.initial_premium
        maintenance = maintenance + debt * pledges.maintenance_premium
    start = pledges.start
    return PledgeValues(
        row_sums(start, value),
        row_sums(start, initial),
        row_sums(start, maintenance),
        row_sums(start, value - maintenance),
        row_sums(start, initial - maintenance),
        value,
        initial,
        maintenance,
    )
