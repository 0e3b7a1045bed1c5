"""Half-spreads and slippage of order books, by symbol and size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numba import njit

from margin.rules.floors import LiquidityRules, table_of
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.core.arrays import Floats, Ints
from market.core.instruments import parse_instrument


class DepthTable(NamedTuple):
    """Slippage curves of S symbols.

    Attributes
    ----------
    half_spread:
        Share of the notional, shape (S,).
    start:
        Offsets of each symbol's points, shape (S + 1,); no points: no figures.
    notional, share:
        The points: size and cost of it, as a share, both rising; shape (P,).
    """

    half_spread: Floats
    start: Ints
    notional: Floats
    share: Floats

    @classmethod
    def build(cls, rules: LiquidityRules, symbols: tuple[str, ...]) -> DepthTable:
        """The declared curves: a symbol's own, else `depth_of_others`; none without figures."""
        if not isinstance(rules.depth, dict):
            blank = np.zeros(0)
            same = np.full(len(symbols), rules.half_spread)
            return cls(same, np.zeros(len(symbols) + 1, dtype=np.int64), blank, blank)
        half_spread, start = [], [0]
        points: list[tuple[float, float]] = []
        for symbol in symbols:
            curve = rules.depth.get(symbol) or table_of(
                rules.depth_of_others, "liquidity.depth_of_others"
            )
            half_spread.append(curve.half_spread)
            points += curve.slippage
            start.append(len(points))
        table = np.array(points, dtype=np.float64).reshape(-1, 2)
        return cls(
            np.array(half_spread, dtype=np.float64),
            np.array(start, dtype=np.int64),
            np.ascontiguousarray(table[:, 0]),
            np.ascontiguousarray(table[:, 1]),
        )


def half_spreads(names: Iterable[str], view: MarketView, ruleset: RuleSet) -> dict[str, float]:
    """Half the spread of the symbol that each instrument is on, a share of its price.

    Parameters
    ----------
    names:
        Instruments of the market; an option on X is on symbol X, else XUSDT.
    view:
        The market.
    ruleset:
        Its ``[floors.liquidity]`` counts, switched on or not.

    Raises
    ------
    InstrumentError
        A name is of no known form.
    """
    share = DepthTable.build(ruleset.floors.liquidity, view.symbols).half_spread
    rows = view.index()
    spreads = {}
    for name in names:
        symbol = parse_instrument(name).symbol
        row = rows.get(symbol, rows.get(f"{symbol}USDT"))
        if row is not None:
            spreads[name] = float(share[row])
    return spreads


@njit(cache=True, error_model="numpy")
def slippage_share(size, half_spread, begin, end, notional, share):  # type: ignore[no-untyped-def]
    """Cost of a trade as a share of its notional, by points ``begin:end``; 0 without points.

    Straight lines from the half-spread at no size through the points; beyond the last the cost
    grows with the root of the size, as by the square-root law of impact.
    """
    if begin == end:
        return 0.0
    below, at = 0.0, half_spread
    for k in range(begin, end):
        if size <= notional[k]:
            return at + (share[k] - at) * ((size - below) / (notional[k] - below))
        below, at = notional[k], share[k]
    return at * math.sqrt(size / below)
