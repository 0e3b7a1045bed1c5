"""What closing moves the price: expected cost of closing trades, and the limits of their orders.

With ``[liquidation] price_impact = "depth"`` a step pays, for a closed notional n of a symbol with
daily volatility s and average daily volume V,

    cost(n) = n * min(1, max(half_spread + impact * s * sqrt(n / V), book(n)))

the figures of ``[floors.liquidity]``, switched on or not: the cost of trading at once that the
liquidity floor counts, without its risk of waiting. `book` is the slippage of the order books where
the rule set has figures of them (`margin.floors.depth`). What is not known takes the stand-ins of
that table. An option counts with the notional of its delta exposure. With ``"none"``, or without
the key, closes are made at the mark and cost nothing but fees.

References
----------
Almgren, Thum, Hauptmann, Li (2005), "Direct estimation of equity market impact"; Tóth et al.
(2011), "Anomalous price impact and the critical nature of liquidity in financial markets"
(square-root law).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import UNSET
from numba import njit

from margin.floors.depth import DepthTable
from margin.floors.liquidity import CostRules, share_at_once
from margin.rules.floors import LiquidityRules
from margin.rules.liquidation import FundRules, LiquidationRules
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.core.arrays import Floats, Ints

_MARGINAL = 1.5
"""Price move of the last unit over the mean move, under a square-root law: d(n^1.5)/dn / n^0.5."""


@dataclass(frozen=True, slots=True)
class ImpactCurves:
    """Cost of closing parts of P positions, each by the curve of its symbol.

    Attributes
    ----------
    symbol:
        Row of each position in the symbols of `depth`, −1 where it has none, shape (P,).
    volatility, adv:
        Hourly volatility and average daily volume of each position's symbol, shape (P,); NaN
        where not known.
    depth:
        Half-spreads and slippage by symbol.
    rules:
        ``[floors.liquidity]``.
    """

    symbol: Ints
    volatility: Floats
    adv: Floats
    depth: DepthTable
    rules: LiquidityRules

    @classmethod
    def of_view(cls, symbol: Ints, view: MarketView, ruleset: RuleSet) -> ImpactCurves:
        """Curves of positions in a market; `symbol` as in `Requirement.leg_symbol`."""
        rules = ruleset.floors.liquidity
        # One NaN more, which is what −1 takes.
        volatility = np.append(view.volatility_or(rules.unknown_volatility), np.nan)
        adv = np.append(view.adv, np.nan)
        return cls(
            symbol, volatility[symbol], adv[symbol], DepthTable.build(rules, view.symbols), rules
        )

    @classmethod
    def of_names(cls, underlyings: Sequence[str], ruleset: RuleSet) -> ImpactCurves:
        """Curves of positions of a portfolio without a market: volume and volatility not known.

        Parameters
        ----------
        underlyings:
            Name of each position's underlying: the symbol of its depth figures, or with USDT
            after it.
        """
        rules = ruleset.floors.liquidity
        known = rules.depth if isinstance(rules.depth, dict) else {}
        names = tuple(name if name in known else f"{name}USDT" for name in underlyings)
        unknown = np.full(len(names), np.nan)
        rows = np.arange(len(names), dtype=np.int64)
        return cls(rows, unknown, unknown, DepthTable.build(rules, names), rules)

    def costs(self, notionals: Floats) -> Floats:
        """Expected cost of closing.

        Parameters
        ----------
        notionals:
            What is closed of each position, settlement currency; the sign does not count. Shape
            (K, P).

        Returns
        -------
        Settlement currency, 0 or more and at most the notional, shape (K, P); NaN where a notional
        is NaN or the position has no symbol.
        """
        costs: Floats = _costs(
            np.abs(notionals),
            self.symbol,
            self.volatility,
            self.adv,
            self.depth,
            CostRules.of(self.rules),
        )
        return costs


def counts_impact(rules: LiquidationRules) -> bool:
    """Whether a step pays what it moves the price: ``price_impact = "depth"``."""
    return rules.price_impact == "depth"


def closing_impact(curves: ImpactCurves | None, shares: Floats, notionals: Floats) -> Floats:
    """Expected cost of closing rows of shares, shape (K, P), of positions of these notionals,
    shape (P,): shape (K,), summed in one order however many rows there are; 0 without curves."""
    total = np.zeros(len(shares))
    if curves is not None:
        costs = curves.costs(shares * notionals)
        for position in range(costs.shape[1]):
            total += costs[:, position]
    return total


def worst_price(mark: float, quantity: float, cost: float, half_spread_cost: float) -> float:
    """Price that the last unit of a closing trade is expected to reach.

    ``mark ∓ (h + 1.5 (c - h)) / |q|``: below the mark for a long that is sold, above it for a short
    that is bought back. The mean price of the trade is ``mark ∓ c / |q|``; under a square-root law
    the last unit trades half as far again from it as the mean, the half-spread aside. A limit
    order at this price fills as the estimate expects.

    Parameters
    ----------
    mark:
        Price per unit.
    quantity:
        Of the position that is closed, signed, not 0.
    cost, half_spread_cost:
        c and h: expected cost of the close, and its half-spread, settlement currency.

    Returns
    -------
    0 or more.
    """
    move = half_spread_cost + _MARGINAL * (cost - half_spread_cost)
    return max(0.0, mark - move / quantity)


def fillable_price(
    quantity: float, mark: float, maintenance: float, margin_cover: float, rules: FundRules
) -> float:
    """``(q p - ABR * spread * MM) / q`` with ``ABR = clamp(BA (1 - equity / total MM), 0, 1)``.

    A long is sold below the mark, a short bought above it, the further the less equity is left.

    Parameters
    ----------
    quantity, mark, maintenance:
        Of the position: signed and not 0, mark and maintenance margin in settlement currency.
    margin_cover:
        ``equity / total MM`` of the account.
    rules:
        ``[liquidation.fund]``: `fill_spread` is the spread at an equity of 0, as a multiple of the
        maintenance margin; BA is `bankruptcy_adjustment`, 1 or more reaches it earlier.

    Returns
    -------
    The mark itself where the rules have no spread.

    References
    ----------
    dYdX v4-chain, ``x/clob/keeper/liquidations.go`` (fillable price); "Contract loss mechanisms
    on dYdX Chain" (largest spread 1.5 times the maintenance margin requirement).
    """
    if rules.fill_spread is UNSET:
        return mark
    rating = min(1.0, max(0.0, rules.bankruptcy_adjustment * (1.0 - margin_cover)))
    return mark - rating * rules.fill_spread * maintenance / quantity


@njit(cache=True, error_model="numpy")
def _costs(size, symbol, volatility, adv, depth, rules):  # type: ignore[no-untyped-def]
    rows, legs = size.shape
    costs = np.empty((rows, legs))
    for row in range(rows):
        for leg in range(legs):
            if symbol[leg] < 0:
                costs[row, leg] = np.nan
                continue
            n = size[row, leg]
            if n == 0.0:
                costs[row, leg] = 0.0
                continue
            share = share_at_once(n, symbol[leg], volatility[leg], adv[leg], depth, rules)
            costs[row, leg] = n if share > 1.0 else n * share
    return costs
