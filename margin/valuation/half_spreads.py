"""What a trade is expected to cost at once, by the rule set's own liquidity floor."""

from __future__ import annotations

from collections.abc import Iterable

from margin.floors.depth import DepthTable
from margin.rules.ruleset import RuleSet
from margin.valuation.view import MarketView
from market.core.instruments import parse_instrument


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
    found = {}
    for name in names:
        symbol = parse_instrument(name).symbol
        row = rows.get(symbol, rows.get(f"{symbol}USDT"))
        if row is not None:
            found[name] = float(share[row])
    return found
