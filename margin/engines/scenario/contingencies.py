"""Contingencies beside the scenarios: perps, naked short options, untrusted prices; deltas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from margin.book.portfolio_batch import OPTION, PERP, Portfolios
from margin.engines.scenario.kernel import Legs, Terms
from margin.engines.scenario.parameters import SECONDS_PER_YEAR
from margin.engines.scenario.rules import ScenarioRules
from margin.engines.scenario.units import Units
from margin.pricing.normal import normal_cdf
from margin.valuation.collateral import CollateralValues

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contingencies:
    """Charges, 0 or more, settlement currency.

    Attributes
    ----------
    perp, perp_initial_extra:
        ``rate * |size| * spot`` of each perp, and of spot, which counts like one; shape (L,).
    naked_short, naked_short_initial_extra:
        ``rate * naked * spot`` of each option, shape (L,). Of the calls c and puts p of one expiry
        and strike ``max(0, -(c + p))`` are naked where one side is long and the other short, else
        ``max(0, -c) + max(0, -p)``.
    oracle:
        ``(1 - confidence) * oracle_conf_factor * |size| * spot`` where the smallest confidence
        concerned is under the threshold, shape (L,); of initial margin only. A perp concerns spot
        and perp, an option spot, perp where one is held, and its expiry.
    oracle_of_balance:
        The same of each collateral balance and its value, shape (B,).
    """

    perp: Floats
    perp_initial_extra: Floats
    naked_short: Floats
    naked_short_initial_extra: Floats
    oracle: Floats
    oracle_of_balance: Floats

    @property
    def leg_maintenance(self) -> Floats:
        """Maintenance charge of each leg, shape (L,)."""
        return self.perp + self.naked_short

    @property
    def leg_initial(self) -> Floats:
        """Initial charge of each leg, that of maintenance included, shape (L,)."""
        extra = self.perp_initial_extra + self.naked_short_initial_extra
        return self.leg_maintenance + extra + self.oracle


def contingencies(
    portfolios: Portfolios, units: Units, held: CollateralValues, rules: ScenarioRules
) -> Contingencies:
    """Contingencies of every leg and collateral balance."""
    underlyings, row = portfolios.underlyings, portfolios.underlying
    notional = np.abs(portfolios.quantity) * underlyings.spot[row]
    option = portfolios.kind == OPTION
    linear = np.where(option, 0.0, notional)
    naked = _naked(
        portfolios.start, portfolios.expiry, portfolios.strike, portfolios.quantity
    ) * np.where(option, underlyings.spot[row], 0.0)
    least = _leg_confidence(portfolios, units)
    balances = portfolios.collateral
    # A balance without an underlying of its own is backed by that of its account.
    of = np.where(balances.underlying < 0, units.underlying[units.of_balance], balances.underlying)
    known = of >= 0
    spot_confidence = np.ones(len(of))
    spot_confidence[known] = underlyings.spot_confidence[of[known]]
    balance_least = np.minimum(balances.confidence, spot_confidence)
    return Contingencies(
        perp=rules.perp_mm_contingency * linear,
        perp_initial_extra=rules.perp_im_extra_contingency * linear,
        naked_short=rules.short_option_mm_contingency * naked,
        naked_short_initial_extra=rules.short_option_im_extra_contingency * naked,
        oracle=_oracle_charge(least, notional, rules),
        oracle_of_balance=_oracle_charge(balance_least, np.maximum(held.balance_value, 0.0), rules),
    )


def position_deltas(legs: Legs, terms: Terms) -> Floats:
    """Delta of each leg to its forward or price, in units of the underlying, shape (L,)."""
    deltas: Floats = _deltas(legs, terms)
    return deltas


def _oracle_charge(confidence: Floats, amount: Floats, rules: ScenarioRules) -> Floats:
    charge = (1.0 - confidence) * rules.oracle_conf_factor * amount
    return np.where(confidence < rules.oracle_conf_threshold, charge, 0.0)


def _leg_confidence(portfolios: Portfolios, units: Units) -> Floats:
    """Smallest confidence that concerns each leg, shape (L,)."""
    underlyings, row = portfolios.underlyings, portfolios.underlying
    least = underlyings.spot_confidence[row].copy()
    is_perp, is_option = portfolios.kind == PERP, portfolios.kind == OPTION
    unit = units.legs()
    with_perp = np.zeros(len(units.portfolio), dtype=np.bool_)
    with_perp[unit[is_perp & (portfolios.quantity != 0.0)]] = True
    concerned = is_perp | (is_option & with_perp[unit])
    perp_confidence = underlyings.perp_confidence[row]
    least[concerned] = np.minimum(least[concerned], perp_confidence[concerned])
    expiries, at = portfolios.expiries, portfolios.expiry[is_option]
    own = np.minimum(expiries.forward_confidence[at], expiries.vol_confidence[at])
    least[is_option] = np.minimum(least[is_option], own)
    return least


@njit(cache=True, error_model="numpy", nogil=True)
def _naked(start, expiry, strike, quantity):  # type: ignore[no-untyped-def]
    """Naked quantity of each option, charged to the short leg; put and call stand together."""
    out = np.zeros(len(quantity))
    for i in range(len(start) - 1):
        leg, end = start[i], start[i + 1]
        while leg < end:
            if expiry[leg] < 0:
                leg += 1
                continue
            other = leg + 1
            pair = other < end and expiry[other] == expiry[leg] and strike[other] == strike[leg]
            if not pair:
                out[leg] = max(0.0, -quantity[leg])
                leg += 1
                continue
            if quantity[leg] * quantity[other] < 0.0:
                short = leg if quantity[leg] < 0.0 else other
                out[short] = max(0.0, -(quantity[leg] + quantity[other]))
            else:
                out[leg] = max(0.0, -quantity[leg])
                out[other] = max(0.0, -quantity[other])
            leg += 2
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def _deltas(legs, terms):  # type: ignore[no-untyped-def]
    out = legs.quantity.copy()
    for leg in range(len(out)):
        if legs.kind[leg] != OPTION:
            continue
        e = legs.expiry[leg]
        side = 1.0 if legs.call[leg] else -1.0
        tau = terms.seconds[e] / SECONDS_PER_YEAR
        spread = legs.vol[leg] * math.sqrt(tau)
        moneyness = math.log(terms.forward[e] / legs.strike[leg])
        if spread > 0.0:
            inside = normal_cdf(side * (moneyness / spread + 0.5 * spread))
        else:
            inside = 0.5 * (np.sign(side * moneyness) + 1.0)
        out[leg] *= side * math.exp(-tau * max(terms.rate[e], 0.0)) * inside
    return out
