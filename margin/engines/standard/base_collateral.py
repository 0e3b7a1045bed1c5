"""Value that base assets and other collateral count with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from margin.book.portfolio_batch import Portfolios
from margin.engines.standard.rules import FiguresByName, StandardRules
from margin.rules.ruleset import CollateralRules
from margin.valuation.collateral import collateral_values

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BaseCollateral:
    """Collateral of B balances, settlement currency, shape (B,) each.

    Attributes
    ----------
    base:
        Whether it is the coin of an underlying.
    value:
        Before haircuts.
    initial, maintenance:
        What it counts with.
    confidence:
        What a low confidence in its price takes from the initial margin, 0 or more.
    """

    base: Bools
    value: Floats
    initial: Floats
    maintenance: Floats
    confidence: Floats


def base_collateral(
    portfolios: Portfolios,
    rules: StandardRules,
    figures: FiguresByName,
    unit: Floats,
    haircuts: CollateralRules,
) -> BaseCollateral:
    """A base asset counts with ``amount * S * base_factor``, IM times ``base_im_scale`` less the
    rule set's initial extra haircut.

    Its own haircuts do not count: these rules have the factor instead. A debt counts in full, and
    so does the coin in which an account settles. Collateral of no underlying counts at its value
    after haircuts, see `margin.valuation.collateral`.

    Parameters
    ----------
    portfolios, rules, figures:
        The balances and the rules.
    unit:
        Of the settlement currency, shape (U,).
    haircuts:
        ``[collateral]`` of the rule set.
    """
    balances = portfolios.collateral
    held = collateral_values(portfolios)
    base = (balances.underlying >= 0) & ~balances.cash
    value = held.balance_value.copy()
    initial = value - held.balance_initial_haircut
    maintenance = value - held.balance_maintenance_haircut
    confidence = np.zeros(len(value))
    row = balances.underlying[base]
    spot = portfolios.underlyings.spot[row]
    worth = balances.amount[base] * spot / unit[row]
    value[base] = worth
    if rules.settlement == "coin":
        initial[base] = maintenance[base] = worth
        return BaseCollateral(base, value, initial, maintenance, confidence)
    factor = np.where(worth > 0.0, figures["base_factor"][row], 1.0)
    scale = np.where(worth > 0.0, figures["base_im_scale"][row], 1.0)
    maintenance[base] = worth * factor
    initial[base] = worth * factor * scale
    if haircuts.initial_extra_haircuts is not UNSET:
        extra = np.array([haircuts.initial_extra_haircut(asset) for asset in balances.asset])[base]
        kept = np.maximum(factor * scale - extra, 0.0)
        initial[base] = np.where((worth > 0.0) & (extra > 0.0), worth * kept, initial[base])
    trust = portfolios.underlyings.spot_confidence[row]
    low = trust < figures["base_threshold"][row]
    confidence[base] = np.where(low, (1.0 - trust) * figures["oc_factor"][row] * np.abs(worth), 0.0)
    return BaseCollateral(base, value, initial, maintenance, confidence)
