"""Liquidity floor: what closing every position would cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from margin.book.account_requirement import Requirement
from margin.book.portfolio_batch import row_sums
from margin.floors.depth import DepthTable, slippage_share
from margin.floors.term import FloorTerm
from margin.rules.floors import FloorRules, LiquidityRules
from margin.valuation.view import MarketView
from market.core.arrays import Floats, Ints


def liquidity_floor(requirement: Requirement, view: MarketView, rules: FloorRules) -> Floats:
    r"""Cost of closing each account, with the risk of the extra days where it is concentrated.

    For a position of absolute notional n, with daily volatility ``s = volatility * sqrt(24)``,
    participation ``q = n / adv`` and liquidation days ``d = q / concentration_share``::

        law  = half_spread + impact * s * sqrt(q)
        cost = n * (max(law, book(n)) + confidence * s * sqrt(max(0, d - 1) / 3))

    at most n itself: what is worth n is not closed at a greater loss. `book` is what the order
    books asked for that size, where the rule set has the figures of the symbol (`depth`) or of
    all others (`depth_of_others`), see `margin.floors.depth`; `half_spread` is then theirs. The
    books were seen on ordinary days, the law follows volatility and volume: the dearer one
    counts. The last term is the standard deviation of the loss on a position sold evenly over
    the d − 1 days beyond the first, whose mean squared size is a third of its square.

    Where the volatility is not known, `unknown_volatility` (hourly) or the long one if that is
    higher stands for it; where the
    volume is not known, `unknown_participation` stands for q. No volume at all costs n. A
    `concentration_share` of 0 closes nothing in a day: d is infinite.

    Shapes, NaN policy and errors as in `margin.floors.registry.Floor`. Table: ``liquidity``.

    References
    ----------
    Almgren, Thum, Hauptmann, Li (2005), "Direct estimation of equity market impact"; Tóth et
    al. (2011), "Anomalous price impact and the critical nature of liquidity in financial
    markets" (square-root law); Almgren, Chriss (2000), "Optimal execution of portfolio
    transactions" (risk of even liquidation).
    """
    costs = _of_requirement(requirement, view, rules.liquidity)
    return row_sums(requirement.leg_start, costs.cost)


def explain_liquidity(
    requirement: Requirement, view: MarketView, rules: FloorRules
) -> tuple[FloorTerm, ...]:
    """Terms of `liquidity_floor`, each by position."""
    costs = _of_requirement(requirement, view, rules.liquidity)
    terms = (
        ("half_spread", "half the spread", costs.half_spread),
        ("impact", "what the size moves the price: order books or square-root law", costs.impact),
        (
            "extra_days",
            "price risk of the days beyond the first that the size takes to close",
            costs.extra_days,
        ),
        (
            "not_above_notional",
            "closing costs no more than the position is worth",
            costs.cost - (costs.half_spread + costs.impact + costs.extra_days),
        ),
    )
    return tuple(FloorTerm(name, reason, "position", part) for name, reason, part in terms)


@dataclass(frozen=True, slots=True)
class ClosingCosts:
    """What closing each of L positions costs, settlement currency, every array of shape (L,).

    ``cost`` is the sum of the others, but at most the notional; NaN where there is no symbol.
    """

    cost: Floats
    half_spread: Floats
    impact: Floats
    extra_days: Floats


def closing_costs(
    symbol: Ints,
    notional: Floats,
    volatility: Floats,
    adv: Floats,
    symbols: tuple[str, ...],
    rules: LiquidityRules,
) -> ClosingCosts:
    """Cost of closing positions as in `liquidity_floor`.

    Parameters
    ----------
    symbol:
        Index into `symbols` of each position, −1 for none, shape (L,).
    notional:
        Signed, shape (L,).
    volatility, adv:
        Of each position's symbol when it is closed, shape (L,); NaN where not known.
    symbols:
        Bar symbols, which name the depth figures.
    rules:
        ``[floors.liquidity]``.
    """
    return ClosingCosts(
        *_closing_costs(
            symbol,
            notional,
            volatility,
            adv,
            DepthTable.build(rules, symbols),
            CostRules.of(rules),
        )
    )


class CostRules(NamedTuple):
    """Figures of ``[floors.liquidity]`` for the kernels."""

    impact: float
    concentration_share: float
    confidence: float
    unknown_volatility: float
    unknown_participation: float

    @classmethod
    def of(cls, rules: LiquidityRules) -> CostRules:
        """The figures of a table."""
        return cls(
            rules.impact,
            rules.concentration_share,
            rules.confidence,
            rules.unknown_volatility,
            rules.unknown_participation,
        )


@njit(cache=True, error_model="numpy")
def share_at_once(size, symbol, volatility, adv, depth, rules):  # type: ignore[no-untyped-def]
    """Cost of trading a size at once, as a share of it: the larger of law and order books.

    As in `liquidity_floor`, with the stand-ins for what is not known; not capped.

    Parameters
    ----------
    size:
        Absolute notional.
    symbol:
        Row in `depth`.
    volatility, adv:
        Hourly volatility and average daily volume; NaN where not known.
    depth, rules:
        `DepthTable` and `CostRules`.
    """
    daily, participation = _daily_and_participation(size, volatility, adv, rules)
    at_once = depth.half_spread[symbol] + rules.impact * daily * math.sqrt(participation)
    book = slippage_share(
        size,
        depth.half_spread[symbol],
        depth.start[symbol],
        depth.start[symbol + 1],
        depth.notional,
        depth.share,
    )
    return max(at_once, book)


@njit(cache=True, error_model="numpy")
def _daily_and_participation(size, volatility, adv, rules):  # type: ignore[no-untyped-def]
    hourly = volatility if volatility >= 0.0 else rules.unknown_volatility
    participation = rules.unknown_participation
    if not math.isnan(adv):
        participation = size / adv if adv > 0.0 else np.inf
    return hourly * math.sqrt(24.0), participation


def _of_requirement(
    requirement: Requirement, view: MarketView, rules: LiquidityRules
) -> ClosingCosts:
    symbol = requirement.leg_symbol
    # One NaN more, which is what −1 takes.
    volatility = np.append(view.volatility_or(rules.unknown_volatility), np.nan)
    adv = np.append(view.adv, np.nan)
    return closing_costs(
        symbol, requirement.leg_notional, volatility[symbol], adv[symbol], view.symbols, rules
    )


@njit(cache=True, error_model="numpy")
def _closing_costs(symbol, notional, volatility, adv, depth, rules):  # type: ignore[no-untyped-def]
    legs = symbol.shape[0]
    total, spread, impact, waiting = np.empty(legs), np.empty(legs), np.empty(legs), np.empty(legs)
    for leg in range(legs):
        s = symbol[leg]
        if s < 0:
            total[leg] = spread[leg] = impact[leg] = waiting[leg] = np.nan
            continue
        size = abs(notional[leg])
        daily, participation = _daily_and_participation(size, volatility[leg], adv[leg], rules)
        extra_days = 0.0
        if participation > 0.0:
            extra_days = max(0.0, participation / rules.concentration_share - 1.0)
        at_once = share_at_once(size, s, volatility[leg], adv[leg], depth, rules)
        later = rules.confidence * daily
        if later > 0.0 or participation == np.inf:
            later *= math.sqrt(extra_days / 3.0)
        cost = size * (at_once + later)
        spread[leg] = size * depth.half_spread[s]
        impact[leg] = size * at_once - spread[leg]
        waiting[leg] = size * later
        if not cost < size:  # a NaN, from 0 * inf, costs the whole position too
            cost = size
            if not (math.isfinite(impact[leg]) and math.isfinite(waiting[leg])):
                # Nothing trades: the loss is the position itself.
                impact[leg], waiting[leg] = size - spread[leg], 0.0
        total[leg] = cost
    return total, spread, impact, waiting
